//! An account: its interest and the messages published in it. Not who may do so.

use crate::message::{Inbound, OutboundMessage};
use std::sync::Arc;
use tokio::sync::watch;

/// What an internal subscriber runs, inline in the publisher's task: never block in it.
pub type InternalHandler = Arc<dyn Fn(&Inbound<'_>) + Send + Sync>;

/// An account of this server.
pub struct Account {
    name: String,
    changes: watch::Sender<u64>,
}

/// A subscription of this process; dropping it unsubscribes.
#[must_use = "dropping it unsubscribes"]
pub struct InternalSubscription {
    _account: Arc<Account>,
}

impl Account {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), changes: watch::Sender::new(0) })
    }

    /// The account's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Subscribes `handler` to `subject` (wildcards allowed), optionally as a member of a queue group.
    /// Interest is told to other servers as a client's would be. An invalid subject is never matched.
    pub fn subscribe_internal(
        self: &Arc<Self>,
        subject: &str,
        queue: Option<&str>,
        handler: InternalHandler,
    ) -> InternalSubscription {
        let _ = (subject, queue, handler);
        InternalSubscription { _account: Arc::clone(self) }
    }

    /// Publishes and flushes; returns how many deliveries were made (local subscriptions and servers).
    pub fn publish(
        self: &Arc<Self>,
        subject: &[u8],
        reply: Option<&[u8]>,
        headers: &[u8],
        payload: &[u8],
    ) -> usize {
        self.publish_batch([OutboundMessage { subject, reply, headers, payload }])
    }

    /// Publishes many messages, waking each receiver once; returns the number of deliveries.
    pub fn publish_batch<'a>(
        self: &Arc<Self>,
        messages: impl IntoIterator<Item = OutboundMessage<'a>>,
    ) -> usize {
        messages.into_iter().map(|_| 0).sum()
    }

    /// Whether a message on this literal subject would be delivered, here or through a route.
    pub fn has_interest(&self, subject: &[u8]) -> bool {
        let _ = subject;
        false
    }

    /// A counter that grows with every change of interest in the account.
    pub fn interest_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether the literal `subject` has interest, kept up to date; cheaper than `interest_changes` for many watchers.
    pub fn watch_interest(self: &Arc<Self>, subject: &str) -> watch::Receiver<bool> {
        let _ = subject;
        watch::Sender::new(false).subscribe()
    }
}
