//! STREAM.DELETE: a committed command of the meta log; the files go to the trash on every server that holds them.

use std::sync::Arc;

use weir_hub::Account;
use weir_jetstream::meta::{MetaCommand, MetaOutcome};
use weir_jsapi::response::{Success, kind};
use weir_jsapi::{ApiError, errors, response};

use super::stream_create::{LEADER_POLL, LEADER_TIMEOUT, is_served};
use super::{Answer, Request, propose_failed};
use crate::context::Context;

pub(crate) async fn delete(
    context: &Arc<Context>,
    name: &str,
    request: &Request,
) -> Result<Answer, ApiError> {
    if !request.is_empty() {
        return Err(errors::NOT_EMPTY_REQUEST.error());
    }
    delete_named(context, &request.account, name).await?;
    Ok(Some(response::success(kind::STREAM_DELETE, Success { success: true })))
}

/// Deletes a stream and waits until its leader is gone.
pub(super) async fn delete_named(
    context: &Arc<Context>,
    account: &Arc<Account>,
    name: &str,
) -> Result<(), ApiError> {
    if context.assignment(account.name(), name).is_none() {
        return Err(errors::STREAM_NOT_FOUND.error());
    }
    let consumers = consumers_of(context, account.name(), name);
    let command = MetaCommand::DeleteStream { account: account.name().to_owned(), name: name.to_owned() };
    let outcome =
        context.meta.propose_wait(command.encode()).await.map_err(|error| propose_failed(&error))?;
    if let MetaOutcome::Refused(error) = outcome {
        return Err(error);
    }
    // The old leader must be gone before the client may create the name again.
    let deadline = tokio::time::Instant::now() + LEADER_TIMEOUT;
    while is_served(account, name) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(LEADER_POLL).await;
    }
    for consumer in consumers {
        context.consumer_action(account, name, &consumer, "delete");
    }
    context.stream_action(account, name, "delete");
    Ok(())
}

/// Names of a stream's consumers, where they are known here and somebody wants to hear of their end.
fn consumers_of(context: &Context, account: &str, stream: &str) -> Vec<String> {
    let Some(replica) = context.replica(account, stream) else { return Vec::new() };
    let state = replica.replicated.lock();
    let consumers = state.machine().consumers();
    consumers.map(|(name, _)| name.to_string()).collect()
}
