//! Schedules (ADR-51): messages that say when another is to be published. What is due when is part of the stream's state;
//! the leader looks at the clock and proposes, every replica publishes the same. Not the clock.

mod cron;
mod pattern;
mod zone;

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use weir_jsapi::{ApiError, StreamConfig, errors, headers as names};
use weir_stdx::time::UnixNanos;
use weir_subject::{is_valid_literal, overlaps};

use self::pattern::Next;
use self::zone::Zone;
use super::StreamMachine;
use super::publish::Origin;
use super::ttl;
use crate::codec::{DecodeError, Reader, Writer};
use crate::command::{Firing, FiringAction, Outcome, PublishRecord};
use crate::headers;
use crate::publish_headers::{Name, PublishHeaders};
use crate::store::{Filter, Lookup, Store, StoreFailure};

/// Schedules that one command fires; the leader proposes the next at once.
const FIRINGS_MAX: usize = 1024;

/// What storing a message does to the schedules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ScheduleChange {
    /// Its subject is a schedule now, due then.
    Set(UnixNanos),
    /// Its subject is no schedule any more.
    Clear,
    /// The schedule of this subject fired, and is due again then.
    Again {
        scheduler: Bytes,
        at: UnixNanos,
    },
    None,
}

/// When a subject's schedule is due, and the sequence of the message that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    at: UnixNanos,
    seq: u64,
}

/// One schedule a subject. Entries of messages that left stay until they are due.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Schedules {
    by_subject: HashMap<Bytes, Entry>,
    due: BTreeSet<(UnixNanos, u64, Bytes)>,
}

impl Schedules {
    fn set(&mut self, subject: &[u8], seq: u64, at: UnixNanos) {
        self.remove(subject);
        // A copy: a slice would hold the whole publish batch in memory.
        let subject = Bytes::copy_from_slice(subject);
        self.due.insert((at, seq, subject.clone()));
        self.by_subject.insert(subject, Entry { at, seq });
    }

    fn remove(&mut self, subject: &[u8]) {
        if let Some((subject, entry)) = self.by_subject.remove_entry(subject) {
            self.due.remove(&(entry.at, entry.seq, subject));
        }
    }

    pub(super) fn change(&mut self, subject: &[u8], seq: u64, change: &ScheduleChange) {
        match change {
            ScheduleChange::Set(at) => self.set(subject, seq, *at),
            ScheduleChange::Clear => self.remove(subject),
            ScheduleChange::Again { scheduler, at } => {
                if let Some(entry) = self.by_subject.get(scheduler).copied() {
                    self.set(scheduler, entry.seq, *at);
                }
            }
            ScheduleChange::None => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.varint(self.due.len() as u64);
        for (at, seq, subject) in &self.due {
            writer.time(*at);
            writer.varint(*seq);
            writer.bytes(subject);
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut schedules = Self::default();
        for _ in 0..reader.count("schedule count")? {
            let at = reader.time("time of a schedule")?;
            let seq = reader.varint("sequence of a schedule")?;
            schedules.set(&reader.bytes("subject of a schedule")?, seq, at);
        }
        Ok(schedules)
    }
}

/// The zone that the headers name; `None` when they name none.
fn zone(headers: &PublishHeaders<'_>) -> Result<Option<Zone>, ApiError> {
    let Some(name) = headers.present(Name::ScheduleTimeZone) else { return Ok(None) };
    let found = std::str::from_utf8(name).ok().and_then(Zone::named);
    found.map(Some).ok_or_else(|| errors::MESSAGE_SCHEDULES_TIME_ZONE_INVALID.error())
}

/// When the message's schedule is due; `None` when it is no schedule.
fn next_of(headers: &PublishHeaders<'_>, after: UnixNanos, now: UnixNanos) -> Result<Option<Next>, ApiError> {
    let zone = zone(headers)?;
    let Some(pattern) = headers.get(Name::Schedule) else { return Ok(None) };
    let next = std::str::from_utf8(pattern)
        .ok()
        .and_then(|pattern| pattern::next(pattern, zone.as_ref(), after, now));
    next.map(Some).ok_or_else(|| errors::MESSAGE_SCHEDULES_PATTERN_INVALID.error())
}

/// Judges the headers of a message that is to be a schedule; true when it is one. Adds the rollup it needs.
pub(super) fn check_schedule(
    config: &StreamConfig,
    headers: &PublishHeaders<'_>,
    record: &mut PublishRecord,
    now: UnixNanos,
) -> Result<bool, ApiError> {
    let next = next_of(headers, now, now);
    if !config.allow_msg_schedules && next != Ok(None) {
        return Err(errors::MESSAGE_SCHEDULES_DISABLED.error());
    }
    if next?.is_none() {
        return Ok(false);
    }
    let lifetime = headers.get(Name::ScheduleTtl);
    if lifetime.is_some_and(|text| ttl::parse(text).is_err()) {
        return Err(errors::MESSAGE_SCHEDULES_TTL_INVALID.error());
    }
    let is_rollup = |value: &[u8]| value == names::ROLLUP_SUBJECT.as_bytes();
    if headers.get(Name::ScheduleRollup).is_some_and(|value| !is_rollup(value)) {
        return Err(errors::MESSAGE_SCHEDULES_ROLLUP_INVALID.error());
    }
    if lifetime.is_some() && !config.allow_msg_ttl {
        return Err(errors::MESSAGE_TTL_DISABLED.error());
    }
    let target = headers.get(Name::ScheduleTarget).unwrap_or_default();
    let is_here = |wanted: &[u8]| config.subjects.iter().any(|subject| overlaps(subject.as_bytes(), wanted));
    let target_fits = is_valid_literal(target) && target != &record.subject[..];
    let source = headers.get(Name::ScheduleSource);
    let source_fits = source
        .is_none_or(|source| source != target && source != &record.subject[..] && is_valid_literal(source));
    if !target_fits || (source_fits && !is_here(target)) {
        return Err(errors::MESSAGE_SCHEDULES_TARGET_INVALID.error());
    }
    if !source_fits || source.is_some_and(|source| !is_here(source)) {
        return Err(errors::MESSAGE_SCHEDULES_SOURCE_INVALID.error());
    }
    match headers.get(Name::Rollup) {
        None => record.headers = headers::with(&record.headers, names::ROLLUP, names::ROLLUP_SUBJECT),
        Some(value) if value.eq_ignore_ascii_case(names::ROLLUP_SUBJECT.as_bytes()) => {}
        Some(_) => return Err(errors::MESSAGE_SCHEDULES_ROLLUP_INVALID.error()),
    }
    Ok(true)
}

/// Judges the headers with which a client ends a schedule. `is_schedule`: whether that subject's last message is one, or
/// there is none.
pub(super) fn check_scheduler(
    config: &StreamConfig,
    headers: &PublishHeaders<'_>,
    subject: &[u8],
    is_schedule: impl FnOnce(&[u8]) -> bool,
) -> Result<(), ApiError> {
    let invalid = || Err(errors::MESSAGE_SCHEDULES_SCHEDULER_INVALID.error());
    let scheduler = headers.get(Name::Scheduler);
    let Some(next) = headers.get(Name::ScheduleNext) else {
        return if scheduler.is_some() { invalid() } else { Ok(()) };
    };
    if next != names::SCHEDULE_NEXT_PURGE.as_bytes() {
        return invalid();
    }
    let Some(scheduler) = scheduler.filter(|name| *name != subject && is_valid_literal(name)) else {
        return invalid();
    };
    if !config.allow_msg_schedules {
        return Err(errors::MESSAGE_SCHEDULES_DISABLED.error());
    }
    if is_schedule(scheduler) { Ok(()) } else { invalid() }
}

/// What storing a message with these headers does to the schedules of its stream.
pub(super) fn change_by(headers: &PublishHeaders<'_>, at: UnixNanos) -> ScheduleChange {
    if let Ok(Some(next)) = next_of(headers, at, at) {
        return ScheduleChange::Set(next.at());
    }
    let Some(scheduler) = headers.get(Name::Scheduler) else { return ScheduleChange::Clear };
    let next = headers.get(Name::ScheduleNext).and_then(|text| std::str::from_utf8(text).ok());
    let next =
        next.and_then(|text| weir_jsapi::Time::parse(text).ok()).and_then(weir_jsapi::Time::unix_nanos);
    match next.and_then(|nanos| u64::try_from(nanos).ok()) {
        Some(nanos) => {
            ScheduleChange::Again { scheduler: Bytes::copy_from_slice(scheduler), at: UnixNanos(nanos) }
        }
        None => ScheduleChange::None,
    }
}

/// The message that a schedule publishes: its own content or its source's, without what was for the server.
fn scheduled(
    schedule: &PublishHeaders<'_>,
    scheduler: &[u8],
    next: &str,
    content: (&Bytes, &Bytes),
    now: UnixNanos,
) -> PublishRecord {
    let kept = headers::without(content.0, |name| {
        let for_server = [names::MSG_ID, names::MSG_TTL, names::ROLLUP];
        name.starts_with(b"Nats-Schedule")
            || name.starts_with(b"Nats-Expected-")
            || for_server.iter().any(|other| other.as_bytes() == name)
    });
    let mut block = kept.strip_suffix(b"\r\n").unwrap_or(b"NATS/1.0\r\n").to_vec();
    headers::push(&mut block, names::SCHEDULER, scheduler);
    headers::push(&mut block, names::SCHEDULE_NEXT, next.as_bytes());
    for (from, name) in [(Name::ScheduleTtl, names::MSG_TTL), (Name::ScheduleRollup, names::ROLLUP)] {
        if let Some(value) = schedule.get(from) {
            headers::push(&mut block, name, value);
        }
    }
    block.extend_from_slice(b"\r\n");
    PublishRecord {
        subject: Bytes::copy_from_slice(schedule.get(Name::ScheduleTarget).unwrap_or_default()),
        headers: Bytes::from(block),
        payload: content.1.clone(),
        timestamp: now,
    }
}

impl<S: Store> StreamMachine<S> {
    /// Takes in the schedules among the messages there are, when a stream begins to allow them.
    pub(super) fn find_schedules(&mut self) -> Result<(), StoreFailure> {
        let mut from = 0;
        while let Some(message) = self.store.next_match(&Filter::default(), from)? {
            from = message.seq + 1;
            let change = change_by(&PublishHeaders::scan(&message.headers), message.timestamp);
            self.schedules.change(&message.subject, message.seq, &change);
        }
        Ok(())
    }

    /// When a schedule is next due: time to propose what `due_schedules` gives.
    pub fn next_schedule(&self) -> Option<UnixNanos> {
        self.schedules.due.first().map(|(at, ..)| *at)
    }

    /// The schedules due at `now`, and what becomes of each. Asked by the leader, who proposes it.
    pub fn due_schedules(&self, now: UnixNanos) -> Vec<Firing> {
        let mut firings: Vec<Firing> = self
            .schedules
            .due
            .iter()
            .take_while(|(at, ..)| *at <= now)
            .take(FIRINGS_MAX)
            .map(|&(at, seq, _)| Firing { at, seq, action: self.action(seq, at, now) })
            .collect();
        firings.sort_by_key(|firing| firing.seq);
        firings
    }

    fn action(&self, seq: u64, at: UnixNanos, now: UnixNanos) -> FiringAction {
        let Ok(Lookup::Found(message)) = self.store.get(seq) else { return FiringAction::Drop };
        match next_of(&PublishHeaders::scan(&message.headers), at, now) {
            Ok(Some(Next::Once(_))) => FiringAction::Once,
            Ok(Some(Next::Repeating { at, text })) => FiringAction::Repeat { at, text },
            Ok(None) | Err(_) => FiringAction::Drop,
        }
    }

    /// Publishes what is due, unless it changed since the leader looked.
    pub(super) fn fire(&mut self, now: UnixNanos, firings: Vec<Firing>) -> Result<Outcome, StoreFailure> {
        let (mut outcomes, mut republished) = (Vec::new(), Vec::new());
        for firing in firings {
            let Some(subject) = self.schedules.subject_of(&firing) else { continue };
            match self.fired(&subject, &firing, now)? {
                Some(record) => outcomes.push(self.publish(record, Origin::Server, &mut republished)?),
                None => self.schedules.remove(&subject),
            }
            // Where nothing was stored that says so, the schedule goes on all the same.
            if self.schedules.subject_of(&firing).is_some() {
                match firing.action {
                    FiringAction::Repeat { at, .. } => self.schedules.set(&subject, firing.seq, at),
                    FiringAction::Once | FiringAction::Drop => self.schedules.remove(&subject),
                }
            }
        }
        Ok(Outcome::Published { outcomes, republished })
    }

    fn fired(
        &self,
        subject: &[u8],
        firing: &Firing,
        now: UnixNanos,
    ) -> Result<Option<PublishRecord>, StoreFailure> {
        let next = match &firing.action {
            FiringAction::Drop => return Ok(None),
            FiringAction::Once => names::SCHEDULE_NEXT_PURGE,
            FiringAction::Repeat { text, .. } => text,
        };
        let Lookup::Found(schedule) = self.store.get(firing.seq)? else { return Ok(None) };
        let headers = PublishHeaders::scan(&schedule.headers);
        let source = headers.get(Name::ScheduleSource).and_then(|source| self.store.subject_state(source));
        let source = match source {
            Some(state) => match self.store.get(state.last)? {
                Lookup::Found(message) => Some(message),
                Lookup::Missing | Lookup::Unreadable => None,
            },
            None => None,
        };
        let content = source.as_ref().unwrap_or(&schedule);
        Ok(Some(scheduled(&headers, subject, next, (&content.headers, &content.payload), now)))
    }
}

impl Schedules {
    /// The subject of a schedule that is still as the leader saw it.
    fn subject_of(&self, firing: &Firing) -> Option<Bytes> {
        let from = (firing.at, firing.seq, Bytes::new());
        let (at, seq, subject) = self.due.range(from..).next()?;
        (*at == firing.at && *seq == firing.seq).then(|| subject.clone())
    }
}
