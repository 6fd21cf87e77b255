//! The node's journal as a `GroupLog`.

use std::io;

use bytes::Bytes;
use weir_storage::{GroupId, Journal, JournalEntry, StorageError};

use crate::group_log::{Done, GroupLog, LogExtent, LogRecord};

fn io_error(error: StorageError) -> io::Error {
    io::Error::other(error)
}

fn adapt(done: Done) -> weir_storage::Done {
    Box::new(move |result| done(result.map_err(io_error)))
}

impl GroupLog for Journal {
    fn append(&self, group: GroupId, entries: Vec<LogRecord>, done: Done) {
        let entries = entries.into_iter().map(|record| JournalEntry {
            index: record.index,
            term: record.term,
            payload: record.payload,
        });
        Self::append(self, group, entries.collect(), adapt(done));
    }

    fn truncate_after(&self, group: GroupId, index: u64, done: Done) {
        Self::truncate_after(self, group, index, adapt(done));
    }

    fn purge_to(&self, group: GroupId, index: u64, done: Done) {
        Self::purge_to(self, group, index, adapt(done));
    }

    fn put_state(&self, group: GroupId, key: u8, value: Bytes, done: Done) {
        Self::put_state(self, group, key, value, adapt(done));
    }

    fn get_state(&self, group: GroupId, key: u8) -> Option<Bytes> {
        Self::get_state(self, group, key)
    }

    fn extent(&self, group: GroupId) -> LogExtent {
        let range = self.log_range(group);
        LogExtent {
            purged_to: range.purged_to,
            present: (!range.is_empty()).then_some((range.first, range.last)),
        }
    }

    fn read(
        &self,
        group: GroupId,
        from: u64,
        to_exclusive: u64,
        max_bytes: usize,
    ) -> io::Result<Vec<LogRecord>> {
        let entries = Self::read(self, group, from, to_exclusive, max_bytes).map_err(io_error)?;
        let records = entries.into_iter().map(|entry| LogRecord {
            index: entry.index,
            term: entry.term,
            payload: entry.payload,
        });
        Ok(records.collect())
    }

    fn forget_payloads(&self, group: GroupId, index: u64) {
        Self::forget_payloads(self, group, index);
    }

    fn drop_group(&self, group: GroupId, done: Done) {
        Self::drop_group(self, group, adapt(done));
    }
}
