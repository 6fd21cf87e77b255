//! STREAM.INFO, at the stream's leader.

use std::sync::Arc;

use weir_jetstream::config::with_server_metadata;
use weir_jsapi::request::StreamInfoRequest;
use weir_jsapi::response::kind;
use weir_jsapi::{ApiError, response};

use super::{Answer, Request, decode_optional};
use crate::clock;
use crate::stream::leader::StreamLeader;

pub(crate) fn info(leader: &Arc<StreamLeader>, request: &Request) -> Result<Answer, ApiError> {
    let query: StreamInfoRequest = decode_optional(request)?;
    let Some(replica) = leader.replica() else { return Ok(None) };
    let mut page = replica.replicated.lock().machine().info_page(&query, clock::now());
    leader.complete(&mut page.info);
    leader.name_leader(&mut page.info);
    with_server_metadata(&mut page.info.config.metadata);
    Ok(Some(response::success(kind::STREAM_INFO, page)))
}
