//! Opening a journal whose file holds anything, for `crate::probe`. Not for programs.

use std::path::Path;

use super::files::Window;
use super::record::{Chain, FILE_HEADER_BYTES, Fields, FileHeader, Kind, encode};
use super::recover;
use crate::probe::{disk_of, journal_options};

const HEADER: FileHeader = FileHeader {
    generation: 3,
    epoch: 2,
    previous_generation: 0,
    oldest_generation: 3,
    file_bytes: 16 << 10,
    sealed: false,
};
const KINDS: [Kind; 11] = [
    Kind::Entry,
    Kind::Moved,
    Kind::Truncate,
    Kind::Purge,
    Kind::State,
    Kind::Drop,
    Kind::Base,
    Kind::BaseEnd,
    Kind::Opened,
    Kind::Mark,
    Kind::End,
];
/// What an entry's payload may be at most.
const READ_BYTES: usize = 64 << 10;

/// Opens and reads the journal; `damage` are positions of bytes that are changed before.
pub(crate) fn open(records: &[u8], damage: &[usize]) {
    let start = usize::try_from(FILE_HEADER_BYTES).unwrap_or(0);
    let mut content = HEADER.encode();
    content.resize(start, 0);
    content.extend_from_slice(records);
    for position in damage {
        if let Some(byte) = content.get_mut(start + position) {
            *byte ^= 0x55;
        }
    }
    let (path, directory) = (Path::new("/j/00000001.journal"), Path::new("/j"));
    let disk = disk_of(path, content);
    let Ok((writer, shared, recovery)) = recover::open(disk, directory, journal_options(), false) else {
        return;
    };
    for id in recovery.groups {
        let Some(group) = shared.find(id) else { continue };
        let log = group.log.lock();
        let range = log.range();
        let mut window = Window::default();
        for index in range.first..range.last.saturating_add(1).min(range.first.saturating_add(64)) {
            if let Some(slot) = log.slot(index) {
                let entry = shared.read_entry(id, index, slot, &mut window);
                assert!(entry.is_ok_and(|entry| entry.is_none_or(|entry| entry.payload.len() < READ_BYTES)));
            }
        }
    }
    drop(writer);
}

/// Records as six bytes each tell them, and where they say that one is damaged.
pub(crate) fn records(description: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut chain =
        Chain { generation: HEADER.generation, epoch: HEADER.epoch, previous_crc: HEADER.chain_seed() };
    let (mut bytes, mut damage) = (Vec::new(), Vec::new());
    let (mut rest, mut written) = (description, 0);
    while let Some((&[kind, group, term, index, length, flags], after)) = rest.split_first_chunk::<6>() {
        let (payload, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let start = bytes.len();
        if flags & 1 != 0 {
            damage.push(start + usize::from(flags >> 2));
        }
        if flags & 2 != 0 {
            chain.epoch += 1;
        }
        let kind = KINDS[usize::from(kind) % KINDS.len()];
        let (group, mut index) = (u64::from(group % 4), u64::from(index));
        let term = if kind == Kind::Mark { u64::from(HEADER.generation) } else { u64::from(term) };
        if kind == Kind::Mark {
            index = FILE_HEADER_BYTES + index * 8;
        }
        let offset = FILE_HEADER_BYTES + start as u64;
        encode(&mut bytes, &mut chain, Fields { kind, group, term, index }, payload, offset, None);
        written += 1;
        if written == 100 {
            break;
        }
    }
    (bytes, damage)
}
