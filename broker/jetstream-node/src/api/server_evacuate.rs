//! SERVER.EVACUATE, of the system account: every replica leaves a server, for another one that fits. Where none fits the
//! replica stays, unlike in nats-server: a stream is not left with less than it was promised.

use std::sync::Arc;

use weir_jetstream::meta::{MetaPeer, StreamAssignment};
use weir_jsapi::response::{Success, kind};
use weir_jsapi::{ApiError, response};

use super::{Answer, stream_change, stream_peer};
use crate::context::Context;

/// Answers that it begins; the streams' groups make the changes.
pub(super) fn begin(context: &Arc<Context>, server: MetaPeer) -> Answer {
    let streams: Vec<Arc<StreamAssignment>> = {
        let meta = context.meta.lock();
        let held = meta.machine().streams().filter(|stream| stream.peers.contains(&server.id));
        held.filter(|stream| !stream.restoring).cloned().collect()
    };
    tracing::info!("Evacuating server {}: {} streams have a replica there", server.name, streams.len());
    let context = Arc::clone(context);
    tokio::spawn(async move {
        for stream in streams {
            if let Err(error) = evacuate(&context, &stream, server.id).await {
                tracing::warn!(
                    "JetStream cluster could not replace peer for stream '{} > {}': {error}",
                    stream.account,
                    stream.name()
                );
            }
        }
    });
    Some(response::success(kind::META_SERVER_EVACUATE, Success { success: true }))
}

async fn evacuate(context: &Arc<Context>, stream: &StreamAssignment, leaving: u64) -> Result<(), ApiError> {
    // As it is now: the streams before this one took their time.
    let Some(current) = context.assignment(&stream.account, stream.name()) else { return Ok(()) };
    if current.group != stream.group || !current.peers.contains(&leaving) {
        return Ok(());
    }
    let staying: Vec<u64> = current.peers.iter().copied().filter(|peer| *peer != leaving).collect();
    let peers = stream_peer::replacement(context, &current.config, &staying, leaving)?;
    stream_change::move_to(context, &current.account, current.name(), peers).await
}
