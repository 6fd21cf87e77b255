//! Gives back the space of removed messages: segments that are mostly dead are rewritten, neighbours
//! together. The old files stay until no kept checkpoint needs them. Segments that are to be compressed and are not,
//! or hold records that were erased, are rewritten as well.

use std::ops::Range;

use crate::error::StorageError;
use crate::store::chunks;
use crate::store::content::Content;
use crate::store::index::{HOLE_MAX, SegmentIndex, Slot};
use crate::store::record;
use crate::store::segment::{SEGMENT_HEADER_BYTES, Segment, encode_header, segment_path};

/// Live bytes rewritten at one checkpoint.
const BYTES_PER_RUN: u64 = 32 << 20;
/// Rewritten bytes collected before they are written.
const CHUNK_BYTES: usize = 1 << 20;
/// Compressed pieces that are smaller on average are made anew.
const SMALL_PIECE_BYTES: usize = chunks::CHUNK_BYTES / 4;

/// Rewrites what is worth it, within the bound.
pub(super) fn run(content: &mut Content) -> Result<(), StorageError> {
    let mut from = 0;
    let mut budget = BYTES_PER_RUN;
    while let Some((range, live_bytes)) = next_run(content, from) {
        // One in any case: a segment may be larger than the bound.
        if live_bytes > budget && budget < BYTES_PER_RUN {
            return Ok(());
        }
        budget = budget.saturating_sub(live_bytes);
        from = range.start + 1;
        rewrite(content, range)?;
    }
    Ok(())
}

/// Neighbouring segments, each worth rewriting, that fit one segment together. The newest only to erase from it.
fn next_run(content: &Content, from: usize) -> Option<(Range<usize>, u64)> {
    let with_newest = content.is_written() && content.segments.back().is_some_and(|it| it.must_rewrite);
    let sealed = content.segments.len().saturating_sub(usize::from(!with_newest));
    let worth_it = |at: usize| {
        let segment = &content.segments[at];
        let mostly_dead = segment.live_bytes * 2 < segment.data_bytes - SEGMENT_HEADER_BYTES as u64;
        !segment.keep && (mostly_dead || segment.must_rewrite || is_to_be_coded(content, segment))
    };
    let start = (from..sealed).find(|&at| worth_it(at))?;
    let base_seq = content.segments[start].base_seq;
    let mut live_bytes = content.segments[start].live_bytes;
    let mut end = start + 1;
    while end < sealed && worth_it(end) {
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

/// Plain where new segments are coded, or compressed in pieces so small that it is of no use.
fn is_to_be_coded(content: &Content, segment: &Segment) -> bool {
    if !segment.is_coded() {
        return content.codes_segments();
    }
    // The index of a segment that was not written to since the start is as it was then.
    let pieces = segment.loaded_index().map_or(0, |index| index.chunks.len() as u64);
    content.sizes.compress && pieces > 1 && pieces * (SMALL_PIECE_BYTES as u64) > segment.data_bytes
}

/// Segments written by rewriting others since the start of the process.
#[cfg(any(test, feature = "test-util"))]
pub(crate) static REWRITTEN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

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
    let coded = content.codes_segments();
    let mut target = Segment::new(id, content.sizes.seed, first.base_seq, index, coded);
    if plan.is_empty() {
        content.replace(range, target);
        return Ok(());
    }
    let copied = copy(content, &sources, &plan, &mut target);
    if !matches!(copied, Ok(true)) {
        crate::store::framed::discard(&*content.disk, [&*segment_path(&content.directory, id)]);
        // Damaged records stay where they are, as they are.
        copied?;
        content.segments.range_mut(range).for_each(|segment| segment.keep = true);
        return Ok(());
    }
    if let Some(last) = sources.last() {
        target.last_seq = last.last_seq;
    }
    content.next_segment_id += 1;
    content.replace(range, target);
    #[cfg(any(test, feature = "test-util"))]
    REWRITTEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
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
    let compress = content.sizes.compress;
    let mut chunk = encode_header(target.id, target.is_coded());
    let mut written = 0;
    for &(source, seq, slot) in plan {
        let source = sources[source];
        let Some(bytes) = content.record_bytes(source, slot)? else { return Ok(false) };
        let Some(message) = record::decode(&bytes, content.sizes.seed).filter(|m| m.seq == seq) else {
            let path = segment_path(directory, source.id);
            tracing::error!("{}: message {seq} is damaged; its segment is kept", path.display());
            return Ok(false);
        };
        let offset = u32::try_from(target.data_bytes).unwrap_or(u32::MAX);
        target.index_mut(disk, directory)?.push(seq, Slot { offset, ..slot });
        target.note_append(seq, message.timestamp, bytes.len());
        chunk.extend_from_slice(&bytes);
        if chunk.len() >= CHUNK_BYTES {
            target.write(disk, directory, &chunk, written, compress)?;
            written += chunk.len() as u64;
            chunk.clear();
        }
    }
    target.write(disk, directory, &chunk, written, compress)?;
    Ok(true)
}
