//! STREAM.LEADER.STEPDOWN and META.LEADER.STEPDOWN: the leader hands over, to the named server if it can.

use std::sync::Arc;

use weir_jsapi::request::LeaderStepDownRequest;
use weir_jsapi::response::{Success, kind};
use weir_jsapi::{ApiError, errors, response};
use weir_raft::PeerId;

use super::{Answer, Request, decode_optional};
use crate::context::Context;
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
    let preferred = query.placement.map(|placement| placement.preferred).filter(|name| !name.is_empty());
    let to = match preferred {
        Some(name) => Some(peer_named(context, &log, &name)?),
        None => None,
    };
    log.step_down(to).await.map_err(|reason| errors::RAFT_GENERAL.with(reason))?;
    Ok(Some(response::success(kind, Success { success: true })))
}

fn peer_named(context: &Context, log: &Arc<dyn Replicator>, name: &str) -> Result<PeerId, ApiError> {
    let members = log.status().members;
    members
        .into_iter()
        .find(|peer| context.peer_name(*peer) == name)
        .ok_or_else(|| errors::CLUSTER_NO_PEERS.with(format!("no replacement peer connected: {name}")))
}
