//! Options that are read and have no effect: said at the start. None of them protects anything: one that did would
//! have to keep the server from starting.
//!
//! Whoever serves one takes its line away.

use weir_conf::Options;

/// Options that are understood and have no effect, each with the reason.
pub(crate) fn without_effect(options: &Options) -> Vec<(&'static str, &'static str)> {
    let cluster = options.cluster.as_ref().and_then(|cluster| cluster.tls.as_ref());
    let flag = |name: &str| options.feature_flags.get(name).copied();
    let keyless = options.jetstream.as_ref().map(|it| &it.encryption).filter(|it| it.key.is_none());
    let table = [
        (
            "jetstream.cipher",
            "without a key (`jetstream.key`) nothing is encrypted",
            keyless.is_some_and(|encryption| encryption.cipher.is_some()),
        ),
        (
            "jetstream.prev_key",
            "without a key (`jetstream.key`) nothing is encrypted",
            keyless.is_some_and(|encryption| encryption.previous_key.is_some()),
        ),
        (
            "cluster.tls.ocsp_peer",
            "routes are judged by what they show (`ocsp`)",
            cluster.is_some_and(|tls| tls.ocsp_peer.is_some()),
        ),
        (
            "feature_flags.js_api_reply_v2",
            "requests between servers do not go through the JetStream API",
            flag("js_api_reply_v2") == Some(true),
        ),
        (
            "feature_flags.js_raft_delete_range",
            "it is about nats-server's own replication",
            flag("js_raft_delete_range") == Some(false),
        ),
        (
            "feature_flags.js_snapshot_sources",
            "it is about nats-server's own replication",
            flag("js_snapshot_sources") == Some(true),
        ),
    ];
    table.into_iter().filter(|(.., configured)| *configured).map(|(name, reason, _)| (name, reason)).collect()
}

/// Why an option will not be served at all; `None` for those that come later.
pub(crate) fn why_never(key: &str) -> Option<&'static str> {
    match key {
        "prof_port" | "-profile" | "prof_block_rate" => {
            Some("it profiles a Go runtime, and this server has none; use the profilers of the system")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_options_are_all_served() {
        assert!(without_effect(&Options::default()).is_empty());
    }
}
