//! CONSUMER.RESET, at the stream's leader: a consumer begins anew at a sequence, or after its last acknowledged message.

use std::sync::Arc;

use weir_jetstream::config::with_server_metadata;
use weir_jetstream::sourcing::stream_identity;
use weir_jsapi::request::ConsumerResetRequest;
use weir_jsapi::response::{ConsumerReset, kind};
use weir_jsapi::{ApiError, errors, headers, json, response};

use super::{Answer, Request};
use crate::stream::leader::StreamLeader;

pub(crate) async fn reset(
    leader: &Arc<StreamLeader>,
    name: &str,
    request: &Request,
) -> Result<Answer, ApiError> {
    // Where there is no such consumer nats-server stays silent.
    if leader.consumer_info(name).is_none() {
        return Ok(None);
    }
    let asked = match &request.body[..] {
        [] => ConsumerResetRequest::default(),
        body => json::decode_lenient(body).map_err(|error| errors::INVALID_JSON.with(error))?,
    };
    let reset_seq = leader.reset_consumer(name, asked.seq).await?;
    let mut info =
        leader.consumer_info(name).ok_or_else(|| errors::CONSUMER_INVALID_RESET.with("consumer closed"))?;
    if let Some(config) = &mut info.config {
        with_server_metadata(&mut config.metadata);
    }
    let body = response::success(kind::CONSUMER_RESET, ConsumerReset { info, reset_seq });
    if weir_jetstream::headers::get(&request.headers, headers::STREAM_IDENTITY).is_none() {
        return Ok(Some(body));
    }
    // Who names the stream it means is told which one this is.
    let Some(replica) = leader.replica() else { return Ok(None) };
    let identity = stream_identity(replica.replicated.lock().machine().created());
    let block = weir_jetstream::headers::with(b"", headers::STREAM_IDENTITY, &identity);
    request.account.publish(&request.reply, None, &block, &body);
    Ok(None)
}
