//! What publishers are answered once their messages are applied, and what is published again. Not who may publish.

use std::sync::Arc;

use bytes::BytesMut;
use weir_hub::Account;
use weir_jetstream::{Outcome, PubAckWriter, PublishOutcome, Republished};

use crate::replicator::ProposeError;

pub(crate) fn republish(account: &Arc<Account>, messages: &[Republished]) {
    if messages.is_empty() {
        return;
    }
    account.publish_batch(messages.iter().map(|message| weir_hub::OutboundMessage {
        subject: &message.subject,
        headers: &message.headers,
        payload: &message.payload,
        ..weir_hub::OutboundMessage::default()
    }));
}

/// Reply subjects, behind each other in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Replies {
    pub(crate) fn push(&mut self, reply: &[u8]) {
        self.bytes.extend_from_slice(reply);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| self.bytes.get(start..end).unwrap_or_default())
    }
}

/// The publishers of one log entry that wait for an answer.
pub(crate) struct Acks {
    pub(crate) stream: Arc<str>,
    pub(crate) domain: Option<Arc<str>>,
    pub(crate) account: Arc<Account>,
    /// One for each outcome; empty where nobody waits.
    pub(crate) replies: Replies,
}

impl Acks {
    pub(crate) fn send(self, result: Result<Outcome, ProposeError>) {
        let outcomes = match result {
            Ok(Outcome::Published { outcomes, republished }) => {
                republish(&self.account, &republished);
                outcomes
            }
            Ok(_) => return,
            // No answer: the message may or may not be there, and the publisher's timeout says just that.
            Err(ProposeError::Unknown(_) | ProposeError::NotLeader { .. }) => return,
            Err(error) => return self.fail(&error),
        };
        let mut bodies = BytesMut::with_capacity(self.replies.len() * 48);
        let mut messages = Vec::with_capacity(self.replies.len());
        let writer = PubAckWriter::new(&self.stream, self.domain.as_deref());
        for (reply, outcome) in self.replies.iter().zip(outcomes) {
            if reply.is_empty() {
                continue;
            }
            let mut start = bodies.len();
            if let PublishOutcome::Flow(answers) = &outcome {
                for answer in answers {
                    weir_jetstream::write_flow_reply(
                        &mut bodies,
                        &self.stream,
                        self.domain.as_deref(),
                        answer,
                    );
                    messages.push((reply, start..bodies.len()));
                    start = bodies.len();
                }
                continue;
            }
            writer.write(&mut bodies, &outcome);
            messages.push((reply, start..bodies.len()));
        }
        self.account.publish_batch(messages.into_iter().map(|(reply, body)| weir_hub::OutboundMessage {
            subject: reply,
            payload: &bodies[body],
            ..weir_hub::OutboundMessage::default()
        }));
    }

    fn fail(self, error: &ProposeError) {
        let api_error = weir_jsapi::errors::STREAM_STORE_FAILED.with(error);
        let outcome = PublishOutcome::Rejected(api_error);
        let mut buffer = BytesMut::new();
        weir_jetstream::write_pub_ack(&mut buffer, &self.stream, self.domain.as_deref(), &outcome);
        for reply in self.replies.iter().filter(|reply| !reply.is_empty()) {
            self.account.publish(reply, None, b"", &buffer);
        }
    }
}
