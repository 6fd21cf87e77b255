//! The leader's delivery machine of one consumer. It starts from the replicated state, runs ahead of it on its own copy
//! and says what it did as [`Effect::Record`]; its owner replicates those. Its owner calls [`ConsumerDelivery::poll`]
//! after every input, when messages were stored, and when [`ConsumerDelivery::next_timer`] is due.
//!
//! Delivered messages may be sent before their record is replicated: a leader that dies in between sends them again.

mod ack;
mod ack_subject;
mod counter;
mod pace;
mod priority;
mod pull;
mod push;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use weir_jsapi::{AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, headers as names};
use weir_stdx::time::UnixNanos;

use super::{Candidate, ConsumerEvent, ConsumerState, Delivery, Effect, Pending, Position};
use crate::headers;
use crate::store::{Filter, Lookup, Store, StoreFailure, StoredMessage};
use crate::stream::{Consumer, StreamMachine};
use ack_subject::AckSubjects;
use counter::PendingCounter;
use pace::Pace;
use priority::{Demand, PinChange, Priorities};
use pull::PullRequests;
use push::Push;

/// Whether a poll left something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The budget is used up: poll again soon.
    More,
    /// Nothing to do before the next input, stored message or timer.
    Idle,
}

/// Why a consumer stops being served here; waiting requests are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    Deleted,
    LeadershipChange,
    ServerShutdown,
}

/// Why no further message can go out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stall {
    /// No message that matches.
    EndOfStream,
    /// `max_ack_pending` is reached.
    MaxAckPending,
    /// Nobody to send to, or no room in the flow-control window.
    NoReceiver,
    /// The message at hand is not due yet.
    Paced,
}

/// Where a consumer is served.
#[derive(Debug, Clone)]
pub struct Setting {
    pub account: Arc<str>,
    /// The largest message of the stream, bytes: the burst of a rate limit.
    pub message_max: u64,
    /// For the ids of pinned clients; differs from leader to leader.
    pub seed: u64,
    /// What the subjects of acknowledgements and flow control have before the stream's name: empty (version 1), or from
    /// [`subject_scope`] (version 2).
    pub subject_scope: Box<str>,
}

/// `<domain>.<hash of the account>.`: what version 2 of the subjects of acknowledgements and flow control begins with.
pub fn subject_scope(domain: Option<&str>, account: &str) -> Box<str> {
    format!("{}.{}.", domain.unwrap_or("_"), crate::sourcing::short_hash(account)).into_boxed_str()
}

/// A message found and not yet assigned to a receiver.
struct Next {
    message: StoredMessage,
    delivery_count: u64,
}

/// One consumer's delivery at its leader.
#[derive(Debug)]
pub struct ConsumerDelivery {
    stream: Arc<str>,
    name: Arc<str>,
    config: Arc<ConsumerConfig>,
    filter: Filter,
    state: ConsumerState,
    /// Next sequence to look at for new messages; may be ahead of the last delivery.
    cursor: u64,
    /// How far in the stream's removals pending messages were checked.
    removals_seen: u64,
    /// Recorded outside a poll; the next one hands it over.
    deferred: Vec<Effect>,
    /// Messages to be sent again, in order.
    redeliver: VecDeque<u64>,
    queued: BTreeSet<u64>,
    /// When each pending message is due for redelivery; those queued already are not here.
    deadlines: BTreeSet<(UnixNanos, u64)>,
    pull: PullRequests,
    push: Push,
    pace: Pace,
    replies: AckSubjects,
    counter: PendingCounter,
    setting: Arc<Setting>,
    /// Of the last request, ack or delivery; the inactive threshold counts from here.
    last_active: UnixNanos,
    inactive_reported: bool,
    /// Nothing is sent before this; unset once it is over.
    paused_until: Option<UnixNanos>,
}

impl ConsumerDelivery {
    /// Takes over a consumer: messages pending for longer than their wait are due at once.
    pub fn new(
        stream: &str,
        name: &Arc<str>,
        consumer: &Consumer,
        setting: &Arc<Setting>,
        now: UnixNanos,
    ) -> Self {
        let mut pull = PullRequests::default();
        pull.priorities = Priorities::new(setting.seed);
        pull.priorities.configure(&consumer.config);
        let scope = &setting.subject_scope;
        let flow_control = format!("{}{scope}{stream}.{name}.", weir_jsapi::subject::FLOW_CONTROL_PREFIX);
        let mut delivery = Self {
            stream: Arc::from(stream),
            name: Arc::clone(name),
            config: Arc::clone(&consumer.config),
            filter: consumer.filter.clone(),
            state: consumer.state.clone(),
            cursor: consumer.state.delivered.stream_seq + 1,
            removals_seen: 0,
            deferred: Vec::new(),
            redeliver: VecDeque::new(),
            queued: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            pull,
            push: Push::new(flow_control, &consumer.config, now),
            pace: Pace::new(&consumer.config, setting.message_max),
            replies: AckSubjects::new(scope, stream, name),
            setting: Arc::clone(setting),
            counter: PendingCounter::default(),
            last_active: now,
            inactive_reported: false,
            paused_until: pause_end(&consumer.config),
        };
        delivery.set_deadlines();
        delivery
    }

    /// When each pending message is due again, but for those that are queued already. Without a wait none is.
    fn set_deadlines(&mut self) {
        self.deadlines.clear();
        if self.config.ack_wait > 0 {
            let due = self.state.pending.iter().filter(|(seq, _)| !self.queued.contains(seq));
            self.deadlines = due.map(|(&seq, pending)| (self.deadline(pending), seq)).collect();
        }
    }

    /// Adopts a changed configuration; what is pending stays.
    pub fn update(&mut self, consumer: &Consumer, now: UnixNanos) {
        self.config = Arc::clone(&consumer.config);
        self.paused_until = pause_end(&consumer.config);
        self.filter = consumer.filter.clone();
        // Another filter may want what the old one passed over.
        self.cursor = self.state.delivered.stream_seq + 1;
        self.counter = PendingCounter::default();
        self.push.update(&consumer.config, now);
        self.pace.update(&consumer.config, self.setting.message_max);
        self.pull.priorities.configure(&consumer.config);
        self.set_deadlines();
        self.touch(now);
    }

    /// Lets another client of the group be pinned (CONSUMER.UNPIN). Poll afterwards. False: no such group.
    pub fn unpin(&mut self, group: &str) -> bool {
        let known = self.config.priority_groups.iter().any(|known| known == group);
        if known {
            self.pull.priorities.unpin(group);
        }
        known
    }

    /// Begins anew at a stream sequence, or with 0 after the last acknowledged one (CONSUMER.RESET). Gives the sequence,
    /// or why it may not be. Poll afterwards.
    pub fn reset<S: Store>(
        &mut self,
        machine: &StreamMachine<S>,
        seq: u64,
        out: &mut Vec<Effect>,
    ) -> Result<u64, &'static str> {
        let config = &self.config;
        let seq = match (seq, config.deliver_policy) {
            (0, _) => self.state.ack_floor.stream_seq + 1,
            (_, DeliverPolicy::All) => seq,
            (_, DeliverPolicy::ByStartSequence) if seq < config.opt_start_seq => {
                return Err("below start seq");
            }
            (_, DeliverPolicy::ByStartSequence) => seq,
            (_, DeliverPolicy::ByStartTime) if seq < machine.start_of(config) => {
                return Err("below start time");
            }
            (_, DeliverPolicy::ByStartTime) => seq,
            _ => return Err("not allowed"),
        };
        self.record(ConsumerEvent::Reset { stream_seq: seq }, out);
        self.redeliver.clear();
        self.queued.clear();
        self.deadlines.clear();
        self.cursor = seq;
        self.counter = PendingCounter::default();
        Ok(seq)
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn config(&self) -> &Arc<ConsumerConfig> {
        &self.config
    }

    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// True for a push consumer somebody listens to; its deliver subject must not change then.
    pub fn is_bound(&self) -> bool {
        self.config.is_push() && self.push.is_active()
    }

    /// True when a newly stored message could be sent on at once: worth a poll.
    pub fn is_hungry(&self) -> bool {
        if self.config.is_push() { self.push.is_active() } else { !self.pull.is_empty() }
    }

    /// Does what is due: redeliveries, expired requests, heartbeats, and up to `budget` deliveries.
    /// `has_interest` tells whether anybody subscribes to a request's inbox.
    pub fn poll<S: Store>(
        &mut self,
        now: UnixNanos,
        machine: &StreamMachine<S>,
        has_interest: &dyn Fn(&[u8]) -> bool,
        budget: usize,
        out: &mut Vec<Effect>,
    ) -> Result<Progress, StoreFailure> {
        self.paused_until = self.paused_until.filter(|&until| now < until);
        self.pull.priorities.expire(now);
        out.append(&mut self.deferred);
        self.drop_removed(now, machine, out)?;
        self.queue_due(now, machine, out)?;
        for _ in 0..budget {
            if let Err(stall) = self.deliver_one(now, machine, has_interest, out)? {
                self.settle(now, stall, has_interest, out);
                self.tell_pins(out);
                return Ok(Progress::Idle);
            }
        }
        Ok(if self.is_hungry() { Progress::More } else { Progress::Idle })
    }

    /// When to poll even if nothing else happens.
    pub fn next_timer(&self) -> Option<UnixNanos> {
        let redelivery = self.deadlines.first().map(|&(at, _)| at);
        let inputs = [self.pull.next_timer(), self.push.next_timer(), self.pace.next_timer()];
        let others = [redelivery, self.inactive_at(), self.paused_until];
        inputs.into_iter().chain(others).flatten().min()
    }

    /// Ends service; waiting pull requests are told why.
    pub fn stop(&mut self, reason: StopReason, out: &mut Vec<Effect>) {
        match reason {
            StopReason::Deleted => self.pull.stop("409 Consumer Deleted", false, out),
            StopReason::LeadershipChange => self.pull.stop("409 Leadership Change", false, out),
            StopReason::ServerShutdown => self.pull.stop("409 Server Shutdown", true, out),
        }
    }

    /// The replicated info with what only the leader knows.
    pub fn info<S: Store>(
        &mut self,
        now: UnixNanos,
        machine: &StreamMachine<S>,
        has_interest: &dyn Fn(&[u8]) -> bool,
    ) -> Option<ConsumerInfo> {
        let mut deferred = std::mem::take(&mut self.deferred);
        let _ = self.drop_removed(now, machine, &mut deferred);
        self.deferred = deferred;
        let mut info = machine.consumer_info(&self.name, now)?;
        info.num_ack_pending = self.state.pending.len() as u64;
        info.delivered.consumer_seq = self.state.delivered.consumer_seq;
        // What a mirror's or source's consumer passed over counts.
        let delivered = if self.config.direct { self.shown_position() } else { self.state.delivered };
        info.delivered.stream_seq = delivered.stream_seq;
        info.delivered.last_active = self.state.last_delivered_at.map(crate::stream::time);
        info.ack_floor.consumer_seq = self.state.ack_floor.consumer_seq;
        info.ack_floor.stream_seq = self.state.ack_floor.stream_seq;
        info.ack_floor.last_active = self.state.last_acked_at.map(crate::stream::time);
        info.num_redelivered =
            if self.config.max_deliver == 1 { 0 } else { self.state.num_redelivered() as u64 };
        info.num_pending = self.num_pending(machine);
        info.num_waiting = self.pull.count_live(now, has_interest) as u64;
        info.push_bound = self.config.is_push() && self.push.is_active();
        if let (Some(group), Some(pin)) = (info.priority_groups.first_mut(), self.pull.priorities.pin()) {
            (*pin.id).clone_into(&mut group.pinned_client_id);
            group.pinned_ts = crate::stream::time(pin.since);
        }
        Some(info)
    }

    /// Where delivery stands, as heartbeats tell it: what was passed over counts.
    fn shown_position(&self) -> Position {
        Position { stream_seq: self.cursor.saturating_sub(1), ..self.state.delivered }
    }

    /// Advisories about clients that were pinned or lost their pin.
    fn tell_pins(&mut self, out: &mut Vec<Effect>) {
        for change in std::mem::take(&mut self.pull.priorities.changes) {
            let (kind, name, group, key, value) = match &change {
                PinChange::Pinned { group, id } => {
                    ("PINNED", "consumer_group_pinned", group, "pinned_id", &**id)
                }
                PinChange::Unpinned { group, reason } => {
                    ("UNPINNED", "consumer_group_unpinned", group, "reason", *reason)
                }
            };
            let mut effect = self.advisory(kind, name, &[]);
            if let Effect::Advisory { body, .. } = &mut effect {
                body.insert("account".to_owned(), (*self.setting.account).into());
                body.insert("group".to_owned(), (**group).into());
                body.insert(key.to_owned(), value.into());
            }
            out.push(effect);
        }
    }

    /// Messages not delivered yet.
    pub fn num_pending<S: Store>(&mut self, machine: &StreamMachine<S>) -> u64 {
        self.counter.value(machine, &self.filter, &self.state, self.cursor)
    }

    /// True when no events are needed to rebuild this: no requests wait and no timers run. Such a delivery may be
    /// dropped and made anew when its consumer is used again.
    pub fn is_dormant(&self) -> bool {
        self.pull.is_empty() && !self.push.is_active() && self.next_timer().is_none()
    }

    fn touch(&mut self, now: UnixNanos) {
        self.last_active = self.last_active.max(now);
        self.inactive_reported = false;
    }

    fn record(&mut self, event: ConsumerEvent, out: &mut Vec<Effect>) {
        self.state.apply(self.config.ack_policy, event, &mut Vec::new());
        out.push(Effect::Record(event));
    }

    fn inactive_at(&self) -> Option<UnixNanos> {
        let threshold =
            u64::try_from(self.config.inactive_threshold).ok().filter(|&threshold| threshold > 0)?;
        let in_use = self.inactive_reported
            || if self.config.is_push() { self.push.is_active() } else { !self.pull.is_empty() };
        (!in_use).then(|| UnixNanos(self.last_active.0.saturating_add(threshold)))
    }

    /// How long a message delivered this often may stay unacknowledged, nanoseconds.
    fn ack_wait(&self, delivery_count: u64) -> u64 {
        let backoff = &self.config.backoff;
        let index = usize::try_from(delivery_count.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = backoff.get(index.min(backoff.len().wrapping_sub(1))).unwrap_or(&self.config.ack_wait);
        u64::try_from(*wait).unwrap_or(0)
    }

    fn deadline(&self, pending: &Pending) -> UnixNanos {
        UnixNanos(pending.delivered_at.0.saturating_add(self.ack_wait(pending.delivery_count)))
    }

    /// Notes when a pending message is due again; without a wait it never is.
    fn schedule(&mut self, seq: u64) {
        if self.config.ack_wait > 0
            && let Some(pending) = self.state.pending.get(&seq)
        {
            self.deadlines.insert((self.deadline(pending), seq));
        }
    }

    fn forget_deadline(&mut self, seq: u64) {
        if let Some(pending) = self.state.pending.get(&seq) {
            let deadline = self.deadline(pending);
            self.deadlines.remove(&(deadline, seq));
        }
    }

    fn unqueue(&mut self, seq: u64) {
        if self.queued.remove(&seq) {
            self.redeliver.retain(|&entry| entry != seq);
        }
    }

    /// Stops waiting for acks of messages that left the stream.
    fn drop_removed<S: Store>(
        &mut self,
        now: UnixNanos,
        machine: &StreamMachine<S>,
        out: &mut Vec<Effect>,
    ) -> Result<(), StoreFailure> {
        let position = machine.removals().position();
        if position == self.removals_seen {
            return Ok(());
        }
        let seen = std::mem::replace(&mut self.removals_seen, position);
        self.adopt_purge(now, machine, out);
        if self.state.pending.is_empty() && self.state.exhausted.is_empty() {
            return Ok(());
        }
        let gone: Vec<u64> = match machine.removals().since(seen) {
            Some(removals) => {
                let tracked =
                    |seq: &u64| self.state.pending.contains_key(seq) || self.state.exhausted.contains(seq);
                removals.filter(tracked).collect()
            }
            None => self.missing_pending(machine)?,
        };
        for seq in gone {
            self.unqueue(seq);
            self.forget_deadline(seq);
            self.record(ConsumerEvent::Dropped { stream_seq: seq, at: now }, out);
        }
        Ok(())
    }

    /// Otherwise ahead of the replicas, the leader is behind them after a purge, which moves all consumers on.
    fn adopt_purge<S: Store>(&mut self, now: UnixNanos, machine: &StreamMachine<S>, out: &mut Vec<Effect>) {
        let Some(replicated) = machine.consumer(&self.name) else { return };
        let purged_to = replicated.state.purged_to;
        if purged_to <= self.state.purged_to {
            return;
        }
        let gone: Vec<u64> = self.state.pending.range(..=purged_to).map(|(&seq, _)| seq).collect();
        let last = gone.last().copied();
        for seq in gone {
            self.unqueue(seq);
            self.forget_deadline(seq);
        }
        self.state.purged_below(purged_to + 1);
        self.cursor = self.cursor.max(purged_to + 1);
        if let Some(last) = last {
            self.record(ConsumerEvent::Dropped { stream_seq: last, at: now }, out);
        }
    }

    /// Pending messages that are not in the store. With many pending only those below its first are looked for:
    /// the others show when they are due again.
    fn missing_pending<S: Store>(&self, machine: &StreamMachine<S>) -> Result<Vec<u64>, StoreFailure> {
        const LOOKUPS_MAX: usize = 64;
        let first_seq = machine.store().first_seq();
        let few = self.state.pending.len() + self.state.exhausted.len() <= LOOKUPS_MAX;
        let mut missing = Vec::new();
        for &seq in self.state.pending.keys().chain(&self.state.exhausted) {
            if seq < first_seq || (few && machine.store().get(seq)? == Lookup::Missing) {
                missing.push(seq);
            }
        }
        Ok(missing)
    }

    /// Moves messages whose wait is over to the redelivery queue, or gives them up.
    fn queue_due<S: Store>(
        &mut self,
        now: UnixNanos,
        machine: &StreamMachine<S>,
        out: &mut Vec<Effect>,
    ) -> Result<(), StoreFailure> {
        let later = self.deadlines.split_off(&(UnixNanos(now.0.saturating_add(1)), 0));
        let mut due: Vec<u64> =
            std::mem::replace(&mut self.deadlines, later).into_iter().map(|(_, seq)| seq).collect();
        due.sort_unstable();
        let first_seq = if due.is_empty() { 0 } else { machine.store().first_seq() };
        for seq in due {
            let Some(pending) = self.state.pending.get(&seq).copied() else { continue };
            if seq < first_seq {
                self.record(ConsumerEvent::Dropped { stream_seq: seq, at: now }, out);
            } else if self.is_exhausted(pending.delivery_count) {
                self.give_up(seq, pending.delivery_count, out);
            } else if self.queued.insert(seq) {
                self.redeliver.push_back(seq);
            }
        }
        Ok(())
    }

    fn is_exhausted(&self, delivery_count: u64) -> bool {
        u64::try_from(self.config.max_deliver).is_ok_and(|limit| limit > 0 && delivery_count >= limit)
    }

    fn give_up(&mut self, seq: u64, delivery_count: u64, out: &mut Vec<Effect>) {
        self.unqueue(seq);
        self.forget_deadline(seq);
        self.record(ConsumerEvent::Exhausted { stream_seq: seq }, out);
        out.push(self.advisory(
            "MAX_DELIVERIES",
            "max_deliver",
            &[("stream_seq", seq), ("deliveries", delivery_count)],
        ));
    }

    /// An advisory about this consumer: `kind` is in the subject, `name` in the type.
    fn advisory(&self, kind: &str, name: &str, numbers: &[(&str, u64)]) -> Effect {
        let mut body = serde_json::Map::new();
        body.insert("type".to_owned(), format!("io.nats.jetstream.advisory.v1.{name}").into());
        body.insert("stream".to_owned(), (*self.stream).into());
        body.insert("consumer".to_owned(), (*self.name).into());
        for (key, value) in numbers {
            body.insert((*key).to_owned(), (*value).into());
        }
        let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.{kind}.{}.{}", self.stream, self.name);
        Effect::Advisory { subject, body }
    }

    /// One delivery, or why there is none.
    fn deliver_one<S: Store>(
        &mut self,
        now: UnixNanos,
        machine: &StreamMachine<S>,
        has_interest: &dyn Fn(&[u8]) -> bool,
        out: &mut Vec<Effect>,
    ) -> Result<Result<(), Stall>, StoreFailure> {
        let ready = if self.config.is_push() { self.push.has_room() } else { !self.pull.is_empty() };
        if !ready || self.paused_until.is_some() {
            return Ok(Err(Stall::NoReceiver));
        }
        if self.pace.waits_until(now).is_some() {
            return Ok(Err(Stall::Paced));
        }
        let next = match self.next_message(now, machine, out)? {
            Ok(next) => next,
            Err(stall) => return Ok(Err(stall)),
        };
        let Next { message, delivery_count } = next;
        let timestamp = message.timestamp;
        let pending = self.num_pending(machine);
        let pending_after = if delivery_count == 1 { pending.saturating_sub(1) } else { pending };
        let delivery = self.prepare(message, delivery_count, pending_after);
        let framing = delivery.reply.len() + delivery.headers.len() + delivery.payload.len();
        let size = delivery.subject.len() + framing;
        if self.pace.holds(now, || machine.store().last_seq(), timestamp, size) {
            self.put_back(delivery.stream_seq, delivery_count);
            return Ok(Err(Stall::Paced));
        }
        if self.config.is_push() {
            let to = self.push.deliver_subject.clone();
            let size = to.len() + framing;
            self.send(now, delivery_count, Delivery { to, ..delivery }, out);
            self.push_sent(now, size, out);
        } else {
            let demand = Demand { pending: pending_after + 1, ack_pending: self.state.pending.len() as u64 };
            let Some(taken) = self.pull.take(now, size, demand, has_interest, out) else {
                self.put_back(delivery.stream_seq, delivery_count);
                return Ok(Err(Stall::NoReceiver));
            };
            let mut delivery = Delivery { to: taken.reply.clone(), ..delivery };
            if let Some(pin) = &taken.pin {
                delivery.headers = headers::with(&delivery.headers, names::PIN_ID, pin);
            }
            self.send(now, delivery_count, delivery, out);
            taken.finish(out);
        }
        self.pace.sent(timestamp);
        Ok(Ok(()))
    }

    /// The message at hand found no receiver; a new one is found again by the cursor.
    fn put_back(&mut self, seq: u64, delivery_count: u64) {
        if delivery_count > 1 {
            self.redeliver.push_front(seq);
            self.queued.insert(seq);
        }
    }

    /// The next message to send: redeliveries first, then new ones if `max_ack_pending` allows.
    fn next_message<S: Store>(
        &mut self,
        now: UnixNanos,
        machine: &StreamMachine<S>,
        out: &mut Vec<Effect>,
    ) -> Result<Result<Next, Stall>, StoreFailure> {
        while let Some(seq) = self.redeliver.pop_front() {
            self.queued.remove(&seq);
            let Some(pending) = self.state.pending.get(&seq).copied() else { continue };
            if self.is_exhausted(pending.delivery_count) {
                self.give_up(seq, pending.delivery_count, out);
                continue;
            }
            match machine.store().get(seq)? {
                Lookup::Found(message) => {
                    return Ok(Ok(Next { message, delivery_count: pending.delivery_count + 1 }));
                }
                Lookup::Missing => self.record(ConsumerEvent::Dropped { stream_seq: seq, at: now }, out),
                Lookup::Unreadable => {
                    // Not lost: it may be repaired by the time its wait is over again.
                    self.deadlines.insert((self.deadline(&pending), seq));
                    out.push(Effect::Unreadable { stream_seq: seq });
                }
            }
        }
        let limit = u64::try_from(self.config.max_ack_pending).unwrap_or(0);
        if limit > 0 && self.state.pending.len() as u64 >= limit && self.config.ack_policy != AckPolicy::None
        {
            return Ok(Err(Stall::MaxAckPending));
        }
        self.next_new(machine, out)
    }

    fn next_new<S: Store>(
        &mut self,
        machine: &StreamMachine<S>,
        out: &mut Vec<Effect>,
    ) -> Result<Result<Next, Stall>, StoreFailure> {
        let store = machine.store();
        let last_seq = store.last_seq();
        loop {
            let found = match self.state.candidate(self.cursor) {
                Candidate::Exactly(seq) => match store.get(seq)? {
                    Lookup::Found(message) => Ok(Some(message)),
                    Lookup::Missing => {
                        self.cursor = seq + 1;
                        continue;
                    }
                    Lookup::Unreadable => Err(StoreFailure::Unreadable { seq }),
                },
                Candidate::From(from) if from > last_seq => Ok(None),
                Candidate::From(from) => store.next_match(&self.filter, from),
            };
            match found {
                Ok(Some(message)) => return Ok(Ok(Next { message, delivery_count: 1 })),
                Ok(None) => {
                    self.cursor = self.cursor.max(last_seq + 1);
                    return Ok(Err(Stall::EndOfStream));
                }
                Err(StoreFailure::Unreadable { seq }) => {
                    out.push(Effect::Unreadable { stream_seq: seq });
                    self.cursor = seq + 1;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn prepare(&mut self, message: StoredMessage, delivery_count: u64, pending: u64) -> Delivery {
        let StoredMessage { seq, timestamp, subject, mut headers, mut payload } = message;
        if self.config.headers_only {
            headers = headers::with(&headers, names::MSG_SIZE, &payload.len().to_string());
            payload = Bytes::new();
        }
        let consumer_seq = self.state.delivered.consumer_seq + 1;
        let reply = self.replies.write(&[delivery_count, seq, consumer_seq, timestamp.0, pending]);
        Delivery { to: Bytes::new(), subject, reply, headers, payload, stream_seq: seq }
    }

    fn send(&mut self, now: UnixNanos, delivery_count: u64, delivery: Delivery, out: &mut Vec<Effect>) {
        let stream_seq = delivery.stream_seq;
        let consumer_seq = self.state.delivered.consumer_seq + 1;
        self.forget_deadline(stream_seq);
        if delivery_count == 1 {
            self.cursor = stream_seq + 1;
            self.counter.delivered(stream_seq);
        }
        self.record(ConsumerEvent::Delivered { stream_seq, consumer_seq, delivery_count, at: now }, out);
        self.schedule(stream_seq);
        self.touch(now);
        out.push(Effect::Deliver(delivery));
    }

    /// Nothing more goes out now: expire requests, send heartbeats, notice inactivity.
    fn settle(
        &mut self,
        now: UnixNanos,
        stall: Stall,
        has_interest: &dyn Fn(&[u8]) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let had_requests = !self.pull.is_empty();
        let ends_one_shots = !matches!(stall, Stall::MaxAckPending | Stall::Paced);
        self.pull.expire(now, ends_one_shots, self.shown_position(), has_interest, out);
        if had_requests && self.pull.is_empty() {
            self.touch(now);
        }
        self.push_beat(now, out);
        if stall != Stall::Paced {
            self.pace.idle(self.cursor);
        }
        if self.inactive_at().is_some_and(|at| at <= now) {
            self.inactive_reported = true;
            out.push(Effect::Inactive);
        }
    }
}

fn pause_end(config: &ConsumerConfig) -> Option<UnixNanos> {
    let nanos = config.pause_until?.unix_nanos()?;
    u64::try_from(nanos).ok().map(UnixNanos)
}

#[cfg(test)]
mod tests;
