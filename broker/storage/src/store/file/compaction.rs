//! Gives back the space of removed messages: segments that are mostly dead are rewritten, neighbours
//! together. The old files stay until no kept checkpoint needs them.

use std::ops::Range;

use bytes::Bytes;

use crate::error::{IoContext, StorageError};
use crate::store::content::Content;
use crate::store::index::{HOLE_MAX, SegmentIndex, Slot};
use crate::store::record;
use crate::store::segment::{SEGMENT_HEADER_BYTES, Segment, encode_header, segment_path};

/// Live bytes rewritten at one checkpoint.
const BYTES_PER_RUN: u64 = 32 << 20;
/// Rewritten bytes collected before they are written.
const CHUNK_BYTES: usize = 1 << 20;

/// Rewrites what is worth it, within the bound.
pub(super) fn run(content: &mut Content) -> Result<(), StorageError> {
    let mut from = 0;
    let mut budget = BYTES_PER_RUN;
    while let Some((range, live_bytes)) = next_run(content, from) {
        if live_bytes > budget {
            return Ok(());
        }
        budget -= live_bytes;
        from = range.start + 1;
        rewrite(content, range)?;
    }
    Ok(())
}

/// Neighbouring segments, each more than half dead, that fit one segment together. Never the newest.
fn next_run(content: &Content, from: usize) -> Option<(Range<usize>, u64)> {
    let sealed = content.segments.len().saturating_sub(1);
    let mostly_dead = |at: usize| {
        let segment = &content.segments[at];
        segment.live_bytes * 2 < segment.data_bytes - SEGMENT_HEADER_BYTES as u64
    };
    let start = (from..sealed).find(|&at| mostly_dead(at))?;
    let base_seq = content.segments[start].base_seq;
    let mut live_bytes = content.segments[start].live_bytes;
    let mut end = start + 1;
    while end < sealed && mostly_dead(end) {
        let segment = &content.segments[end];
        let fits = live_bytes + segment.live_bytes <= content.sizes.segment_bytes_max
            && u32::try_from(segment.last_seq - base_seq).is_ok();
        if !fits {
            break;
        }
        live_bytes += segment.live_bytes;
        end += 1;
    }
    Some((start..end, live_bytes))
}

fn rewrite(content: &mut Content, range: Range<usize>) -> Result<(), StorageError> {
    let sources: Vec<&Segment> = content.segments.range(range.clone()).collect();
    let Some(first) = sources.first() else { return Ok(()) };
    let mut plan = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        plan.extend(content.live_slots(source)?.into_iter().map(|(seq, slot)| (number, seq, slot)));
    }
    let span = plan.last().map_or(0, |(_, seq, _)| seq - first.base_seq);
    let dense = span < 2 * plan.len() as u64 + HOLE_MAX;
    let index = if dense { SegmentIndex::new(first.base_seq) } else { SegmentIndex::sparse(first.base_seq) };
    let id = content.next_segment_id;
    let mut target = Segment::new(id, content.sizes.seed, first.base_seq, index);
    if !copy(content, &sources, &plan, &mut target)? {
        // Damaged records stay where they are, as they are.
        return Ok(());
    }
    if let Some(last) = sources.last() {
        target.last_seq = last.last_seq;
    }
    content.next_segment_id += 1;
    content.replace(range, target);
    Ok(())
}

/// Copies the planned records; false when one of them is damaged.
fn copy(
    content: &Content,
    sources: &[&Segment],
    plan: &[(usize, u64, Slot)],
    target: &mut Segment,
) -> Result<bool, StorageError> {
    let (disk, directory) = (&*content.disk, &content.directory);
    let path = segment_path(directory, target.id);
    let file = target.create_file(disk, directory)?;
    let mut chunk = encode_header(target.id);
    let mut written = 0;
    for &(source, seq, slot) in plan {
        let Ok(from) = sources[source].file(disk, directory) else { return Ok(false) };
        let mut bytes = vec![0; slot.length as usize];
        let from_path = segment_path(directory, sources[source].id);
        from.read_at(&mut bytes, u64::from(slot.offset)).context("read", &from_path)?;
        let bytes = Bytes::from(bytes);
        let Some(message) = record::decode(&bytes, content.sizes.seed).filter(|m| m.seq == seq) else {
            tracing::error!("{}: message {seq} is damaged; its segment is kept", from_path.display());
            return Ok(false);
        };
        let offset = u32::try_from(target.data_bytes).unwrap_or(u32::MAX);
        target.index_mut(disk, directory)?.push(seq, Slot { offset, ..slot });
        target.note_append(seq, message.timestamp, bytes.len());
        chunk.extend_from_slice(&bytes);
        if chunk.len() >= CHUNK_BYTES {
            file.write_at(&chunk, written).context("write", &path)?;
            written += chunk.len() as u64;
            chunk.clear();
        }
    }
    file.write_at(&chunk, written).context("write", &path)?;
    Ok(true)
}
