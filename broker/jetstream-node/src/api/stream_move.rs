//! ACCOUNT.STREAM.MOVE and .CANCEL_MOVE, of the system account or of the account itself: one replica of a stream leaves
//! a server for another that fits. The stream's own group makes the change.

use std::sync::Arc;

use weir_jetstream::meta::StreamAssignment;
use weir_jsapi::request::StreamMoveRequest;
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{ApiError, StreamConfig, errors};

use super::{Answer, Request, stream_change, stream_peer};
use crate::context::Context;

pub(super) async fn answer(
    context: &Arc<Context>,
    parsed: &ApiRequest<'_>,
    account: &str,
    stream: &str,
    request: &Request,
) -> Result<Answer, ApiError> {
    if context.cluster.is_none() {
        return Ok(None);
    }
    let cancels = matches!(parsed, ApiRequest::AccountStreamCancelMove { .. });
    let asked: StreamMoveRequest =
        if cancels { StreamMoveRequest::default() } else { super::decode_optional(request)? };
    if context.hub.account(account).is_none() {
        return Err(errors::NO_ACCOUNT.error());
    }
    let current = context.assignment(account, stream).ok_or_else(|| errors::STREAM_NOT_FOUND.error())?;
    if cancels {
        // Moves are over when they are answered.
        return Err(errors::STREAM_RECONFIGURE_NOT_IN_PROGRESS.error());
    }
    let leaving = leaving(context, &asked, &current)?;
    let staying: Vec<u64> = current.peers.iter().copied().filter(|peer| *peer != leaving).collect();
    let peers = stream_peer::replacement(context, &wish(&current.config, asked.tags), &staying, leaving)?;
    let names = |peers: &[u64]| -> Vec<String> {
        peers.iter().map(|peer| context.peer_name(weir_raft::PeerId(*peer))).collect()
    };
    tracing::info!(
        "Requested move for stream '{account} > {stream}' R={} from {:?} to {:?}",
        current.config.num_replicas,
        names(&current.peers),
        names(&peers)
    );
    stream_change::move_to(context, account, stream, peers).await?;
    stream_change::updated(context, account, stream, &current.config).await
}

/// The server that is to give its replica up: the one that was named, else the first.
fn leaving(
    context: &Context,
    asked: &StreamMoveRequest,
    current: &StreamAssignment,
) -> Result<u64, ApiError> {
    if asked.server.is_empty() {
        return current.peers.first().copied().ok_or_else(|| errors::CLUSTER_PEER_NOT_MEMBER.error());
    }
    let own = context.cluster.as_ref().map_or("", |cluster| cluster.name.as_str());
    let is_here = (asked.cluster.is_empty() || asked.cluster == own)
        && (asked.domain.is_empty() || Some(asked.domain.as_str()) == context.domain.as_deref());
    let members = context.members();
    let named = members.iter().find(|member| is_here && member.name == asked.server);
    let id = named.ok_or_else(|| errors::CLUSTER_SERVER_NOT_MEMBER.error())?.id;
    if current.peers.contains(&id) { Ok(id) } else { Err(errors::CLUSTER_PEER_NOT_MEMBER.error()) }
}

/// The stream's configuration with the tags that this one move asks for.
fn wish(config: &StreamConfig, tags: Vec<String>) -> StreamConfig {
    let mut wish = config.clone();
    if !tags.is_empty() {
        wish.placement.get_or_insert_default().tags.extend(tags);
    }
    wish
}
