//! What memory holds of one group: where each live entry lies, the recent payloads, the small values.
//! It shows what callers asked for, at once; the writer makes it durable in the same order.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;

use super::record::record_bytes;
use super::{GroupId, JournalEntry, LogRange};
use crate::error::StorageError;

/// Where an entry lies. `PENDING`: not written yet, `offset` then holds the ticket of its request.
/// `MISSING`: it should be there, but its bytes are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) term: u64,
}

pub(crate) const PENDING: u32 = 0;
pub(crate) const MISSING: u32 = u32::MAX;

impl Slot {
    pub(crate) const fn is_on_disk(&self) -> bool {
        self.generation != PENDING && self.generation != MISSING
    }

    /// Bytes its record takes.
    pub(crate) const fn bytes(&self) -> u64 {
        record_bytes(self.length as usize) as u64
    }
}

/// Entries that left the log, by the generation of their file: (entries, bytes of their records).
pub(crate) type Released = BTreeMap<u32, (u64, u64)>;

/// A group. Its lock is taken before the queue's.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) log: Mutex<GroupLog>,
}

/// The log as callers see it.
#[derive(Debug, Default)]
pub(crate) struct GroupLog {
    purged_to: Option<u64>,
    /// Index of `slots[0]`; the next index when empty and `started`.
    first: u64,
    /// An entry was appended or purged before: the next index is known.
    started: bool,
    slots: VecDeque<Slot>,
    /// Payloads of the last `recent.len()` entries.
    recent: VecDeque<Bytes>,
    states: BTreeMap<u8, Bytes>,
    next_ticket: u32,
    dropped: bool,
    /// A record stated more missing entries than there can be: what the log holds is not what it held.
    overstated: bool,
}

/// Entries of one log that may be missing in a row (24 bytes of memory each). Where a record states more, whatever its
/// checksum says, no room is made for them: the log ends before them and is in doubt.
const MISSING_MAX: u64 = 1 << 20;

/// Where to read entries from.
#[derive(Debug)]
pub(crate) enum Source {
    Memory(JournalEntry),
    Disk { index: u64, slot: Slot },
}

impl GroupLog {
    pub(crate) fn range(&self) -> LogRange {
        let last = match (self.slots.len() as u64, self.started) {
            (0, false) => 0,
            (count, _) => (self.first + count).saturating_sub(1),
        };
        let first = if self.started { self.first } else { 1 };
        LogRange { purged_to: self.purged_to.unwrap_or(0), first, last }
    }

    pub(crate) fn next_index(&self) -> Option<u64> {
        self.started.then(|| self.first + self.slots.len() as u64)
    }

    pub(crate) fn state(&self, key: u8) -> Option<Bytes> {
        self.states.get(&key).cloned()
    }

    pub(crate) fn states(&self) -> BTreeMap<u8, Bytes> {
        self.states.clone()
    }

    pub(crate) fn put_state(&mut self, key: u8, value: Bytes) {
        self.states.insert(key, value);
    }

    pub(crate) fn slot(&self, index: u64) -> Option<Slot> {
        let position = index.checked_sub(self.first)?;
        self.slots.get(usize::try_from(position).ok()?).copied()
    }

    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        self.slot(index).map(|slot| slot.term)
    }

    /// Adds entries that are on their way to the disk; returns their ticket.
    pub(crate) fn push(&mut self, group: GroupId, entries: &[JournalEntry]) -> Result<u32, StorageError> {
        let next = self.next_index().unwrap_or_else(|| entries.first().map_or(1, |entry| entry.index));
        for (expected, entry) in (next..).zip(entries) {
            if entry.index != expected {
                return Err(StorageError::NotContiguous { group, expected, got: entry.index });
            }
        }
        if let (false, Some(entry)) = (self.started, entries.first()) {
            self.first = entry.index;
            self.started = true;
        }
        self.next_ticket = self.next_ticket.wrapping_add(1);
        for entry in entries {
            let length = u32::try_from(entry.payload.len()).unwrap_or(u32::MAX);
            let slot = Slot { generation: PENDING, offset: self.next_ticket, length, term: entry.term };
            self.slots.push_back(slot);
            self.recent.push_back(entry.payload.clone());
        }
        Ok(self.next_ticket)
    }

    /// Notes where a pending entry was written. False when it has left the log since.
    pub(crate) fn place(&mut self, index: u64, ticket: u32, slot: Slot) -> bool {
        match self.slot_mut(index) {
            Some(held) if held.generation == PENDING && held.offset == ticket => {
                *held = slot;
                true
            }
            _ => false,
        }
    }

    /// Moves an entry to another place, if it still lies where it was.
    pub(crate) fn relocate(&mut self, index: u64, from: Slot, to: Slot) -> bool {
        match self.slot_mut(index) {
            Some(held) if *held == from => {
                *held = to;
                true
            }
            _ => false,
        }
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let position = index.checked_sub(self.first)?;
        self.slots.get_mut(usize::try_from(position).ok()?)
    }

    /// Removes entries after `index`.
    pub(crate) fn truncate_after(&mut self, index: u64, released: &mut Released) {
        if !self.started {
            return;
        }
        let keep = usize::try_from(index.saturating_add(1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        while self.slots.len() > keep {
            self.recent.pop_back();
            if let Some(slot) = self.slots.pop_back() {
                release(released, slot);
            }
        }
    }

    /// Removes entries up to and including `index`.
    pub(crate) fn purge_to(&mut self, index: u64, released: &mut Released) {
        if self.purged_to.is_some_and(|purged| purged >= index) {
            return;
        }
        self.purged_to = Some(index);
        self.started = true;
        while self.first <= index {
            let Some(slot) = self.slots.pop_front() else { break };
            self.first += 1;
            release(released, slot);
        }
        if self.slots.is_empty() {
            self.first = self.first.max(index.saturating_add(1));
        }
        while self.recent.len() > self.slots.len() {
            self.recent.pop_front();
        }
    }

    /// The group is dropped: everything leaves.
    pub(crate) fn clear(&mut self) -> Released {
        let mut released = Released::new();
        self.slots.drain(..).for_each(|slot| release(&mut released, slot));
        *self = Self { dropped: true, next_ticket: self.next_ticket, ..Self::default() };
        released
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Forgets the payload of `index` and everything before it; called in the order of writing.
    pub(crate) fn forget_payload(&mut self, index: u64) {
        let end = self.first + self.slots.len() as u64;
        let recent_first = end - self.recent.len() as u64;
        if index < recent_first {
            return;
        }
        let count = usize::try_from(index + 1 - recent_first).unwrap_or(usize::MAX).min(self.recent.len());
        // A pending entry lives nowhere else.
        let written = (0..count as u64)
            .take_while(|ahead| {
                self.slot(recent_first + ahead).is_some_and(|slot| slot.generation != PENDING)
            })
            .count();
        self.recent.drain(..written);
    }

    /// Up to `max_bytes` (and at least one) of the entries `from..to`.
    pub(crate) fn sources(&self, from: u64, to: u64, max_bytes: usize) -> Vec<Source> {
        let end = self.first + self.slots.len() as u64;
        let recent_first = end - self.recent.len() as u64;
        let mut sources = Vec::new();
        let mut bytes = 0;
        for index in from..to.min(end) {
            let Some(slot) = self.slot(index) else { break };
            bytes += slot.length as usize;
            if bytes > max_bytes && !sources.is_empty() {
                break;
            }
            let cached =
                index.checked_sub(recent_first).and_then(|at| self.recent.get(usize::try_from(at).ok()?));
            sources.push(match cached {
                Some(payload) => {
                    Source::Memory(JournalEntry { index, term: slot.term, payload: payload.clone() })
                }
                None => Source::Disk { index, slot },
            });
        }
        sources
    }

    /// Entries that lie in a file: index and slot, at most `limit`.
    pub(crate) fn slots_in(&self, generation: u32, limit: usize) -> Vec<(u64, Slot)> {
        (self.first..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.generation == generation)
            .map(|(index, slot)| (index, *slot))
            .take(limit)
            .collect()
    }

    /// (entries, bytes) in a file.
    pub(crate) fn weight_in(&self, generation: u32) -> (u64, u64) {
        self.slots
            .iter()
            .filter(|slot| slot.generation == generation)
            .fold((0, 0), |(count, bytes), slot| (count + 1, bytes + slot.bytes()))
    }

    // What recovery replays. Entries it cannot see are `MISSING` until a later record resolves them.

    /// Replays an entry: it continues the log, replaces its tail, or shows a gap before it.
    pub(crate) fn replay_entry(&mut self, index: u64, slot: Slot, released: &mut Released) {
        match self.next_index() {
            None => {
                self.first = index;
                self.started = true;
            }
            Some(next) if index > next => {
                if !self.extend_missing(index - 1) {
                    return;
                }
            }
            Some(next) if index < next => {
                if index < self.first {
                    // Only damage can make an entry reappear below what was purged; later records decide.
                    return;
                }
                self.truncate_after(index.saturating_sub(1), released);
                if index == 0 {
                    self.slots.drain(..).for_each(|slot| release(released, slot));
                }
            }
            Some(_) => {}
        }
        self.slots.push_back(slot);
    }

    /// Replays an entry moved forward.
    pub(crate) fn replay_moved(&mut self, index: u64, slot: Slot) {
        if let Some(held) = self.slot_mut(index) {
            *held = slot;
        }
    }

    /// Replays the base of a file: what the group was when the file began.
    pub(crate) fn replay_base(&mut self, base: &Base, released: &mut Released) {
        self.states.clone_from(&base.states);
        self.replay_positions(base, released);
    }

    /// Brings the log to stated positions; entries that are not there are missing.
    pub(crate) fn replay_positions(&mut self, base: &Base, released: &mut Released) {
        if let Some(purged) = base.purged_to {
            self.purge_to(purged, released);
        }
        if let Some(next) = base.next_index {
            if !self.started {
                self.started = true;
                self.first = base.purged_to.map_or(base.first, |purged| purged.saturating_add(1));
            }
            // Its first entries may be those that were lost.
            let first = base.purged_to.map_or(base.first, |purged| purged.saturating_add(1));
            if self.first.saturating_sub(first) > MISSING_MAX {
                self.overstated = true;
                return;
            }
            while self.first > first {
                self.slots.push_front(Slot { generation: MISSING, offset: 0, length: 0, term: 0 });
                self.first -= 1;
            }
            self.truncate_after_count(next, released);
            if let Some(last) = next.checked_sub(1) {
                self.extend_missing(last);
            }
        }
    }

    fn truncate_after_count(&mut self, next: u64, released: &mut Released) {
        while self.first + self.slots.len() as u64 > next {
            let Some(slot) = self.slots.pop_back() else { break };
            release(released, slot);
        }
    }

    /// False when that is not believed.
    fn extend_missing(&mut self, last: u64) -> bool {
        let end = self.first.saturating_add(self.slots.len() as u64);
        if last.saturating_add(1).saturating_sub(end) > MISSING_MAX {
            self.overstated = true;
            return false;
        }
        while self.first + (self.slots.len() as u64) <= last {
            self.slots.push_back(Slot { generation: MISSING, offset: 0, length: 0, term: 0 });
        }
        true
    }

    /// A record stated more missing entries than there can be.
    pub(crate) fn is_overstated(&self) -> bool {
        self.overstated
    }

    /// Live entries and their bytes by file.
    pub(crate) fn weights(&self) -> Released {
        let mut weights = Released::new();
        self.slots.iter().for_each(|slot| release(&mut weights, *slot));
        weights
    }

    /// Entries that should be there and are not.
    pub(crate) fn missing(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (index, slot) in (self.first..).zip(&self.slots) {
            if slot.generation == MISSING {
                match ranges.last_mut() {
                    Some(range) if range.end == index => range.end += 1,
                    _ => ranges.push(index..index + 1),
                }
            }
        }
        ranges
    }
}

fn release(released: &mut Released, slot: Slot) {
    if slot.is_on_disk() {
        let entry = released.entry(slot.generation).or_default();
        entry.0 += 1;
        entry.1 += slot.bytes();
    }
}

/// What the written part of the log says of a group, without its entries: restated at the start of every
/// file, so that older files are needed for entries only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) purged_to: Option<u64>,
    /// Index of the first entry, meaningful when nothing was purged.
    pub(crate) first: u64,
    pub(crate) next_index: Option<u64>,
    pub(crate) states: BTreeMap<u8, Bytes>,
}

impl Base {
    pub(crate) fn append(&mut self, index: u64) {
        if self.next_index.is_none() {
            self.first = index;
        }
        self.next_index = Some(index.saturating_add(1));
    }

    pub(crate) fn truncate_after(&mut self, index: u64) {
        let floor = self.purged_to.map_or(self.first, |purged| purged.saturating_add(1));
        if let Some(next) = self.next_index {
            self.next_index = Some(next.min(index.saturating_add(1)).max(floor));
        }
    }

    pub(crate) fn purge_to(&mut self, index: u64) {
        if self.purged_to.is_none_or(|purged| purged < index) {
            self.purged_to = Some(index);
            let end = index.saturating_add(1);
            self.next_index = Some(self.next_index.map_or(end, |next| next.max(end)));
        }
    }

    fn states_crc(&self) -> u32 {
        self.states
            .iter()
            .fold(0, |crc, (key, value)| crc32c::crc32c_append(crc32c::crc32c_append(crc, &[*key]), value))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        bytes.push(u8::from(self.purged_to.is_some()) | u8::from(self.next_index.is_some()) << 1);
        bytes.extend_from_slice(&self.purged_to.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.next_index.unwrap_or(0).to_le_bytes());
        for (key, value) in &self.states {
            bytes.push(*key);
            bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(value);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(25)?;
        let number = |at: usize| super::record::u64_at(head, at);
        let mut states = BTreeMap::new();
        while let Some((&key, after)) = rest.split_first() {
            let (length, after) = after.split_at_checked(4)?;
            let length = usize::try_from(super::record::u32_at(length, 0)).ok()?;
            let (value, after) = after.split_at_checked(length)?;
            states.insert(key, Bytes::copy_from_slice(value));
            rest = after;
        }
        Some(Self {
            purged_to: (head[0] & 1 != 0).then(|| number(1)),
            first: number(9),
            next_index: (head[0] & 2 != 0).then(|| number(17)),
            states,
        })
    }
}

/// What a mark says of a group that changed since the mark before: enough to notice that records between
/// them were lost, and which entries they held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) group: u64,
    /// None when the group was dropped.
    positions: Option<(Option<u64>, u64, Option<u64>)>,
    states_crc: u32,
}

impl Summary {
    const BYTES: usize = 37;

    pub(crate) fn of(group: GroupId, base: Option<&Base>) -> Self {
        Self {
            group: group.0,
            positions: base.map(|base| (base.purged_to, base.first, base.next_index)),
            states_crc: base.map_or(0, Base::states_crc),
        }
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        let (purged_to, first, next_index) = self.positions.unwrap_or_default();
        buffer.extend_from_slice(&self.group.to_le_bytes());
        buffer.push(
            u8::from(self.positions.is_some())
                | u8::from(purged_to.is_some()) << 1
                | u8::from(next_index.is_some()) << 2,
        );
        for value in [purged_to.unwrap_or(0), first, next_index.unwrap_or(0)] {
            buffer.extend_from_slice(&value.to_le_bytes());
        }
        buffer.extend_from_slice(&self.states_crc.to_le_bytes());
    }

    /// The summaries behind each other in `bytes`.
    pub(crate) fn decode_all(bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        bytes.chunks_exact(Self::BYTES).map(|bytes| {
            let number = |at: usize| super::record::u64_at(bytes, at);
            let flags = bytes[8];
            let purged_to = (flags & 2 != 0).then(|| number(9));
            let next_index = (flags & 4 != 0).then(|| number(25));
            Self {
                group: number(0),
                positions: (flags & 1 != 0).then(|| (purged_to, number(17), next_index)),
                states_crc: super::record::u32_at(bytes, 33),
            }
        })
    }

    /// What the group was, values aside; none when it was dropped.
    pub(crate) fn base(&self) -> Option<Base> {
        let (purged_to, first, next_index) = self.positions?;
        Some(Base { purged_to, first, next_index, ..Base::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: Range<u64>) -> Vec<JournalEntry> {
        range.map(|index| JournalEntry { index, term: 1, payload: Bytes::from_static(b"xy") }).collect()
    }

    fn place_all(log: &mut GroupLog, range: Range<u64>, ticket: u32, generation: u32) {
        for index in range {
            let offset = u32::try_from(index).unwrap();
            assert!(log.place(index, ticket, Slot { generation, offset, length: 2, term: 1 }));
        }
    }

    #[test]
    fn a_log_may_start_anywhere_and_then_only_continue() {
        let mut log = GroupLog::default();
        assert_eq!(log.range(), LogRange { purged_to: 0, first: 1, last: 0 });
        log.push(GroupId(1), &entries(0..3)).unwrap();
        assert_eq!(log.range(), LogRange { purged_to: 0, first: 0, last: 2 });
        let error = log.push(GroupId(1), &entries(5..6)).unwrap_err();
        assert!(matches!(error, StorageError::NotContiguous { expected: 3, got: 5, .. }));
    }

    #[test]
    fn purge_beyond_the_end_moves_the_log_forward() {
        let mut log = GroupLog::default();
        log.push(GroupId(1), &entries(1..4)).unwrap();
        log.purge_to(10, &mut Released::new());
        assert_eq!(log.range(), LogRange { purged_to: 10, first: 11, last: 10 });
        log.push(GroupId(1), &entries(11..12)).unwrap();
        assert_eq!(log.range().last, 11);
    }

    #[test]
    fn a_replaced_entry_does_not_take_the_place_of_the_one_it_replaced() {
        let mut log = GroupLog::default();
        let first = log.push(GroupId(1), &entries(1..3)).unwrap();
        log.truncate_after(1, &mut Released::new());
        let second = log.push(GroupId(1), &entries(2..3)).unwrap();
        assert!(!log.place(2, first, Slot { generation: 1, offset: 8, length: 2, term: 1 }));
        place_all(&mut log, 2..3, second, 1);
    }

    #[test]
    fn released_entries_are_counted_for_their_file() {
        let mut log = GroupLog::default();
        let ticket = log.push(GroupId(1), &entries(1..6)).unwrap();
        place_all(&mut log, 1..4, ticket, 1);
        place_all(&mut log, 4..6, ticket, 2);
        let mut released = Released::new();
        log.purge_to(2, &mut released);
        log.truncate_after(4, &mut released);
        assert_eq!(released, Released::from([(1, (2, 112)), (2, (1, 56))]));
    }

    #[test]
    fn payloads_of_pending_entries_are_not_forgotten() {
        let mut log = GroupLog::default();
        let ticket = log.push(GroupId(1), &entries(1..4)).unwrap();
        place_all(&mut log, 1..3, ticket, 1);
        log.forget_payload(3);
        let sources = log.sources(1, 9, usize::MAX);
        assert!(matches!(sources[..], [Source::Disk { .. }, Source::Disk { .. }, Source::Memory(_)]));
    }

    #[test]
    fn a_record_that_states_more_entries_than_there_can_be_is_not_believed() {
        let stated = |first, next| Base { first, next_index: Some(next), ..Base::default() };
        for (held, base) in
            [(1..4, stated(1, u64::MAX)), (u64::MAX - 9..u64::MAX - 6, stated(1, u64::MAX - 6))]
        {
            let mut log = GroupLog::default();
            log.push(GroupId(1), &entries(held)).unwrap();
            log.replay_positions(&base, &mut Released::new());
            assert!(log.is_overstated() && log.slots.len() == 3);
        }
        let mut log = GroupLog::default();
        let slot = Slot { generation: 1, offset: 8, length: 2, term: 1 };
        for index in [1, u64::MAX - 1, 2] {
            log.replay_entry(index, slot, &mut Released::new());
        }
        assert!(log.is_overstated() && log.range().last == 2);
        let mut log = GroupLog::default();
        log.replay_positions(&stated(1, 1000), &mut Released::new());
        assert!(!log.is_overstated() && log.missing()[0] == (1..1000));
    }

    #[test]
    fn base_reads_back() {
        let mut base = Base::default();
        assert_eq!(Base::decode(&base.encode()), Some(base.clone()));
        base.append(5);
        base.append(6);
        base.purge_to(5);
        base.states.insert(3, Bytes::from_static(b"vote"));
        base.states.insert(4, Bytes::new());
        assert_eq!(Base::decode(&base.encode()), Some(base.clone()));
        let summaries = [Summary::of(GroupId(3), Some(&base)), Summary::of(GroupId(4), None)];
        let mut bytes = Vec::new();
        summaries.iter().for_each(|summary| summary.encode(&mut bytes));
        assert!(Summary::decode_all(&bytes).eq(summaries));
        for length in 0..base.encode().len() {
            let _ = Base::decode(&base.encode()[..length]);
        }
    }
}
