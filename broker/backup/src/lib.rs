//! Backups of streams as nats-server 2.15 writes and reads them (STREAM.SNAPSHOT, STREAM.RESTORE): an archive of the
//! stream's state, its consumers and its messages, compressed as an S2 stream. Bytes in, bytes out: not where they come
//! from, nor what becomes of a restored stream.
//!
//! ```text
//! S2 stream of: "NATSARC1", then entries
//! entry: name length, timestamp (zigzag), sequence, headers length, payload length: varints | name | headers | payload
//! ```
//! The first entry is `state.json`, then one `consumers/NAME` for each consumer, then the messages (the name is the
//! subject) in the order of their sequences, and an entry of nothing at the end.

mod archive;
mod consumer;
mod error;
mod s2;
mod state;
mod stream;

pub use archive::{Entry, NAME_BYTES_MAX};
pub use consumer::{ConsumerRecord, Pending as PendingRecord, Position, Progress};
pub use error::BackupError;
pub use s2::{S2Reader, S2Writer};
pub use stream::{BackupReader, BackupWriter, MessageLimits, MessageRecord};
