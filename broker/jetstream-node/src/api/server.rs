//! What the meta leader does for the system account: its own step-down, servers that leave, accounts that are purged.

use std::sync::Arc;

use weir_jetstream::meta::{MetaCommand, MetaOutcome, MetaPeer};
use weir_jsapi::request::{ServerEvacuateRequest, ServerRemoveRequest};
use weir_jsapi::response::{AccountPurged, Success, kind};
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{ApiError, errors, response};
use weir_raft::PeerId;

use super::{
    Answer, Request, leader, propose_failed, required_api_level, server_evacuate, stream_delete, stream_move,
};
use crate::context::Context;

/// How long the meta group may take to let a member go.
const CHANGE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) async fn answer(
    context: &Arc<Context>,
    parsed: &ApiRequest<'_>,
    request: &Request,
) -> Result<Answer, ApiError> {
    if let ApiRequest::AccountPurge(account) = parsed {
        return purge_account(context, account, request).await;
    }
    // A server on its own does not listen to the rest, in nats-server.
    if context.cluster.is_none() {
        return Ok(None);
    }
    required_api_level(request)?;
    match parsed {
        ApiRequest::MetaLeaderStepDown => leader::meta_step_down(context, request).await,
        ApiRequest::ServerRemove => {
            let named = |asked: ServerRemoveRequest| (asked.peer, asked.peer_id);
            remove_server(context, named_server(context, request, named)?).await
        }
        ApiRequest::ServerEvacuate => {
            let named = |asked: ServerEvacuateRequest| (asked.peer, asked.peer_id);
            Ok(server_evacuate::begin(context, named_server(context, request, named)?))
        }
        ApiRequest::AccountStreamMove { account, stream }
        | ApiRequest::AccountStreamCancelMove { account, stream } => {
            stream_move::answer(context, parsed, account, stream, request).await
        }
        _ => Ok(None),
    }
}

async fn purge_account(context: &Arc<Context>, account: &str, request: &Request) -> Result<Answer, ApiError> {
    if account.contains(['/', '\\']) {
        return Err(errors::STREAM_GENERAL.with("account name can not contain path separators"));
    }
    if context.cluster.is_some() {
        required_api_level(request)?;
    }
    let streams: Vec<String> = {
        let meta = context.meta.lock();
        meta.machine().streams_of(account).map(|stream| stream.name().to_owned()).collect()
    };
    tracing::info!(
        "Purge request for account {account} (streams: {}, hasAccount: {})",
        streams.len(),
        !streams.is_empty()
    );
    let owner = context.account(account);
    for stream in streams {
        match stream_delete::delete_named(context, &owner, &stream).await {
            // Somebody else deleted it meanwhile.
            Err(error) if error.err_code == errors::STREAM_NOT_FOUND.err_code => {}
            Err(error) => return Err(error),
            Ok(()) => {}
        }
    }
    Ok(Some(response::success(kind::ACCOUNT_PURGE, AccountPurged { initiated: true })))
}

/// Takes a server out of the meta group for good. Unlike nats-server it does not do so while the server holds replicas:
/// they have to be elsewhere first.
async fn remove_server(context: &Arc<Context>, member: MetaPeer) -> Result<Answer, ApiError> {
    let peer = PeerId(member.id);
    if peer == context.peer_id {
        return Err(errors::RAFT_GENERAL.with("the meta leader can not be removed: let it step down first"));
    }
    let Some(group) = context.meta.replicator().and_then(|log| log.group()) else {
        return Err(errors::CLUSTER_NOT_AVAIL.error());
    };
    let command = MetaCommand::PeerRemoved { id: member.id };
    let outcome =
        context.meta.propose_wait(command.encode()).await.map_err(|error| propose_failed(&error))?;
    if let MetaOutcome::PeerInUse(streams) = outcome {
        let streams = streams.join(", ");
        return Err(errors::RAFT_GENERAL.with(format!("server {} holds replicas of {streams}", member.name)));
    }
    if group.status().voters.contains(&peer) {
        group.remove_member(peer, CHANGE_TIMEOUT).await.map_err(|error| errors::RAFT_GENERAL.with(error))?;
    }
    tracing::info!("Server {} was removed from the JetStream meta group", member.name);
    Ok(Some(response::success(kind::META_SERVER_REMOVE, Success { success: true })))
}

/// The member of the meta group that a request names, by `(name, id)`.
fn named_server<T: serde::de::DeserializeOwned>(
    context: &Context,
    request: &Request,
    named: impl FnOnce(T) -> (String, String),
) -> Result<MetaPeer, ApiError> {
    if request.is_empty() {
        return Err(errors::BAD_REQUEST.error());
    }
    let (name, id) = named(request.decode()?);
    let by_id = id.parse::<u64>().ok();
    let found = context
        .members()
        .into_iter()
        .find(|member| if id.is_empty() { member.name == name } else { Some(member.id) == by_id });
    found.ok_or_else(|| errors::CLUSTER_SERVER_NOT_MEMBER.error())
}
