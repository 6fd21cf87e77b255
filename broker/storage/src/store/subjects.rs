//! The subjects of a store: each has a number while it has messages, and counters. The first and last
//! sequence of a subject are found again lazily after a removal; until then they are bounds.

use std::cell::Cell;
use std::ops::ControlFlow;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use weir_subject::SubjectMap;

use super::{Filter, SubjectState};

/// Finds messages by subject number; both ends included.
pub(crate) trait BySubject {
    fn next_with(&self, subject: u32, from: u64, to: u64) -> Option<u64>;
    fn previous_with(&self, subject: u32, from: u64, to: u64) -> Option<u64>;
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) number: u32,
    pub(crate) count: u64,
    /// The first sequence is at or above this; exactly this when `first_exact`.
    first: Cell<u64>,
    first_exact: Cell<bool>,
    /// The last sequence is at or below this; exactly this when `last_exact`.
    last: Cell<u64>,
    last_exact: Cell<bool>,
}

impl Entry {
    pub(crate) fn resolve(&self, messages: &dyn BySubject) -> SubjectState {
        if self.count == 1 && self.first_exact.get() != self.last_exact.get() {
            let only = if self.first_exact.get() { self.first.get() } else { self.last.get() };
            self.set_both(only);
        }
        if !self.first_exact.get()
            && let Some(first) = messages.next_with(self.number, self.first.get(), self.last.get())
        {
            self.first.set(first);
            self.first_exact.set(true);
        }
        if !self.last_exact.get()
            && let Some(last) = messages.previous_with(self.number, self.first.get(), self.last.get())
        {
            self.last.set(last);
            self.last_exact.set(true);
        }
        SubjectState { count: self.count, first: self.first.get(), last: self.last.get() }
    }

    fn set_both(&self, seq: u64) {
        self.first.set(seq);
        self.last.set(seq);
        self.first_exact.set(true);
        self.last_exact.set(true);
    }

    /// (at or above, at or below) without looking.
    pub(crate) fn bounds(&self) -> (u64, u64) {
        (self.first.get(), self.last.get())
    }
}

/// All subjects.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    map: SubjectMap<Entry>,
    names: Vec<Bytes>,
    /// Subjects whose numbers lie far beyond the others', as after a removal of most subjects: no room is made for
    /// the numbers in between.
    far: FxHashMap<u32, Bytes>,
    free: Vec<u32>,
}

/// Room is made for all numbers up to this many, and to so many for each subject.
const NEAR_MIN: usize = 1 << 16;
const NEAR_PER_SUBJECT: usize = 8;

impl Subjects {
    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The subject of a number that is in use.
    pub(crate) fn name(&self, number: u32) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.names.get(number as usize).or_else(|| self.far.get(&number)).unwrap_or(&NONE)
    }

    pub(crate) fn get(&self, subject: &[u8]) -> Option<&Entry> {
        self.map.get(subject)
    }

    /// Counts a new last message of a subject; returns the subject's number.
    pub(crate) fn add(&mut self, subject: &Bytes, seq: u64) -> u32 {
        if let Some(entry) = self.map.get_mut(subject) {
            entry.count += 1;
            entry.last.set(seq);
            entry.last_exact.set(true);
            return entry.number;
        }
        let number = self.new_number(Bytes::copy_from_slice(subject));
        self.map.insert(subject, new_entry(number, SubjectState { count: 1, first: seq, last: seq }));
        number
    }

    /// Sets a subject as a checkpoint of `count` subjects has it.
    pub(crate) fn restore(&mut self, subject: Bytes, number: u32, state: SubjectState, count: usize) {
        let at = number as usize;
        self.map.insert(&subject, new_entry(number, state));
        if at >= NEAR_MIN.max(count.saturating_mul(NEAR_PER_SUBJECT)) {
            self.far.insert(number, subject);
            return;
        }
        if self.names.len() <= at {
            self.names.resize(at + 1, Bytes::new());
        }
        self.names[at] = subject;
    }

    /// After all `restore`s: which numbers are free.
    pub(crate) fn finish_restore(&mut self) {
        let unused = (0..).zip(&self.names).filter(|(_, name)| name.is_empty());
        self.free = unused.map(|(number, _)| number).collect();
    }

    fn new_number(&mut self, name: Bytes) -> u32 {
        if let Some(number) = self.free.pop() {
            self.names[number as usize] = name;
            return number;
        }
        // The numbers grow into those that were far.
        while let Some(far) = u32::try_from(self.names.len()).ok().and_then(|next| self.far.remove(&next)) {
            self.names.push(far);
        }
        self.names.push(name);
        u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
    }

    /// Counts a removed message.
    pub(crate) fn remove(&mut self, number: u32, seq: u64) {
        let name = self.name(number).clone();
        let Some(entry) = self.map.get_mut(&name) else { return };
        entry.count -= 1;
        if entry.count == 0 {
            self.map.remove(&name);
            if let Some(near) = self.names.get_mut(number as usize) {
                *near = Bytes::new();
                self.free.push(number);
            } else {
                self.far.remove(&number);
            }
            return;
        }
        if seq == entry.first.get() {
            entry.first.set(seq + 1);
            entry.first_exact.set(false);
        }
        if seq == entry.last.get() {
            entry.last.set(seq - 1);
            entry.last_exact.set(false);
        }
    }

    /// Visits the subjects a pattern covers, in byte order.
    pub(crate) fn for_each_match(
        &self,
        pattern: &[u8],
        mut visit: impl FnMut(&[u8], &Entry) -> ControlFlow<()>,
    ) {
        let _ = self.map.for_each_match(pattern, |subject, entry| visit(subject, entry));
    }

    pub(crate) fn for_each(&self, visit: impl FnMut(&[u8], &Entry)) {
        self.map.for_each(visit);
    }

    /// The subjects that pass a filter, each once.
    pub(crate) fn matching(&self, filter: &Filter) -> Matching {
        let mut matching = Matching {
            selected: vec![false; self.names.len()],
            far: FxHashSet::default(),
            entries: Vec::new(),
            first: u64::MAX,
            last: 0,
        };
        for pattern in filter.patterns() {
            let _ = self.map.for_each_match::<()>(pattern, |_, entry| {
                let is_new = match matching.selected.get_mut(entry.number as usize) {
                    Some(selected) => !std::mem::replace(selected, true),
                    None => matching.far.insert(entry.number),
                };
                if is_new {
                    let (first, last) = entry.bounds();
                    matching.first = matching.first.min(first);
                    matching.last = matching.last.max(last);
                    matching.entries.push((entry.count, first, last));
                }
                ControlFlow::Continue(())
            });
        }
        matching
    }
}

fn new_entry(number: u32, state: SubjectState) -> Entry {
    Entry {
        number,
        count: state.count,
        first: Cell::new(state.first),
        first_exact: Cell::new(true),
        last: Cell::new(state.last),
        last_exact: Cell::new(true),
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
    fn a_number_far_beyond_the_others_takes_no_room_for_those_in_between() {
        let mut subjects = Subjects::default();
        subjects.restore(Bytes::from_static(b"near"), 3, STATE, 2);
        subjects.restore(Bytes::from_static(b"far"), u32::MAX - 1, STATE, 2);
        subjects.finish_restore();
        assert!(subjects.names.len() < 10);
        assert_eq!((&subjects.name(3)[..], &subjects.name(u32::MAX - 1)[..]), (&b"near"[..], &b"far"[..]));
        let matching = subjects.matching(&Filter::new(["far"]));
        assert!(matching.contains(u32::MAX - 1) && !matching.contains(3));
        subjects.remove(u32::MAX - 1, 5);
        assert!(subjects.get(b"far").is_none() && subjects.name(u32::MAX - 1).is_empty());
    }

    #[test]
    fn numbers_that_were_far_are_not_given_twice() {
        let mut subjects = Subjects::default();
        let far = u32::try_from(NEAR_MIN).unwrap();
        subjects.restore(Bytes::from_static(b"far"), far, STATE, 1);
        subjects.finish_restore();
        for number in 0..=far {
            subjects.add(&Bytes::from(format!("s{number}")), 9);
        }
        assert_eq!(&subjects.name(far)[..], b"far");
        assert_eq!(&subjects.name(far + 1)[..], format!("s{far}").as_bytes());
    }
}
