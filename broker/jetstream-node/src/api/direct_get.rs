//! DIRECT.GET: stored messages as messages of their own, not as JSON. Served by the stream's leader.

use std::sync::Arc;

use tokio::sync::Semaphore;
use weir_hub::{InternalHandler, OutboundMessage};
use weir_jetstream::stream::DirectReply;
use weir_jsapi::subject::ApiRequest;

use super::{Request, Role, required_api_level};
use crate::stream::leader::StreamLeader;

/// The most bytes that the replies to one request hold: what may wait for a client by default.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Requests of one stream worked on at the same time; more are dropped, the client asks again.
const IN_FLIGHT_MAX: usize = 1_024;

/// Answers from this stream, also for requests that name the origin it mirrors.
pub(crate) fn handler(leader: &Arc<StreamLeader>) -> InternalHandler {
    let leader = Arc::downgrade(leader);
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    Arc::new(move |message| {
        let Some(leader) = leader.upgrade() else { return };
        let Some(request) = Request::from_message(&leader.context, Role::Stream, message) else { return };
        let Ok(permit) = Arc::clone(&in_flight).try_acquire_owned() else { return };
        tokio::spawn(async move {
            if let Some(ApiRequest::DirectGet { last_by_subject, .. }) =
                weir_jsapi::subject::parse(&request.subject)
            {
                get(&leader, last_by_subject, &request).await;
            }
            drop(permit);
        });
    })
}

async fn get(leader: &Arc<StreamLeader>, last_by_subject: Option<&str>, request: &Request) {
    if request.reply.is_empty() {
        return;
    }
    let Some(replica) = leader.replica() else { return };
    if required_api_level(request).is_err() {
        return send(request, &[DirectReply::status("412 Required Api Level")]);
    }
    let (mut replies, mut more) = {
        let state = replica.replicated.lock();
        match last_by_subject {
            Some(subject) => (vec![state.machine().direct_get_last(subject)], None),
            None => state.machine().direct_begin(&request.body, BATCH_BYTES_MAX),
        }
    };
    // The stream goes on between the steps, and so do its other readers.
    while let Some(get) = more.as_mut().filter(|get| !get.is_done()) {
        send(request, &replies);
        replies = replica.replicated.lock().machine().direct_next(get);
        tokio::task::yield_now().await;
    }
    send(request, &replies);
}

fn send(request: &Request, replies: &[DirectReply]) {
    if replies.is_empty() {
        return;
    }
    request.account.publish_batch(replies.iter().map(|reply| OutboundMessage {
        subject: &request.reply,
        headers: &reply.headers,
        payload: &reply.payload,
        ..OutboundMessage::default()
    }));
}
