//! DIRECT.GET: stored messages as messages of their own, not as JSON. Served by the stream's leader.

use std::sync::Arc;

use weir_hub::OutboundMessage;
use weir_jetstream::stream::DirectReply;

use super::{Request, required_api_level};
use crate::stream::leader::StreamLeader;

/// The most bytes that the replies to one request hold: what may wait for a client by default.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(crate) fn get(leader: &Arc<StreamLeader>, last_by_subject: Option<&str>, request: &Request) {
    if request.reply.is_empty() {
        return;
    }
    let Some(replica) = leader.replica() else { return };
    let replies = if required_api_level(request).is_err() {
        vec![DirectReply::status("412 Required Api Level")]
    } else {
        let state = replica.replicated.lock();
        match last_by_subject {
            Some(subject) => vec![state.machine().direct_get_last(subject)],
            None => state.machine().direct_get(&request.body, BATCH_BYTES_MAX),
        }
    };
    request.account.publish_batch(replies.iter().map(|reply| OutboundMessage {
        subject: &request.reply,
        headers: &reply.headers,
        payload: &reply.payload,
        ..OutboundMessage::default()
    }));
}
