//! Stored messages and the numbers kept of them: what the stream machines and the message stores speak of alike.
//! Not how messages are kept (weir-storage), nor what becomes of them (weir-jetstream).

mod filter;

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

pub use filter::Filter;

/// A message as it is kept. `headers` is the whole block (`NATS/1.0\r\n...\r\n\r\n`) or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    pub seq: u64,
    pub timestamp: UnixNanos,
    pub subject: Bytes,
    pub headers: Bytes,
    pub payload: Bytes,
}

/// What stands at a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    Found(StoredMessage),
    /// Removed, or never stored.
    Missing,
    /// Stored, but its bytes fail their checksum: to be repaired from a peer, never served.
    Unreadable,
}

/// Counters of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubjectState {
    pub count: u64,
    pub first: u64,
    pub last: u64,
}

/// Counters of a store. With no messages `first_seq` is `last_seq + 1` (0 when nothing was ever stored).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreState {
    pub messages: u64,
    /// As nats-server counts them.
    pub bytes: u64,
    pub first_seq: u64,
    pub first_timestamp: UnixNanos,
    pub last_seq: u64,
    /// Of the last message ever stored, also when it is gone.
    pub last_timestamp: UnixNanos,
    pub num_subjects: u64,
    /// Sequences missing between first and last.
    pub num_deleted: u64,
}
