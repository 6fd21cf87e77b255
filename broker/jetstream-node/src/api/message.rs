//! STREAM.MSG.GET and STREAM.MSG.DELETE, at the stream's leader.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use weir_jetstream::{Outcome, StreamCommand};
use weir_jsapi::request::{MsgDeleteRequest, MsgGetRequest};
use weir_jsapi::response::{MessageFound, StoredMessageJson, Success, kind};
use weir_jsapi::{ApiError, Time, errors, response};

use super::{Answer, Request, propose_failed};
use crate::stream::leader::StreamLeader;

pub(crate) fn get(leader: &Arc<StreamLeader>, request: &Request) -> Result<Answer, ApiError> {
    if request.body.is_empty() {
        return Err(errors::BAD_REQUEST.error());
    }
    let query: MsgGetRequest = request.decode()?;
    let Some(replica) = leader.replica() else { return Ok(None) };
    let message = replica.replicated.lock().machine().get_message(&query)?;
    let message = StoredMessageJson {
        subject: String::from_utf8_lossy(&message.subject).into_owned(),
        seq: message.seq,
        hdrs: if query.no_hdr { String::new() } else { STANDARD.encode(&message.headers) },
        data: STANDARD.encode(&message.payload),
        time: Time::from_unix_nanos(i64::try_from(message.timestamp.0).unwrap_or(i64::MAX)),
    };
    Ok(Some(response::success(kind::STREAM_MSG_GET, MessageFound { message })))
}

pub(crate) async fn delete(leader: &Arc<StreamLeader>, request: &Request) -> Result<Answer, ApiError> {
    if request.body.is_empty() {
        return Err(errors::BAD_REQUEST.error());
    }
    let query: MsgDeleteRequest = request.decode()?;
    let config = leader.config();
    if config.sealed {
        return Err(errors::STREAM_SEALED.error());
    }
    if config.deny_delete {
        return Err(errors::STREAM_MSG_DELETE_FAILED.with("message delete not permitted"));
    }
    let command = StreamCommand::DeleteMessage { seq: query.seq, erase: !query.no_erase };
    match leader.propose(&command).await.map_err(|error| propose_failed(&error))? {
        Outcome::Removed { count: 0 } => Err(errors::SEQUENCE_NOT_FOUND.with(query.seq)),
        Outcome::Refused(error) => Err(error),
        _ => Ok(Some(response::success(kind::STREAM_MSG_DELETE, Success { success: true }))),
    }
}
