//! DIRECT.GET: stored messages as messages of their own, not as JSON. Served by the stream's leader. Requests that
//! wait are answered together: one hold of the stream, one write to each client.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_hub::{Account, Inbound, InternalHandler, OutboundMessage};
use weir_jetstream::stream::{DirectGet, DirectReply};
use weir_jsapi::subject::ApiRequest;

use crate::stream::input::asks_newer_api;
use crate::stream::leader::StreamLeader;
use crate::stream::replica::StreamReplica;

/// The most bytes that the replies to one request hold: what may wait for a client by default.
const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Requests of one stream that may wait, and as many with many replies on their way; more are dropped, the client
/// asks again.
const IN_FLIGHT_MAX: usize = 1_024;

/// Requests, and bytes of their replies, that the stream is held for at a time.
const TOGETHER_MAX: usize = 64;
const TOGETHER_BYTES_MAX: usize = 1 << 20;

/// A request.
struct Get {
    account: Arc<Account>,
    reply: Bytes,
    /// The subject whose last message is wanted; else the body says what is.
    last_by_subject: Option<String>,
    /// It requires an API of a later server.
    is_newer: bool,
    body: Bytes,
}

#[derive(Default)]
struct Waiting {
    gets: Vec<Get>,
    /// A task answers them.
    is_served: bool,
}

struct DirectGets {
    leader: Weak<StreamLeader>,
    waiting: Mutex<Waiting>,
    /// Those with many replies.
    in_flight: Arc<Semaphore>,
}

/// Answers from this stream, also for requests that name the origin it mirrors.
pub(crate) fn handler(leader: &Arc<StreamLeader>) -> InternalHandler {
    let gets = Arc::new(DirectGets {
        leader: Arc::downgrade(leader),
        waiting: Mutex::default(),
        in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
    });
    Arc::new(move |message| gets.take(message))
}

impl Get {
    fn from_message(message: &Inbound<'_>) -> Option<Self> {
        let subject = std::str::from_utf8(message.subject).ok()?;
        let ApiRequest::DirectGet { last_by_subject, .. } = weir_jsapi::subject::parse(subject)? else {
            return None;
        };
        Some(Self {
            account: Arc::clone(message.account),
            reply: Bytes::copy_from_slice(message.reply.filter(|reply| !reply.is_empty())?),
            last_by_subject: last_by_subject.map(str::to_owned),
            is_newer: asks_newer_api(message.headers),
            body: Bytes::copy_from_slice(message.payload),
        })
    }
}

impl DirectGets {
    fn take(self: &Arc<Self>, message: &Inbound<'_>) {
        let Some(get) = Get::from_message(message) else { return };
        let mut waiting = self.waiting.lock();
        if waiting.gets.len() >= IN_FLIGHT_MAX {
            return;
        }
        waiting.gets.push(get);
        if !std::mem::replace(&mut waiting.is_served, true) {
            tokio::spawn(Arc::clone(self).serve());
        }
    }

    /// Answers until nothing waits.
    async fn serve(self: Arc<Self>) {
        while let Some(gets) = self.next() {
            let mut gets = gets.into_iter();
            while gets.len() > 0 {
                let Some(leader) = self.leader.upgrade() else { return };
                let Some(replica) = leader.replica() else { return };
                self.answer_some(&leader, &replica, &mut gets);
                tokio::task::yield_now().await;
            }
        }
    }

    fn next(&self) -> Option<Vec<Get>> {
        let mut waiting = self.waiting.lock();
        waiting.is_served = !waiting.gets.is_empty();
        waiting.is_served.then(|| std::mem::take(&mut waiting.gets))
    }

    /// Answers as many as the stream may be held for at once.
    fn answer_some(
        &self,
        leader: &Arc<StreamLeader>,
        replica: &StreamReplica,
        gets: &mut impl Iterator<Item = Get>,
    ) {
        let mut answered = Vec::with_capacity(TOGETHER_MAX);
        let mut longer = Vec::new();
        {
            let state = replica.replicated.lock();
            let mut bytes = 0;
            for get in gets.take(TOGETHER_MAX) {
                let (replies, more) = match &get.last_by_subject {
                    _ if get.is_newer => (vec![DirectReply::status("412 Required Api Level")], None),
                    Some(subject) => (vec![state.machine().direct_get_last(subject)], None),
                    None => state.machine().direct_begin(&get.body, BATCH_BYTES_MAX),
                };
                bytes += replies.iter().map(|reply| reply.payload.len()).sum::<usize>();
                match more {
                    Some(more) => longer.push((get, more)),
                    None => answered.push((get, replies)),
                }
                if bytes >= TOGETHER_BYTES_MAX {
                    break;
                }
            }
        }
        send_all(&answered);
        for (get, more) in longer {
            if let Ok(permit) = Arc::clone(&self.in_flight).try_acquire_owned() {
                tokio::spawn(go_on(Arc::clone(leader), get, more, permit));
            }
        }
    }
}

/// The replies of a batch, step by step: the stream goes on between them, and so do its other readers.
async fn go_on(leader: Arc<StreamLeader>, get: Get, mut more: DirectGet, _permit: OwnedSemaphorePermit) {
    while !more.is_done() {
        let Some(replica) = leader.replica() else { return };
        let replies = replica.replicated.lock().machine().direct_next(&mut more);
        get.account.publish_batch(outbound(&get, &replies));
        tokio::task::yield_now().await;
    }
}

/// One batch for each run of requests from one account.
fn send_all(answered: &[(Get, Vec<DirectReply>)]) {
    for run in answered.chunk_by(|(one, _), (other, _)| Arc::ptr_eq(&one.account, &other.account)) {
        if let Some((first, _)) = run.first() {
            first.account.publish_batch(run.iter().flat_map(|(get, replies)| outbound(get, replies)));
        }
    }
}

fn outbound<'a>(get: &'a Get, replies: &'a [DirectReply]) -> impl Iterator<Item = OutboundMessage<'a>> {
    replies.iter().map(|reply| OutboundMessage {
        subject: &get.reply,
        headers: &reply.headers,
        payload: &reply.payload,
        ..OutboundMessage::default()
    })
}
