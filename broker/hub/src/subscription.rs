//! One subscription: who gets the messages of a subject. Not the index it is found by.

use crate::account::InternalHandler;
use crate::client::ClientHandle;
use crate::exchange::{ServiceImport, Shadow};
use crate::peer::Peer;
use crate::permissions::Rule;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// One subscription of a client, of this process, or another server's interest.
pub struct Subscription {
    pub(crate) subject: Box<[u8]>,
    pub(crate) queue: Option<Box<[u8]>>,
    pub(crate) sid: Box<[u8]>,
    pub(crate) target: Target,
    /// Whether other servers are told of it.
    pub(crate) announced: bool,
    /// Subjects that must not be delivered although the pattern covers them.
    pub(crate) denied: Option<Arc<[Rule]>>,
    /// The message after which it ends; 0 means never.
    pub(crate) max: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) closed: AtomicBool,
}

pub(crate) enum Target {
    Client(Arc<ClientHandle>),
    Internal(InternalHandler),
    Peer {
        peer: Arc<dyn Peer>,
        weight: AtomicU32,
        /// Whether it is interest of that server's leaf nodes.
        is_leaf: bool,
    },
    /// Requests go on to the account that serves them.
    Service(Arc<ServiceImport>),
    /// Responses go back to the accounts of their requesters.
    Responses,
    /// Stands for a subscription of an account that imports a stream.
    Shadow(Box<Shadow>),
}

impl Subscription {
    pub(crate) fn new(subject: &[u8], queue: Option<&[u8]>, sid: &[u8], target: Target) -> Self {
        Self {
            subject: subject.into(),
            queue: queue.map(Into::into),
            sid: sid.into(),
            target,
            announced: true,
            denied: None,
            max: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// The subscribed subject.
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The queue group, if any.
    pub fn queue(&self) -> Option<&[u8]> {
        self.queue.as_deref()
    }

    /// How many messages it got.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    pub(crate) fn is_client(&self, id: u64) -> bool {
        match &self.target {
            Target::Client(client) => client.id == id,
            Target::Shadow(shadow) => shadow.subscription.is_client(id),
            _ => false,
        }
    }

    /// Counts one message; tells whether it may be delivered and whether it is the last.
    pub(crate) fn count(&self) -> Count {
        let max = self.max.load(Ordering::Relaxed);
        if max == 0 {
            // Only a statistic: losing one count to a race is cheaper than a locked instruction a message.
            let delivered = self.delivered.load(Ordering::Relaxed);
            self.delivered.store(delivered + 1, Ordering::Relaxed);
            return Count::Deliver;
        }
        let number = self.delivered.fetch_add(1, Ordering::Relaxed) + 1;
        match number.cmp(&max) {
            std::cmp::Ordering::Less => Count::Deliver,
            std::cmp::Ordering::Equal => Count::DeliverLast,
            std::cmp::Ordering::Greater => Count::Over,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Deliver,
    DeliverLast,
    Over,
}
