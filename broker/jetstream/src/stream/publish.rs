//! Publishing: the checks a message must pass, its sequence, and what it pushes out. A message without headers pays for
//! none of the features that headers ask for; one with headers is scanned once.

mod expect;
mod staged;

use bytes::Bytes;
use num_bigint::BigInt;
use weir_jsapi::{ApiError, DiscardPolicy, RetentionPolicy, StreamConfig, errors, headers as names};
use weir_stdx::time::UnixNanos;

use super::StreamMachine;
use super::counter;
use super::schedule;
use super::ttl::{self, MessageTtl};
use crate::command::{PublishOutcome, PublishRecord, Republished};
use crate::headers;
use crate::publish_headers::{Name, PublishHeaders};
use crate::store::{Filter, Lookup, Store, StoreFailure, StoredMessage};
pub(crate) use staged::COMMIT;
pub(super) use staged::{Staged, StagedRefusal};

/// Longest header block a stream takes, bytes.
const HEADERS_BYTES_MAX: usize = u16::MAX as usize;
/// What stores can name. A subject of this length takes a raised `max_control_line`.
const SUBJECT_BYTES_MAX: usize = u16::MAX as usize;
const SECOND: u64 = 1_000_000_000;

/// Who publishes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Client,
    /// The server itself: from another stream, by a schedule. What its origin allowed is not judged again, and a
    /// counter's value is taken as its origin's.
    Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rollup {
    Subject,
    All,
}

/// What the headers ask for, once they passed.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    msg_id: Option<Bytes>,
    rollup: Option<Rollup>,
    ttl: Option<MessageTtl>,
    /// The new value of a counter.
    value: Option<String>,
    /// The schedule that ends with this message.
    ends: Option<Bytes>,
}

enum Verdict {
    Accept(Accepted),
    Duplicate(u64),
    Reject(ApiError),
}

impl From<ApiError> for Verdict {
    fn from(error: ApiError) -> Self {
        Self::Reject(error)
    }
}

impl<S: Store> StreamMachine<S> {
    /// Judges and stores one message.
    pub(super) fn publish(
        &mut self,
        mut record: PublishRecord,
        origin: Origin,
        republished: &mut Vec<Republished>,
    ) -> Result<PublishOutcome, StoreFailure> {
        let timestamp = record.timestamp.max(self.last_timestamp);
        let accepted = match self.judge(&mut record, origin, timestamp).unwrap_or_else(Verdict::from) {
            Verdict::Accept(accepted) => accepted,
            Verdict::Duplicate(seq) => return Ok(PublishOutcome::Duplicate { seq }),
            Verdict::Reject(error) => return Ok(PublishOutcome::Rejected(error)),
        };
        let Some((seq, value)) = self.store_accepted(record, accepted, timestamp, republished)? else {
            return Ok(PublishOutcome::Rejected(errors::STREAM_STORE_FAILED.with("no sequences left")));
        };
        Ok(match value {
            Some(value) => PublishOutcome::Counted { seq, value },
            None => PublishOutcome::Stored { seq },
        })
    }

    /// Gives a message that passed its sequence; `None` when there is none left.
    pub(super) fn store_accepted(
        &mut self,
        record: PublishRecord,
        accepted: Accepted,
        timestamp: UnixNanos,
        republished: &mut Vec<Republished>,
    ) -> Result<Option<(u64, Option<String>)>, StoreFailure> {
        let Some(seq) = self.store.state().last_seq.checked_add(1).filter(|&seq| seq < u64::MAX) else {
            return Ok(None);
        };
        self.last_timestamp = timestamp;
        if self.wants_nobody(&record.subject) {
            self.store.skip_to(seq)?;
            self.roll_up(&record.subject, accepted.rollup, 0)?;
        } else {
            let PublishRecord { subject, headers, payload, .. } = record;
            let message = StoredMessage { seq, timestamp, subject, headers, payload };
            if let Some(republisher) = &self.republisher {
                let last_seq = self.store.subject_state(&message.subject).map_or(0, |state| state.last);
                republished.extend(republisher.copy(&self.config.name, &message, last_seq));
            }
            self.store.append(&message)?;
            if let Some(ttl) = accepted.ttl {
                self.lifetimes.insert(seq, timestamp, ttl);
            }
            if self.config.allow_msg_schedules {
                self.note_schedule(&message);
            }
            self.after_append(&message, accepted.rollup)?;
        }
        if let Some(scheduler) = &accepted.ends {
            self.purge_filtered_all(scheduler)?;
        }
        self.last_msg_id = accepted.msg_id.clone();
        if let Some(id) = accepted.msg_id {
            self.dedupe.insert(id, seq, timestamp);
        }
        Ok(Some((seq, accepted.value)))
    }

    pub(super) fn note_schedule(&mut self, message: &StoredMessage) {
        if message.headers.is_empty() && self.schedules.is_empty() {
            return;
        }
        let change = schedule::change_by(&PublishHeaders::scan(&message.headers), message.timestamp);
        self.schedules.change(&message.subject, message.seq, &change);
    }

    /// An interest stream keeps nothing that no consumer waits for.
    fn wants_nobody(&self, subject: &[u8]) -> bool {
        self.config.retention == RetentionPolicy::Interest && !self.has_interest(subject)
    }

    /// Drops what a message from a backup pushes out.
    pub(super) fn after_restored(&mut self, message: &StoredMessage) -> Result<(), StoreFailure> {
        self.after_append(message, None)
    }

    fn after_append(&mut self, message: &StoredMessage, rollup: Option<Rollup>) -> Result<(), StoreFailure> {
        if rollup.is_some() {
            self.roll_up(&message.subject, rollup, message.seq)?;
        } else if let Ok(limit @ 1..) = u64::try_from(self.config.max_msgs_per_subject) {
            self.trim_subject(&message.subject, limit)?;
        }
        self.enforce_size_limits()
    }

    /// Removes what a rollup replaces: all but the message `kept`, 0 where it was not stored itself.
    fn roll_up(&mut self, subject: &[u8], rollup: Option<Rollup>, kept: u64) -> Result<(), StoreFailure> {
        match rollup {
            Some(Rollup::All) => {
                let below = if kept > 0 { kept } else { self.store.state().last_seq + 1 };
                self.compact_below(below).map(|_| ())
            }
            Some(Rollup::Subject) => self.trim_subject(subject, u64::from(kept > 0)),
            None => Ok(()),
        }
    }

    /// Removes all of one subject.
    fn purge_filtered_all(&mut self, subject: &[u8]) -> Result<(), StoreFailure> {
        let Ok(subject) = std::str::from_utf8(subject) else { return Ok(()) };
        self.purge_filtered(&Filter::new([subject]), &crate::command::Purge::default()).map(|_| ())
    }

    /// The checks of a single publish, in nats-server's order.
    fn judge(
        &mut self,
        record: &mut PublishRecord,
        origin: Origin,
        now: UnixNanos,
    ) -> Result<Verdict, ApiError> {
        if self.config.sealed {
            return Err(errors::STREAM_SEALED.error());
        }
        check_size(&self.config, record)?;
        let mut accepted = Accepted::default();
        if !record.headers.is_empty() {
            let block = record.headers.clone();
            let headers = PublishHeaders::scan(&block);
            if !headers.is_plain() {
                match self.judge_headers(&headers, record, origin, now)? {
                    Verdict::Accept(asked) => accepted = asked,
                    other => return Ok(other),
                }
            } else if self.config.allow_msg_counter {
                return Err(errors::MESSAGE_INCR_MISSING.error());
            }
        } else if self.config.allow_msg_counter {
            return Err(errors::MESSAGE_INCR_MISSING.error());
        }
        if self.config.discard == DiscardPolicy::New && !self.wants_nobody(&record.subject) {
            self.check_room(record, accepted.rollup.is_some())
                .map_err(|text| errors::STREAM_STORE_FAILED.with(text))?;
        }
        Ok(Verdict::Accept(accepted))
    }

    fn judge_headers(
        &mut self,
        headers: &PublishHeaders<'_>,
        record: &mut PublishRecord,
        origin: Origin,
        now: UnixNanos,
    ) -> Result<Verdict, ApiError> {
        let config = self.config.clone();
        let is_client = origin == Origin::Client;
        let increment = self.check_increment(headers, record, origin)?;
        expect::check_stream(&config, headers)?;
        let ttl = headers.get(Name::Ttl).map_or(Ok(None), ttl::parse);
        if is_client && !config.allow_msg_ttl && matches!(ttl, Ok(Some(_))) {
            return Err(errors::MESSAGE_TTL_DISABLED.error());
        }
        self.check_last_of_subject(headers, &record.subject)?;
        expect::check_last(headers, self.store.state().last_seq)?;
        if is_client {
            if headers.is_about_schedules() {
                self.check_schedules(headers, record, now)?;
            }
            expect::check_source(headers)?;
        }
        let mut accepted = Accepted::default();
        if let Some(id) = headers.get(Name::MsgId) {
            if let Some(seq) = self.seen_before(id, now) {
                return Ok(Verdict::Duplicate(seq));
            }
            accepted.msg_id = self.id_to_keep(id);
        }
        self.check_last_msg_id(headers)?;
        accepted.rollup = self.check_rollup(&record.headers, origin)?;
        accepted.ends = self.ended_schedule(headers);
        if config.allow_msg_counter {
            let Some(increment) = increment else { return Err(errors::MESSAGE_INCR_MISSING.error()) };
            let mut counter = self.counter(&record.subject)?;
            accepted.value = Some(counter.add(increment, headers.get(Name::StreamSource), record)?);
        }
        check_size(&config, record)?;
        if !self.wants_nobody(&record.subject) {
            accepted.ttl = self.lifetime(ttl?, record);
        }
        Ok(Verdict::Accept(accepted))
    }

    fn check_increment(
        &self,
        headers: &PublishHeaders<'_>,
        record: &PublishRecord,
        origin: Origin,
    ) -> Result<Option<BigInt>, ApiError> {
        let increment = counter::increment(headers)?;
        if increment.is_some() && origin == Origin::Client {
            counter::check_increment(headers, self.config.allow_msg_counter, &record.payload)?;
        }
        Ok(increment)
    }

    fn check_schedules(
        &self,
        headers: &PublishHeaders<'_>,
        record: &mut PublishRecord,
        now: UnixNanos,
    ) -> Result<(), ApiError> {
        schedule::check_schedule(&self.config, headers, record, now)?;
        schedule::check_scheduler(&self.config, headers, &record.subject, |subject| self.is_schedule(subject))
    }

    /// Whether a subject's last message is a schedule; also when it has none.
    fn is_schedule(&self, subject: &[u8]) -> bool {
        let last = self.store.subject_state(subject).map(|state| self.store.get(state.last));
        match last {
            Some(Ok(Lookup::Found(message))) => {
                headers::get(&message.headers, names::SCHEDULE).is_some_and(|pattern| !pattern.is_empty())
            }
            _ => true,
        }
    }

    fn ended_schedule(&self, headers: &PublishHeaders<'_>) -> Option<Bytes> {
        let ends = headers.get(Name::ScheduleNext) == Some(names::SCHEDULE_NEXT_PURGE.as_bytes());
        let scheduler = headers.get(Name::Scheduler).filter(|_| ends && self.may_roll_up())?;
        Some(Bytes::copy_from_slice(scheduler))
    }

    fn may_roll_up(&self) -> bool {
        self.config.allow_rollup_hdrs && !self.config.deny_purge
    }

    /// A copy: a slice would hold the whole publish batch in memory for the window.
    fn id_to_keep(&self, id: &[u8]) -> Option<Bytes> {
        (self.config.duplicate_window > 0).then(|| Bytes::copy_from_slice(id))
    }

    fn seen_before(&mut self, id: &[u8], now: UnixNanos) -> Option<u64> {
        let window = u64::try_from(self.config.duplicate_window).unwrap_or(0);
        self.dedupe.check(id, now, window)
    }

    fn check_rollup(&self, block: &[u8], origin: Origin) -> Result<Option<Rollup>, ApiError> {
        let Some(value) = headers::get_str(block, names::ROLLUP).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        if !self.may_roll_up() && origin == Origin::Client {
            return Err(errors::STREAM_ROLLUP_FAILED.with("rollup not permitted"));
        }
        let rollup = match value.to_ascii_lowercase().as_str() {
            names::ROLLUP_SUBJECT => Rollup::Subject,
            names::ROLLUP_ALL => Rollup::All,
            other => {
                return Err(errors::STREAM_ROLLUP_FAILED.with(format!("rollup value invalid: {other:?}")));
            }
        };
        Ok(Some(rollup).filter(|_| self.may_roll_up()))
    }

    /// The lifetime a message gets. One that is shorter than the stream's delete markers live is made as long, since a
    /// marker that stands for the subject already would end before it.
    fn lifetime(&self, asked: Option<MessageTtl>, record: &mut PublishRecord) -> Option<MessageTtl> {
        let config = &self.config;
        let shortest = u64::try_from(config.subject_delete_marker_ttl).unwrap_or(0) / SECOND;
        match asked? {
            MessageTtl::After(nanos) if config.max_msgs_per_subject != 1 && nanos / SECOND < shortest => {
                let block = headers::without(&record.headers, |name| name == names::MSG_TTL.as_bytes());
                record.headers = headers::with(&block, names::MSG_TTL, &shortest.to_string());
                Some(MessageTtl::After(shortest.saturating_mul(SECOND)))
            }
            ttl => Some(ttl),
        }
        .filter(|_| config.allow_msg_ttl)
    }

    /// With `discard: new`, whether a message fits; the error is the text of error 10077.
    fn check_room(&self, record: &PublishRecord, is_rollup: bool) -> Result<(), &'static str> {
        let config = &self.config;
        let state = self.store.state();
        let of_subject = self.store.subject_state(&record.subject).unwrap_or_default();
        let at_subject_limit = u64::try_from(config.max_msgs_per_subject)
            .is_ok_and(|limit| limit > 0 && of_subject.count >= limit);
        if at_subject_limit && config.discard_new_per_subject && !is_rollup {
            return Err("maximum messages per subject exceeded");
        }
        // A full subject makes room for its new message by losing its oldest.
        if u64::try_from(config.max_msgs).is_ok_and(|limit| limit > 0 && state.messages >= limit)
            && !at_subject_limit
        {
            return Err("maximum messages exceeded");
        }
        let size = self.store.message_bytes(record.subject.len(), record.headers.len(), record.payload.len());
        if u64::try_from(config.max_bytes).is_ok_and(|limit| limit > 0 && state.bytes + size > limit) {
            // A message may take the place of one of its subject that is as large.
            let oldest = if at_subject_limit { self.store.get(of_subject.first).ok() } else { None };
            let freed = match oldest {
                Some(Lookup::Found(old)) => {
                    self.store.message_bytes(old.subject.len(), old.headers.len(), old.payload.len())
                }
                _ => 0,
            };
            if size > freed {
                return Err("maximum bytes exceeded");
            }
        }
        Ok(())
    }
}

/// Whether subject, headers and payload are within what a stream takes.
pub(crate) fn check_size(config: &StreamConfig, record: &PublishRecord) -> Result<(), ApiError> {
    let size = record.headers.len() + record.payload.len();
    if usize::try_from(config.max_msg_size).is_ok_and(|limit| config.max_msg_size > 0 && size > limit) {
        return Err(errors::STREAM_MESSAGE_EXCEEDS_MAXIMUM.error());
    }
    if record.headers.len() > HEADERS_BYTES_MAX {
        return Err(errors::STREAM_HEADER_EXCEEDS_MAXIMUM.error());
    }
    if record.subject.len() > SUBJECT_BYTES_MAX {
        let text = format!("subject is longer than {SUBJECT_BYTES_MAX} bytes");
        return Err(errors::STREAM_STORE_FAILED.with(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
