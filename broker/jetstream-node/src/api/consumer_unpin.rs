//! CONSUMER.UNPIN, at the stream's leader: takes the pin from the client that has it.

use std::sync::Arc;

use weir_jetstream::config::is_valid_group;
use weir_jsapi::request::ConsumerUnpinRequest;
use weir_jsapi::response::{Empty, kind};
use weir_jsapi::{ApiError, errors, json, response};

use super::{Answer, Request};
use crate::stream::leader::StreamLeader;

pub(crate) async fn unpin(
    leader: &Arc<StreamLeader>,
    name: &str,
    request: &Request,
) -> Result<Answer, ApiError> {
    if request.body.is_empty() {
        return Err(errors::INVALID_JSON.with("unexpected end of JSON input"));
    }
    let asked: ConsumerUnpinRequest =
        json::decode_lenient(&request.body).map_err(|error| errors::INVALID_JSON.with(error))?;
    if asked.group.is_empty() {
        return Err(errors::INVALID_JSON.with("consumer group not specified"));
    }
    if !is_valid_group(&asked.group) {
        return Err(errors::CONSUMER_INVALID_GROUP_NAME.error());
    }
    leader.unpin(name, &asked.group).await?;
    Ok(Some(response::success(kind::CONSUMER_UNPIN, Empty {})))
}
