//! What a publish expects of its stream: the `Nats-Expected-*` headers. Not what it asks for.

use std::ops::ControlFlow;

use weir_jsapi::{ApiError, StreamConfig, errors};

use super::super::StreamMachine;
use crate::publish_headers::{Name, PublishHeaders};
use crate::store::Store;

pub(super) fn check_stream(config: &StreamConfig, headers: &PublishHeaders<'_>) -> Result<(), ApiError> {
    match headers.get(Name::ExpectedStream) {
        Some(name) if name != config.name.as_bytes() => Err(errors::STREAM_NOT_MATCH.error()),
        _ => Ok(()),
    }
}

pub(super) fn check_last(headers: &PublishHeaders<'_>, last: u64) -> Result<(), ApiError> {
    match headers.sequence(Name::ExpectedLastSequence) {
        Some(expected) if expected != last => Err(errors::STREAM_WRONG_LAST_SEQUENCE.with(last)),
        _ => Ok(()),
    }
}

/// Only the server says where a message came from.
pub(super) fn check_source(headers: &PublishHeaders<'_>) -> Result<(), ApiError> {
    match headers.get(Name::StreamSource) {
        Some(_) => Err(errors::MESSAGE_SOURCE_HDR_NOT_ALLOWED.error()),
        None => Ok(()),
    }
}

impl<S: Store> StreamMachine<S> {
    pub(super) fn check_last_of_subject(
        &self,
        headers: &PublishHeaders<'_>,
        subject: &[u8],
    ) -> Result<(), ApiError> {
        let filter = headers.get(Name::ExpectedLastSubjectSequenceSubject);
        let Some(expected) = headers.sequence(Name::ExpectedLastSubjectSequence) else {
            return match filter {
                Some(_) => Err(errors::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID.error()),
                None => Ok(()),
            };
        };
        let last = self.last_seq_of(filter.unwrap_or(subject));
        if expected == last { Ok(()) } else { Err(errors::STREAM_WRONG_LAST_SEQUENCE.with(last)) }
    }

    pub(super) fn check_last_msg_id(&self, headers: &PublishHeaders<'_>) -> Result<(), ApiError> {
        let Some(expected) = headers.get(Name::ExpectedLastMsgId) else { return Ok(()) };
        let last = self.last_msg_id.as_deref().unwrap_or_default();
        if expected == last {
            return Ok(());
        }
        Err(errors::STREAM_WRONG_LAST_MSG_ID.with(String::from_utf8_lossy(last)))
    }

    /// The newest sequence of a subject or of all that match a pattern; 0 when there is none.
    pub(in super::super) fn last_seq_of(&self, subject: &[u8]) -> u64 {
        if !weir_subject::has_wildcards(subject) {
            return self.store.subject_state(subject).map_or(0, |state| state.last);
        }
        let mut last = 0;
        self.store.for_each_subject(subject, &mut |_, state| {
            last = last.max(state.last);
            ControlFlow::Continue(())
        });
        last
    }
}
