//! A `GroupLog` in memory: everything is "durable" at once.

use std::collections::{BTreeMap, HashMap};
use std::io;

use bytes::Bytes;
use parking_lot::Mutex;
use weir_storage::GroupId;

use crate::group_log::{Done, GroupLog, LogExtent, LogRecord};

#[derive(Default)]
pub(crate) struct MemoryLog {
    groups: Mutex<HashMap<u64, Group>>,
}

#[derive(Default)]
struct Group {
    entries: BTreeMap<u64, LogRecord>,
    states: HashMap<u8, Bytes>,
    purged_to: u64,
}

impl MemoryLog {
    fn with<T>(&self, group: GroupId, work: impl FnOnce(&mut Group) -> T) -> T {
        work(self.groups.lock().entry(group.0).or_default())
    }
}

impl GroupLog for MemoryLog {
    fn append(&self, group: GroupId, entries: Vec<LogRecord>, done: Done) {
        self.with(group, |group| {
            for entry in entries {
                if let Some(last) = group.entries.keys().next_back() {
                    assert_eq!(entry.index, last + 1, "a log has no holes");
                }
                group.entries.insert(entry.index, entry);
            }
        });
        done(Ok(()));
    }

    fn truncate_after(&self, group: GroupId, index: u64, done: Done) {
        self.with(group, |group| group.entries.retain(|i, _| *i <= index));
        done(Ok(()));
    }

    fn purge_to(&self, group: GroupId, index: u64, done: Done) {
        self.with(group, |group| {
            group.entries.retain(|i, _| *i > index);
            group.purged_to = group.purged_to.max(index);
        });
        done(Ok(()));
    }

    fn put_state(&self, group: GroupId, key: u8, value: Bytes, done: Done) {
        self.with(group, |group| group.states.insert(key, value));
        done(Ok(()));
    }

    fn get_state(&self, group: GroupId, key: u8) -> Option<Bytes> {
        self.with(group, |group| group.states.get(&key).cloned())
    }

    fn extent(&self, group: GroupId) -> LogExtent {
        self.with(group, |group| {
            let first = group.entries.keys().next().copied();
            LogExtent {
                purged_to: group.purged_to,
                present: first.zip(group.entries.keys().next_back().copied()),
            }
        })
    }

    fn read(
        &self,
        group: GroupId,
        from: u64,
        to_exclusive: u64,
        max_bytes: usize,
    ) -> io::Result<Vec<LogRecord>> {
        self.with(group, |group| {
            let mut bytes = 0;
            let found = group.entries.range(from..to_exclusive).take_while(|(_, entry)| {
                let fits = bytes == 0 || bytes + entry.payload.len() <= max_bytes;
                bytes += entry.payload.len().max(1);
                fits
            });
            Ok(found.map(|(_, entry)| entry.clone()).collect())
        })
    }

    fn drop_group(&self, group: GroupId, done: Done) {
        self.groups.lock().remove(&group.0);
        done(Ok(()));
    }
}
