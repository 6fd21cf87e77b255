//! The subjects of a store: each has a number while it has messages, and counters. The first and last
//! sequence of a subject are found again lazily after a removal; until then they are bounds.

use std::cell::Cell;
use std::ops::ControlFlow;

use rustc_hash::{FxHashMap, FxHashSet};
use weir_subject::{Refused, SubjectTable};

use super::{Filter, SubjectState};
use crate::error::StorageError;

/// Finds messages by subject number; both ends included.
pub(crate) trait BySubject {
    fn next_with(&self, subject: u32, from: u64, to: u64) -> Option<u64>;
    fn previous_with(&self, subject: u32, from: u64, to: u64) -> Option<u64>;
}

/// A number of 64 bits that lies at any multiple of four bytes.
#[derive(Debug, Default)]
struct Seq(Cell<[u32; 2]>);

impl Seq {
    fn get(&self) -> u64 {
        let [low, high] = self.0.get();
        (u64::from(high) << 32) | u64::from(low)
    }

    fn set(&self, seq: u64) {
        self.0.set([seq as u32, (seq >> 32) as u32]);
    }
}

/// What is kept of a subject: 20 bytes, that is 24 with the place of its name.
#[derive(Debug, Default)]
struct Counters {
    /// The first sequence is at or above this.
    first: Seq,
    /// The last sequence is at or below this.
    last: Seq,
    /// How many messages there are, and whether the sequences are bounds only.
    count: Cell<u32>,
}

const FIRST_IS_BOUND: u32 = 1 << 31;
const LAST_IS_BOUND: u32 = 1 << 30;
/// This count and all above it are kept elsewhere.
const COUNT_MAX: u32 = if cfg!(test) { 3 } else { LAST_IS_BOUND - 1 };

impl Counters {
    fn of(state: SubjectState) -> Self {
        let counters = Self::default();
        counters.first.set(state.first);
        counters.last.set(state.last);
        counters
    }

    fn is(&self, flag: u32) -> bool {
        self.count.get() & flag != 0
    }

    fn set(&self, flag: u32, on: bool) {
        let others = self.count.get() & !flag;
        self.count.set(if on { others | flag } else { others });
    }
}

/// A subject that has messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) number: u32,
    pub(crate) count: u64,
    counters: &'a Counters,
}

impl Entry<'_> {
    pub(crate) fn resolve(&self, messages: &dyn BySubject) -> SubjectState {
        let Counters { first, last, .. } = self.counters;
        let bounds = (self.counters.is(FIRST_IS_BOUND), self.counters.is(LAST_IS_BOUND));
        if self.count == 1 && bounds.0 != bounds.1 {
            self.set_both(if bounds.0 { last.get() } else { first.get() });
        }
        if self.counters.is(FIRST_IS_BOUND)
            && let Some(found) = messages.next_with(self.number, first.get(), last.get())
        {
            first.set(found);
            self.counters.set(FIRST_IS_BOUND, false);
        }
        if self.counters.is(LAST_IS_BOUND)
            && let Some(found) = messages.previous_with(self.number, first.get(), last.get())
        {
            last.set(found);
            self.counters.set(LAST_IS_BOUND, false);
        }
        SubjectState { count: self.count, first: first.get(), last: last.get() }
    }

    fn set_both(&self, seq: u64) {
        self.counters.first.set(seq);
        self.counters.last.set(seq);
        self.counters.set(FIRST_IS_BOUND | LAST_IS_BOUND, false);
    }

    /// (at or above, at or below) without looking.
    pub(crate) fn bounds(&self) -> (u64, u64) {
        (self.counters.first.get(), self.counters.last.get())
    }
}

/// All subjects.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    table: SubjectTable<Counters>,
    /// Counts that are too large to be kept with the others.
    large: FxHashMap<u32, u64>,
}

/// In an answer to a query there is room for all numbers up to this many, and up to so many for each subject.
const NEAR_MIN: usize = 1 << 16;
const NEAR_PER_SUBJECT: usize = 8;

impl Subjects {
    pub(crate) fn len(&self) -> u64 {
        self.table.len() as u64
    }

    /// The subject of a number that is in use.
    pub(crate) fn name(&self, number: u32) -> &[u8] {
        self.table.name(number).unwrap_or_default()
    }

    fn entry<'a>(&self, number: u32, counters: &'a Counters) -> Entry<'a> {
        Entry { number, count: self.count(number, counters), counters }
    }

    fn count(&self, number: u32, counters: &Counters) -> u64 {
        let count = counters.count.get() & !(FIRST_IS_BOUND | LAST_IS_BOUND);
        let large = (count == COUNT_MAX).then(|| self.large.get(&number)).flatten();
        large.copied().unwrap_or(u64::from(count))
    }

    fn set_count(large: &mut FxHashMap<u32, u64>, number: u32, counters: &Counters, count: u64) {
        let flags = counters.count.get() & (FIRST_IS_BOUND | LAST_IS_BOUND);
        let short = u32::try_from(count).map_or(COUNT_MAX, |count| count.min(COUNT_MAX));
        if short == COUNT_MAX {
            large.insert(number, count);
        } else if !large.is_empty() {
            large.remove(&number);
        }
        counters.count.set(flags | short);
    }

    pub(crate) fn get(&self, subject: &[u8]) -> Option<Entry<'_>> {
        let (number, counters) = self.table.get(subject)?;
        Some(self.entry(number, counters))
    }

    /// Counts a new last message of a subject; returns the subject's number. Refused when there is no room for one more
    /// subject; nothing has changed then.
    pub(crate) fn add(&mut self, subject: &[u8], seq: u64) -> Result<u32, StorageError> {
        if let Some((number, counters)) = self.table.get(subject) {
            let count = self.count(number, counters) + 1;
            Self::set_count(&mut self.large, number, counters, count);
            counters.last.set(seq);
            counters.set(LAST_IS_BOUND, false);
            return Ok(number);
        }
        let state = SubjectState { count: 1, first: seq, last: seq };
        let number = self.table.insert(subject, Counters::of(state)).map_err(|refused| match refused {
            Refused::TooLong { limit } => {
                StorageError::TooLarge { what: "subject", size: subject.len() as u64, limit: limit as u64 }
            }
            Refused::Full | Refused::Taken => StorageError::TooManySubjects { count: self.len() },
        })?;
        self.recount(number, 1);
        Ok(number)
    }

    fn recount(&mut self, number: u32, count: u64) {
        if let Some(counters) = self.table.value(number) {
            Self::set_count(&mut self.large, number, counters, count);
        }
    }

    /// Sets a subject as a checkpoint has it; false when it, or its number, is there already.
    pub(crate) fn restore(&mut self, subject: &[u8], number: u32, state: SubjectState) -> bool {
        let is_new = self.table.insert_as(number, subject, Counters::of(state)).is_ok();
        if is_new {
            self.recount(number, state.count);
        }
        is_new
    }

    /// Counts a removed message.
    pub(crate) fn remove(&mut self, number: u32, seq: u64) {
        let Some(counters) = self.table.value(number) else { return };
        let count = self.count(number, counters).saturating_sub(1);
        Self::set_count(&mut self.large, number, counters, count);
        if count == 0 {
            self.table.remove(number);
            return;
        }
        if seq == counters.first.get() {
            counters.first.set(seq + 1);
            counters.set(FIRST_IS_BOUND, true);
        }
        if seq == counters.last.get() {
            counters.last.set(seq - 1);
            counters.set(LAST_IS_BOUND, true);
        }
    }

    /// Visits the subjects a pattern covers, in byte order.
    pub(crate) fn for_each_match(
        &self,
        pattern: &[u8],
        mut visit: impl FnMut(&[u8], Entry<'_>) -> ControlFlow<()>,
    ) {
        let _ = self.table.for_each_match(pattern, |subject, number, counters| {
            visit(subject, self.entry(number, counters))
        });
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(&[u8], Entry<'_>)) {
        self.table.for_each(|subject, number, counters| visit(subject, self.entry(number, counters)));
    }

    /// The subjects that pass a filter, each once.
    pub(crate) fn matching(&self, filter: &Filter) -> Matching {
        // Numbers may lie far beyond the others, as after a removal of most subjects.
        let near = NEAR_MIN.max(self.table.len().saturating_mul(NEAR_PER_SUBJECT));
        let mut matching = Matching {
            selected: vec![false; self.table.numbers_end().min(near)],
            far: FxHashSet::default(),
            entries: Vec::new(),
            first: u64::MAX,
            last: 0,
        };
        for pattern in filter.patterns() {
            let _ = self.table.for_each_match::<()>(pattern, |_, number, counters| {
                let is_new = match matching.selected.get_mut(number as usize) {
                    Some(selected) => !std::mem::replace(selected, true),
                    None => matching.far.insert(number),
                };
                if is_new {
                    let (first, last) = (counters.first.get(), counters.last.get());
                    matching.first = matching.first.min(first);
                    matching.last = matching.last.max(last);
                    matching.entries.push((self.count(number, counters), first, last));
                }
                ControlFlow::Continue(())
            });
        }
        matching
    }
}

/// The subjects that pass a filter.
#[derive(Debug)]
pub(crate) struct Matching {
    /// By subject number.
    selected: Vec<bool>,
    far: FxHashSet<u32>,
    /// (count, first at or above, last at or below)
    pub(crate) entries: Vec<(u64, u64, u64)>,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Matching {
    pub(crate) fn contains(&self, number: u32) -> bool {
        match self.selected.get(number as usize) {
            Some(selected) => *selected,
            None => self.far.contains(&number),
        }
    }

    /// Messages at or after `from`, when that is known without looking at them.
    pub(crate) fn count_from(&self, from: u64) -> Option<u64> {
        self.entries.iter().try_fold(0, |sum, &(count, first, last)| {
            if first >= from {
                Some(sum + count)
            } else if last < from {
                Some(sum)
            } else {
                None
            }
        })
    }

    pub(crate) fn total(&self) -> u64 {
        self.entries.iter().map(|(count, _, _)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: SubjectState = SubjectState { count: 1, first: 5, last: 5 };

    #[test]
    fn a_number_far_beyond_the_others_is_selected_as_well() {
        let mut subjects = Subjects::default();
        assert!(subjects.restore(b"near", 3, STATE) && subjects.restore(b"far", 50_000_000, STATE));
        assert_eq!((subjects.name(3), subjects.name(50_000_000)), (&b"near"[..], &b"far"[..]));
        let matching = subjects.matching(&Filter::new(["far"]));
        assert!(matching.selected.len() <= NEAR_MIN);
        assert!(matching.contains(50_000_000) && !matching.contains(3));
        subjects.remove(50_000_000, 5);
        assert!(subjects.get(b"far").is_none() && subjects.name(50_000_000).is_empty());
    }

    #[test]
    fn a_subject_or_a_number_is_restored_once() {
        let mut subjects = Subjects::default();
        assert!(subjects.restore(b"a", 3, STATE));
        assert!(!subjects.restore(b"b", 3, STATE) && !subjects.restore(b"a", 4, STATE));
        assert!(!subjects.restore(b"c", u32::MAX, STATE));
    }

    #[test]
    fn counts_beyond_those_kept_inline_are_exact() {
        let mut subjects = Subjects::default();
        let count = 3 * u64::from(COUNT_MAX);
        for seq in 1..=count {
            subjects.add(b"a", seq).expect("there is room");
            assert_eq!(subjects.get(b"a").map(|entry| entry.count), Some(seq));
        }
        assert_eq!(subjects.matching(&Filter::new(["*"])).total(), count);
        for seq in 1..=count {
            let entry = subjects.get(b"a").expect("it has messages");
            assert_eq!(entry.count, count + 1 - seq);
            subjects.remove(entry.number, seq);
        }
        assert!(subjects.get(b"a").is_none() && subjects.large.is_empty());
    }

    #[test]
    fn a_subject_takes_twenty_bytes_and_its_name() {
        assert_eq!((size_of::<Counters>(), align_of::<Counters>()), (20, 4));
        let state = SubjectState { count: 2, first: u64::MAX - 1, last: u64::MAX };
        let mut subjects = Subjects::default();
        subjects.restore(b"a", 0, state);
        assert_eq!(subjects.get(b"a").map(|entry| entry.bounds()), Some((state.first, state.last)));
    }
}
