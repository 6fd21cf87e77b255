//! What the requests about a stream's or a consumer's peer have in common: the peer that they name. And the consumer's,
//! which come to nothing: a consumer's replicas are its stream's.

use weir_jsapi::request::{
    ConsumerPeerEvacuateRequest, ConsumerPeerRemoveRequest, PeerEvacuateRequest, PeerRemoveRequest,
};
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{ApiError, errors};
use weir_raft::PeerId;

use super::{Answer, Request};
use crate::context::Context;
use crate::stream::leader::StreamLeader;

/// The peer that a request names, by name or by id.
pub(super) fn named(parsed: &ApiRequest<'_>, request: &Request) -> Result<String, ApiError> {
    if request.is_empty() {
        return Err(errors::BAD_REQUEST.error());
    }
    let peer = match parsed {
        ApiRequest::StreamPeerEvacuate(_) => request.decode::<PeerEvacuateRequest>()?.peer,
        ApiRequest::ConsumerPeerRemove { .. } => request.decode::<ConsumerPeerRemoveRequest>()?.peer,
        ApiRequest::ConsumerPeerEvacuate { .. } => request.decode::<ConsumerPeerEvacuateRequest>()?.peer,
        _ => request.decode::<PeerRemoveRequest>()?.peer,
    };
    if peer.is_empty() { Err(errors::BAD_REQUEST.error()) } else { Ok(peer) }
}

/// The member of a group that a request names.
pub(super) fn member(context: &Context, peers: &[u64], named: &str) -> Result<u64, ApiError> {
    let is_named = |peer: u64| context.peer_name(PeerId(peer)) == named || peer.to_string() == named;
    peers.iter().copied().find(|peer| is_named(*peer)).ok_or_else(|| errors::CLUSTER_PEER_NOT_MEMBER.error())
}

/// CONSUMER.PEER.REMOVE and CONSUMER.PEER.EVACUATE: there is no other server to go to.
pub(super) fn of_consumer(
    leader: &StreamLeader,
    parsed: &ApiRequest<'_>,
    name: &str,
    request: &Request,
) -> Result<Answer, ApiError> {
    let named = named(parsed, request)?;
    let Some(replica) = leader.replica() else { return Ok(None) };
    if replica.replicated.lock().machine().consumer(name).is_none() {
        return Err(errors::CONSUMER_NOT_FOUND.error());
    }
    member(&leader.context, &replica.assignment().peers, &named)?;
    Err(errors::PEER_REMAP.error())
}
