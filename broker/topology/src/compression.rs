//! Which compression two servers agree on, and which level fits a round trip. Not the compressing.

use std::time::Duration;
use weir_conf::CompressionMode;

/// The longest round trips of uncompressed, fast and better, as in nats-server; slower routes get the best.
const DEFAULT_RTT_THRESHOLDS: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(100)];

/// Whether a server with this setting, or a connection with this outcome, speaks S2.
pub(crate) fn is_wanted(mode: CompressionMode) -> bool {
    !matches!(mode, CompressionMode::Off | CompressionMode::NotSupported)
}

/// The mode that INFO or a configuration names.
pub(crate) fn parse(name: &str) -> Option<CompressionMode> {
    [
        CompressionMode::NotSupported,
        CompressionMode::Off,
        CompressionMode::Accept,
        CompressionMode::S2Auto,
        CompressionMode::S2Uncompressed,
        CompressionMode::S2Fast,
        CompressionMode::S2Better,
        CompressionMode::S2Best,
    ]
    .into_iter()
    .find(|mode| mode.name() == name)
}

/// What this server does with a server whose INFO says `remote`; `own` is wanted. The error's text is for `-ERR`.
pub(crate) fn select(own: CompressionMode, remote: &str) -> Result<CompressionMode, String> {
    if remote.is_empty() {
        return Ok(CompressionMode::NotSupported);
    }
    let theirs = parse(remote).ok_or_else(|| format!("unsupported route compression mode \"{remote}\""))?;
    Ok(match (own, theirs) {
        (_, CompressionMode::NotSupported) => CompressionMode::NotSupported,
        (_, CompressionMode::Off) | (CompressionMode::Accept, CompressionMode::Accept) => {
            CompressionMode::Off
        }
        (CompressionMode::Accept, CompressionMode::S2Auto) => CompressionMode::S2Fast,
        (CompressionMode::Accept, theirs) => theirs,
        (own, _) => own,
    })
}

/// The level of `s2_auto` for a round trip. A threshold of 0 skips its level.
pub(crate) fn level_for(rtt: Duration, thresholds: &[Duration]) -> CompressionMode {
    let thresholds = if thresholds.is_empty() { &DEFAULT_RTT_THRESHOLDS[..] } else { thresholds };
    let place = thresholds.iter().position(|threshold| rtt <= *threshold);
    let last = if thresholds.len() >= 3 { 3 } else { thresholds.len() - 1 };
    match place.unwrap_or(last) {
        0 => CompressionMode::S2Uncompressed,
        1 => CompressionMode::S2Fast,
        2 => CompressionMode::S2Better,
        _ => CompressionMode::S2Best,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_come_to_compatible_modes() {
        use CompressionMode as M;
        for (own, remote, chosen) in [
            (M::Accept, "", M::NotSupported),
            (M::S2Fast, "not supported", M::NotSupported),
            (M::S2Fast, "off", M::Off),
            (M::Accept, "accept", M::Off),
            (M::S2Better, "accept", M::S2Better),
            (M::Accept, "s2_best", M::S2Best),
            (M::Accept, "s2_auto", M::S2Fast),
            (M::S2Auto, "s2_best", M::S2Auto),
        ] {
            assert_eq!(select(own, remote), Ok(chosen), "{own:?} with {remote}");
        }
        assert_eq!(select(M::Accept, "zip"), Err("unsupported route compression mode \"zip\"".to_owned()));
    }

    #[test]
    fn slower_routes_are_compressed_more() {
        use CompressionMode as M;
        let millis =
            |numbers: &[u64]| numbers.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        for (rtt, thresholds, level) in [
            (5, millis(&[]), M::S2Uncompressed),
            (10, millis(&[]), M::S2Uncompressed),
            (50, millis(&[]), M::S2Fast),
            (51, millis(&[]), M::S2Better),
            (1000, millis(&[]), M::S2Best),
            (1, millis(&[0, 0, 20, 30]), M::S2Better),
            (25, millis(&[0, 0, 20, 30]), M::S2Best),
            (500, millis(&[5]), M::S2Uncompressed),
            (500, millis(&[5, 10]), M::S2Fast),
        ] {
            assert_eq!(
                level_for(Duration::from_millis(rtt), &thresholds),
                level,
                "{rtt} ms with {thresholds:?}"
            );
        }
    }
}
