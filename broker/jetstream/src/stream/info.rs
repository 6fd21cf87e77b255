//! What is told about a stream and its consumers.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use weir_jsapi::request::StreamInfoRequest;
use weir_jsapi::response::{Paging, StreamInfoPage};
use weir_jsapi::{ConsumerInfo, PriorityGroupState, SequenceInfo, StreamInfo, StreamState, Time};
use weir_stdx::time::UnixNanos;

use super::{Consumer, StreamMachine};
use crate::consumer::{Candidate, Position};
use crate::store::Store;

/// Subjects in one page of `subjects_filter` details.
pub const SUBJECTS_PAGE: usize = 100_000;
/// Deleted sequences listed by `deleted_details`.
const DELETED_MAX: usize = 1_000_000;

pub(crate) fn time(nanos: UnixNanos) -> Time {
    i64::try_from(nanos.0).ok().filter(|&nanos| nanos > 0).map_or(Time::ZERO, Time::from_unix_nanos)
}

impl<S: Store> StreamMachine<S> {
    /// The counters STREAM.INFO prints.
    pub fn state(&self) -> StreamState {
        let state = self.store.state();
        StreamState {
            messages: state.messages,
            bytes: state.bytes,
            first_seq: state.first_seq,
            first_ts: if state.messages > 0 { time(state.first_timestamp) } else { Time::ZERO },
            last_seq: state.last_seq,
            // A message that no consumer wanted is not in the store, but it was the last.
            last_ts: time(state.last_timestamp.max(self.last_timestamp)),
            num_subjects: state.num_subjects,
            num_deleted: state.num_deleted,
            consumer_count: self.consumers.values().filter(|consumer| !consumer.config.direct).count() as u64,
            ..StreamState::default()
        }
    }

    /// The sequences missing from the middle, for `deleted_details`.
    pub fn deleted(&self) -> Vec<u64> {
        self.store.deleted(DELETED_MAX)
    }

    /// Messages a subject for subjects matching the pattern, sorted; one page from `offset`, and how many there are.
    pub fn subjects(&self, pattern: &str, offset: usize) -> (BTreeMap<String, u64>, usize) {
        let mut all = BTreeMap::new();
        self.store.for_each_subject(pattern.as_bytes(), &mut |subject, state| {
            all.insert(String::from_utf8_lossy(subject).into_owned(), state.count);
            ControlFlow::Continue(())
        });
        let total = all.len();
        (all.into_iter().skip(offset).take(SUBJECTS_PAGE).collect(), total)
    }

    /// STREAM.INFO without what only the node knows (cluster, domain).
    pub fn info(&self, now: UnixNanos) -> StreamInfo {
        StreamInfo {
            config: (*self.config).clone(),
            created: time(self.created),
            state: self.state(),
            ts: time(now),
            ..StreamInfo::default()
        }
    }

    /// STREAM.INFO's own fields with the details its request asks for; `config` is as stored.
    pub fn info_page(&self, request: &StreamInfoRequest, now: UnixNanos) -> StreamInfoPage {
        let mut info = self.info(now);
        let mut page = Paging::default();
        if request.deleted_details {
            info.state.deleted = self.deleted();
        }
        if !request.subjects_filter.is_empty() {
            let offset = usize::try_from(request.offset).unwrap_or(0);
            let (subjects, total) = self.subjects(&request.subjects_filter, offset);
            if total > 0 {
                page = Paging { total: total as u64, offset: offset as u64, limit: SUBJECTS_PAGE as u64 };
                info.state.subjects = Some(subjects);
            }
        }
        StreamInfoPage { page, info }
    }

    /// CONSUMER.INFO from the replicated state alone: `num_waiting`, `push_bound` and `cluster` are left unset.
    pub fn consumer_info(&self, name: &str, now: UnixNanos) -> Option<ConsumerInfo> {
        let consumer = self.consumers.get(name)?;
        let state = &consumer.state;
        let position = |position: Position, at: Option<UnixNanos>| SequenceInfo {
            consumer_seq: position.consumer_seq,
            stream_seq: position.stream_seq,
            last_active: at.map(time),
        };
        let pause_end = consumer.config.pause_until.and_then(Time::unix_nanos).unwrap_or(0);
        let pause_remaining = pause_end.saturating_sub(i64::try_from(now.0).unwrap_or(i64::MAX)).max(0);
        let groups = consumer.config.priority_groups.iter();
        let groups = groups.map(|group| PriorityGroupState { group: group.clone(), ..Default::default() });
        Some(ConsumerInfo {
            stream_name: self.config.name.clone(),
            name: name.to_owned(),
            created: time(consumer.created),
            config: Some((*consumer.config).clone()),
            delivered: position(state.delivered, state.last_delivered_at),
            ack_floor: position(state.ack_floor, state.last_acked_at),
            num_ack_pending: state.pending.len() as u64,
            num_redelivered: if consumer.config.max_deliver == 1 {
                0
            } else {
                state.num_redelivered() as u64
            },
            num_pending: self.num_pending(consumer),
            paused: pause_remaining > 0,
            pause_remaining,
            ts: time(now),
            priority_groups: groups.take(1).collect(),
            ..ConsumerInfo::default()
        })
    }

    /// Messages the consumer has yet to see, counted in the store.
    pub fn num_pending(&self, consumer: &Consumer) -> u64 {
        let state = &consumer.state;
        match state.candidate(state.delivered.stream_seq + 1) {
            Candidate::From(from) => self.store.num_pending(&consumer.filter, from),
            Candidate::Exactly(seq) => {
                let at = state.skip_list.partition_point(|&entry| entry < seq);
                let listed = (state.skip_list.len() - at) as u64;
                listed + self.store.num_pending(&consumer.filter, state.resume_at)
            }
        }
    }
}
