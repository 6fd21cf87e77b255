//! The frame around every command in a log: who proposed it, so that the proposer gets its answer. Not the command's own encoding,
//! which is the machine's (`weir-jetstream`).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Format of the frame. Readers refuse what they do not know.
const VERSION: u8 = 1;
/// Bytes before the command: version, origin, number.
pub(crate) const HEADER_LEN: usize = 1 + 8 + 8;

/// One framed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// Drawn at every process start, so that a replayed entry never answers a new proposal.
    pub(crate) origin: u64,
    /// Counts the proposals of that origin.
    pub(crate) number: u64,
    pub(crate) command: Bytes,
}

/// Why a log entry is not a framed command.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EnvelopeError {
    #[error("log entry of {0} bytes is shorter than its {HEADER_LEN} byte header")]
    Short(usize),
    #[error("log entry has format {0}, this server reads format {VERSION}")]
    Version(u8),
}

/// Writes the frame into the `HEADER_LEN` bytes that were left free in front of a command.
pub(crate) fn frame(mut framed: BytesMut, origin: u64, number: u64) -> Bytes {
    let mut header = &mut framed[..HEADER_LEN];
    header.put_u8(VERSION);
    header.put_u64_le(origin);
    header.put_u64_le(number);
    framed.freeze()
}

impl Envelope {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_LEN + self.command.len());
        out.put_bytes(0, HEADER_LEN);
        out.put_slice(&self.command);
        frame(out, self.origin, self.number)
    }

    /// Splits a log entry without copying the command.
    pub(crate) fn decode(mut entry: Bytes) -> Result<Self, EnvelopeError> {
        if entry.len() < HEADER_LEN {
            return Err(EnvelopeError::Short(entry.len()));
        }
        let version = entry.get_u8();
        if version != VERSION {
            return Err(EnvelopeError::Version(version));
        }
        let origin = entry.get_u64_le();
        let number = entry.get_u64_le();
        Ok(Self { origin, number, command: entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_comes_back_as_it_went_in() {
        let envelope = Envelope { origin: 7, number: 9, command: Bytes::from_static(b"abc") };
        assert_eq!(Envelope::decode(envelope.encode()), Ok(envelope));
    }

    #[test]
    fn a_short_or_newer_entry_is_refused_with_its_reason() {
        assert_eq!(Envelope::decode(Bytes::from_static(b"abc")), Err(EnvelopeError::Short(3)));
        let mut newer = Envelope { origin: 0, number: 0, command: Bytes::new() }.encode().to_vec();
        newer[0] = 2;
        assert_eq!(Envelope::decode(Bytes::from(newer)), Err(EnvelopeError::Version(2)));
    }
}
