//! The bytes of the journal: file headers and records. Only encoding and checking; no files here.
//!
//! A record is 48 bytes of header, the payload, and zeros up to a multiple of 8:
//! ```text
//! crc u32 | previous crc u32 | payload length u32 | kind u8, place u24 | generation u32 | epoch u32
//! group u64 | term u64 | index u64 | payload
//! ```
//! The crc (crc32c) covers everything behind it. `previous crc` chains the records of a file, so that a
//! record that belongs elsewhere is noticed; `place`, its offset in units of 8 bytes, tells where that is even when
//! the one before it is damaged. `generation` is the file's turn in the log: bytes left from an
//! earlier use of a recycled file never pass for new ones. `epoch` grows at every start: bytes left from a
//! write that a crash tore never pass for bytes written after it.
//!
//! In an encrypted store every payload is sealed, an empty one too, in the context of the header behind the crcs; the
//! length and the crc are of the sealed bytes. Such files are of another version.

use std::borrow::Cow;

use crate::vault::{SEAL_BYTES, Vault};

/// The versions of the format this program writes and reads: the second is encrypted.
pub(crate) const FORMAT_VERSION: u32 = 2;
pub(crate) const SEALED_VERSION: u32 = 3;
const FILE_MAGIC: &[u8; 8] = b"WEIRJRNL";

/// Room for the two copies of the header at the start of each file.
pub(crate) const FILE_HEADER_BYTES: u64 = 4096;
const FILE_HEADER_COPY_BYTES: u64 = 2048;
const FILE_HEADER_LENGTH: usize = 44;

pub(crate) const RECORD_HEADER_BYTES: usize = 48;
/// Where the part of the header begins that a sealed payload is bound to.
const CONTEXT_START: usize = 12;
const ALIGNMENT: usize = 8;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry of a group's log.
    Entry = 1,
    /// An entry again, moved forward so that its old file can be recycled.
    Moved = 2,
    /// Entries after `index` are gone.
    Truncate = 3,
    /// Entries up to and including `index` are gone.
    Purge = 4,
    /// A small value; `term` holds its key.
    State = 5,
    /// The group is gone.
    Drop = 6,
    /// Everything known of a group except its entries; at the start of each file.
    Base = 7,
    /// The base of this file is complete.
    BaseEnd = 8,
    /// The journal was opened: a new epoch starts here.
    Opened = 9,
    /// `index` is the file position known durable in generation `term`. Payload: the oldest needed file,
    /// then summaries of the groups that changed since the position `group` of this file; 0 where nothing is
    /// said of that.
    Mark = 10,
    /// The file ends here.
    End = 11,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Moved,
            3 => Self::Truncate,
            4 => Self::Purge,
            5 => Self::State,
            6 => Self::Drop,
            7 => Self::Base,
            8 => Self::BaseEnd,
            9 => Self::Opened,
            10 => Self::Mark,
            11 => Self::End,
            _ => return None,
        })
    }
}

/// The fields of a record that its kind gives a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) kind: Kind,
    pub(crate) group: u64,
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// A record whose own checksum is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    context: &'a [u8],
    pub(crate) fields: Fields,
    pub(crate) crc: u32,
    pub(crate) previous_crc: u32,
    pub(crate) generation: u32,
    pub(crate) epoch: u32,
    /// The payload as it lies in the file.
    pub(crate) stored: &'a [u8],
    /// See `place_of`.
    pub(crate) place: u32,
    /// Bytes with padding.
    pub(crate) total_length: usize,
}

/// Bytes a record takes whose payload takes so many in the file.
pub(crate) const fn record_bytes(stored_length: usize) -> usize {
    (RECORD_HEADER_BYTES + stored_length).next_multiple_of(ALIGNMENT)
}

/// Bytes a payload takes in the file.
pub(crate) const fn stored_bytes(payload_length: usize, vault: Option<&Vault>) -> usize {
    payload_length + if vault.is_some() { SEAL_BYTES } else { 0 }
}

impl<'a> Record<'a> {
    /// The payload; nothing when it is not what was written. The header behind the crcs is checked with it where the
    /// store is encrypted.
    pub(crate) fn payload(&self, vault: Option<&Vault>) -> Option<Cow<'a, [u8]>> {
        match vault {
            Some(vault) => vault.open(self.context, self.stored).map(Cow::Owned),
            None => Some(Cow::Borrowed(self.stored)),
        }
    }
}

/// Where the records of a file are: what the next record is chained to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) generation: u32,
    pub(crate) epoch: u32,
    pub(crate) previous_crc: u32,
}

/// What a record at an offset says of its place: 24 bits, which repeat every 128 MiB.
pub(crate) fn place_of(offset: u64) -> u32 {
    u32::try_from(offset / ALIGNMENT as u64 % (1 << 24)).unwrap_or(0)
}

/// Appends a record that is to lie at `offset` of its file, and moves the chain on.
pub(crate) fn encode(
    buffer: &mut Vec<u8>,
    chain: &mut Chain,
    fields: Fields,
    payload: &[u8],
    offset: u64,
    vault: Option<&Vault>,
) {
    let start = buffer.len();
    let stored = stored_bytes(payload.len(), vault);
    let length = u32::try_from(stored).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&chain.previous_crc.to_le_bytes());
    buffer.extend_from_slice(&length.to_le_bytes());
    let [low, middle, high, _] = place_of(offset).to_le_bytes();
    buffer.extend_from_slice(&[fields.kind as u8, low, middle, high]);
    buffer.extend_from_slice(&chain.generation.to_le_bytes());
    buffer.extend_from_slice(&chain.epoch.to_le_bytes());
    buffer.extend_from_slice(&fields.group.to_le_bytes());
    buffer.extend_from_slice(&fields.term.to_le_bytes());
    buffer.extend_from_slice(&fields.index.to_le_bytes());
    buffer.extend_from_slice(payload);
    if let Some(vault) = vault {
        let body = start + RECORD_HEADER_BYTES;
        let context: [u8; RECORD_HEADER_BYTES - CONTEXT_START] =
            std::array::from_fn(|at| buffer[start + CONTEXT_START + at]);
        vault.seal(&context, buffer, body);
    }
    let crc = crc32c::crc32c(&buffer[start + 4..]);
    buffer[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    buffer.resize(start + record_bytes(stored), 0);
    chain.previous_crc = crc;
}

/// Reads the record at the start of `bytes`; nothing when it is not whole or its checksum is wrong.
pub(crate) fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let header = bytes.get(..RECORD_HEADER_BYTES)?;
    let payload_length = usize::try_from(u32_at(header, 8)).ok()?;
    let end = RECORD_HEADER_BYTES.checked_add(payload_length)?;
    let checked = bytes.get(4..end)?;
    let kind = Kind::from_byte(header[12])?;
    if crc32c::crc32c(checked) != u32_at(header, 0) {
        return None;
    }
    Some(Record {
        context: &header[CONTEXT_START..],
        fields: Fields {
            kind,
            group: u64_at(header, 24),
            term: u64_at(header, 32),
            index: u64_at(header, 40),
        },
        crc: u32_at(header, 0),
        previous_crc: u32_at(header, 4),
        generation: u32_at(header, 16),
        epoch: u32_at(header, 20),
        stored: &bytes[RECORD_HEADER_BYTES..end],
        place: u32::from_le_bytes([header[13], header[14], header[15], 0]),
        total_length: record_bytes(payload_length),
    })
}

/// Looks for the next record of a generation whose checksum is right. Returns its position.
pub(crate) fn find_next(bytes: &[u8], from: usize, generation: u32) -> Option<usize> {
    let wanted = generation.to_le_bytes();
    let mut position = from.next_multiple_of(ALIGNMENT);
    while position + RECORD_HEADER_BYTES <= bytes.len() {
        if bytes[position + 16..position + 20] == wanted && decode(&bytes[position..]).is_some() {
            return Some(position);
        }
        position += ALIGNMENT;
    }
    None
}

/// The header of a journal file. Two copies are kept, the newer generation counts; a header torn while
/// being replaced leaves the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// The file's turn in the log; 0 for a file that was never used.
    pub(crate) generation: u32,
    pub(crate) epoch: u32,
    /// The generation of the file before this one; 0 for the first. It was durable before this file began.
    pub(crate) previous_generation: u32,
    /// Files of older generations are not needed.
    pub(crate) oldest_generation: u32,
    /// Bytes of the file, for records and header.
    pub(crate) file_bytes: u64,
    /// Its payloads are.
    pub(crate) sealed: bool,
}

/// What the header area of a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderState {
    /// The newer header, and the copy (0 or 1) that holds it.
    Valid(FileHeader, u64),
    /// Ours, of another version.
    Version(u32),
    /// Neither copy is right, but the magic is there.
    Damaged,
    Foreign,
}

impl FileHeader {
    /// Bytes of one copy.
    pub(crate) const ENCODED_BYTES: usize = FILE_HEADER_LENGTH;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_HEADER_LENGTH);
        bytes.extend_from_slice(FILE_MAGIC);
        let version = if self.sealed { SEALED_VERSION } else { FORMAT_VERSION };
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.previous_generation.to_le_bytes());
        bytes.extend_from_slice(&self.oldest_generation.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.file_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Where copy 0 or 1 lies in the file.
    pub(crate) const fn copy_offset(copy: u64) -> u64 {
        copy * FILE_HEADER_COPY_BYTES
    }

    /// The crc chain of a file starts with this value.
    pub(crate) fn chain_seed(&self) -> u32 {
        crc32c::crc32c(&self.encode())
    }
}

/// Reads the header area (the first `FILE_HEADER_BYTES`, or less of a short file).
pub(crate) fn decode_header(area: &[u8]) -> HeaderState {
    let copies = [0, 1].map(|copy| {
        let start = usize::try_from(FileHeader::copy_offset(copy)).unwrap_or(0);
        decode_header_copy(area.get(start..).unwrap_or_default())
    });
    let mut best: Option<(FileHeader, u64)> = None;
    for (copy, state) in (0..).zip(&copies) {
        if let HeaderState::Valid(header, _) = state {
            let newer = best
                .is_none_or(|(other, _)| (header.generation, header.epoch) > (other.generation, other.epoch));
            if newer {
                best = Some((*header, copy));
            }
        }
    }
    match (best, copies) {
        // A newer program's header beside ours would be overwritten: refuse as well.
        (_, [HeaderState::Version(version), _] | [_, HeaderState::Version(version)]) => {
            HeaderState::Version(version)
        }
        (Some((header, copy)), _) => HeaderState::Valid(header, copy),
        (None, [HeaderState::Damaged, _] | [_, HeaderState::Damaged]) => HeaderState::Damaged,
        (None, _) => HeaderState::Foreign,
    }
}

pub(crate) fn decode_header_copy(bytes: &[u8]) -> HeaderState {
    let Some(bytes) = bytes.get(..FILE_HEADER_LENGTH) else { return HeaderState::Foreign };
    if &bytes[..8] != FILE_MAGIC {
        return HeaderState::Foreign;
    }
    if crc32c::crc32c(&bytes[..40]) != u32_at(bytes, 40) {
        return HeaderState::Damaged;
    }
    let version = u32_at(bytes, 8);
    if version != FORMAT_VERSION && version != SEALED_VERSION {
        return HeaderState::Version(version);
    }
    HeaderState::Valid(
        FileHeader {
            generation: u32_at(bytes, 12),
            epoch: u32_at(bytes, 16),
            previous_generation: u32_at(bytes, 20),
            oldest_generation: u32_at(bytes, 24),
            file_bytes: u64_at(bytes, 32),
            sealed: version == SEALED_VERSION,
        },
        0,
    )
}

/// Whether bytes too few for a header may be the start of one.
pub(crate) fn begins_like_ours(bytes: &[u8]) -> bool {
    let count = bytes.len().min(FILE_MAGIC.len());
    bytes.len() < FILE_HEADER_LENGTH && bytes[..count] == FILE_MAGIC[..count]
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|slice| slice.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|slice| slice.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain { generation: 7, epoch: 3, previous_crc: 99 }
    }

    fn sample(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let fields = Fields { kind: Kind::Entry, group: 5, term: 6, index: 7 };
        encode(&mut bytes, &mut chain(), fields, payload, 4096, None);
        bytes
    }

    #[test]
    fn a_record_reads_back() {
        let bytes = sample(b"hello");
        let record = decode(&bytes).unwrap();
        assert_eq!(record.fields, Fields { kind: Kind::Entry, group: 5, term: 6, index: 7 });
        assert_eq!((record.stored, record.generation, record.epoch), (b"hello".as_slice(), 7, 3));
        assert_eq!((record.previous_crc, record.total_length), (99, bytes.len()));
        assert_eq!(bytes.len() % ALIGNMENT, 0);
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let bytes = sample(b"payload");
        for bit in 0..(RECORD_HEADER_BYTES + 7) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_record_is_noticed() {
        let bytes = sample(b"payload");
        for length in 0..RECORD_HEADER_BYTES + 7 {
            assert!(decode(&bytes[..length]).is_none());
        }
    }

    #[test]
    fn the_newer_header_copy_counts_and_a_torn_one_leaves_the_older() {
        let old = FileHeader {
            generation: 4,
            epoch: 1,
            previous_generation: 3,
            oldest_generation: 2,
            file_bytes: 65536,
            sealed: false,
        };
        let new = FileHeader { generation: 9, ..old };
        let mut area = vec![0; usize::try_from(FILE_HEADER_BYTES).unwrap()];
        area[..44].copy_from_slice(&new.encode());
        area[2048..2092].copy_from_slice(&old.encode());
        assert_eq!(decode_header(&area), HeaderState::Valid(new, 0));
        area[12] ^= 1;
        assert_eq!(decode_header(&area), HeaderState::Valid(old, 1));
        area[2060] ^= 1;
        assert_eq!(decode_header(&area), HeaderState::Damaged);
        assert_eq!(decode_header(&[0; 4096]), HeaderState::Foreign);
        assert_eq!(decode_header(b"short"), HeaderState::Foreign);
    }

    #[test]
    fn a_newer_format_is_told_apart() {
        let header = FileHeader {
            generation: 1,
            epoch: 1,
            previous_generation: 0,
            oldest_generation: 1,
            file_bytes: 65536,
            sealed: false,
        };
        let mut bytes = header.encode();
        bytes[8..12].copy_from_slice(&9_u32.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_header(&bytes), HeaderState::Version(9));
    }
}
