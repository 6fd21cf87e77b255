//! What a backup brings back: messages with the sequences and times they had, consumers as far as they were. Nothing is
//! judged as a publish would be; limits hold all the same.

use bytes::Bytes;
use weir_jsapi::{ConsumerConfig, errors, headers as names};
use weir_stdx::time::UnixNanos;

use super::{Consumer, StreamMachine, ttl};
use crate::command::{Outcome, PublishRecord, RestoreBatch};
use crate::consumer::ConsumerState;
use crate::headers;
use crate::store::{Filter, Store, StoreFailure, StoredMessage};

impl<S: Store> StreamMachine<S> {
    pub(super) fn apply_restore(&mut self, batch: RestoreBatch) -> Result<Outcome, StoreFailure> {
        for entry in batch.records {
            let last_seq = self.store.last_seq();
            if entry.seq <= last_seq {
                let text = format!("message sequence {} out of order", entry.seq);
                return Ok(Outcome::Refused(errors::STREAM_RESTORE.with(text)));
            }
            if entry.seq > last_seq + 1 {
                self.store.skip_to(entry.seq - 1)?;
            }
            self.restore_message(entry.seq, entry.record)?;
        }
        if batch.up_to > self.store.last_seq() {
            self.store.skip_to(batch.up_to)?;
        }
        Ok(Outcome::Done)
    }

    fn restore_message(&mut self, seq: u64, record: PublishRecord) -> Result<(), StoreFailure> {
        let PublishRecord { subject, headers, payload, timestamp } = record;
        let message = StoredMessage { seq, timestamp, subject, headers, payload };
        self.last_timestamp = self.last_timestamp.max(timestamp);
        self.last_msg_id = None;
        self.store.append(&message)?;
        if !message.headers.is_empty() {
            self.restore_headers(&message);
        }
        if self.config.allow_msg_schedules {
            self.note_schedule(&message);
        }
        self.after_restored(&message)
    }

    /// What the stream knows of its messages by their headers.
    fn restore_headers(&mut self, message: &StoredMessage) {
        let StoredMessage { seq, timestamp, headers, .. } = message;
        if let Some(id) = headers::get(headers, names::MSG_ID).filter(|id| !id.is_empty()) {
            // A copy: a slice would hold the whole entry in memory.
            let id = Bytes::copy_from_slice(id);
            let window = u64::try_from(self.config.duplicate_window).unwrap_or(0);
            self.dedupe.expire(*timestamp, window);
            self.dedupe.insert(id.clone(), *seq, *timestamp);
            self.last_msg_id = Some(id);
        }
        if self.config.allow_msg_ttl
            && let Some(text) = headers::get(headers, names::MSG_TTL)
            && let Ok(Some(lifetime)) = ttl::parse(text)
        {
            self.lifetimes.insert(*seq, *timestamp, lifetime);
        }
        if let Some(origin) = headers::get_str(headers, names::STREAM_SOURCE) {
            self.restore_position(origin, *seq);
        }
    }

    pub(super) fn restore_consumer(
        &mut self,
        name: String,
        config: ConsumerConfig,
        created: UnixNanos,
        state: ConsumerState,
    ) -> Outcome {
        if self.consumers.contains_key(name.as_str()) {
            return Outcome::Refused(errors::CONSUMER_ALREADY_EXISTS.error());
        }
        if let Err(error) = self.check_new_consumer(&config) {
            return Outcome::Refused(error);
        }
        let filter = Filter::new(config.filters());
        self.interest.forget();
        let consumer = Consumer { config: std::sync::Arc::new(config), created, filter, state };
        self.consumers.insert(std::sync::Arc::from(name), consumer);
        Outcome::ConsumerReady { existed: false }
    }
}

#[cfg(test)]
mod tests {
    use weir_jsapi::RetentionPolicy;

    use super::*;
    use crate::command::{OriginRecord, PublishOutcome, StreamCommand};
    use crate::mem_store::MemStore;
    use crate::stream::tests::machine;

    fn entry(seq: u64, headers: &'static str) -> OriginRecord {
        let record = PublishRecord {
            subject: Bytes::from_static(b"S"),
            headers: Bytes::from_static(headers.as_bytes()),
            payload: Bytes::from_static(b"p"),
            timestamp: UnixNanos(1_000 * seq),
        };
        OriginRecord { seq, record }
    }

    fn restore(machine: &mut StreamMachine<MemStore>, records: Vec<OriginRecord>, up_to: u64) -> Outcome {
        machine.apply(StreamCommand::Restore(RestoreBatch { records, up_to })).expect("store")
    }

    #[test]
    fn sequences_times_and_gaps_come_back() {
        let mut machine = machine(|_| ());
        restore(&mut machine, Vec::new(), 4);
        restore(&mut machine, vec![entry(5, ""), entry(8, "")], 0);
        restore(&mut machine, Vec::new(), 9);
        let state = machine.state();
        assert_eq!((state.first_seq, state.last_seq, state.messages, state.num_deleted), (5, 9, 2, 3));
        assert_eq!(machine.deleted(), [6, 7, 9]);
        let first = machine.store().state().first_timestamp;
        assert_eq!(first, UnixNanos(5_000));
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        let mut machine = machine(|_| ());
        restore(&mut machine, vec![entry(5, "")], 0);
        assert!(matches!(restore(&mut machine, vec![entry(5, "")], 0), Outcome::Refused(_)));
    }

    #[test]
    fn a_message_id_within_the_window_is_a_duplicate_again() {
        let mut machine = machine(|_| ());
        restore(&mut machine, vec![entry(1, "NATS/1.0\r\nNats-Msg-Id: one\r\n\r\n")], 0);
        let record = entry(0, "NATS/1.0\r\nNats-Msg-Id: one\r\n\r\n").record;
        let record = PublishRecord { timestamp: UnixNanos(2_000), ..record };
        let outcome = machine.apply(StreamCommand::Publish(vec![record])).expect("store");
        let Outcome::Published { outcomes, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(outcomes, [PublishOutcome::Duplicate { seq: 1 }]);
    }

    #[test]
    fn an_interest_stream_keeps_what_its_backup_held() {
        let mut machine = machine(|config| config.retention = RetentionPolicy::Interest);
        restore(&mut machine, vec![entry(3, "")], 0);
        assert_eq!(machine.state().messages, 1);
    }

    #[test]
    fn limits_hold_for_a_backup() {
        let mut machine = machine(|config| config.max_msgs = 2);
        restore(&mut machine, vec![entry(1, ""), entry(2, ""), entry(3, "")], 0);
        let state = machine.state();
        assert_eq!((state.first_seq, state.messages), (2, 2));
    }

    #[test]
    fn a_consumer_goes_on_where_it_was() {
        let mut machine = machine(|_| ());
        let state = ConsumerState::starting_at(3);
        let restore = StreamCommand::RestoreConsumer {
            name: "c".to_owned(),
            config: Box::new(ConsumerConfig { name: "c".to_owned(), ..ConsumerConfig::default() }),
            created: UnixNanos(9),
            state: Box::new(state.clone()),
        };
        machine.apply(restore.clone()).expect("store");
        assert_eq!(machine.consumer("c").expect("there").state, state);
        assert!(matches!(machine.apply(restore).expect("store"), Outcome::Refused(_)));
    }
}
