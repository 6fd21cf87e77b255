//! A message as bytes in a segment or a snapshot. A record is as long as nats-server counts the message:
//! ```text
//! length u32 | crc u32 | seq u64 | timestamp u64 | subject length u16 | flags u16 | 0 u16
//! subject | [headers length u32 | headers] | payload
//! ```
//! `length` is the whole record's, the crc (crc32c) covers everything behind it. In a segment the crc starts from
//! the store's seed, so that a record of another store never passes for one of this; in a snapshot from 0.

use bytes::Bytes;
use weir_stdx::time::UnixNanos;

use super::StoredMessage;
use crate::error::StorageError;

pub(crate) const RECORD_FIXED_BYTES: usize = 30;
const FLAG_HEADERS: u16 = 1;
/// Longest subject that can be kept.
const SUBJECT_BYTES_MAX: usize = u16::MAX as usize;
/// Longest record.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Where the checksums of a store's records start.
pub(crate) fn seed_of(identity: u64) -> u32 {
    crc32c::crc32c(&identity.to_le_bytes())
}

/// Appends the record of a message.
pub(crate) fn encode(
    buffer: &mut Vec<u8>,
    message: &StoredMessage,
    seed: u32,
) -> Result<usize, StorageError> {
    let StoredMessage { seq, timestamp, subject, headers, payload } = message;
    let headers_length = if headers.is_empty() { 0 } else { 4 + headers.len() };
    let length = RECORD_FIXED_BYTES + subject.len() + headers_length + payload.len();
    let limits = [("subject", subject.len(), SUBJECT_BYTES_MAX), ("message", length, RECORD_BYTES_MAX)];
    for (what, size, limit) in limits {
        if size > limit {
            return Err(StorageError::TooLarge { what, size: size as u64, limit: limit as u64 });
        }
    }
    let start = buffer.len();
    buffer.reserve(length);
    buffer.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&seq.to_le_bytes());
    buffer.extend_from_slice(&timestamp.0.to_le_bytes());
    buffer.extend_from_slice(&u16::try_from(subject.len()).unwrap_or(u16::MAX).to_le_bytes());
    let flags = if headers.is_empty() { 0 } else { FLAG_HEADERS };
    buffer.extend_from_slice(&flags.to_le_bytes());
    buffer.extend_from_slice(&[0; 2]);
    buffer.extend_from_slice(subject);
    if !headers.is_empty() {
        buffer.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(u32::MAX).to_le_bytes());
        buffer.extend_from_slice(headers);
    }
    buffer.extend_from_slice(payload);
    let crc = crc32c::crc32c_append(seed, &buffer[start + 8..]);
    buffer[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    Ok(length)
}

/// Reads a record that fills `bytes` exactly; nothing when it does not check out.
pub(crate) fn decode(bytes: &Bytes, seed: u32) -> Option<StoredMessage> {
    if bytes.len() < RECORD_FIXED_BYTES
        || u32_at(bytes, 0) as usize != bytes.len()
        || crc32c::crc32c_append(seed, &bytes[8..]) != u32_at(bytes, 4)
    {
        return None;
    }
    let subject_end = RECORD_FIXED_BYTES + usize::from(u16::from_le_bytes([bytes[24], bytes[25]]));
    let flags = u16::from_le_bytes([bytes[26], bytes[27]]);
    let (headers_start, headers_end) = if flags & FLAG_HEADERS == 0 {
        (subject_end, subject_end)
    } else {
        let length = bytes.get(subject_end..subject_end + 4)?;
        (subject_end + 4, subject_end + 4 + u32_at(length, 0) as usize)
    };
    if headers_end > bytes.len() {
        return None;
    }
    Some(StoredMessage {
        seq: u64_at(bytes, 8),
        timestamp: UnixNanos(u64_at(bytes, 16)),
        subject: bytes.slice(RECORD_FIXED_BYTES..subject_end),
        headers: bytes.slice(headers_start..headers_end),
        payload: bytes.slice(headers_end..),
    })
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
    use crate::store::file_message_bytes;

    fn message(headers: &'static [u8]) -> StoredMessage {
        StoredMessage {
            seq: 7,
            timestamp: UnixNanos(9),
            subject: Bytes::from_static(b"orders.new"),
            headers: Bytes::from_static(headers),
            payload: Bytes::from_static(b"hello"),
        }
    }

    #[test]
    fn a_record_reads_back_and_is_as_long_as_nats_server_counts_it() {
        for headers in [b"".as_slice(), b"NATS/1.0\r\nA: b\r\n\r\n"] {
            let message = message(headers);
            let mut buffer = Vec::new();
            let length = encode(&mut buffer, &message, 5).unwrap();
            assert_eq!(length as u64, file_message_bytes(10, headers.len(), 5));
            let bytes = Bytes::from(buffer);
            assert_eq!(decode(&bytes, 5), Some(message));
            assert_eq!(decode(&bytes, 6), None, "a record of another store passed");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut buffer = Vec::new();
        encode(&mut buffer, &message(b"NATS/1.0\r\nA: b\r\n\r\n"), 0).unwrap();
        for bit in 0..buffer.len() * 8 {
            let mut flipped = buffer.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&Bytes::from(flipped), 0), None, "bit {bit}");
        }
    }
}
