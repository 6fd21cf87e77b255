//! Atomic batches on their way into the stream's log: each message is answered here, until its batch goes in as one
//! entry. What is gathered dies with the leadership. Not the rules: see `weir_jetstream::AtomicBatches`.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};
use weir_hub::OutboundMessage;
use weir_jetstream::{
    AbandonReason, AtomicBatches, AtomicStep, PublishOutcome, PublishRecord, StreamCommand, atomic_batch_id,
};
use weir_jsapi::{ApiError, StreamConfig};

use super::acks::Replies;
use super::ingest::Batch;
use super::leader::StreamLeader;
use crate::clock;

pub(super) struct Gathering {
    leader: Arc<StreamLeader>,
    batches: AtomicBatches,
}

impl Gathering {
    pub(super) fn new(leader: &Arc<StreamLeader>) -> Self {
        let batches = AtomicBatches::new(Arc::clone(&leader.context.batch_totals));
        Self { leader: Arc::clone(leader), batches }
    }

    /// Until a batch is to be given up; for ever where there is none.
    pub(super) async fn until_expiry(&self) {
        let Some(at) = self.batches.next_expiry(&self.leader.context.room().batches) else {
            return std::future::pending().await;
        };
        tokio::time::sleep(Duration::from_nanos(at.0.saturating_sub(clock::now().0))).await;
    }

    pub(super) fn expire(&mut self) {
        for batch in self.batches.expire(&self.leader.context.room().batches, clock::now()) {
            self.advise(&batch, AbandonReason::Timeout);
        }
    }

    /// Takes in one message; gives the whole batch when it was the last one.
    pub(super) fn take(
        &mut self,
        (record, reply): (PublishRecord, Bytes),
        config: &StreamConfig,
    ) -> Option<Batch> {
        let now = record.timestamp;
        let headers = record.headers.clone();
        match self.batches.accept(config, &self.leader.context.room().batches, record, now) {
            AtomicStep::Staged => self.answer(&reply, b""),
            AtomicStep::Commit { batch, records } => {
                let mut replies = Replies::default();
                replies.push(&reply);
                return Some(Batch { command: StreamCommand::PublishAtomic { batch, records }, replies });
            }
            AtomicStep::Refused { error, abandoned } => {
                if let (Some(reason), Some(id)) = (abandoned, atomic_batch_id(&headers)) {
                    self.advise(id, reason);
                }
                self.refuse(&reply, error);
            }
        }
        None
    }

    fn refuse(&self, reply: &Bytes, error: ApiError) {
        let mut body = BytesMut::new();
        let domain = self.leader.context.domain.as_deref();
        let outcome = PublishOutcome::Rejected(error);
        weir_jetstream::write_pub_ack(&mut body, self.leader.name(), domain, &outcome);
        self.answer(reply, &body);
    }

    fn answer(&self, reply: &Bytes, payload: &[u8]) {
        if !reply.is_empty() {
            let message = OutboundMessage { subject: reply, payload, ..OutboundMessage::default() };
            self.leader.account.publish_batch([message]);
        }
    }

    /// Tells the account, and the system account with the account's name, that a batch was given up.
    fn advise(&self, batch: &[u8], reason: AbandonReason) {
        let leader = &self.leader;
        let subject = format!("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.{}", leader.name());
        let mut body = Map::new();
        let mut field = |name: &str, value: &str| body.insert(name.to_owned(), Value::from(value));
        field("type", "io.nats.jetstream.advisory.v1.stream_batch_abandoned");
        field("stream", leader.name());
        if let Some(domain) = &leader.context.domain {
            field("domain", domain);
        }
        field("batch", &String::from_utf8_lossy(batch));
        field("reason", reason.as_str());
        let system = leader.context.hub.system_account();
        if !Arc::ptr_eq(&system, &leader.account) {
            leader.context.advisory(&leader.account, &subject, body.clone());
        }
        body.insert("account".to_owned(), Value::from(leader.account.name()));
        leader.context.advisory(&system, &subject, body);
    }
}
