//! The service that answers the lanes: finds the group of each frame and hands the request to its Raft.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::codec::vote_to_pb;
use crate::group::Group;
use crate::net::auth::check_stamp;
use crate::net::lane::gather;
use crate::net::messages::{
    append_from_pb, append_reply_to_pb, failure, transfer_from_pb, transfer_reply_to_pb, vote_reply_to_pb,
    vote_request_from_pb,
};
use crate::net::peers::Peers;
use crate::net::sessions::MAX_IN_FLIGHT;
use crate::net::snapshot_receive::{decode_header, read_header, receive};
use crate::pb::raft as pb;
use crate::pb::raft::failure::Code;
use crate::pb::raft::frame::Body;
use crate::quiet_node;
use crate::raft_types::TypeConfig;
use crate::registry::{RaftHandle, Registry};
use crate::snapshot::Spool;
use crate::types::{GroupId, PeerId};

/// Answers waiting to be sent on one lane.
const ANSWERS_QUEUED: usize = 8192;
/// Messages handed to HTTP/2 ahead of time.
const MESSAGES_AHEAD: usize = 2;
/// Sessions open at once on one lane: about one a group.
const MAX_SESSIONS: usize = 65_536;
/// Single requests being answered at once on one lane; beyond it reading waits.
const MAX_SINGLE_REQUESTS: usize = 1024;
/// Snapshots being received at once.
const MAX_SNAPSHOTS: usize = 64;

/// The service behind the lanes.
#[derive(Clone)]
pub(crate) struct LaneService {
    peers: Arc<Peers>,
    registry: Arc<Registry>,
    spool: Spool,
    snapshots: Arc<Semaphore>,
    /// Becomes true, or is dropped, when the node stops: lanes end then.
    stop: watch::Receiver<bool>,
}

impl LaneService {
    pub(crate) fn new(
        peers: Arc<Peers>,
        registry: Arc<Registry>,
        spool: Spool,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { peers, registry, spool, snapshots: Arc::new(Semaphore::new(MAX_SNAPSHOTS)), stop }
    }
}

/// Ends when the node stops.
async fn stopping(mut stop: watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

type FramesOut = Pin<Box<dyn Stream<Item = Result<pb::Frames, Status>> + Send>>;

#[tonic::async_trait]
impl pb::raft_server::Raft for LaneService {
    type LaneStream = FramesOut;

    async fn lane(
        &self,
        request: Request<Streaming<pb::Frames>>,
    ) -> Result<Response<Self::LaneStream>, Status> {
        let from = check_stamp(request.metadata(), self.peers.this)?;
        self.peers.heard_from(from);
        let (answers, mut queue) = mpsc::channel::<pb::Frame>(ANSWERS_QUEUED);
        let answering = Answering {
            from,
            registry: Arc::clone(&self.registry),
            answers,
            sessions: HashMap::new(),
            single: Arc::new(Semaphore::new(MAX_SINGLE_REQUESTS)),
        };
        let answering = answering.run(request.into_inner());
        let (out, outbound) = mpsc::channel(MESSAGES_AHEAD);
        let writing = async move {
            while let Some(first) = queue.recv().await {
                let frames = gather(first, &mut queue, |_| true);
                if out.send(Ok(pb::Frames { frames })).await.is_err() {
                    break;
                }
            }
        };
        let stopped = stopping(self.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                // Answers still being made end with the lane.
                ((), ()) = async { tokio::join!(answering, writing) } => {}
                () = stopped => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        check_stamp(request.metadata(), self.peers.this)?;
        let Ok(_permit) = Arc::clone(&self.snapshots).try_acquire_owned() else {
            return Err(Status::resource_exhausted("enough snapshots are being received"));
        };
        let mut parts = request.into_inner();
        let header = read_header(&mut parts).await?;
        let group = GroupId(header.group);
        let Some(raft) = self.registry.raft(group) else {
            return Err(Status::not_found(format!("group {} is not open here", group.0)));
        };
        let announced = decode_header(header)?;
        let reply = receive(&raft, &self.spool, announced, &mut parts).await?;
        Ok(Response::new(reply))
    }
}

/// An append with the id of its frame.
type Asked = (u64, AppendEntriesRequest<TypeConfig>);

/// One lane's answering side.
struct Answering {
    from: PeerId,
    registry: Arc<Registry>,
    answers: mpsc::Sender<pb::Frame>,
    /// By group and session.
    sessions: HashMap<(u64, u64), mpsc::Sender<Asked>>,
    single: Arc<Semaphore>,
}

fn frame(id: u64, group: u64, body: Body) -> pb::Frame {
    pb::Frame { id, group, session: 0, body: Some(body) }
}

impl Answering {
    async fn run(mut self, mut inbound: Streaming<pb::Frames>) {
        while let Ok(Some(message)) = inbound.message().await {
            for asked in message.frames {
                let (id, group) = (asked.id, asked.group);
                if let Err(reason) = self.handle(asked).await
                    && self.answer(id, group, Body::Failure(reason)).await.is_err()
                {
                    return;
                }
            }
        }
    }

    async fn answer(&self, id: u64, group: u64, body: Body) -> Result<(), ()> {
        self.answers.send(frame(id, group, body)).await.map_err(|_| ())
    }

    async fn handle(&mut self, asked: pb::Frame) -> Result<(), pb::Failure> {
        if matches!(asked.body, Some(Body::SessionEnd(_))) {
            self.sessions.remove(&(asked.group, asked.session));
            return Ok(());
        }
        if let Some(Body::Quiet(request)) = &asked.body {
            let reply = quiet_node::answer(&self.registry, self.from, request);
            // The lane may be gone, which reading from it will tell.
            let _ = self.answer(asked.id, asked.group, Body::QuietReply(reply)).await;
            return Ok(());
        }
        let Some(group) = self.registry.group(GroupId(asked.group)) else {
            self.sessions.remove(&(asked.group, asked.session));
            let text = format!("group {} is not open here", asked.group);
            return Err(failure(Code::UnknownGroup, text));
        };
        match asked.body {
            Some(Body::Append(request)) if asked.session != 0 => {
                let key = (asked.group, asked.session);
                self.append_in_session(key, asked.id, request, group.raft().clone())
            }
            Some(body) => {
                self.answer_alone(asked.id, body, group).await;
                Ok(())
            }
            None => Err(failure(Code::Malformed, "empty frame")),
        }
    }

    fn append_in_session(
        &mut self,
        key: (u64, u64),
        id: u64,
        request: pb::AppendRequest,
        raft: RaftHandle,
    ) -> Result<(), pb::Failure> {
        let request = append_from_pb(request).map_err(|e| failure(Code::Malformed, e.to_string()))?;
        if self.sessions.len() >= MAX_SESSIONS && !self.sessions.contains_key(&key) {
            self.sessions.retain(|_, sender| !sender.is_closed());
            if self.sessions.len() >= MAX_SESSIONS {
                return Err(failure(Code::SessionClosed, "too many sessions"));
            }
        }
        let answers = &self.answers;
        let sender = self.sessions.entry(key).or_insert_with(|| {
            let (sender, requests) = mpsc::channel(MAX_IN_FLIGHT);
            tokio::spawn(run_session(key.0, raft, requests, answers.clone()));
            sender
        });
        if sender.try_send((id, request)).is_err() {
            // Overrun, or ended by an answer after which nothing more can succeed.
            return Err(failure(Code::SessionClosed, "the session has ended"));
        }
        Ok(())
    }

    /// Answers a request that belongs to no session, without holding up the lane.
    async fn answer_alone(&self, id: u64, body: Body, group: Group) {
        let Ok(permit) = Arc::clone(&self.single).acquire_owned().await else {
            return;
        };
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let answer = match answer_of(&group, body).await {
                Ok(answer) => answer,
                Err(reason) => Body::Failure(reason),
            };
            // The lane may be gone.
            let _ = answers.send(frame(id, group.id().0, answer)).await;
            drop(permit);
        });
    }
}

fn stopped(error: &RaftError<TypeConfig>) -> pb::Failure {
    failure(Code::Stopped, error.to_string())
}

/// The answer of a member that has promised its leader to vote for nobody else.
fn no_vote(raft: &RaftHandle) -> Body {
    let vote = raft.metrics().borrow_watched().vote;
    Body::VoteReply(pb::VoteReply { vote: Some(vote_to_pb(&vote)), granted: false, last: None })
}

async fn answer_of(group: &Group, body: Body) -> Result<Body, pb::Failure> {
    let raft = group.raft();
    let malformed = |e: crate::codec::DecodeError| failure(Code::Malformed, e.to_string());
    match body {
        Body::Append(request) => {
            let request = append_from_pb(request).map_err(malformed)?;
            let previous = request.prev_log_id;
            let last = request.entries.last().map(|e| e.log_id).or(previous);
            let (leader, came_at) = (request.vote.leader_id, Instant::now());
            let response = raft.append_entries(request).await.map_err(|e| stopped(&e))?;
            if matches!(response, AppendEntriesResponse::Success) {
                group.quiet().heard(leader.voted_for, leader.term, came_at);
            }
            if matches!(response, AppendEntriesResponse::Conflict) && previous.is_none() {
                return Err(failure(Code::Malformed, "conflict at the log's start"));
            }
            let result = response.into_stream_result(previous, last);
            Ok(Body::AppendReply(append_reply_to_pb(&result)))
        }
        Body::Vote(request) => {
            let request = vote_request_from_pb(request).map_err(malformed)?;
            let mut under_way = None;
            if request.leadership_transfer {
                // By order of the leader.
                group.quiet().released(request.vote.leader_id.term);
            } else {
                under_way = group.quiet().pass_vote();
                if under_way.is_none() {
                    return Ok(no_vote(raft));
                }
            }
            let reply = raft.vote(request).await.map_err(|e| stopped(&e))?;
            drop(under_way);
            Ok(Body::VoteReply(vote_reply_to_pb(&reply)))
        }
        Body::PreVote(request) => {
            let request = vote_request_from_pb(request).map_err(malformed)?;
            let Some(under_way) = group.quiet().pass_vote() else {
                return Ok(no_vote(raft));
            };
            let reply = raft.pre_vote(request).await.map_err(|e| stopped(&e))?;
            drop(under_way);
            Ok(Body::VoteReply(vote_reply_to_pb(&reply)))
        }
        Body::Transfer(request) => {
            let request = transfer_from_pb(request).map_err(malformed)?;
            group.quiet().released(request.from_leader().leader_id.term);
            let reply = raft.handle_transfer_leader(request).await;
            let reply = reply.map_err(|e| failure(Code::Stopped, e.to_string()))?;
            Ok(Body::TransferReply(transfer_reply_to_pb(&reply)))
        }
        _ => Err(failure(Code::Malformed, "not a request")),
    }
}

/// Feeds one session's appends to the group, pipelined, and answers them in order. After the first
/// answer that is no success all later requests of the session are refused.
async fn run_session(
    group: u64,
    raft: RaftHandle,
    requests: mpsc::Receiver<Asked>,
    answers: mpsc::Sender<pb::Frame>,
) {
    let ids = Arc::new(Mutex::new(VecDeque::with_capacity(MAX_IN_FLIGHT)));
    let asked = Arc::clone(&ids);
    let requests = ReceiverStream::new(requests).map(move |(id, request)| {
        asked.lock().push_back(id);
        request
    });
    let mut results = Box::pin(raft.stream_append(requests));
    while let Some(result) = results.next().await {
        let Some(id) = ids.lock().pop_front() else {
            break;
        };
        let body = match &result {
            Ok(result) => Body::AppendReply(append_reply_to_pb(result)),
            Err(fatal) => Body::Failure(failure(Code::Stopped, fatal.to_string())),
        };
        if answers.send(frame(id, group, body)).await.is_err() {
            return;
        }
    }
    drop(results);
    let left = std::mem::take(&mut *ids.lock());
    for id in left {
        let reason = failure(Code::SessionClosed, "the session has ended");
        // The lane may be gone.
        let _ = answers.send(frame(id, group, Body::Failure(reason))).await;
    }
}
