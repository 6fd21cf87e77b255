//! A message on its way through the hub, as seen from inside the process. Not the wire form.

use crate::account::Account;
use crate::exchange::{REQUEST_INFO, remove_header};
use crate::ingress::Message;
use crate::message_trace::MessageTrace;
use memchr::memmem::Finder;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

/// Where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client connection of this server.
    Client {
        /// The connection's id (`cid`).
        id: u64,
    },
    /// Another server.
    Route {
        /// The link's id.
        id: u64,
    },
    /// This process.
    Internal,
}

/// A message handed to an internal subscriber, inline in the publisher's task:
/// copy what you keep, never block.
pub struct Inbound<'a> {
    /// The literal subject it was published to.
    pub subject: &'a [u8],
    /// The reply subject, if any.
    pub reply: Option<&'a [u8]>,
    /// The whole `NATS/1.0\r\n...\r\n\r\n` block, or empty.
    pub headers: &'a [u8],
    /// The payload without headers.
    pub payload: &'a [u8],
    /// Where it came from.
    pub origin: Origin,
    /// The account it was published in.
    pub account: &'a Arc<Account>,
    /// Its trace, if its sender wants one.
    pub trace: Option<&'a MessageTrace>,
}

static FIND_REQUEST_INFO: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(REQUEST_INFO));

impl<'a> Inbound<'a> {
    /// The headers as they are stored: without what an imported service was told of the sender.
    pub fn headers_to_store(&self) -> Cow<'a, [u8]> {
        if self.headers.is_empty() || FIND_REQUEST_INFO.find(self.headers).is_none() {
            return Cow::Borrowed(self.headers);
        }
        remove_header(self.headers, REQUEST_INFO).map_or(Cow::Borrowed(self.headers), Cow::Owned)
    }
}

/// A message to publish from inside the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutboundMessage<'a> {
    /// The literal subject that receivers are shown.
    pub subject: &'a [u8],
    /// The literal subject that decides who gets it, when that is another one (deliveries from a stream).
    pub deliver_to: Option<&'a [u8]>,
    /// The reply subject, if any.
    pub reply: Option<&'a [u8]>,
    /// A whole `NATS/1.0\r\n...\r\n\r\n` block, or empty.
    pub headers: &'a [u8],
    /// The payload without headers.
    pub payload: &'a [u8],
}

impl<'a> OutboundMessage<'a> {
    pub(crate) fn to_route(self) -> Message<'a> {
        Message {
            subject: self.deliver_to.unwrap_or(self.subject),
            shown: self.deliver_to.map(|_| self.subject),
            reply: self.reply,
            headers: self.headers,
            payload: self.payload,
            source: None,
        }
    }
}
