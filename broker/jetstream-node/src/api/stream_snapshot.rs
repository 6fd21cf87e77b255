//! STREAM.SNAPSHOT, at the stream's leader: answered at once; the backup follows in chunks.

use std::sync::Arc;

use serde_json::value::RawValue;
use weir_jsapi::advisory::{SnapshotComplete, SnapshotCreate};
use weir_jsapi::request::StreamSnapshotRequest;
use weir_jsapi::response::{StreamSnapshot, kind};
use weir_jsapi::{ApiError, errors, response};

use super::{Answer, Request};
use crate::backup::sending;
use crate::backup::source::Source;
use crate::clock;
use crate::stream::leader::StreamLeader;

pub(crate) fn start(leader: &Arc<StreamLeader>, request: &Request) -> Result<Answer, ApiError> {
    if request.is_empty() {
        return Err(errors::BAD_REQUEST.error());
    }
    let asked: StreamSnapshotRequest = request.decode()?;
    if !weir_subject::is_valid_literal(asked.deliver_subject.as_bytes()) {
        return Err(errors::SNAPSHOT_DELIVER_SUBJECT_INVALID.error());
    }
    let Some(replica) = leader.replica() else { return Ok(None) };
    let start = clock::now();
    let (account, stream) = (leader.account.name().to_owned(), leader.name().to_string());
    let what = if asked.jsck { "health check and snapshot" } else { "snapshot" };
    tracing::info!("Starting {what} for stream '{account} > {stream}'");
    let source = Source::new(&leader.context, &replica, !asked.no_consumers, start);
    let body = StreamSnapshot { config: (*source.config).clone(), state: source.state.clone() };
    request.respond_early(&leader.context, &response::success(kind::STREAM_SNAPSHOT, body));
    let client = request.asker.as_ref().and_then(|asker| asker.0.clone());
    tokio::spawn(run(Arc::clone(leader), asked, source, client));
    Ok(None)
}

async fn run(
    leader: Arc<StreamLeader>,
    asked: StreamSnapshotRequest,
    source: Source,
    client: Option<Box<RawValue>>,
) {
    let (context, account, stream) = (&leader.context, &leader.account, &**leader.name());
    let start = clock::now();
    let client = client.as_deref();
    let domain = context.domain.as_deref().unwrap_or_default();
    let body = SnapshotCreate { stream, state: &source.state, client, domain };
    context.emit(account, &subject("SNAPSHOT_CREATE", stream), "snapshot_create", body);
    let bytes = source.state.bytes;
    let result = sending::send(context, account, stream, &asked, source).await;
    let end = clock::now();
    let error = result.as_ref().err().map_or("", String::as_str);
    let (started, ended) = (start.to_rfc3339(), end.to_rfc3339());
    let body = SnapshotComplete { stream, start: &started, end: &ended, client, domain, error };
    context.emit(account, &subject("SNAPSHOT_COMPLETE", stream), "snapshot_complete", body);
    let (account, took) = (account.name(), crate::backup::took(start, end));
    match result {
        Ok(()) => {
            let size = weir_conf::friendly_bytes(bytes);
            tracing::info!("Completed snapshot of {size} for stream '{account} > {stream}' in {took}");
        }
        Err(reason) => {
            tracing::warn!("Snapshot for stream '{account} > {stream}' failed after {took}: {reason}");
        }
    }
}

/// Of an advisory.
pub(crate) fn subject(event: &str, stream: &str) -> String {
    format!("{}STREAM.{event}.{stream}", weir_jsapi::subject::ADVISORY_PREFIX)
}
