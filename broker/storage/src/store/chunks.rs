//! The file of a coded segment: what a plain segment holds, cut into chunks that are compressed, encrypted, or both.
//! Offsets of records stay those of the plain segment; the chunks say where in the file each stretch of it lies, and
//! are kept with the segment's index.
//!
//! ```text
//! header of the segment 32 | chunk ...
//! chunk: plain offset u32 | plain length u32 | stored length u32 | flags u32 | crc u32 | stored bytes
//! ```
//! The crc (crc32c) starts from the store's seed and covers the fields and the stored bytes. Compression comes before
//! encryption. A random read costs one chunk.

use std::io;

use bytes::Bytes;

use super::framed::{Reader, put_u64};
use super::record::u32_at;
use super::segment::SEGMENT_HEADER_BYTES;
use crate::disk::DiskFile;
use crate::vault::{SEAL_BYTES, Vault};

/// Plain bytes of a chunk.
pub(crate) const CHUNK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 20;
const FLAG_COMPRESSED: u32 = 1;
const FLAG_SEALED: u32 = 2;

/// One chunk: a stretch of the plain segment, and where it lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk {
    offset: u32,
    length: u32,
    file_offset: u32,
    /// With its header.
    file_length: u32,
}

/// The chunks of a segment in their order; none for a plain one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunks(Vec<Chunk>);

impl Chunks {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    fn position(&self, offset: u64) -> Option<usize> {
        let after = self.0.partition_point(|chunk| u64::from(chunk.offset) <= offset);
        let position = after.checked_sub(1)?;
        let chunk = self.0.get(position)?;
        (offset < u64::from(chunk.offset) + u64::from(chunk.length)).then_some(position)
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_u64(buffer, self.0.len() as u64);
        for chunk in &self.0 {
            for value in [chunk.offset, chunk.length, chunk.file_offset, chunk.file_length] {
                put_u64(buffer, u64::from(value));
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut chunks = Vec::new();
        let mut end = 0;
        for _ in 0..reader.u64()? {
            let (offset, length) = (reader.u32()?, reader.u32()?);
            let (file_offset, file_length) = (reader.u32()?, reader.u32()?);
            let overlaps = offset < end || length as usize > CHUNK_BYTES;
            if overlaps || file_offset.checked_add(file_length).is_none() {
                return None;
            }
            end = offset.checked_add(length)?;
            chunks.push(Chunk { offset, length, file_offset, file_length });
        }
        Some(Self(chunks))
    }
}

/// How the chunks of a segment are made and read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coding<'a> {
    pub(crate) vault: Option<&'a Vault>,
    /// Where the store's checksums start.
    pub(crate) seed: u32,
    pub(crate) segment: u64,
}

impl Coding<'_> {
    /// Appends plain bytes to what goes to the file at `file_offset`, as chunks.
    pub(crate) fn encode(
        &self,
        plain: &[u8],
        offset: u64,
        compress: bool,
        output: &mut Vec<u8>,
        file_offset: u64,
    ) -> Chunks {
        let mut chunks = Vec::with_capacity(plain.len() / CHUNK_BYTES + 1);
        let mut offset = u32::try_from(offset).unwrap_or(u32::MAX);
        for piece in plain.chunks(CHUNK_BYTES) {
            let start = output.len();
            self.encode_one(piece, offset, compress, output);
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            chunks.push(Chunk {
                offset,
                length,
                file_offset: u32::try_from(file_offset + start as u64).unwrap_or(u32::MAX),
                file_length: u32::try_from(output.len() - start).unwrap_or(u32::MAX),
            });
            offset = offset.saturating_add(length);
        }
        Chunks(chunks)
    }

    fn encode_one(&self, plain: &[u8], offset: u32, compress: bool, output: &mut Vec<u8>) {
        let compressed = if compress { smaller(plain) } else { None };
        let flags = if compressed.is_some() { FLAG_COMPRESSED } else { 0 }
            | if self.vault.is_some() { FLAG_SEALED } else { 0 };
        let body = compressed.as_deref().unwrap_or(plain);
        let stored = body.len() + if self.vault.is_some() { SEAL_BYTES } else { 0 };
        let start = output.len();
        for value in [offset as usize, plain.len(), stored, flags as usize, 0] {
            output.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
        }
        output.extend_from_slice(body);
        if let Some(vault) = self.vault {
            vault.seal(&self.context(&output[start..]), output, start + HEADER_BYTES);
        }
        let crc = self.crc(&output[start..]);
        output[start + 16..start + 20].copy_from_slice(&crc.to_le_bytes());
    }

    /// What a sealed chunk is bound to: the store, the segment, and the fields of its header.
    fn context(&self, chunk: &[u8]) -> [u8; 28] {
        let mut context = [0; 28];
        context[..4].copy_from_slice(&self.seed.to_le_bytes());
        context[4..12].copy_from_slice(&self.segment.to_le_bytes());
        context[12..].copy_from_slice(&chunk[..16]);
        context
    }

    fn crc(&self, chunk: &[u8]) -> u32 {
        let fields = crc32c::crc32c_append(self.seed, &chunk[..16]);
        crc32c::crc32c_append(fields, &chunk[HEADER_BYTES..])
    }

    /// The plain bytes of a chunk; nothing when its bytes are not what was written.
    fn decode(&self, chunk: Chunk, bytes: &[u8]) -> Option<Bytes> {
        if bytes.len() < HEADER_BYTES || bytes.len() != chunk.file_length as usize {
            return None;
        }
        let whole = self.crc(bytes) == u32_at(bytes, 16)
            && (u32_at(bytes, 0), u32_at(bytes, 4)) == (chunk.offset, chunk.length);
        let flags = u32_at(bytes, 12);
        if !whole || (flags & FLAG_SEALED != 0) != self.vault.is_some() {
            return None;
        }
        let stored = &bytes[HEADER_BYTES..];
        let opened = match self.vault {
            Some(vault) => vault.open(&self.context(bytes), stored)?,
            None => stored.to_vec(),
        };
        if flags & FLAG_COMPRESSED == 0 {
            return (opened.len() == chunk.length as usize).then(|| opened.into());
        }
        // Room is made only for what the index says.
        let length = snap::raw::decompress_len(&opened).ok()?;
        let plain = if length == chunk.length as usize {
            snap::raw::Decoder::new().decompress_vec(&opened).ok()?
        } else {
            return None;
        };
        Some(plain.into())
    }
}

/// The compressed bytes, where that is worth it.
fn smaller(plain: &[u8]) -> Option<Vec<u8>> {
    let compressed = snap::raw::Encoder::new().compress_vec(plain).ok()?;
    (compressed.len() < plain.len() - plain.len() / 16).then_some(compressed)
}

/// The chunk that was read last.
#[derive(Debug, Default)]
pub(crate) struct ChunkCache {
    segment: u64,
    position: usize,
    bytes: Option<Bytes>,
}

impl ChunkCache {
    /// Reads a stretch of the plain segment; nothing when a chunk of it is damaged or missing.
    pub(crate) fn read(
        &mut self,
        file: &dyn DiskFile,
        chunks: &Chunks,
        coding: Coding<'_>,
        offset: u64,
        length: usize,
    ) -> io::Result<Option<Bytes>> {
        let mut gathered = Vec::new();
        let mut from = offset;
        let end = offset + length as u64;
        loop {
            let Some(position) = chunks.position(from) else { return Ok(None) };
            let chunk = chunks.0[position];
            let Some(bytes) = self.chunk(file, chunk, position, coding)? else { return Ok(None) };
            let start = usize::try_from(from - u64::from(chunk.offset)).unwrap_or(usize::MAX);
            let count = bytes.len().saturating_sub(start).min(usize::try_from(end - from).unwrap_or(0));
            if count == length {
                return Ok(Some(bytes.slice(start..start + count)));
            }
            gathered.reserve(length);
            gathered.extend_from_slice(bytes.get(start..start + count).unwrap_or_default());
            from += count as u64;
            if from >= end {
                return Ok(Some(gathered.into()));
            }
        }
    }

    fn chunk(
        &mut self,
        file: &dyn DiskFile,
        chunk: Chunk,
        position: usize,
        coding: Coding<'_>,
    ) -> io::Result<Option<Bytes>> {
        if let Some(bytes) = &self.bytes
            && (self.segment, self.position) == (coding.segment, position)
        {
            return Ok(Some(bytes.clone()));
        }
        let mut buffer = vec![0; chunk.file_length as usize];
        let count = file.read_at(&mut buffer, u64::from(chunk.file_offset))?;
        buffer.truncate(count);
        let bytes = coding.decode(chunk, &buffer);
        *self = Self { segment: coding.segment, position, bytes: bytes.clone() };
        Ok(bytes)
    }
}

/// Bytes of a coded segment's file before its first chunk.
pub(crate) const FIRST_CHUNK_AT: u64 = SEGMENT_HEADER_BYTES as u64;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::disk::{Disk, OpenMode};
    use crate::vault::Cipher;

    fn compressible(length: usize) -> Vec<u8> {
        (0..length).map(|at| if at % 97 == 0 { (at / 97) as u8 } else { b'a' }).collect()
    }

    fn written(coding: Coding<'_>, plain: &[u8], compress: bool) -> (SimDisk, Arc<dyn DiskFile>, Chunks) {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("/s"), OpenMode::CreateEmpty).unwrap();
        let mut output = Vec::new();
        let chunks = coding.encode(plain, FIRST_CHUNK_AT, compress, &mut output, FIRST_CHUNK_AT);
        file.write_at(&output, FIRST_CHUNK_AT).unwrap();
        (disk, file, chunks)
    }

    #[test]
    fn every_stretch_reads_back_whatever_the_coding() {
        let vault = Vault::new(Cipher::Aes256Gcm, &[7; 32], [1; 16]);
        let plain = compressible(3 * CHUNK_BYTES + 1234);
        for (vault, compress) in [(None, true), (Some(&vault), false), (Some(&vault), true)] {
            let coding = Coding { vault, seed: 5, segment: 9 };
            let (_, file, chunks) = written(coding, &plain, compress);
            let mut buffer = Vec::new();
            chunks.encode(&mut buffer);
            assert_eq!(Chunks::decode(&mut Reader::new(&buffer)), Some(chunks.clone()));
            let mut cache = ChunkCache::default();
            for (from, length) in
                [(0, 10), (CHUNK_BYTES - 5, 10), (100, plain.len() - 100), (plain.len() - 1, 1)]
            {
                let read = cache.read(&*file, &chunks, coding, FIRST_CHUNK_AT + from as u64, length);
                assert_eq!(read.unwrap().unwrap(), plain[from..from + length]);
            }
            let behind = FIRST_CHUNK_AT + plain.len() as u64;
            assert!(cache.read(&*file, &chunks, coding, behind, 1).unwrap().is_none());
            if compress {
                assert!(file.length().unwrap() < plain.len() as u64 / 3);
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_a_chunk_is_noticed() {
        let vault = Vault::new(Cipher::ChaCha20Poly1305, &[7; 32], [1; 16]);
        let plain = compressible(200);
        for vault in [None, Some(&vault)] {
            let coding = Coding { vault, seed: 5, segment: 9 };
            let (disk, file, chunks) = written(coding, &plain, true);
            let length = usize::try_from(file.length().unwrap()).unwrap();
            for bit in 32 * 8..length * 8 {
                let damaged = disk.fork();
                damaged.flip_bit(Path::new("/s"), bit / 8, u8::try_from(bit % 8).unwrap());
                let file = damaged.open(Path::new("/s"), OpenMode::Read).unwrap();
                let read = ChunkCache::default().read(&*file, &chunks, coding, FIRST_CHUNK_AT, 10).unwrap();
                assert!(read.is_none(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_chunk_of_another_segment_or_store_is_not_taken() {
        let vault = Vault::new(Cipher::ChaCha20Poly1305, &[7; 32], [1; 16]);
        let coding = Coding { vault: Some(&vault), seed: 5, segment: 9 };
        let (_, file, chunks) = written(coding, &compressible(200), false);
        let plain = Coding { vault: None, ..coding };
        for other in [Coding { segment: 8, ..coding }, Coding { seed: 6, ..coding }, plain] {
            let read = ChunkCache::default().read(&*file, &chunks, other, FIRST_CHUNK_AT, 10);
            assert!(read.unwrap().is_none());
        }
    }
}
