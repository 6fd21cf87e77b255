//! What the machines need of a message store. The real ones live in `weir-storage`; `weir-jetstream-node` joins the two.

use std::ops::ControlFlow;

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

/// A message as it is kept. `headers` is the whole block (`NATS/1.0\r\n...\r\n\r\n`) or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    pub seq: u64,
    pub timestamp: UnixNanos,
    pub subject: Bytes,
    pub headers: Bytes,
    pub payload: Bytes,
}

/// What stands at a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    Found(StoredMessage),
    /// Removed, or never stored.
    Missing,
    /// Stored, but its bytes fail their checksum: to be repaired from a peer, never served.
    Unreadable,
}

/// Why a store could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    #[error("message {seq} is unreadable")]
    Unreadable { seq: u64 },
    #[error("{0}")]
    Failed(String),
}

/// A set of subject patterns; none means every subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    patterns: Vec<Bytes>,
}

impl Filter {
    /// A filter for these patterns. A lone `>` is the same as none.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let patterns: Vec<Bytes> =
            patterns.into_iter().map(|pattern| Bytes::copy_from_slice(pattern.as_bytes())).collect();
        if patterns.iter().any(|pattern| &pattern[..] == b">") {
            return Self::default();
        }
        Self { patterns }
    }

    /// True when every subject passes.
    pub fn is_all(&self) -> bool {
        self.patterns.is_empty()
    }

    pub fn patterns(&self) -> &[Bytes] {
        &self.patterns
    }

    pub fn matches(&self, subject: &[u8]) -> bool {
        self.patterns.is_empty()
            || self.patterns.iter().any(|pattern| weir_subject::matches(pattern, subject))
    }
}

/// Counters of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubjectState {
    pub count: u64,
    pub first: u64,
    pub last: u64,
}

/// Counters of a store. With no messages `first_seq` is `last_seq + 1` (0 when nothing was ever stored).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreState {
    pub messages: u64,
    pub bytes: u64,
    pub first_seq: u64,
    pub first_timestamp: UnixNanos,
    pub last_seq: u64,
    /// Of the last message ever stored, also when it is gone.
    pub last_timestamp: UnixNanos,
    pub num_subjects: u64,
    /// Gaps between `first_seq` and `last_seq`.
    pub num_deleted: u64,
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
    /// The sequences missing between first and last, at most `limit`.
    fn deleted(&self, limit: usize) -> Vec<u64>;
    /// What one message counts toward `max_bytes`.
    fn message_bytes(&self, subject: usize, headers: usize, payload: usize) -> u64;
}
