//! TEMPORARY in-memory glue until the file store is there.

use std::io::Read;
use std::ops::ControlFlow;

use bytes::Bytes;
use weir_jetstream::meta::StreamAssignment;
use weir_jetstream::{Filter, Lookup, MemStore, Store, StoreFailure, StoreState, StoredMessage, SubjectState};
use weir_stdx::time::UnixNanos;

use crate::context::Context;
use crate::replicated::SnapshotView;

#[derive(Debug, Default)]
pub(crate) struct StreamStore(MemStore);

impl StreamStore {
    pub(crate) fn open(_context: &Context, _assignment: &StreamAssignment) -> Result<(Self, Bytes), String> {
        Ok((Self::default(), Bytes::new()))
    }

    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(crate) fn checkpoint(&mut self, _index: u64, _extra: &[u8]) -> Result<(), String> {
        Err("no store".to_owned())
    }

    pub(crate) fn snapshot(&mut self) -> Result<SnapshotView, String> {
        Err("no store".to_owned())
    }

    pub(crate) fn snapshot_install(&mut self, _content: &mut dyn Read) -> Result<(), String> {
        Err("no store".to_owned())
    }
}

impl Store for StreamStore {
    fn append(&mut self, message: &StoredMessage) -> Result<(), StoreFailure> {
        self.0.append(message)
    }
    fn get(&self, seq: u64) -> Result<Lookup, StoreFailure> {
        self.0.get(seq)
    }
    fn next_match(&self, filter: &Filter, from: u64) -> Result<Option<StoredMessage>, StoreFailure> {
        self.0.next_match(filter, from)
    }
    fn subject_state(&self, subject: &[u8]) -> Option<SubjectState> {
        self.0.subject_state(subject)
    }
    fn for_each_subject(&self, pattern: &[u8], visit: &mut dyn FnMut(&[u8], SubjectState) -> ControlFlow<()>) {
        self.0.for_each_subject(pattern, visit);
    }
    fn num_pending(&self, filter: &Filter, from: u64) -> u64 {
        self.0.num_pending(filter, from)
    }
    fn remove(&mut self, seq: u64, erase: bool) -> Result<bool, StoreFailure> {
        self.0.remove(seq, erase)
    }
    fn compact(&mut self, below: u64) -> Result<u64, StoreFailure> {
        self.0.compact(below)
    }
    fn skip_to(&mut self, seq: u64) -> Result<(), StoreFailure> {
        self.0.skip_to(seq)
    }
    fn seq_at_or_after(&self, time: UnixNanos) -> u64 {
        self.0.seq_at_or_after(time)
    }
    fn state(&self) -> StoreState {
        self.0.state()
    }
    fn deleted(&self, limit: usize) -> Vec<u64> {
        self.0.deleted(limit)
    }
    fn message_bytes(&self, subject: usize, headers: usize, payload: usize) -> u64 {
        self.0.message_bytes(subject, headers, payload)
    }
}
