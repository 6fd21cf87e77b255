//! Writes that go past the page cache (`O_DIRECT`), in whole blocks from aligned memory. A page of the cache that is
//! touched for the first time costs microseconds on virtual machines that give free memory back, and a small write with
//! its sync goes twice through the kernel's queues. Not for file systems without direct writes: callers then write as usual.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::OFlags;

/// What devices and file systems ask of the offset, length and memory of a direct write, bytes.
pub(super) const BLOCK_BYTES: usize = 4096;
/// Memory through which larger writes go, bytes.
const STAGING_BYTES: usize = 1 << 20;
/// Writes below this size cost less in the page cache, bytes.
pub(super) const LARGE_BYTES_MIN: usize = 64 << 10;

/// A second handle of an open file, for direct writes; nothing where there are none.
pub(super) fn open(file: &File) -> Option<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    // By its descriptor, since the file may have been renamed.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
}

/// Whether the file system refuses direct writes as such.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// The whole blocks within `bytes` at `offset`, as a range of `bytes`.
pub(super) fn whole_blocks(length: usize, offset: u64) -> std::ops::Range<usize> {
    let block = BLOCK_BYTES as u64;
    let start = usize::try_from(offset.next_multiple_of(block) - offset).unwrap_or(usize::MAX);
    let end = offset + length as u64;
    let tail = usize::try_from(end % block).unwrap_or(0);
    if start + tail >= length { 0..0 } else { start..length - tail }
}

/// Memory that starts at a multiple of `BLOCK_BYTES`.
#[derive(Debug, Default)]
pub(super) struct Staging {
    memory: Vec<u8>,
    start: usize,
}

impl Staging {
    /// Empties it and makes room, up to a multiple of `BLOCK_BYTES`.
    fn reset(&mut self, capacity: usize) {
        self.memory.clear();
        self.memory.reserve(capacity.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES);
        self.start = self.memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        self.memory.resize(self.start, 0);
    }

    fn push(&mut self, bytes: &[u8]) {
        self.memory.extend_from_slice(bytes);
    }

    /// Fills the last block with zeros.
    fn pad(&mut self) {
        let length = (self.memory.len() - self.start).next_multiple_of(BLOCK_BYTES);
        self.memory.resize(self.start + length, 0);
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

/// Writes whole blocks. False when the file system does not take them: nothing is said then of what was written.
pub(super) fn write_blocks(direct: &File, blocks: &[u8], offset: u64) -> io::Result<bool> {
    let written = if blocks.as_ptr().align_offset(BLOCK_BYTES) == 0 {
        direct.write_all_at(blocks, offset)
    } else {
        let mut staging = Staging::default();
        staging.reset(blocks.len().min(STAGING_BYTES));
        let mut at = offset;
        blocks.chunks(STAGING_BYTES).try_for_each(|chunk| {
            staging.reset(chunk.len());
            staging.push(chunk);
            direct.write_all_at(staging.bytes(), at)?;
            at += chunk.len() as u64;
            Ok(())
        })
    };
    match written {
        Ok(()) => Ok(true),
        Err(error) if is_unsupported(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The end of a log that is written block by block, each as often as it takes to fill it.
#[derive(Debug)]
pub(super) struct LogEnd {
    direct: File,
    staging: Staging,
    /// Where the block begins that is not full yet, and what is in it.
    block: u64,
    partial: Vec<u8>,
}

impl LogEnd {
    pub(super) fn open(file: &File) -> Option<Self> {
        let direct = open(file)?;
        Some(Self { direct, staging: Staging::default(), block: 0, partial: Vec::new() })
    }

    /// Writes behind what is there, and zeros up to the end of the last block. False as in `write_blocks`.
    pub(super) fn write(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<bool> {
        let inside = usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or(0);
        let block = offset - inside as u64;
        if self.block != block || self.partial.len() != inside {
            self.partial.resize(inside, 0);
            file.read_exact_at(&mut self.partial, block)?;
            self.block = block;
        }
        self.staging.reset(inside + bytes.len());
        self.staging.push(&self.partial);
        self.staging.push(bytes);
        self.staging.pad();
        match self.direct.write_all_at(self.staging.bytes(), block) {
            Ok(()) => {}
            Err(error) if is_unsupported(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        let end = offset + bytes.len() as u64;
        let kept = usize::try_from(end % BLOCK_BYTES as u64).unwrap_or(0);
        self.block = end - kept as u64;
        if kept <= bytes.len() {
            self.partial.clear();
            self.partial.extend_from_slice(&bytes[bytes.len() - kept..]);
        } else {
            self.partial.extend_from_slice(bytes);
        }
        if self.staging.memory.capacity() > STAGING_BYTES + 2 * BLOCK_BYTES {
            self.staging = Staging::default();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_leave_out_both_ends() {
        assert_eq!(whole_blocks(8192, 0), 0..8192);
        assert_eq!(whole_blocks(8192, 1), 4095..4095 + 4096);
        assert_eq!(whole_blocks(100, 4000), 0..0);
        assert_eq!(whole_blocks(4096, 100), 0..0);
        assert_eq!(whole_blocks(3 * 4096, 4095), 1..1 + 2 * 4096);
    }
}
