//! The delivery task of a stream's leader: it feeds acknowledgements, pull requests and new messages to the machines
//! of the stream's consumers, sends what they want sent, and puts what they did into the stream's log, coalesced.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use weir_hub::{Account, Inbound, OutboundMessage};
use weir_jetstream::{
    ConsumerDelivery, ConsumerDelta, ConsumerEvent, Effect, Progress, StopReason, StreamCommand,
    StreamMachine,
};
use weir_jsapi::{AckPolicy, ConsumerInfo, RetentionPolicy};
use weir_stdx::time::UnixNanos;

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

/// Something a client sent to one of the stream's consumers.
pub(crate) enum Input {
    Ack {
        subject: String,
        body: Bytes,
        reply: Option<Bytes>,
    },
    Next {
        consumer: String,
        body: Bytes,
        reply: Bytes,
    },
    FlowControl {
        subject: Bytes,
    },
    /// Somebody began or ceased to listen on a push consumer's deliver subject.
    Interest {
        consumer: Arc<str>,
    },
}

impl Input {
    pub(crate) fn ack(message: &Inbound<'_>) -> Option<Self> {
        Some(Self::Ack {
            subject: std::str::from_utf8(message.subject).ok()?.to_owned(),
            body: Bytes::copy_from_slice(message.payload),
            reply: message.reply.map(Bytes::copy_from_slice),
        })
    }

    pub(crate) fn next(message: &Inbound<'_>) -> Option<Self> {
        let subject = std::str::from_utf8(message.subject).ok()?;
        Some(Self::Next {
            consumer: subject.rsplit('.').next()?.to_owned(),
            body: Bytes::copy_from_slice(message.payload),
            reply: Bytes::copy_from_slice(message.reply?),
        })
    }

    pub(crate) fn flow_control(message: &Inbound<'_>) -> Option<Self> {
        Some(Self::FlowControl { subject: Bytes::copy_from_slice(message.subject) })
    }
}

/// One consumer served here.
struct Slot {
    delivery: ConsumerDelivery,
    /// Whether somebody listens on the deliver subject, of a push consumer.
    interest: Option<watch::Receiver<bool>>,
    watcher: Option<tokio::task::AbortHandle>,
    /// To be polled in this round.
    dirty: bool,
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

    pub(crate) fn is_bound(&self, name: &str) -> bool {
        self.slots.get(name).is_some_and(|slot| slot.delivery.is_bound())
    }

    pub(crate) fn stop(&mut self, reason: StopReason) -> Vec<Effect> {
        let mut effects = Vec::new();
        for slot in self.slots.values_mut() {
            slot.delivery.stop(reason, &mut effects);
        }
        self.slots.clear();
        effects
    }

    fn next_timer(&self) -> Option<UnixNanos> {
        self.slots.values().filter_map(|slot| slot.delivery.next_timer()).min()
    }
}

/// What consumers did and the log does not hold yet.
#[derive(Default)]
struct Outgoing {
    deltas: FxHashMap<Arc<str>, Vec<ConsumerEvent>>,
    events: usize,
    /// Acknowledgements to be confirmed once the events before them are committed.
    confirmations: Vec<Bytes>,
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
}

impl DeliveryTask {
    pub(crate) fn new(
        leader: Arc<StreamLeader>,
        replicated: Arc<Replicated<StreamState>>,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        Self {
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
        for slot in deliveries.slots.values_mut() {
            slot.dirty |= slot.delivery.is_hungry();
        }
    }

    /// Makes the served consumers those of the machine.
    fn reconcile(&self, deliveries: &mut Deliveries, state: &StreamState) {
        let now = clock::now();
        let machine = state.machine();
        let mut effects = Vec::new();
        deliveries.slots.retain(|name, slot| {
            let keep = machine.consumer(name).is_some();
            if !keep {
                slot.delivery.stop(StopReason::Deleted, &mut effects);
            }
            keep
        });
        for (name, consumer) in machine.consumers() {
            match deliveries.slots.get_mut(name) {
                Some(slot) if Arc::ptr_eq(slot.delivery.config(), &consumer.config) => {}
                Some(slot) => {
                    slot.delivery.update(consumer, now);
                    self.watch_interest(name, slot);
                    slot.dirty = true;
                }
                None => {
                    let delivery = ConsumerDelivery::new(self.leader.name(), name, consumer, now);
                    let mut slot = Slot { delivery, interest: None, watcher: None, dirty: true };
                    self.watch_interest(name, &mut slot);
                    deliveries.slots.insert(Arc::clone(name), slot);
                }
            }
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
        let interest = self.leader.account.watch_interest(&config.deliver_subject);
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
        let mut deliveries = self.leader.deliveries.lock();
        for slot in deliveries.slots.values_mut() {
            slot.dirty |= slot.delivery.next_timer().is_some_and(|at| at <= now);
        }
        drop(deliveries);
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
            Input::Ack { subject, body, reply } => {
                let parsed = weir_jsapi::subject::parse_ack(&subject);
                let slot = parsed
                    .filter(|ack| *ack.stream == **self.leader.name())
                    .and_then(|ack| Some((ack, deliveries.slots.get_mut(ack.consumer)?)));
                slot.map(|(ack, slot)| {
                    slot.dirty = true;
                    let machine = state.machine();
                    slot.delivery.handle_ack(
                        now,
                        machine,
                        &has_interest,
                        &ack,
                        &body,
                        reply.as_ref(),
                        &mut effects,
                    );
                    Arc::clone(slot.delivery.name())
                })
            }
            Input::Next { consumer, body, reply } => {
                let slot = deliveries.slots.get_mut(consumer.as_str());
                if slot.is_none() {
                    // What the hub says where nobody listens.
                    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", self.leader.name());
                    let headers = Bytes::from(format!("NATS/1.0 503\r\nNats-Subject: {subject}\r\n\r\n"));
                    effects.push(Effect::Status { to: reply.clone(), reply: None, headers });
                }
                slot.map(|slot| {
                    slot.dirty = true;
                    let machine = state.machine();
                    slot.delivery.handle_pull_request(
                        now,
                        machine,
                        &has_interest,
                        &reply,
                        &body,
                        &mut effects,
                    );
                    Arc::clone(slot.delivery.name())
                })
            }
            Input::FlowControl { subject } => {
                let text = String::from_utf8_lossy(&subject);
                let consumer = text.split('.').nth(3).unwrap_or_default();
                deliveries.slots.get_mut(consumer).map(|slot| {
                    slot.dirty = true;
                    slot.delivery.handle_flow_control(&subject);
                    Arc::clone(slot.delivery.name())
                })
            }
            Input::Interest { consumer } => deliveries.slots.get_mut(&consumer).map(|slot| {
                slot.dirty = true;
                let active = slot.interest.as_ref().is_some_and(|interest| *interest.borrow());
                slot.delivery.interest_changed(now, active);
                Arc::clone(slot.delivery.name())
            }),
        };
        self.effects = effects;
        if let Some(name) = name {
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
            for (name, slot) in &mut deliveries.slots {
                if !slot.dirty {
                    continue;
                }
                let begin = self.effects.len();
                let result =
                    slot.delivery.poll(now, state.machine(), &has_interest, POLL_BUDGET, &mut self.effects);
                match result {
                    Ok(Progress::More) => progress = Progress::More,
                    Ok(Progress::Idle) => slot.dirty = false,
                    Err(failure) => {
                        slot.dirty = false;
                        tracing::error!("stream {}: consumer {name}: {failure}", leader.name());
                    }
                }
                self.take_records(name, begin, &state);
            }
        }
        self.send();
        progress
    }

    /// Moves the events among the effects from `begin` on to what goes into the log.
    fn take_records(&mut self, name: &Arc<str>, begin: usize, state: &StreamState) {
        let mut inactive = false;
        let mut records = Vec::new();
        let mut kept = begin;
        for at in begin..self.effects.len() {
            match &mut self.effects[at] {
                Effect::Record(event) => records.push(*event),
                Effect::AckReply { to } => self.outgoing.confirmations.push(std::mem::take(to)),
                Effect::Inactive => inactive = true,
                _ => {
                    self.effects.swap(kept, at);
                    kept += 1;
                }
            }
        }
        self.effects.truncate(kept);
        if !self.outgoing.confirmations.is_empty() || !records.is_empty() {
            self.outgoing.since.get_or_insert_with(Instant::now);
        }
        if !records.is_empty() {
            self.record(name, records, state);
        }
        if inactive {
            self.delete_inactive(name);
        }
    }

    fn record(&mut self, name: &Arc<str>, records: Vec<ConsumerEvent>, state: &StreamState) {
        let machine = state.machine();
        // Without acknowledgements only the last delivery says anything, unless each of them removes a message.
        let only_last = machine.config().retention == RetentionPolicy::Limits
            && machine.consumer(name).is_some_and(|consumer| consumer.config.ack_policy == AckPolicy::None);
        let events = self.outgoing.deltas.entry(Arc::clone(name)).or_default();
        for event in records {
            match (events.last_mut(), &event) {
                (Some(last @ ConsumerEvent::Delivered { .. }), ConsumerEvent::Delivered { .. })
                    if only_last =>
                {
                    *last = event;
                }
                _ => {
                    events.push(event);
                    self.outgoing.events += 1;
                }
            }
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
        let urgent = !self.outgoing.confirmations.is_empty() || self.outgoing.events >= FLUSH_EVENTS;
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
        let confirm = outgoing.confirmations;
        let done = move |committed: bool| {
            if committed {
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
