//! Publishing: the checks a message must pass, its sequence, and what it pushes out.

use std::ops::ControlFlow;

use bytes::Bytes;
use weir_jsapi::{ApiError, DiscardPolicy, RetentionPolicy, errors, headers as names};
use weir_stdx::time::UnixNanos;

use super::StreamMachine;
use super::ttl::{self, MessageTtl};
use crate::command::{PublishOutcome, PublishRecord, Republished};
use crate::headers;
use crate::store::{Lookup, Store, StoreFailure, StoredMessage};

/// Longest header block a stream takes, bytes.
const HEADERS_BYTES_MAX: usize = u16::MAX as usize;

/// Headers of features that are not built: refused, not ignored, since ignoring them would change what they mean.
const UNSUPPORTED_HEADERS: [(&str, weir_jsapi::ErrorDefinition); 4] = [
    (names::STREAM_SOURCE, errors::MESSAGE_SOURCE_HDR_NOT_ALLOWED),
    (names::MSG_INCREMENT, errors::MESSAGE_INCR_DISABLED),
    (names::BATCH_ID, errors::ATOMIC_PUBLISH_DISABLED),
    (names::SCHEDULE, errors::MESSAGE_SCHEDULES_DISABLED),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rollup {
    Subject,
    All,
}

/// What the headers ask for, once they passed.
#[derive(Default)]
struct Accepted {
    msg_id: Option<Bytes>,
    rollup: Option<Rollup>,
    ttl: Option<MessageTtl>,
}

enum Verdict {
    Accept(Accepted),
    Duplicate(u64),
    Reject(ApiError),
}

impl<S: Store> StreamMachine<S> {
    pub(super) fn publish(
        &mut self,
        record: PublishRecord,
        republished: &mut Vec<Republished>,
    ) -> Result<PublishOutcome, StoreFailure> {
        let timestamp = record.timestamp.max(self.last_timestamp);
        let accepted = match self.check_publish(&record, timestamp) {
            Verdict::Accept(accepted) => accepted,
            Verdict::Duplicate(seq) => return Ok(PublishOutcome::Duplicate { seq }),
            Verdict::Reject(error) => return Ok(PublishOutcome::Rejected(error)),
        };
        let Some(seq) = self.store.state().last_seq.checked_add(1).filter(|&seq| seq < u64::MAX) else {
            return Ok(PublishOutcome::Rejected(errors::STREAM_STORE_FAILED.with("no sequences left")));
        };
        self.last_timestamp = timestamp;
        if self.config.retention == RetentionPolicy::Interest && !self.has_interest(&record.subject) {
            self.store.skip_to(seq)?;
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
            self.after_append(&message, accepted.rollup)?;
        }
        self.last_msg_id = accepted.msg_id.clone();
        if let Some(id) = accepted.msg_id {
            self.dedupe.insert(id, seq, timestamp);
        }
        Ok(PublishOutcome::Stored { seq })
    }

    fn after_append(&mut self, message: &StoredMessage, rollup: Option<Rollup>) -> Result<(), StoreFailure> {
        match rollup {
            Some(Rollup::All) => {
                self.compact_below(message.seq)?;
            }
            Some(Rollup::Subject) => self.trim_subject(&message.subject, 1)?,
            None => {
                let limit = self.config.max_msgs_per_subject;
                if let Ok(limit @ 1..) = u64::try_from(limit) {
                    self.trim_subject(&message.subject, limit)?;
                }
            }
        }
        self.enforce_size_limits()
    }

    fn check_publish(&mut self, record: &PublishRecord, now: UnixNanos) -> Verdict {
        let config = self.config.clone();
        if config.sealed {
            return Verdict::Reject(errors::STREAM_SEALED.error());
        }
        let size = record.headers.len() + record.payload.len();
        if usize::try_from(config.max_msg_size).is_ok_and(|limit| config.max_msg_size > 0 && size > limit) {
            return Verdict::Reject(errors::STREAM_MESSAGE_EXCEEDS_MAXIMUM.error());
        }
        let mut accepted = Accepted::default();
        if !record.headers.is_empty() {
            match self.check_headers(record, now) {
                Verdict::Accept(from_headers) => accepted = from_headers,
                other => return other,
            }
        }
        if config.discard == DiscardPolicy::New
            && let Err(text) = self.check_room(record)
        {
            return Verdict::Reject(errors::STREAM_STORE_FAILED.with(text));
        }
        Verdict::Accept(accepted)
    }

    fn check_headers(&mut self, record: &PublishRecord, now: UnixNanos) -> Verdict {
        let block = &record.headers[..];
        let reject = |error: ApiError| Verdict::Reject(error);
        if block.len() > HEADERS_BYTES_MAX {
            return reject(errors::STREAM_HEADER_EXCEEDS_MAXIMUM.error());
        }
        if headers::get(block, names::EXPECTED_STREAM).is_some_and(|name| name != self.config.name.as_bytes())
        {
            return reject(errors::STREAM_NOT_MATCH.error());
        }
        for (name, error) in UNSUPPORTED_HEADERS {
            if headers::get(block, name).is_some() {
                return reject(error.error());
            }
        }
        let mut accepted = Accepted::default();
        match self.check_ttl(block) {
            Ok(ttl) => accepted.ttl = ttl,
            Err(error) => return reject(error),
        }
        if let Some(id) = headers::get(block, names::MSG_ID).filter(|id| !id.is_empty()) {
            let window = u64::try_from(self.config.duplicate_window).unwrap_or(0);
            if let Some(seq) = self.dedupe.check(id, now, window) {
                return Verdict::Duplicate(seq);
            }
            // A copy: a slice would hold the whole publish batch in memory for the window.
            accepted.msg_id = (window > 0).then(|| Bytes::copy_from_slice(id));
        }
        if let Err(error) = self.check_expectations(record) {
            return reject(error);
        }
        match self.check_rollup(block) {
            Ok(rollup) => accepted.rollup = rollup,
            Err(error) => return reject(error),
        }
        Verdict::Accept(accepted)
    }

    fn check_ttl(&self, block: &[u8]) -> Result<Option<MessageTtl>, ApiError> {
        let ttl = ttl::parse(block);
        if !self.config.allow_msg_ttl && ttl != Ok(None) {
            return Err(errors::MESSAGE_TTL_DISABLED.error());
        }
        ttl
    }

    /// The `Nats-Expected-Last-*` headers.
    fn check_expectations(&self, record: &PublishRecord) -> Result<(), ApiError> {
        let block = &record.headers[..];
        if let Some(expected) = headers::get_str(block, names::EXPECTED_LAST_SEQUENCE) {
            let last = self.store.state().last_seq;
            if expected.parse() != Ok(last) {
                return Err(errors::STREAM_WRONG_LAST_SEQUENCE.with(last));
            }
        }
        if let Some(expected) = headers::get(block, names::EXPECTED_LAST_MSG_ID) {
            let last = self.last_msg_id.as_deref().unwrap_or_default();
            if expected != last {
                return Err(errors::STREAM_WRONG_LAST_MSG_ID.with(String::from_utf8_lossy(last)));
            }
        }
        let filter = headers::get(block, names::EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT);
        if let Some(expected) = headers::get_str(block, names::EXPECTED_LAST_SUBJECT_SEQUENCE) {
            let last = self.last_seq_of(filter.unwrap_or(&record.subject));
            if expected.parse() != Ok(last) {
                return Err(errors::STREAM_WRONG_LAST_SEQUENCE.with(last));
            }
        } else if filter.is_some() {
            return Err(errors::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID.error());
        }
        Ok(())
    }

    /// The newest sequence of a subject or of all that match a pattern; 0 when there is none.
    pub(super) fn last_seq_of(&self, subject: &[u8]) -> u64 {
        if !weir_subject::has_wildcards(subject) {
            return self.store.subject_state(subject).map_or(0, |state| state.last);
        }
        let mut last = 0;
        self.store.for_each_subject(subject, &mut |_, state| {
            last = last.max(state.last);
            ControlFlow::Continue(())
        });
        last
    }

    fn check_rollup(&self, block: &[u8]) -> Result<Option<Rollup>, ApiError> {
        let Some(value) = headers::get_str(block, names::ROLLUP).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        if !self.config.allow_rollup_hdrs || self.config.deny_purge {
            return Err(errors::STREAM_ROLLUP_FAILED.with("rollup not permitted"));
        }
        match value.to_ascii_lowercase().as_str() {
            names::ROLLUP_SUBJECT => Ok(Some(Rollup::Subject)),
            names::ROLLUP_ALL => Ok(Some(Rollup::All)),
            other => Err(errors::STREAM_ROLLUP_FAILED.with(format!("rollup value invalid: {other:?}"))),
        }
    }

    /// With `discard: new`, whether a message fits; the error is the text of error 10077.
    fn check_room(&self, record: &PublishRecord) -> Result<(), &'static str> {
        let config = &self.config;
        let state = self.store.state();
        let of_subject = self.store.subject_state(&record.subject).unwrap_or_default();
        let at_subject_limit = u64::try_from(config.max_msgs_per_subject)
            .is_ok_and(|limit| limit > 0 && of_subject.count >= limit);
        if at_subject_limit && config.discard_new_per_subject {
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
