//! Messages that are judged together before any of them is stored: those of an atomic batch, and one of a fast batch.
//! What earlier ones would have changed counts for the later. The order of the checks is nats-server's for batches.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use weir_jsapi::{ApiError, DiscardPolicy, StreamConfig, errors, headers as names};
use weir_stdx::time::UnixNanos;

use super::super::StreamMachine;
use super::super::counter::Counter;
use super::super::schedule;
use super::super::ttl;
use super::{Accepted, Origin, Rollup, check_size, expect};
use crate::command::PublishRecord;
use crate::publish_headers::{Name, PublishHeaders};
use crate::store::Store;

/// What the messages judged so far will have changed.
#[derive(Default)]
pub(in super::super) struct Staged {
    ids: HashSet<Bytes>,
    counters: HashMap<Bytes, Counter>,
    written: HashMap<Bytes, Written>,
    /// What was found to be the last sequence of a subject before this batch.
    expected: HashMap<Bytes, u64>,
    messages: u64,
    bytes: u64,
}

#[derive(Default, Clone, Copy)]
struct Written {
    messages: u64,
    is_schedule: bool,
}

/// Why a message was refused.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum StagedRefusal {
    /// A message with its id is stored at this sequence already; 0 where it is in the same batch.
    Duplicate(u64),
    Error(ApiError),
}

impl StagedRefusal {
    pub(in super::super) fn into_error(self) -> ApiError {
        match self {
            Self::Duplicate(_) => errors::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE.error(),
            Self::Error(error) => error,
        }
    }
}

impl From<ApiError> for StagedRefusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl<S: Store> StreamMachine<S> {
    /// Judges one more message of a client; may change it as its headers ask.
    pub(in super::super) fn judge_staged(
        &mut self,
        record: &mut PublishRecord,
        staged: &mut Staged,
        now: UnixNanos,
    ) -> Result<Accepted, StagedRefusal> {
        let config = self.config.clone();
        let block = record.headers.clone();
        let headers = PublishHeaders::scan(&block);
        check_size(&config, record)?;
        let increment = self.check_increment(&headers, record, Origin::Client)?;
        expect::check_stream(&config, &headers)?;
        let ttl = headers.get(Name::Ttl).map_or(Ok(None), ttl::parse);
        if !config.allow_msg_ttl && ttl != Ok(None) {
            return Err(errors::MESSAGE_TTL_DISABLED.error().into());
        }
        let ttl = ttl?;
        let mut accepted = Accepted::default();
        if let Some(id) = headers.get(Name::MsgId) {
            accepted.msg_id = self.stage_id(id, staged, now)?;
        }
        expect::check_source(&headers)?;
        if config.allow_msg_counter {
            let increment = increment.ok_or_else(|| errors::MESSAGE_INCR_MISSING.error())?;
            let mut counter = match staged.counters.remove(&record.subject) {
                Some(counter) => counter,
                None => self.counter(&record.subject)?,
            };
            accepted.value = Some(counter.add(increment, None, record)?);
            staged.counters.insert(record.subject.clone(), counter);
            check_size(&config, record)?;
        }
        let is_schedule = self.check_staged_headers(&config, &headers, record, staged, now)?;
        accepted.rollup = self.check_rollup(&record.headers, Origin::Client)?;
        staged.check_rollup(accepted.rollup, &record.subject)?;
        accepted.ends = self.ended_schedule(&headers);
        staged.add(
            record,
            is_schedule,
            self.store.message_bytes(record.subject.len(), record.headers.len(), record.payload.len()),
        );
        if config.discard == DiscardPolicy::New {
            self.check_staged_room(&config, record, staged, accepted.rollup.is_some())?;
        }
        accepted.ttl = self.lifetime(ttl, record);
        Ok(accepted)
    }

    fn stage_id(
        &mut self,
        id: &[u8],
        staged: &mut Staged,
        now: UnixNanos,
    ) -> Result<Option<Bytes>, StagedRefusal> {
        if staged.ids.contains(id) {
            return Err(StagedRefusal::Duplicate(0));
        }
        if let Some(seq) = self.seen_before(id, now) {
            return Err(StagedRefusal::Duplicate(seq));
        }
        let kept = Bytes::copy_from_slice(id);
        staged.ids.insert(kept.clone());
        Ok(Some(kept).filter(|_| self.config.duplicate_window > 0))
    }

    /// Expected sequences and schedules; true when the message is a schedule.
    fn check_staged_headers(
        &self,
        config: &StreamConfig,
        headers: &PublishHeaders<'_>,
        record: &mut PublishRecord,
        staged: &mut Staged,
        now: UnixNanos,
    ) -> Result<bool, ApiError> {
        expect::check_last(headers, self.store.state().last_seq + staged.messages)?;
        if headers.get(Name::ExpectedLastSequence).is_some() && staged.messages > 0 {
            // Only the first of a batch can know.
            return Err(errors::STREAM_WRONG_LAST_SEQUENCE_CONSTANT.error());
        }
        match headers.sequence(Name::ExpectedLastSubjectSequence) {
            Some(expected) => {
                let subject = headers.get(Name::ExpectedLastSubjectSequenceSubject);
                let subject = subject.unwrap_or(&record.subject);
                if staged.written.contains_key(subject) {
                    return Err(errors::STREAM_WRONG_LAST_SEQUENCE_CONSTANT.error());
                }
                let last = match staged.expected.get(subject) {
                    Some(last) => *last,
                    None => self.last_seq_of(subject),
                };
                if expected != last {
                    return Err(errors::STREAM_WRONG_LAST_SEQUENCE.with(last));
                }
                staged.expected.insert(Bytes::copy_from_slice(subject), last);
            }
            None => self.check_last_of_subject(headers, &record.subject)?,
        }
        if !headers.is_about_schedules() {
            return Ok(false);
        }
        let is_schedule = schedule::check_schedule(config, headers, record, now)?;
        schedule::check_scheduler(config, headers, &record.subject, |subject| {
            staged
                .written
                .get(subject)
                .map_or_else(|| self.is_schedule(subject), |written| written.is_schedule)
        })?;
        Ok(is_schedule)
    }

    fn check_staged_room(
        &self,
        config: &StreamConfig,
        record: &PublishRecord,
        staged: &Staged,
        is_rollup: bool,
    ) -> Result<(), ApiError> {
        let above =
            |value: u64, limit: i64| u64::try_from(limit).is_ok_and(|limit| limit > 0 && value > limit);
        let state = self.store.state();
        let refuse = |text: &str| Err(errors::STREAM_STORE_FAILED.with(text));
        if above(state.messages + staged.messages, config.max_msgs) {
            return refuse("maximum messages exceeded");
        }
        if above(state.bytes + staged.bytes, config.max_bytes) {
            return refuse("maximum bytes exceeded");
        }
        let of_subject = self.store.subject_state(&record.subject).map_or(0, |state| state.count);
        let written = staged.written.get(&record.subject).map_or(0, |written| written.messages);
        if config.discard_new_per_subject
            && !is_rollup
            && above(of_subject + written, config.max_msgs_per_subject)
        {
            return refuse("maximum messages per subject exceeded");
        }
        Ok(())
    }
}

impl Staged {
    fn add(&mut self, record: &PublishRecord, is_schedule: bool, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
        let written = self.written.entry(record.subject.clone()).or_default();
        written.messages += 1;
        written.is_schedule = is_schedule;
    }

    /// A rollup in a batch may not touch what the batch itself wrote.
    fn check_rollup(&self, rollup: Option<Rollup>, subject: &[u8]) -> Result<(), ApiError> {
        let text = match rollup {
            Some(Rollup::Subject) if self.written.contains_key(subject) => "batch rollup sub invalid",
            Some(Rollup::All) if self.messages > 0 => "batch rollup all invalid",
            _ => return Ok(()),
        };
        Err(errors::STREAM_ROLLUP_FAILED.with(text))
    }
}

/// The header of a batch's last message, where an end marker committed it.
pub(crate) const COMMIT: (&str, &str) = (names::BATCH_COMMIT, "1");
