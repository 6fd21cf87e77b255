//! S2 streams (the framing of Snappy with larger blocks), written and read block by block. Not the compression of a block
//! (the crate minlz). A reader holds at most one chunk and one block, whatever it is given.

use std::io::{self, ErrorKind, Read};

use crate::error::BackupError;

const MAGIC: &[u8; 10] = b"\xff\x06\x00\x00S2sTwO";
const MAGIC_SNAPPY: &[u8; 10] = b"\xff\x06\x00\x00sNaPpY";
const HEADER_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;
const COMPRESSED: u8 = 0;
const UNCOMPRESSED: u8 = 1;
const IDENTIFIER: u8 = 0xff;
/// From here on chunks are of no concern to who does not know them.
const SKIPPABLE: u8 = 0x80;
/// Bytes of a decoded block, by the format.
const BLOCK_BYTES_MAX: usize = 4 << 20;
/// Bytes of the blocks written.
const BLOCK_BYTES: usize = 256 << 10;
/// A chunk of a block that does not shrink.
const CHUNK_BYTES_MAX: usize = BLOCK_BYTES_MAX + BLOCK_BYTES_MAX / 2 + CHECKSUM_BYTES;

/// Compresses what is put in.
pub struct S2Writer {
    encoder: minlz::s2::Encoder,
    plain: Vec<u8>,
    out: Vec<u8>,
}

impl Default for S2Writer {
    fn default() -> Self {
        Self { encoder: minlz::s2::Encoder::new(), plain: Vec::new(), out: MAGIC.to_vec() }
    }
}

impl S2Writer {
    pub fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.plain.len()));
            self.plain.extend_from_slice(now);
            bytes = later;
            if self.plain.len() == BLOCK_BYTES {
                self.end_block();
            }
        }
    }

    /// Writes out what waits for its block to be full.
    pub fn end_block(&mut self) {
        if self.plain.is_empty() {
            return;
        }
        let encoded = self.encoder.encode(&self.plain);
        let (kind, body) = match encoded.len() < self.plain.len() {
            true => (COMPRESSED, &encoded),
            false => (UNCOMPRESSED, &self.plain),
        };
        let length = u32::try_from(body.len() + CHECKSUM_BYTES).unwrap_or(u32::MAX);
        let [low, middle, high, _] = length.to_le_bytes();
        self.out.extend_from_slice(&[kind, low, middle, high]);
        self.out.extend_from_slice(&checksum(&self.plain).to_le_bytes());
        self.out.extend_from_slice(body);
        self.plain.clear();
    }

    /// What is ready to be sent.
    pub fn ready(&self) -> &[u8] {
        &self.out
    }

    /// Takes the first `count` ready bytes, or all if there are fewer.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.out.split_off(count.min(self.out.len()));
        std::mem::replace(&mut self.out, rest)
    }
}

/// Decompresses what `source` gives.
pub struct S2Reader<R> {
    source: R,
    chunk: Vec<u8>,
    block: Vec<u8>,
    /// Bytes of the block that were read.
    at: usize,
    has_begun: bool,
}

impl<R: Read> S2Reader<R> {
    pub fn new(source: R) -> Self {
        Self { source, chunk: Vec::new(), block: Vec::new(), at: 0, has_begun: false }
    }

    /// Fills `into` as far as the stream goes; fewer bytes are its end.
    pub fn fill(&mut self, into: &mut [u8]) -> Result<usize, BackupError> {
        let mut filled = 0;
        while filled < into.len() {
            let left = self.block.get(self.at..).unwrap_or_default();
            if left.is_empty() {
                if !self.next_block()? {
                    break;
                }
                continue;
            }
            let count = left.len().min(into.len() - filled);
            if let (Some(to), Some(from)) = (into.get_mut(filled..filled + count), left.get(..count)) {
                to.copy_from_slice(from);
            }
            filled += count;
            self.at += count;
        }
        Ok(filled)
    }

    /// The next byte; none at the end.
    pub fn byte(&mut self) -> Result<Option<u8>, BackupError> {
        let mut byte = [0];
        Ok((self.fill(&mut byte)? == 1).then_some(byte[0]))
    }

    /// False at the end of the stream.
    fn next_block(&mut self) -> Result<bool, BackupError> {
        loop {
            let mut header = [0; HEADER_BYTES];
            match read_up_to(&mut self.source, &mut header)? {
                0 => return Ok(false),
                HEADER_BYTES => {}
                _ => return Err(BackupError::Corrupt),
            }
            let [kind, low, middle, high] = header;
            let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
            if !self.has_begun && kind != IDENTIFIER {
                return Err(BackupError::Corrupt);
            }
            match kind {
                COMPRESSED | UNCOMPRESSED => {
                    self.read_block(kind, length)?;
                    if !self.block.is_empty() {
                        return Ok(true);
                    }
                }
                IDENTIFIER => self.read_identifier(header, length)?,
                SKIPPABLE.. => skip(&mut self.source, length)?,
                _ => return Err(BackupError::Unsupported),
            }
        }
    }

    fn read_identifier(&mut self, header: [u8; HEADER_BYTES], length: usize) -> Result<(), BackupError> {
        let mut magic = [0; MAGIC.len()];
        let (start, name) = magic.split_at_mut(HEADER_BYTES);
        start.copy_from_slice(&header);
        if length != name.len() || read_up_to(&mut self.source, name)? != name.len() {
            return Err(BackupError::Corrupt);
        }
        if &magic != MAGIC && &magic != MAGIC_SNAPPY {
            return Err(BackupError::Corrupt);
        }
        self.has_begun = true;
        Ok(())
    }

    fn read_block(&mut self, kind: u8, length: usize) -> Result<(), BackupError> {
        if length < CHECKSUM_BYTES {
            return Err(BackupError::Corrupt);
        }
        if length > CHUNK_BYTES_MAX {
            return Err(BackupError::Unsupported);
        }
        self.chunk.clear();
        let wanted = u64::try_from(length).unwrap_or(u64::MAX);
        if (&mut self.source).take(wanted).read_to_end(&mut self.chunk)? != length {
            return Err(BackupError::Corrupt);
        }
        let (expected, body) =
            self.chunk.split_first_chunk::<CHECKSUM_BYTES>().ok_or(BackupError::Corrupt)?;
        self.at = 0;
        self.block.clear();
        if kind == COMPRESSED {
            let (size, _) = minlz::s2::decode_len(body).map_err(|_| BackupError::Corrupt)?;
            if size > BLOCK_BYTES_MAX {
                return Err(BackupError::Corrupt);
            }
            self.block.resize(size, 0);
            minlz::s2::decode_into(&mut self.block, body).map_err(|_| BackupError::Corrupt)?;
        } else if body.len() > BLOCK_BYTES_MAX {
            return Err(BackupError::Corrupt);
        } else {
            self.block.extend_from_slice(body);
        }
        match checksum(&self.block) == u32::from_le_bytes(*expected) {
            true => Ok(()),
            false => Err(BackupError::Checksum),
        }
    }
}

fn skip(source: &mut impl Read, length: usize) -> Result<(), BackupError> {
    let wanted = u64::try_from(length).unwrap_or(u64::MAX);
    match io::copy(&mut source.take(wanted), &mut io::sink())? == wanted {
        true => Ok(()),
        false => Err(BackupError::Corrupt),
    }
}

/// Reads until `into` is full or the source ends.
fn read_up_to(source: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// CRC-32C, masked as the framing format asks for.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Vec<u8> {
        (0..300_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect()
    }

    fn written(plain: &[u8]) -> Vec<u8> {
        let mut writer = S2Writer::default();
        for piece in plain.chunks(1000) {
            writer.put(piece);
        }
        writer.end_block();
        writer.take(usize::MAX)
    }

    fn read(encoded: &[u8]) -> Result<Vec<u8>, BackupError> {
        let mut reader = S2Reader::new(encoded);
        let mut all = vec![0; 2_000_000];
        let count = reader.fill(&mut all)?;
        all.truncate(count);
        Ok(all)
    }

    #[test]
    fn what_is_written_reads_back_here_and_in_another_reader() {
        let plain = plain();
        let encoded = written(&plain);
        assert!(encoded.len() < plain.len());
        assert_eq!(read(&encoded).expect("readable"), plain);
        let mut other = Vec::new();
        minlz::s2::Reader::new(&encoded[..]).read_to_end(&mut other).expect("readable");
        assert_eq!(other, plain);
    }

    #[test]
    fn a_stream_of_another_writer_reads_the_same() {
        let plain = plain();
        let mut writer = minlz::s2::Writer::new(Vec::new());
        io::Write::write_all(&mut writer, &plain).expect("written");
        io::Write::flush(&mut writer).expect("written");
        assert_eq!(read(writer.get_ref()).expect("readable"), plain);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_within_a_chunk_is_noticed() {
        let encoded = written(b"some text and some text and some text");
        for at in 0..encoded.len() {
            let mut flipped = encoded.clone();
            flipped[at] ^= 0x10;
            assert!(read(&flipped).is_err(), "byte {at}");
            let cut = read(&encoded[..at]);
            assert!(cut.is_err() || at == 0 || at == MAGIC.len(), "cut at {at}");
        }
    }

    #[test]
    fn endless_padding_costs_no_stack_and_no_memory() {
        let mut stream = MAGIC.to_vec();
        for _ in 0..200_000 {
            stream.extend_from_slice(&[0xfe, 0, 0, 0]);
        }
        assert_eq!(read(&stream).expect("readable"), b"");
    }

    #[test]
    fn a_block_that_says_it_is_huge_is_refused_before_anything_is_reserved() {
        let mut stream = MAGIC.to_vec();
        stream.extend_from_slice(&[COMPRESSED, 9, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(matches!(read(&stream), Err(BackupError::Corrupt)));
    }
}
