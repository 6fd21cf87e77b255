//! A message store in memory. Nothing of it survives the process: an owner without replicas starts empty.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::{Bound, ControlFlow};

use weir_stdx::time::UnixNanos;

use super::snapshot::{self, StoreSnapshot};
use super::subjects::{BySubject, Subjects};
use super::{Filter, Lookup, MessageStore, StoreState, StoredMessage, SubjectState, memory_message_bytes};
use crate::error::StorageError;

#[derive(Debug)]
struct Held {
    subject: u32,
    message: StoredMessage,
}

/// The store.
#[derive(Debug, Default)]
pub struct MemoryStore {
    messages: BTreeMap<u64, Held>,
    subjects: Subjects,
    bytes: u64,
    last_seq: u64,
    last_timestamp: UnixNanos,
}

impl MemoryStore {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn first_seq(&self) -> u64 {
        match self.messages.first_key_value() {
            Some((&seq, _)) => seq,
            None if self.last_seq == 0 => 0,
            None => self.last_seq + 1,
        }
    }

    fn take(&mut self, seq: u64) -> bool {
        let Some(held) = self.messages.remove(&seq) else { return false };
        self.subjects.remove(held.subject, seq);
        self.bytes -= bytes_of(&held.message);
        true
    }

    fn find(&self, from: u64, to: u64, mut passes: impl FnMut(u32) -> bool) -> Option<&Held> {
        if from > to {
            return None;
        }
        let range = (Bound::Included(from), Bound::Included(to));
        self.messages.range(range).map(|(_, held)| held).find(|held| passes(held.subject))
    }
}

fn bytes_of(message: &StoredMessage) -> u64 {
    memory_message_bytes(message.subject.len(), message.headers.len(), message.payload.len())
}

impl BySubject for MemoryStore {
    fn next_with(&self, subject: u32, from: u64, to: u64) -> Option<u64> {
        self.find(from, to, |number| number == subject).map(|held| held.message.seq)
    }

    fn previous_with(&self, subject: u32, from: u64, to: u64) -> Option<u64> {
        if from > to {
            return None;
        }
        let mut held = self.messages.range(from..=to).rev();
        held.find(|(_, held)| held.subject == subject).map(|(&seq, _)| seq)
    }
}

impl MessageStore for MemoryStore {
    fn append(&mut self, message: &StoredMessage) -> Result<(), StorageError> {
        let seq = message.seq;
        if seq <= self.last_seq {
            return Err(StorageError::SequenceOrder { last: self.last_seq, got: seq });
        }
        let subject = self.subjects.add(&message.subject, seq)?;
        self.bytes += bytes_of(message);
        self.last_seq = seq;
        self.last_timestamp = message.timestamp;
        self.messages.insert(seq, Held { subject, message: message.clone() });
        Ok(())
    }

    fn get(&self, seq: u64) -> Result<Lookup, StorageError> {
        Ok(self.messages.get(&seq).map_or(Lookup::Missing, |held| Lookup::Found(held.message.clone())))
    }

    fn next_match(&self, filter: &Filter, from: u64) -> Result<Option<StoredMessage>, StorageError> {
        let found = if filter.is_all() {
            self.find(from, u64::MAX, |_| true)
        } else if let Some(subject) = filter.single_literal() {
            let Some(entry) = self.subjects.get(subject) else { return Ok(None) };
            let (first, last) = entry.bounds();
            self.find(from.max(first), last, |number| number == entry.number)
        } else {
            self.find(from, u64::MAX, |number| filter.matches(self.subjects.name(number)))
        };
        Ok(found.map(|held| held.message.clone()))
    }

    fn subject_state(&self, subject: &[u8]) -> Option<SubjectState> {
        Some(self.subjects.get(subject)?.resolve(self))
    }

    fn for_each_subject(
        &self,
        pattern: &[u8],
        visit: &mut dyn FnMut(&[u8], SubjectState) -> ControlFlow<()>,
    ) {
        self.subjects.for_each_match(pattern, |subject, entry| visit(subject, entry.resolve(self)));
    }

    fn num_pending(&self, filter: &Filter, from: u64) -> u64 {
        if filter.is_all() {
            if from <= self.first_seq() {
                return self.messages.len() as u64;
            }
            return self.messages.range(from..).count() as u64;
        }
        let matching = self.subjects.matching(filter);
        matching.count_from(from).unwrap_or_else(|| {
            let held = self.messages.range(from..=matching.last);
            held.filter(|(_, held)| matching.contains(held.subject)).count() as u64
        })
    }

    fn remove(&mut self, seq: u64, _erase: bool) -> Result<bool, StorageError> {
        Ok(self.take(seq))
    }

    fn compact(&mut self, below: u64) -> Result<u64, StorageError> {
        let mut removed = 0;
        while let Some((&seq, _)) = self.messages.first_key_value()
            && seq < below
        {
            self.take(seq);
            removed += 1;
        }
        self.last_seq = self.last_seq.max(below.saturating_sub(1));
        Ok(removed)
    }

    fn skip_to(&mut self, seq: u64) -> Result<(), StorageError> {
        self.last_seq = self.last_seq.max(seq);
        Ok(())
    }

    fn seq_at_or_after(&self, time: UnixNanos) -> u64 {
        // The map cannot be halved by position: halve the sequences instead.
        let (mut low, mut high) = (self.first_seq(), self.last_seq.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.messages.range(middle..).next() {
                Some((_, held)) if held.message.timestamp < time => low = held.message.seq + 1,
                Some(_) => high = middle,
                None => high = middle,
            }
        }
        self.messages.range(low..).next().map_or(self.last_seq + 1, |(&seq, _)| seq)
    }

    fn state(&self) -> StoreState {
        let first = self.messages.first_key_value().map(|(_, held)| &held.message);
        let messages = self.messages.len() as u64;
        let span = if messages == 0 { 0 } else { self.last_seq - self.first_seq() + 1 };
        StoreState {
            messages,
            bytes: self.bytes,
            first_seq: self.first_seq(),
            first_timestamp: first.map_or(UnixNanos::ZERO, |message| message.timestamp),
            last_seq: self.last_seq,
            last_timestamp: self.last_timestamp,
            num_subjects: self.subjects.len(),
            num_deleted: span - messages,
        }
    }

    fn deleted(&self, limit: usize) -> Vec<u64> {
        let mut deleted = Vec::new();
        if self.messages.is_empty() {
            return deleted;
        }
        let mut expected = self.first_seq();
        let end = std::iter::once(self.last_seq + 1);
        for seq in self.messages.keys().copied().chain(end) {
            let room = limit - deleted.len();
            deleted.extend((expected..seq).take(room));
            if deleted.len() == limit {
                break;
            }
            expected = seq + 1;
        }
        deleted
    }

    fn message_bytes(&self, subject: usize, headers: usize, payload: usize) -> u64 {
        memory_message_bytes(subject, headers, payload)
    }

    fn checkpoint(&mut self, _applied_index: u64, _extra: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<StoreSnapshot, StorageError> {
        let messages = self.messages.values().map(|held| held.message.clone()).collect();
        Ok(StoreSnapshot::of_memory(self.state(), messages))
    }

    fn snapshot_install(&mut self, input: &mut dyn Read) -> Result<(), StorageError> {
        let mut new = Self::new();
        let state = snapshot::read(input, &mut |message| new.append(&message))?;
        new.skip_to(state.last_seq)?;
        new.last_timestamp = state.last_timestamp;
        *self = new;
        Ok(())
    }
}
