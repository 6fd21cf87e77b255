//! The decoders of a store over any bytes, for `crate::probe`. Not for programs.

use std::path::Path;

use bytes::Bytes;

use super::index::SegmentIndex;
use super::{StoredMessage, checkpoint, framed, record, snapshot};
use crate::disk::Disk;

pub(crate) fn record(bytes: &Bytes) -> Option<StoredMessage> {
    record::decode(bytes, 0)
}

/// Reads `bytes` with the length and the checksum that belong to them; what was read is written as it was.
pub(crate) fn sealed_record(bytes: &[u8]) -> Option<StoredMessage> {
    if bytes.len() < record::RECORD_FIXED_BYTES {
        return None;
    }
    let mut sealed = bytes.to_vec();
    sealed[..4].copy_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    let crc = crc32c::crc32c(&sealed[8..]);
    sealed[4..8].copy_from_slice(&crc.to_le_bytes());
    let message = record::decode(&sealed.into(), 0)?;
    let mut written = Vec::new();
    record::encode(&mut written, &message, 0).ok()?;
    assert_eq!(record::decode(&written.into(), 0).as_ref(), Some(&message));
    Some(message)
}

pub(crate) fn segments_rewritten() -> u64 {
    super::file::REWRITTEN.load(std::sync::atomic::Ordering::Relaxed)
}

pub(crate) fn contents(bytes: &[u8]) {
    if let Some(index) = SegmentIndex::decode(bytes) {
        let listed: Vec<_> = index.iter().collect();
        assert!(listed.len() <= bytes.len());
        let again = SegmentIndex::decode(&index.encode()).map(|index| index.iter().collect::<Vec<_>>());
        assert_eq!(again, Some(listed));
    }
    let _ = checkpoint::decode_subjects(bytes);
    let _ = checkpoint::decode(bytes, 0);
}

pub(crate) fn frame(disk: &dyn Disk, path: &Path) {
    let label = framed::Label::new(b"WEIRCHKP", 0, path);
    let _ = framed::read(disk, path, label);
    if let Some(content) = disk.open(path, crate::disk::OpenMode::Read).ok().and_then(|file| {
        let mut bytes = vec![0; 4096];
        let count = file.read_at(&mut bytes, 0).ok()?;
        bytes.truncate(count);
        Some(bytes)
    }) {
        assert!(framed::write(disk, path, label, &content).is_ok());
        assert!(framed::read(disk, path, label).is_ok_and(|read| read == content));
    }
}

pub(crate) fn snapshot(bytes: &[u8]) {
    let mut total = 0;
    let _ = snapshot::read(&mut &*bytes, &mut |_| Ok(()));
    let sealed = snapshot::sealed(bytes);
    let read = snapshot::read(&mut &*sealed, &mut |message| {
        total += message.payload.len() + message.headers.len() + message.subject.len();
        Ok(())
    });
    assert!(total <= sealed.len(), "{total} bytes of {}", sealed.len());
    assert!(read.is_err() || read.is_ok_and(|state| state.messages <= sealed.len() as u64));
}
