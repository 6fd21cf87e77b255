//! What this room asks of the node's journal: one group's entries and small states, durable and in
//! order. The journal of room `storage` is the real one; tests use one in memory.

use std::io;

use crate::types::GroupId;
use bytes::Bytes;

/// One log entry as kept: its kind byte first, then its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub index: u64,
    pub term: u64,
    pub payload: Bytes,
}

/// What a group's log holds. `purged_to` is the last index cut away (0: none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogExtent {
    pub purged_to: u64,
    /// First and last index present; `None` for an empty log.
    pub present: Option<(u64, u64)>,
}

/// Runs once, on any thread, when what was asked is on disk, or could not be brought there.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Writes are done in the order of the calls. After a call returns, reads see its effect, durable or
/// not.
pub trait GroupLog: Send + Sync + 'static {
    fn append(&self, group: GroupId, entries: Vec<LogRecord>, done: Done);
    fn truncate_after(&self, group: GroupId, index: u64, done: Done);
    /// Cuts up to `index`, inclusive, also beyond the last entry: the log goes on after it.
    fn purge_to(&self, group: GroupId, index: u64, done: Done);
    fn put_state(&self, group: GroupId, key: u8, value: Bytes, done: Done);
    fn get_state(&self, group: GroupId, key: u8) -> Option<Bytes>;
    fn extent(&self, group: GroupId) -> LogExtent;
    /// Entries from `from`, at least one when there is one, up to `max_bytes`.
    fn read(
        &self,
        group: GroupId,
        from: u64,
        to_exclusive: u64,
        max_bytes: usize,
    ) -> io::Result<Vec<LogRecord>>;
    /// Nobody is likely to read the entries up to `index` soon: their payloads need not stay in memory.
    fn forget_payloads(&self, _group: GroupId, _index: u64) {}
    fn drop_group(&self, group: GroupId, done: Done);
}
