//! Asks about the certificates of clients, as `ocsp_peer` wants it. The order of checks and the texts are those of
//! nats-server. Not the verification of chains, and not the cache.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use tokio::runtime::Handle;
use tracing::{debug, error, warn};
use weir_auth::certificate::subject_text;
use weir_conf::{OcspPeerOptions, format_duration};
use weir_net::{
    ocsp::{Certificate, NotCurrent, Response, Status, request},
    tls::{PeerCheck, X509},
};

use super::{Events, ResponseCache, moment, now, responder::Responder};
use crate::system::System;

/// What the peer is refused with.
const REFUSED: &str = "client not OCSP valid";

/// What all questions need.
pub(super) struct Asking {
    pub(super) responder: Arc<Responder>,
    pub(super) cache: Arc<ResponseCache>,
    pub(super) events: Events,
    pub(super) runtime: Handle,
}

/// Clients of one port must not be revoked.
pub(super) struct ClientCheck {
    pub(super) kind: &'static str,
    pub(super) options: OcspPeerOptions,
    pub(super) asking: Arc<Asking>,
}

impl fmt::Debug for ClientCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientCheck").field("options", &self.options).finish_non_exhaustive()
    }
}

impl PeerCheck for ClientCheck {
    fn check(&self, chains: &[Vec<X509<'static>>]) -> Result<(), String> {
        debug!("Peer OCSP enabled: {} TLS client chain(s) will be evaluated", chains.len());
        let Some(peer) = chains.first().and_then(|chain| chain.first()) else {
            error!("Peer certificate is nil, rejecting OCSP peer");
            error!("Peer certificate is nil, cannot send OCSP peer reject event");
            return Err(REFUSED.to_owned());
        };
        let judging = self.is_valid(peer, chains);
        if tokio::task::block_in_place(|| self.asking.runtime.block_on(judging)) {
            return Ok(());
        }
        if let Some(system) = self.system() {
            system.ocsp_peer_refused(self.kind, peer, REFUSED);
        }
        Err(REFUSED.to_owned())
    }
}

/// A certificate, who has issued it, and where its status can be asked for.
struct Link {
    certificate: Certificate,
    issuer: Certificate,
    /// Only for people.
    subject: String,
    urls: Vec<String>,
}

/// Why a link is not good.
type Reason = String;

impl ClientCheck {
    fn system(&self) -> Option<Arc<System>> {
        self.asking.events.get()?.upgrade()
    }

    /// One chain without a bad link is enough.
    async fn is_valid(&self, peer: &[u8], chains: &[Vec<X509<'static>>]) -> bool {
        for (at, chain) in chains.iter().enumerate() {
            debug!("Chain [{at}]: {} total link(s)", chain.len());
            if chain.len() == 1 {
                debug!("Chain [{at}] is self-signed, thus peer is valid");
                return true;
            }
            let Some(links) = links(chain) else { return false };
            if links.is_empty() {
                debug!("Chain [{at}] has no OCSP eligible links, thus peer is valid");
                return true;
            }
            debug!("Chain [{at}] has {} OCSP eligible link(s)", links.len());
            if self.are_good(peer, &links).await {
                debug!("Chain [{at}] is OCSP valid for all eligible links, thus peer is valid");
                return true;
            }
        }
        debug!("No OCSP valid chains, thus peer is invalid");
        false
    }

    async fn are_good(&self, peer: &[u8], links: &[Link]) -> bool {
        for link in links {
            if let Err(reason) = self.judge(link).await {
                debug!("{reason}");
                if let Some(system) = self.system() {
                    system.ocsp_link_invalid(peer, link.certificate.der(), &reason);
                }
                return false;
            }
        }
        true
    }

    async fn judge(&self, link: &Link) -> Result<(), Reason> {
        let subject = &link.subject;
        let key = BASE64.encode(link.certificate.digest());
        debug!("Checking OCSP peer cache for [{subject}], key [{key}]");
        let (cached, was_revoked) = self.cached(link, &key);
        let response = match cached {
            Some(response) => response,
            None => match self.fetched(link, &key, was_revoked).await? {
                Some(response) => response,
                None => return Ok(()),
            },
        };
        let status = response.status;
        if status == Status::Revoked || (status == Status::Unknown && !self.options.unknown_is_good) {
            warn!("OCSP verify fail for [{subject}] with CA status [{status}]");
            return self.or_warn(subject, format!("Invalid OCSP response status: {status}"));
        }
        debug!("OCSP verify pass for [{subject}]");
        Ok(())
    }

    /// A usable answer from the cache, and whether there was one of a revocation.
    fn cached(&self, link: &Link, key: &str) -> (Option<Response>, bool) {
        let (cache, subject) = (&self.asking.cache, &link.subject);
        let Some(raw) = cache.get(key) else { return (None, false) };
        let parsed = Response::parse(&raw, &link.certificate, &link.issuer);
        let Some(response) = parsed.ok().filter(|response| response.is_authorized(&link.issuer)) else {
            debug!("Invalid cached OCSP response for [{subject}] with fingerprint [{key}]");
            cache.delete(key);
            return (None, false);
        };
        let (status, is_revoked) = (response.status, response.status == Status::Revoked);
        if self.is_current(&response) {
            debug!("Cached OCSP response is current, status [{status}]");
            return (Some(response), is_revoked);
        }
        debug!("Cached OCSP response is expired, status [{status}]");
        cache.delete(key);
        (None, is_revoked)
    }

    /// An answer from a responder; `None` when there is none and the link passes all the same.
    async fn fetched(&self, link: &Link, key: &str, was_revoked: bool) -> Result<Option<Response>, Reason> {
        let subject = &link.subject;
        let raw = match self.ask(link).await {
            Ok(raw) => raw,
            Err(problem) => return self.unreachable(subject, &problem, was_revoked).map(|()| None),
        };
        let response = match Response::parse(&raw, &link.certificate, &link.issuer) {
            Ok(response) => response,
            Err(problem) => {
                error!("Could not parse OCSP CA response for [{subject}]: {problem}");
                return self.or_warn(subject, "Failed OCSP response parse".to_owned()).map(|()| None);
            }
        };
        if !response.is_authorized(&link.issuer) {
            let reason = format!("Invalid OCSP response delegation: {subject}");
            warn!("{reason}");
            return self.or_warn(subject, reason).map(|()| None);
        }
        if !self.is_current(&response) {
            warn!("New OCSP CA response obtained for [{subject}] but not current");
            let reason = "OCSP response not in effectivity window".to_owned();
            return self.or_warn(subject, reason).map(|()| None);
        }
        self.asking.cache.put(key, subject, &raw, &response);
        Ok(Some(response))
    }

    fn unreachable(&self, subject: &str, problem: &str, was_revoked: bool) -> Result<(), Reason> {
        warn!("Attempt to obtain OCSP response from CA responder for [{subject}] failed: {problem}");
        if self.options.warn_only {
            warn!("OCSP verify fail for [{subject}] but WarnOnly is true so allowing");
            return Ok(());
        }
        if self.options.allow_when_ca_unreachable {
            let start =
                format!("Failed to obtain OCSP CA response for [{subject}] but AllowWhenCAUnreachable set");
            if !was_revoked {
                warn!("{start}; no cached revocation so allowing");
                return Ok(());
            }
            warn!("{start}; cached revocation exists so rejecting");
        }
        Err("Failed OCSP response fetch".to_owned())
    }

    fn or_warn(&self, subject: &str, reason: Reason) -> Result<(), Reason> {
        if self.options.warn_only {
            warn!("OCSP verify fail for [{subject}] but WarnOnly is true so allowing");
            return Ok(());
        }
        Err(reason)
    }

    async fn ask(&self, link: &Link) -> Result<Vec<u8>, String> {
        let encoded = BASE64.encode(request(&link.certificate, &link.issuer)?);
        let escaped = encoded.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let mut failed = "no available OCSP servers".to_owned();
        for url in &link.urls {
            debug!("Trying OCSP responder url [{url}]");
            let full = format!("{}/{escaped}", url.trim_end_matches('/'));
            let answered = self.asking.responder.get(&full, self.options.timeout).await;
            let reason = match answered {
                Ok(answer) if answer.status == 200 && answer.body.is_empty() => "an empty answer".to_owned(),
                Ok(answer) if answer.status == 200 => return Ok(answer.body),
                Ok(answer) => format!("bad OCSP responder http status: [{}]", answer.status),
                Err(reason) => reason,
            };
            failed = format!("exhausted OCSP responders: {reason}");
        }
        Err(failed)
    }

    fn is_current(&self, response: &Response) -> bool {
        let (now, skew) = (now(), self.options.allowed_clock_skew);
        let ttl = self.options.cache_ttl_when_next_update_unset;
        let Err(problem) = response.check_current(now, skew, ttl) else { return true };
        let (now, skew) = (moment(Some(now.as_secs())), format_duration(skew));
        match problem {
            NotCurrent::Expired(end) => {
                let end = moment(Some(end));
                debug!("OCSP response NextUpdate [{end}] is before now [{now}] with clockskew [{skew}]");
            }
            NotCurrent::TtlExpired(end) => {
                let end = moment(Some(end));
                debug!("OCSP response cache expiry [{end}] is before now [{now}] with clockskew [{skew}]");
            }
            NotCurrent::Future(start) => {
                let start = moment(Some(start));
                debug!("OCSP response ThisUpdate [{start}] is before now [{now}] with clockskew [{skew}]");
            }
        }
        false
    }
}

/// The links of a chain whose certificates name responders; `None` when one cannot be read.
fn links(chain: &[X509<'static>]) -> Option<Vec<Link>> {
    let mut found = Vec::new();
    for pair in chain.windows(2) {
        let [own, issuer] = pair else { continue };
        let certificate = Certificate::parse(own).ok()?;
        let is_web = |url: &&String| url.starts_with("http://") || url.starts_with("https://");
        let urls: Vec<String> = certificate.responders.iter().filter(is_web).cloned().collect();
        if urls.is_empty() {
            continue;
        }
        let issuer = Certificate::parse(issuer).ok()?;
        found.push(Link { subject: subject_text(certificate.der()), certificate, issuer, urls });
    }
    Some(found)
}
