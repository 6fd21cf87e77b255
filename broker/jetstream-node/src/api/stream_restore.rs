//! STREAM.RESTORE, at the meta leader: judged before anything is sent, answered with the subject for the chunks.

use std::sync::Arc;

use weir_jsapi::advisory::RestoreCreate;
use weir_jsapi::request::StreamRestoreRequest;
use weir_jsapi::response::{StreamRestore, kind};
use weir_jsapi::{ApiError, errors, response};

use super::stream_create::place_soon;
use super::stream_snapshot::subject;
use super::{Answer, Request};
use crate::backup::restoring;
use crate::backup::session::{RunningRestore, Session};
use crate::backup::staging::Staging;
use crate::clock;
use crate::context::Context;

pub(crate) async fn start(context: &Arc<Context>, name: &str, request: &Request) -> Result<Answer, ApiError> {
    if request.is_empty() {
        return Err(errors::BAD_REQUEST.error());
    }
    let mut asked: StreamRestoreRequest = request.decode()?;
    if asked.config.name.is_empty() {
        name.clone_into(&mut asked.config.name);
    }
    if asked.config.name != name {
        return Err(errors::STREAM_MISMATCH.error());
    }
    let account = request.account.name();
    let limits = context.stream_limits(account, &asked.config)?;
    let config = context.meta.lock().machine().check_restore(account, asked.config, &limits, 0)?;
    if context.cluster.is_some() {
        place_soon(context, &config).await?;
    }
    let too_many = || errors::STREAM_RESTORE.with("too many restores at the same time");
    let running = RunningRestore::new(context, account, name).ok_or_else(too_many)?;
    let staging = Staging::create(&context.store_dir).map_err(|error| {
        tracing::error!("{}: a file for a restore: {error}", context.store_dir.display());
        errors::TEMP_STORAGE_FAILED.error()
    })?;
    tracing::info!("Starting restore for stream '{account} > {name}'");
    let client = request.asker.as_ref().and_then(|asker| asker.0.clone());
    let domain = context.domain.as_deref().unwrap_or_default();
    let body = RestoreCreate { stream: name, client: client.as_deref(), domain };
    context.emit(&request.account, &subject("RESTORE_CREATE", name), "restore_create", body);
    let session = Session {
        context: Arc::clone(context),
        account: Arc::clone(&request.account),
        config,
        client,
        start: clock::now(),
        staging: Arc::new(staging),
        running,
    };
    let deliver_subject = session.listen();
    Ok(Some(response::success(kind::STREAM_RESTORE, StreamRestore { deliver_subject })))
}

/// Takes away streams whose restore ended with the server that led it.
pub(crate) async fn give_up_abandoned(context: &Arc<Context>) {
    let abandoned: Vec<_> = {
        let meta = context.meta.lock();
        let running = context.restores.lock();
        let restoring = meta.machine().streams().filter(|stream| stream.restoring);
        let is_running =
            |account: &str, name: &str| running.contains_key(&(account.to_owned(), name.to_owned()));
        restoring.filter(|stream| !is_running(&stream.account, stream.name())).cloned().collect()
    };
    for stream in abandoned {
        tracing::warn!(
            "Restore of stream '{} > {}' was interrupted: given up",
            stream.account,
            stream.name()
        );
        if let Err(error) = context.meta.propose_wait(restoring::end(&stream, false)).await {
            tracing::debug!("giving up a restore: {error}");
            return;
        }
    }
}
