//! CONSUMER.INFO, CONSUMER.NAMES and CONSUMER.LIST, at the stream's leader.

use std::sync::Arc;

use weir_jetstream::config::with_server_metadata;
use weir_jsapi::request::ConsumersRequest;
use weir_jsapi::response::{ConsumerList, ConsumerNames, kind};
use weir_jsapi::{ApiError, errors, response};

use super::{Answer, Request, decode_optional, page};
use crate::stream::leader::StreamLeader;

/// Names in one page, as nats-server.
pub(super) const NAMES_LIMIT: usize = 1024;
/// Infos in one page, as nats-server.
pub(super) const LIST_LIMIT: usize = 256;

pub(crate) fn info(leader: &Arc<StreamLeader>, name: &str, request: &Request) -> Result<Answer, ApiError> {
    if !request.is_empty() {
        return Err(errors::NOT_EMPTY_REQUEST.error());
    }
    let mut info = leader.consumer_info(name).ok_or_else(|| errors::CONSUMER_NOT_FOUND.error())?;
    if let Some(config) = &mut info.config {
        with_server_metadata(&mut config.metadata);
    }
    Ok(Some(response::success(kind::CONSUMER_INFO, info)))
}

pub(crate) fn names(leader: &Arc<StreamLeader>, request: &Request) -> Result<Answer, ApiError> {
    let query: ConsumersRequest = decode_optional(request)?;
    let (consumers, page) = page(all_names(leader), query.offset, NAMES_LIMIT);
    Ok(Some(response::success(kind::CONSUMER_NAMES, ConsumerNames { page, consumers })))
}

pub(crate) fn list(leader: &Arc<StreamLeader>, request: &Request) -> Result<Answer, ApiError> {
    let query: ConsumersRequest = decode_optional(request)?;
    let (names, page) = page(all_names(leader), query.offset, LIST_LIMIT);
    let consumers = names.iter().filter_map(|name| leader.consumer_info(name)).collect();
    Ok(Some(response::success(
        kind::CONSUMER_LIST,
        ConsumerList { page, consumers, ..ConsumerList::default() },
    )))
}

/// Consumers of mirrors and sources are not told of.
fn all_names(leader: &StreamLeader) -> Vec<String> {
    leader.replica().map_or_else(Vec::new, |replica| {
        let state = replica.replicated.lock();
        let consumers = state.machine().consumers().filter(|(_, consumer)| !consumer.config.direct);
        consumers.map(|(name, _)| name.to_string()).collect()
    })
}
