//! Gathering the messages of atomic batches (ADR-50) on a stream's leader, until a batch is committed and goes into the
//! log as one entry. Bounded by number, size and time; all of it is lost with the leadership. Not the judging of the
//! messages: the machine does that when it applies the entry.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use weir_jsapi::{ApiError, StreamConfig, errors};
use weir_stdx::time::UnixNanos;

use crate::command::PublishRecord;
use crate::headers;
use crate::publish_headers::{Name, PublishHeaders, decimal};
use crate::stream::{COMMIT, check_size, meet_api_level};

const BATCH_ID_BYTES_MAX: usize = 64;
/// Bytes of one batch: it has to fit into one entry of a log.
const BATCH_BYTES_MAX: usize = 48 << 20;
/// Bytes of all batches that are gathered on this server.
const STAGED_BYTES_MAX: usize = 512 << 20;

/// What bounds batches (`jetstream.limits.batch`). Where a number is `None`, atomic and fast batches have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    pub inflight_per_stream: Option<usize>,
    pub inflight_total: Option<usize>,
    /// Messages of one atomic batch.
    pub messages: u64,
    /// Nanoseconds after which a batch that nothing is heard of is abandoned.
    pub timeout: u64,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { inflight_per_stream: None, inflight_total: None, messages: 1000, timeout: 10_000_000_000 }
    }
}

impl BatchLimits {
    pub fn atomic_per_stream(&self) -> usize {
        self.inflight_per_stream.unwrap_or(50)
    }

    pub fn atomic_total(&self) -> usize {
        self.inflight_total.unwrap_or(1000)
    }

    pub fn fast_per_stream(&self) -> usize {
        self.inflight_per_stream.unwrap_or(1000)
    }

    pub fn fast_total(&self) -> usize {
        self.inflight_total.unwrap_or(50_000)
    }
}

/// What all streams of a server have in hand.
#[derive(Debug, Default)]
pub struct BatchTotals {
    atomic: AtomicUsize,
    staged_bytes: AtomicUsize,
    /// Fast batches.
    pub fast: Arc<AtomicUsize>,
}

/// Why a batch was given up, as the advisory says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbandonReason {
    Timeout,
    Large,
    Incomplete,
    Unsupported,
}

impl AbandonReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Large => "large",
            Self::Incomplete => "incomplete",
            Self::Unsupported => "unsupported",
        }
    }
}

/// What becomes of one message of an atomic batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtomicStep {
    /// Kept; acknowledged with an empty message.
    Staged,
    /// The whole batch, to be proposed.
    Commit {
        batch: Bytes,
        records: Vec<PublishRecord>,
    },
    Refused {
        error: ApiError,
        abandoned: Option<AbandonReason>,
    },
}

/// The batches that are gathered for one stream.
#[derive(Debug)]
pub struct AtomicBatches {
    totals: Arc<BatchTotals>,
    batches: HashMap<Bytes, Gathered>,
}

#[derive(Debug)]
struct Gathered {
    records: Vec<PublishRecord>,
    bytes: usize,
    active: UnixNanos,
    totals: Arc<BatchTotals>,
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.totals.atomic.fetch_sub(1, Ordering::Relaxed);
        self.totals.staged_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What the headers of a message say of its batch.
struct Place<'a> {
    id: &'a [u8],
    seq: u64,
    commit: Commit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commit {
    No,
    /// With this message.
    Here,
    /// This message only ends the batch, and is not part of it.
    Before,
    Invalid,
}

impl Place<'_> {
    /// Messages that the batch has with this one.
    fn size(&self) -> u64 {
        self.seq - u64::from(self.commit == Commit::Before)
    }
}

/// The id of the atomic batch that a message belongs to.
pub fn atomic_batch_id(block: &[u8]) -> Option<&[u8]> {
    if block.is_empty() { None } else { PublishHeaders::scan(block).get(Name::BatchId) }
}

fn refused(error: ApiError) -> AtomicStep {
    AtomicStep::Refused { error, abandoned: None }
}

fn abandoned(error: ApiError, reason: AbandonReason) -> AtomicStep {
    AtomicStep::Refused { error, abandoned: Some(reason) }
}

impl AtomicBatches {
    pub fn new(totals: Arc<BatchTotals>) -> Self {
        Self { totals, batches: HashMap::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// When the next batch is to be given up.
    pub fn next_expiry(&self, limits: &BatchLimits) -> Option<UnixNanos> {
        let active = self.batches.values().map(|batch| batch.active).min()?;
        Some(UnixNanos(active.0.saturating_add(limits.timeout)))
    }

    /// Gives up what was not heard of; returns the ids.
    pub fn expire(&mut self, limits: &BatchLimits, now: UnixNanos) -> Vec<Bytes> {
        let is_over = |batch: &Gathered| batch.active.0.saturating_add(limits.timeout) <= now.0;
        let over: Vec<Bytes> =
            self.batches.iter().filter(|(_, batch)| is_over(batch)).map(|(id, _)| id.clone()).collect();
        for id in &over {
            self.batches.remove(id);
        }
        over
    }

    /// Takes in one message that has a batch id.
    pub fn accept(
        &mut self,
        config: &StreamConfig,
        limits: &BatchLimits,
        mut record: PublishRecord,
        now: UnixNanos,
    ) -> AtomicStep {
        if !config.allow_atomic {
            self.batches.clear();
        }
        let block = record.headers.clone();
        let found = PublishHeaders::scan(&block);
        let place = match admit(config, &found, &record) {
            Ok(place) => place,
            Err(error) => return refused(error),
        };
        if let Err(error) = self.open(&place, limits, now) {
            return refused(error);
        }
        self.add(&place, limits, &mut record, now).unwrap_or_else(|step| {
            self.batches.remove(place.id);
            step
        })
    }

    /// Begins the batch with its first message.
    fn open(&mut self, place: &Place<'_>, limits: &BatchLimits, now: UnixNanos) -> Result<(), ApiError> {
        if self.batches.contains_key(place.id) {
            return Ok(());
        }
        if place.seq != 1 {
            return Err(if place.size() > limits.messages {
                errors::ATOMIC_PUBLISH_TOO_LARGE_BATCH.with(limits.messages)
            } else {
                errors::ATOMIC_PUBLISH_INCOMPLETE_BATCH.error()
            });
        }
        let total = self.totals.atomic.load(Ordering::Relaxed);
        if self.batches.len() >= limits.atomic_per_stream() || total >= limits.atomic_total() {
            return Err(errors::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT.error());
        }
        self.totals.atomic.fetch_add(1, Ordering::Relaxed);
        let gathered =
            Gathered { records: Vec::new(), bytes: 0, active: now, totals: Arc::clone(&self.totals) };
        self.batches.insert(Bytes::copy_from_slice(place.id), gathered);
        Ok(())
    }

    /// The error is why the batch is over.
    fn add(
        &mut self,
        place: &Place<'_>,
        limits: &BatchLimits,
        record: &mut PublishRecord,
        now: UnixNanos,
    ) -> Result<AtomicStep, AtomicStep> {
        let incomplete =
            || abandoned(errors::ATOMIC_PUBLISH_INCOMPLETE_BATCH.error(), AbandonReason::Incomplete);
        let Some(gathered) = self.batches.get_mut(place.id) else { return Err(incomplete()) };
        if place.commit == Commit::Invalid {
            return Err(refused(errors::ATOMIC_PUBLISH_INVALID_BATCH_COMMIT.error()));
        }
        meet_api_level(&mut record.headers).map_err(|error| abandoned(error, AbandonReason::Unsupported))?;
        gathered.active = now;
        let expected = gathered.records.len() as u64 + 1;
        if place.seq != expected || place.size() == 0 {
            return Err(incomplete());
        }
        if place.size() > limits.messages {
            let error = errors::ATOMIC_PUBLISH_TOO_LARGE_BATCH.with(limits.messages);
            return Err(abandoned(error, AbandonReason::Large));
        }
        if place.commit != Commit::Before {
            gathered.keep(record)?;
        }
        if place.commit == Commit::No {
            return Ok(AtomicStep::Staged);
        }
        let mut records = std::mem::take(&mut gathered.records);
        let batch = self.batches.remove_entry(place.id).map(|(id, _)| id).unwrap_or_default();
        if place.commit == Commit::Before
            && let Some(last) = records.last_mut()
        {
            last.headers = headers::with(&last.headers, COMMIT.0, COMMIT.1);
        }
        Ok(AtomicStep::Commit { batch, records })
    }
}

impl Gathered {
    fn keep(&mut self, record: &PublishRecord) -> Result<(), AtomicStep> {
        let bytes = record.subject.len() + record.headers.len() + record.payload.len() + 64;
        let staged = self.totals.staged_bytes.load(Ordering::Relaxed);
        if self.bytes + bytes > BATCH_BYTES_MAX || staged + bytes > STAGED_BYTES_MAX {
            let text = format!("{} bytes", self.bytes + bytes);
            let error = errors::ATOMIC_PUBLISH_TOO_LARGE_BATCH.with(text);
            return Err(abandoned(error, AbandonReason::Large));
        }
        self.bytes += bytes;
        self.totals.staged_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.records.push(record.clone());
        Ok(())
    }
}

/// The checks before the batch itself is looked at.
fn admit<'a>(
    config: &StreamConfig,
    headers: &PublishHeaders<'a>,
    record: &PublishRecord,
) -> Result<Place<'a>, ApiError> {
    if config.sealed {
        return Err(errors::STREAM_SEALED.error());
    }
    check_size(config, record)?;
    if !config.allow_atomic {
        return Err(errors::ATOMIC_PUBLISH_DISABLED.error());
    }
    let id = headers.get(Name::BatchId).unwrap_or_default();
    if id.len() > BATCH_ID_BYTES_MAX {
        return Err(errors::ATOMIC_PUBLISH_INVALID_BATCH_ID.error());
    }
    let seq = headers.get(Name::BatchSequence).and_then(decimal);
    let seq = seq.ok_or_else(|| errors::ATOMIC_PUBLISH_MISSING_SEQ.error())?;
    let commit = match headers.present(Name::BatchCommit) {
        None => Commit::No,
        Some(b"1") => Commit::Here,
        // Nothing is before a first message, or before none.
        Some(b"eob") => {
            if seq == 0 {
                Commit::Invalid
            } else {
                Commit::Before
            }
        }
        Some(_) => Commit::Invalid,
    };
    Ok(Place { id, seq, commit })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits =
        BatchLimits { inflight_per_stream: Some(2), inflight_total: Some(3), messages: 3, timeout: 100 };

    fn batches() -> AtomicBatches {
        AtomicBatches::new(Arc::default())
    }

    fn send(batches: &mut AtomicBatches, fields: &[(&str, &str)], at: u64) -> AtomicStep {
        let config = StreamConfig { allow_atomic: true, max_msg_size: -1, ..StreamConfig::default() };
        let block =
            fields.iter().fold(Bytes::new(), |block, (name, value)| headers::with(&block, name, value));
        let record = PublishRecord {
            subject: Bytes::from_static(b"a"),
            headers: block,
            payload: Bytes::from_static(b"x"),
            timestamp: UnixNanos(at),
        };
        batches.accept(&config, &LIMITS, record, UnixNanos(at))
    }

    fn part(batches: &mut AtomicBatches, id: &str, seq: &str, commit: Option<&str>) -> AtomicStep {
        let mut fields = vec![("Nats-Batch-Id", id), ("Nats-Batch-Sequence", seq)];
        fields.extend(commit.map(|value| ("Nats-Batch-Commit", value)));
        send(batches, &fields, 10)
    }

    fn reason(step: AtomicStep) -> (u32, Option<AbandonReason>) {
        let AtomicStep::Refused { error, abandoned } = step else { panic!("{step:?}") };
        (error.err_code, abandoned)
    }

    #[test]
    fn a_commit_gives_all_messages_in_order() {
        let mut batches = batches();
        assert_eq!(part(&mut batches, "b", "1", None), AtomicStep::Staged);
        let AtomicStep::Commit { batch, records } = part(&mut batches, "b", "2", Some("1")) else { panic!() };
        assert_eq!((&batch[..], records.len()), (&b"b"[..], 2));
        assert!(batches.is_empty());
        assert_eq!(batches.totals.staged_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_end_marker_is_not_part_of_the_batch() {
        let mut batches = batches();
        part(&mut batches, "b", "1", None);
        let AtomicStep::Commit { records, .. } = part(&mut batches, "b", "2", Some("eob")) else { panic!() };
        assert_eq!(records.len(), 1);
        assert_eq!(headers::get_str(&records[0].headers, "Nats-Batch-Commit"), Some("1"));
        assert_eq!(
            reason(part(&mut batches, "c", "1", Some("eob"))),
            (10176, Some(AbandonReason::Incomplete))
        );
    }

    #[test]
    fn gaps_sizes_and_headers_end_a_batch() {
        let mut batches = batches();
        assert_eq!(reason(part(&mut batches, "b", "2", None)), (10176, None));
        assert_eq!(reason(part(&mut batches, "b", "4", None)), (10199, None));
        part(&mut batches, "b", "1", None);
        assert_eq!(reason(part(&mut batches, "b", "3", None)), (10176, Some(AbandonReason::Incomplete)));
        for seq in ["1", "2", "3"] {
            assert_eq!(part(&mut batches, "b", seq, None), AtomicStep::Staged);
        }
        assert_eq!(reason(part(&mut batches, "b", "4", None)), (10199, Some(AbandonReason::Large)));
        assert_eq!(reason(part(&mut batches, "b", "1", Some("no"))), (10200, None));
        assert_eq!(reason(part(&mut batches, &"x".repeat(65), "1", None)), (10179, None));
        assert_eq!(reason(part(&mut batches, "b", "x", None)), (10175, None));
        let fields =
            [("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", "1"), ("Nats-Required-Api-Level", "99")];
        assert_eq!(reason(send(&mut batches, &fields, 1)), (10185, Some(AbandonReason::Unsupported)));
        assert!(batches.is_empty());
    }

    #[test]
    fn batches_are_bounded_in_number_and_time() {
        let mut batches = batches();
        part(&mut batches, "a", "1", None);
        part(&mut batches, "b", "1", None);
        assert_eq!(reason(part(&mut batches, "c", "1", None)), (10210, None));
        assert_eq!(batches.next_expiry(&LIMITS), Some(UnixNanos(110)));
        assert_eq!(batches.expire(&LIMITS, UnixNanos(109)).len(), 0);
        assert_eq!(batches.expire(&LIMITS, UnixNanos(110)).len(), 2);
        assert_eq!(part(&mut batches, "c", "1", None), AtomicStep::Staged);
        let totals = Arc::clone(&batches.totals);
        drop(batches);
        assert_eq!(totals.atomic.load(Ordering::Relaxed), 0);
    }
}
