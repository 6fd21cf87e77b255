//! What the workloads came to, so that a run proves what it is a proof of. Not what was found: that is `workload`'s.

use std::ops::AddAssign;

use weir_jsapi::StorageType;
use weir_storage::disk::sim::SimDisk;

/// Where the first chunk of a coded segment has its flags, and what they say.
const FLAGS_AT: usize = 32 + 12;
const CODED_VERSION: u32 = 3;
const FLAG_COMPRESSED: u32 = 1;
const FLAG_SEALED: u32 = 2;

/// Counts over all seeds of a run; each must have happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coverage {
    /// Messages stored, and removed because their time was over.
    pub(super) stored: u64,
    pub(super) expired: u64,
    /// Messages removed in any other way.
    pub(super) removed: u64,
    /// What consumers did.
    pub(super) deliveries: u64,
    pub(super) acks: u64,
    /// Of streams kept in files and in memory.
    pub(super) file_checkpoints: u64,
    pub(super) memory_checkpoints: u64,
    /// Segment files at the end of a workload that hold a compressed, or an encrypted, chunk.
    pub(super) compressed_segments: u64,
    pub(super) sealed_segments: u64,
    pub(super) votes: u64,
    /// Streams that were there, and that were deleted.
    pub(super) streams: u64,
    pub(super) deleted_streams: u64,
}

impl Coverage {
    pub(super) fn note_checkpoint(&mut self, storage: StorageType) {
        match storage {
            StorageType::File => self.file_checkpoints += 1,
            StorageType::Memory => self.memory_checkpoints += 1,
        }
    }

    /// Looks at the segment files of a disk.
    pub(super) fn note_segments(&mut self, disk: &SimDisk) {
        let segments =
            disk.paths().into_iter().filter(|path| path.extension().is_some_and(|it| it == "segment"));
        for bytes in segments.filter_map(|path| disk.content(&path)) {
            let word = |at: usize| {
                bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes)
            };
            if let (Some(CODED_VERSION), Some(flags)) = (word(8), word(FLAGS_AT)) {
                self.compressed_segments += u64::from(flags & FLAG_COMPRESSED != 0);
                self.sealed_segments += u64::from(flags & FLAG_SEALED != 0);
            }
        }
    }

    /// Names what never happened.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let Self {
            stored,
            expired,
            removed,
            deliveries,
            acks,
            file_checkpoints,
            memory_checkpoints,
            compressed_segments,
            sealed_segments,
            votes,
            streams,
            deleted_streams,
        } = *self;
        let counts = [
            ("stored messages", stored),
            ("messages whose time is over", expired),
            ("removed messages", removed),
            ("deliveries", deliveries),
            ("acknowledgements", acks),
            ("checkpoints of file streams", file_checkpoints),
            ("checkpoints of memory streams", memory_checkpoints),
            ("compressed segments", compressed_segments),
            ("encrypted segments", sealed_segments),
            ("votes", votes),
            ("streams", streams),
            ("deleted streams", deleted_streams),
        ];
        counts.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.expired += other.expired;
        self.removed += other.removed;
        self.deliveries += other.deliveries;
        self.acks += other.acks;
        self.file_checkpoints += other.file_checkpoints;
        self.memory_checkpoints += other.memory_checkpoints;
        self.compressed_segments += other.compressed_segments;
        self.sealed_segments += other.sealed_segments;
        self.votes += other.votes;
        self.streams += other.streams;
        self.deleted_streams += other.deleted_streams;
    }
}
