//! The content of a file store: its segments, its subjects, its counters. The newest records wait in a
//! buffer until it is large enough to be written to the newest segment.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

use super::chunks::ChunkCache;
use super::framed::is_missing;
use super::index::{SegmentIndex, Slot};
use super::segment::{ReadAhead, Segment, encode_header, segment_path};
use super::snapshot::{CodedPart, Part, StorePart};
use super::subjects::{BySubject, Subjects};
use super::{Filter, Lookup, StoreState, StoredMessage, record};
use crate::disk::{Disk, DiskFile};
use crate::error::{IoContext, StorageError};

/// Sizes that tests make small, and where the checksums of the records start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Segments start at this size and grow with the store to the other.
    pub(crate) segment_bytes_min: u64,
    pub(crate) segment_bytes_max: u64,
    pub(crate) buffer_bytes: usize,
    pub(crate) recent_bytes: usize,
    pub(crate) seed: u32,
    /// What is written is compressed.
    pub(crate) compress: bool,
}

/// Live records that are in a file.
type Filed = Vec<(u64, Slot)>;

/// Bytes kept while the disk is full; a store that got more stops.
const UNWRITTEN_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    pub(crate) sizes: Sizes,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) subjects: Subjects,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_timestamp: UnixNanos,
    pub(crate) next_segment_id: u64,
    pub(crate) subjects_changed: bool,
    /// Files of segments that left; deleted when no kept checkpoint needs them.
    pub(crate) retired: Vec<PathBuf>,
    /// Removed records to be overwritten after the next checkpoint, by segment.
    erasures: Vec<(u64, Slot)>,
    /// The end of the newest segment, not written yet.
    unwritten: Vec<u8>,
    /// The disk was full when the buffer was to be written; the journal has what it holds.
    pub(crate) shortage: Option<StorageError>,
    /// Bytes in the buffer at which writing it is tried next.
    write_out_at: usize,
    recent: VecDeque<StoredMessage>,
    recent_bytes: usize,
    read_ahead: RefCell<ReadAhead>,
    chunk: RefCell<ChunkCache>,
    first_timestamp: Cell<Option<(u64, UnixNanos)>>,
}

impl Content {
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: PathBuf, sizes: Sizes, next_segment_id: u64) -> Self {
        Self {
            disk,
            directory,
            sizes,
            segments: VecDeque::new(),
            subjects: Subjects::default(),
            messages: 0,
            bytes: 0,
            first_seq: 0,
            last_seq: 0,
            last_timestamp: UnixNanos::ZERO,
            next_segment_id,
            subjects_changed: true,
            retired: Vec::new(),
            erasures: Vec::new(),
            unwritten: Vec::new(),
            shortage: None,
            write_out_at: sizes.buffer_bytes,
            recent: VecDeque::new(),
            recent_bytes: 0,
            read_ahead: RefCell::default(),
            chunk: RefCell::default(),
            first_timestamp: Cell::new(None),
        }
    }

    fn index<'a>(&'a self, segment: &'a Segment) -> Result<&'a SegmentIndex, StorageError> {
        segment.index(&*self.disk, &self.directory)
    }

    /// The first segment that may hold a sequence at or after `seq`.
    fn segment_from(&self, seq: u64) -> usize {
        self.segments.partition_point(|segment| segment.last_seq < seq)
    }

    pub(crate) fn append(&mut self, message: &StoredMessage) -> Result<(), StorageError> {
        let seq = message.seq;
        if seq <= self.last_seq {
            return Err(StorageError::SequenceOrder { last: self.last_seq, got: seq });
        }
        self.newest_segment_for(seq)?;
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        let offset = u32::try_from(segment.data_bytes).unwrap_or(u32::MAX);
        let length = record::encode(&mut self.unwritten, message, self.sizes.seed)?;
        let subject = match self.subjects.add(&message.subject, seq) {
            Ok(subject) => subject,
            Err(error) => {
                self.unwritten.truncate(self.unwritten.len() - length);
                return Err(error);
            }
        };
        let slot = Slot { offset, length: u32::try_from(length).unwrap_or(u32::MAX), subject };
        segment.index_mut(&*self.disk, &self.directory)?.push(seq, slot);
        segment.note_append(seq, message.timestamp, length);
        self.subjects_changed = true;
        self.messages += 1;
        self.bytes += length as u64;
        self.last_seq = seq;
        self.last_timestamp = message.timestamp;
        if self.messages == 1 {
            self.first_seq = seq;
            self.first_timestamp.set(Some((seq, message.timestamp)));
        }
        self.remember(message, length);
        if self.unwritten.len() >= self.write_out_at {
            self.write_out_or_wait()?;
        }
        Ok(())
    }

    /// Writes the buffer, or keeps it while the disk is full.
    fn write_out_or_wait(&mut self) -> Result<(), StorageError> {
        match self.write_out() {
            Err(error) if error.is_retryable() && self.unwritten.len() < UNWRITTEN_BYTES_MAX => {
                self.write_out_at = self.unwritten.len() + self.sizes.buffer_bytes;
                self.shortage = Some(error);
                Ok(())
            }
            result => result,
        }
    }

    /// Makes sure that the newest segment can take `seq`.
    fn newest_segment_for(&mut self, seq: u64) -> Result<(), StorageError> {
        let target = (self.bytes / 8).clamp(self.sizes.segment_bytes_min, self.sizes.segment_bytes_max);
        if let Some(newest) = self.segments.back()
            && newest.data_bytes < target
            && newest.index(&*self.disk, &self.directory)?.accepts(seq)
        {
            return Ok(());
        }
        self.write_out_or_wait()?;
        if !self.unwritten.is_empty() && self.stretch_newest(seq)? {
            return Ok(());
        }
        self.write_out()?;
        self.drop_newest_if_empty();
        self.start_segment(SegmentIndex::new(seq), seq);
        Ok(())
    }

    /// There is one buffer: while it cannot be written, its segment takes what the next one would. False when it
    /// cannot take that sequence.
    fn stretch_newest(&mut self, seq: u64) -> Result<bool, StorageError> {
        let Some(newest) = self.segments.back_mut() else { return Ok(false) };
        let index = newest.index_mut(&*self.disk, &self.directory)?;
        if !index.accepts(seq) {
            index.make_sparse();
        }
        Ok(index.accepts(seq))
    }

    fn start_segment(&mut self, index: SegmentIndex, base_seq: u64) {
        let id = self.next_segment_id;
        self.next_segment_id += 1;
        let coded = self.codes_segments();
        self.unwritten = encode_header(id, coded);
        if let Some(full) = self.segments.back_mut() {
            full.shrink_index();
        }
        self.segments.push_back(Segment::new(id, self.sizes.seed, base_seq, index, coded));
    }

    /// New segments are compressed or encrypted.
    pub(crate) fn codes_segments(&self) -> bool {
        self.sizes.compress || self.disk.vault().is_some()
    }

    /// A segment whose messages are all gone stays while it is the newest.
    fn drop_newest_if_empty(&mut self) {
        if self.segments.back().is_some_and(|newest| newest.live == 0) {
            let last = self.segments.len() - 1;
            self.retire(last);
        }
    }

    fn remember(&mut self, message: &StoredMessage, length: usize) {
        self.recent.push_back(message.clone());
        self.recent_bytes += length;
        while self.recent_bytes > self.sizes.recent_bytes {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= record_length(&oldest);
        }
    }

    /// Bytes of the newest segment that are in its file.
    pub(crate) fn written_bytes(&self, segment: &Segment) -> u64 {
        let newest = self.segments.back().is_some_and(|newest| newest.id == segment.id);
        segment.data_bytes - if newest { self.unwritten.len() as u64 } else { 0 }
    }

    /// Writes the buffer to the newest segment's file (the page cache).
    pub(crate) fn write_out(&mut self) -> Result<(), StorageError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let Some(newest) = self.segments.back_mut() else { return Ok(()) };
        let offset = newest.data_bytes - self.unwritten.len() as u64;
        newest.write(&*self.disk, &self.directory, &self.unwritten, offset, self.sizes.compress)?;
        self.unwritten.clear();
        (self.shortage, self.write_out_at) = (None, self.sizes.buffer_bytes);
        self.read_ahead.borrow_mut().forget();
        Ok(())
    }

    /// The live records of a segment that are in its file, and the messages that are only in the buffer.
    pub(crate) fn split_live(&self, segment: &Segment) -> Result<(Filed, Vec<StoredMessage>), StorageError> {
        let written = self.written_bytes(segment);
        let (filed, buffered): (Vec<_>, Vec<_>) =
            self.live_slots(segment)?.into_iter().partition(|(_, slot)| u64::from(slot.offset) < written);
        let mut messages = Vec::with_capacity(buffered.len());
        for (seq, slot) in buffered {
            let message = self.read(segment, seq, slot)?.ok_or(StorageError::UnreadableMessage { seq })?;
            messages.push(message);
        }
        Ok((filed, messages))
    }

    pub(crate) fn get(&self, seq: u64) -> Result<Lookup, StorageError> {
        if seq < self.first_seq || seq > self.last_seq {
            return Ok(Lookup::Missing);
        }
        let Some(segment) = self.segments.get(self.segment_from(seq)) else { return Ok(Lookup::Missing) };
        if seq < segment.base_seq {
            return Ok(Lookup::Missing);
        }
        let Ok(index) = self.index(segment) else { return Ok(Lookup::Unreadable) };
        match index.get(seq) {
            Some(slot) => Ok(self.read(segment, seq, slot)?.map_or(Lookup::Unreadable, Lookup::Found)),
            None => Ok(Lookup::Missing),
        }
    }

    /// Reads a live message; nothing when its bytes are not what was written.
    fn read(&self, segment: &Segment, seq: u64, slot: Slot) -> Result<Option<StoredMessage>, StorageError> {
        if let Some(message) = self.recently(seq) {
            return Ok(Some(message));
        }
        let Some(bytes) = self.record_bytes(segment, slot)? else { return Ok(None) };
        let message = record::decode(&bytes, self.sizes.seed).filter(|message| message.seq == seq);
        if message.is_none() {
            let path = segment_path(&self.directory, segment.id);
            tracing::error!("{}: message {seq} at byte {} is damaged", path.display(), slot.offset);
        }
        Ok(message)
    }

    fn recently(&self, seq: u64) -> Option<StoredMessage> {
        let oldest = self.recent.front()?.seq;
        if seq < oldest {
            return None;
        }
        // Without holes the place is known.
        let guess = usize::try_from(seq - oldest).ok()?;
        if let Some(message) = self.recent.get(guess)
            && message.seq == seq
        {
            return Some(message.clone());
        }
        let at = self.recent.partition_point(|message| message.seq < seq);
        self.recent.get(at).filter(|message| message.seq == seq).cloned()
    }

    /// The bytes of a record; nothing when its file cannot be used.
    pub(crate) fn record_bytes(&self, segment: &Segment, slot: Slot) -> Result<Option<Bytes>, StorageError> {
        let written = self.written_bytes(segment);
        if u64::from(slot.offset) >= written {
            let from = usize::try_from(u64::from(slot.offset) - written).unwrap_or(usize::MAX);
            let bytes = self.unwritten.get(from..from + slot.length as usize);
            return Ok(bytes.map(Bytes::copy_from_slice));
        }
        let file = match segment.file(&*self.disk, &self.directory) {
            Ok(file) => file,
            Err(error @ StorageError::Io { .. }) if !is_missing(&error) => return Err(error),
            Err(error) => {
                tracing::error!("{error}");
                return Ok(None);
            }
        };
        // The path is put together for an error only.
        let unreadable = |error| StorageError::io("read", &segment_path(&self.directory, segment.id), error);
        if segment.is_coded() {
            let (chunks, coding) = (&self.index(segment)?.chunks, segment.coding(&*self.disk));
            let (offset, length) = (u64::from(slot.offset), slot.length as usize);
            let bytes = self.chunk.borrow_mut().read(&*file, chunks, coding, offset, length);
            return bytes.map_err(unreadable);
        }
        let bytes =
            self.read_ahead.borrow_mut().read(segment.id, &*file, slot, written).map_err(unreadable)?;
        Ok(Some(bytes))
    }

    /// The first live message in `from..=to` whose subject number passes.
    pub(crate) fn find(
        &self,
        from: u64,
        to: u64,
        mut passes: impl FnMut(u32) -> bool,
    ) -> Result<Option<(u64, Slot, &Segment)>, StorageError> {
        for segment in self.segments.range(self.segment_from(from)..) {
            if segment.base_seq > to {
                break;
            }
            if segment.live == 0 {
                continue;
            }
            if let Some((seq, slot)) = self.index(segment)?.next_where(from, to, &mut passes) {
                return Ok(Some((seq, slot, segment)));
            }
        }
        Ok(None)
    }

    pub(crate) fn next_match(
        &self,
        filter: &Filter,
        from: u64,
    ) -> Result<Option<StoredMessage>, StorageError> {
        let from = from.max(self.first_seq);
        let found = if filter.is_all() {
            self.find(from, self.last_seq, |_| true)?
        } else if let Some(subject) = filter.single_literal() {
            let Some(entry) = self.subjects.get(subject) else { return Ok(None) };
            let (first, last) = entry.bounds();
            let number = entry.number;
            if last < from { None } else { self.find(from.max(first), last, |subject| subject == number)? }
        } else {
            self.find_pattern(filter, from)?
        };
        let Some((seq, slot, segment)) = found else { return Ok(None) };
        self.read(segment, seq, slot)?.map(Some).ok_or(StorageError::UnreadableMessage { seq })
    }

    /// Tries the next few messages one by one; if none passes, asks which subjects match at all.
    fn find_pattern(
        &self,
        filter: &Filter,
        from: u64,
    ) -> Result<Option<(u64, Slot, &Segment)>, StorageError> {
        const NEAR: u64 = 256;
        let near = from.saturating_add(NEAR).min(self.last_seq);
        let found = self.find(from, near, |number| filter.matches(self.subjects.name(number)))?;
        if found.is_some() || near >= self.last_seq {
            return Ok(found);
        }
        let matching = self.subjects.matching(filter);
        if matching.entries.is_empty() || matching.last <= near {
            return Ok(None);
        }
        let start = matching.first.max(near + 1);
        self.find(start, matching.last, |number| matching.contains(number))
    }

    pub(crate) fn num_pending(&self, filter: &Filter, from: u64) -> u64 {
        if filter.is_all() {
            if from <= self.first_seq {
                return self.messages;
            }
            let segments = self.segments.range(self.segment_from(from)..);
            return segments.map(|segment| self.live_from(segment, from)).sum();
        }
        let matching = self.subjects.matching(filter);
        if let Some(count) = matching.count_from(from) {
            return count;
        }
        // Count whichever side is shorter.
        let count_in = |from: u64, to: u64| {
            let mut count = 0;
            let mut next = from;
            while let Ok(Some((seq, _, _))) = self.find(next, to, |number| matching.contains(number)) {
                count += 1;
                next = seq + 1;
            }
            count
        };
        if from - matching.first < matching.last - from {
            matching.total() - count_in(matching.first, from - 1)
        } else {
            count_in(from, matching.last)
        }
    }

    fn live_from(&self, segment: &Segment, from: u64) -> u64 {
        if from <= segment.base_seq {
            return segment.live;
        }
        self.index(segment).map_or(0, |index| index.count_from(from))
    }

    pub(crate) fn remove(&mut self, seq: u64, erase: bool) -> Result<bool, StorageError> {
        let at = self.segment_from(seq);
        let Some(segment) = self.segments.get_mut(at) else { return Ok(false) };
        if seq < segment.base_seq {
            return Ok(false);
        }
        if segment.index(&*self.disk, &self.directory)?.get(seq).is_none() {
            return Ok(false);
        }
        let Some(slot) = segment.index_mut(&*self.disk, &self.directory)?.remove(seq) else {
            return Ok(false);
        };
        segment.note_removal(slot);
        self.forget(seq, slot);
        if erase {
            self.erase(at, slot);
        }
        if self.segments.get(at).is_some_and(|segment| segment.live == 0) && at + 1 < self.segments.len() {
            self.retire(at);
        }
        self.settle_first()?;
        Ok(true)
    }

    fn forget(&mut self, seq: u64, slot: Slot) {
        self.subjects.remove(slot.subject, seq);
        self.subjects_changed = true;
        self.messages -= 1;
        self.bytes -= u64::from(slot.length);
    }

    /// Overwrites a removed record: in the buffer now, on disk once no checkpoint has it as a message. A coded segment
    /// is rewritten without it instead.
    fn erase(&mut self, at: usize, slot: Slot) {
        let Some(segment) = self.segments.get(at) else { return };
        self.recent.clear();
        self.recent_bytes = 0;
        let written = self.written_bytes(segment);
        let Some(segment) = self.segments.get_mut(at) else { return };
        if u64::from(slot.offset) < written && segment.is_coded() {
            // Its neighbours could not be read any more, by a snapshot that is under way for one.
            segment.must_rewrite = true;
            return;
        }
        if u64::from(slot.offset) < written {
            self.erasures.push((segment.id, slot));
            return;
        }
        let from = usize::try_from(u64::from(slot.offset) - written).unwrap_or(usize::MAX);
        if let Some(bytes) = self.unwritten.get_mut(from..from + slot.length as usize) {
            bytes.fill(0);
        }
    }

    /// Overwrites what was erased before the checkpoint that is durable now.
    pub(crate) fn finish_erasures(&mut self) -> Result<(), StorageError> {
        for (id, slot) in std::mem::take(&mut self.erasures) {
            let Some(segment) = self.segments.iter_mut().find(|segment| segment.id == id) else { continue };
            let file = segment.file(&*self.disk, &self.directory)?;
            let path = segment_path(&self.directory, id);
            let zeros = vec![0; slot.length as usize];
            file.write_at(&zeros, u64::from(slot.offset)).context("erase in", &path)?;
            segment.data_changed = true;
            self.read_ahead.borrow_mut().forget();
        }
        Ok(())
    }

    /// True when the newest segment has nothing that is not in its file.
    pub(crate) fn is_written(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// Takes a segment out; its files go when no checkpoint needs them.
    fn retire(&mut self, at: usize) {
        if at + 1 == self.segments.len() {
            self.unwritten.clear();
            (self.shortage, self.write_out_at) = (None, self.sizes.buffer_bytes);
        }
        let Some(segment) = self.segments.remove(at) else { return };
        self.retired.push(segment_path(&self.directory, segment.id));
        if segment.index_generation != 0 {
            let generation = segment.index_generation;
            self.retired.push(super::segment::index_path(&self.directory, segment.id, generation));
        }
    }

    /// Puts a rewritten segment in the place of those it was made from.
    pub(crate) fn replace(&mut self, range: std::ops::Range<usize>, segment: Segment) {
        let start = range.start;
        for _ in range {
            self.retire(start);
        }
        if segment.live > 0 {
            self.segments.insert(start, segment);
        }
    }

    pub(crate) fn compact(&mut self, below: u64) -> Result<u64, StorageError> {
        let before = self.messages;
        if below > self.last_seq && self.messages > 0 {
            self.clear_messages();
        }
        while let Some(oldest) = self.segments.front() {
            if oldest.base_seq >= below {
                break;
            }
            let whole = oldest.last_seq < below;
            let gone: Vec<(u64, Slot)> =
                self.index(oldest)?.iter().take_while(|(seq, _)| *seq < below).collect();
            for (seq, slot) in gone {
                let Some(oldest) = self.segments.front_mut() else { break };
                oldest.index_mut(&*self.disk, &self.directory)?.remove(seq);
                oldest.note_removal(slot);
                self.forget(seq, slot);
            }
            if !whole || self.segments.len() == 1 {
                break;
            }
            self.retire(0);
        }
        self.last_seq = self.last_seq.max(below.saturating_sub(1));
        self.settle_first()?;
        Ok(before - self.messages)
    }

    /// Every message goes at once.
    pub(crate) fn clear_messages(&mut self) {
        while !self.segments.is_empty() {
            self.retire(self.segments.len() - 1);
        }
        self.subjects = Subjects::default();
        self.subjects_changed = true;
        (self.messages, self.bytes) = (0, 0);
        self.recent.clear();
        self.recent_bytes = 0;
    }

    pub(crate) fn skip_to(&mut self, seq: u64) -> Result<(), StorageError> {
        self.last_seq = self.last_seq.max(seq);
        self.settle_first()
    }

    pub(crate) fn settle_first(&mut self) -> Result<(), StorageError> {
        self.first_seq = if self.messages == 0 {
            if self.last_seq == 0 { 0 } else { self.last_seq + 1 }
        } else {
            match self.find(self.first_seq, self.last_seq, |_| true)? {
                Some((seq, _, _)) => seq,
                None => self.last_seq + 1,
            }
        };
        Ok(())
    }

    pub(crate) fn first_timestamp(&self) -> UnixNanos {
        if self.messages == 0 {
            return UnixNanos::ZERO;
        }
        if let Some((seq, timestamp)) = self.first_timestamp.get()
            && seq == self.first_seq
        {
            return timestamp;
        }
        let fallback = self.segments.front().map_or(UnixNanos::ZERO, |segment| segment.first_timestamp);
        match self.get(self.first_seq) {
            Ok(Lookup::Found(message)) => {
                self.first_timestamp.set(Some((self.first_seq, message.timestamp)));
                message.timestamp
            }
            _ => fallback,
        }
    }

    pub(crate) fn state(&self) -> StoreState {
        let span = if self.messages == 0 { 0 } else { self.last_seq - self.first_seq + 1 };
        StoreState {
            messages: self.messages,
            bytes: self.bytes,
            first_seq: self.first_seq,
            first_timestamp: self.first_timestamp(),
            last_seq: self.last_seq,
            last_timestamp: self.last_timestamp,
            num_subjects: self.subjects.len(),
            num_deleted: span - self.messages,
        }
    }

    pub(crate) fn seq_at_or_after(&self, time: UnixNanos) -> u64 {
        let mut at = self.segments.partition_point(|segment| segment.last_timestamp < time);
        while let Some(segment) = self.segments.get(at) {
            if let Some(seq) = self.seq_in_segment(segment, time) {
                return seq;
            }
            at += 1;
        }
        self.last_seq + 1
    }

    /// Halves the segment's live messages by their timestamps.
    fn seq_in_segment(&self, segment: &Segment, time: UnixNanos) -> Option<u64> {
        let live: Vec<(u64, Slot)> = self.index(segment).ok()?.iter().collect();
        let position = live.partition_point(|&(seq, slot)| {
            matches!(self.read(segment, seq, slot), Ok(Some(message)) if message.timestamp < time)
        });
        live.get(position).map(|(seq, _)| *seq)
    }

    pub(crate) fn deleted(&self, limit: usize) -> Vec<u64> {
        let mut deleted = Vec::new();
        if self.messages == 0 {
            return deleted;
        }
        let mut expected = self.first_seq;
        while deleted.len() < limit && expected <= self.last_seq {
            let Ok(found) = self.find(expected, self.last_seq, |_| true) else { break };
            let present = found.map_or(self.last_seq + 1, |(seq, _, _)| seq);
            let room = (limit - deleted.len()) as u64;
            deleted.extend(expected..present.min(expected.saturating_add(room)));
            expected = present + 1;
        }
        deleted
    }

    /// What is in the file of the first segment that holds a sequence at or after `from`.
    pub(crate) fn part(&self, from: u64) -> Option<StorePart> {
        // What is not written yet has no file to be damaged in.
        let mut segments = self.segments.range(self.segment_from(from)..);
        let segment = segments.find(|segment| segment.live > 0 && self.written_bytes(segment) > 0)?;
        let (first, last) = (segment.base_seq, segment.last_seq);
        let written = self.written_bytes(segment);
        let opened = segment.file(&*self.disk, &self.directory);
        let part = opened.and_then(|file| {
            let mut slots = self.live_slots(segment)?;
            slots.retain(|(_, slot)| u64::from(slot.offset) < written);
            self.part_of(segment, file, slots)
        });
        Some(StorePart { first, last, part })
    }

    /// A part that holds these slots of a segment.
    pub(crate) fn part_of(
        &self,
        segment: &Segment,
        file: Arc<dyn DiskFile>,
        slots: Vec<(u64, Slot)>,
    ) -> Result<Part, StorageError> {
        let path = segment_path(&self.directory, segment.id);
        let coded = if segment.is_coded() {
            let (chunks, vault) = (self.index(segment)?.chunks.clone(), self.disk.vault().cloned());
            Some(CodedPart { segment: segment.id, chunks, vault })
        } else {
            None
        };
        Ok(Part { path, file, slots, seed: self.sizes.seed, coded })
    }

    /// Live records of every segment: for snapshots and compaction.
    pub(crate) fn live_slots(&self, segment: &Segment) -> Result<Vec<(u64, Slot)>, StorageError> {
        Ok(self.index(segment)?.iter().collect())
    }
}

fn record_length(message: &StoredMessage) -> usize {
    let length =
        super::file_message_bytes(message.subject.len(), message.headers.len(), message.payload.len());
    usize::try_from(length).unwrap_or(0)
}

impl BySubject for Content {
    fn next_with(&self, subject: u32, from: u64, to: u64) -> Option<u64> {
        self.find(from, to, |number| number == subject).ok().flatten().map(|(seq, _, _)| seq)
    }

    fn previous_with(&self, subject: u32, from: u64, to: u64) -> Option<u64> {
        let end = (self.segment_from(to) + 1).min(self.segments.len());
        let segments = self.segments.range(..end).rev().take_while(|segment| segment.last_seq >= from);
        segments.filter_map(|segment| self.index(segment).ok()?.previous_with(subject, from, to)).next()
    }
}
