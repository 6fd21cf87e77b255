//! A store in ordered maps, for tests: simple enough to be right by reading, slow.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

use crate::store::{Filter, Lookup, Store, StoreFailure, StoreState, StoredMessage, SubjectState};

#[derive(Debug, Default, Clone)]
pub struct MemStore {
    messages: BTreeMap<u64, StoredMessage>,
    subjects: BTreeMap<Bytes, Vec<u64>>,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    last_timestamp: UnixNanos,
    unreadable: Vec<u64>,
}

impl MemStore {
    /// From now on this message reads as damaged.
    pub fn damage(&mut self, seq: u64) {
        self.unreadable.push(seq);
    }

    fn settle_first(&mut self) {
        self.first_seq = match self.messages.first_key_value() {
            Some((&seq, _)) => seq,
            None if self.last_seq == 0 => 0,
            None => self.last_seq + 1,
        };
    }

    fn drop_message(&mut self, seq: u64) -> bool {
        let Some(message) = self.messages.remove(&seq) else { return false };
        self.bytes -= self.message_bytes(message.subject.len(), message.headers.len(), message.payload.len());
        if let Some(sequences) = self.subjects.get_mut(&message.subject) {
            sequences.retain(|&entry| entry != seq);
            if sequences.is_empty() {
                self.subjects.remove(&message.subject);
            }
        }
        true
    }
}

impl Store for MemStore {
    fn append(&mut self, message: &StoredMessage) -> Result<(), StoreFailure> {
        if message.seq <= self.last_seq {
            return Err(StoreFailure::Failed(format!(
                "sequence {} is not above {}",
                message.seq, self.last_seq
            )));
        }
        self.last_seq = message.seq;
        self.last_timestamp = message.timestamp;
        self.bytes += self.message_bytes(message.subject.len(), message.headers.len(), message.payload.len());
        self.subjects.entry(message.subject.clone()).or_default().push(message.seq);
        self.messages.insert(message.seq, message.clone());
        self.settle_first();
        Ok(())
    }

    fn get(&self, seq: u64) -> Result<Lookup, StoreFailure> {
        if self.unreadable.contains(&seq) {
            return Ok(Lookup::Unreadable);
        }
        Ok(self.messages.get(&seq).map_or(Lookup::Missing, |message| Lookup::Found(message.clone())))
    }

    fn next_match(&self, filter: &Filter, from: u64) -> Result<Option<StoredMessage>, StoreFailure> {
        let found = self.messages.range(from..).find(|(_, message)| filter.matches(&message.subject));
        match found {
            Some((seq, _)) if self.unreadable.contains(seq) => Err(StoreFailure::Unreadable { seq: *seq }),
            found => Ok(found.map(|(_, message)| message.clone())),
        }
    }

    fn subject_state(&self, subject: &[u8]) -> Option<SubjectState> {
        let sequences = self.subjects.get(subject)?;
        Some(SubjectState {
            count: sequences.len() as u64,
            first: *sequences.first()?,
            last: *sequences.last()?,
        })
    }

    fn for_each_subject(
        &self,
        pattern: &[u8],
        visit: &mut dyn FnMut(&[u8], SubjectState) -> ControlFlow<()>,
    ) {
        for subject in self.subjects.keys().filter(|subject| weir_subject::matches(pattern, subject)) {
            if let Some(state) = self.subject_state(subject)
                && visit(subject, state).is_break()
            {
                return;
            }
        }
    }

    fn num_pending(&self, filter: &Filter, from: u64) -> u64 {
        self.messages.range(from..).filter(|(_, message)| filter.matches(&message.subject)).count() as u64
    }

    fn remove(&mut self, seq: u64, _erase: bool) -> Result<bool, StoreFailure> {
        let removed = self.drop_message(seq);
        self.settle_first();
        Ok(removed)
    }

    fn compact(&mut self, below: u64) -> Result<u64, StoreFailure> {
        let gone: Vec<u64> = self.messages.range(..below).map(|(&seq, _)| seq).collect();
        for seq in &gone {
            self.drop_message(*seq);
        }
        self.last_seq = self.last_seq.max(below.saturating_sub(1));
        self.settle_first();
        Ok(gone.len() as u64)
    }

    fn skip_to(&mut self, seq: u64) -> Result<(), StoreFailure> {
        self.last_seq = self.last_seq.max(seq);
        self.settle_first();
        Ok(())
    }

    fn seq_at_or_after(&self, time: UnixNanos) -> u64 {
        let found = self.messages.iter().find(|(_, message)| message.timestamp >= time);
        found.map_or(self.last_seq + 1, |(&seq, _)| seq)
    }

    fn state(&self) -> StoreState {
        let messages = self.messages.len() as u64;
        let span = if messages == 0 { 0 } else { self.last_seq - self.first_seq + 1 };
        StoreState {
            messages,
            bytes: self.bytes,
            first_seq: self.first_seq,
            first_timestamp: self
                .messages
                .first_key_value()
                .map_or(UnixNanos::ZERO, |(_, message)| message.timestamp),
            last_seq: self.last_seq,
            last_timestamp: self.last_timestamp,
            num_subjects: self.subjects.len() as u64,
            num_deleted: span - messages.min(span),
        }
    }

    fn deleted(&self, limit: usize) -> Vec<u64> {
        if self.messages.is_empty() {
            return Vec::new();
        }
        (self.first_seq..=self.last_seq).filter(|seq| !self.messages.contains_key(seq)).take(limit).collect()
    }

    fn message_bytes(&self, subject: usize, headers: usize, payload: usize) -> u64 {
        (subject + headers + payload + 16) as u64
    }
}
