//! What the server counts over all connections. Not the counters of one.

use crate::close_reason::CloseReason;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Counters {
    in_messages: AtomicU64,
    in_bytes: AtomicU64,
    connections: AtomicU64,
    slow_consumers: AtomicU64,
    stale_connections: AtomicU64,
    stalls: AtomicU64,
    sent_to_closed_messages: AtomicU64,
    sent_to_closed_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn count_in(&self, messages: u64, bytes: u64) {
        self.in_messages.fetch_add(messages, Ordering::Relaxed);
        self.in_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_stall(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_slow_consumer(&self) {
        self.slow_consumers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_closed(&self, reason: CloseReason, sent: (u64, u64)) {
        self.sent_to_closed_messages.fetch_add(sent.0, Ordering::Relaxed);
        self.sent_to_closed_bytes.fetch_add(sent.1, Ordering::Relaxed);
        match reason {
            CloseReason::SlowConsumerPendingBytes | CloseReason::SlowConsumerWriteDeadline => {
                self.slow_consumers.fetch_add(1, Ordering::Relaxed);
            }
            CloseReason::StaleConnection => {
                self.stale_connections.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    pub(crate) fn sent_to_closed(&self) -> (u64, u64) {
        (
            self.sent_to_closed_messages.load(Ordering::Relaxed),
            self.sent_to_closed_bytes.load(Ordering::Relaxed),
        )
    }

    /// Messages and their bytes (headers and payload) from clients.
    pub fn received(&self) -> (u64, u64) {
        (self.in_messages.load(Ordering::Relaxed), self.in_bytes.load(Ordering::Relaxed))
    }

    /// Client connections ever accepted.
    pub fn total_connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections cut because they did not read fast enough.
    pub fn slow_consumers(&self) -> u64 {
        self.slow_consumers.load(Ordering::Relaxed)
    }

    /// Connections cut because they did not answer PINGs.
    pub fn stale_connections(&self) -> u64 {
        self.stale_connections.load(Ordering::Relaxed)
    }

    /// How often a publisher had to wait for a receiver.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }
}
