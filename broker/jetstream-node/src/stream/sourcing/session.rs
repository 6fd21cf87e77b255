//! One session with an origin: a consumer is asked for, what it sends goes into the stream's log in batches, and the
//! origin is answered once a batch is stored, which bounds what is on its way. The session ends when something was
//! lost, refused, or nothing comes any more; the next one begins behind what is stored.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::oneshot;
use tokio::time::Instant;
use weir_hub::OutboundMessage;
use weir_jetstream::sourcing::{Beat, Follower, Origin, Step, is_control};
use weir_jetstream::{
    MirrorBatch, OriginRecord, Outcome, PublishRecord, SourceBatch, StreamCommand, headers as blocks,
};
use weir_jsapi::{errors, headers as names};
use weir_stdx::rng::SeededRng;
use weir_stdx::time::UnixNanos;

use super::super::acks::republish;
use super::super::leader::StreamLeader;
use super::super::state::StreamState;
use super::feed::{Feed, Kind};
use super::incoming::{Incoming, Message};
use super::open::{self, Opened};
use crate::clock;
use crate::replicated::Replicated;
use crate::replicator::ProposeError;

/// Silence after which the origin's consumer is taken as gone: ten heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// Log entries on their way at the same time.
const BATCHES_IN_FLIGHT_MAX: usize = 16;
/// A mirror answers direct gets for its origin once it is about as far.
const CAUGHT_UP_LAG: u64 = 10;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The server does not lead the stream any more.
    Closed,
    /// To be begun anew at once, within what the origin may be asked.
    Again,
    /// The origin gave no consumer.
    Failed,
}

/// A batch on its way.
struct Done {
    number: u64,
    /// The origin's sequence that the stream is at when all of it was stored.
    last: u64,
    result: Result<Outcome, ProposeError>,
}

/// An answer that waits for the batches before it.
struct Reply {
    after: u64,
    to: Bytes,
    headers: Bytes,
}

struct Session<'a> {
    feed: &'a Feed,
    leader: &'a Arc<StreamLeader>,
    replicated: Arc<Replicated<StreamState>>,
    follower: Follower,
    identity: String,
    /// The origin's last sequence in a proposed batch.
    proposed: u64,
    batches: u64,
    in_flight: FuturesOrdered<futures::future::BoxFuture<'static, Done>>,
    replies: VecDeque<Reply>,
    random: SeededRng,
}

/// Follows the origin until the session ends.
pub(super) async fn follow(feed: &Feed, leader: &Arc<StreamLeader>) -> End {
    let opened = match open::open(feed, leader).await {
        Ok(opened) => opened,
        Err(end) => return end,
    };
    let Some(replica) = leader.replica() else { return End::Closed };
    let Opened { consumer, deliver_subject, delivered, position, identity } = opened;
    let incoming = Incoming::new();
    let sink = Arc::clone(&incoming);
    let _subscription = leader.account.subscribe_internal(
        &deliver_subject,
        None,
        Arc::new(move |message| sink.push(message)),
    );
    {
        let mut status = feed.status.lock();
        status.heard = Some(Instant::now());
        status.error = None;
        status.is_recreated = false;
        status.consumer.clone_from(&consumer);
    }
    let mut session = Session {
        feed,
        leader,
        replicated: Arc::clone(&replica.replicated),
        follower: Follower::new(&consumer, feed.is_mirror(), position.max(delivered)),
        identity,
        proposed: position,
        batches: 0,
        in_flight: FuturesOrdered::new(),
        replies: VecDeque::new(),
        random: SeededRng::new(clock::now().as_nanos()),
    };
    drop(replica);
    if feed.is_mirror() && delivered > position {
        // What lies before the origin's first message, or before the configured start.
        session.propose(Vec::new(), delivered);
    }
    session.run(&incoming).await
}

impl Session<'_> {
    async fn run(&mut self, incoming: &Incoming) -> End {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                messages = incoming.take(), if self.in_flight.len() < BATCHES_IN_FLIGHT_MAX => {
                    if self.handle(messages).is_none() {
                        return End::Again;
                    }
                }
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    if self.completed(done).is_none() {
                        return End::Again;
                    }
                }
                _ = ticks.tick() => {
                    let heard = incoming.heard().unwrap_or(begun);
                    self.feed.status.lock().heard = Some(heard);
                    if heard.elapsed() > SILENCE_MAX {
                        tracing::debug!("stream {}: nothing heard of {}", self.leader.name(), self.feed.source().name);
                        return End::Again;
                    }
                }
            }
        }
    }

    /// `None` when something is missing.
    fn handle(&mut self, messages: Vec<Message>) -> Option<()> {
        let now = clock::now();
        let mut records = Vec::with_capacity(messages.len());
        for message in messages {
            if is_control(&message.headers, &message.payload) {
                self.propose_records(&mut records);
                self.control(&message)?;
                continue;
            }
            let subject = std::str::from_utf8(&message.reply).ok();
            let Some(ack) = subject.and_then(weir_jsapi::subject::parse_ack) else { continue };
            match self.follower.message(&ack) {
                Step::Ignore => {}
                Step::Lost => {
                    self.propose_records(&mut records);
                    return None;
                }
                Step::Take => {
                    let sent = UnixNanos(u64::try_from(ack.timestamp).unwrap_or(0));
                    let seq = ack.stream_seq;
                    let timestamp = if self.feed.is_mirror() { sent } else { now };
                    records.push(OriginRecord { seq, record: self.record(seq, &message, timestamp) });
                }
            }
        }
        self.propose_records(&mut records);
        let mut status = self.feed.status.lock();
        status.lag = self.follower.lag();
        status.heard = Some(Instant::now());
        Some(())
    }

    /// The message as it is to be stored.
    fn record(&mut self, seq: u64, message: &Message, timestamp: UnixNanos) -> PublishRecord {
        let mut headers = message.headers.clone();
        if !headers.is_empty() {
            // Checked by the origin, or of no meaning here.
            headers = blocks::without(&headers, |name| {
                name.starts_with(b"Nats-Expected-") || name.starts_with(b"Nats-Batch-")
            });
        }
        if let Kind::Source { index_name } = self.feed.kind() {
            headers = blocks::without(&headers, |name| name == names::STREAM_SOURCE.as_bytes());
            let subject = String::from_utf8_lossy(&message.subject);
            let origin = Origin { index_name, seq, subject: &subject, identity: &self.identity };
            headers = blocks::with(&headers, names::STREAM_SOURCE, &origin.to_header());
        }
        let random = &mut self.random;
        let renamed = self.feed.rename(&message.subject, &mut || (random.next_u64() >> 32) as u32);
        let subject = renamed.map_or_else(|| message.subject.clone(), Bytes::from);
        PublishRecord { subject, headers, payload: message.payload.clone(), timestamp }
    }

    /// A heartbeat or a flow-control request; `None` when messages before it are missing.
    fn control(&mut self, message: &Message) -> Option<()> {
        if !message.reply.is_empty() {
            let headers = self.follower.flow_control_answer();
            self.reply_when_stored(message.reply.clone(), headers);
            return Some(());
        }
        match self.follower.heartbeat(&message.headers) {
            Beat::Lost => return None,
            Beat::Quiet => {
                let mut status = self.feed.status.lock();
                let is_stalled =
                    |error: &weir_jsapi::ApiError| error.is(errors::SOURCE_CONSUMER_FLOW_CONTROL_STALLED);
                if status.error.as_ref().is_some_and(is_stalled) {
                    status.error = None;
                }
            }
            Beat::Stalled { reply, is_stuck } => {
                if is_stuck {
                    self.warn_of_stall();
                }
                self.reply_when_stored(reply, Bytes::new());
            }
        }
        Some(())
    }

    fn warn_of_stall(&self) {
        let error = errors::SOURCE_CONSUMER_FLOW_CONTROL_STALLED.error();
        let known = self.feed.status.lock().error.replace(error.clone());
        if known.as_ref() != Some(&error) {
            let kind = if self.feed.is_mirror() { "mirror" } else { "source" };
            tracing::warn!(
                "JetStream stream '{} > {}' {kind} '{}' is stalled on flow control, replies are not reaching the consumer",
                self.leader.account.name(),
                self.leader.name(),
                self.feed.source().name
            );
        }
    }

    fn propose_records(&mut self, records: &mut Vec<OriginRecord>) {
        if let Some(last) = records.last().map(|record| record.seq) {
            self.propose(std::mem::take(records), last);
        }
    }

    fn propose(&mut self, records: Vec<OriginRecord>, last: u64) {
        let after = std::mem::replace(&mut self.proposed, last);
        let command = match self.feed.kind() {
            Kind::Mirror => StreamCommand::Mirror(MirrorBatch { after, records, up_to: last }),
            Kind::Source { index_name } => StreamCommand::Source(SourceBatch {
                index_name: index_name.clone(),
                identity: self.identity.clone(),
                after,
                records,
            }),
        };
        self.batches += 1;
        let number = self.batches;
        let (sender, receiver) = oneshot::channel();
        self.replicated.propose(command.encode(), move |result| {
            // The session may have ended.
            let _ = sender.send(result);
        });
        self.in_flight.push_back(Box::pin(async move {
            let closed = || Err(ProposeError::Unknown("the replica was closed".to_owned()));
            Done { number, last, result: receiver.await.unwrap_or_else(|_| closed()) }
        }));
    }

    /// `None` when the batch was not stored as a whole.
    fn completed(&mut self, done: Done) -> Option<()> {
        let stream = self.leader.name();
        let (position, refused) = match done.result {
            Ok(Outcome::Sourced { position, refused, republished }) => {
                republish(&self.leader.account, &republished);
                (position, refused)
            }
            Ok(other) => {
                tracing::error!("stream {stream}: a batch of its origin did {other:?}");
                return None;
            }
            Err(error) => {
                tracing::debug!("stream {stream}: storing what came from its origin: {error}");
                return None;
            }
        };
        if let Some(error) = refused {
            let kind = if self.feed.is_mirror() { "mirror message" } else { "source message" };
            tracing::warn!(
                "Error processing inbound {kind} for '{}' > '{stream}': {error}",
                self.leader.account.name()
            );
            return None;
        }
        if position < done.last {
            return None;
        }
        while let Some(reply) = self.replies.pop_front() {
            if reply.after > done.number {
                self.replies.push_front(reply);
                break;
            }
            self.send(&reply.to, &reply.headers);
        }
        if self.feed.is_mirror() && self.follower.lag() < CAUGHT_UP_LAG {
            self.leader.serve_mirror_direct();
        }
        Some(())
    }

    /// Answers once all that was proposed so far is stored.
    fn reply_when_stored(&mut self, to: Bytes, headers: Bytes) {
        if self.in_flight.is_empty() {
            self.send(&to, &headers);
        } else if !self.replies.iter().any(|reply| reply.to == to) {
            self.replies.push_back(Reply { after: self.batches, to, headers });
        }
    }

    fn send(&self, to: &[u8], headers: &[u8]) {
        let message = OutboundMessage { subject: to, headers, ..OutboundMessage::default() };
        self.leader.account.publish_batch([message]);
    }
}
