//! Fast batches (ADR-50): a client publishes many messages and is told now and then how far they got. Each message is
//! stored on its own; a batch that allows no gaps ends at the first message that is missing or refused. Where a batch
//! is, is part of the stream's state: a new leader goes on with it.

mod reply;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use weir_jsapi::{API_LEVEL, ApiError, errors, headers as names};
use weir_stdx::time::UnixNanos;

use self::reply::{FastReply, Operation};
pub use self::reply::{is_fast_reply, starts_fast_batch};
use super::StreamMachine;
use super::publish::{Staged, StagedRefusal};
use crate::codec::{DecodeError, Reader, Writer};
use crate::command::{FastLimits, FlowReply, PublishOutcome, PublishRecord, Republished};
use crate::headers;
use crate::store::{Store, StoreFailure};

const BATCH_ID_BYTES_MAX: usize = 64;
/// Messages between two acknowledgements, shared by the stream's fast batches.
const FLOW_SHARED: usize = 500;
/// Batches that went silent are looked for at most this often, nanoseconds.
const SWEEP_INTERVAL: u64 = 1_000_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
struct FastBatch {
    /// Highest sequence of the batch heard of.
    last: u64,
    /// Up to here the batch's messages are stored or were given up.
    done: u64,
    /// The stream's sequence of the last one stored.
    stream_seq: u64,
    /// Up to here the client was told.
    told: u64,
    /// Messages between two acknowledgements.
    every: u16,
    every_max: u16,
    gap_ok: bool,
    reply: Bytes,
    active: UnixNanos,
}

/// The fast batches of one stream.
#[derive(Debug, Default)]
pub(super) struct FastBatches {
    batches: HashMap<Bytes, FastBatch>,
    swept: UnixNanos,
    /// Of all streams of this server, and the share of it that is this stream's.
    total: Option<Arc<AtomicUsize>>,
    counted: usize,
}

impl Drop for FastBatches {
    fn drop(&mut self) {
        self.batches.clear();
        self.count();
    }
}

impl FastBatches {
    pub(super) fn count_in(&mut self, total: Arc<AtomicUsize>) {
        self.total = Some(total);
        self.counted = 0;
        self.count();
    }

    fn count(&mut self) {
        let Some(total) = &self.total else { return };
        let now = self.batches.len();
        if now > self.counted {
            total.fetch_add(now - self.counted, Ordering::Relaxed);
        } else {
            total.fetch_sub(self.counted - now, Ordering::Relaxed);
        }
        self.counted = now;
    }

    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.count();
    }

    fn forget_silent(&mut self, now: UnixNanos, timeout: u64, wanted: &[u8]) {
        let is_silent = |batch: &FastBatch| batch.active.0.saturating_add(timeout) <= now.0;
        if now.0 >= self.swept.0.saturating_add(SWEEP_INTERVAL) {
            self.swept = now;
            self.batches.retain(|_, batch| !is_silent(batch));
        } else if self.batches.get(wanted).is_some_and(is_silent) {
            self.batches.remove(wanted);
        }
        self.count();
    }

    fn start(&mut self, reply: &FastReply<'_>) {
        let alone = self.batches.is_empty();
        let every = if alone { reply.flow.min(FLOW_SHARED as u16) } else { 1 };
        let batch = FastBatch {
            last: 0,
            done: 0,
            stream_seq: 0,
            told: 0,
            every,
            every_max: reply.flow,
            gap_ok: reply.gap_ok,
            reply: Bytes::new(),
            active: UnixNanos::ZERO,
        };
        self.batches.insert(Bytes::copy_from_slice(reply.batch), batch);
        self.count();
    }

    /// Ends a batch: says what was stored.
    fn finish(&mut self, id: &[u8], out: &mut Vec<FlowReply>) {
        let Some((batch, ended)) = self.batches.remove_entry(id) else { return };
        let outcome = PublishOutcome::Committed { seq: ended.stream_seq, batch, count: ended.last };
        out.push(FlowReply::Published(outcome));
        self.count();
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let mut batches: Vec<_> = self.batches.iter().collect();
        batches.sort_by_key(|(id, _)| *id);
        writer.varint(batches.len() as u64);
        for (id, batch) in batches {
            writer.bytes(id);
            for number in [batch.last, batch.done, batch.stream_seq, batch.told] {
                writer.varint(number);
            }
            writer.varint(batch.every.into());
            writer.varint(batch.every_max.into());
            writer.u8(u8::from(batch.gap_ok));
            writer.bytes(&batch.reply);
            writer.time(batch.active);
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        const WHAT: &str = "fast batch";
        let mut found = Self::default();
        for _ in 0..reader.count("fast batch count")? {
            let id = Bytes::copy_from_slice(&reader.bytes(WHAT)?);
            let [last, done, stream_seq, told] =
                [reader.varint(WHAT)?, reader.varint(WHAT)?, reader.varint(WHAT)?, reader.varint(WHAT)?];
            let every = u16::try_from(reader.varint(WHAT)?).unwrap_or(u16::MAX).max(1);
            let every_max = u16::try_from(reader.varint(WHAT)?).unwrap_or(u16::MAX).max(1);
            let gap_ok = reader.u8(WHAT)? != 0;
            let reply = Bytes::copy_from_slice(&reader.bytes(WHAT)?);
            let active = reader.time(WHAT)?;
            let batch = FastBatch { last, done, stream_seq, told, every, every_max, gap_ok, reply, active };
            found.batches.insert(id, batch);
        }
        Ok(found)
    }
}

impl FastBatch {
    fn flow(&self) -> FlowReply {
        FlowReply::Ack { seq: self.told, every: self.every }
    }

    /// Tells the client when enough was done, faster or slower as the stream's batches allow. False: not yet.
    fn tell(&mut self, batches: usize, out: &mut Vec<FlowReply>) -> bool {
        let every = u64::from(self.every);
        let Some(steps) =
            self.done.checked_sub(self.told).map(|done| done / every).filter(|&steps| steps > 0)
        else {
            return false;
        };
        self.told += steps * every;
        let share = u16::try_from((FLOW_SHARED / batches.max(1)).max(1)).unwrap_or(u16::MAX);
        let most = share.min(self.every_max);
        self.every = match self.every.cmp(&most) {
            std::cmp::Ordering::Less => self.every.saturating_mul(2).min(most),
            std::cmp::Ordering::Greater => (self.every / 2).max(most),
            std::cmp::Ordering::Equal => most,
        };
        out.push(self.flow());
        true
    }
}

/// Whether a message asks for a newer API than this server's.
fn needs_newer(level: &[u8]) -> bool {
    let level = std::str::from_utf8(level).ok().and_then(|text| text.parse::<i64>().ok());
    level.is_none_or(|level| level > i64::from(API_LEVEL))
}

/// Takes `Nats-Required-Api-Level` out of a message of a batch, or says that it asks for too much.
pub(crate) fn meet_api_level(headers_block: &mut Bytes) -> Result<(), ApiError> {
    let Some(level) = headers::get(headers_block, names::REQUIRED_API_LEVEL).filter(|text| !text.is_empty())
    else {
        return Ok(());
    };
    if needs_newer(level) {
        return Err(errors::REQUIRED_API_LEVEL.error());
    }
    *headers_block = headers::without(headers_block, |name| name == names::REQUIRED_API_LEVEL.as_bytes());
    Ok(())
}

impl<S: Store> StreamMachine<S> {
    /// Counts this stream's fast batches in a number shared by all of the server.
    pub fn count_fast_batches(&mut self, total: Arc<AtomicUsize>) {
        self.fast.count_in(total);
    }

    /// What a new leader tells the clients of the batches it goes on with.
    pub fn fast_batch_replies(&self) -> Vec<(Bytes, FlowReply)> {
        let told = |batch: &FastBatch| FlowReply::Ack { seq: batch.done, every: batch.every };
        let known = self.fast.batches.values().filter(|batch| !batch.reply.is_empty());
        known.map(|batch| (batch.reply.clone(), told(batch))).collect()
    }

    /// Carries out one message of a fast batch.
    pub(super) fn publish_fast(
        &mut self,
        mut record: PublishRecord,
        reply: Bytes,
        limits: FastLimits,
        republished: &mut Vec<Republished>,
    ) -> Result<PublishOutcome, StoreFailure> {
        let now = record.timestamp.max(self.last_timestamp);
        let at = match self.admit_fast(&mut record, &reply, limits, now) {
            Ok(at) => at,
            Err(error) => return Ok(PublishOutcome::Rejected(error)),
        };
        let mut out = Vec::new();
        if let Some(batch) = self.fast.batches.get_mut(at.batch) {
            batch.active = now;
        }
        if at.operation == Operation::Ping {
            self.ping(&at, &mut out);
        } else if self.advance(&at, &mut out) {
            self.append_fast(record, &at, &reply, now, &mut out, republished)?;
        }
        Ok(PublishOutcome::Flow(out))
    }

    /// The checks before the batch itself is looked at; begins a new one.
    fn admit_fast<'a>(
        &mut self,
        record: &mut PublishRecord,
        reply: &'a [u8],
        limits: FastLimits,
        now: UnixNanos,
    ) -> Result<FastReply<'a>, ApiError> {
        if self.config.sealed {
            return Err(errors::STREAM_SEALED.error());
        }
        super::publish::check_size(&self.config, record)?;
        if !self.config.allow_batched {
            return Err(errors::BATCH_PUBLISH_DISABLED.error());
        }
        let at = FastReply::parse(reply).ok_or_else(|| errors::BATCH_PUBLISH_INVALID_PATTERN.error())?;
        if at.batch.len() > BATCH_ID_BYTES_MAX {
            return Err(errors::BATCH_PUBLISH_INVALID_BATCH_ID.error());
        }
        self.fast.forget_silent(now, limits.timeout, at.batch);
        if !self.fast.batches.contains_key(at.batch) {
            if at.seq != 1 || at.operation == Operation::Ping {
                return Err(errors::BATCH_PUBLISH_UNKNOWN_BATCH_ID.error());
            }
            if self.fast.batches.len() as u64 >= limits.inflight_max {
                return Err(errors::BATCH_PUBLISH_TOO_MANY_INFLIGHT.error());
            }
            self.fast.start(&at);
        }
        if let Err(error) = meet_api_level(&mut record.headers) {
            self.fast.batches.remove(at.batch);
            self.fast.count();
            return Err(error);
        }
        Ok(at)
    }

    fn ping(&mut self, at: &FastReply<'_>, out: &mut Vec<FlowReply>) {
        let count = self.fast.batches.len();
        let Some(batch) = self.fast.batches.get_mut(at.batch) else { return };
        if at.seq <= batch.last {
            return out.push(batch.flow());
        }
        out.push(FlowReply::Gap { expected: batch.last + 1, found: at.seq + 1 });
        if !batch.gap_ok {
            return self.fast.finish(at.batch, out);
        }
        batch.last = at.seq;
        batch.done = at.seq;
        if !batch.tell(count, out) {
            out.push(batch.flow());
        }
    }

    /// Counts the message in; false when the batch ended instead.
    fn advance(&mut self, at: &FastReply<'_>, out: &mut Vec<FlowReply>) -> bool {
        let no_ack = self.config.no_ack;
        let Some(batch) = self.fast.batches.get_mut(at.batch) else { return false };
        let expected = batch.last + 1;
        if at.seq != expected {
            out.push(FlowReply::Gap { expected, found: at.seq });
            if !batch.gap_ok || at.seq < expected {
                self.fast.finish(at.batch, out);
                return false;
            }
        }
        if at.operation == Operation::End {
            batch.last = at.seq - 1;
            batch.done = batch.last;
            self.fast.finish(at.batch, out);
            return false;
        }
        batch.last = at.seq;
        if at.seq == 1 && !no_ack && at.operation != Operation::Commit {
            out.push(FlowReply::Ack { seq: 0, every: batch.every });
        }
        true
    }

    fn append_fast(
        &mut self,
        mut record: PublishRecord,
        at: &FastReply<'_>,
        reply: &Bytes,
        now: UnixNanos,
        out: &mut Vec<FlowReply>,
        republished: &mut Vec<Republished>,
    ) -> Result<(), StoreFailure> {
        let accepted = match self.judge_staged(&mut record, &mut Staged::default(), now) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                self.refuse_fast(at, refusal, out);
                return Ok(());
            }
        };
        let stored = self.store_accepted(record, accepted, now, republished)?;
        let count = self.fast.batches.len();
        let Some(batch) = self.fast.batches.get_mut(at.batch) else { return Ok(()) };
        batch.stream_seq = stored.map_or(batch.stream_seq, |(seq, _)| seq);
        batch.done = batch.last;
        // A copy: a slice would hold the whole publish batch in memory.
        batch.reply = Bytes::copy_from_slice(reply);
        if at.operation == Operation::Commit {
            self.fast.finish(at.batch, out);
        } else {
            batch.tell(count, out);
        }
        Ok(())
    }

    fn refuse_fast(&mut self, at: &FastReply<'_>, refusal: StagedRefusal, out: &mut Vec<FlowReply>) {
        let count = self.fast.batches.len();
        let Some(batch) = self.fast.batches.get_mut(at.batch) else { return };
        let is_commit = at.operation == Operation::Commit;
        let duplicate = match refusal {
            StagedRefusal::Duplicate(seq) => Some(seq),
            StagedRefusal::Error(_) => None,
        };
        if duplicate.is_some() {
            batch.done = at.seq;
            batch.tell(count, out);
            if !is_commit {
                return;
            }
        }
        if !at.gap_ok && batch.last == 1 {
            // A batch that fails at once is answered as a single publish.
            out.push(match duplicate {
                Some(seq) if seq > 0 => {
                    FlowReply::Duplicate { seq, batch: Bytes::copy_from_slice(at.batch), count: at.seq }
                }
                _ => FlowReply::Published(PublishOutcome::Rejected(refusal.into_error())),
            });
            self.fast.batches.remove(at.batch);
            self.fast.count();
            return;
        }
        if duplicate.is_none() {
            out.push(FlowReply::Error { seq: at.seq, error: refusal.into_error() });
            if at.gap_ok && !is_commit {
                return;
            }
            batch.last -= 1;
            batch.done = batch.last;
        }
        self.fast.finish(at.batch, out);
    }
}
