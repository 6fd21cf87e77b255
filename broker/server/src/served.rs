//! Options that are read and have no effect: said at the start. None of them protects anything: one that did would
//! have to keep the server from starting.
//!
//! Whoever serves one takes its line away.

use weir_conf::Options;

/// Options that are understood and have no effect.
pub(crate) fn without_effect(options: &Options) -> Vec<&'static str> {
    let usual = Options::default();
    let cluster = options.cluster.as_ref().and_then(|cluster| cluster.tls.as_ref());
    let table = [
        // As in nats-server: routes are judged by what they show (`ocsp`).
        ("cluster.tls.ocsp_peer", cluster.is_some_and(|tls| tls.ocsp_peer.is_some())),
        ("write_timeout", options.write_timeout != usual.write_timeout),
        ("no_fast_producer_stall", options.no_fast_producer_stall),
        ("disable_sublist_cache", options.disable_sublist_cache),
        ("feature_flags", !options.feature_flags.is_empty()),
    ];
    table.into_iter().filter(|(_, configured)| *configured).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_options_are_all_served() {
        assert!(without_effect(&Options::default()).is_empty());
    }
}
