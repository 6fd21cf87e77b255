//! CONSUMER.LEADER.STEPDOWN, STREAM.LEADER.STEPDOWN and META.LEADER.STEPDOWN: the leader hands over, to the named server if it can.

use std::sync::Arc;

use weir_jsapi::request::LeaderStepDownRequest;
use weir_jsapi::response::{Success, kind};
use weir_jsapi::{ApiError, Placement, errors, response};
use weir_raft::PeerId;

use super::{Answer, Request, decode_optional};
use crate::context::Context;
use crate::placement::has_tags;
use crate::replicator::Replicator;
use crate::stream::leader::StreamLeader;

pub(crate) async fn stream_step_down(
    leader: &Arc<StreamLeader>,
    request: &Request,
) -> Result<Answer, ApiError> {
    let log = leader.replica().and_then(|replica| replica.replicated.replicator().cloned());
    step_down(&leader.context, log, kind::STREAM_LEADER_STEPDOWN, request).await
}

pub(crate) async fn meta_step_down(context: &Arc<Context>, request: &Request) -> Result<Answer, ApiError> {
    step_down(context, context.meta.replicator().cloned(), kind::META_LEADER_STEPDOWN, request).await
}

/// A consumer is led where its stream is: there is no other to hand it to.
pub(crate) fn consumer_step_down(leader: &Arc<StreamLeader>, name: &str) -> Result<Answer, ApiError> {
    let Some(replica) = leader.replica() else { return Ok(None) };
    if replica.replicated.lock().machine().consumer(name).is_none() {
        return Err(errors::CONSUMER_NOT_FOUND.error());
    }
    Ok(Some(response::success(kind::CONSUMER_LEADER_STEPDOWN, Success { success: true })))
}

async fn step_down(
    context: &Context,
    log: Option<Arc<dyn Replicator>>,
    kind: &'static str,
    request: &Request,
) -> Result<Answer, ApiError> {
    if context.cluster.is_none() {
        return Err(errors::CLUSTER_REQUIRED.error());
    }
    let query: LeaderStepDownRequest = decode_optional(request)?;
    let Some(log) = log else { return Err(errors::CLUSTER_NOT_AVAIL.error()) };
    let to = match query.placement {
        Some(placement) => Some(successor(context, &log, &placement)?),
        None => None,
    };
    log.step_down(to).await.map_err(|reason| errors::RAFT_GENERAL.with(reason))?;
    Ok(Some(response::success(kind, Success { success: true })))
}

/// The server that a placement names, or any other that fits.
fn successor(
    context: &Context,
    log: &Arc<dyn Replicator>,
    placement: &Placement,
) -> Result<PeerId, ApiError> {
    let refuse = |text: String| errors::CLUSTER_NO_PEERS.with(text);
    let status = log.status();
    let preferred = &placement.preferred;
    if !preferred.is_empty() {
        let found = status.members.iter().find(|peer| context.peer_name(**peer) == *preferred);
        return match found {
            Some(peer) if *peer == context.peer_id => {
                Err(refuse(format!("preferred server {preferred:?} is already leader")))
            }
            Some(peer) => Ok(*peer),
            None => Err(refuse(format!("preferred server {preferred:?} not known"))),
        };
    }
    let own = context.cluster.as_ref().map_or("", |cluster| cluster.name.as_str());
    let fits = placement.cluster.is_empty() || placement.cluster == own;
    let mut others = status.replicas.iter().filter(|replica| {
        replica.online
            && replica.peer != context.peer_id
            && has_tags(context, replica.peer.0, &placement.tags)
    });
    let found = if fits { others.next() } else { None };
    found.map(|replica| replica.peer).ok_or_else(|| refuse("no replacement peer connected".to_owned()))
}
