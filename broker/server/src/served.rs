//! Options that are read and have no effect yet: refused when they protect, else said at the start.
//!
//! Whoever serves one takes its line away.

use weir_conf::Options;

/// An option that keeps somebody out or hides something, and that is not served: the server must
/// not start as if it were.
pub(crate) fn refused(options: &Options) -> Option<String> {
    let table = [("ocsp", options.ocsp.is_some())];
    let (name, _) = table.into_iter().find(|(_, configured)| *configured)?;
    Some(format!(
        "{name:?} is not supported yet, and starting without it would protect less than this configuration asks for"
    ))
}

/// Options that are understood and have no effect.
pub(crate) fn without_effect(options: &Options) -> Vec<&'static str> {
    let shares: Vec<_> = options.accounts.values().filter_map(|account| account.jetstream.as_ref()).collect();
    let usual = Options::default();
    let table = [
        ("ocsp_cache", options.ocsp_cache.is_some()),
        ("write_timeout", options.write_timeout != usual.write_timeout),
        ("no_fast_producer_stall", options.no_fast_producer_stall),
        ("disable_sublist_cache", options.disable_sublist_cache),
        ("default_js_domain", !options.default_js_domain.is_empty()),
        ("feature_flags", !options.feature_flags.is_empty()),
        (
            "jetstream limits of an account",
            shares.iter().any(|share| **share != weir_conf::AccountJetStream::default()),
        ),
        (
            "jetstream.limits.default_max_consumers",
            options.jetstream.as_ref().is_some_and(|jetstream| jetstream.default_max_consumers != 1000),
        ),
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
        let options = Options { proxy_required: true, ..Options::default() };
        assert!(refused(&options).is_some_and(|text| text.starts_with("\"proxy_required\"")));
    }
}
