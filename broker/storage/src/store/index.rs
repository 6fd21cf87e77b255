//! Where the messages of one segment lie: 12 bytes and one bit a message, 16 bytes once a segment has holes.
//! The sizes and subjects of messages are known without reading them, so that limits remove messages
//! without touching the disk.

use super::chunks::Chunks;
use super::framed::{Reader, put_u64};

/// Where a record lies, and the number of its subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) subject: u32,
}

/// The slots of a segment in the order of their sequences.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentIndex {
    base_seq: u64,
    slots: Vec<Slot>,
    /// One bit a slot.
    live: Vec<u64>,
    /// Distances from `base_seq`, when the slots are not one a sequence.
    distances: Option<Vec<u32>>,
    /// Of a coded segment.
    pub(crate) chunks: Chunks,
}

/// A hole of more sequences than this is not bridged with empty slots.
pub(crate) const HOLE_MAX: u64 = 1024;

impl SegmentIndex {
    pub(crate) fn new(base_seq: u64) -> Self {
        Self { base_seq, ..Self::default() }
    }

    /// For records that are far from contiguous.
    pub(crate) fn sparse(base_seq: u64) -> Self {
        Self { base_seq, distances: Some(Vec::new()), ..Self::default() }
    }

    /// From now on records may be far from contiguous.
    pub(crate) fn make_sparse(&mut self) {
        let count = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.distances.get_or_insert_with(|| (0..count).collect());
    }

    /// Gives back the memory that is ahead of what it holds.
    pub(crate) fn shrink(&mut self) {
        self.slots.shrink_to_fit();
        self.live.shrink_to_fit();
        self.distances.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// True when the sequence can be the next one.
    pub(crate) fn accepts(&self, seq: u64) -> bool {
        let Some(distance) = seq.checked_sub(self.base_seq) else { return false };
        match &self.distances {
            Some(_) => u32::try_from(distance).is_ok(),
            None => distance.saturating_sub(self.slots.len() as u64) <= HOLE_MAX,
        }
    }

    /// Adds a live record behind the others; `accepts` was asked before.
    pub(crate) fn push(&mut self, seq: u64, slot: Slot) {
        let distance = seq - self.base_seq;
        match &mut self.distances {
            Some(distances) => distances.push(u32::try_from(distance).unwrap_or(u32::MAX)),
            None => {
                let position = usize::try_from(distance).unwrap_or(usize::MAX);
                self.slots.resize(position, Slot::default());
            }
        }
        let position = self.slots.len();
        self.slots.push(slot);
        self.live.resize(position / 64 + 1, 0);
        self.live[position / 64] |= 1 << (position % 64);
    }

    /// The first position at or after a sequence.
    fn position_from(&self, seq: u64) -> usize {
        let distance = seq.saturating_sub(self.base_seq);
        match &self.distances {
            Some(distances) => distances.partition_point(|&at| u64::from(at) < distance),
            None => usize::try_from(distance).unwrap_or(usize::MAX).min(self.slots.len()),
        }
    }

    fn seq_at(&self, position: usize) -> u64 {
        match &self.distances {
            Some(distances) => self.base_seq + u64::from(distances.get(position).copied().unwrap_or(0)),
            None => self.base_seq + position as u64,
        }
    }

    fn is_live_at(&self, position: usize) -> bool {
        self.live.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// The slot of a live sequence.
    pub(crate) fn get(&self, seq: u64) -> Option<Slot> {
        if seq < self.base_seq {
            return None;
        }
        let position = self.position_from(seq);
        (position < self.slots.len() && self.seq_at(position) == seq && self.is_live_at(position))
            .then(|| self.slots[position])
    }

    /// Takes a live sequence out.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<Slot> {
        let slot = self.get(seq)?;
        let position = self.position_from(seq);
        self.live[position / 64] &= !(1 << (position % 64));
        Some(slot)
    }

    fn next_live_position(&self, from: usize) -> Option<usize> {
        let mut word_at = from / 64;
        let mut word = self.live.get(word_at)? & (u64::MAX << (from % 64));
        while word == 0 {
            word_at += 1;
            word = *self.live.get(word_at)?;
        }
        Some(word_at * 64 + word.trailing_zeros() as usize)
    }

    /// The first live sequence in `from..=to` whose subject passes.
    pub(crate) fn next_where(
        &self,
        from: u64,
        to: u64,
        mut passes: impl FnMut(u32) -> bool,
    ) -> Option<(u64, Slot)> {
        let mut position = self.position_from(from);
        loop {
            position = self.next_live_position(position)?;
            let seq = self.seq_at(position);
            if seq > to {
                return None;
            }
            if passes(self.slots[position].subject) {
                return Some((seq, self.slots[position]));
            }
            position += 1;
        }
    }

    /// The last live sequence in `from..=to` of a subject.
    pub(crate) fn previous_with(&self, subject: u32, from: u64, to: u64) -> Option<u64> {
        let mut position = self.position_from(to.saturating_add(1));
        while position > 0 {
            position -= 1;
            let seq = self.seq_at(position);
            if seq < from {
                return None;
            }
            if self.slots[position].subject == subject && self.is_live_at(position) {
                return Some(seq);
            }
        }
        None
    }

    /// How many live sequences there are at or after `seq`.
    pub(crate) fn count_from(&self, seq: u64) -> u64 {
        let position = self.position_from(seq);
        let first = position / 64;
        let mask = u64::MAX << (position % 64);
        let words = self.live.iter().enumerate().skip(first);
        words.map(|(at, word)| u64::from((if at == first { word & mask } else { *word }).count_ones())).sum()
    }

    /// Live sequences in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Slot)> + '_ {
        let mut position = 0;
        std::iter::from_fn(move || {
            let found = self.next_live_position(position)?;
            position = found + 1;
            Some((self.seq_at(found), self.slots[found]))
        })
    }

    /// The live slots as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = self.count_from(0);
        let mut buffer = Vec::with_capacity(usize::try_from(count).unwrap_or(0) * 6 + 16);
        put_u64(&mut buffer, self.base_seq);
        put_u64(&mut buffer, count);
        let (mut previous_seq, mut previous_end) = (self.base_seq, 0);
        for (seq, slot) in self.iter() {
            put_u64(&mut buffer, seq - previous_seq);
            put_u64(&mut buffer, u64::from(slot.offset.wrapping_sub(previous_end)));
            put_u64(&mut buffer, u64::from(slot.length));
            put_u64(&mut buffer, u64::from(slot.subject));
            (previous_seq, previous_end) = (seq, slot.offset.wrapping_add(slot.length));
        }
        if !self.chunks.is_empty() {
            self.chunks.encode(&mut buffer);
        }
        buffer
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let base_seq = reader.u64()?;
        let count = usize::try_from(reader.u64()?).ok()?;
        let mut live = Vec::with_capacity(count.min(bytes.len()));
        let (mut seq, mut end) = (base_seq, 0_u32);
        for _ in 0..count {
            seq = seq.checked_add(reader.u64()?)?;
            let offset = end.wrapping_add(reader.u32()?);
            let (length, subject) = (reader.u32()?, reader.u32()?);
            end = offset.wrapping_add(length);
            live.push((seq, Slot { offset, length, subject }));
        }
        // One slot a sequence only where most sequences are live.
        let dense = seq - base_seq < 2 * count as u64 + HOLE_MAX;
        let mut index = if dense { Self::new(base_seq) } else { Self::sparse(base_seq) };
        if !dense && u32::try_from(seq - base_seq).is_err() {
            return None;
        }
        for (seq, slot) in live {
            if index.slots.last().is_some() && seq <= index.seq_at(index.slots.len() - 1) {
                return None;
            }
            index.push(seq, slot);
        }
        if !reader.is_empty() {
            index.chunks = Chunks::decode(&mut reader)?;
        }
        reader.is_empty().then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot(number: u32) -> Slot {
        Slot { offset: number * 100, length: 90, subject: number % 3 }
    }

    proptest! {
        #[test]
        fn answers_like_an_ordered_map(
            gaps in prop::collection::vec(prop_oneof![Just(1_u64), 1..5_u64, Just(900)], 1..120),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..100),
            sparse in any::<bool>(),
        ) {
            let base = 1000;
            let mut index = if sparse { SegmentIndex::sparse(base) } else { SegmentIndex::new(base) };
            let mut model = std::collections::BTreeMap::new();
            let mut seq = base - 1;
            for (number, gap) in (0..).zip(&gaps) {
                seq += gap;
                prop_assert!(index.accepts(seq));
                index.push(seq, slot(number));
                model.insert(seq, slot(number));
            }
            let all: Vec<u64> = model.keys().copied().collect();
            for choice in removed {
                let seq = all[choice.index(all.len())];
                prop_assert_eq!(index.remove(seq), model.remove(&seq));
            }
            let decoded = SegmentIndex::decode(&index.encode()).unwrap();
            for index in [&index, &decoded] {
                prop_assert!(index.iter().eq(model.iter().map(|(&seq, &slot)| (seq, slot))));
                for probe in (base - 2..=seq + 2).step_by(if seq > 3000 { 37 } else { 1 }) {
                    prop_assert_eq!(index.get(probe), model.get(&probe).copied());
                    let next = index.next_where(probe, u64::MAX, |_| true).map(|found| found.0);
                    prop_assert_eq!(next, model.range(probe..).next().map(|f| *f.0));
                    prop_assert_eq!(index.count_from(probe), model.range(probe..).count() as u64);
                    let next = model.range(probe..).find(|(_, slot)| slot.subject == 1).map(|found| *found.0);
                    prop_assert_eq!(index.next_where(probe, u64::MAX, |s| s == 1).map(|found| found.0), next);
                    let previous = model.range(..=probe).rev().find(|(_, slot)| slot.subject == 1).map(|f| *f.0);
                    prop_assert_eq!(index.previous_with(1, 0, probe), previous);
                }
            }
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = SegmentIndex::decode(&bytes);
        }
    }
}
