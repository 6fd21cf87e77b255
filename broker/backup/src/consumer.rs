//! A consumer in a backup: its configuration and how far it came, as nats-server writes them as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_jsapi::ConsumerConfig;

use crate::error::BackupError;

/// A pair of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    pub consumer_seq: u64,
    pub stream_seq: u64,
}

/// A delivery without an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pending {
    #[serde(rename = "Sequence")]
    pub consumer_seq: u64,
    /// Of the last delivery, nanoseconds since 1970.
    #[serde(rename = "Timestamp")]
    pub delivered_at: i64,
}

/// How far a consumer came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub delivered: Position,
    pub ack_floor: Position,
    /// By stream sequence.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pending: BTreeMap<u64, Pending>,
    /// How often messages were delivered again, by stream sequence.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub redelivered: BTreeMap<u64, u64>,
}

/// A consumer of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerRecord {
    pub config: ConsumerConfig,
    pub state: Progress,
}

#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    config: Option<ConsumerConfig>,
    #[serde(default)]
    state: Option<NullableProgress>,
}

/// Go writes maps without entries as nothing or as null.
#[derive(Default, Deserialize)]
#[serde(default)]
struct NullableProgress {
    delivered: Position,
    ack_floor: Position,
    pending: Option<BTreeMap<u64, Option<Pending>>>,
    redelivered: Option<BTreeMap<u64, u64>>,
}

impl ConsumerRecord {
    /// Keeps nothing of what lies behind the last message of the backup.
    pub(crate) fn bound(&mut self, last_seq: u64) {
        let state = &mut self.state;
        state.delivered.stream_seq = state.delivered.stream_seq.min(last_seq);
        state.ack_floor.stream_seq = state.ack_floor.stream_seq.min(last_seq);
        state.pending.retain(|seq, _| *seq <= last_seq);
        state.redelivered.retain(|seq, _| *seq <= last_seq);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        weir_jsapi::json::encode(self)
    }

    /// Reads and judges an entry of this name.
    pub(crate) fn decode(name: &str, json: &[u8]) -> Result<Self, BackupError> {
        let read: Read = serde_json::from_slice(json).map_err(|error| {
            BackupError::invalid(format!("failed to decode consumer {name:?} state: {error}"))
        })?;
        let missing = |what: &str| BackupError::invalid(format!("consumer {name:?} is missing {what}"));
        let config = read.config.ok_or_else(|| missing("config"))?;
        let state = read.state.ok_or_else(|| missing("state"))?;
        let pending = state.pending.unwrap_or_default().into_iter();
        let state = Progress {
            delivered: state.delivered,
            ack_floor: state.ack_floor,
            pending: pending.filter_map(|(seq, pending)| Some((seq, pending?))).collect(),
            redelivered: state.redelivered.unwrap_or_default(),
        };
        state
            .check()
            .map_err(|text| BackupError::invalid(format!("failed to set consumer {name:?} state: {text}")))?;
        Ok(Self { config, state })
    }
}

impl Progress {
    fn check(&self) -> Result<(), String> {
        if self.ack_floor.consumer_seq > self.delivered.consumer_seq {
            return Err("bad ack floor for consumer".to_owned());
        }
        if self.ack_floor.stream_seq > self.delivered.stream_seq {
            return Err("bad ack floor for stream".to_owned());
        }
        let is_wrong = |seq: &&u64| **seq <= self.ack_floor.stream_seq || **seq > self.delivered.stream_seq;
        match self.pending.keys().find(is_wrong) {
            Some(seq) => Err(format!("bad pending entry, sequence [{seq}] out of range")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nats_server_wrote_reads_and_writes_the_same() {
        let json = r#"{"config":{"durable_name":"c","name":"c","deliver_policy":"all","ack_policy":"explicit","ack_wait":30000000000,"max_deliver":-1,"max_ack_pending":1000,"replay_policy":"instant","num_replicas":0},"state":{"delivered":{"consumer_seq":5,"stream_seq":4},"ack_floor":{"consumer_seq":1,"stream_seq":1},"pending":{"3":{"Sequence":3,"Timestamp":1763000000000000000}},"redelivered":{"3":1}}}"#;
        let record = ConsumerRecord::decode("c", json.as_bytes()).expect("readable");
        assert_eq!(record.state.pending[&3].consumer_seq, 3);
        assert_eq!(record.state.redelivered[&3], 1);
        let again = ConsumerRecord::decode("c", &record.encode()).expect("readable");
        assert_eq!(again, record);
    }

    #[test]
    fn states_that_cannot_be_are_refused() {
        let refused = |state: &str| {
            let json = format!(r#"{{"config":{{"name":"c"}},"state":{state}}}"#);
            ConsumerRecord::decode("c", json.as_bytes()).expect_err("refused").to_string()
        };
        let floor = r#"{"delivered":{"consumer_seq":1,"stream_seq":1},"ack_floor":{"consumer_seq":2,"stream_seq":1}}"#;
        assert_eq!(refused(floor), r#"failed to set consumer "c" state: bad ack floor for consumer"#);
        let pending = r#"{"delivered":{"consumer_seq":1,"stream_seq":1},"pending":{"2":{"Sequence":1}}}"#;
        assert!(refused(pending).ends_with("bad pending entry, sequence [2] out of range"));
        assert_eq!(refused("null"), r#"consumer "c" is missing state"#);
        assert!(refused("7").starts_with(r#"failed to decode consumer "c" state: "#));
    }

    #[test]
    fn what_lies_behind_the_last_message_is_left_out() {
        let json = r#"{"config":{"name":"c"},"state":{"delivered":{"consumer_seq":9,"stream_seq":9},"ack_floor":{"consumer_seq":1,"stream_seq":1},"pending":{"3":{},"8":{}},"redelivered":{"8":2}}}"#;
        let mut record = ConsumerRecord::decode("c", json.as_bytes()).expect("readable");
        record.bound(5);
        assert_eq!(record.state.delivered.stream_seq, 5);
        assert_eq!(record.state.pending.keys().collect::<Vec<_>>(), [&3]);
        assert!(record.state.redelivered.is_empty());
    }
}
