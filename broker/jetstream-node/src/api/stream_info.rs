//! STREAM.INFO, at the stream's leader.

use std::sync::Arc;

use weir_jetstream::config::with_server_metadata;
use weir_jsapi::request::StreamInfoRequest;
use weir_jsapi::response::kind;
use weir_jsapi::{ApiError, StreamAlternate, response};

use super::{Answer, Request, decode_optional};
use crate::clock;
use crate::stream::leader::StreamLeader;

pub(crate) fn info(leader: &Arc<StreamLeader>, request: &Request) -> Result<Answer, ApiError> {
    let query: StreamInfoRequest = decode_optional(request)?;
    let Some(replica) = leader.replica() else { return Ok(None) };
    let mut page = replica.replicated.lock().machine().info_page(&query, clock::now());
    leader.complete(&mut page.info);
    leader.name_leader(&mut page.info);
    page.info.alternates = alternates(leader);
    with_server_metadata(&mut page.info.config.metadata);
    Ok(Some(response::success(kind::STREAM_INFO, page)))
}

/// The stream and its mirrors in this cluster, where there are any.
fn alternates(leader: &StreamLeader) -> Vec<StreamAlternate> {
    let Some(cluster) = &leader.context.cluster else { return Vec::new() };
    let name: &str = leader.name();
    let is_one = |config: &weir_jsapi::StreamConfig| {
        config.name == name || config.mirror.as_ref().is_some_and(|mirror| mirror.name == name)
    };
    let meta = leader.context.meta.lock();
    let streams = meta.machine().streams_of(leader.account.name());
    let alternates: Vec<StreamAlternate> = streams
        .filter(|assignment| is_one(&assignment.config))
        .map(|assignment| StreamAlternate {
            name: assignment.name().to_owned(),
            domain: leader.context.domain.as_deref().unwrap_or_default().to_owned(),
            cluster: cluster.name.clone(),
        })
        .collect();
    if alternates.len() == 1 { Vec::new() } else { alternates }
}
