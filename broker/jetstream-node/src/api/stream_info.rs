//! STREAM.INFO, at the stream's leader.

use std::sync::Arc;

use weir_jsapi::request::StreamInfoRequest;
use weir_jsapi::response::{Paging, StreamInfoPage, kind};
use weir_jsapi::{ApiError, response};

use super::{Answer, Request, decode_optional};
use crate::stream::leader::StreamLeader;

/// Subjects in one page, as nats-server.
const SUBJECTS_LIMIT: u64 = 100_000;

pub(crate) fn info(leader: &Arc<StreamLeader>, request: &Request) -> Result<Answer, ApiError> {
    let query: StreamInfoRequest = decode_optional(request)?;
    let mut info = leader.info();
    let mut page = Paging::default();
    if let Some(replica) = leader.replica() {
        let state = replica.replicated.lock();
        if query.deleted_details {
            info.state.deleted = state.machine().deleted();
        }
        if !query.subjects_filter.is_empty() {
            let offset = usize::try_from(query.offset).unwrap_or(0);
            let (subjects, total) = state.machine().subjects(&query.subjects_filter, offset);
            info.state.subjects = (!subjects.is_empty()).then_some(subjects);
            page = Paging { total: total as u64, offset: offset as u64, limit: SUBJECTS_LIMIT };
        }
    }
    Ok(Some(response::success(kind::STREAM_INFO, StreamInfoPage { page, info })))
}
