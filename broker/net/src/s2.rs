//! S2 streams, as servers compress what they tell each other: chunks of the snappy framing format with S2 blocks.
//! Not the compression of a block (the crate minlz), and not who agreed on it.

use crate::codec::{Codec, Taken, gather};
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const COMPRESSED: u8 = 0x00;
const UNCOMPRESSED: u8 = 0x01;
/// Chunks of this type and above may be skipped.
const FIRST_SKIPPABLE: u8 = 0x80;
const IDENTIFIER: u8 = 0xFF;
/// The chunk that begins a stream.
const STREAM_BEGIN: &[u8] = b"\xff\x06\x00\x00S2sTwO";
const S2_NAME: &[u8] = b"S2sTwO";
const SNAPPY_NAME: &[u8] = b"sNaPpY";
const HEADER_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;
/// The largest block of an S2 stream, before compression.
const MAX_BLOCK_BYTES: usize = 4 * 1024 * 1024;
/// The same after compression, with the worst case of the format.
const MAX_CHUNK_BYTES: usize = MAX_BLOCK_BYTES + MAX_BLOCK_BYTES / 6 + 64;
/// Smaller pieces are not worth a look for repetitions.
const MIN_COMPRESSED_BYTES: usize = 32;

/// How hard to look for repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum S2Level {
    /// Not at all: framing only.
    Uncompressed,
    /// A little.
    Fast,
    /// More.
    Better,
    /// As hard as can be.
    Best,
}

/// Changes the level of a codec in use.
#[derive(Debug, Clone)]
pub struct S2Control {
    level: Arc<AtomicU8>,
}

impl S2Control {
    /// From the next write on.
    pub fn set(&self, level: S2Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }
}

/// One connection's two S2 streams.
pub struct S2Codec {
    level: Arc<AtomicU8>,
    began: bool,
    plain: Vec<u8>,
    encoder: minlz::s2::Encoder,
    decoder: Decoder,
}

#[derive(Default)]
struct Decoder {
    /// Received and not decoded.
    waiting: Vec<u8>,
    /// Bytes to skip before the next chunk.
    skip: usize,
    began: bool,
}

impl S2Codec {
    /// A codec at its beginning, and what changes its level.
    pub fn new(level: S2Level) -> (Self, S2Control) {
        let level = Arc::new(AtomicU8::new(level as u8));
        let codec = Self {
            level: Arc::clone(&level),
            began: false,
            plain: Vec::new(),
            encoder: minlz::s2::Encoder::new(),
            decoder: Decoder::default(),
        };
        (codec, S2Control { level })
    }

    fn compress(&mut self) -> Option<Vec<u8>> {
        if self.plain.len() < MIN_COMPRESSED_BYTES {
            return None;
        }
        let level = self.level.load(Ordering::Relaxed);
        let block = if level == S2Level::Fast as u8 {
            self.encoder.encode(&self.plain)
        } else if level == S2Level::Better as u8 {
            self.encoder.encode_better(&self.plain)
        } else if level == S2Level::Best as u8 {
            self.encoder.encode_best(&self.plain)
        } else {
            return None;
        };
        (block.len() < self.plain.len()).then_some(block)
    }
}

impl Codec for S2Codec {
    fn decode(&mut self, input: &[u8], decoded: &mut Vec<u8>, _replies: &mut Vec<u8>) -> io::Result<()> {
        self.decoder.decode(input, usize::MAX, decoded).map(|_| ())
    }

    fn decode_some(
        &mut self,
        input: &[u8],
        limit: usize,
        decoded: &mut Vec<u8>,
        _replies: &mut Vec<u8>,
    ) -> io::Result<Taken> {
        // What is not decoded yet stays here, compressed.
        let complete = self.decoder.decode(input, limit, decoded)?;
        Ok(Taken { bytes: input.len(), complete })
    }

    fn encode(&mut self, plain: &[IoSlice<'_>], limit: usize, encoded: &mut Vec<u8>) -> io::Result<usize> {
        self.plain.clear();
        let taken = gather(plain, limit.min(MAX_BLOCK_BYTES), &mut self.plain);
        if taken == 0 {
            return Ok(0);
        }
        if !self.began {
            self.began = true;
            encoded.extend_from_slice(STREAM_BEGIN);
        }
        let block = self.compress();
        let (kind, body) = match &block {
            Some(block) => (COMPRESSED, &block[..]),
            None => (UNCOMPRESSED, &self.plain[..]),
        };
        // Blocks are bounded, so that three bytes hold the length.
        let [low, middle, high, ..] = (body.len() + CHECKSUM_BYTES).to_le_bytes();
        encoded.extend_from_slice(&[kind, low, middle, high]);
        encoded.extend_from_slice(&checksum(&self.plain).to_le_bytes());
        encoded.extend_from_slice(body);
        Ok(taken)
    }
}

impl Decoder {
    /// Decodes until `decoded` has got to the limit; tells whether nothing is left that could be decoded.
    fn decode(&mut self, input: &[u8], limit: usize, decoded: &mut Vec<u8>) -> io::Result<bool> {
        self.waiting.extend_from_slice(input);
        let mut at = 0;
        let result = loop {
            let skipped = self.skip.min(self.waiting.len() - at);
            at += skipped;
            self.skip -= skipped;
            let rest = self.waiting.get(at..).unwrap_or_default();
            let Some((kind, length)) = header(rest) else { break Ok(true) };
            if kind >= FIRST_SKIPPABLE && kind != IDENTIFIER {
                self.skip = HEADER_BYTES + length;
                continue;
            }
            if length > MAX_CHUNK_BYTES {
                break Err(invalid("a chunk of an S2 stream is too large"));
            }
            let Some(body) = rest.get(HEADER_BYTES..HEADER_BYTES + length) else { break Ok(true) };
            if decoded.len() >= limit {
                break Ok(false);
            }
            if kind == IDENTIFIER {
                if body != S2_NAME && body != SNAPPY_NAME {
                    break Err(invalid("not an S2 stream"));
                }
                self.began = true;
            } else if !self.began {
                break Err(invalid("an S2 stream does not begin as such"));
            } else if let Err(problem) = block(kind, body, decoded) {
                break Err(problem);
            }
            at += HEADER_BYTES + length;
        };
        self.waiting.drain(..at);
        if self.waiting.is_empty() {
            // Idle connections hold nothing.
            self.waiting = Vec::new();
        }
        result
    }
}

fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    match bytes {
        [kind, low, middle, high, ..] => {
            Some((*kind, usize::from(*low) | usize::from(*middle) << 8 | usize::from(*high) << 16))
        }
        _ => None,
    }
}

fn block(kind: u8, body: &[u8], decoded: &mut Vec<u8>) -> io::Result<()> {
    let (expected, body) =
        body.split_first_chunk::<CHECKSUM_BYTES>().ok_or_else(|| invalid("a chunk without its checksum"))?;
    let from = decoded.len();
    match kind {
        COMPRESSED => {
            let (size, _) = minlz::s2::decode_len(body).map_err(|_| invalid("a block without its size"))?;
            if size > MAX_BLOCK_BYTES {
                return Err(invalid("a block of an S2 stream is too large"));
            }
            decoded.resize(from + size, 0);
            let into = decoded.get_mut(from..).unwrap_or_default();
            if minlz::s2::decode_into(into, body).is_err() {
                decoded.truncate(from);
                return Err(invalid("a block of an S2 stream is damaged"));
            }
        }
        UNCOMPRESSED if body.len() <= MAX_BLOCK_BYTES => decoded.extend_from_slice(body),
        UNCOMPRESSED => return Err(invalid("a block of an S2 stream is too large")),
        _ => return Err(invalid("an unknown chunk in an S2 stream")),
    }
    if checksum(decoded.get(from..).unwrap_or_default()) != u32::from_le_bytes(*expected) {
        decoded.truncate(from);
        return Err(invalid("a chunk of an S2 stream fails its checksum"));
    }
    Ok(())
}

/// CRC-32C, masked as the framing format asks for.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(codec: &mut S2Codec, plain: &[u8]) -> Vec<u8> {
        let (mut encoded, mut at) = (Vec::new(), 0);
        while at < plain.len() {
            at += codec.encode(&[IoSlice::new(&plain[at..])], 64 * 1024, &mut encoded).expect("encoded");
        }
        encoded
    }

    fn decode(codec: &mut S2Codec, encoded: &[u8]) -> io::Result<Vec<u8>> {
        let mut decoded = Vec::new();
        codec.decode(encoded, &mut decoded, &mut Vec::new())?;
        Ok(decoded)
    }

    #[test]
    fn what_is_encoded_at_any_level_is_decoded_in_any_pieces() {
        let plain: Vec<u8> = (0..200_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for level in [S2Level::Uncompressed, S2Level::Fast, S2Level::Better, S2Level::Best] {
            let (mut sender, _) = S2Codec::new(level);
            let mut wire = encode(&mut sender, &plain[..10]);
            wire.extend(encode(&mut sender, &plain[10..]));
            assert_eq!(wire.len() < plain.len(), level != S2Level::Uncompressed, "{level:?}");
            for piece in [1usize, 1000, 65_536, wire.len()] {
                let (mut receiver, _) = S2Codec::new(level);
                let mut decoded = Vec::new();
                for part in wire.chunks(piece).take(if piece == 1 { 5000 } else { usize::MAX }) {
                    decoded.extend(decode(&mut receiver, part).expect("valid"));
                }
                assert!(plain.starts_with(&decoded) && (piece == 1 || decoded.len() == plain.len()));
            }
        }
    }

    #[test]
    fn other_writers_streams_are_read() {
        let plain = b"PING\r\n".repeat(1000);
        let mut writer = minlz::s2::Writer::new(Vec::new());
        io::Write::write_all(&mut writer, &plain).expect("written");
        io::Write::flush(&mut writer).expect("flushed");
        let first = writer.get_ref().clone();
        // Each flush of nats-server begins a stream anew; chunks in between may be skipped.
        let wire = [&first[..], b"\xfe\x03\x00\x00abc", &first[..]].concat();
        let (mut codec, _) = S2Codec::new(S2Level::Fast);
        assert_eq!(decode(&mut codec, &wire).expect("valid"), plain.repeat(2));
    }

    #[test]
    fn damage_is_noticed() {
        let (mut sender, _) = S2Codec::new(S2Level::Fast);
        let wire = encode(&mut sender, &b"hello ".repeat(100));
        let fails = |wire: &[u8]| decode(&mut S2Codec::new(S2Level::Fast).0, wire).is_err();
        assert!(!fails(&wire));
        assert!(fails(&wire[10..]), "no beginning");
        let mut flipped = wire;
        flipped[15] ^= 1;
        assert!(fails(&flipped), "checksum");
        assert!(fails(b"\xff\x06\x00\x00S2sTwO\x02\x00\x00\x00"), "unknown chunk");
        assert!(fails(b"\xff\x06\x00\x00S2sTwO\x00\xff\xff\xff"), "too large");
        assert!(fails(b"INFO {}\r\n"), "not compressed");
    }

    #[test]
    fn little_that_stands_for_much_is_decoded_bit_by_bit() {
        let zeros = vec![0; 1024 * 1024];
        let block = minlz::s2::encode(&zeros);
        let [low, middle, high, ..] = (block.len() + 4).to_le_bytes();
        let sum = checksum(&zeros).to_le_bytes();
        let chunk = [&[COMPRESSED, low, middle, high], &sum[..], &block].concat();
        let wire = [STREAM_BEGIN, &chunk.repeat(100)].concat();
        let (mut codec, _) = S2Codec::new(S2Level::Fast);
        let (mut input, mut total) = (&wire[..], 0);
        loop {
            let mut decoded = Vec::new();
            let taken = codec.decode_some(input, 1000, &mut decoded, &mut Vec::new()).expect("valid");
            assert!(decoded.len() <= zeros.len(), "{} at once", decoded.len());
            total += decoded.len();
            input = &input[taken.bytes..];
            if taken.complete {
                break;
            }
        }
        assert_eq!(total, 100 * zeros.len());
    }

    #[test]
    fn the_level_can_change_in_the_middle() {
        let (mut sender, control) = S2Codec::new(S2Level::Uncompressed);
        let plain = b"again and again ".repeat(64);
        let large = encode(&mut sender, &plain).len();
        control.set(S2Level::Best);
        assert!(encode(&mut sender, &plain).len() < large / 4);
    }
}
