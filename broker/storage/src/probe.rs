//! The readers of this crate for a fuzzer, which reaches them here without files and with checksums that are right,
//! so that what lies behind the checksums is read as well. Not for programs: behind the feature `test-util`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::sim::SimDisk;
use crate::journal::{self, JournalOptions};
use crate::store::{self, StoredMessage};

/// Opens a journal of one file: `bytes` is what lies behind its header. Whatever it is, reading ends, and what
/// was read can be asked for.
pub fn journal_file(bytes: &[u8]) {
    journal::probe::open(bytes, &[]);
}

/// Opens a journal whose records are described by `bytes`, six for each, and damaged in between as they say.
pub fn journal_records(bytes: &[u8]) {
    let (records, damage) = journal::probe::records(bytes);
    journal::probe::open(&records, &damage);
}

/// A record of a segment as it lies in the file, and once more with a checksum that is right.
pub fn message_record(bytes: &[u8]) {
    let _ = store::probe::record(&Bytes::copy_from_slice(bytes));
    if let Some(message) = store::probe::sealed_record(bytes) {
        let StoredMessage { subject, headers, payload, .. } = &message;
        assert!(subject.len() + headers.len() + payload.len() < bytes.len());
    }
}

/// The contents of the small files of a store, an index and a checkpoint, and the frame around such files.
pub fn store_file(bytes: &[u8]) {
    store::probe::contents(bytes);
    let path = Path::new("/f");
    let disk = SimDisk::from_files(BTreeMap::from([(path.to_owned(), bytes.to_vec())]));
    store::probe::frame(&disk, path);
}

/// A snapshot as a peer sends it, as it is and with a header that is right.
pub fn snapshot(bytes: &[u8]) {
    store::probe::snapshot(bytes);
}

/// Segments that the stores of this process wrote by rewriting others: whether a test's workload came to compaction.
#[must_use]
pub fn segments_rewritten() -> u64 {
    store::probe::segments_rewritten()
}

pub(crate) fn journal_options() -> JournalOptions {
    JournalOptions { file_size_bytes: 16 << 10, cache_bytes: 64 << 10, ..JournalOptions::default() }
}

pub(crate) fn disk_of(path: &Path, content: Vec<u8>) -> Arc<SimDisk> {
    Arc::new(SimDisk::from_files(BTreeMap::from([(path.to_owned(), content)])))
}
