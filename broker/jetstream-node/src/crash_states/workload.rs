//! A seeded workload over a few streams, and what each of them was after each entry of its log. Not a test itself.

mod faults;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use weir_jetstream::config::{StreamLimitsInForce, normalise_stream};
use weir_jetstream::meta::{META_GROUP, MetaCommand};
use weir_jetstream::{ConsumerDelta, ConsumerEvent, PublishRecord, Purge, Store, StreamCommand};
use weir_jsapi::{
    AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StoreCompression, StreamConfig,
};
use weir_stdx::rng::SeededRng;
use weir_stdx::time::UnixNanos;
use weir_storage::disk::sim::SimDisk;
use weir_storage::{GroupId, JournalEntry};

use super::coverage::Coverage;
use super::server::{Server, VOTE_GROUP};
use crate::envelope::Envelope;

const STREAMS_MAX: usize = 4;

/// What was promised, in order: (mark in the record, group, index).
type Acked = Arc<Mutex<Vec<(u64, u64, u64)>>>;

pub(super) struct Workload {
    pub(super) disk: SimDisk,
    server: Server,
    rng: SeededRng,
    now: u64,
    /// What every group was after each entry.
    history: BTreeMap<u64, BTreeMap<u64, Observed>>,
    /// Every message that was stored, by group and sequence.
    ever: BTreeMap<(u64, u64), String>,
    acked: Acked,
    /// Submitted since the last `settle`.
    flying: Vec<(u64, u64, Bytes)>,
    votes: u64,
    names: u64,
    pub(super) coverage: Coverage,
}

/// What a group was after an entry: see `Server::observe` and `Server::describe`.
struct Observed {
    hash: u64,
    line: String,
}

impl Observed {
    fn of(server: &Server, group: u64) -> Result<Self, String> {
        Ok(Self { hash: server.observe(group)?, line: server.describe(group) })
    }
}

impl Workload {
    /// Runs it from an empty disk.
    pub(super) fn run(seed: u64, rounds: u32) -> Result<Self, String> {
        let mut workload = Self::begin(seed)?;
        for _ in 0..rounds {
            workload.round()?;
        }
        workload.coverage.note_segments(&workload.disk);
        workload.coverage.votes = workload.votes;
        Ok(workload)
    }

    /// A server on an empty disk.
    fn begin(seed: u64) -> Result<Self, String> {
        let disk = SimDisk::recording();
        if seed.is_multiple_of(3) {
            Server::encrypt(&disk)?;
        }
        let server = Server::start(&disk)?;
        let mut workload = Self {
            disk,
            server,
            rng: SeededRng::new(seed),
            now: 1_700_000_000_000_000_000,
            history: BTreeMap::new(),
            ever: BTreeMap::new(),
            acked: Acked::default(),
            flying: Vec::new(),
            votes: 0,
            names: 0,
            coverage: Coverage::default(),
        };
        workload.note(META_GROUP)?;
        Ok(workload)
    }

    /// A few changes on their way together, then what a quiet moment may bring.
    fn round(&mut self) -> Result<(), String> {
        for _ in 0..=self.rng.below(4) {
            self.submit_one();
        }
        self.settle()?;
        let groups: Vec<u64> = self.server.streams.keys().copied().collect();
        match self.rng.below(24) {
            0..4 if !groups.is_empty() => {
                let group = groups[self.below(groups.len())];
                self.server.checkpoint(group)?;
                self.coverage.note_checkpoint(self.server.streams[&group].assignment.config.storage);
            }
            4 => self.server.checkpoint(META_GROUP)?,
            5 => {
                self.server.journal.pump();
            }
            6 => self.server.empty_trash(UnixNanos(self.now))?,
            7 => {
                self.server.pump();
                // A server that stops in order has nothing on its way.
                let disk = self.disk.clone();
                self.server = Server::start(&disk)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).unwrap()
    }

    fn submit_one(&mut self) {
        let groups: Vec<u64> = self.server.streams.keys().copied().collect();
        if groups.is_empty() || self.rng.chance(1, 30) {
            let command = self.meta_command();
            return self.submit(META_GROUP, command.encode());
        }
        if self.rng.chance(1, 12) {
            return self.vote();
        }
        let group = groups[self.below(groups.len())];
        let command = self.stream_command(group);
        self.submit(group, command.encode());
    }

    fn vote(&mut self) {
        self.votes += 1;
        let (acked, disk, vote) = (Arc::clone(&self.acked), self.disk.clone(), self.votes);
        let value = Bytes::copy_from_slice(&vote.to_le_bytes());
        let done =
            Box::new(move |result: Result<(), _>| promise(&acked, &disk, VOTE_GROUP, vote, result.is_ok()));
        self.server.journal.put_state(GroupId(VOTE_GROUP), 1, value, done);
    }

    fn submit(&mut self, group: u64, command: Bytes) {
        let flying = self.flying.iter().filter(|(other, ..)| *other == group).count() as u64;
        let known = self.server.known(group);
        let index = known.applied + flying + 1;
        let payload = Envelope { origin: 1, number: index, command }.encode();
        let (acked, disk) = (Arc::clone(&self.acked), self.disk.clone());
        let entry = JournalEntry { index, term: known.term_of(index), payload: payload.clone() };
        let done =
            Box::new(move |result: Result<(), _>| promise(&acked, &disk, group, index, result.is_ok()));
        self.server.journal.append(GroupId(group), vec![entry], done);
        self.flying.push((group, index, payload));
    }

    /// Makes durable what is on its way, and applies it.
    fn settle(&mut self) -> Result<(), String> {
        self.server.pump();
        for (group, index, payload) in std::mem::take(&mut self.flying) {
            // A stream deleted by an entry before this one is gone with its log.
            if group != META_GROUP && !self.server.streams.contains_key(&group) {
                continue;
            }
            self.apply(group, index, payload)?;
            self.note(group)?;
            if group == META_GROUP {
                self.server.reconcile()?;
                let new: Vec<u64> = self
                    .server
                    .streams
                    .keys()
                    .copied()
                    .filter(|group| !self.history.contains_key(group))
                    .collect();
                self.coverage.streams += new.len() as u64;
                new.into_iter().try_for_each(|group| self.note(group))?;
            }
        }
        Ok(())
    }

    /// Applies an entry, and counts what it did.
    fn apply(&mut self, group: u64, index: u64, payload: Bytes) -> Result<(), String> {
        let command = Envelope::decode(payload.clone()).map_err(|error| error.to_string())?.command;
        if group == META_GROUP {
            let is_delete = matches!(MetaCommand::decode(command), Ok(MetaCommand::DeleteStream { .. }));
            self.coverage.deleted_streams += u64::from(is_delete);
            return self.server.apply(group, index, payload);
        }
        let before = self.server.counters(group);
        self.server.apply(group, index, payload)?;
        let after = self.server.counters(group);
        let stored = after.last_seq.saturating_sub(before.last_seq);
        let gone = (before.messages + stored).saturating_sub(after.messages);
        let coverage = &mut self.coverage;
        match StreamCommand::decode(command).map_err(|error| error.to_string())? {
            StreamCommand::Expire { .. } => coverage.expired += gone,
            StreamCommand::Publish(_) => {
                coverage.stored += stored;
                coverage.removed += gone;
            }
            StreamCommand::ConsumerDeltas(deltas) => {
                for event in deltas.iter().flat_map(|delta| &delta.events) {
                    match event {
                        ConsumerEvent::Delivered { .. } => coverage.deliveries += 1,
                        ConsumerEvent::Acked { .. } => coverage.acks += 1,
                        _ => {}
                    }
                }
            }
            _ => coverage.removed += gone,
        }
        Ok(())
    }

    fn note(&mut self, group: u64) -> Result<(), String> {
        let index = self.server.applied(group);
        let observed = Observed::of(&self.server, group)?;
        self.history.entry(group).or_default().insert(index, observed);
        if group != META_GROUP {
            // A message never changes: only new ones are noted.
            let noted = self.ever.range((group, 0)..=(group, u64::MAX)).next_back();
            let messages = self.server.messages_from(group, noted.map_or(0, |((_, seq), _)| seq + 1))?;
            self.ever.extend(messages.into_iter().map(|(seq, message)| ((group, seq), message)));
        }
        Ok(())
    }

    fn meta_command(&mut self) -> MetaCommand {
        let streams: Vec<String> =
            self.server.streams.values().map(|stream| stream.assignment.name().to_owned()).collect();
        if streams.len() >= STREAMS_MAX || (!streams.is_empty() && self.rng.chance(1, 3)) {
            let name = streams[self.below(streams.len())].clone();
            return MetaCommand::DeleteStream { account: "A".to_owned(), name };
        }
        self.names += 1;
        let config = self.config();
        MetaCommand::CreateStream {
            account: "A".to_owned(),
            config: Box::new(config),
            peers: vec![1],
            created: UnixNanos(self.now),
        }
    }

    fn config(&mut self) -> StreamConfig {
        let name = format!("S{}", self.names);
        let mut config = StreamConfig {
            subjects: vec![format!("{name}.>")],
            name,
            allow_msg_ttl: true,
            ..StreamConfig::default()
        };
        if self.rng.chance(1, 3) {
            config.compression = StoreCompression::S2;
        }
        match self.rng.below(6) {
            0 => config.max_msgs = 25,
            1 => config.max_msgs_per_subject = 2,
            2 => config.retention = RetentionPolicy::WorkQueue,
            3 => config.retention = RetentionPolicy::Interest,
            4 => config.storage = StorageType::Memory,
            _ => {
                config.max_bytes = 3000;
                config.discard = if self.rng.chance(1, 2) { DiscardPolicy::New } else { DiscardPolicy::Old };
            }
        }
        if self.rng.chance(1, 5) {
            config.first_seq = 1 + self.rng.below(2000);
        }
        let mut config = normalise_stream(config, &StreamLimitsInForce::default(), false, &|_| None).unwrap();
        if config.storage == StorageType::Memory {
            // As the log of a replicated one is kept, its content is in checkpoints.
            config.num_replicas = 3;
        }
        config
    }

    fn stream_command(&mut self, group: u64) -> StreamCommand {
        self.now += self.rng.below(2_000_000_000);
        let (first, last, name, consumers) = {
            let stream = &self.server.streams[&group];
            let state = stream.state.lock();
            let counters = state.machine().store().state();
            let consumers: Vec<String> =
                state.machine().consumers().map(|(name, _)| name.to_string()).collect();
            (counters.first_seq, counters.last_seq, stream.assignment.name().to_owned(), consumers)
        };
        let seq = first + self.rng.below(last.saturating_sub(first) + 2);
        match self.rng.below(40) {
            0..3 => StreamCommand::DeleteMessage { seq, erase: self.rng.chance(1, 2) },
            3 => StreamCommand::Purge(Purge { below_seq: seq, ..Purge::default() }),
            4 if self.rng.chance(1, 3) => StreamCommand::Purge(Purge::default()),
            5 => StreamCommand::Purge(Purge { filter: Some(format!("{name}.1")), keep: 1, below_seq: 0 }),
            6 => StreamCommand::Expire { now: UnixNanos(self.now) },
            7..9 => {
                let name = format!("c{}", self.rng.below(3));
                let config = ConsumerConfig {
                    durable: name.clone(),
                    name: name.clone(),
                    ack_policy: AckPolicy::Explicit,
                    ..ConsumerConfig::default()
                };
                StreamCommand::CreateConsumer { name, config: Box::new(config), created: UnixNanos(self.now) }
            }
            9 if !consumers.is_empty() => StreamCommand::DeleteConsumer { name: consumers[0].clone() },
            10..17 if !consumers.is_empty() => {
                let name = consumers[self.below(consumers.len())].clone();
                self.consumer_progress(group, name)
            }
            _ => StreamCommand::Publish((0..=self.rng.below(4)).map(|_| self.record(&name)).collect()),
        }
    }

    fn record(&mut self, stream: &str) -> PublishRecord {
        let headers = match self.rng.below(8) {
            0..2 => format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n\r\n", self.rng.below(50)),
            2 => format!("NATS/1.0\r\nNats-TTL: {}\r\n\r\n", 1 + self.rng.below(20)),
            _ => String::new(),
        };
        let mut payload = vec![0; self.below(150)];
        self.rng.fill(&mut payload);
        // Some of it can be compressed.
        if payload.len().is_multiple_of(3) {
            let random = payload.len() / 8;
            payload[random..].fill(0);
        }
        PublishRecord {
            subject: format!("{stream}.{}", self.rng.below(6)).into(),
            headers: headers.into(),
            payload: payload.into(),
            timestamp: UnixNanos(self.now),
        }
    }

    /// Delivers the next message of a consumer, and acknowledges one that waits.
    fn consumer_progress(&mut self, group: u64, name: String) -> StreamCommand {
        let at = UnixNanos(self.now);
        let mut events = Vec::new();
        let state = self.server.streams[&group].state.lock();
        if let Some(consumer) = state.machine().consumer(&name) {
            let delivered = consumer.state.delivered;
            let next = state.machine().store().next_match(&consumer.filter, delivered.stream_seq + 1);
            if let Ok(Some(message)) = next {
                events.push(ConsumerEvent::Delivered {
                    stream_seq: message.seq,
                    consumer_seq: delivered.consumer_seq + 1,
                    delivery_count: 1,
                    at,
                });
            }
            let waiting = consumer.state.pending.keys().next().copied();
            events.extend(waiting.map(|stream_seq| ConsumerEvent::Acked { stream_seq, at }));
        }
        drop(state);
        StreamCommand::ConsumerDeltas(vec![ConsumerDelta { name, events }])
    }

    /// The disk after an orderly stop, with a checkpoint of some streams.
    pub(super) fn stop(&self) -> SimDisk {
        self.server.pump();
        self.server.journal.pump();
        self.disk.fork()
    }

    /// Compares a group with what it was at the same entry.
    pub(super) fn same(&self, server: &Server, group: u64) -> Result<(), String> {
        let (applied, observed) = (server.applied(group), server.observe(group)?);
        match self.history.get(&group).and_then(|history| history.get(&applied)) {
            Some(expected) if expected.hash == observed => Ok(()),
            expected => {
                let (is, was) = (server.describe(group), expected.map(|expected| &expected.line));
                Err(format!("group {group} at {applied} is {is}, was {was:?}"))
            }
        }
    }

    /// Compares the messages of a stream at its end, but for those that cannot be read.
    pub(super) fn same_messages(
        &self,
        server: &Server,
        group: u64,
        unreadable: &[u64],
    ) -> Result<(), String> {
        let found = server.messages(group)?;
        self.never_wrong(group, &found)?;
        if server.failure(group).is_none() {
            let mut expected = self.server.messages(group)?;
            expected.retain(|seq, _| !unreadable.contains(seq));
            if found != expected {
                return Err(format!(
                    "group {group} serves {:?} instead of {:?}",
                    found.keys(),
                    expected.keys()
                ));
            }
        }
        Ok(())
    }

    /// Nothing but what was stored once.
    pub(super) fn never_wrong(&self, group: u64, found: &BTreeMap<u64, String>) -> Result<(), String> {
        let wrong = found.iter().find(|(seq, message)| self.ever.get(&(group, **seq)) != Some(*message));
        match wrong {
            Some((seq, message)) => {
                Err(format!("group {group}: message {seq} is {message}, which was never stored"))
            }
            None => Ok(()),
        }
    }

    /// The last index promised for a group by the time of a mark.
    fn promised(&self, group: u64, mark: u64) -> u64 {
        let acked = self.acked.lock();
        let by_then = acked.partition_point(|(at, ..)| *at <= mark);
        acked[..by_then].iter().filter(|(_, of, _)| *of == group).map(|(.., index)| *index).max().unwrap_or(0)
    }

    /// Compares a server that has started from a crash with what was promised by the time of a mark.
    pub(super) fn check(&self, server: &Server, mark: u64) -> Result<(), String> {
        if !server.recovery.damages.is_empty() || !server.recovery.suspects.is_empty() {
            return Err(format!("a crash was taken for damage: {:?}", server.recovery));
        }
        for group in std::iter::once(META_GROUP).chain(server.streams.keys().copied()) {
            self.check_group(server, group, mark)?;
        }
        let vote = server.journal.get_state(GroupId(VOTE_GROUP), 1);
        let vote = vote.map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap()));
        let promised = self.promised(VOTE_GROUP, mark);
        if vote < promised || vote > self.votes {
            return Err(format!("vote {vote}, promised was {promised}"));
        }
        Ok(())
    }

    fn check_group(&self, server: &Server, group: u64, mark: u64) -> Result<(), String> {
        let applied = server.applied(group);
        let promised = self.promised(group, mark);
        if applied < promised {
            let is = server.describe(group);
            return Err(format!("group {group} ends at {applied}, promised was {promised}: {is}"));
        }
        self.same(server, group)
    }
}

fn promise(acked: &Acked, disk: &SimDisk, group: u64, index: u64, kept: bool) {
    if kept {
        let mut acked = acked.lock();
        let mark = acked.last().map_or(0, |(mark, ..)| *mark) + 1;
        disk.mark(mark);
        acked.push((mark, group, index));
    }
}
