//! Events about clients whose certificates are not good. Not the judgement.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;
use weir_auth::certificate::{issuer_text, subject_text};
use weir_jsapi::time::Time;
use weir_monitor::compact;
use weir_net::ocsp::Certificate;

use super::{System, events::Event};
use crate::monitoring;
use crate::server_block::ServerBlock;

const REJECT: &str = "io.nats.server.advisory.v1.ocsp_peer_reject";
const LINK_INVALID: &str = "io.nats.server.advisory.v1.ocsp_peer_link_invalid";

/// What happened to a client. Certificates are in DER.
pub(super) struct OcspEvent {
    peer: Vec<u8>,
    what: What,
    reason: String,
    at: Time,
}

enum What {
    /// It was sent away.
    Refused { kind: &'static str },
    /// This certificate of its chain is not good.
    Link(Vec<u8>),
}

impl OcspEvent {
    /// The end of the subject it is told on.
    pub(super) fn subject(&self) -> &'static str {
        match self.what {
            What::Refused { .. } => "CONN.REJECT",
            What::Link(_) => "LINK.INVALID",
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    schema: &'static str,
    id: String,
    timestamp: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<CertificateInfo>,
    peer: CertificateInfo,
    server: ServerBlock,
    reason: &'a str,
}

#[derive(Serialize)]
struct CertificateInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    issuer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    fingerprint: String,
    raw: String,
}

fn certificate_info(der: &[u8]) -> CertificateInfo {
    CertificateInfo {
        subject: subject_text(der),
        issuer: issuer_text(der),
        fingerprint: Certificate::parse(der).map(|read| BASE64.encode(read.digest())).unwrap_or_default(),
        raw: BASE64.encode(der),
    }
}

impl System {
    /// Tells that a peer was sent away.
    pub(crate) fn ocsp_peer_refused(&self, kind: &'static str, peer: &[u8], reason: &str) {
        self.tell_of_peer(peer, What::Refused { kind }, reason);
    }

    /// Tells that a certificate in a peer's chain is not good.
    pub(crate) fn ocsp_link_invalid(&self, peer: &[u8], link: &[u8], reason: &str) {
        self.tell_of_peer(peer, What::Link(link.to_vec()), reason);
    }

    fn tell_of_peer(&self, peer: &[u8], what: What, reason: &str) {
        let (peer, reason) = (peer.to_vec(), reason.to_owned());
        self.push_event(Event::Ocsp(Box::new(OcspEvent { peer, what, reason, at: monitoring::now() })));
    }

    pub(super) fn ocsp_event(&self, event: &OcspEvent) -> String {
        let (schema, kind, link) = match &event.what {
            What::Refused { kind } => (REJECT, Some(*kind), None),
            What::Link(link) => (LINK_INVALID, None, Some(certificate_info(link))),
        };
        compact(&Body {
            schema,
            id: self.next_id(),
            timestamp: event.at,
            kind,
            link,
            peer: certificate_info(&event.peer),
            server: self.server_info(),
            reason: &event.reason,
        })
    }
}
