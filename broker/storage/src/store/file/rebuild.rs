//! Makes anew what the records of a store tell: the table of its subjects, and the index of a plain segment (that of a
//! segment in chunks says where these lie, which nothing else does). Only for a repair: a server does not guess.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::disk::OpenMode;
use crate::error::{IoContext, StorageError};
use crate::store::SubjectState;
use crate::store::content::Content;
use crate::store::framed::is_missing;
use crate::store::index::{HOLE_MAX, SegmentIndex, Slot};
use crate::store::record::{self, RECORD_FIXED_BYTES, u32_at};
use crate::store::segment::{SEGMENT_HEADER_BYTES, Segment, segment_path};
use crate::store::snapshot::{Window, read_message};
use crate::store::subjects::Subjects;

/// Whether an error says that the bytes are not what was written.
pub(super) fn is_damage(error: &StorageError) -> bool {
    matches!(error, StorageError::Corrupt { .. } | StorageError::Foreign { .. }) || is_missing(error)
}

/// The table of subjects, from the first readable record of each.
pub(super) fn subjects(content: &Content) -> Result<Subjects, StorageError> {
    let mut found: BTreeMap<u32, (Bytes, SubjectState)> = BTreeMap::new();
    for segment in &content.segments {
        let slots = content.live_slots(segment)?;
        let path = segment_path(&content.directory, segment.id);
        let file = content.disk.open(&path, OpenMode::Read).context("open", &path).ok();
        let part = file.map(|file| content.part_of(segment, file, Vec::new())).transpose()?;
        let mut window = Window::default();
        for (seq, slot) in slots {
            let first = SubjectState { count: 0, first: seq, last: seq };
            let (name, state) = found.entry(slot.subject).or_insert((Bytes::new(), first));
            state.count += 1;
            state.last = seq;
            if let (true, Some(part)) = (name.is_empty(), &part)
                && let Some(message) = read_message(part, &mut window, seq, slot)?
            {
                *name = Bytes::copy_from_slice(&message.subject);
            }
        }
    }
    let mut subjects = Subjects::default();
    for (number, (name, state)) in found {
        // None of its messages can be read, or they say what another number's do: it stays taken until they are gone.
        if name.is_empty() || !subjects.restore(&name, number, state) {
            subjects.restore(format!("$lost.{number}").as_bytes(), number, state);
        }
    }
    Ok(subjects)
}

/// Indexes that cannot be read, from the records of their segments; says what was made of each.
pub(super) fn indexes(content: &mut Content) -> Result<Vec<String>, StorageError> {
    let mut notes = Vec::new();
    for at in 0..content.segments.len() {
        let Some(segment) = content.segments.get(at) else { break };
        let Err(error) = segment.index(&*content.disk, &content.directory) else { continue };
        if segment.is_coded() || !is_damage(&error) {
            continue;
        }
        let slots = scan(content, segment)?;
        let (live, expected) = (slots.len() as u64, segment.live);
        let mut note = format!("the index of segment {} was made anew from its records", segment.id);
        if live > expected {
            note.push_str(&format!(": {} messages that had been removed are back", live - expected));
        } else if live < expected {
            let (first, last) = (segment.base_seq, segment.last_seq);
            let lost = expected - live;
            note.push_str(&format!(": {lost} messages between {first} and {last} are lost with theirs"));
        }
        notes.push(note);
        let index = index_of(segment.base_seq, &slots);
        if let Some(segment) = content.segments.get_mut(at) {
            segment.live = live;
            segment.live_bytes = slots.iter().map(|(_, slot)| u64::from(slot.length)).sum();
            segment.replace_index(index);
        }
    }
    if !notes.is_empty() {
        content.messages = content.segments.iter().map(|segment| segment.live).sum();
        content.bytes = content.segments.iter().map(|segment| segment.live_bytes).sum();
        content.settle_first()?;
    }
    Ok(notes)
}

fn index_of(base_seq: u64, slots: &[(u64, Slot)]) -> SegmentIndex {
    let span = slots.last().map_or(0, |(seq, _)| seq - base_seq);
    let dense = span < 2 * slots.len() as u64 + HOLE_MAX;
    let mut index = if dense { SegmentIndex::new(base_seq) } else { SegmentIndex::sparse(base_seq) };
    slots.iter().for_each(|(seq, slot)| index.push(*seq, *slot));
    index
}

/// The records of a plain segment that may be live: those of subjects that have messages, within their bounds.
fn scan(content: &Content, segment: &Segment) -> Result<Vec<(u64, Slot)>, StorageError> {
    let path = segment_path(&content.directory, segment.id);
    let file = content.disk.open(&path, OpenMode::Read).context("open", &path)?;
    let length = file.length().context("read", &path)?.min(segment.data_bytes);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let count = file.read_at(&mut bytes, 0).context("read", &path)?;
    bytes.truncate(count);
    let bytes = Bytes::from(bytes);
    let mut slots: Vec<(u64, Slot)> = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while at + RECORD_FIXED_BYTES <= bytes.len() {
        let length = usize::try_from(u32_at(&bytes, at)).unwrap_or(usize::MAX);
        let end = at.saturating_add(length);
        let plausible = length >= RECORD_FIXED_BYTES && end <= bytes.len();
        let message = plausible.then(|| record::decode(&bytes.slice(at..end), content.sizes.seed)).flatten();
        let Some(message) = message else {
            at += 1;
            continue;
        };
        let last = slots.last().map_or(segment.base_seq.saturating_sub(1), |(seq, _)| *seq);
        let in_order = message.seq > last && (content.first_seq..=segment.last_seq).contains(&message.seq);
        if let Some(entry) = content.subjects.get(&message.subject).filter(|_| in_order) {
            let (first, last) = entry.bounds();
            if (first..=last).contains(&message.seq) {
                let slot = Slot {
                    offset: u32::try_from(at).unwrap_or(u32::MAX),
                    length: u32::try_from(length).unwrap_or(u32::MAX),
                    subject: entry.number,
                };
                slots.push((message.seq, slot));
            }
        }
        at = end;
    }
    Ok(slots)
}
