//! Raft's requests and answers as protobuf, both ways. Decoding never panics.

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::codec::{
    DecodeError, entry_from_pb, entry_to_pb, log_id_from_pb, log_id_to_pb, optional_log_id, vote_from_pb,
    vote_to_pb,
};
use crate::pb::raft as pb;
use crate::raft_types::{LogId, TypeConfig};

pub(crate) fn append_to_pb(request: &AppendEntriesRequest<TypeConfig>) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: Some(vote_to_pb(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_pb),
        entries: request.entries.iter().map(entry_to_pb).collect(),
        committed: request.leader_commit.as_ref().map(log_id_to_pb),
    }
}

pub(crate) fn append_from_pb(
    request: pb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, DecodeError> {
    let entries = request.entries.into_iter().map(entry_from_pb);
    Ok(AppendEntriesRequest {
        vote: vote_from_pb(request.vote)?,
        prev_log_id: optional_log_id(request.previous)?,
        entries: entries.collect::<Result<_, _>>()?,
        leader_commit: optional_log_id(request.committed)?,
    })
}

pub(crate) fn append_reply_to_pb(result: &StreamAppendResult<TypeConfig>) -> pb::AppendReply {
    use pb::append_reply::Result as Reply;
    let reply = match result {
        Ok(last) => Reply::Matched(pb::Matched { last: last.as_ref().map(log_id_to_pb) }),
        Err(StreamAppendError::Conflict(at)) => Reply::Conflict(log_id_to_pb(at)),
        Err(StreamAppendError::HigherVote(vote)) => Reply::HigherVote(vote_to_pb(vote)),
    };
    pb::AppendReply { result: Some(reply) }
}

pub(crate) fn append_reply_from_pb(
    reply: pb::AppendReply,
) -> Result<StreamAppendResult<TypeConfig>, DecodeError> {
    use pb::append_reply::Result as Reply;
    Ok(match reply.result {
        None => return Err(DecodeError::Missing("result of an append")),
        Some(Reply::Matched(matched)) => Ok(optional_log_id(matched.last)?),
        Some(Reply::Conflict(at)) => Err(StreamAppendError::Conflict(log_id_from_pb(&at)?)),
        Some(Reply::HigherVote(vote)) => Err(StreamAppendError::HigherVote(vote_from_pb(Some(vote))?)),
    })
}

pub(crate) fn vote_request_to_pb(request: &VoteRequest<TypeConfig>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(vote_to_pb(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_pb),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_pb(request: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, DecodeError> {
    let vote = vote_from_pb(request.vote)?;
    let mut decoded = VoteRequest::new(vote, optional_log_id(request.last)?);
    decoded.leadership_transfer = request.leadership_transfer;
    Ok(decoded)
}

pub(crate) fn vote_reply_to_pb(reply: &VoteResponse<TypeConfig>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(vote_to_pb(&reply.vote)),
        granted: reply.vote_granted,
        last: reply.last_log_id.as_ref().map(log_id_to_pb),
    }
}

pub(crate) fn vote_reply_from_pb(reply: pb::VoteReply) -> Result<VoteResponse<TypeConfig>, DecodeError> {
    Ok(VoteResponse {
        vote: vote_from_pb(reply.vote)?,
        vote_granted: reply.granted,
        last_log_id: optional_log_id(reply.last)?,
    })
}

pub(crate) fn transfer_to_pb(request: &TransferLeaderRequest<TypeConfig>) -> pb::TransferRequest {
    pb::TransferRequest {
        from: Some(vote_to_pb(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(log_id_to_pb),
    }
}

pub(crate) fn transfer_from_pb(
    request: pb::TransferRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, DecodeError> {
    let from = vote_from_pb(request.from)?;
    let last: Option<LogId> = optional_log_id(request.last)?;
    Ok(TransferLeaderRequest::new(from, request.to, last))
}

pub(crate) fn transfer_reply_to_pb(reply: &TransferLeaderResponse<TypeConfig>) -> pb::TransferReply {
    pb::TransferReply {
        accepted: reply.is_ok(),
        reason: reply.as_ref().err().map(ToString::to_string).unwrap_or_default(),
    }
}

pub(crate) fn failure(code: pb::failure::Code, message: impl Into<String>) -> pb::Failure {
    pb::Failure { code: code.into(), message: message.into() }
}
