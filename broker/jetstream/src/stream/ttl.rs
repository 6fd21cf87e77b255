//! Messages with a lifetime of their own (`Nats-TTL`, ADR-43), and the markers left where a subject's last message
//! expired.

use std::collections::BTreeSet;

use bytes::Bytes;
use weir_jsapi::{ApiError, errors, headers as names};
use weir_stdx::time::UnixNanos;

use super::StreamMachine;
use crate::codec::{DecodeError, Reader, Writer};
use crate::headers;
use crate::publish_headers::decimal;
use crate::store::{Filter, Lookup, Store, StoreFailure, StoredMessage};

/// Messages removed one by one by one command, so that none takes long; the owner proposes the next at once.
const EXPIRED_MAX: usize = 10_000;
const SECOND: u64 = 1_000_000_000;

/// A message's `Nats-TTL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageTtl {
    /// Nanoseconds from its timestamp on.
    After(u64),
    /// Not even `max_age` removes it.
    Never,
}

/// Reads a value of the header: a Go duration of a second or more, whole seconds, or `never`.
pub(super) fn parse(text: &[u8]) -> Result<Option<MessageTtl>, ApiError> {
    let invalid = || errors::MESSAGE_TTL_INVALID.error();
    let text = std::str::from_utf8(text).map_err(|_| invalid())?;
    if text.eq_ignore_ascii_case("never") {
        return Ok(Some(MessageTtl::Never));
    }
    let seconds = match crate::config::parse_go_duration(text) {
        Some(nanos) if nanos < SECOND => return Err(invalid()),
        Some(nanos) => nanos / SECOND,
        None => {
            decimal(text.as_bytes()).filter(|&seconds| i64::try_from(seconds).is_ok()).ok_or_else(invalid)?
        }
    };
    // A zero with more than one digit is no duration, and means no lifetime.
    Ok((seconds > 0).then(|| MessageTtl::After(seconds.saturating_mul(SECOND))))
}

/// Which messages end when. Entries of messages that left otherwise stay until they are due.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Lifetimes {
    due: BTreeSet<(UnixNanos, u64)>,
    never: BTreeSet<u64>,
    /// Below this all messages are of those that never expire.
    aging_from: u64,
}

impl Lifetimes {
    pub(super) fn insert(&mut self, seq: u64, timestamp: UnixNanos, ttl: MessageTtl) {
        match ttl {
            MessageTtl::After(nanos) => {
                self.due.insert((UnixNanos(timestamp.0.saturating_add(nanos)), seq));
            }
            MessageTtl::Never => {
                self.never.insert(seq);
            }
        }
    }

    fn forget_below(&mut self, first_seq: u64) {
        if self.never.first().is_some_and(|&seq| seq < first_seq) {
            self.never = self.never.split_off(&first_seq);
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.varint(self.due.len() as u64);
        for (at, seq) in &self.due {
            writer.time(*at);
            writer.varint(*seq);
        }
        writer.varint(self.never.len() as u64);
        for seq in &self.never {
            writer.varint(*seq);
        }
        writer.varint(self.aging_from);
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut lifetimes = Self::default();
        for _ in 0..reader.count("lifetime count")? {
            let at = reader.time("end of a lifetime")?;
            lifetimes.due.insert((at, reader.varint("sequence of a lifetime")?));
        }
        for _ in 0..reader.count("immortal count")? {
            lifetimes.never.insert(reader.varint("sequence of an immortal message")?);
        }
        lifetimes.aging_from = reader.varint("first aging sequence")?;
        Ok(lifetimes)
    }
}

impl<S: Store> StreamMachine<S> {
    /// When a message is next due to expire, by its own lifetime or by `max_age`: time to propose `Expire`.
    pub fn next_expiry(&self) -> Option<UnixNanos> {
        let own = self.lifetimes.due.first().map(|&(at, _)| at);
        [own, self.next_aged()].into_iter().flatten().min()
    }

    fn next_aged(&self) -> Option<UnixNanos> {
        let max_age = u64::try_from(self.config.max_age).ok().filter(|&age| age > 0)?;
        let state = self.store.state();
        if state.messages == 0 {
            return None;
        }
        let oldest = if self.lifetimes.never.is_empty() {
            state.first_timestamp
        } else {
            self.store.next_match(&Filter::default(), self.lifetimes.aging_from).ok()??.timestamp
        };
        Some(UnixNanos(oldest.0.saturating_add(max_age)))
    }

    /// True when messages must be looked at one by one as they age.
    pub(super) fn ages_one_by_one(&self) -> bool {
        !self.lifetimes.never.is_empty() || self.config.subject_delete_marker_ttl > 0
    }

    /// Removes what is too old, leaving out what never expires and marking subjects that end.
    pub(super) fn expire_aged(
        &mut self,
        oldest_kept: UnixNanos,
        now: UnixNanos,
    ) -> Result<u64, StoreFailure> {
        let mut count = 0;
        self.lifetimes.forget_below(self.store.state().first_seq);
        for _ in 0..EXPIRED_MAX {
            let from = self.lifetimes.aging_from;
            let Some(message) = self.store.next_match(&Filter::default(), from)? else { break };
            if message.timestamp >= oldest_kept {
                break;
            }
            self.lifetimes.aging_from = message.seq + 1;
            if !self.lifetimes.never.contains(&message.seq) {
                count += u64::from(self.expire_message(message.seq, now)?);
            }
        }
        Ok(count)
    }

    /// Removes messages whose own lifetime is over.
    pub(super) fn expire_lifetimes(&mut self, now: UnixNanos) -> Result<u64, StoreFailure> {
        let mut count = 0;
        for _ in 0..EXPIRED_MAX {
            let Some(&(at, seq)) = self.lifetimes.due.first().filter(|(at, _)| *at <= now) else { break };
            self.lifetimes.due.remove(&(at, seq));
            count += u64::from(self.expire_message(seq, now)?);
        }
        Ok(count)
    }

    fn expire_message(&mut self, seq: u64, now: UnixNanos) -> Result<bool, StoreFailure> {
        let marker_ttl = u64::try_from(self.config.subject_delete_marker_ttl).unwrap_or(0) / SECOND;
        let message = if marker_ttl > 0 { Some(self.store.get(seq)?) } else { None };
        if !self.remove_one(seq, false)? {
            return Ok(false);
        }
        if let Some(Lookup::Found(message)) = message
            && headers::get(&message.headers, names::MARKER_REASON).is_none()
            && self.store.subject_state(&message.subject).is_none()
        {
            self.append_marker(message.subject, marker_ttl, now)?;
        }
        Ok(true)
    }

    /// Says to readers that a subject's last message expired; goes itself after a while.
    fn append_marker(
        &mut self,
        subject: Bytes,
        ttl_seconds: u64,
        now: UnixNanos,
    ) -> Result<(), StoreFailure> {
        let timestamp = now.max(self.last_timestamp);
        let Some(seq) = self.store.state().last_seq.checked_add(1) else { return Ok(()) };
        let ttl = crate::config::go_duration(ttl_seconds.saturating_mul(SECOND));
        let headers = Bytes::from(format!(
            "NATS/1.0\r\n{}: MaxAge\r\n{}: {ttl}\r\n{}: {}\r\n\r\n",
            names::MARKER_REASON,
            names::MSG_TTL,
            names::ROLLUP,
            names::ROLLUP_SUBJECT,
        ));
        self.last_timestamp = timestamp;
        self.store.append(&StoredMessage { seq, timestamp, subject, headers, payload: Bytes::new() })?;
        self.lifetimes.insert(seq, timestamp, MessageTtl::After(ttl_seconds.saturating_mul(SECOND)));
        self.enforce_size_limits()
    }
}
