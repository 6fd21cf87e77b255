//! The delivery task of a stream's leader: it feeds acknowledgements, pull requests and new messages to the machines
//! of the stream's consumers, sends what they want sent, and puts what they did into the stream's log, coalesced.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use weir_hub::{Account, OutboundMessage};
use weir_jetstream::{
    ConsumerDelivery, ConsumerDelta, ConsumerEvent, Effect, Progress, Setting, StopReason, StreamCommand,
    StreamMachine,
};
use weir_jsapi::{AckPolicy, ConsumerInfo, RetentionPolicy};
use weir_stdx::time::UnixNanos;

use super::input::{Input, no_responders};
use super::leader::StreamLeader;
use super::state::StreamState;
use super::store::StreamStore;
use crate::clock;
use crate::replicated::Replicated;

/// Inputs handled before the consumers are polled.
const INPUT_BATCH_MAX: usize = 1_024;
/// Messages one consumer may send before the others have their turn.
const POLL_BUDGET: usize = 256;
/// How long what consumers did may wait for more of it before it goes into the log.
const FLUSH_INTERVAL: Duration = Duration::from_millis(5);
/// Events that make it go at once.
const FLUSH_EVENTS: usize = 8_192;
/// The longest sleep without any timer.
const IDLE_SLEEP: Duration = Duration::from_secs(60);

/// One consumer served here.
struct Slot {
    delivery: ConsumerDelivery,
    /// Whether somebody listens on the deliver subject, of a push consumer.
    interest: Option<watch::Receiver<bool>>,
    watcher: Option<tokio::task::AbortHandle>,
    /// Among the `dirty` ones.
    dirty: bool,
    /// Its place among the `timers`.
    timer: Option<UnixNanos>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

/// The consumers served by a leader.
#[derive(Default)]
pub(crate) struct Deliveries {
    slots: FxHashMap<Arc<str>, Slot>,
    /// Those to be polled in the next round.
    dirty: Vec<Arc<str>>,
    /// When which of them has to be polled even if nothing else happens.
    timers: BTreeSet<(UnixNanos, Arc<str>)>,
    /// The set of consumers that `slots` was made for.
    revision: Option<u64>,
}

impl Deliveries {
    pub(crate) fn info(
        &mut self,
        name: &str,
        now: UnixNanos,
        machine: &StreamMachine<StreamStore>,
        account: &Arc<Account>,
    ) -> Option<ConsumerInfo> {
        let has_interest = |subject: &[u8]| account.has_interest(subject);
        match self.slots.get_mut(name) {
            Some(slot) => slot.delivery.info(now, machine, &has_interest),
            None => machine.consumer_info(name, now),
        }
    }

    /// CONSUMER.UNPIN: false when the consumer has no such group, `None` when there is no such consumer.
    pub(crate) fn unpin(&mut self, name: &str, group: &str) -> Option<bool> {
        self.slots.get_mut(name).map(|slot| slot.delivery.unpin(group))
    }

    pub(crate) fn is_bound(&self, name: &str) -> bool {
        self.slots.get(name).is_some_and(|slot| slot.delivery.is_bound())
    }

    pub(crate) fn stop(&mut self, reason: StopReason) -> Vec<Effect> {
        let mut effects = Vec::new();
        for slot in self.slots.values_mut() {
            slot.delivery.stop(reason, &mut effects);
        }
        self.slots.clear();
        self.timers.clear();
        effects
    }

    fn next_timer(&self) -> Option<UnixNanos> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Has a consumer polled in the next round.
    fn mark(&mut self, name: &Arc<str>) {
        if let Some(slot) = self.slots.get_mut(name)
            && !slot.dirty
        {
            slot.dirty = true;
            self.dirty.push(Arc::clone(name));
        }
    }

    /// Has those polled that could send a new message on.
    fn mark_hungry(&mut self) {
        for (name, slot) in &mut self.slots {
            if !slot.dirty && slot.delivery.is_hungry() {
                slot.dirty = true;
                self.dirty.push(Arc::clone(name));
            }
        }
    }

    fn mark_due(&mut self, now: UnixNanos) {
        let due: Vec<Arc<str>> =
            self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, name)| Arc::clone(name)).collect();
        for name in due {
            self.mark(&name);
        }
    }

    /// Notes when a consumer that was polled has to be polled again.
    fn set_timer(&mut self, name: &Arc<str>) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        let timer = slot.delivery.next_timer();
        if timer == slot.timer {
            return;
        }
        if let Some(at) = std::mem::replace(&mut slot.timer, timer) {
            self.timers.remove(&(at, Arc::clone(name)));
        }
        self.timers.extend(timer.map(|at| (at, Arc::clone(name))));
    }

    /// Drops the consumers that are no more; their waiting requests are told.
    fn retain(&mut self, exists: impl Fn(&str) -> bool, effects: &mut Vec<Effect>) {
        let timers = &mut self.timers;
        self.slots.retain(|name, slot| {
            let keep = exists(name);
            if !keep {
                slot.delivery.stop(StopReason::Deleted, effects);
                if let Some(at) = slot.timer {
                    timers.remove(&(at, Arc::clone(name)));
                }
            }
            keep
        });
    }
}

/// Gets the sequence a consumer went to, or why it may not.
pub(crate) type ResetAnswer = oneshot::Sender<Result<u64, String>>;

/// What consumers did and the log does not hold yet.
#[derive(Default)]
struct Outgoing {
    deltas: FxHashMap<Arc<str>, Vec<ConsumerEvent>>,
    events: usize,
    /// Acknowledgements to be confirmed once the events before them are committed.
    confirmations: Vec<Bytes>,
    /// Resets to be answered then.
    resets: Vec<(u64, ResetAnswer)>,
    since: Option<Instant>,
}

pub(crate) struct DeliveryTask {
    leader: Arc<StreamLeader>,
    replicated: Arc<Replicated<StreamState>>,
    inputs: mpsc::Sender<Input>,
    outgoing: Outgoing,
    /// A flush or an expiry is on its way; notified when it is done.
    flushed: Arc<Notify>,
    flushing: Arc<std::sync::atomic::AtomicBool>,
    expiring: Arc<std::sync::atomic::AtomicBool>,
    effects: Vec<Effect>,
    setting: Arc<Setting>,
}

impl DeliveryTask {
    pub(crate) fn new(
        leader: Arc<StreamLeader>,
        replicated: Arc<Replicated<StreamState>>,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        let context = &leader.context;
        let message_max = match replicated.lock().machine().config().max_msg_size {
            limit @ 1.. => u64::from(limit.unsigned_abs()),
            _ => u64::try_from(context.hub.limits().max_payload).unwrap_or(u64::MAX),
        };
        let setting = Setting {
            account: Arc::from(leader.account.name()),
            message_max,
            seed: context.rng.lock().next_u64(),
            subject_scope: context.subject_scope(leader.account.name()),
        };
        Self {
            setting: Arc::new(setting),
            leader,
            replicated,
            inputs,
            outgoing: Outgoing::default(),
            flushed: Arc::default(),
            flushing: Arc::default(),
            expiring: Arc::default(),
            effects: Vec::new(),
        }
    }

    /// Serves until aborted.
    pub(crate) async fn run(mut self, mut receiver: mpsc::Receiver<Input>) {
        let mut applied = self.replicated.applied_watch();
        applied.mark_changed();
        let mut batch = Vec::with_capacity(64);
        loop {
            let deadline = self.deadline();
            tokio::select! {
                received = receiver.recv_many(&mut batch, INPUT_BATCH_MAX) => {
                    if received == 0 {
                        return;
                    }
                }
                changed = applied.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.on_applied();
                }
                () = self.flushed.notified() => {}
                () = tokio::time::sleep_until(deadline) => self.on_timer(),
            }
            self.handle(&mut batch);
            while self.poll() == Progress::More {
                tokio::task::yield_now().await;
                while let Ok(input) = receiver.try_recv() {
                    batch.push(input);
                    if batch.len() >= INPUT_BATCH_MAX {
                        break;
                    }
                }
                self.handle(&mut batch);
                self.flush();
            }
            self.flush();
        }
    }

    /// When to wake without an input.
    fn deadline(&self) -> Instant {
        let now = clock::now();
        let timer = {
            let deliveries = self.leader.deliveries.lock();
            let expiry = self.replicated.lock().machine().next_expiry();
            let expiry = expiry.filter(|_| !self.expiring.load(std::sync::atomic::Ordering::Acquire));
            [deliveries.next_timer(), expiry].into_iter().flatten().min()
        };
        let sleep =
            timer.map_or(IDLE_SLEEP, |at| Duration::from_nanos(at.0.saturating_sub(now.0)).min(IDLE_SLEEP));
        let mut deadline = Instant::now() + sleep;
        if let Some(since) = self.outgoing.since
            && !self.flushing.load(std::sync::atomic::Ordering::Acquire)
        {
            deadline = deadline.min(since + FLUSH_INTERVAL);
        }
        deadline
    }

    /// The stream's content or its consumers may have changed.
    fn on_applied(&mut self) {
        let mut deliveries = self.leader.deliveries.lock();
        let state = self.replicated.lock();
        if deliveries.revision != Some(state.consumers_revision()) {
            self.reconcile(&mut deliveries, &state);
        }
        deliveries.mark_hungry();
    }

    /// Makes the served consumers those of the machine.
    fn reconcile(&self, deliveries: &mut Deliveries, state: &StreamState) {
        let now = clock::now();
        let machine = state.machine();
        let mut effects = Vec::new();
        deliveries.retain(|name| machine.consumer(name).is_some(), &mut effects);
        for (name, consumer) in machine.consumers() {
            match deliveries.slots.get_mut(name) {
                Some(slot) if Arc::ptr_eq(slot.delivery.config(), &consumer.config) => continue,
                Some(slot) => {
                    slot.delivery.update(consumer, now);
                    self.watch_interest(name, slot);
                }
                None => {
                    let delivery =
                        ConsumerDelivery::new(self.leader.name(), name, consumer, &self.setting, now);
                    let mut slot =
                        Slot { delivery, interest: None, watcher: None, dirty: false, timer: None };
                    self.watch_interest(name, &mut slot);
                    deliveries.slots.insert(Arc::clone(name), slot);
                }
            }
            deliveries.mark(name);
        }
        deliveries.revision = Some(state.consumers_revision());
        send_statuses(&self.leader.account, &effects);
    }

    /// Follows whether anybody listens on a push consumer's deliver subject.
    fn watch_interest(&self, name: &Arc<str>, slot: &mut Slot) {
        if let Some(watcher) = slot.watcher.take() {
            watcher.abort();
        }
        slot.interest = None;
        let config = slot.delivery.config();
        if !config.is_push() {
            return;
        }
        let group = (!config.deliver_group.is_empty()).then_some(config.deliver_group.as_str());
        let interest = self.leader.account.watch_listeners(&config.deliver_subject, group);
        slot.delivery.interest_changed(clock::now(), *interest.borrow());
        let mut changes = interest.clone();
        let (inputs, consumer) = (self.inputs.clone(), Arc::clone(name));
        let watcher = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                if inputs.send(Input::Interest { consumer: Arc::clone(&consumer) }).await.is_err() {
                    return;
                }
            }
        });
        slot.watcher = Some(watcher.abort_handle());
        slot.interest = Some(interest);
    }

    fn on_timer(&mut self) {
        let now = clock::now();
        self.leader.deliveries.lock().mark_due(now);
        let expired = self.replicated.lock().machine().next_expiry().is_some_and(|at| at <= now);
        if expired && !self.expiring.swap(true, std::sync::atomic::Ordering::AcqRel) {
            let (expiring, flushed) = (Arc::clone(&self.expiring), Arc::clone(&self.flushed));
            self.replicated.propose(StreamCommand::Expire { now }.encode(), move |_| {
                expiring.store(false, std::sync::atomic::Ordering::Release);
                flushed.notify_one();
            });
        }
    }

    fn handle(&mut self, batch: &mut Vec<Input>) {
        if batch.is_empty() {
            return;
        }
        let now = clock::now();
        let leader = Arc::clone(&self.leader);
        let mut deliveries = leader.deliveries.lock();
        let replicated = Arc::clone(&self.replicated);
        let state = replicated.lock();
        if deliveries.revision != Some(state.consumers_revision()) {
            self.reconcile(&mut deliveries, &state);
        }
        for input in batch.drain(..) {
            self.handle_one(now, &mut deliveries, &state, input);
        }
        drop(state);
        drop(deliveries);
        self.send();
    }

    fn handle_one(&mut self, now: UnixNanos, deliveries: &mut Deliveries, state: &StreamState, input: Input) {
        let account = &self.leader.account;
        let has_interest = |subject: &[u8]| account.has_interest(subject);
        let mut effects = std::mem::take(&mut self.effects);
        let begin = effects.len();
        let name = match input {
            Input::Ack(message) => {
                let parsed = weir_jsapi::subject::parse_ack(message.subject())
                    .filter(|ack| *ack.stream == **self.leader.name());
                let slot = parsed.and_then(|ack| Some((ack, deliveries.slots.get_mut(ack.consumer)?)));
                let slot = slot.filter(|(_, slot)| slot.delivery.takes_acks());
                if slot.is_none() {
                    effects.extend(no_responders(message.reply(), message.subject()));
                }
                slot.map(|(ack, slot)| {
                    let (machine, reply) = (state.machine(), message.reply());
                    let body = message.body();
                    slot.delivery.handle_ack(now, machine, &has_interest, &ack, body, reply, &mut effects);
                    Arc::clone(slot.delivery.name())
                })
            }
            Input::Next(message) => {
                let subject = message.subject();
                let consumer = subject.rsplit('.').next().unwrap_or_default();
                let slot = deliveries.slots.get_mut(consumer);
                if slot.is_none() {
                    effects.extend(no_responders(message.reply(), subject));
                }
                slot.zip(message.reply()).map(|(slot, reply)| {
                    let (machine, body) = (state.machine(), message.body());
                    let reply = Bytes::copy_from_slice(reply);
                    slot.delivery.handle_pull_request(
                        now,
                        machine,
                        &has_interest,
                        &reply,
                        body,
                        &mut effects,
                    );
                    Arc::clone(slot.delivery.name())
                })
            }
            Input::FlowControl { subject, headers } => {
                let text = String::from_utf8_lossy(&subject);
                let consumer = weir_jsapi::subject::flow_control_consumer(&text);
                deliveries.slots.get_mut(consumer).map(|slot| {
                    slot.delivery.handle_flow_control(now, &subject, &headers, &mut effects);
                    Arc::clone(slot.delivery.name())
                })
            }
            Input::Interest { consumer } => deliveries.slots.get_mut(&consumer).map(|slot| {
                let active = slot.interest.as_ref().is_some_and(|interest| *interest.borrow());
                slot.delivery.interest_changed(now, active);
                Arc::clone(slot.delivery.name())
            }),
            Input::Wake { consumer } => {
                deliveries.slots.get_mut(&*consumer).map(|slot| Arc::clone(slot.delivery.name()))
            }
            Input::Reset { consumer, seq, answer } => deliveries.slots.get_mut(&*consumer).map(|slot| {
                match slot.delivery.reset(state.machine(), seq, &mut effects) {
                    Ok(seq) => self.outgoing.resets.push((seq, answer)),
                    // Who asked may have given up.
                    Err(reason) => drop(answer.send(Err(reason.to_owned()))),
                }
                Arc::clone(slot.delivery.name())
            }),
        };
        self.effects = effects;
        if let Some(name) = name {
            deliveries.mark(&name);
            self.take_records(&name, begin, state);
        }
    }

    /// One round over the consumers that have something to do.
    fn poll(&mut self) -> Progress {
        let now = clock::now();
        let leader = Arc::clone(&self.leader);
        let replicated = Arc::clone(&self.replicated);
        let mut progress = Progress::Idle;
        {
            let mut deliveries = leader.deliveries.lock();
            let state = replicated.lock();
            let has_interest = |subject: &[u8]| leader.account.has_interest(subject);
            for name in std::mem::take(&mut deliveries.dirty) {
                let Some(slot) = deliveries.slots.get_mut(&name) else { continue };
                slot.dirty = false;
                let begin = self.effects.len();
                let result =
                    slot.delivery.poll(now, state.machine(), &has_interest, POLL_BUDGET, &mut self.effects);
                match result {
                    Ok(Progress::Idle) => {}
                    Ok(Progress::More) => {
                        progress = Progress::More;
                        deliveries.mark(&name);
                    }
                    Err(failure) => {
                        tracing::error!("stream {}: consumer {name}: {failure}", leader.name());
                    }
                }
                deliveries.set_timer(&name);
                self.take_records(&name, begin, &state);
            }
        }
        self.send();
        progress
    }

    /// Moves the events among the effects from `begin` on to what goes into the log.
    fn take_records(&mut self, name: &Arc<str>, begin: usize, state: &StreamState) {
        let mut inactive = false;
        let mut kept = begin;
        let Outgoing { deltas, events: count, confirmations, .. } = &mut self.outgoing;
        let first = self.effects[begin..].iter().find_map(|effect| match effect {
            Effect::Record(event) => Some(*event),
            _ => None,
        });
        let only_last =
            matches!(first, Some(ConsumerEvent::Delivered { .. })) && only_last_counts(name, state);
        let mut records = first.map(|_| deltas.entry(Arc::clone(name)).or_default());
        for at in begin..self.effects.len() {
            match &mut self.effects[at] {
                Effect::Record(event) => {
                    let Some(records) = &mut records else { continue };
                    match records.last_mut() {
                        Some(last)
                            if only_last
                                && matches!(last, ConsumerEvent::Delivered { .. })
                                && matches!(event, ConsumerEvent::Delivered { .. }) =>
                        {
                            *last = *event;
                        }
                        _ => {
                            records.push(*event);
                            *count += 1;
                        }
                    }
                }
                Effect::AckReply { to } => confirmations.push(std::mem::take(to)),
                Effect::Inactive => inactive = true,
                _ => {
                    self.effects.swap(kept, at);
                    kept += 1;
                }
            }
        }
        self.effects.truncate(kept);
        if *count > 0 || !confirmations.is_empty() || !self.outgoing.resets.is_empty() {
            self.outgoing.since.get_or_insert_with(Instant::now);
        }
        if inactive {
            self.delete_inactive(name);
        }
    }

    fn delete_inactive(&self, name: &Arc<str>) {
        let command = StreamCommand::DeleteConsumer { name: name.to_string() };
        if let Some(replica) = self.leader.replica() {
            replica.propose_quietly(&command, "deleting an inactive consumer");
            self.leader.context.consumer_action(&self.leader.account, self.leader.name(), name, "delete");
        }
    }

    /// Sends what the machines want sent.
    fn send(&mut self) {
        send_messages(&self.leader.account, &self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Advisory { subject, body } => {
                    self.leader.context.advisory(&self.leader.account, &subject, body)
                }
                Effect::Unreadable { stream_seq } => {
                    tracing::error!("stream {}: message {stream_seq} is unreadable", self.leader.name());
                }
                _ => {}
            }
        }
    }

    /// Puts what consumers did into the log, if it is time to.
    fn flush(&mut self) {
        let Some(since) = self.outgoing.since else { return };
        let urgent = !self.outgoing.confirmations.is_empty()
            || !self.outgoing.resets.is_empty()
            || self.outgoing.events >= FLUSH_EVENTS;
        if !urgent && since.elapsed() < FLUSH_INTERVAL {
            return;
        }
        // One at a time: what comes meanwhile is the next one.
        if self.flushing.swap(true, std::sync::atomic::Ordering::AcqRel) {
            return;
        }
        let outgoing = std::mem::take(&mut self.outgoing);
        let deltas: Vec<ConsumerDelta> = outgoing
            .deltas
            .into_iter()
            .map(|(name, events)| ConsumerDelta { name: name.to_string(), events })
            .collect();
        let account = Arc::clone(&self.leader.account);
        let (flushing, flushed) = (Arc::clone(&self.flushing), Arc::clone(&self.flushed));
        let (confirm, resets) = (outgoing.confirmations, outgoing.resets);
        let done = move |committed: bool| {
            if committed {
                for (seq, answer) in resets {
                    let _ = answer.send(Ok(seq));
                }
                account.publish_batch(
                    confirm.iter().map(|to| OutboundMessage { subject: to, ..OutboundMessage::default() }),
                );
            }
            flushing.store(false, std::sync::atomic::Ordering::Release);
            flushed.notify_one();
        };
        if deltas.is_empty() {
            return done(true);
        }
        let command = StreamCommand::ConsumerDeltas(deltas).encode();
        self.replicated.propose(command, move |result| done(result.is_ok()));
    }
}

/// Without acknowledgements only the last delivery says anything, unless each of them removes a message.
fn only_last_counts(name: &str, state: &StreamState) -> bool {
    let machine = state.machine();
    machine.config().retention == RetentionPolicy::Limits
        && machine.consumer(name).is_some_and(|consumer| consumer.config.ack_policy == AckPolicy::None)
}

/// Publishes deliveries and statuses, in order, waking each receiver once.
fn send_messages(account: &Arc<Account>, effects: &[Effect]) {
    let messages = effects.iter().filter_map(|effect| match effect {
        Effect::Deliver(delivery) => Some(OutboundMessage {
            subject: &delivery.subject,
            deliver_to: Some(&delivery.to),
            reply: Some(&delivery.reply),
            headers: &delivery.headers,
            payload: &delivery.payload,
        }),
        Effect::Status { to, reply, headers } => Some(OutboundMessage {
            subject: to,
            reply: reply.as_deref(),
            headers,
            ..OutboundMessage::default()
        }),
        _ => None,
    });
    account.publish_batch(messages);
}

/// Sends the statuses among the effects; nothing else is expected there.
pub(crate) fn send_statuses(account: &Arc<Account>, effects: &[Effect]) {
    send_messages(account, effects);
}
