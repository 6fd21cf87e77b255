//! STREAM.CREATE: judged and placed by the meta leader, put into the meta log, answered when the stream's leader
//! serves it.

use std::sync::Arc;
use std::time::Duration;

use weir_hub::Account;
use weir_jetstream::config::with_server_metadata;
use weir_jetstream::meta::{MetaCommand, MetaOutcome, StreamAssignment, choose_peers};
use weir_jsapi::request::StreamConfigRequest;
use weir_jsapi::response::{StreamCreated, kind};
use weir_jsapi::{ApiError, StreamConfig, StreamInfo, errors, response};

use super::{Answer, Request, propose_failed, stream_list};
use crate::clock;
use crate::context::Context;

/// How long a new stream may take to get a leader.
pub(crate) const LEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks for it.
pub(crate) const LEADER_POLL: Duration = Duration::from_millis(5);
/// How long too few servers may be a passing state.
const PLACEMENT_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks for them.
const PLACEMENT_POLL: Duration = Duration::from_millis(50);
/// How long a stream's leader may take to answer.
const INFO_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) async fn create(
    context: &Arc<Context>,
    name: &str,
    request: &Request,
) -> Result<Answer, ApiError> {
    let asked = decode(name, request)?;
    let account = request.account.name();
    let (config, peers) = {
        let meta = context.meta.lock();
        let config =
            meta.machine().check_create(account, asked.config, &context.account_limits(), asked.pedantic)?;
        let existing = meta.machine().stream(account, name).map(|stream| stream.peers.clone());
        (config, existing)
    };
    let peers = match peers {
        Some(peers) => peers,
        None => place_soon(context, &config).await?,
    };
    let command = MetaCommand::CreateStream {
        account: account.to_owned(),
        config: Box::new(config),
        peers,
        created: clock::now(),
    };
    let outcome =
        context.meta.propose_wait(command.encode()).await.map_err(|error| propose_failed(&error))?;
    let assignment = match outcome {
        MetaOutcome::Created(assignment) | MetaOutcome::Existed(assignment) => assignment,
        MetaOutcome::Refused(error) => return Err(error),
        _ => return Err(errors::STREAM_CREATE.with("unexpected outcome")),
    };
    let mut info = wait_for_leader(context, &request.account, &assignment).await?;
    with_server_metadata(&mut info.config.metadata);
    Ok(Some(response::success(kind::STREAM_CREATE, StreamCreated { info, did_create: true })))
}

/// Reads the body and checks that it is for the stream of the subject.
pub(crate) fn decode(name: &str, request: &Request) -> Result<StreamConfigRequest, ApiError> {
    let asked =
        StreamConfigRequest::decode(&request.body).map_err(|error| errors::INVALID_JSON.with(error))?;
    if asked.config.name != name {
        return Err(errors::STREAM_MISMATCH.error());
    }
    Ok(asked)
}

/// Servers for a new stream. A meta leader that was just elected has not heard of all members yet: it looks again for
/// a while before it says that there are too few.
async fn place_soon(context: &Arc<Context>, config: &StreamConfig) -> Result<Vec<u64>, ApiError> {
    let deadline = tokio::time::Instant::now() + PLACEMENT_PATIENCE;
    loop {
        match place(context, config, &[]) {
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => {}
            Ok(peers) => return Ok(peers),
        }
        crate::meta::leader::record_members(context).await;
        tokio::time::sleep(PLACEMENT_POLL).await;
    }
}

/// Servers for a stream's replicas; `keep` are those that have one.
pub(crate) fn place(context: &Context, config: &StreamConfig, keep: &[u64]) -> Result<Vec<u64>, ApiError> {
    let Some(cluster) = &context.cluster else { return Ok(vec![context.peer_id.0]) };
    if let Some(placement) = &config.placement {
        let elsewhere = !placement.cluster.is_empty() && placement.cluster != cluster.name;
        // Servers have no tags here: none of them fits.
        if elsewhere || !placement.tags.is_empty() {
            return Err(errors::CLUSTER_NO_PEERS.with("no suitable peers for placement, tags not matched"));
        }
    }
    let available: Vec<u64> =
        context.members().iter().map(|member| member.id).filter(|id| context.is_available(*id)).collect();
    let meta = context.meta.lock();
    Ok(choose_peers(meta.machine(), config, keep, &|id| available.contains(&id))?)
}

/// Waits until the stream has a leader that serves it, then asks for its info.
pub(crate) async fn wait_for_leader(
    context: &Arc<Context>,
    account: &Arc<Account>,
    assignment: &StreamAssignment,
) -> Result<StreamInfo, ApiError> {
    let deadline = tokio::time::Instant::now() + LEADER_TIMEOUT;
    loop {
        if is_served(account, assignment.name())
            && let Some(info) =
                stream_list::stream_info(context, account, assignment.name(), INFO_TIMEOUT).await
        {
            return Ok(info);
        }
        if let Some(reason) = context.open_failure(assignment.group) {
            return Err(errors::STREAM_CREATE.with(reason));
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(errors::CLUSTER_NOT_AVAIL.error());
        }
        tokio::time::sleep(LEADER_POLL).await;
    }
}

/// Whether some server leads the stream now: its leader alone takes its acknowledgements.
pub(crate) fn is_served(account: &Arc<Account>, stream: &str) -> bool {
    account.has_interest(format!("$JS.ACK.{stream}.-.1.1.1.1.1").as_bytes())
}
