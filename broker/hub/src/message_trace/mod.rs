//! Traces of single messages (ADR-41): what became of a message on this server, told where its sender wants it.
//! Not the log's lines of operations (see `trace`).

mod begin;
mod delivery;
mod events;

use crate::account::Account;
use crate::encoding::{ACCEPT_ENCODING, encoded_as};
use crate::exchange::to_json;
use crate::options::HubOptions;
use events::Event;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use begin::{Begun, Source, begin, may_be_traced};
pub(crate) use events::{Egress, NO_ECHO, NO_STALL, SUB_CLOSED, SUB_DENIED, SUB_EXCEEDED};

/// The header that says where a trace goes.
pub(crate) const DESTINATION: &str = "Nats-Trace-Dest";
/// The header that counts servers on the way.
pub(crate) const HOP: &str = "Nats-Trace-Hop";
/// The destination of what is not to be traced any further; no subject.
pub(crate) const DISABLED: &[u8] = b"trace disabled";

/// The trace of the message that is being routed.
pub struct MessageTrace {
    account: Arc<Account>,
    /// Where it is told.
    destination: Vec<u8>,
    /// Whether the message goes nowhere.
    pub(crate) only: bool,
    /// The place on the way, as given by the server before; empty on the first.
    hop: String,
    hops: u32,
    header: BTreeMap<String, Vec<String>>,
    message_bytes: usize,
    events: RefCell<Vec<Event>>,
}

#[derive(Serialize)]
struct Report<'r> {
    server: Server<'r>,
    request: Request<'r>,
    #[serde(skip_serializing_if = "is_zero")]
    hops: u32,
    events: &'r [Event],
}

#[derive(Serialize)]
struct Request<'r> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    header: &'r BTreeMap<String, Vec<String>>,
    #[serde(rename = "msgsize")]
    message_bytes: usize,
}

#[derive(Serialize)]
struct Server<'r> {
    name: &'r str,
    host: &'r str,
    id: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cluster: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'r str,
    ver: &'r str,
    jetstream: bool,
    flags: u32,
    seq: u64,
    time: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What nats-server's flags say of one that runs JetStream: it does, its snapshots are binary, its Raft groups
/// may use other accounts.
const JETSTREAM_FLAGS: u32 = 0b111;
const PLAIN_FLAGS: u32 = 0b110;

static SEQUENCE: AtomicU64 = AtomicU64::new(0);

impl MessageTrace {
    /// Notes that the account's mappings lead elsewhere.
    pub(crate) fn mapped(&self, to: &[u8]) {
        self.add(Event::mapping(to));
    }

    /// Notes why the message was not taken.
    pub(crate) fn refused(&self, error: &str) {
        if let Some(Event::Ingress { error: known, .. }) = self.events.borrow_mut().first_mut() {
            error.clone_into(known);
        }
    }

    /// Notes that it goes to an importing account as a stream.
    pub(crate) fn exported(&self, account: &str, to: &[u8]) {
        self.add(Event::stream_export(account, to));
    }

    /// Notes that it goes to an exporting account as a request.
    pub(crate) fn imported(&self, account: &str, from: &[u8], to: &[u8]) {
        self.add(Event::service_import(account, from, to));
    }

    /// Notes a receiver, or why it is none.
    pub(crate) fn sent(&self, egress: Egress<'_>) {
        let ingress_account = match self.events.borrow().first() {
            Some(Event::Ingress { acc, .. }) => acc.clone(),
            _ => String::new(),
        };
        self.add(Event::egress(egress, &ingress_account));
    }

    /// Whether the message goes nowhere: nothing may be stored or answered.
    pub fn is_only(&self) -> bool {
        self.only
    }

    /// Notes a stream that takes it, or why it does not (`error`).
    pub fn stored(&self, stream: &str, subject: &[u8], no_interest: bool, error: &str) {
        self.add(Event::jet_stream(stream, subject, no_interest, error));
    }

    /// The number of the next server on the way, for its header.
    pub(crate) fn next_hop(&mut self) -> String {
        self.hops += 1;
        if self.hop.is_empty() { self.hops.to_string() } else { format!("{}.{}", self.hop, self.hops) }
    }

    /// To how many servers it went.
    pub(crate) fn hops(&self) -> u32 {
        self.hops
    }

    pub(crate) fn destination(&self) -> &[u8] {
        &self.destination
    }

    /// Has the destination named otherwise, as in the account the message is in now; returns what it was.
    pub(crate) fn rename_destination(&mut self, destination: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.destination, destination)
    }

    fn add(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    /// Publishes the report.
    pub(crate) fn tell(self) {
        let options: &HubOptions = &self.account.exchange().options;
        let events = self.events.into_inner();
        let report = Report {
            server: Server {
                name: &options.server_name,
                host: &options.host,
                id: &options.server_id,
                cluster: &options.cluster_name().unwrap_or_default(),
                domain: options.domain.as_deref().unwrap_or_default(),
                ver: &options.version,
                jetstream: options.jetstream,
                flags: if options.jetstream { JETSTREAM_FLAGS } else { PLAIN_FLAGS },
                seq: SEQUENCE.fetch_add(1, Ordering::Relaxed) + 1,
                time: crate::hub::now().to_rfc3339(),
            },
            request: Request { header: &self.header, message_bytes: self.message_bytes },
            hops: self.hops,
            events: &events,
        };
        let accepted = self.header.get(ACCEPT_ENCODING).and_then(|values| values.first());
        let (headers, body) = encoded_as(accepted.map_or("", String::as_str), to_json(&report));
        self.account.publish(&self.destination, None, &headers, &body);
    }
}
