//! Applying an atomic batch (ADR-50): all of its messages are judged, with what the earlier ones would change, and then
//! all are stored, or none. Not how it was gathered: see `crate::batch`.

use bytes::Bytes;
use weir_jsapi::{errors, headers as names};

use super::StreamMachine;
use super::publish::{Accepted, Staged};
use crate::command::{PublishOutcome, PublishRecord, Republished};
use crate::headers;
use crate::store::{Store, StoreFailure};

impl<S: Store> StreamMachine<S> {
    pub(super) fn publish_atomic(
        &mut self,
        batch: Bytes,
        mut records: Vec<PublishRecord>,
        republished: &mut Vec<Republished>,
    ) -> Result<PublishOutcome, StoreFailure> {
        let accepted = match self.judge_batch(&mut records) {
            Ok(accepted) => accepted,
            Err(error) => return Ok(PublishOutcome::Rejected(error)),
        };
        let count = records.len() as u64;
        if self.store.state().last_seq.checked_add(count).is_none_or(|last| last == u64::MAX) {
            return Ok(PublishOutcome::Rejected(errors::STREAM_STORE_FAILED.with("no sequences left")));
        }
        let mut last = 0;
        for (record, accepted) in records.into_iter().zip(accepted) {
            let timestamp = record.timestamp.max(self.last_timestamp);
            if let Some((seq, _)) = self.store_accepted(record, accepted, timestamp, republished)? {
                last = seq;
            }
        }
        Ok(PublishOutcome::Committed { seq: last, batch, count })
    }

    fn judge_batch(&mut self, records: &mut [PublishRecord]) -> Result<Vec<Accepted>, weir_jsapi::ApiError> {
        if self.config.sealed {
            return Err(errors::STREAM_SEALED.error());
        }
        if !self.config.allow_atomic {
            return Err(errors::ATOMIC_PUBLISH_DISABLED.error());
        }
        let mut staged = Staged::default();
        let mut accepted = Vec::with_capacity(records.len());
        for record in records {
            let expects_id = headers::get(&record.headers, names::EXPECTED_LAST_MSG_ID);
            if expects_id.is_some_and(|id| !id.is_empty()) {
                let name = names::EXPECTED_LAST_MSG_ID;
                return Err(errors::ATOMIC_PUBLISH_UNSUPPORTED_HEADER_BATCH.with(name));
            }
            let now = record.timestamp.max(self.last_timestamp);
            let judged = self.judge_staged(record, &mut staged, now);
            accepted.push(judged.map_err(super::publish::StagedRefusal::into_error)?);
        }
        Ok(accepted)
    }
}
