//! What the machines need of a message store. The real ones live in `weir-storage`; `weir-jetstream-node` joins the two.

use std::ops::ControlFlow;

pub use weir_messages::{Filter, Lookup, StoreState, StoredMessage, SubjectState};
use weir_stdx::time::UnixNanos;

/// Why a store could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    #[error("message {seq} is unreadable")]
    Unreadable { seq: u64 },
    #[error("{0}")]
    Failed(String),
}

/// The messages of one stream. Every answer reflects all calls before it; nothing here waits for a disk to sync.
pub trait Store {
    /// Adds a message; `seq` is above every sequence seen so far.
    fn append(&mut self, message: &StoredMessage) -> Result<(), StoreFailure>;
    fn get(&self, seq: u64) -> Result<Lookup, StoreFailure>;
    /// The first message at or after `from` that passes the filter.
    fn next_match(&self, filter: &Filter, from: u64) -> Result<Option<StoredMessage>, StoreFailure>;
    /// Counters of a literal subject.
    fn subject_state(&self, subject: &[u8]) -> Option<SubjectState>;
    /// Calls `visit` for every subject matching the pattern, in any order.
    fn for_each_subject(&self, pattern: &[u8], visit: &mut dyn FnMut(&[u8], SubjectState) -> ControlFlow<()>);
    /// How many messages at or after `from` pass the filter.
    fn num_pending(&self, filter: &Filter, from: u64) -> u64;
    /// Removes one message; false when it was not there. `erase`: overwrite its bytes.
    fn remove(&mut self, seq: u64, erase: bool) -> Result<bool, StoreFailure>;
    /// Removes every message below `below`; returns how many. Raises `first_seq` to `below`, and `last_seq` to
    /// `below - 1` if it was lower.
    fn compact(&mut self, below: u64) -> Result<u64, StoreFailure>;
    /// Marks sequences up to `seq` as used without messages.
    fn skip_to(&mut self, seq: u64) -> Result<(), StoreFailure>;
    /// The first sequence stored at or after this time; `last_seq + 1` when there is none.
    fn seq_at_or_after(&self, time: UnixNanos) -> u64;
    fn state(&self) -> StoreState;
    /// Of the last message ever stored, as `state` says it; cheaper.
    fn last_seq(&self) -> u64 {
        self.state().last_seq
    }
    /// Of the first message, as `state` says it; cheaper.
    fn first_seq(&self) -> u64 {
        self.state().first_seq
    }
    /// The sequences missing between first and last, at most `limit`.
    fn deleted(&self, limit: usize) -> Vec<u64>;
    /// Whether what is stored from now on is compressed. Counters stay those of uncompressed messages.
    fn set_compression(&mut self, _compress: bool) {}
    /// What one message counts toward `max_bytes`.
    fn message_bytes(&self, subject: usize, headers: usize, payload: usize) -> u64;
}
