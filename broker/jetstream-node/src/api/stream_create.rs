//! STREAM.CREATE: judged and placed by the meta leader, put into the meta log, answered when the stream's leader
//! serves it.

use std::sync::Arc;
use std::time::Duration;

use weir_hub::Account;
use weir_jetstream::config::with_server_metadata;
use weir_jetstream::meta::{MetaCommand, MetaOutcome, StreamAssignment};
use weir_jsapi::request::StreamConfigRequest;
use weir_jsapi::response::{StreamCreated, kind};
use weir_jsapi::{ApiError, StorageType, StreamConfig, StreamInfo, errors, response};

use super::{Answer, Request, propose_failed, stream_list, unsupported};
use crate::clock;
use crate::context::Context;
use crate::placement::place;

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
    let asked = decode(request)?;
    if asked.config.name != name {
        return Err(errors::STREAM_MISMATCH.error());
    }
    let account = request.account.name();
    let limits = context.stream_limits(account, &asked.config)?;
    let (config, peers) = {
        let meta = context.meta.lock();
        let config = meta.machine().check_create(account, asked.config, &limits, asked.pedantic)?;
        let existing = meta.machine().stream(account, name).map(|stream| stream.peers.clone());
        (config, existing)
    };
    let is_alone = context.cluster.is_none();
    if peers.is_none() && is_alone && config.storage == StorageType::File && context.space.is_full() {
        return Err(errors::INSUFFICIENT_RESOURCES.error());
    }
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
    let is_new = matches!(outcome, MetaOutcome::Created(_));
    let assignment = match outcome {
        MetaOutcome::Created(assignment) | MetaOutcome::Existed(assignment) => assignment,
        MetaOutcome::Refused(error) => return Err(error),
        _ => return Err(errors::STREAM_CREATE.with("unexpected outcome")),
    };
    if let Some(reason) = context.offline_reason(&request.account, &assignment) {
        return Err(unsupported::refusal(&reason).await);
    }
    let mut info = wait_for_leader(context, &request.account, &assignment).await?;
    with_server_metadata(&mut info.config.metadata);
    // A server on its own says so of a stream that was there as well, as nats-server.
    let did_create = is_new || context.cluster.is_none();
    // Unlike STREAM.INFO and STREAM.UPDATE.
    info.domain.clear();
    if is_new {
        context.stream_action(&request.account, name, "create");
    }
    Ok(Some(response::success(kind::STREAM_CREATE, StreamCreated { info, did_create })))
}

/// Reads the body.
pub(crate) fn decode(request: &Request) -> Result<StreamConfigRequest, ApiError> {
    request.decode_stream_config()
}

/// Servers for a new stream. A meta leader that was just elected has not heard of all members yet: it looks again for
/// a while before it says that there are too few.
pub(super) async fn place_soon(context: &Arc<Context>, config: &StreamConfig) -> Result<Vec<u64>, ApiError> {
    let deadline = tokio::time::Instant::now() + PLACEMENT_PATIENCE;
    loop {
        match place(context, config, &[]) {
            Err(error) if !is_passing(context, config) || tokio::time::Instant::now() >= deadline => {
                return Err(error);
            }
            Err(_) => {}
            Ok(peers) => return Ok(peers),
        }
        crate::meta::leader::record_members(context).await;
        tokio::time::sleep(PLACEMENT_POLL).await;
    }
}

/// Whether servers that fit may only not have been heard of yet.
fn is_passing(context: &Context, config: &StreamConfig) -> bool {
    let members = context.meta.status().members.len();
    let heard = context.members();
    let wanted = usize::try_from(config.num_replicas).unwrap_or(1);
    wanted <= members
        && (heard.len() < members || heard.iter().any(|member| !context.is_available(member.id)))
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
