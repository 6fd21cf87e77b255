//! Consumers as part of a stream: their creation, their progress, and retention by their interest.

use std::ops::ControlFlow;
use std::sync::Arc;

use weir_jsapi::{ConsumerConfig, DeliverPolicy, RetentionPolicy, errors};
use weir_stdx::time::UnixNanos;

use super::{Consumer, StreamMachine};
use crate::command::Outcome;
use crate::consumer::{ConsumerEvent, ConsumerState};
use crate::store::{Filter, Store, StoreFailure};

impl<S: Store> StreamMachine<S> {
    pub(super) fn create_consumer(
        &mut self,
        name: String,
        config: ConsumerConfig,
        created: UnixNanos,
    ) -> Outcome {
        if let Some(existing) = self.consumers.get(name.as_str()) {
            if *existing.config == config {
                return Outcome::ConsumerReady { existed: true };
            }
            return Outcome::Refused(errors::CONSUMER_ALREADY_EXISTS.error());
        }
        if let Err(error) = self.check_new_consumer(&config) {
            return Outcome::Refused(error);
        }
        let filter = Filter::new(config.filters());
        let state = self.starting_state(&config, &filter);
        self.interest.forget();
        self.consumers.insert(Arc::from(name), Consumer { config: Arc::new(config), created, filter, state });
        Outcome::ConsumerReady { existed: false }
    }

    pub(super) fn update_consumer(
        &mut self,
        name: &str,
        config: ConsumerConfig,
    ) -> Result<Outcome, StoreFailure> {
        let Some(consumer) = self.consumers.get_mut(name) else {
            return Ok(Outcome::Refused(errors::CONSUMER_DOES_NOT_EXIST.error()));
        };
        let filter = Filter::new(config.filters());
        let passed_before =
            (filter != consumer.filter).then(|| std::mem::replace(&mut consumer.filter, filter));
        consumer.config = Arc::new(config);
        let floor = consumer.state.ack_floor.stream_seq;
        if let Some(passed_before) = passed_before {
            self.interest.forget();
            if self.config.retention == RetentionPolicy::Interest {
                self.remove_unneeded(floor + 1, &passed_before)?;
            }
        }
        Ok(Outcome::ConsumerReady { existed: true })
    }

    pub(super) fn delete_consumer(&mut self, name: &str) -> Result<Outcome, StoreFailure> {
        let Some(consumer) = self.consumers.remove(name) else {
            return Ok(Outcome::Refused(errors::CONSUMER_NOT_FOUND.error()));
        };
        self.interest.forget();
        if self.config.retention == RetentionPolicy::Interest {
            // What used its deliveries up was kept for this consumer, wherever its floor was.
            for seq in &consumer.state.exhausted {
                self.consumer_done(*seq)?;
            }
            self.remove_unneeded(consumer.state.ack_floor.stream_seq + 1, &consumer.filter)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn consumer_delta(
        &mut self,
        name: &str,
        events: &[ConsumerEvent],
    ) -> Result<(), StoreFailure> {
        let retention = self.config.retention;
        let first_seq = self.store.first_seq();
        // A delta may come after its consumer's deletion: nothing to do then.
        let Some(consumer) = self.consumers.get_mut(name) else { return Ok(()) };
        let policy = consumer.config.ack_policy;
        let mut done = Vec::new();
        let mut skipped_from = None;
        for event in events {
            if matches!(event, ConsumerEvent::Reset { .. }) {
                skipped_from = Some(consumer.state.ack_floor.stream_seq + 1);
            }
            consumer.state.apply(policy, *event, &mut done);
        }
        consumer.state.prune(first_seq);
        if retention == RetentionPolicy::Limits {
            return Ok(());
        }
        let skipped = skipped_from.map(|from| (from, consumer.filter.clone()));
        if skipped.is_some() {
            self.interest.forget();
        }
        for seq in done {
            self.consumer_done(seq)?;
        }
        match skipped {
            Some((from, filter)) if retention == RetentionPolicy::Interest => {
                self.remove_unneeded(from, &filter)
            }
            _ => Ok(()),
        }
    }

    /// A consumer is through with a message: remove it if nobody else needs it.
    fn consumer_done(&mut self, seq: u64) -> Result<(), StoreFailure> {
        let still_needed = match self.config.retention {
            RetentionPolicy::Limits => true,
            RetentionPolicy::WorkQueue => false,
            RetentionPolicy::Interest => self.is_needed(seq, None)?,
        };
        if !still_needed {
            self.remove_one(seq, false)?;
        }
        Ok(())
    }

    /// Under interest retention: removes messages that passed the filter and that no consumer needs any more.
    pub(super) fn remove_unneeded(&mut self, from: u64, filter: &Filter) -> Result<(), StoreFailure> {
        let mut from = from;
        while let Some(message) = self.store.next_match(filter, from)? {
            from = message.seq + 1;
            if !self.is_needed(message.seq, Some(&message.subject))? {
                self.remove_one(message.seq, false)?;
            }
        }
        Ok(())
    }

    /// A message was removed by request: no consumer waits for its ack any longer.
    pub(super) fn drop_from_consumers(&mut self, seq: u64) {
        for consumer in self.consumers.values_mut() {
            consumer.state.forget(seq);
        }
    }

    /// Where a new consumer begins; the same on every replica, as it depends on applied content only.
    fn starting_state(&self, config: &ConsumerConfig, filter: &Filter) -> ConsumerState {
        let state = self.store.state();
        let mut skip_list = Vec::new();
        let mut start = match config.deliver_policy {
            DeliverPolicy::All => state.first_seq,
            DeliverPolicy::New => state.last_seq + 1,
            DeliverPolicy::ByStartSequence => config.opt_start_seq,
            DeliverPolicy::ByStartTime => self.start_of(config),
            DeliverPolicy::Last if filter.is_all() => state.last_seq,
            DeliverPolicy::Last => {
                filter.patterns().iter().map(|pattern| self.last_seq_of(pattern)).max().unwrap_or(0)
            }
            DeliverPolicy::LastPerSubject => {
                skip_list = self.last_of_each_subject(filter);
                skip_list.first().copied().unwrap_or(state.last_seq + 1)
            }
        };
        if start > state.last_seq && config.opt_start_seq == 0 {
            start = state.last_seq + 1;
        }
        let mut consumer = ConsumerState::starting_at(start.max(state.first_seq).max(1));
        if !skip_list.is_empty() {
            consumer.skip_list = skip_list;
            consumer.resume_at = state.last_seq + 1;
        }
        consumer
    }

    /// The first sequence at or after the start time of a configuration.
    pub(crate) fn start_of(&self, config: &ConsumerConfig) -> u64 {
        let time = config.opt_start_time.and_then(weir_jsapi::Time::unix_nanos).unwrap_or(0);
        self.store.seq_at_or_after(UnixNanos(u64::try_from(time).unwrap_or(0)))
    }

    fn last_of_each_subject(&self, filter: &Filter) -> Vec<u64> {
        let mut sequences = Vec::new();
        let mut collect = |pattern: &[u8]| {
            self.store.for_each_subject(pattern, &mut |_, state| {
                sequences.push(state.last);
                ControlFlow::Continue(())
            });
        };
        if filter.is_all() {
            collect(b">");
        }
        for pattern in filter.patterns() {
            collect(pattern);
        }
        sequences.sort_unstable();
        sequences.dedup();
        sequences
    }
}
