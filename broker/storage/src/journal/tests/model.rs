//! A seeded workload over a few groups, and the states each group may be in after a crash: every state from
//! the last acknowledged one to the last asked for. Not a test itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use weir_stdx::rng::SeededRng;

use crate::disk::sim::SimDisk;
use crate::journal::{GroupId, Journal, JournalEntry, JournalOptions, LogRange, Recovery};
use crate::vault::testing::disk_of;
use crate::{StorageError, SyncPolicy};

pub(super) const GROUPS: u64 = 4;

/// One group, as the model sees it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct GroupModel {
    pub(super) purged_to: u64,
    pub(super) next: u64,
    pub(super) entries: BTreeMap<u64, (u64, Bytes)>,
    pub(super) states: BTreeMap<u8, Bytes>,
}

impl fmt::Debug for GroupModel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { purged_to, next, entries, states } = self;
        write!(formatter, "purged {purged_to} next {next} entries [")?;
        for (index, (term, payload)) in entries {
            write!(formatter, "{index}:{term}:{}:{:x} ", payload.len(), crc32c::crc32c(payload))?;
        }
        write!(formatter, "] {states:?}")
    }
}

impl GroupModel {
    fn new() -> Self {
        Self { next: 1, ..Self::default() }
    }
}

/// What one group's history of states is, and how far it is acknowledged.
#[derive(Debug)]
pub(super) struct History {
    /// `versions[n]`: after n operations.
    versions: Vec<GroupModel>,
    /// The operations acknowledged by the time of each mark: (mark, count).
    acked: Arc<Mutex<Vec<(u64, usize)>>>,
}

pub(super) struct Workload {
    pub(super) disk: SimDisk,
    pub(super) directory: PathBuf,
    pub(super) journal: Journal,
    pub(super) groups: Vec<History>,
    rng: SeededRng,
    mark: Arc<Mutex<u64>>,
}

pub(super) fn options() -> JournalOptions {
    JournalOptions {
        file_size_bytes: 16 << 10,
        sync: SyncPolicy::Always,
        max_batch_bytes: 4 << 10,
        cache_bytes: 2 << 10,
        high_water_bytes: 1 << 20,
        max_live_files: 3,
    }
}

pub(super) fn directory() -> &'static Path {
    Path::new("/store/journal")
}

pub(super) fn open(disk: &SimDisk) -> Result<(Journal, Recovery), StorageError> {
    Journal::open_manual(disk_of(disk), directory(), options())
}

impl Workload {
    pub(super) fn new(seed: u64) -> Self {
        let disk = SimDisk::recording();
        let (journal, _) = open(&disk).unwrap();
        let history = || History { versions: vec![GroupModel::new()], acked: Arc::default() };
        Self {
            disk,
            directory: directory().to_owned(),
            journal,
            groups: (0..GROUPS).map(|_| history()).collect(),
            rng: SeededRng::new(seed),
            mark: Arc::default(),
        }
    }

    /// Queues a few operations and has the writer take them.
    pub(super) fn batch(&mut self) {
        for _ in 0..=self.rng.below(6) {
            let group = self.rng.below(GROUPS);
            self.operation(group);
        }
        self.journal.pump();
        if self.rng.chance(1, 4) {
            // A quiet moment: the writer notes what is durable.
            self.journal.pump();
        }
    }

    fn operation(&mut self, group: u64) {
        let number = usize::try_from(group).unwrap();
        let mut model = self.groups[number].versions.last().unwrap().clone();
        let id = GroupId(group);
        match self.rng.below(20) {
            0..11 => {
                // A torn append may leave its first entries.
                let entries = self.entries(&model);
                for entry in &entries {
                    model.entries.insert(entry.index, (entry.term, entry.payload.clone()));
                    model.next = entry.index + 1;
                    self.groups[number].versions.push(model.clone());
                }
                self.groups[number].versions.pop();
                let done = self.on_done(number);
                self.journal.append(id, entries, done);
            }
            11..14 => {
                // Group 0 purges rarely, so that it pins old files.
                let live = model.next - 1 - model.purged_to;
                let index = if group == 0 && !self.rng.chance(1, 10) {
                    model.purged_to
                } else {
                    model.purged_to + self.rng.below(live + 1)
                };
                model.purged_to = index;
                model.entries.retain(|&at, _| at > index);
                let done = self.on_done(number);
                self.journal.purge_to(id, index, done);
            }
            14..16 => {
                let live = model.next - 1 - model.purged_to;
                let index = model.purged_to + live - self.rng.below(live.min(3) + 1);
                model.entries.retain(|&at, _| at <= index);
                model.next = index + 1;
                let done = self.on_done(number);
                self.journal.truncate_after(id, index, done);
            }
            16..19 => {
                let key = u8::try_from(self.rng.below(3)).unwrap();
                let value = Bytes::from(format!("value {}", self.rng.next_u64()));
                model.states.insert(key, value.clone());
                let done = self.on_done(number);
                self.journal.put_state(id, key, value, done);
            }
            _ if group == GROUPS - 1 && self.rng.chance(1, 3) => {
                model = GroupModel::new();
                let done = self.on_done(number);
                self.journal.drop_group(id, done);
            }
            _ => {
                // An installed snapshot: the log goes on far behind its end.
                let index = model.next + 5;
                model = GroupModel {
                    purged_to: index,
                    next: index + 1,
                    states: model.states,
                    ..GroupModel::new()
                };
                let done = self.on_done(number);
                self.journal.purge_to(id, index, done);
            }
        }
        self.groups[number].versions.push(model);
    }

    fn entries(&mut self, model: &GroupModel) -> Vec<JournalEntry> {
        let count = 1 + self.rng.below(3);
        (model.next..model.next + count)
            .map(|index| {
                let mut payload = vec![0; usize::try_from(self.rng.below(900)).unwrap()];
                self.rng.fill(&mut payload);
                JournalEntry { index, term: 1 + self.rng.below(5), payload: payload.into() }
            })
            .collect()
    }

    fn on_done(&self, group: usize) -> crate::Done {
        let count = self.groups[group].versions.len();
        let acked = Arc::clone(&self.groups[group].acked);
        let (disk, mark) = (self.disk.clone(), Arc::clone(&self.mark));
        Box::new(move |result| {
            if result.is_ok() {
                let mut mark = mark.lock();
                *mark += 1;
                disk.mark(*mark);
                acked.lock().push((*mark, count));
            }
        })
    }

    /// Checks a reopened journal against what was acknowledged by a mark.
    pub(super) fn check(&self, journal: &Journal, mark: u64) -> Result<(), String> {
        for (number, history) in (0..).zip(&self.groups) {
            let acked = history
                .acked
                .lock()
                .iter()
                .take_while(|(at, _)| *at <= mark)
                .map(|(_, count)| *count)
                .max()
                .unwrap_or(0);
            let found = observe(journal, GroupId(number))?;
            if !history.versions[acked..].contains(&found) {
                return Err(format!(
                    "group {number}: found {found:?}, not one of the {} states from {:?}",
                    history.versions.len() - acked,
                    history.versions[acked]
                ));
            }
        }
        Ok(())
    }
}

/// Reads everything the journal has of a group.
pub(super) fn observe(journal: &Journal, group: GroupId) -> Result<GroupModel, String> {
    let LogRange { purged_to, first, last } = journal.log_range(group);
    let mut entries = BTreeMap::new();
    let mut from = first;
    while from <= last {
        let read = journal.read(group, from, last + 1, 1500).map_err(|error| error.to_string())?;
        if read.is_empty() {
            return Err(format!("group {}: nothing at {from} of {first}..={last}", group.0));
        }
        for entry in read {
            if entry.index != from {
                return Err(format!("group {}: entry {} where {from} belongs", group.0, entry.index));
            }
            from += 1;
            entries.insert(entry.index, (entry.term, entry.payload));
        }
    }
    let states = (0..4).filter_map(|key| Some((key, journal.get_state(group, key)?))).collect();
    Ok(GroupModel { purged_to, next: last + 1, entries, states })
}

impl Workload {
    /// Goes on from a crash: checks what is there and takes it for the truth.
    pub(super) fn restart(mut self, crashed: &SimDisk, mark: u64) -> Result<Self, String> {
        let disk = crashed.fork_recording();
        let (journal, recovery) = open(&disk).map_err(|error| format!("refused: {error}"))?;
        if !recovery.damages.is_empty() {
            return Err(format!("{:?}", recovery.damages));
        }
        self.check(&journal, mark)?;
        let mut groups = Vec::new();
        for number in 0..GROUPS {
            let found = observe(&journal, GroupId(number))?;
            groups.push(History { versions: vec![found], acked: Arc::default() });
        }
        Ok(Self {
            disk,
            directory: self.directory,
            journal,
            groups,
            rng: self.rng.fork(),
            mark: Arc::default(),
        })
    }
}
