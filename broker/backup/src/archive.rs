//! Entries of an archive: their headers, written and read. Not what entries mean.

use std::io::Read;

use crate::error::BackupError;
use crate::s2::{S2Reader, S2Writer};

pub(crate) const MAGIC: &[u8; 8] = b"NATSARC1";
/// Longest name of an entry that is read.
pub const NAME_BYTES_MAX: usize = 1 << 20;
const VARINT_BYTES_MAX: usize = 10;
/// Reserved before the bytes are there.
const TAKEN_AT_ONCE_BYTES: usize = 1 << 20;

/// The header of an entry; all zero is the end of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    pub name: Vec<u8>,
    /// Nanoseconds since 1970.
    pub timestamp: i64,
    /// Of a message; 0 for other entries.
    pub sequence: u64,
    pub headers_length: u64,
    pub payload_length: u64,
}

impl Entry {
    /// Bytes that follow the name.
    pub fn length(&self) -> u64 {
        self.headers_length.saturating_add(self.payload_length)
    }

    pub(crate) fn is_end(&self) -> bool {
        *self == Self::default()
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Signed numbers with the sign in the lowest bit, as Go writes them.
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

pub(crate) fn write_entry(out: &mut S2Writer, entry: &Entry, parts: [&[u8]; 2]) {
    let mut head = Vec::with_capacity(4 * VARINT_BYTES_MAX + entry.name.len());
    write_varint(&mut head, entry.name.len() as u64);
    write_varint(&mut head, zigzag(entry.timestamp));
    write_varint(&mut head, entry.sequence);
    write_varint(&mut head, entry.headers_length);
    write_varint(&mut head, entry.payload_length);
    head.extend_from_slice(&entry.name);
    out.put(&head);
    for part in parts {
        out.put(part);
    }
}

/// Reads entries; what follows an entry's name must be taken before the next one.
pub(crate) struct ArchiveReader<R> {
    source: S2Reader<R>,
}

impl<R: Read> ArchiveReader<R> {
    pub(crate) fn open(source: R) -> Result<Self, BackupError> {
        let mut source = S2Reader::new(source);
        let mut magic = [0; MAGIC.len()];
        match source.fill(&mut magic)? {
            0 => return Err(BackupError::End),
            count if count < magic.len() => return Err(BackupError::UnexpectedEnd),
            _ => {}
        }
        if &magic != MAGIC {
            return Err(BackupError::OldFormat);
        }
        Ok(Self { source })
    }

    pub(crate) fn next(&mut self) -> Result<Entry, BackupError> {
        let name_length = self.varint(true)?;
        let timestamp = unzigzag(self.varint(false)?);
        let sequence = self.varint(false)?;
        let headers_length = self.varint(false)?;
        let payload_length = self.varint(false)?;
        let is_length = |length: Option<u64>| length.is_some_and(|length| i64::try_from(length).is_ok());
        let name_length = usize::try_from(name_length).ok().filter(|length| *length <= NAME_BYTES_MAX);
        let Some(name_length) = name_length.filter(|_| is_length(headers_length.checked_add(payload_length)))
        else {
            return Err(BackupError::InvalidArchive);
        };
        let name = self.take(name_length)?;
        Ok(Entry { name, timestamp, sequence, headers_length, payload_length })
    }

    /// The next bytes. The caller has judged how many; memory grows with what really comes.
    pub(crate) fn take(&mut self, length: usize) -> Result<Vec<u8>, BackupError> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let from = bytes.len();
            let wanted = (length - from).min(TAKEN_AT_ONCE_BYTES);
            bytes.resize(from + wanted, 0);
            match self.source.fill(bytes.get_mut(from..).unwrap_or_default()) {
                Ok(filled) if filled == wanted => {}
                Ok(_) => return Err(BackupError::InvalidArchive),
                Err(error) => return Err(error.within_archive()),
            }
        }
        Ok(bytes)
    }

    /// The end of the archive is one only before an entry.
    fn varint(&mut self, is_first: bool) -> Result<u64, BackupError> {
        let mut value = 0_u64;
        for at in 0..VARINT_BYTES_MAX {
            let byte = match self.source.byte() {
                Ok(Some(byte)) => byte,
                Ok(None) if is_first && at == 0 => return Err(BackupError::End),
                Ok(None) if is_first => return Err(BackupError::UnexpectedEnd),
                Ok(None) => return Err(BackupError::InvalidArchive),
                Err(error) => return Err(error.within_archive()),
            };
            if at == VARINT_BYTES_MAX - 1 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BackupError::InvalidArchive)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, BackupError> {
        let mut reader = ArchiveReader::open(bytes)?;
        let mut all = Vec::new();
        loop {
            let entry = match reader.next() {
                Err(BackupError::End) => return Ok(all),
                entry => entry?,
            };
            let length = usize::try_from(entry.length().min(1 << 20)).expect("small");
            let content = reader.take(length)?;
            all.push((entry, content));
        }
    }

    proptest! {
        #[test]
        fn entries_read_back(
            entries in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..40), any::<i64>(), any::<u64>(),
                 proptest::collection::vec(any::<u8>(), 0..60), proptest::collection::vec(any::<u8>(), 0..90)),
                0..20,
            )
        ) {
            let mut out = S2Writer::default();
            out.put(MAGIC);
            let mut expected = Vec::new();
            for (name, timestamp, sequence, headers, payload) in entries {
                let entry = Entry {
                    name, timestamp, sequence,
                    headers_length: headers.len() as u64, payload_length: payload.len() as u64,
                };
                write_entry(&mut out, &entry, [&headers, &payload]);
                expected.push((entry, [headers, payload].concat()));
            }
            out.end_block();
            prop_assert_eq!(read_all(out.ready()).expect("readable"), expected);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = S2Writer::default();
            out.put(MAGIC);
            out.put(&bytes);
            out.end_block();
            let _ = read_all(out.ready());
            let _ = read_all(&bytes);
        }
    }
}
