//! Opens a journal: finds the files in use, replays them into the groups, and leaves a writer that goes on
//! behind the last valid record.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::files::{
    FILE_SUFFIX, FileSupply, FreeFile, LogFile, TEMPORARY_SUFFIX, read_all, read_header_area,
};
use super::group::{Base, Released, Slot, Summary};
use super::queue::Shared;
use super::record::{
    Chain, FILE_HEADER_BYTES, FORMAT_VERSION, Fields, FileHeader, HeaderState, Kind, Record,
    begins_like_ours, decode_header,
};
use super::scan::{Scan, is_cut, rebuild_header, scan};
use super::writer::{ChainFile, Writer};
use super::{DOUBT_KEY, Damage, GroupId, JournalOptions, Recovery, TornTail};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{IoContext, StorageError};
use crate::vault::Vault;

const FILE_BYTES_MIN: u64 = 16 << 10;
const FILE_BYTES_MAX: u64 = 1 << 30;
pub(crate) const LOCK_FILE: &str = "LOCK";

/// A file found in the directory.
struct Found {
    file: Arc<LogFile>,
    header: FileHeader,
    header_copy: u64,
    /// The header was made from the records.
    rebuilt: bool,
}

/// What lies in the directory.
struct Inventory {
    files: Vec<Found>,
    damages: Vec<Damage>,
    /// A file of which nothing can be read.
    lost: Option<PathBuf>,
    next_number: u64,
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    directory: &Path,
    options: JournalOptions,
    background: bool,
) -> Result<(Writer, Arc<Shared>, Recovery), StorageError> {
    if !(FILE_BYTES_MIN..=FILE_BYTES_MAX).contains(&options.file_size_bytes) {
        let size = options.file_size_bytes;
        let reason = format!("journal files of {size} bytes (use {FILE_BYTES_MIN} to {FILE_BYTES_MAX})");
        return Err(StorageError::InvalidOption { reason });
    }
    disk.create_directories(directory).context("create", directory)?;
    let lock_path = directory.join(LOCK_FILE);
    let lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => StorageError::InUse { path: directory.to_owned() },
        _ => StorageError::io("lock", &lock_path, error),
    })?;
    let vault = disk.vault().cloned();
    let mut inventory = take_inventory(&*disk, directory)?;
    let supply = FileSupply::new(disk, directory, options.file_size_bytes, inventory.next_number, background);
    let generation_max = inventory.files.iter().map(|found| found.header.generation).max().unwrap_or(0);
    let chain = find_chain(directory, &mut inventory, vault.as_deref())?;
    let shared = Arc::new(Shared::new(options, vault));
    // A file's header has the epoch of its first record, and that of the file before it has passed by then.
    let epoch_seen = inventory.files.iter().chain(chain.links.iter().map(|link| &link.found));
    let epoch_seen = epoch_seen.map(|found| found.header.epoch);
    let epoch_max = epoch_seen.chain(chain.newest.iter().map(|scan| scan.epoch_max)).max().unwrap_or(0);
    let mut writer = Writer::new(Arc::clone(&shared), supply, epoch_max + 1, generation_max + 1);
    writer.lock = Some(lock);
    for free in inventory.files {
        writer.supply.put(FreeFile { file: free.file, header_copy: free.header_copy });
    }
    let mut recovery = Recovery { damages: inventory.damages, ..Recovery::default() };
    // A file is closed only when the next one follows at once: the one that cannot be read may have been it.
    if let Some(lost) = inventory.lost.filter(|_| chain.newest.as_ref().is_none_or(|newest| newest.ended)) {
        recovery.tail_lost = Some(format!("nothing of {} can be read", lost.display()));
    }
    replay_chain(&mut writer, chain.links, &mut recovery)?;
    describe(&shared, &mut recovery);
    start_writing(&mut writer)?;
    Ok((writer, shared, recovery))
}

fn take_inventory(disk: &dyn Disk, directory: &Path) -> Result<Inventory, StorageError> {
    let mut inventory = Inventory { files: Vec::new(), damages: Vec::new(), lost: None, next_number: 1 };
    for name in disk.list_files(directory).context("list", directory)? {
        let path = directory.join(&name);
        if name.ends_with(TEMPORARY_SUFFIX) {
            // Never taken into use: it gets its real name only when it is complete.
            disk.unlink(&path).context("delete", &path)?;
            continue;
        }
        let Some(stem) = name.strip_suffix(FILE_SUFFIX) else { continue };
        if let Ok(number) = stem.parse::<u64>() {
            inventory.next_number = inventory.next_number.max(number + 1);
        }
        let file = disk.open(&path, OpenMode::ReadWrite).context("open", &path)?;
        match decode_header(&read_header_area(&*file, &path)?) {
            HeaderState::Valid(header, _) if header.sealed != disk.vault().is_some() => {
                let reason = if header.sealed { "it is encrypted" } else { "it is not encrypted" };
                return Err(StorageError::Key { path, reason: format!("{reason}, unlike its store") });
            }
            HeaderState::Valid(header, header_copy) => {
                let bytes = header.file_bytes;
                let file = Arc::new(LogFile { path, file, bytes });
                inventory.files.push(Found { file, header, header_copy, rebuilt: false });
            }
            HeaderState::Version(found) => {
                return Err(StorageError::UnsupportedVersion { path, found, supported: FORMAT_VERSION });
            }
            state @ (HeaderState::Foreign | HeaderState::Damaged) => {
                let sealed = disk.vault().is_some();
                take_damaged(&mut inventory, file, path, state == HeaderState::Damaged, sealed)?;
            }
        }
    }
    chain_rebuilt(&mut inventory.files);
    Ok(inventory)
}

/// Takes a file without a header by its records; refuses one that nothing shows to be ours.
fn take_damaged(
    inventory: &mut Inventory,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    ours: bool,
    sealed: bool,
) -> Result<(), StorageError> {
    let length = file.length().context("read", &path)?;
    let file = Arc::new(LogFile { path: path.clone(), file, bytes: length });
    let mut bytes = Vec::new();
    read_all(&file, &mut bytes)?;
    let header = rebuild_header(&bytes, sealed);
    if header.is_none() && !ours && !begins_like_ours(&bytes) && bytes.iter().any(|byte| *byte != 0) {
        let reason = "it does not start as a journal file does".to_owned();
        return Err(StorageError::Foreign { path, reason });
    }
    inventory.damages.push(Damage {
        path: path.clone(),
        offset: 0,
        length: length.min(FILE_HEADER_BYTES),
        reason: "both copies of the file header are damaged".to_owned(),
    });
    match header {
        Some(header) => inventory.files.push(Found { file, header, header_copy: 0, rebuilt: true }),
        None => inventory.lost = Some(path),
    }
    Ok(())
}

/// The file before one whose header was rebuilt is the newest of the older ones.
fn chain_rebuilt(files: &mut [Found]) {
    let generations: Vec<u32> = files.iter().map(|found| found.header.generation).collect();
    for found in files.iter_mut().filter(|found| found.rebuilt) {
        let older = generations.iter().filter(|generation| **generation < found.header.generation);
        found.header.previous_generation = older.max().copied().unwrap_or(0);
    }
}

/// A file in use.
struct Link {
    found: Found,
    /// A later file was begun: all of this one was durable then.
    superseded: bool,
    /// Records at its end were cut off.
    cut: bool,
}

/// The files in use, oldest first, and what a walk over the newest one has found.
#[derive(Default)]
struct FileChain {
    links: Vec<Link>,
    newest: Option<Scan>,
}

/// Takes the files in use out of the inventory. What remains is free.
fn find_chain(
    directory: &Path,
    inventory: &mut Inventory,
    vault: Option<&Vault>,
) -> Result<FileChain, StorageError> {
    let generation = inventory.files.iter().map(|found| found.header.generation).max().unwrap_or(0);
    let newest = if generation == 0 { None } else { take_generation(inventory, generation) };
    let Some(newest) = newest else { return Ok(FileChain::default()) };
    let (mut newest, mut scan) = walk(newest, false, vault)?;
    let mut unfinished = None;
    if !scan.base_complete && scan.damages.is_empty() && !newest.cut {
        // A crash came while the file was taken into use. Nothing in it was acknowledged, and its
        // predecessor was complete.
        let previous = newest.found.header.previous_generation;
        unfinished = Some(newest.found);
        if previous == 0 {
            inventory.files.extend(unfinished);
            return Ok(FileChain::default());
        }
        let found = take_generation(inventory, previous).ok_or_else(|| {
            let reason = format!("the file of generation {previous} is missing, the newest one builds on it");
            StorageError::corrupt(directory, 0, reason)
        })?;
        (newest, scan) = walk(found, true, vault)?;
    }
    let mut links = vec![newest];
    while let Some(first) = links.last() {
        let (generation, previous) = (first.found.header.generation, first.found.header.previous_generation);
        if previous == 0 || previous < scan.oldest_generation {
            break;
        }
        let Some(found) = take_generation(inventory, previous) else {
            inventory.damages.push(Damage {
                path: directory.to_owned(),
                offset: 0,
                length: 0,
                reason: format!("the file of generation {previous}, before {generation}, is missing"),
            });
            break;
        };
        links.push(Link { found, superseded: true, cut: false });
    }
    inventory.files.extend(unfinished);
    links.reverse();
    Ok(FileChain { links, newest: Some(scan) })
}

fn take_generation(inventory: &mut Inventory, generation: u32) -> Option<Found> {
    let position = inventory.files.iter().position(|found| found.header.generation == generation)?;
    Some(inventory.files.swap_remove(position))
}

/// Walks over the newest file: it tells which ones before it are in use.
fn walk(found: Found, superseded: bool, vault: Option<&Vault>) -> Result<(Link, Scan), StorageError> {
    let mut bytes = Vec::new();
    read_all(&found.file, &mut bytes)?;
    let scan = scan(&bytes, &found.header, superseded, found.rebuilt, vault, &mut |_, _| {});
    let cut = is_cut(&bytes, &found.header, &scan);
    Ok((Link { found, superseded, cut }, scan))
}

fn replay_chain(writer: &mut Writer, chain: Vec<Link>, recovery: &mut Recovery) -> Result<(), StorageError> {
    let count = chain.len();
    let mut suspects = BTreeSet::new();
    // One file is in memory at a time, each in the place of the one before.
    let mut bytes = Vec::new();
    for (number, link) in chain.into_iter().enumerate() {
        let Link { found, superseded, cut } = link;
        read_all(&found.file, &mut bytes)?;
        let generation = found.header.generation;
        let restated = BTreeSet::new();
        let shared = Arc::clone(&writer.shared);
        let mut replay = Replay { writer, generation, suspects: &mut suspects, restated };
        let vault = shared.vault();
        let result = scan(&bytes, &found.header, superseded, found.rebuilt, vault, &mut |offset, record| {
            replay.record(offset, record);
        });
        recovery.files += 1;
        recovery.bytes_read += bytes.len() as u64;
        let path = &found.file.path;
        recovery.damages.extend(result.damages.iter().map(|range| damage(path, range)));
        if superseded && !result.ended {
            recovery.damages.push(Damage {
                path: path.clone(),
                offset: result.tail,
                length: 0,
                reason: "its end record is missing".to_owned(),
            });
        }
        if result.torn && !result.ended && !superseded {
            recovery.torn_tail = Some(TornTail { path: path.clone(), offset: result.tail });
        }
        if number + 1 == count {
            let epoch = writer.chain.epoch;
            writer.chain = Chain { generation, epoch, previous_crc: result.previous_crc };
            writer.position = result.tail;
            // What cannot be trusted to hold what is written next is not written to.
            writer.closed = result.ended || superseded || cut || found.rebuilt;
            if result.blurred && !superseded {
                recovery.tail_lost = Some(format!("several records of {} are damaged", path.display()));
            }
            if cut {
                recovery.tail_lost = Some(format!("{} is cut off at byte {}", path.display(), bytes.len()));
            }
        }
        writer.shared.files.write().insert(generation, Arc::clone(&found.file));
        let Found { file, header, header_copy, rebuilt } = found;
        let one_copy = (!rebuilt).then_some(header);
        writer.chain_files.push_back(ChainFile { generation, file, header_copy, one_copy });
    }
    recovery.suspects = suspects.into_iter().collect();
    Ok(())
}

fn damage(path: &Path, range: &Range<u64>) -> Damage {
    Damage {
        path: PathBuf::from(path),
        offset: range.start,
        length: range.end - range.start,
        reason: "the bytes are not the records that were written".to_owned(),
    }
}

/// Applies records to the groups.
struct Replay<'a> {
    writer: &'a mut Writer,
    generation: u32,
    suspects: &'a mut BTreeSet<GroupId>,
    /// Groups in the base of this file.
    restated: BTreeSet<GroupId>,
}

impl Replay<'_> {
    fn record(&mut self, offset: u64, record: &Record<'_>) {
        let Fields { kind, group, term, index } = record.fields;
        let id = GroupId(group);
        if kind == Kind::Mark {
            let payload = self.payload(record);
            let summaries = payload.get(4..).unwrap_or_default();
            Summary::decode_all(summaries).for_each(|summary| self.summary(summary));
            return;
        }
        if kind == Kind::BaseEnd && self.restated.len() as u64 == index {
            // The base names all groups: one that it leaves out was dropped, by a record that was damaged.
            let bases = self.writer.bases.keys().copied();
            let dropped: Vec<GroupId> = bases.filter(|id| !self.restated.contains(id)).collect();
            dropped.into_iter().for_each(|id| self.forget(id));
        }
        if matches!(kind, Kind::BaseEnd | Kind::Opened | Kind::End) {
            return;
        }
        if kind == Kind::Drop {
            return self.forget(id);
        }
        let slot = Slot {
            generation: self.generation,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            length: u32::try_from(record.stored.len()).unwrap_or(u32::MAX),
            term,
        };
        let payload =
            if matches!(kind, Kind::State | Kind::Base) { self.payload(record) } else { Cow::default() };
        let group = self.writer.shared.find_or_make(id);
        let mut log = group.log.lock();
        // Live entries are counted once, after the replay.
        let mut ignored = Released::new();
        let base = self.writer.bases.entry(id).or_default();
        match kind {
            Kind::Entry => {
                log.replay_entry(index, slot, &mut ignored);
                base.truncate_after(index.saturating_sub(1));
                base.append(index);
            }
            Kind::Moved => log.replay_moved(index, slot),
            Kind::Truncate => {
                log.truncate_after(index, &mut ignored);
                base.truncate_after(index);
            }
            Kind::Purge => {
                log.purge_to(index, &mut ignored);
                base.purge_to(index);
            }
            Kind::State => {
                let value = Bytes::copy_from_slice(&payload);
                let key = u8::try_from(term).unwrap_or(u8::MAX);
                log.put_state(key, value.clone());
                base.states.insert(key, value);
            }
            Kind::Base => {
                self.restated.insert(id);
                if let Some(stated) = Base::decode(&payload) {
                    log.replay_base(&stated, &mut ignored);
                    *base = stated;
                    // Its values are whole again.
                    self.suspects.remove(&id);
                }
            }
            Kind::Drop | Kind::BaseEnd | Kind::Opened | Kind::Mark | Kind::End => {}
        }
    }
}

impl Replay<'_> {
    /// The walk has opened it once: it is whole.
    fn payload<'a>(&self, record: &Record<'a>) -> Cow<'a, [u8]> {
        record.payload(self.writer.shared.vault()).unwrap_or_default()
    }

    fn forget(&mut self, id: GroupId) {
        self.writer.bases.remove(&id);
        self.suspects.remove(&id);
        if let Some(group) = self.writer.shared.find(id) {
            self.writer.shared.remove_exact(&group);
        }
    }

    /// Compares a group with what a mark says of it: a difference means that records were lost.
    fn summary(&mut self, summary: Summary) {
        let id = GroupId(summary.group);
        if Summary::of(id, self.writer.bases.get(&id)) == summary {
            return;
        }
        let Some(stated) = summary.base() else { return self.forget(id) };
        let group = self.writer.shared.find_or_make(id);
        group.log.lock().replay_positions(&stated, &mut Released::new());
        let base = self.writer.bases.entry(id).or_default();
        base.purged_to = stated.purged_to;
        base.first = stated.first;
        base.next_index = stated.next_index;
        if Summary::of(id, Some(base)) != summary {
            self.suspects.insert(id);
        }
    }
}

/// Counts what is live and writes the first record of the new epoch. It is durable before anything is
/// accepted, so that bytes of a torn batch can never follow a record of this epoch.
fn start_writing(writer: &mut Writer) -> Result<(), StorageError> {
    for group in writer.shared.all_groups() {
        for (generation, (entries, bytes)) in group.log.lock().weights() {
            let live = writer.live.entry(generation).or_default();
            live.0 += entries;
            live.1 += bytes;
        }
    }
    if writer.closed {
        writer.needs_file = true;
        (writer.durable, writer.marked) = (writer.here(), writer.here());
    }
    if writer.chain_files.is_empty() || writer.closed {
        match writer.activate(0) {
            // What there is can be read; the epoch begins with the next file.
            Err(_) if writer.is_waiting() => {
                writer.note_shortage();
                return Ok(());
            }
            result => result?,
        }
    } else {
        writer.durable = (writer.chain.generation, writer.position);
        writer.marked = writer.durable;
        writer.tell_all();
    }
    writer.emit(Fields { kind: Kind::Opened, group: 0, term: 0, index: 0 }, &[])?;
    keep_doubts(writer)?;
    writer.write_out()?;
    writer.sync()
}

/// A doubt outlives the file that gave rise to it: it goes only with its group.
fn keep_doubts(writer: &mut Writer) -> Result<(), StorageError> {
    for id in writer.bases.keys().copied().collect::<Vec<_>>() {
        let Some(reason) = writer.shared.doubt_of(id) else { continue };
        let Some(base) = writer.bases.get_mut(&id) else { continue };
        let value = Bytes::from(reason);
        if base.states.insert(DOUBT_KEY, value.clone()).is_none() {
            writer.shared.find_or_make(id).log.lock().put_state(DOUBT_KEY, value.clone());
            writer.emit(
                Fields { kind: Kind::State, group: id.0, term: u64::from(DOUBT_KEY), index: 0 },
                &value,
            )?;
        }
    }
    Ok(())
}

/// Sums up what the groups hold; telling the operator is the caller's business.
fn describe(shared: &Shared, recovery: &mut Recovery) {
    recovery.groups = shared.group_ids();
    for group in shared.all_groups() {
        let kept = group.log.lock().state(DOUBT_KEY);
        if let Some(reason) = kept {
            shared.doubt(&[group.id], &String::from_utf8_lossy(&reason));
        }
    }
    if let Some(reason) = &recovery.tail_lost {
        // Whatever was written last, of whichever group.
        recovery.suspects.clone_from(&recovery.groups);
        let reason = format!("the journal's newest entries may be lost: {reason}");
        shared.doubt(&recovery.groups, &reason);
        shared.doubt_unknown(&recovery.groups, &reason);
    }
    shared.doubt(&recovery.suspects, "a value in the journal, such as its vote, was lost to damage");
    let mut unreadable = BTreeMap::new();
    for group in shared.all_groups() {
        if group.log.lock().is_overstated() {
            recovery.suspects.push(group.id);
            shared.doubt(&[group.id], "a record states more entries of its log than there can be");
        }
        unreadable.insert(group.id, group.log.lock().missing());
    }
    for (group, ranges) in unreadable {
        recovery.unreadable.extend(ranges.into_iter().map(|range| (group, range)));
    }
}
