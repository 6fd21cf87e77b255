//! What a local log's entry says of the state it was submitted to: the place of a Raft term, which such a log has no
//! use for, holds how many entries had not been applied yet, and what the machine had counted by then (a stream's
//! last sequence). Entries behind one that is damaged so tell what that one held. Only told, never acted on here.

use std::ops::RangeInclusive;

use weir_storage::{GroupId, Journal};

const COUNT_BITS: u32 = 48;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// A machine's position and count at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) applied: u64,
    pub(crate) count: u64,
}

impl Known {
    /// What the entry `index` carries; 0 where it does not fit.
    pub(crate) fn term_of(self, index: u64) -> u64 {
        let distance = index.saturating_sub(self.applied);
        if distance == 0 || distance > u64::from(u16::MAX) || self.count > COUNT_MAX {
            return 0;
        }
        distance << COUNT_BITS | self.count
    }

    /// What entry `index` told.
    pub(crate) fn of_term(term: u64, index: u64) -> Option<Self> {
        let distance = term >> COUNT_BITS;
        let applied = index.checked_sub(distance)?;
        (distance > 0).then_some(Self { applied, count: term & COUNT_MAX })
    }
}

/// A part of a log that cannot be read, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) entries: RangeInclusive<u64>,
    /// The count at an entry at or behind the gap, the nearest that is told.
    pub(crate) after: Option<Known>,
}

impl Gap {
    /// The unreadable entries right behind `applied`.
    pub(crate) fn find(journal: &Journal, group: GroupId, applied: u64) -> Option<Self> {
        let missing = journal.unreadable(group).into_iter().find(|range| range.contains(&(applied + 1)))?;
        let last = missing.end - 1;
        let range = journal.log_range(group);
        let told = |index| Known::of_term(journal.term_at(group, index)?, index);
        let after = (missing.end..=range.last).filter_map(told).find(|known| known.applied >= last);
        Some(Self { entries: applied + 1..=last, after })
    }

    /// What was counted within the gap, by a machine that had come to `count` before it; nothing where entries on
    /// both sides were on their way together.
    pub(crate) fn counted(&self, count: u64) -> Option<RangeInclusive<u64>> {
        let after = self.after.filter(|known| known.applied == *self.entries.end())?;
        Some(count + 1..=after.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_reads_back() {
        for known in [Known { applied: 0, count: 0 }, Known { applied: 7, count: COUNT_MAX }] {
            for index in [known.applied + 1, known.applied + 65_535] {
                assert_eq!(Known::of_term(known.term_of(index), index), Some(known));
            }
            assert_eq!(Known::of_term(known.term_of(known.applied + 65_536), known.applied + 65_536), None);
        }
        assert_eq!(Known::of_term(0, 5), None);
        assert_eq!(Known::of_term(u64::MAX, 5), None);
    }
}
