//! The latest removals from a stream, so that each consumer can correct its count of pending messages when it next
//! looks, instead of every removal touching every consumer.

use std::collections::VecDeque;

/// Removals kept; a consumer further behind counts anew.
const REMOVALS_MAX: usize = 4096;

/// A bounded window over all removals, numbered from 0.
#[derive(Debug, Default)]
pub struct RemovalLog {
    entries: VecDeque<u64>,
    /// The number of the first entry kept.
    start: u64,
}

impl RemovalLog {
    /// The number the next removal will have.
    pub fn position(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    /// The sequences removed from this number on; `None` when some of them are forgotten.
    pub fn since(&self, position: u64) -> Option<impl Iterator<Item = u64>> {
        let skip = usize::try_from(position.checked_sub(self.start)?).ok()?;
        Some(self.entries.iter().skip(skip).copied())
    }

    pub(super) fn push(&mut self, seq: u64) {
        if self.entries.len() == REMOVALS_MAX {
            self.entries.pop_front();
            self.start += 1;
        }
        self.entries.push_back(seq);
    }

    /// Many messages went at once: everybody counts anew.
    pub(super) fn forget_all(&mut self) {
        self.start = self.position() + 1;
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_too_far_behind_is_told_so() {
        let mut log = RemovalLog::default();
        for seq in 0..=REMOVALS_MAX as u64 {
            log.push(seq);
        }
        assert!(log.since(0).is_none());
        assert_eq!(log.since(1).map(Iterator::count), Some(REMOVALS_MAX));
        let position = log.position();
        assert_eq!(log.since(position).map(Iterator::count), Some(0));
        log.forget_all();
        assert!(log.since(position).is_none());
        assert_eq!(log.since(log.position()).map(Iterator::count), Some(0));
    }
}
