//! CONSUMER.DELETE, at the stream's leader.

use std::sync::Arc;

use weir_jetstream::{Outcome, StreamCommand};
use weir_jsapi::response::{Success, kind};
use weir_jsapi::{ApiError, errors, response};

use super::{Answer, Request, propose_failed};
use crate::stream::leader::StreamLeader;

pub(crate) async fn delete(
    leader: &Arc<StreamLeader>,
    name: &str,
    request: &Request,
) -> Result<Answer, ApiError> {
    if !request.is_empty() {
        return Err(errors::NOT_EMPTY_REQUEST.error());
    }
    let command = StreamCommand::DeleteConsumer { name: name.to_owned() };
    match leader.propose(&command).await.map_err(|error| propose_failed(&error))? {
        Outcome::Refused(error) => Err(error),
        _ => {
            leader.context.consumer_action(&leader.account, leader.name(), name, "delete");
            Ok(Some(response::success(kind::CONSUMER_DELETE, Success { success: true })))
        }
    }
}
