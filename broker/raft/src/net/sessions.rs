//! A pipelined run of append requests to one peer: several under way, answers in the order asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use openraft::EntryPayload;
use openraft::error::{NetworkError, RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::net::lane::{Lane, LaneError, Waiting};
use crate::net::messages::{append_reply_from_pb, append_to_pb};
use crate::pb::raft as pb;
use crate::raft_types::{Entry, TypeConfig};
use crate::types::GroupId;

/// Append requests under way in one session. The answering side keeps as many.
pub(crate) const MAX_IN_FLIGHT: usize = 32;

/// A connection at least this fast is worth keeping for a large request.
const SLOWEST_BYTES_PER_SECOND: usize = 4 * 1024 * 1024;

type Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

struct Session<S> {
    lane: Arc<Lane>,
    group: GroupId,
    /// 0: each request stands alone.
    number: u64,
    timeout: Duration,
    requests: S,
    exhausted: bool,
    /// The next request, while the lane has no room for it.
    blocked: Option<AppendEntriesRequest<TypeConfig>>,
    in_flight: VecDeque<InFlight>,
    /// The last answer, or the first request after a pause.
    progress: Instant,
}

struct InFlight {
    waiting: Waiting,
    bytes: usize,
    /// Its part of the lane's room.
    _room: OwnedSemaphorePermit,
}

impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        if self.number != 0 {
            self.lane.end_session(self.group, self.number);
        }
    }
}

/// openraft's view of a failed request.
pub(crate) fn rpc_error(error: &LaneError) -> RPCError<TypeConfig> {
    match error {
        LaneError::Unreachable(_) | LaneError::Refused { .. } => {
            RPCError::Unreachable(Unreachable::from_string(error))
        }
        LaneError::Busy | LaneError::Timeout | LaneError::Malformed(_) => {
            RPCError::Network(NetworkError::from_string(error))
        }
    }
}

/// Sends `requests` and yields an answer for each, until one fails or says that no more can succeed.
pub(crate) fn run<S>(
    lane: Arc<Lane>,
    group: GroupId,
    pipelined: bool,
    timeout: Duration,
    requests: S,
) -> impl Stream<Item = Item> + Send
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let session = Session {
        number: if pipelined { lane.new_session() } else { 0 },
        lane,
        group,
        timeout,
        requests,
        exhausted: false,
        blocked: None,
        in_flight: VecDeque::with_capacity(MAX_IN_FLIGHT),
        progress: Instant::now(),
    };
    stream::unfold(Some(session), |session| async {
        let mut session = session?;
        let item = session.next().await?;
        let goes_on = matches!(item, Ok(Ok(_)));
        Some((item, goes_on.then_some(session)))
    })
}

impl<S> Session<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    async fn next(&mut self) -> Option<Item> {
        loop {
            let nothing_to_send = self.exhausted && self.blocked.is_none();
            if nothing_to_send && self.in_flight.is_empty() {
                return None;
            }
            let may_take = !self.exhausted && self.blocked.is_none() && self.in_flight.len() < MAX_IN_FLIGHT;
            let blocked_bytes = self.blocked.as_ref().map(bytes_of);
            let deadline = self.deadline();
            tokio::select! {
                answer = wait_for(self.in_flight.front_mut(), deadline) => {
                    self.in_flight.pop_front();
                    self.progress = Instant::now();
                    return Some(answer.and_then(decode).map_err(|e| rpc_error(&e)));
                }
                request = self.requests.next(), if may_take => {
                    self.exhausted = request.is_none();
                    self.blocked = request;
                }
                room = room_for(&self.lane, blocked_bytes) => {
                    if let Err(error) = self.send(room) {
                        return Some(Err(rpc_error(&error)));
                    }
                }
            }
        }
    }

    /// When the request longest under way counts as lost. Requests wait for those before them, so it is
    /// progress that counts; a large one may take its time.
    fn deadline(&self) -> Instant {
        let bytes = self.in_flight.front().map_or(0, |front| front.bytes);
        let transfer = Duration::from_secs((bytes / SLOWEST_BYTES_PER_SECOND) as u64);
        self.progress + self.timeout + transfer
    }

    fn send(&mut self, room: Result<OwnedSemaphorePermit, LaneError>) -> Result<(), LaneError> {
        let room = room?;
        let Some(request) = self.blocked.take() else {
            return Ok(());
        };
        let bytes = bytes_of(&request);
        let body = pb::frame::Body::Append(append_to_pb(&request));
        let waiting = self.lane.ask(self.group, self.number, body)?;
        if self.in_flight.is_empty() {
            self.progress = Instant::now();
        }
        self.in_flight.push_back(InFlight { waiting, bytes, _room: room });
        Ok(())
    }
}

fn bytes_of(request: &AppendEntriesRequest<TypeConfig>) -> usize {
    let body = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    request.entries.iter().map(body).sum()
}

async fn room_for(lane: &Lane, bytes: Option<usize>) -> Result<OwnedSemaphorePermit, LaneError> {
    match bytes {
        Some(bytes) => lane.room(bytes).await,
        None => std::future::pending().await,
    }
}

async fn wait_for(front: Option<&mut InFlight>, deadline: Instant) -> Result<pb::frame::Body, LaneError> {
    match front {
        Some(front) => front.waiting.until(deadline).await,
        None => std::future::pending().await,
    }
}

fn decode(body: pb::frame::Body) -> Result<StreamAppendResult<TypeConfig>, LaneError> {
    match body {
        pb::frame::Body::AppendReply(reply) => {
            append_reply_from_pb(reply).map_err(|e| LaneError::Malformed(e.to_string()))
        }
        _ => Err(LaneError::Malformed("not an append's answer".to_owned())),
    }
}
