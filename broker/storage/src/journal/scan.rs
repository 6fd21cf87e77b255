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

use super::record::{FILE_HEADER_BYTES, FileHeader, Kind, Record, decode, find_next, u32_at};

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
    /// The oldest file needed, as far as this file knows.
    pub(crate) oldest_generation: u32,
    /// The highest epoch seen, torn records included.
    pub(crate) epoch_max: u32,
}

struct Walk<'a> {
    bytes: &'a [u8],
    generation: u32,
    epoch: u32,
    /// None behind a damaged stretch: the next record is taken as it is.
    previous_crc: Option<u32>,
    position: usize,
    marked: u64,
    scan: Scan,
}

/// Walks a file whose header is known. `superseded`: a later file exists.
pub(crate) fn scan(
    bytes: &[u8],
    header: &FileHeader,
    superseded: bool,
    visit: &mut dyn FnMut(u64, &Record<'_>),
) -> Scan {
    let start = usize::try_from(FILE_HEADER_BYTES).unwrap_or(0);
    let mut walk = Walk {
        bytes,
        generation: header.generation,
        epoch: header.epoch,
        previous_crc: Some(header.chain_seed()),
        position: start,
        marked: 0,
        scan: Scan {
            tail: FILE_HEADER_BYTES,
            previous_crc: header.chain_seed(),
            ended: false,
            base_complete: false,
            torn: false,
            damages: Vec::new(),
            oldest_generation: header.oldest_generation,
            epoch_max: header.epoch,
        },
    };
    walk.run(superseded, visit);
    walk.scan
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
            && self.previous_crc.is_none_or(|crc| crc == record.previous_crc);
        valid.then_some(record)
    }

    fn note(&mut self, record: &Record<'_>) {
        self.scan.epoch_max = self.scan.epoch_max.max(record.epoch);
        match record.fields.kind {
            Kind::Mark => {
                if record.fields.term == u64::from(self.generation) {
                    self.marked = self.marked.max(record.fields.index);
                }
                self.scan.oldest_generation = self.scan.oldest_generation.max(u32_at(record.payload, 0));
            }
            Kind::End => {
                self.scan.oldest_generation = self.scan.oldest_generation.max(u32_at(record.payload, 0));
            }
            Kind::BaseEnd => self.scan.base_complete = true,
            _ => {}
        }
    }

    /// Looks at everything behind the first invalid record for marks that vouch for it, and for epochs.
    fn durable_limit(&mut self) -> u64 {
        let mut from = self.position;
        while let Some(found) = find_next(self.bytes, from, self.generation) {
            let Some(record) = decode(&self.bytes[found..]) else { break };
            self.scan.torn = true;
            self.scan.epoch_max = self.scan.epoch_max.max(record.epoch);
            if record.fields.kind == Kind::Mark && record.fields.term == u64::from(self.generation) {
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
            if decode(&self.bytes[found..]).is_some_and(|record| record.epoch >= self.epoch) {
                resumed = Some(found);
                break;
            }
            from = found + 8;
        }
        self.scan.torn = false;
        self.previous_crc = None;
        self.position = resumed.unwrap_or(usize::try_from(limit).unwrap_or(self.bytes.len()));
        self.scan.damages.push(damaged_from..self.position as u64);
        self.scan.tail = self.position as u64;
        resumed.is_some()
    }
}
