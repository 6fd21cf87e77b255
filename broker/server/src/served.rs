//! Options that are read and have no effect yet: refused when they protect, else said at the start.
//!
//! Whoever serves one takes its line away.

use weir_conf::{OcspMode, Options, TlsOptions};

/// An option that keeps somebody out or hides something, and that is not served: the server must
/// not start as if it were.
pub(crate) fn refused(options: &Options) -> Option<String> {
    let stapling = options.ocsp.as_ref().map(|ocsp| ocsp.mode);
    let asks = |tls: &TlsOptions| tls.ocsp_peer.as_ref().is_some_and(|peer| peer.verify);
    let table = [
        ("ocsp", matches!(stapling, Some(OcspMode::Always | OcspMode::Must))),
        ("tls.ocsp_peer", tls_blocks(options).any(asks)),
    ];
    let (name, _) = table.into_iter().find(|(_, configured)| *configured)?;
    Some(format!(
        "{name:?} is not supported yet, and starting without it would protect less than this configuration asks for"
    ))
}

fn tls_blocks(options: &Options) -> impl Iterator<Item = &TlsOptions> {
    let websocket = options.websocket.as_ref().and_then(|websocket| websocket.tls.as_ref());
    let cluster = options.cluster.as_ref().and_then(|cluster| cluster.tls.as_ref());
    [options.tls.as_ref(), websocket, cluster].into_iter().flatten()
}

/// Options that are understood and have no effect.
pub(crate) fn without_effect(options: &Options) -> Vec<&'static str> {
    let usual = Options::default();
    let table = [
        ("ocsp", options.ocsp.as_ref().is_some_and(|ocsp| ocsp.mode == OcspMode::Auto)),
        ("ocsp_cache", options.ocsp_cache.is_some()),
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
        assert_eq!(refused(&Options::default()), None);
        assert!(without_effect(&Options::default()).is_empty());
    }

    #[test]
    fn what_protects_and_is_not_served_is_refused() {
        let ocsp = weir_conf::OcspOptions { mode: OcspMode::Must, override_urls: Vec::new() };
        let options = Options { ocsp: Some(ocsp), ..Options::default() };
        assert!(refused(&options).is_some_and(|text| text.starts_with("\"ocsp\"")));
    }
}
