//! The binary form of log entries and checkpoints: a version byte, a kind byte, then fields as varints and
//! length-prefixed bytes. Decoding is total: any bytes give a value or an error, and payloads are slices, not copies.

mod commands;
mod consumer_state;
mod events;
mod origins;
mod publishes;

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use weir_stdx::time::UnixNanos;

pub(crate) use consumer_state::{read_consumer_state, write_consumer_state};
pub use publishes::PublishEncoder;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{what}: format version {found} is not known to this build (it writes {known})")]
    Version { what: &'static str, found: u8, known: u8 },
    #[error("{what}: unknown kind {found}")]
    Kind { what: &'static str, found: u8 },
    #[error("ends early, within {what}")]
    Truncated { what: &'static str },
    #[error("{what} is not valid: {reason}")]
    Invalid { what: &'static str, reason: String },
    #[error("{extra} bytes left over")]
    Trailing { extra: usize },
}

#[derive(Debug)]
pub(crate) struct Writer {
    out: BytesMut,
}

impl Writer {
    pub(crate) fn new(version: u8, kind: u8, capacity: usize) -> Self {
        let mut out = BytesMut::with_capacity(capacity + 2);
        out.put_u8(version);
        out.put_u8(kind);
        Self { out }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.put_u8((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.out.put_slice(bytes);
    }

    pub(crate) fn time(&mut self, time: UnixNanos) {
        self.out.put_u64_le(time.0);
    }

    pub(crate) fn json<T: serde::Serialize>(&mut self, value: &T) {
        self.bytes(&weir_jsapi::json::encode(value));
    }

    pub(crate) fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

/// Numbers are read in place; only fields that are kept become slices, each of which counts as one more owner of the
/// entry: counting is what costs.
pub(crate) struct Reader {
    all: Bytes,
    at: usize,
}

impl Reader {
    /// Checks the version and gives the kind.
    pub(crate) fn open(bytes: Bytes, what: &'static str, known: u8) -> Result<(Self, u8), DecodeError> {
        let mut reader = Self { all: bytes, at: 0 };
        let found = reader.u8(what)?;
        if found != known {
            return Err(DecodeError::Version { what, found, known });
        }
        let kind = reader.u8(what)?;
        Ok((reader, kind))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let byte = self.all.get(self.at).copied().ok_or(DecodeError::Truncated { what })?;
        self.at += 1;
        Ok(byte)
    }

    fn left(&self) -> usize {
        self.all.len() - self.at
    }

    /// The place of the next `length` bytes.
    fn take(&mut self, length: usize, what: &'static str) -> Result<Range<usize>, DecodeError> {
        if length > self.left() {
            return Err(DecodeError::Truncated { what });
        }
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    fn taken(&mut self, what: &'static str) -> Result<&[u8], DecodeError> {
        let length = self.count(what)?;
        let place = self.take(length, what)?;
        Ok(&self.all[place])
    }

    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid { what, reason: "number longer than 64 bits".to_owned() })
    }

    /// A count of items that take at least one byte each, so that a wrong one cannot reserve memory.
    pub(crate) fn count(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        let count = self.varint(what)?;
        match usize::try_from(count) {
            Ok(count) if count <= self.left() => Ok(count),
            _ => Err(DecodeError::Truncated { what }),
        }
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.count(what)?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let place = self.take(length, what)?;
        Ok(self.all.slice(place))
    }

    pub(crate) fn string(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let bytes = self.taken(what)?;
        String::from_utf8(bytes.to_vec())
            .map_err(|error| DecodeError::Invalid { what, reason: error.to_string() })
    }

    pub(crate) fn time(&mut self, what: &'static str) -> Result<UnixNanos, DecodeError> {
        let place = self.take(8, what)?;
        let mut raw = [0; 8];
        raw.copy_from_slice(&self.all[place]);
        Ok(UnixNanos(u64::from_le_bytes(raw)))
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        what: &'static str,
    ) -> Result<T, DecodeError> {
        let bytes = self.taken(what)?;
        serde_json::from_slice(bytes)
            .map_err(|error| DecodeError::Invalid { what, reason: error.to_string() })
    }

    /// Nothing is left: what later formats have is not there.
    pub(crate) fn is_empty(&self) -> bool {
        self.left() == 0
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.left() == 0 { Ok(()) } else { Err(DecodeError::Trailing { extra: self.left() }) }
    }
}
