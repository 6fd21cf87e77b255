//! A store in an ordered map, right by reading, and the random operations applied to it and to a real store
//! alike. Not a test itself.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use weir_stdx::rng::SeededRng;
use weir_stdx::time::UnixNanos;

use crate::disk::sim::SimDisk;
use crate::store::{FileStoreOptions, Filter, Lookup, StoreState, SubjectState};
use crate::vault::testing::{compress, disk_of};
use crate::{FileStore, MessageStore, Opened, StorageError, StoredMessage};

/// One change of a store; what a log entry would hold.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Append(StoredMessage),
    Remove(u64, bool),
    Compact(u64),
    SkipTo(u64),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) messages: BTreeMap<u64, StoredMessage>,
    pub(super) last_seq: u64,
    pub(super) last_timestamp: UnixNanos,
}

impl Model {
    pub(super) fn apply(&mut self, change: &Change) -> u64 {
        match change {
            Change::Append(message) => {
                self.last_seq = message.seq;
                self.last_timestamp = message.timestamp;
                self.messages.insert(message.seq, message.clone());
                1
            }
            Change::Remove(seq, _) => u64::from(self.messages.remove(seq).is_some()),
            Change::Compact(below) => {
                let before = self.messages.len();
                self.messages.retain(|seq, _| seq >= below);
                self.last_seq = self.last_seq.max(below.saturating_sub(1));
                (before - self.messages.len()) as u64
            }
            Change::SkipTo(seq) => {
                self.last_seq = self.last_seq.max(*seq);
                0
            }
        }
    }

    fn state(&self, message_bytes: impl Fn(usize, usize, usize) -> u64) -> StoreState {
        let messages = self.messages.len() as u64;
        let first = self.messages.values().next();
        let mut subjects: Vec<&Bytes> = self.messages.values().map(|message| &message.subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let empty_first = if self.last_seq == 0 { 0 } else { self.last_seq + 1 };
        let first_seq = first.map_or(empty_first, |message| message.seq);
        StoreState {
            messages,
            bytes: self
                .messages
                .values()
                .map(|message| {
                    message_bytes(message.subject.len(), message.headers.len(), message.payload.len())
                })
                .sum(),
            first_seq,
            first_timestamp: first.map_or(UnixNanos::ZERO, |message| message.timestamp),
            last_seq: self.last_seq,
            last_timestamp: self.last_timestamp,
            num_subjects: subjects.len() as u64,
            num_deleted: if messages == 0 { 0 } else { self.last_seq - first_seq + 1 - messages },
        }
    }
}

pub(super) fn apply(store: &mut dyn MessageStore, change: &Change) -> Result<u64, StorageError> {
    match change {
        Change::Append(message) => store.append(message).map(|()| 1),
        Change::Remove(seq, erase) => store.remove(*seq, *erase).map(u64::from),
        Change::Compact(below) => store.compact(*below),
        Change::SkipTo(seq) => store.skip_to(*seq).map(|()| 0),
    }
}

/// A change that makes sense after what the model has seen.
pub(super) fn random_change(model: &Model, rng: &mut SeededRng) -> Change {
    let first = model.messages.keys().next().copied().unwrap_or(model.last_seq + 1);
    let span = model.last_seq + 2 - first.min(model.last_seq + 1);
    match rng.below(40) {
        0..26 => Change::Append(random_message(model, rng)),
        26..33 => Change::Remove(first + rng.below(span), rng.chance(1, 8)),
        33..37 => Change::Remove(first, false),
        37 => Change::Compact(first + rng.below(span / 2 + 2)),
        38 if rng.chance(1, 6) => Change::SkipTo(model.last_seq + rng.below(3000)),
        39 if rng.chance(1, 8) => Change::Compact(model.last_seq + 1 + rng.below(5)),
        _ => Change::Append(random_message(model, rng)),
    }
}

fn random_message(model: &Model, rng: &mut SeededRng) -> StoredMessage {
    let subjects = ["a", "a.b", "a.c", "a.b.c", "kv.one", "kv.two", "kv.three", "orders.new"];
    let subject = if rng.chance(1, 6) {
        format!("many.{}", rng.below(40))
    } else {
        subjects[usize::try_from(rng.below(8)).unwrap()].to_owned()
    };
    let headers = if rng.chance(1, 3) { "NATS/1.0\r\nA: b\r\n\r\n" } else { "" };
    let mut payload = vec![0; usize::try_from(rng.below(120)).unwrap()];
    rng.fill(&mut payload);
    let gap = if rng.chance(1, 60) { rng.below(4000) } else { 0 };
    StoredMessage {
        seq: model.last_seq + 1 + gap,
        timestamp: UnixNanos(model.last_timestamp.0 + rng.below(3)),
        subject: subject.into(),
        headers: headers.into(),
        payload: payload.into(),
    }
}

/// Compares every answer of the store with the model's.
pub(super) fn check(store: &dyn MessageStore, model: &Model, rng: &mut SeededRng) -> Result<(), String> {
    let expected = model.state(|subject, headers, payload| store.message_bytes(subject, headers, payload));
    expect("state", &store.state(), &expected)?;
    let patterns: [&[&str]; 10] = [
        &[],
        &["a"],
        &["a.*"],
        &["a.>", "kv.one"],
        &["kv.*", "kv.one"],
        &["none"],
        &["none.*"],
        &["*.*"],
        &["many.7"],
        &["many.*"],
    ];
    for probe in probes(model, rng) {
        let found = match store.get(probe).map_err(|error| error.to_string())? {
            Lookup::Found(message) => Some(message),
            Lookup::Missing => None,
            Lookup::Unreadable => return Err(format!("get {probe}: unreadable")),
        };
        expect(&format!("get {probe}"), &found.as_ref(), &model.messages.get(&probe))?;
        for pattern in patterns {
            let filter = Filter::new(pattern.iter().copied());
            let mut matching = model.messages.range(probe..).filter(|(_, m)| filter.matches(&m.subject));
            let what = format!("{pattern:?} from {probe}");
            let found = store.next_match(&filter, probe).map_err(|error| error.to_string())?;
            expect(&what, &found.as_ref(), &matching.next().map(|(_, message)| message))?;
            let count = model.messages.range(probe..).filter(|(_, m)| filter.matches(&m.subject)).count();
            expect(&what, &store.num_pending(&filter, probe), &(count as u64))?;
        }
    }
    check_subjects(store, model)?;
    check_times(store, model, rng)?;
    let limit = usize::try_from(rng.below(20)).unwrap();
    let present = |seq: &u64| !model.messages.contains_key(seq);
    let deleted: Vec<u64> = match model.messages.keys().next() {
        Some(&first) => (first..=model.last_seq).filter(present).take(limit).collect(),
        None => Vec::new(),
    };
    expect("deleted", &store.deleted(limit), &deleted)
}

fn probes(model: &Model, rng: &mut SeededRng) -> Vec<u64> {
    let mut probes = vec![0, 1, model.last_seq, model.last_seq + 1];
    let keys: Vec<u64> = model.messages.keys().copied().collect();
    for _ in 0..6 {
        probes.push(rng.below(model.last_seq + 2));
        if !keys.is_empty() {
            probes.push(keys[usize::try_from(rng.below(keys.len() as u64)).unwrap()]);
        }
    }
    probes
}

fn check_subjects(store: &dyn MessageStore, model: &Model) -> Result<(), String> {
    let mut subjects: BTreeMap<Bytes, SubjectState> = BTreeMap::new();
    for (&seq, message) in &model.messages {
        let state = subjects.entry(message.subject.clone()).or_default();
        if state.count == 0 {
            state.first = seq;
        }
        state.count += 1;
        state.last = seq;
    }
    for pattern in [">", "a.*", "kv.one", "*"] {
        let mut found = BTreeMap::new();
        store.for_each_subject(pattern.as_bytes(), &mut |subject, state| {
            found.insert(Bytes::copy_from_slice(subject), state);
            ControlFlow::Continue(())
        });
        let expected: BTreeMap<Bytes, SubjectState> = subjects
            .iter()
            .filter(|(subject, _)| weir_subject::matches(pattern.as_bytes(), subject))
            .map(|(subject, state)| (subject.clone(), *state))
            .collect();
        expect(pattern, &found, &expected)?;
    }
    for subject in ["a", "kv.two", "none"] {
        let expected = subjects.get(subject.as_bytes()).copied();
        expect(subject, &store.subject_state(subject.as_bytes()), &expected)?;
    }
    Ok(())
}

fn check_times(store: &dyn MessageStore, model: &Model, rng: &mut SeededRng) -> Result<(), String> {
    for _ in 0..3 {
        let time = UnixNanos(rng.below(model.last_timestamp.0 + 2));
        let found = model.messages.values().find(|message| message.timestamp >= time);
        let expected = found.map_or(model.last_seq + 1, |message| message.seq);
        expect(&format!("time {time:?}"), &store.seq_at_or_after(time), &expected)?;
    }
    Ok(())
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: found {found:?}, expected {expected:?}"))
}

pub(super) fn directory() -> &'static Path {
    Path::new("/store/stream")
}

pub(super) fn options(log_purged_to: Option<u64>) -> FileStoreOptions {
    FileStoreOptions {
        identity: 77,
        log_purged_to,
        rebuild: false,
        segment_bytes_min: 3000,
        segment_bytes_max: 6000,
        recent_bytes: 500,
        buffer_bytes: 700,
        compress: compress(),
    }
}

pub(super) fn open(disk: &SimDisk, purged_to: Option<u64>) -> Result<(FileStore, Opened), StorageError> {
    FileStore::open_on(disk_of(disk), directory(), &options(purged_to))
}
