//! The part of a consumer that is replicated: how far it delivered, what waits for an ack. Changed only by events.

use std::collections::{BTreeMap, BTreeSet};

use weir_jsapi::AckPolicy;
use weir_stdx::time::UnixNanos;

/// A pair of sequences: the consumer's own count of deliveries, and the stream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub consumer_seq: u64,
    pub stream_seq: u64,
}

/// A message delivered and not yet acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Of its first delivery.
    pub consumer_seq: u64,
    /// Of its last delivery (or the last sign of progress).
    pub delivered_at: UnixNanos,
    /// How often it was delivered, from 1.
    pub delivery_count: u64,
}

/// Where the next new message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// At this sequence, if it still exists.
    Exactly(u64),
    /// The first match at or after this sequence.
    From(u64),
}

/// What happened to a consumer, in the order it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// A message was sent, for the `delivery_count`th time.
    Delivered { stream_seq: u64, consumer_seq: u64, delivery_count: u64, at: UnixNanos },
    /// A message is done with (+ACK or +TERM); under ack policy `all` everything up to it.
    Acked { stream_seq: u64, at: UnixNanos },
    /// The client is still at work on a message.
    InProgress { stream_seq: u64, at: UnixNanos },
    /// A pending message is gone from the stream.
    Dropped { stream_seq: u64, at: UnixNanos },
    /// `max_deliver` is used up: the message is not sent again, and an interest or work queue stream keeps it.
    Exhausted { stream_seq: u64 },
    /// The consumer begins anew at this stream sequence; nothing is pending.
    Reset { stream_seq: u64 },
}

/// Replicated state of a consumer.
///
/// Invariants: `ack_floor <= delivered`; every pending sequence is above `ack_floor.stream_seq` and at most
/// `delivered.stream_seq`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerState {
    /// The last delivery.
    pub delivered: Position,
    /// Everything up to here is acknowledged or gone.
    pub ack_floor: Position,
    /// By stream sequence.
    pub pending: BTreeMap<u64, Pending>,
    /// Messages whose deliveries are used up without an ack.
    pub exhausted: BTreeSet<u64>,
    /// Start at the last message of every subject: these sequences come first, ascending; then those from
    /// `resume_at`. Empty for the other deliver policies.
    pub skip_list: Vec<u64>,
    pub resume_at: u64,
    /// The last sequence that a purge took.
    pub purged_to: u64,
    pub last_delivered_at: Option<UnixNanos>,
    pub last_acked_at: Option<UnixNanos>,
}

impl ConsumerState {
    /// A consumer that will look at `first_stream_seq` first.
    pub fn starting_at(first_stream_seq: u64) -> Self {
        let start = Position { consumer_seq: 0, stream_seq: first_stream_seq.saturating_sub(1) };
        Self { delivered: start, ack_floor: start, ..Self::default() }
    }

    /// How many messages were sent more than once, or in vain.
    pub fn num_redelivered(&self) -> usize {
        self.exhausted.len() + self.pending.values().filter(|pending| pending.delivery_count > 1).count()
    }

    /// True when the consumer, whose filter passes the message, still has to see or acknowledge it.
    pub fn needs(&self, stream_seq: u64) -> bool {
        stream_seq > self.delivered.stream_seq
            || self.pending.contains_key(&stream_seq)
            || self.exhausted.contains(&stream_seq)
    }

    /// Carries out one event; returns the sequences that are done with now (for retention by interest and work
    /// queues). Events about things that are not there change nothing: the log may hold late ones.
    pub fn apply(&mut self, policy: AckPolicy, event: ConsumerEvent, done: &mut Vec<u64>) {
        match event {
            ConsumerEvent::Delivered { stream_seq, consumer_seq, delivery_count, at } => {
                self.delivered_one(policy, stream_seq, consumer_seq, delivery_count, at, done);
            }
            ConsumerEvent::Acked { stream_seq, at } => {
                self.last_acked_at = Some(at);
                self.acked(policy, stream_seq, done);
            }
            ConsumerEvent::InProgress { stream_seq, at } => {
                if let Some(pending) = self.pending.get_mut(&stream_seq) {
                    pending.delivered_at = at;
                }
            }
            ConsumerEvent::Dropped { stream_seq, at } => {
                self.last_acked_at = Some(at);
                self.forget(stream_seq);
            }
            ConsumerEvent::Exhausted { stream_seq } => {
                // The floor stays: nobody acknowledged the message (as in nats-server).
                if self.pending.remove(&stream_seq).is_some() {
                    self.exhausted.insert(stream_seq);
                }
            }
            ConsumerEvent::Reset { stream_seq } => {
                let start = Position { consumer_seq: 0, stream_seq: stream_seq.saturating_sub(1) };
                *self = Self {
                    delivered: start,
                    ack_floor: start,
                    skip_list: std::mem::take(&mut self.skip_list),
                    resume_at: self.resume_at,
                    purged_to: self.purged_to,
                    ..Self::default()
                };
            }
        }
    }

    fn delivered_one(
        &mut self,
        policy: AckPolicy,
        stream_seq: u64,
        consumer_seq: u64,
        delivery_count: u64,
        at: UnixNanos,
        done: &mut Vec<u64>,
    ) {
        self.last_delivered_at = Some(at);
        self.delivered.consumer_seq = self.delivered.consumer_seq.max(consumer_seq);
        let is_new = stream_seq > self.delivered.stream_seq;
        self.delivered.stream_seq = self.delivered.stream_seq.max(stream_seq);
        if policy == AckPolicy::None {
            self.ack_floor = self.delivered;
            done.push(stream_seq);
            return;
        }
        if let Some(pending) = self.pending.get_mut(&stream_seq) {
            pending.delivered_at = at;
            pending.delivery_count = pending.delivery_count.max(delivery_count);
        } else if is_new {
            self.pending.insert(stream_seq, Pending { consumer_seq, delivered_at: at, delivery_count });
        }
    }

    fn acked(&mut self, policy: AckPolicy, stream_seq: u64, done: &mut Vec<u64>) {
        if matches!(policy, AckPolicy::All | AckPolicy::FlowControl) {
            if stream_seq > self.delivered.stream_seq || stream_seq <= self.ack_floor.stream_seq {
                return;
            }
            let later = self.pending.split_off(&(stream_seq + 1));
            let acked = std::mem::replace(&mut self.pending, later);
            if let Some(last) = acked.last_key_value() {
                self.ack_floor.consumer_seq = self.ack_floor.consumer_seq.max(last.1.consumer_seq);
            }
            self.ack_floor.stream_seq = stream_seq;
            done.extend(acked.into_keys());
            if self.pending.is_empty() && stream_seq == self.delivered.stream_seq {
                self.ack_floor = self.delivered;
            }
            let later = self.exhausted.split_off(&(stream_seq + 1));
            done.extend(std::mem::replace(&mut self.exhausted, later));
        } else if self.pending.contains_key(&stream_seq) {
            self.remove_pending(stream_seq);
            done.push(stream_seq);
        } else if self.exhausted.remove(&stream_seq) {
            done.push(stream_seq);
        }
    }

    /// Forgets what is below the stream's first sequence.
    pub fn prune(&mut self, first_seq: u64) {
        if self.pending.first_key_value().is_some_and(|(&seq, _)| seq < first_seq) {
            self.pending = self.pending.split_off(&first_seq);
            self.raise_floor();
        }
        if self.exhausted.first().is_some_and(|&seq| seq < first_seq) {
            self.exhausted = self.exhausted.split_off(&first_seq);
        }
    }

    /// A purge removed everything below `first_seq`: the consumer goes on from there.
    pub fn purged_below(&mut self, first_seq: u64) {
        let gone = first_seq.saturating_sub(1);
        self.purged_to = self.purged_to.max(gone);
        self.pending = self.pending.split_off(&first_seq);
        self.exhausted = self.exhausted.split_off(&first_seq);
        self.delivered.stream_seq = self.delivered.stream_seq.max(gone);
        self.raise_floor();
    }

    /// Where to look for a message not sent before, at or after `from`; with a skip list the next entry of it.
    pub fn candidate(&self, from: u64) -> Candidate {
        let at = self.skip_list.partition_point(|&seq| seq < from);
        match self.skip_list.get(at) {
            Some(&seq) => Candidate::Exactly(seq),
            None => Candidate::From(from.max(self.resume_at)),
        }
    }

    /// A message left the stream.
    pub(crate) fn forget(&mut self, stream_seq: u64) {
        self.exhausted.remove(&stream_seq);
        self.remove_pending(stream_seq);
    }

    /// Takes a message out of the pending ones and lets the floor rise over it.
    fn remove_pending(&mut self, stream_seq: u64) {
        if self.pending.remove(&stream_seq).is_some() {
            self.raise_floor();
        }
    }

    fn raise_floor(&mut self) {
        match self.pending.first_key_value() {
            None => self.ack_floor = self.delivered,
            Some((&stream_seq, pending)) => {
                let floor = Position {
                    consumer_seq: pending.consumer_seq.saturating_sub(1),
                    stream_seq: stream_seq.saturating_sub(1),
                };
                self.ack_floor.consumer_seq = self.ack_floor.consumer_seq.max(floor.consumer_seq);
                self.ack_floor.stream_seq = self.ack_floor.stream_seq.max(floor.stream_seq);
            }
        }
    }
}
