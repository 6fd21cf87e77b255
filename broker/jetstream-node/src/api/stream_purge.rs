//! STREAM.PURGE, at the stream's leader.

use std::sync::Arc;

use weir_jetstream::{Outcome, Purge, StreamCommand};
use weir_jsapi::request::StreamPurgeRequest;
use weir_jsapi::response::{Purged, kind};
use weir_jsapi::{ApiError, errors, response};

use super::{Answer, Request, decode_optional, propose_failed};
use crate::stream::leader::StreamLeader;

pub(crate) async fn purge(leader: &Arc<StreamLeader>, request: &Request) -> Result<Answer, ApiError> {
    let query: StreamPurgeRequest = decode_optional(request)?;
    if query.seq > 0 && query.keep > 0 {
        return Err(errors::BAD_REQUEST.error());
    }
    let filter = (!query.filter.is_empty()).then_some(query.filter);
    let command = StreamCommand::Purge(Purge { filter, below_seq: query.seq, keep: query.keep });
    let purged = match leader.propose(&command).await.map_err(|error| propose_failed(&error))? {
        Outcome::Removed { count } => count,
        Outcome::Refused(error) => return Err(error),
        _ => 0,
    };
    Ok(Some(response::success(kind::STREAM_PURGE, Purged { success: true, purged })))
}
