//! Walks the records of one file and tells a torn tail from damage.
//!
//! ```text
//! header | record record ... record | torn or left-over bytes
//!          ^ valid, chained            ^ at or behind the durable limit: tail
//!                 ^ invalid before the durable limit: damage; the walk goes on at the next valid record
//! ```
//! The durable limit is the end of the file when a later file exists (it was begun only after this one was
//! durable), else the highest position that any mark in the file vouches for.

use std::ops::Range;

use super::record::{
    FILE_HEADER_BYTES, FileHeader, Kind, RECORD_HEADER_BYTES, Record, decode, find_next, place_of,
    record_bytes, u32_at,
};
use crate::vault::Vault;

/// What a walk found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Where the next record would go.
    pub(crate) tail: u64,
    /// The crc the next record is chained to.
    pub(crate) previous_crc: u32,
    /// The file was closed with an end record.
    pub(crate) ended: bool,
    /// The base at the file's start is whole.
    pub(crate) base_complete: bool,
    /// Something that is not left over from an earlier use lies behind the tail.
    pub(crate) torn: bool,
    pub(crate) damages: Vec<Range<u64>>,
    /// A damage may have held more than the marks behind it tell.
    pub(crate) blurred: bool,
    /// The oldest file needed, as far as this file knows.
    pub(crate) oldest_generation: u32,
    /// The highest epoch seen, torn records included.
    pub(crate) epoch_max: u32,
}

struct Walk<'a> {
    bytes: &'a [u8],
    vault: Option<&'a Vault>,
    generation: u32,
    epoch: u32,
    rebuilt: bool,
    /// None behind a damaged stretch: the next record is taken as it is.
    previous_crc: Option<u32>,
    position: usize,
    marked: u64,
    /// Where damages begin of which no mark has told yet what was in them.
    untold: Vec<u64>,
    scan: Scan,
}

/// Walks a file whose header is known. `superseded`: a later file exists. `rebuilt`: the header was made from the
/// records, which do not chain to it.
pub(crate) fn scan(
    bytes: &[u8],
    header: &FileHeader,
    superseded: bool,
    rebuilt: bool,
    vault: Option<&Vault>,
    visit: &mut dyn FnMut(u64, &Record<'_>),
) -> Scan {
    let start = usize::try_from(FILE_HEADER_BYTES).unwrap_or(0);
    let mut walk = Walk {
        bytes,
        vault,
        generation: header.generation,
        epoch: header.epoch,
        rebuilt,
        previous_crc: (!rebuilt).then(|| header.chain_seed()),
        position: start,
        marked: 0,
        untold: Vec::new(),
        scan: Scan {
            tail: FILE_HEADER_BYTES,
            previous_crc: header.chain_seed(),
            ended: false,
            base_complete: false,
            torn: false,
            damages: Vec::new(),
            blurred: false,
            oldest_generation: header.oldest_generation,
            epoch_max: header.epoch,
        },
    };
    walk.run(superseded, visit);
    walk.scan.blurred = !walk.untold.is_empty();
    walk.scan
}

/// Whether a file that is shorter than it was made ends before its records do: a crash never shortens one.
pub(crate) fn is_cut(bytes: &[u8], header: &FileHeader, scan: &Scan) -> bool {
    let tail = usize::try_from(scan.tail).unwrap_or(usize::MAX);
    let next = bytes.get(tail..tail.saturating_add(RECORD_HEADER_BYTES));
    // Records follow each other without gaps: where none begins, none comes.
    (bytes.len() as u64) < header.file_bytes
        && !scan.ended
        && next.is_none_or(|next| next[16..20] == header.generation.to_le_bytes())
}

/// The header of a file whose own is damaged, as far as its records tell; nothing when it holds none.
pub(crate) fn rebuild_header(bytes: &[u8], sealed: bool) -> Option<FileHeader> {
    let mut found: std::collections::BTreeMap<u32, (u64, u32)> = std::collections::BTreeMap::new();
    // From the very start: a block of records may lie where the header belongs.
    let mut position = 0;
    while let Some(rest) = bytes.get(position..).filter(|rest| rest.len() >= RECORD_HEADER_BYTES) {
        let record = if u32_at(rest, 16) == 0 { None } else { decode(rest) };
        let Some(record) = record else {
            position += 8;
            continue;
        };
        let (count, epoch) = found.entry(record.generation).or_insert((0, record.epoch));
        *count += 1;
        *epoch = record.epoch.min(*epoch);
        position += record.total_length;
    }
    // Bytes of an earlier use are of a lower generation.
    let (&generation, &(_, epoch)) = found.iter().next_back()?;
    Some(FileHeader {
        generation,
        epoch,
        previous_generation: 0,
        oldest_generation: 0,
        file_bytes: bytes.len() as u64,
        sealed,
    })
}

impl<'a> Walk<'a> {
    fn run(&mut self, superseded: bool, visit: &mut dyn FnMut(u64, &Record<'_>)) {
        loop {
            while let Some(record) = self.next_valid() {
                self.note(&record);
                visit(self.position as u64, &record);
                self.epoch = record.epoch;
                self.previous_crc = Some(record.crc);
                self.scan.previous_crc = record.crc;
                self.position += record.total_length;
                self.scan.tail = self.position as u64;
                if record.fields.kind == Kind::End {
                    self.scan.ended = true;
                    return;
                }
            }
            let limit = if superseded { self.bytes.len() as u64 } else { self.durable_limit() };
            if self.position as u64 >= limit {
                return;
            }
            if !self.skip_damage(limit) {
                return;
            }
        }
    }

    fn next_valid(&self) -> Option<Record<'a>> {
        let record = decode(self.bytes.get(self.position..)?)?;
        let valid = record.generation == self.generation
            && record.epoch >= self.epoch
            && record.place == place_of(self.position as u64)
            && self.previous_crc.is_none_or(|crc| crc == record.previous_crc)
            && self.is_genuine(&record);
        valid.then_some(record)
    }

    /// What the walk itself acts on is opened; an entry, when it is read.
    fn is_genuine(&self, record: &Record<'_>) -> bool {
        let entry = matches!(record.fields.kind, Kind::Entry | Kind::Moved);
        entry || self.vault.is_none() || record.payload(self.vault).is_some()
    }

    fn stated_oldest(&self, record: &Record<'_>) -> u32 {
        record.payload(self.vault).map_or(0, |payload| u32_at(&payload, 0))
    }

    fn note(&mut self, record: &Record<'_>) {
        self.scan.epoch_max = self.scan.epoch_max.max(record.epoch);
        match record.fields.kind {
            Kind::Mark => {
                if record.fields.term == u64::from(self.generation) {
                    self.marked = self.marked.max(record.fields.index);
                }
                // It names every group that changed from there on.
                let told_from = record.fields.group;
                self.untold.retain(|damage| told_from == 0 || *damage < told_from);
                self.scan.oldest_generation = self.scan.oldest_generation.max(self.stated_oldest(record));
            }
            Kind::End => {
                self.scan.oldest_generation = self.scan.oldest_generation.max(self.stated_oldest(record));
            }
            Kind::BaseEnd => self.scan.base_complete = true,
            _ => {}
        }
    }

    /// Looks at everything behind the first invalid record for marks that vouch for it, and for epochs.
    fn durable_limit(&mut self) -> u64 {
        let mut from = if self.rebuilt { 0 } else { self.position };
        while let Some(found) = find_next(self.bytes, from, self.generation) {
            let Some(record) = decode(&self.bytes[found..]) else { break };
            self.scan.torn |= found >= self.position;
            self.scan.epoch_max = self.scan.epoch_max.max(record.epoch);
            let own_mark =
                record.fields.kind == Kind::Mark && record.fields.term == u64::from(self.generation);
            if own_mark && self.is_genuine(&record) {
                self.marked = self.marked.max(record.fields.index);
            }
            from = found + record.total_length;
        }
        let partial = self.bytes.get(self.position + 16..self.position + 20);
        self.scan.torn |= partial == Some(&self.generation.to_le_bytes());
        self.marked
    }

    /// Moves to the next valid record up to the limit and returns true, or to the limit.
    fn skip_damage(&mut self, limit: u64) -> bool {
        let damaged_from = self.position as u64;
        let mut from = self.position + 8;
        let mut resumed = None;
        while let Some(found) = find_next(self.bytes, from, self.generation) {
            // At the limit itself is what was written next.
            if found as u64 > limit {
                break;
            }
            let fits = |record: &Record<'_>| {
                record.epoch >= self.epoch
                    && record.place == place_of(found as u64)
                    && self.is_genuine(record)
            };
            if decode(&self.bytes[found..]).as_ref().is_some_and(fits) {
                resumed = Some(found);
                break;
            }
            from = found + 8;
        }
        self.scan.torn = false;
        self.previous_crc = None;
        self.position = resumed.unwrap_or(usize::try_from(limit).unwrap_or(self.bytes.len()));
        // One record: what else happened around it, the next mark says. More than one may have held marks, and with
        // them the last that was known of a group.
        let start = usize::try_from(damaged_from).unwrap_or(usize::MAX);
        if !resumed.is_some_and(|at| self.was_single(start, at)) {
            self.untold.push(damaged_from);
        }
        self.scan.damages.push(damaged_from..self.position as u64);
        self.scan.tail = self.position as u64;
        resumed.is_some()
    }

    /// Whether one record lay between, as its own length tells, or its checksum, to which the next one is chained.
    fn was_single(&self, start: usize, next: usize) -> bool {
        let header = self.bytes.get(start..start + RECORD_HEADER_BYTES).unwrap_or_default();
        let length = usize::try_from(u32_at(header, 8)).unwrap_or(usize::MAX);
        let chained = self.bytes.get(next..).and_then(decode).map(|record| record.previous_crc);
        next - start == record_bytes(length.min(self.bytes.len())) || chained == Some(u32_at(header, 0))
    }
}
