//! A consumer's state as a backup has it, and back. What it came across last and which messages it began with when it
//! was to begin with the last of each subject are not in a backup.

use std::collections::{BTreeMap, BTreeSet};

use weir_backup::{ConsumerRecord, PendingRecord, Position, Progress};
use weir_jetstream::stream::Consumer;
use weir_jetstream::{ConsumerState, Pending, Position as StatePosition};
use weir_jsapi::ConsumerConfig;
use weir_stdx::time::UnixNanos;

/// What goes into a backup.
pub(super) fn to_record(name: &str, consumer: &Consumer) -> ConsumerRecord {
    let mut config = (*consumer.config).clone();
    name.clone_into(&mut config.name);
    let state = &consumer.state;
    let position = |position: StatePosition| Position {
        consumer_seq: position.consumer_seq,
        stream_seq: position.stream_seq,
    };
    let pending = state.pending.iter().map(|(seq, pending)| {
        let delivered_at = i64::try_from(pending.delivered_at.0).unwrap_or(i64::MAX);
        (*seq, PendingRecord { consumer_seq: pending.consumer_seq, delivered_at })
    });
    let again = state.pending.iter().filter(|(_, pending)| pending.delivery_count > 1);
    let mut redelivered: BTreeMap<u64, u64> =
        again.map(|(seq, pending)| (*seq, pending.delivery_count - 1)).collect();
    let all = u64::try_from(config.max_deliver).unwrap_or(1);
    redelivered.extend(state.exhausted.iter().map(|seq| (*seq, all)));
    let state = Progress {
        delivered: position(state.delivered),
        ack_floor: position(state.ack_floor),
        pending: pending.collect(),
        redelivered,
    };
    ConsumerRecord { config, state }
}

/// What comes out of one; its sequences were judged when it was read.
pub(super) fn to_state(config: &ConsumerConfig, progress: &Progress) -> ConsumerState {
    let position = |position: Position| StatePosition {
        consumer_seq: position.consumer_seq,
        stream_seq: position.stream_seq,
    };
    let redelivered = |seq: &u64| progress.redelivered.get(seq).copied().unwrap_or(0);
    let pending = progress.pending.iter().map(|(seq, pending)| {
        let delivered_at = UnixNanos(u64::try_from(pending.delivered_at).unwrap_or(0));
        let delivery_count = redelivered(seq).saturating_add(1);
        (*seq, Pending { consumer_seq: pending.consumer_seq, delivered_at, delivery_count })
    });
    // What is counted and waits for no acknowledgement had all its deliveries.
    let exhausted: BTreeSet<u64> = if config.max_deliver > 0 {
        progress.redelivered.keys().filter(|seq| !progress.pending.contains_key(seq)).copied().collect()
    } else {
        BTreeSet::new()
    };
    ConsumerState {
        delivered: position(progress.delivered),
        ack_floor: position(progress.ack_floor),
        pending: pending.collect(),
        exhausted,
        ..ConsumerState::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_jetstream::Filter;

    use super::*;

    #[test]
    fn a_consumer_comes_back_as_it_was() {
        let at = |consumer_seq, stream_seq| StatePosition { consumer_seq, stream_seq };
        let pending = |consumer_seq, delivery_count| Pending {
            consumer_seq,
            delivered_at: UnixNanos(77),
            delivery_count,
        };
        let state = ConsumerState {
            delivered: at(9, 8),
            ack_floor: at(2, 3),
            pending: BTreeMap::from([(5, pending(4, 1)), (6, pending(5, 3))]),
            exhausted: BTreeSet::from([7]),
            ..ConsumerState::default()
        };
        let config = ConsumerConfig { max_deliver: 4, ..ConsumerConfig::default() };
        let consumer = Consumer {
            config: Arc::new(config),
            created: UnixNanos(1),
            filter: Filter::default(),
            state: state.clone(),
        };
        let record = to_record("c", &consumer);
        assert_eq!(record.config.name, "c");
        assert_eq!(record.state.redelivered, BTreeMap::from([(6, 2), (7, 4)]));
        assert_eq!(to_state(&record.config, &record.state), state);
    }
}
