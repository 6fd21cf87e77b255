//! The events of a message's trace, in nats-server's JSON. Not when they happen.

use serde::Serialize;

/// The receiver wants none of its own messages.
pub(crate) const NO_ECHO: &str = "Not delivered because of no echo";
/// The receiver may not have this subject.
pub(crate) const SUB_DENIED: &str = "Not delivered because subscription denies this subject";
/// The subscription has ended.
pub(crate) const SUB_CLOSED: &str = "Not delivered because subscription is closed";
/// The subscription has had all it wanted.
pub(crate) const NO_STALL: &str = "Not delivered because fast producer not stalled and consumer is slow";
pub(crate) const SUB_EXCEEDED: &str = "Not delivered because auto-unsubscribe exceeded";

#[derive(Debug, Serialize)]
#[serde(tag = "type")]
pub(super) enum Event {
    #[serde(rename = "in")]
    Ingress {
        ts: String,
        kind: u8,
        cid: u64,
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        acc: String,
        subj: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        error: String,
    },
    #[serde(rename = "sm")]
    Mapping { ts: String, to: String },
    #[serde(rename = "se")]
    StreamExport { ts: String, acc: String, to: String },
    #[serde(rename = "si")]
    ServiceImport { ts: String, acc: String, from: String, to: String },
    #[serde(rename = "js")]
    JetStream {
        ts: String,
        stream: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        subject: String,
        #[serde(rename = "nointerest", skip_serializing_if = "std::ops::Not::not")]
        no_interest: bool,
        #[serde(skip_serializing_if = "String::is_empty")]
        error: String,
    },
    #[serde(rename = "eg")]
    Egress {
        ts: String,
        kind: u8,
        cid: u64,
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        hop: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        acc: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        sub: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        queue: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        error: String,
    },
}

/// Kinds of connections, as nats-server numbers them.
pub(super) const CLIENT: u8 = 0;
pub(super) const ROUTER: u8 = 1;

/// One receiver of a traced message.
pub(crate) enum Egress<'e> {
    /// A client.
    Client {
        cid: u64,
        name: &'e str,
        account: &'e str,
        subject: &'e [u8],
        queue: Option<&'e [u8]>,
        /// Why it did not get it; empty when it did.
        error: &'e str,
    },
    /// Another server.
    Server { cid: u64, name: &'e str, hop: &'e str },
}

fn now() -> String {
    crate::hub::now().to_rfc3339()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Event {
    pub(super) fn ingress(kind: u8, cid: u64, name: &str, account: &str, subject: &[u8]) -> Self {
        Self::Ingress {
            ts: now(),
            kind,
            cid,
            name: name.to_owned(),
            acc: account.to_owned(),
            subj: text(subject),
            error: String::new(),
        }
    }

    pub(super) fn mapping(to: &[u8]) -> Self {
        Self::Mapping { ts: now(), to: text(to) }
    }

    pub(super) fn stream_export(account: &str, to: &[u8]) -> Self {
        Self::StreamExport { ts: now(), acc: account.to_owned(), to: text(to) }
    }

    pub(super) fn service_import(account: &str, from: &[u8], to: &[u8]) -> Self {
        Self::ServiceImport { ts: now(), acc: account.to_owned(), from: text(from), to: text(to) }
    }

    pub(super) fn jet_stream(stream: &str, subject: &[u8], no_interest: bool, error: &str) -> Self {
        Self::JetStream {
            ts: now(),
            stream: stream.to_owned(),
            subject: text(subject),
            no_interest,
            error: error.to_owned(),
        }
    }

    pub(super) fn egress(egress: Egress<'_>, ingress_account: &str) -> Self {
        match egress {
            Egress::Client { cid, name, account, subject, queue, error } => Self::Egress {
                ts: now(),
                kind: CLIENT,
                cid,
                name: name.to_owned(),
                hop: String::new(),
                acc: if account == ingress_account { String::new() } else { account.to_owned() },
                sub: text(subject),
                queue: queue.map(text).unwrap_or_default(),
                error: error.to_owned(),
            },
            Egress::Server { cid, name, hop } => Self::Egress {
                ts: now(),
                kind: ROUTER,
                cid,
                name: name.to_owned(),
                hop: hop.to_owned(),
                acc: String::new(),
                sub: String::new(),
                queue: String::new(),
                error: String::new(),
            },
        }
    }
}
