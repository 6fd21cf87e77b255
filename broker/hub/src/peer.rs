//! The seam for routes: remote interest comes in, messages go out. Not the route protocol itself.

use crate::account::Account;
use crate::ingress::{Audience, Held, Ingress, Message};
use crate::message::{Origin, OutboundMessage};
use crate::message_trace::{Begun, Source, begin, may_be_traced};
use crate::outbox::Outbox;
use std::sync::Arc;

/// A message on its way to another server.
pub struct PeerMessage<'a> {
    /// The account's name.
    pub account: &'a str,
    /// The literal subject that receivers are shown.
    pub subject: &'a [u8],
    /// The literal subject that decides who gets it, when that is another one.
    pub deliver_to: Option<&'a [u8]>,
    /// The reply subject, if any.
    pub reply: Option<&'a [u8]>,
    /// The whole header block, or empty.
    pub headers: &'a [u8],
    /// The payload without headers.
    pub payload: &'a [u8],
    /// The queue groups of which the other server shall pick one member each.
    pub queues: &'a [&'a [u8]],
}

/// A way to another server, as far as messages on it go.
pub trait Peer: Send + Sync {
    /// A number unique among this process' peers.
    fn id(&self) -> u64;
    /// Where messages for it wait to be written.
    fn outbox(&self) -> &Arc<Outbox>;
    /// Whether it takes headers; otherwise it gets the payload without them.
    fn takes_headers(&self) -> bool {
        true
    }
    /// Whether messages that are delivered by this literal subject may go there.
    fn accepts(&self, _subject: &[u8]) -> bool {
        true
    }
    /// The connection's number as monitoring shows it.
    fn connection(&self) -> u64 {
        self.id()
    }
    /// How log lines name the connection.
    fn label(&self) -> String {
        String::new()
    }
    /// The other server's name.
    fn name(&self) -> String {
        String::new()
    }
    /// Appends what goes before the headers: the operation and its arguments, with the line's end.
    fn write_line(&self, message: &PeerMessage<'_>, out: &mut Vec<u8>);
}

/// One entry of this server's own interest in an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalInterest {
    /// The subscribed subject, wildcards included.
    pub subject: Box<[u8]>,
    /// The queue group, if any.
    pub queue: Option<Box<[u8]>>,
    /// How many members the queue group has here; 1 for plain interest.
    pub weight: u32,
}

/// Told about changes of this server's own interest, in order for each account.
pub trait InterestListener: Send + Sync {
    /// `weight` is the number of members of the queue group here after the change (plain interest: 1); 0 means gone.
    /// Called with the account's interest lock held: do not subscribe from here, do not block.
    fn interest_changed(&self, account: &Arc<Account>, subject: &[u8], queue: Option<&[u8]>, weight: u32);
}

/// Delivers what another server sends to this server's own subscribers, and to nobody else.
pub struct PeerIngress {
    ingress: Ingress,
    link: u64,
    /// The other server's name.
    name: String,
}

impl PeerIngress {
    /// `link` is the id of the link's outbox.
    pub fn new(link: u64) -> Self {
        let ingress = Ingress::new(link, link.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self { ingress, link, name: String::new() }
    }

    /// Delivers one message; `queues` are the names of queue groups, separated by white space, of which one
    /// member each gets it. Returns the number of deliveries. Nothing is written before `flush`.
    pub fn deliver(&mut self, account: &Arc<Account>, message: &OutboundMessage<'_>, queues: &[u8]) -> usize {
        let message = message.to_route();
        if may_be_traced(message.headers, account) {
            return self.deliver_traced(account, &message, queues);
        }
        self.route(account, &message, queues)
    }

    fn route(&mut self, account: &Arc<Account>, message: &Message<'_>, queues: &[u8]) -> usize {
        let origin = Origin::Route { id: self.link };
        self.ingress.route(account, message, origin, true, Audience::Local { queues })
    }

    fn deliver_traced(&mut self, account: &Arc<Account>, message: &Message<'_>, queues: &[u8]) -> usize {
        let source = Source::Server { cid: self.link, name: &self.name };
        let bytes = message.headers.len() + message.payload.len();
        match begin(&source, account, message.subject, message.headers, bytes, || 0) {
            Begun::Untraced | Begun::Disabled | Begun::Refused(_) => self.route(account, message, queues),
            Begun::Dropped => 0,
            Begun::Traced(trace) => {
                self.ingress.set_trace(Some(trace));
                let deliveries = self.route(account, message, queues);
                if let Some(trace) = self.ingress.take_trace() {
                    trace.tell();
                }
                deliveries
            }
        }
    }

    /// Says which server it is, for traces.
    pub fn set_name(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Writes to everyone touched. Returns a receiver that is nearly full, for whom the reader should wait a little.
    pub fn flush(&mut self) -> Option<Held> {
        self.ingress.flush(false)
    }
}
