//! STREAM.UPDATE: judged by the meta leader, put into the meta log, answered when the stream's leader has taken it
//! over.

use std::sync::Arc;
use std::time::Duration;

use weir_jetstream::config::with_server_metadata;
use weir_jetstream::meta::{MetaCommand, MetaOutcome, StreamAssignment};
use weir_jsapi::response::{StreamCreated, kind};
use weir_jsapi::{ApiError, StreamConfig, errors, response};

use super::stream_create::{LEADER_POLL, LEADER_TIMEOUT, decode};
use super::{Answer, Request, propose_failed, stream_list, unsupported};
use crate::context::Context;
use crate::placement::{Bounds, has_too_many_assets, place, place_within};

/// How long a stream's leader may take to answer.
const INFO_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) async fn update(
    context: &Arc<Context>,
    name: &str,
    request: &Request,
) -> Result<Answer, ApiError> {
    let asked = decode(request)?;
    let account = request.account.name();
    let limits = context.stream_limits(account, &asked.config)?;
    let (current, config) = {
        let meta = context.meta.lock();
        let config = meta.machine().check_update(account, name, asked.config, &limits, asked.pedantic)?;
        let current = meta.machine().stream(account, name).cloned();
        (current.ok_or_else(|| errors::STREAM_NOT_FOUND.error())?, config)
    };
    if let Some(reason) = context.offline_reason(&request.account, &current) {
        return Err(unsupported::refusal(&reason).await);
    }
    check_consumers(context, &current, &config)?;
    let peers = peers_for(context, &current, &config)?;
    let update = MetaCommand::UpdateStream { account: account.to_owned(), config: Box::new(config.clone()) };
    propose(context, &update).await?;
    if peers != current.peers {
        move_to(context, account, name, peers).await?;
    }
    updated(context, account, name, &config).await
}

/// Has the stream's replicas go to these servers.
pub(super) async fn move_to(
    context: &Arc<Context>,
    account: &str,
    name: &str,
    peers: Vec<u64>,
) -> Result<(), ApiError> {
    let (account, name) = (account.to_owned(), name.to_owned());
    propose(context, &MetaCommand::MoveStream { account, name, peers }).await
}

/// The answer to an update, when the stream's leader has taken it over.
pub(super) async fn updated(
    context: &Arc<Context>,
    account: &str,
    name: &str,
    config: &StreamConfig,
) -> Result<Answer, ApiError> {
    let owner = context.account(account);
    let deadline = tokio::time::Instant::now() + LEADER_TIMEOUT;
    loop {
        let info = stream_list::stream_info(context, &owner, name, INFO_TIMEOUT).await;
        // Another update may have come behind this one: then its configuration is the one to wait for no longer.
        let superseded = context.assignment(account, name).is_none_or(|stream| *stream.config != *config);
        if let Some(mut info) = info
            && (info.config == *config || superseded)
        {
            with_server_metadata(&mut info.config.metadata);
            context.stream_action(&owner, name, "modify");
            return Ok(Some(response::success(
                kind::STREAM_UPDATE,
                StreamCreated { info, did_create: false },
            )));
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(errors::CLUSTER_NOT_AVAIL.error());
        }
        tokio::time::sleep(LEADER_POLL).await;
    }
}

async fn propose(context: &Arc<Context>, command: &MetaCommand) -> Result<(), ApiError> {
    match context.meta.propose_wait(command.encode()).await.map_err(|error| propose_failed(&error))? {
        MetaOutcome::Refused(error) => Err(error),
        _ => Ok(()),
    }
}

/// No consumer may exceed a limit that the update sets, as far as this server knows the stream's consumers.
fn check_consumers(
    context: &Context,
    current: &StreamAssignment,
    config: &StreamConfig,
) -> Result<(), ApiError> {
    let (old, new) = (&current.config.consumer_limits, &config.consumer_limits);
    let is_set = |old: i64, new: i64| new > 0 && old != new;
    if !is_set(old.inactive_threshold, new.inactive_threshold)
        && !is_set(old.max_ack_pending, new.max_ack_pending)
    {
        return Ok(());
    }
    let Some(replica) = context.replicas.read().get(&current.group).cloned() else { return Ok(()) };
    let exceeds = |value: i64, limit: i64| limit > 0 && value > limit;
    let state = replica.replicated.lock();
    let violated: Vec<&str> = state
        .machine()
        .consumers()
        .filter(|(_, consumer)| {
            exceeds(consumer.config.inactive_threshold, new.inactive_threshold)
                || exceeds(consumer.config.max_ack_pending, new.max_ack_pending)
        })
        .map(|(name, _)| &**name)
        .collect();
    if violated.is_empty() {
        return Ok(());
    }
    let text = format!("change to limits violates consumers: {}", violated.join(", "));
    Err(errors::STREAM_UPDATE.with(text))
}

/// Peers after the update: as many as asked for, those there are staying as far as they can.
fn peers_for(
    context: &Context,
    current: &StreamAssignment,
    config: &StreamConfig,
) -> Result<Vec<u64>, ApiError> {
    let wanted = usize::try_from(config.num_replicas).unwrap_or(1);
    let have = current.peers.len();
    let before = &current.config;
    if config.placement.is_some() && config.placement != before.placement {
        if config.num_replicas != before.num_replicas || config.retention != before.retention {
            return Err(errors::STREAM_MOVE_AND_SCALE.error());
        }
        return place_within(context, config, Bounds { prefer: &current.peers, ..Bounds::default() });
    }
    if wanted == have {
        return Ok(current.peers.clone());
    }
    if wanted > have {
        // Those that have a replica get one more that is replicated.
        let is_first = before.num_replicas <= 1;
        if is_first && current.peers.iter().any(|peer| has_too_many_assets(context, *peer)) {
            return Err(errors::INSUFFICIENT_RESOURCES.error());
        }
        return place(context, config, &current.peers);
    }
    // The leader stays.
    let leader = context.stream_leader(current.group).map(|peer| peer.0);
    let mut peers = current.peers.clone();
    peers.sort_by_key(|peer| Some(*peer) != leader);
    peers.truncate(wanted);
    Ok(peers)
}
