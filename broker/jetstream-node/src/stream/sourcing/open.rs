//! The beginning of a session: where the stream is, the request for a consumer, and what the origin made of it.

use std::sync::Arc;
use std::time::Duration;

use weir_jetstream::{Store, headers as blocks};
use weir_jsapi::{AckPolicy, ApiError, ConsumerInfo, errors, headers as names};

use super::super::leader::StreamLeader;
use super::feed::{Feed, Kind};
use super::request::{self, Asker, Level, Start};
use super::session::End;
use crate::api::stream_create::is_served;

/// How long the origin may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an origin of this account may be without a leader before it is asked all the same.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);
const LEADER_POLL: Duration = Duration::from_millis(20);
/// Letters that make a deliver subject unlike all others.
const TOKEN_LEN: usize = 8;

/// A consumer that sends.
pub(super) struct Opened {
    pub(super) consumer: String,
    pub(super) deliver_subject: String,
    /// What the consumer passes over: it sends what comes after.
    pub(super) delivered: u64,
    /// The origin's last sequence that is stored here.
    pub(super) position: u64,
    pub(super) identity: String,
}

/// What the origin answered.
struct Answer {
    info: ConsumerInfo,
    identity: String,
}

pub(super) async fn open(feed: &Feed, leader: &Arc<StreamLeader>) -> Result<Opened, End> {
    wait_for_origin(feed, leader).await;
    feed.status.lock().is_asked = true;
    let start = start_of(feed, leader).ok_or(End::Closed)?;
    let answer = ask(feed, leader, &start).await?;
    let config = answer.info.config.as_ref();
    let source = feed.source();
    if source.consumer.is_some() && config.is_none_or(|config| config.ack_policy != AckPolicy::FlowControl) {
        let error = if feed.is_mirror() {
            errors::MIRROR_CONSUMER_REQUIRES_ACK_FC
        } else {
            errors::SOURCE_CONSUMER_REQUIRES_ACK_FC
        };
        feed.fail(Some(error.error()));
        return Err(End::Failed);
    }
    let deliver_subject = match &source.consumer {
        Some(consumer) => consumer.deliver_subject.clone(),
        None => config.map(|config| config.deliver_subject.clone()).unwrap_or_default(),
    };
    let is_other =
        !answer.identity.is_empty() && !start.identity.is_empty() && answer.identity != start.identity;
    let mut position = start.position;
    if start.is_recreated || is_other {
        tracing::warn!(
            "JetStream source stream {:?} for stream '{} > {}' was recreated, resetting source state",
            source.name,
            leader.account.name(),
            leader.name()
        );
        position = 0;
    }
    Ok(Opened {
        consumer: answer.info.name,
        deliver_subject,
        delivered: answer.info.delivered.stream_seq,
        position,
        identity: answer.identity,
    })
}

/// A stream of this account that has no leader at the moment would not answer.
async fn wait_for_origin(feed: &Feed, leader: &StreamLeader) {
    let source = feed.source();
    if source.external.is_some() {
        return;
    }
    let account = &leader.account;
    let deadline = tokio::time::Instant::now() + LEADER_PATIENCE;
    while leader.context.assignment(account.name(), &source.name).is_some()
        && !is_served(account, &source.name)
        && tokio::time::Instant::now() < deadline
    {
        tokio::time::sleep(LEADER_POLL).await;
    }
}

/// Where the stream is with its origin, from what is stored.
fn start_of(feed: &Feed, leader: &StreamLeader) -> Option<Start> {
    let replica = leader.replica()?;
    let is_recreated = feed.status.lock().is_recreated;
    let state = replica.replicated.lock();
    let machine = state.machine();
    let stored = machine.store().state();
    let last_time = machine.state().last_ts;
    let mut start = Start {
        is_recreated,
        last_time: (!last_time.is_zero()).then_some(last_time),
        first_seq: stored.first_seq,
        ..Start::default()
    };
    match feed.kind() {
        Kind::Mirror => {
            start.position = stored.last_seq;
            start.is_new = stored.last_seq == 0;
        }
        Kind::Source { index_name } => {
            if let Some(known) = machine.source_position(index_name).filter(|_| !is_recreated) {
                start.position = known.seq;
                start.identity.clone_from(&known.identity);
            }
        }
    }
    Some(start)
}

/// Asks for the consumer, with less each time that the origin does not understand.
async fn ask(feed: &Feed, leader: &Arc<StreamLeader>, start: &Start) -> Result<Answer, End> {
    let config = leader.config();
    let mut level = Level::Full;
    loop {
        let token = leader.context.random_text(TOKEN_LEN);
        let asker = Asker {
            config: &config,
            account: leader.account.name(),
            domain: leader.context.domain.as_deref(),
            token: &token,
        };
        let request = request::build(&asker, feed.kind(), feed.source(), start, level);
        let requester = leader.requester().ok_or(End::Closed)?;
        let reply = requester
            .request_full(&request.subject, request.headers.as_bytes(), &request.body, REQUEST_TIMEOUT)
            .await;
        let reply = reply.map_err(|error| {
            feed.fail(Some(setup_failed(feed, error)));
            End::Failed
        })?;
        let error = match read(&reply.payload) {
            Ok(info) => {
                let identity = blocks::get_str(&reply.headers, names::STREAM_IDENTITY).unwrap_or_default();
                return Ok(Answer { info, identity: identity.to_owned() });
            }
            Err(error) => error,
        };
        if error.is(errors::CONSUMER_STREAM_IDENTITY_MISMATCH) {
            feed.status.lock().is_recreated = true;
            return Err(End::Again);
        }
        let is_too_new = error.is(errors::REQUIRED_API_LEVEL) || error.is(errors::INVALID_JSON);
        match level.lower().filter(|_| is_too_new && feed.source().consumer.is_none()) {
            Some(lower) => level = lower,
            None => {
                warn(feed, leader, &error);
                feed.fail(Some(error));
                return Err(End::Failed);
            }
        }
    }
}

fn read(body: &[u8]) -> Result<ConsumerInfo, ApiError> {
    #[derive(serde::Deserialize)]
    struct Failed {
        error: Option<ApiError>,
    }
    let invalid = || errors::MIRROR_CONSUMER_SETUP_FAILED.with("invalid consumer create response");
    let failed: Failed = serde_json::from_slice(body).map_err(|_| invalid())?;
    if let Some(error) = failed.error {
        return Err(error);
    }
    let info: ConsumerInfo = serde_json::from_slice(body).map_err(|_| invalid())?;
    if info.config.is_none() { Err(invalid()) } else { Ok(info) }
}

fn setup_failed(feed: &Feed, reason: impl std::fmt::Display) -> ApiError {
    let definition = if feed.is_mirror() {
        errors::MIRROR_CONSUMER_SETUP_FAILED
    } else {
        errors::SOURCE_CONSUMER_SETUP_FAILED
    };
    definition.with(reason)
}

fn warn(feed: &Feed, leader: &StreamLeader, error: &ApiError) {
    if feed.is_mirror() {
        tracing::warn!("JetStream error response for create mirror consumer: {error}");
    } else {
        tracing::warn!(
            "JetStream error response for stream {} create source consumer {}: {error}",
            leader.name(),
            feed.source().name
        );
    }
}
