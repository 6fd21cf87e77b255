//! Message ids seen within the duplicate window, with the sequence each got.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

/// One remembered id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub id: Bytes,
    pub seq: u64,
    pub timestamp: UnixNanos,
}

#[derive(Debug, Default)]
pub(super) struct Dedupe {
    by_id: HashMap<Bytes, u64>,
    /// In order of time.
    order: VecDeque<Entry>,
}

impl Dedupe {
    /// Forgets ids older than the window (nanoseconds), then looks one up.
    pub(super) fn check(&mut self, id: &[u8], now: UnixNanos, window: u64) -> Option<u64> {
        self.expire(now, window);
        self.by_id.get(id).copied()
    }

    pub(super) fn insert(&mut self, id: Bytes, seq: u64, timestamp: UnixNanos) {
        self.by_id.insert(id.clone(), seq);
        self.order.push_back(Entry { id, seq, timestamp });
    }

    pub(super) fn expire(&mut self, now: UnixNanos, window: u64) {
        while self.order.front().is_some_and(|entry| entry.timestamp.0.saturating_add(window) <= now.0) {
            if let Some(entry) = self.order.pop_front()
                && self.by_id.get(&entry.id) == Some(&entry.seq)
            {
                self.by_id.remove(&entry.id);
            }
        }
    }

    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.order.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_forgotten_after_the_window() {
        let mut dedupe = Dedupe::default();
        dedupe.insert(Bytes::from_static(b"a"), 1, UnixNanos(100));
        assert_eq!(dedupe.check(b"a", UnixNanos(149), 50), Some(1));
        assert_eq!(dedupe.check(b"a", UnixNanos(150), 50), None);
        assert_eq!(dedupe.entries().len(), 0);
    }
}
