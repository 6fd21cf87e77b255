//! openraft's network: one client for each group, member and purpose, all over the shared lanes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use openraft::OptionalSend;
use openraft::error::{RPCError, ReplicationClosed, StreamingError};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use tokio::time::Instant;

use crate::net::lane::{LaneError, LaneKind};
use crate::net::messages::{transfer_to_pb, vote_reply_from_pb, vote_request_to_pb};
use crate::net::peers::Peers;
use crate::net::sessions::{self, rpc_error};
use crate::net::snapshot_send::{Sending, send_snapshot};
use crate::pb::raft as pb;
use crate::raft_types::{TypeConfig, Vote};
use crate::snapshot::{SnapshotData, Spool};
use crate::types::{GroupId, PeerId, PeerInfo};

/// Makes the clients of one group.
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
    pub(crate) group: GroupId,
    pub(crate) spool: Spool,
    /// An append not answered for this long counts as lost.
    pub(crate) append_timeout: Duration,
    /// A heartbeat or a vote not answered for this long counts as lost.
    pub(crate) vote_timeout: Duration,
}

/// Speaks to one member for one group.
pub(crate) struct Client {
    peers: Arc<Peers>,
    group: GroupId,
    target: PeerId,
    spool: Spool,
    append_timeout: Duration,
    vote_timeout: Duration,
    heartbeats: bool,
}

impl Network {
    fn client(&self, target: u64, node: &PeerInfo, heartbeats: bool) -> Client {
        let target = PeerId(target);
        self.peers.hint(target, node);
        Client {
            peers: Arc::clone(&self.peers),
            group: self.group,
            target,
            spool: self.spool.clone(),
            append_timeout: self.append_timeout,
            vote_timeout: self.vote_timeout,
            heartbeats,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &PeerInfo) -> Client {
        self.client(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &PeerInfo) -> Client {
        self.client(target, node, true)
    }
}

impl Client {
    async fn ask(&self, body: pb::frame::Body) -> Result<pb::frame::Body, LaneError> {
        let deadline = Instant::now() + self.vote_timeout;
        let lane = self.peers.lane(self.target, LaneKind::Votes);
        let mut waiting = lane.ask(self.group, 0, body)?;
        waiting.until(deadline).await
    }

    async fn ask_for_vote(
        &self,
        body: pb::frame::Body,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let malformed = |text: String| rpc_error(&LaneError::Malformed(text));
        match self.ask(body).await.map_err(|e| rpc_error(&e))? {
            pb::frame::Body::VoteReply(reply) => {
                vote_reply_from_pb(reply).map_err(|e| malformed(e.to_string()))
            }
            _ => Err(malformed("not a vote's answer".to_owned())),
        }
    }
}

impl NetBackoff<TypeConfig> for Client {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetVote<TypeConfig> for Client {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(pb::frame::Body::Vote(vote_request_to_pb(&rpc))).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(pb::frame::Body::PreVote(vote_request_to_pb(&rpc))).await
    }
}

impl NetTransferLeader<TypeConfig> for Client {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = pb::frame::Body::Transfer(transfer_to_pb(&req));
        match self.ask(body).await.map_err(|e| rpc_error(&e))? {
            pb::frame::Body::TransferReply(reply) if reply.accepted => Ok(Ok(())),
            pb::frame::Body::TransferReply(reply) => {
                tracing::info!(peer = self.target.0, reason = reply.reason, "transfer refused");
                Ok(Err(TransferLeaderError::LogNotFlushed {
                    expected: req.last_log_id().copied(),
                    actual: None,
                }))
            }
            _ => Err(rpc_error(&LaneError::Malformed("not a transfer's answer".to_owned()))),
        }
    }
}

type AppendItem = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

impl NetStreamAppend<TypeConfig> for Client {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendItem>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let (kind, timeout) = if self.heartbeats {
            (LaneKind::Votes, self.vote_timeout)
        } else {
            (LaneKind::Appends, self.append_timeout)
        };
        let lane = self.peers.lane(self.target, kind);
        let answers = sessions::run(lane, self.group, !self.heartbeats, timeout, input);
        let answers: BoxStream<'s, AppendItem> = Box::pin(answers);
        Box::pin(std::future::ready(Ok(answers)))
    }
}

impl NetSnapshot<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = Sending {
            peers: Arc::clone(&self.peers),
            group: self.group,
            target: self.target,
            spool: self.spool.clone(),
        };
        let deadline = Instant::now() + option.hard_ttl();
        let sent = tokio::time::timeout_at(deadline, send_snapshot(sending, vote, snapshot));
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            result = sent => match result {
                Ok(result) => result,
                Err(_) => Err(StreamingError::Network(
                    openraft::error::NetworkError::from_string("the snapshot took too long"),
                )),
            },
        }
    }
}
