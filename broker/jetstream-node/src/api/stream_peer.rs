//! STREAM.PEER.REMOVE and STREAM.PEER.EVACUATE, at the meta leader: a stream's replica leaves a server, another one takes
//! its place. The stream's own group makes the change; the answer says that it is to be.

use std::sync::Arc;

use weir_jsapi::response::Success;
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{ApiError, StreamConfig, errors, response};

use super::{Answer, Request, peer, stream_change};
use crate::context::Context;
use crate::placement::{Bounds, place_within};

pub(crate) async fn remove(
    context: &Arc<Context>,
    parsed: &ApiRequest<'_>,
    name: &str,
    request: &Request,
) -> Result<Answer, ApiError> {
    let named = peer::named(parsed, request)?;
    let account = request.account.name();
    let assignment = context.assignment(account, name).ok_or_else(|| errors::STREAM_NOT_FOUND.error())?;
    let leaving = peer::member(context, &assignment.peers, &named)?;
    let peers = replace(context, &assignment.config, &assignment.peers, leaving)?;
    stream_change::move_to(context, account, name, peers).await?;
    Ok(Some(response::success(parsed.response_kind(), Success { success: true })))
}

/// The peers without one of them, and another in its place.
fn replace(
    context: &Context,
    config: &StreamConfig,
    peers: &[u64],
    leaving: u64,
) -> Result<Vec<u64>, ApiError> {
    let staying: Vec<u64> = peers.iter().copied().filter(|peer| *peer != leaving).collect();
    replacement(context, config, &staying, leaving).map_err(|_| errors::PEER_REMAP.error())
}

/// Those that stay, and one more that is not the one that leaves.
pub(super) fn replacement(
    context: &Context,
    config: &StreamConfig,
    staying: &[u64],
    leaving: u64,
) -> Result<Vec<u64>, ApiError> {
    let bounds = Bounds { keep: staying, without: &[leaving], ..Bounds::default() };
    let chosen = place_within(context, config, bounds)?;
    let mut peers = staying.to_vec();
    // Of those that stay one may be away now, with another in its place among the chosen.
    peers.extend(chosen.into_iter().filter(|peer| !staying.contains(peer)).take(1));
    Ok(peers)
}
