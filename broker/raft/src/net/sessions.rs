//! A pipelined run of append requests to one peer: several under way, answers in the order asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use openraft::error::{NetworkError, RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::time::Instant;

use crate::net::lane::{Lane, LaneError, Waiting};
use crate::net::messages::{append_reply_from_pb, append_to_pb};
use crate::pb::raft as pb;
use crate::raft_types::TypeConfig;
use crate::types::GroupId;

/// Append requests under way in one session. The answering side keeps as many.
pub(crate) const MAX_IN_FLIGHT: usize = 32;

type Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

struct Session<S> {
    lane: Arc<Lane>,
    group: GroupId,
    /// 0: each request stands alone.
    number: u64,
    timeout: Duration,
    requests: S,
    exhausted: bool,
    in_flight: VecDeque<(Waiting, Instant)>,
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
        in_flight: VecDeque::with_capacity(MAX_IN_FLIGHT),
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
            if self.exhausted && self.in_flight.is_empty() {
                return None;
            }
            let may_send = !self.exhausted && self.in_flight.len() < MAX_IN_FLIGHT;
            let front = self.in_flight.front_mut();
            tokio::select! {
                answer = wait_for(front) => {
                    self.in_flight.pop_front();
                    return Some(answer.and_then(decode).map_err(|e| rpc_error(&e)));
                }
                request = self.requests.next(), if may_send => match request {
                    None => self.exhausted = true,
                    Some(request) => {
                        if let Err(error) = self.send(&request) {
                            return Some(Err(rpc_error(&error)));
                        }
                    }
                },
            }
        }
    }

    fn send(&mut self, request: &AppendEntriesRequest<TypeConfig>) -> Result<(), LaneError> {
        let body = pb::frame::Body::Append(append_to_pb(request));
        let waiting = self.lane.ask(self.group, self.number, body)?;
        let deadline = Instant::now() + self.timeout;
        self.in_flight.push_back((waiting, deadline));
        Ok(())
    }
}

async fn wait_for(front: Option<&mut (Waiting, Instant)>) -> Result<pb::frame::Body, LaneError> {
    match front {
        Some((waiting, deadline)) => waiting.until(*deadline).await,
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
