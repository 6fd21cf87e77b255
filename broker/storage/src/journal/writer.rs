//! The one writer: turns batches of requests into records, writes and syncs them, completes the callbacks,
//! and gives files back when nothing in them is live. Everything here runs on the journal's thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::files::{FileSupply, FreeFile, LogFile, Window};
use super::group::{Base, Group, MISSING, Released, Slot, Summary};
use super::queue::{Operation, Request, Shared, Taken};
use super::record::{Chain, FILE_HEADER_BYTES, Fields, FileHeader, Kind, encode, record_bytes, stored_bytes};
use super::{Done, GroupId, JournalEntry, Shortage, SyncPolicy};
use crate::error::{IoContext, StorageError};

/// A quiet journal notes after this time that its last batch is durable, so that damage to it is not taken
/// for a torn write.
const IDLE_MARK_DELAY: Duration = Duration::from_millis(50);
/// Bytes of old entries moved forward with one batch.
const MOVE_BYTES_PER_BATCH: u64 = 1 << 20;
const MOVE_ENTRIES_PER_GROUP: usize = 4096;
/// A mark names again what earlier ones have named of so many bytes before it, and of the two marks before it, so
/// that a damaged block that took a mark with it leaves no doubt of the groups that were not in it.
const TOLD_AGAIN_BYTES: u64 = 16 << 10;
/// How soon what is made in the background is looked at, while nothing else happens.
const SUPPLY_POLL: Duration = Duration::from_millis(250);
/// Between two attempts to go on after the disk was full: first, and at most.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(2);
/// The write buffer is released above this size.
const BUFFER_KEEP_BYTES: usize = 16 << 20;

/// A position in the log: file by generation, then byte.
pub(crate) type Position = (u32, u64);

/// A file in use, oldest first in the chain.
#[derive(Debug)]
pub(crate) struct ChainFile {
    pub(crate) generation: u32,
    pub(crate) file: Arc<LogFile>,
    pub(crate) header_copy: u64,
    /// The other copy of the header is not this one yet.
    pub(crate) one_copy: Option<FileHeader>,
}

/// An entry that was encoded; it gets its place once it is written.
#[derive(Debug)]
enum Placed {
    New { group: Arc<Group>, index: u64, ticket: u32, slot: Slot },
    Moved { group: Arc<Group>, index: u64, from: Slot, to: Slot },
}

/// Whom to tell, and what the request itself came to.
struct Completion {
    done: Done,
    own_result: Result<(), StorageError>,
}

impl std::fmt::Debug for Completion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Completion").field("own_result", &self.own_result).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) supply: FileSupply,
    pub(crate) chain_files: VecDeque<ChainFile>,
    /// What the records so far say of each group.
    pub(crate) bases: BTreeMap<GroupId, Base>,
    /// Live entries and their bytes by file.
    pub(crate) live: Released,
    pub(crate) chain: Chain,
    /// Where the next record goes in the newest file. The buffer holds what is in front of it, unwritten.
    pub(crate) position: u64,
    pub(crate) buffer: Vec<u8>,
    pub(crate) next_generation: u32,
    pub(crate) durable: Position,
    pub(crate) marked: Position,
    /// The newest file has its end record; only while opening.
    pub(crate) closed: bool,
    /// Keeps other processes out.
    pub(crate) lock: Option<Box<dyn std::fmt::Debug + Send + Sync>>,
    /// Groups that changed since `told_from` of the newest file, and where they changed last.
    touched: BTreeMap<GroupId, u64>,
    told_from: u64,
    /// Where the last two marks of the newest file are.
    marks: [u64; 2],
    placed: Vec<Placed>,
    /// Released by records that are not durable yet.
    released: Released,
    /// Written entries whose payloads are cached, in order: (group, last index, bytes).
    cached: VecDeque<(Arc<Group>, u64, usize)>,
    cached_bytes: usize,
    /// Last indexes of entries whose payloads are not kept, by group.
    unread: Vec<(Arc<Group>, u64)>,
    last_sync: Option<Instant>,
    failed: Option<StorageError>,
    /// Operations that are not encoded yet, and how many entries of the first one are.
    work: VecDeque<(Arc<Group>, Operation)>,
    entries_encoded: usize,
    /// Of all operations that are not durable yet; the last ones belong to `work`.
    completions: VecDeque<Completion>,
    /// The newest file has its end record, and there is no next one yet.
    pub(crate) needs_file: bool,
    /// There is no room for the next file: nothing is written meanwhile, and all that was written is durable.
    waiting: Option<StorageError>,
    has_shortage: bool,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, supply: FileSupply, epoch: u32, next_generation: u32) -> Self {
        Self {
            shared,
            supply,
            chain_files: VecDeque::new(),
            bases: BTreeMap::new(),
            live: Released::new(),
            chain: Chain { generation: 0, epoch, previous_crc: 0 },
            position: 0,
            buffer: Vec::new(),
            next_generation,
            durable: (0, 0),
            marked: (0, 0),
            closed: false,
            lock: None,
            touched: BTreeMap::new(),
            told_from: 0,
            marks: [0; 2],
            placed: Vec::new(),
            released: Released::new(),
            cached: VecDeque::new(),
            cached_bytes: 0,
            unread: Vec::new(),
            last_sync: None,
            failed: None,
            work: VecDeque::new(),
            entries_encoded: 0,
            completions: VecDeque::new(),
            needs_file: false,
            waiting: None,
            has_shortage: false,
        }
    }

    /// The thread's loop, until the journal is closed.
    pub(crate) fn run(&mut self) {
        self.last_sync = Some(Instant::now());
        let mut delay = WAIT_MIN;
        loop {
            if self.is_waiting() {
                if self.shared.is_closed_within(delay) {
                    self.give_up();
                    break;
                }
                delay = (delay * 2).min(WAIT_MAX);
                self.retry();
                continue;
            }
            delay = WAIT_MIN;
            let timeout = self.next_timeout();
            match self.shared.take(timeout) {
                Taken::Batch(batch) => self.process(batch),
                Taken::Idle => self.idle(),
                Taken::Closed => break,
            }
        }
        self.finish();
    }

    fn next_timeout(&self) -> Option<Duration> {
        if self.failed.is_some() {
            return None;
        }
        let unsynced = self.durable != self.here();
        let timeout = match self.shared.options.sync {
            SyncPolicy::Interval(interval) if unsynced => {
                let elapsed = self.last_sync.map_or(interval, |at| at.elapsed());
                Some(interval.saturating_sub(elapsed))
            }
            SyncPolicy::Always if self.marked != self.durable => Some(IDLE_MARK_DELAY),
            _ => None,
        };
        if self.supply.is_busy() {
            Some(timeout.map_or(SUPPLY_POLL, |at| at.min(SUPPLY_POLL)))
        } else {
            timeout
        }
    }

    /// Nothing was queued for a while.
    pub(crate) fn idle(&mut self) {
        if self.failed.is_some() {
            return;
        }
        let result = match self.shared.options.sync {
            SyncPolicy::Always => self.write_mark(),
            SyncPolicy::Interval(_) => self.sync(),
            SyncPolicy::Never => Ok(()),
        };
        match result {
            Err(error) if !self.is_waiting() => return self.fail(&error),
            _ => {}
        }
        if self.supply.is_busy() {
            self.supply.prepare();
        }
        self.note_shortage();
    }

    /// Notes the durable position, without a sync of its own.
    fn write_mark(&mut self) -> Result<(), StorageError> {
        self.emit_mark()?;
        self.write_out()
    }

    /// Last words of an orderly stop.
    pub(crate) fn finish(&mut self) {
        if self.failed.is_none() && !self.is_waiting() {
            let result = self.sync().and_then(|()| self.write_mark()).and_then(|()| self.sync());
            if let Err(error) = result {
                self.fail(&error);
            }
        }
        self.shared.files.write().clear();
    }

    /// Makes a batch durable and completes it.
    pub(crate) fn process(&mut self, batch: Vec<Request>) {
        if self.failed.is_some() {
            let stopped = self.shared.stopped();
            batch.into_iter().for_each(|request| complete(request.done, Err(stopped.clone())));
            return;
        }
        let counters = &self.shared.counters;
        counters.batches.fetch_add(1, Ordering::Relaxed);
        counters.requests.fetch_add(batch.len() as u64, Ordering::Relaxed);
        // All callbacks are kept aside first: an error on the way fails every one of them.
        for request in batch {
            let own_result = match &request.operation {
                Operation::Reject(error) => Err(error.clone()),
                _ => Ok(()),
            };
            self.completions.push_back(Completion { done: request.done, own_result });
            self.work.push_back((request.group, request.operation));
        }
        self.go_on();
    }

    /// Writes what there is to write. Where there is no room for the next file, what was written so far is durable,
    /// and the rest waits.
    fn go_on(&mut self) {
        let result = self.write_work();
        if self.is_waiting() {
            let durable = self.completions.len().saturating_sub(self.work.len());
            let completions: Vec<_> = self.completions.drain(..durable).collect();
            completions.into_iter().for_each(|one| complete(one.done, one.own_result));
            return self.note_shortage();
        }
        if let Err(error) = &result {
            self.fail(error);
            self.work.clear();
        }
        for Completion { done, own_result } in std::mem::take(&mut self.completions) {
            complete(done, result.clone().and(own_result));
        }
        if self.failed.is_none() {
            self.evict_payloads();
            // Early, so that what a full disk stops goes on for a while: deletions make room.
            if self.position > self.newest_bytes() / 8 {
                self.supply.prepare();
            }
            self.note_shortage();
        }
    }

    /// Whether the disk is full and nothing is written until `retry` finds room.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Tries again to take a new file into use, and goes on in it.
    pub(crate) fn retry(&mut self) {
        if self.roll(0).is_ok() {
            tracing::info!("the journal goes on: there is room for its next file");
        } else if self.is_waiting() {
            return;
        }
        self.go_on();
    }

    /// The journal is closed before there was room.
    fn give_up(&mut self) {
        let reason = self.waiting.as_ref().map(ToString::to_string).unwrap_or_default();
        self.work.clear();
        self.shared.abandon(&format!("it was closed while the disk was full ({reason})"));
        let stopped = self.shared.stopped();
        for Completion { done, .. } in std::mem::take(&mut self.completions) {
            complete(done, Err(stopped.clone()));
        }
    }

    pub(crate) fn note_shortage(&mut self) {
        let refusal = self.supply.refusal().filter(|error| error.is_out_of_space());
        let Some(error) = self.waiting.as_ref().or(refusal) else {
            if std::mem::take(&mut self.has_shortage) {
                self.shared.set_shortage(None);
            }
            return;
        };
        let reason = error.to_string().into();
        self.shared.set_shortage(Some(Shortage { reason, is_waiting: self.is_waiting() }));
        self.has_shortage = true;
    }

    fn fail(&mut self, error: &StorageError) {
        tracing::error!("the journal stops: {error}");
        self.shared.fail(error);
        self.failed = Some(error.clone());
    }

    fn write_work(&mut self) -> Result<(), StorageError> {
        self.emit_mark()?;
        while let Some((group, mut operation)) = self.work.pop_front() {
            if let Err(error) = self.encode_operation(&group, &mut operation) {
                self.work.push_front((group, operation));
                return Err(error);
            }
        }
        self.move_forward()?;
        self.write_out()?;
        match self.shared.options.sync {
            SyncPolicy::Always => self.sync()?,
            SyncPolicy::Interval(interval) => {
                if self.last_sync.is_some_and(|at| at.elapsed() >= interval) {
                    self.sync()?;
                }
            }
            SyncPolicy::Never => {}
        }
        Ok(())
    }

    /// After an error the same operation goes on where it stopped.
    fn encode_operation(
        &mut self,
        group: &Arc<Group>,
        operation: &mut Operation,
    ) -> Result<(), StorageError> {
        let id = group.id;
        match operation {
            Operation::Append { entries, ticket, cached } => {
                while let Some(entry) = entries.get(self.entries_encoded) {
                    self.encode_entry(group, entry, *ticket)?;
                    self.entries_encoded += 1;
                }
                self.entries_encoded = 0;
                self.shared.counters.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
                if let (false, Some(last)) = (*cached, entries.last()) {
                    self.unread.push((Arc::clone(group), last.index));
                } else if let Some(last) = entries.last() {
                    let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
                    self.cached.push_back((Arc::clone(group), last.index, bytes));
                    self.cached_bytes += bytes;
                }
            }
            Operation::Truncate { index, released } => {
                self.emit(Fields { kind: Kind::Truncate, group: id.0, term: 0, index: *index }, &[])?;
                self.bases.entry(id).or_default().truncate_after(*index);
                self.release(std::mem::take(released));
            }
            Operation::Purge { index, released } => {
                self.emit(Fields { kind: Kind::Purge, group: id.0, term: 0, index: *index }, &[])?;
                self.bases.entry(id).or_default().purge_to(*index);
                self.release(std::mem::take(released));
            }
            Operation::PutState { key, value } => {
                self.emit(Fields { kind: Kind::State, group: id.0, term: u64::from(*key), index: 0 }, value)?;
                self.bases.entry(id).or_default().states.insert(*key, value.clone());
            }
            Operation::Drop { released } => {
                self.emit(Fields { kind: Kind::Drop, group: id.0, term: 0, index: 0 }, &[])?;
                self.bases.remove(&id);
                self.release(std::mem::take(released));
            }
            Operation::Reject(_) => {}
        }
        // Last: a file that was begun for it has told of everything before.
        self.touched.insert(id, self.position);
        Ok(())
    }

    fn encode_entry(
        &mut self,
        group: &Arc<Group>,
        entry: &JournalEntry,
        ticket: u32,
    ) -> Result<(), StorageError> {
        let fields = Fields { kind: Kind::Entry, group: group.id.0, term: entry.term, index: entry.index };
        let slot = self.emit(fields, &entry.payload)?;
        self.bases.entry(group.id).or_default().append(entry.index);
        self.placed.push(Placed::New { group: Arc::clone(group), index: entry.index, ticket, slot });
        Ok(())
    }

    /// Bytes a record with this payload takes.
    fn record_bytes(&self, payload_length: usize) -> usize {
        record_bytes(stored_bytes(payload_length, self.shared.vault()))
    }

    /// Encodes a record behind the last one, in the next file when this one is full.
    pub(crate) fn emit(&mut self, fields: Fields, payload: &[u8]) -> Result<Slot, StorageError> {
        let stored = stored_bytes(payload.len(), self.shared.vault());
        let needed = record_bytes(stored);
        self.make_room(needed)?;
        let offset = u32::try_from(self.position).map_err(|_| StorageError::TooLarge {
            what: "journal file",
            size: self.position,
            limit: u64::from(u32::MAX),
        })?;
        let vault = self.shared.vault();
        encode(&mut self.buffer, &mut self.chain, fields, payload, self.position, vault);
        self.position += needed as u64;
        Ok(Slot {
            generation: self.chain.generation,
            offset,
            length: u32::try_from(stored).unwrap_or(u32::MAX),
            term: fields.term,
        })
    }

    /// Goes on in the next file where the newest has no room for a record and its end record.
    fn make_room(&mut self, needed: usize) -> Result<(), StorageError> {
        let end = self.record_bytes(END_PAYLOAD_BYTES) as u64;
        let is_full = self.needs_file || self.position + needed as u64 + end > self.newest_bytes();
        if is_full { self.roll(needed) } else { Ok(()) }
    }

    fn emit_mark(&mut self) -> Result<(), StorageError> {
        if self.marked == self.durable {
            return Ok(());
        }
        let (generation, offset) = self.durable;
        let mut payload = self.oldest_generation().to_le_bytes().to_vec();
        for id in self.touched.keys() {
            Summary::of(*id, self.bases.get(id)).encode(&mut payload);
        }
        self.make_room(self.record_bytes(payload.len()))?;
        if self.durable.0 != generation {
            // The file begun now says all that the mark would have said.
            return Ok(());
        }
        let (told_from, here) = (self.told_from, self.position);
        let fields =
            Fields { kind: Kind::Mark, group: told_from, term: u64::from(generation), index: offset };
        self.emit(fields, &payload)?;
        self.marked = (generation, offset);
        let [before_last, last] = self.marks;
        self.marks = [last, here];
        let keep_from = here.saturating_sub(TOLD_AGAIN_BYTES).min(before_last).max(told_from);
        self.touched.retain(|_, changed_at| *changed_at >= keep_from);
        self.told_from = keep_from;
        Ok(())
    }

    /// All groups count as changed: what was written last before a start is in no mark yet. What was found out at the
    /// start is not told anew as if nothing were missing before it.
    pub(crate) fn tell_all(&mut self) {
        let here = self.position;
        self.touched = self.bases.keys().map(|id| (*id, here)).collect();
        self.told_from = here;
        self.marks = [here; 2];
    }

    /// Writes the buffer and gives the entries in it their places.
    pub(crate) fn write_out(&mut self) -> Result<(), StorageError> {
        self.write_second_header()?;
        if !self.buffer.is_empty() {
            let Some(newest) = self.chain_files.back() else { return Ok(()) };
            let start = self.position - self.buffer.len() as u64;
            newest.file.file.write_log_at(&self.buffer, start).context("write", &newest.file.path)?;
            self.shared.counters.bytes.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
            self.buffer.clear();
            if self.buffer.capacity() > BUFFER_KEEP_BYTES {
                self.buffer = Vec::new();
            }
        }
        for placed in std::mem::take(&mut self.placed) {
            self.place(placed);
        }
        Ok(())
    }

    /// Once the first copy of the newest file's header is durable, the second becomes the same: a flipped
    /// bit in one of them then does not make the file look unused.
    fn write_second_header(&mut self) -> Result<(), StorageError> {
        let (generation, offset) = self.durable;
        let Some(newest) = self.chain_files.back_mut() else { return Ok(()) };
        if generation != newest.generation || offset <= FILE_HEADER_BYTES {
            return Ok(());
        }
        if let Some(header) = newest.one_copy.take() {
            let at = FileHeader::copy_offset(1 - newest.header_copy);
            newest.file.file.write_at(&header.encode(), at).context("write", &newest.file.path)?;
        }
        Ok(())
    }

    fn place(&mut self, placed: Placed) {
        match placed {
            Placed::New { group, index, ticket, slot } => {
                if group.log.lock().place(index, ticket, slot) {
                    self.count_live(slot);
                }
            }
            Placed::Moved { group, index, from, to } => {
                if group.log.lock().relocate(index, from, to) {
                    self.count_live(to);
                    self.release(Released::from([(from.generation, (1, from.bytes()))]));
                }
            }
        }
    }

    fn count_live(&mut self, slot: Slot) {
        let live = self.live.entry(slot.generation).or_default();
        live.0 += 1;
        live.1 += slot.bytes();
    }

    /// Remembers what leaves the files once the records that say so are durable.
    fn release(&mut self, released: Released) {
        for (generation, (entries, bytes)) in released {
            let sum = self.released.entry(generation).or_default();
            sum.0 += entries;
            sum.1 += bytes;
        }
    }

    /// Makes everything written durable; then old files may go.
    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        self.last_sync = self.last_sync.map(|_| Instant::now());
        if self.durable != self.here() {
            self.sync_newest()?;
        }
        for (generation, (entries, bytes)) in std::mem::take(&mut self.released) {
            let live = self.live.entry(generation).or_default();
            live.0 = live.0.saturating_sub(entries);
            live.1 = live.1.saturating_sub(bytes);
        }
        self.recycle();
        Ok(())
    }

    fn sync_newest(&mut self) -> Result<(), StorageError> {
        let Some(newest) = self.chain_files.back() else { return Ok(()) };
        newest.file.file.sync_data().context("sync", &newest.file.path)?;
        self.shared.counters.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.durable = self.here();
        Ok(())
    }

    pub(crate) fn here(&self) -> Position {
        (self.chain.generation, self.position - self.buffer.len() as u64)
    }

    fn newest_bytes(&self) -> u64 {
        self.chain_files.back().map_or(0, |newest| newest.file.bytes)
    }

    fn oldest_generation(&self) -> u32 {
        self.chain_files.front().map_or(0, |oldest| oldest.generation)
    }

    /// Closes the newest file and goes on in the next one, which restates all groups.
    fn roll(&mut self, needed: usize) -> Result<(), StorageError> {
        if !self.needs_file {
            self.close_newest()?;
        }
        self.activate(needed)
    }

    fn close_newest(&mut self) -> Result<(), StorageError> {
        // Files freed by this sync are not needed according to the end record that follows, before one of
        // them can be overwritten.
        self.write_out()?;
        self.sync()?;
        let oldest = self.oldest_generation().to_le_bytes();
        let fields = Fields { kind: Kind::End, group: 0, term: 0, index: self.position };
        let vault = self.shared.vault();
        encode(&mut self.buffer, &mut self.chain, fields, &oldest, self.position, vault);
        self.position += self.record_bytes(END_PAYLOAD_BYTES) as u64;
        self.write_out()?;
        self.sync_newest()?;
        self.needs_file = true;
        Ok(())
    }

    /// Takes a file into use: header, then the base of every group. Everything before it is durable.
    pub(crate) fn activate(&mut self, needed: usize) -> Result<(), StorageError> {
        let bases: Vec<(GroupId, Vec<u8>)> =
            self.bases.iter().map(|(id, base)| (*id, base.encode())).collect();
        let base_bytes: usize = bases.iter().map(|(_, base)| self.record_bytes(base.len())).sum();
        // Much base in a small file would leave no room for entries.
        let fixed = self.record_bytes(0) + self.record_bytes(END_PAYLOAD_BYTES) + self.record_bytes(8);
        let bytes_min = FILE_HEADER_BYTES + (needed + fixed + base_bytes * 2) as u64;
        let FreeFile { file, header_copy } = match self.supply.take(bytes_min) {
            Ok(free) => free,
            Err(error) => {
                // Nothing of it was in use: a later attempt is a new one. The first file of all is not waited for.
                self.waiting = (error.is_out_of_space() && self.needs_file).then(|| error.clone());
                return Err(error);
            }
        };
        (self.needs_file, self.waiting) = (false, None);
        let generation = self.next_generation;
        self.next_generation += 1;
        let header = FileHeader {
            generation,
            epoch: self.chain.epoch,
            previous_generation: self.chain_files.back().map_or(0, |newest| newest.generation),
            oldest_generation: self.chain_files.front().map_or(generation, |oldest| oldest.generation),
            file_bytes: file.bytes,
            sealed: self.shared.vault().is_some(),
        };
        let header_copy = 1 - header_copy;
        file.file
            .write_at(&header.encode(), FileHeader::copy_offset(header_copy))
            .context("write", &file.path)?;
        self.shared.files.write().insert(generation, Arc::clone(&file));
        self.chain_files.push_back(ChainFile { generation, file, header_copy, one_copy: Some(header) });
        self.chain = Chain { generation, epoch: self.chain.epoch, previous_crc: header.chain_seed() };
        self.position = FILE_HEADER_BYTES;
        for (id, base) in &bases {
            self.emit(Fields { kind: Kind::Base, group: id.0, term: 0, index: 0 }, base)?;
        }
        let count = bases.len() as u64;
        self.emit(Fields { kind: Kind::BaseEnd, group: 0, term: 0, index: count }, &[])?;
        self.touched.clear();
        self.told_from = self.position;
        self.marks = [self.position; 2];
        // The header says that everything before is durable.
        self.durable = (generation, FILE_HEADER_BYTES);
        self.marked = self.durable;
        Ok(())
    }

    /// Gives back the oldest files that hold no live entry.
    pub(crate) fn recycle(&mut self) {
        while self.chain_files.len() > 1 {
            let Some(oldest) = self.chain_files.front() else { return };
            let generation = oldest.generation;
            if self.live.get(&generation).is_some_and(|live| live.0 > 0) {
                return;
            }
            self.live.remove(&generation);
            self.shared.files.write().remove(&generation);
            if let Some(ChainFile { file, header_copy, .. }) = self.chain_files.pop_front() {
                self.shared.counters.files_recycled.fetch_add(1, Ordering::Relaxed);
                self.supply.put(FreeFile { file, header_copy });
            }
        }
    }

    /// Moves live entries out of the oldest file, a bounded part with each batch, when too many files are
    /// in use and the oldest holds little.
    fn move_forward(&mut self) -> Result<(), StorageError> {
        if self.chain_files.len() <= self.shared.options.max_live_files {
            return Ok(());
        }
        let Some(oldest) = self.chain_files.front() else { return Ok(()) };
        let (generation, file) = (oldest.generation, Arc::clone(&oldest.file));
        let live_bytes = self.live.get(&generation).map_or(0, |live| live.1);
        // Moving what is mostly live would only write the journal again and again.
        if live_bytes > file.bytes / 4 {
            return Ok(());
        }
        let mut moved_bytes = 0;
        for group in self.shared.all_groups() {
            if moved_bytes >= MOVE_BYTES_PER_BATCH {
                break;
            }
            let slots = group.log.lock().slots_in(generation, MOVE_ENTRIES_PER_GROUP);
            let mut window = Window::default();
            for (index, slot) in slots {
                moved_bytes += self.move_entry(&group, index, slot, &file, &mut window)?;
                if moved_bytes >= MOVE_BYTES_PER_BATCH {
                    break;
                }
            }
        }
        self.shared.counters.bytes_moved.fetch_add(moved_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn move_entry(
        &mut self,
        group: &Arc<Group>,
        index: u64,
        from: Slot,
        file: &LogFile,
        window: &mut Window,
    ) -> Result<u64, StorageError> {
        let (fields, payload) = match window.record(file, from, self.shared.vault())? {
            Some((fields, payload)) if (fields.group, fields.index) == (group.id.0, index) => {
                (fields, payload)
            }
            _ => {
                if group.log.lock().relocate(index, from, Slot { generation: MISSING, ..from }) {
                    tracing::error!("journal group {}: entry {index} is unreadable", group.id.0);
                    self.release(Released::from([(from.generation, (1, from.bytes()))]));
                }
                return Ok(0);
            }
        };
        let to = self.emit(Fields { kind: Kind::Moved, ..fields }, &payload)?;
        self.placed.push(Placed::Moved { group: Arc::clone(group), index, from, to });
        Ok(to.bytes())
    }

    /// Keeps the payload cache within its bound, oldest first.
    fn evict_payloads(&mut self) {
        for (group, index) in self.unread.drain(..) {
            group.log.lock().forget_payload(index);
        }
        while self.cached_bytes > self.shared.options.cache_bytes {
            let Some((group, index, bytes)) = self.cached.pop_front() else { break };
            group.log.lock().forget_payload(index);
            self.cached_bytes -= bytes;
        }
        self.shared.counters.cached_bytes.store(self.cached_bytes as u64, Ordering::Relaxed);
    }
}

/// A callback that panics must not take the journal with it.
pub(crate) fn complete(done: Done, result: Result<(), StorageError>) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| done(result))).is_err() {
        tracing::error!("a journal callback panicked");
    }
}

const END_PAYLOAD_BYTES: usize = 4;
