//! Subjects that the servers keep for themselves: replies of service imports and gateways, acknowledgements,
//! replication. Clients may not publish on them, or name them as reply. Not permissions, which are configured.

/// Replies that the server made for a service import.
const SERVICE_REPLY: &[u8] = b"_R_.";
/// Replies that were routed through gateways.
const GATEWAY_REPLY: &[u8] = b"_GR_.";
/// The same before nats-server 2.2.
const OLD_GATEWAY_REPLY: &[u8] = b"$GR.";
/// Acknowledgements of delivered messages: a consumer's alone to ask for.
const ACKNOWLEDGEMENT: &[u8] = b"$JS.ACK.";
/// Traffic of replication groups.
const REPLICATION: &[u8] = b"$NRG.";

/// Whether a client may not publish to `subject`; replication's may be in the system account.
#[inline]
pub(crate) fn is_reserved_subject(subject: &[u8], in_system_account: impl FnOnce() -> bool) -> bool {
    match subject.first() {
        Some(b'_') => is_below(subject, GATEWAY_REPLY),
        Some(b'$') => {
            is_below(subject, OLD_GATEWAY_REPLY) || (subject.starts_with(REPLICATION) && !in_system_account())
        }
        _ => false,
    }
}

/// Whether a client may not ask for answers on `reply`.
#[inline]
pub(crate) fn is_reserved_reply(reply: &[u8]) -> bool {
    match reply.first() {
        Some(b'_') => reply.starts_with(SERVICE_REPLY) || is_below(reply, GATEWAY_REPLY),
        Some(b'$') => is_below(reply, ACKNOWLEDGEMENT),
        _ => false,
    }
}

/// Whether something follows the prefix.
fn is_below(subject: &[u8], prefix: &[u8]) -> bool {
    subject.len() > prefix.len() && subject.starts_with(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_keep_for_themselves_is_refused_to_clients() {
        for subject in [&b"_GR_.a"[..], b"$GR.a", b"$NRG.V.x"] {
            assert!(is_reserved_subject(subject, || false), "{subject:?}");
        }
        for subject in [&b"_GR_."[..], b"_R_.a", b"$JS.ACK.a", b"_INBOX.a", b"$SYS.a", b"a", b""] {
            assert!(!is_reserved_subject(subject, || false), "{subject:?}");
        }
        assert!(!is_reserved_subject(b"$NRG.V.x", || true));
        for reply in [&b"_R_.a"[..], b"_R_.", b"_GR_.a", b"$JS.ACK.a"] {
            assert!(is_reserved_reply(reply), "{reply:?}");
        }
        for reply in [&b"_INBOX.a"[..], b"$JS.ACK.", b"$GR.a", b"$JS.API.INFO", b"a", b""] {
            assert!(!is_reserved_reply(reply), "{reply:?}");
        }
    }
}
