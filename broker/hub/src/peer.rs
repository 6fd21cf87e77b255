//! The seam for routes: remote interest comes in, messages go out. Not the route protocol itself.

use crate::account::Account;
use std::sync::Arc;

/// A message on its way to another server.
pub struct PeerMessage<'a> {
    /// The account's name.
    pub account: &'a str,
    /// The literal subject.
    pub subject: &'a [u8],
    /// The reply subject, if any.
    pub reply: Option<&'a [u8]>,
    /// The whole header block, or empty.
    pub headers: &'a [u8],
    /// The payload without headers.
    pub payload: &'a [u8],
    /// The queue groups of which the other server shall pick one member each.
    pub queues: &'a [&'a [u8]],
}

/// Another server, as far as messages to it go.
pub trait Peer: Send + Sync {
    /// A number unique among this process' peers.
    fn id(&self) -> u64;
    /// Appends the message to what is sent to that server; never blocks.
    fn deliver(&self, message: &PeerMessage<'_>);
    /// Called once after a batch of `deliver`s.
    fn flush(&self);
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
