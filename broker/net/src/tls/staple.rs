//! The status that a certificate is shown with, and the look at one that a peer has shown. Not where it comes from.

use crate::ocsp::{Certificate, Response, Status};
use arc_swap::ArcSwapOption;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// By how much the clocks of servers may differ, and how long a status without an end is used: nats-server's values.
const CLOCK_SKEW: Duration = Duration::from_secs(30);
const DEFAULT_TTL: Duration = Duration::from_secs(3600);

/// The status of one certificate of ours, replaced while connections come in.
#[derive(Debug, Default)]
pub struct Staple {
    current: ArcSwapOption<Stapled>,
    wanted: Notify,
}

#[derive(Debug)]
struct Stapled {
    response: Vec<u8>,
    next_update: Option<u64>,
}

impl Staple {
    /// Handshakes from now on show this answer (DER), up to its end in seconds since 1970.
    pub fn set(&self, response: Vec<u8>, next_update: Option<u64>) {
        self.current.store(Some(Arc::new(Stapled { response, next_update })));
    }

    /// The answer, unless it is past its end: then somebody is asked for a new one.
    pub(crate) fn current(&self, now: SystemTime) -> Option<Vec<u8>> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let stapled = self.current.load();
        let usable = stapled
            .as_ref()
            .filter(|stapled| stapled.next_update.is_none_or(|next| Duration::from_secs(next) >= now));
        if usable.is_none() {
            self.wanted.notify_one();
        }
        usable.map(|stapled| stapled.response.clone())
    }

    /// Resolves when a handshake found no answer that could be shown.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

/// Judges the status that a peer of that kind has shown with its certificate; `now` is since 1970. The texts are
/// those of nats-server.
pub fn check_staple(
    kind: &str,
    status: &[u8],
    chain: Option<&[CertificateDer<'_>]>,
    now: Duration,
) -> Result<(), String> {
    if status.is_empty() {
        return Err(format!("{kind} peer missing OCSP Staple"));
    }
    let Some(chain) = chain else { return Err(format!("{kind} peer missing TLS verified chains")) };
    let [leaf, issuer, ..] = chain else {
        return Err(format!("failed to get issuer certificate for {kind} peer"));
    };
    let unread = |reason: String| format!("failed to parse OCSP response from {kind} peer: {reason}");
    let leaf = Certificate::parse(leaf).map_err(unread)?;
    let issuer = Certificate::parse(issuer).map_err(unread)?;
    let response = Response::parse(status, &leaf, &issuer).map_err(|error| unread(error.to_string()))?;
    if !response.is_authorized(&issuer) {
        return Err("OCSP staple's signer missing authorization by CA to act as OCSP signer".to_owned());
    }
    if response.check_current(now, CLOCK_SKEW, DEFAULT_TTL).is_err() {
        return Err(format!("OCSP staple from {kind} peer not current"));
    }
    match response.status {
        Status::Good => Ok(()),
        bad => Err(format!("bad status for OCSP Staple from {kind} peer: {bad}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_shown_up_to_its_end() {
        let staple = Staple::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(staple.current(at(1)), None);
        staple.set(b"a".to_vec(), Some(10));
        assert_eq!(staple.current(at(10)), Some(b"a".to_vec()));
        assert_eq!(staple.current(at(11)), None);
        staple.set(b"b".to_vec(), None);
        assert_eq!(staple.current(at(1000)), Some(b"b".to_vec()));
    }

    #[test]
    fn a_peer_without_a_status_is_refused() {
        let refused = check_staple("Router", b"", None, Duration::ZERO).expect_err("no status");
        assert_eq!(refused, "Router peer missing OCSP Staple");
        let refused = check_staple("Router", b"x", None, Duration::ZERO).expect_err("no chain");
        assert_eq!(refused, "Router peer missing TLS verified chains");
    }
}
