//! Stream commands in their log form.

use bytes::Bytes;

use super::events::{read_events, write_events};
use super::{DecodeError, Reader, Writer, origins, publishes, read_consumer_state, write_consumer_state};
use crate::command::{ConsumerDelta, Purge, StreamCommand};

pub(super) const VERSION: u8 = 1;
const WHAT: &str = "stream command";

pub(super) const PUBLISH: u8 = 1;
const DELETE_MESSAGE: u8 = 2;
const PURGE: u8 = 3;
const EXPIRE: u8 = 4;
const UPDATE_CONFIG: u8 = 5;
const CREATE_CONSUMER: u8 = 6;
const UPDATE_CONSUMER: u8 = 7;
const DELETE_CONSUMER: u8 = 8;
const CONSUMER_DELTAS: u8 = 9;
pub(super) const PUBLISH_ATOMIC: u8 = 10;
pub(super) const PUBLISH_FAST: u8 = 11;
pub(super) const FIRE_SCHEDULES: u8 = 12;
const MIRROR: u8 = 20;
const SOURCE: u8 = 21;
const RESTORE: u8 = 22;
const RESTORE_CONSUMER: u8 = 23;

impl StreamCommand {
    /// The log entry.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Publish(records) => publishes::encode(PUBLISH, records),
            Self::PublishAtomic { batch, records } => publishes::encode_atomic(batch, records),
            Self::PublishFast { limits, records } => publishes::encode_fast(*limits, records),
            Self::FireSchedules { now, firings } => publishes::encode_firings(*now, firings),
            Self::DeleteMessage { seq, erase } => {
                let mut writer = Writer::new(VERSION, DELETE_MESSAGE, 12);
                writer.varint(*seq);
                writer.u8(u8::from(*erase));
                writer.finish()
            }
            Self::Purge(purge) => {
                let filter = purge.filter.as_deref().unwrap_or_default();
                let mut writer = Writer::new(VERSION, PURGE, filter.len() + 24);
                writer.bytes(filter.as_bytes());
                writer.varint(purge.below_seq);
                writer.varint(purge.keep);
                writer.finish()
            }
            Self::Expire { now } => {
                let mut writer = Writer::new(VERSION, EXPIRE, 8);
                writer.time(*now);
                writer.finish()
            }
            Self::UpdateConfig(config) => {
                let mut writer = Writer::new(VERSION, UPDATE_CONFIG, 1024);
                writer.json(config);
                writer.finish()
            }
            Self::CreateConsumer { name, config, created } => {
                let mut writer = Writer::new(VERSION, CREATE_CONSUMER, 1024);
                writer.bytes(name.as_bytes());
                writer.time(*created);
                writer.json(config);
                writer.finish()
            }
            Self::UpdateConsumer { name, config } => {
                let mut writer = Writer::new(VERSION, UPDATE_CONSUMER, 1024);
                writer.bytes(name.as_bytes());
                writer.json(config);
                writer.finish()
            }
            Self::DeleteConsumer { name } => {
                let mut writer = Writer::new(VERSION, DELETE_CONSUMER, name.len() + 8);
                writer.bytes(name.as_bytes());
                writer.finish()
            }
            Self::ConsumerDeltas(deltas) => encode_deltas(deltas),
            Self::Mirror(batch) => {
                let mut writer = Writer::new(VERSION, MIRROR, origins::size(&batch.records) + 24);
                origins::write_mirror(&mut writer, batch);
                writer.finish()
            }
            Self::Source(batch) => {
                let mut writer = Writer::new(VERSION, SOURCE, origins::size(&batch.records) + 96);
                origins::write_source(&mut writer, batch);
                writer.finish()
            }
            Self::Restore(batch) => {
                let mut writer = Writer::new(VERSION, RESTORE, origins::size(&batch.records) + 16);
                origins::write_restore(&mut writer, batch);
                writer.finish()
            }
            Self::RestoreConsumer { name, config, created, state } => {
                let mut writer = Writer::new(VERSION, RESTORE_CONSUMER, 1024);
                writer.bytes(name.as_bytes());
                writer.time(*created);
                writer.json(config);
                write_consumer_state(&mut writer, state);
                writer.finish()
            }
        }
    }

    /// Reads a log entry; payloads stay slices of `entry`.
    pub fn decode(entry: Bytes) -> Result<Self, DecodeError> {
        let (mut reader, kind) = Reader::open(entry, WHAT, VERSION)?;
        let command = match kind {
            PUBLISH => Self::Publish(publishes::decode(&mut reader)?),
            PUBLISH_ATOMIC => publishes::decode_atomic(&mut reader)?,
            PUBLISH_FAST => publishes::decode_fast(&mut reader)?,
            FIRE_SCHEDULES => publishes::decode_firings(&mut reader)?,
            DELETE_MESSAGE => {
                Self::DeleteMessage { seq: reader.varint("seq")?, erase: reader.u8("erase")? != 0 }
            }
            PURGE => {
                let filter = reader.string("filter")?;
                let filter = (!filter.is_empty()).then_some(filter);
                Self::Purge(Purge { filter, below_seq: reader.varint("seq")?, keep: reader.varint("keep")? })
            }
            EXPIRE => Self::Expire { now: reader.time("now")? },
            UPDATE_CONFIG => Self::UpdateConfig(reader.json("stream configuration")?),
            CREATE_CONSUMER => {
                let name = reader.string("consumer name")?;
                let created = reader.time("created")?;
                Self::CreateConsumer { name, config: reader.json("consumer configuration")?, created }
            }
            UPDATE_CONSUMER => {
                let name = reader.string("consumer name")?;
                Self::UpdateConsumer { name, config: reader.json("consumer configuration")? }
            }
            DELETE_CONSUMER => Self::DeleteConsumer { name: reader.string("consumer name")? },
            CONSUMER_DELTAS => decode_deltas(&mut reader)?,
            MIRROR => Self::Mirror(origins::read_mirror(&mut reader)?),
            SOURCE => Self::Source(origins::read_source(&mut reader)?),
            RESTORE => Self::Restore(origins::read_restore(&mut reader)?),
            RESTORE_CONSUMER => {
                let name = reader.string("consumer name")?;
                let created = reader.time("created")?;
                let config = reader.json("consumer configuration")?;
                let state = Box::new(read_consumer_state(&mut reader)?);
                Self::RestoreConsumer { name, config, created, state }
            }
            found => return Err(DecodeError::Kind { what: WHAT, found }),
        };
        reader.finish()?;
        Ok(command)
    }
}

fn encode_deltas(deltas: &[ConsumerDelta]) -> Bytes {
    let size: usize = deltas.iter().map(|delta| delta.name.len() + 8 + delta.events.len() * 4).sum();
    let mut writer = Writer::new(VERSION, CONSUMER_DELTAS, size + 10);
    writer.varint(deltas.len() as u64);
    for delta in deltas {
        writer.bytes(delta.name.as_bytes());
        write_events(&mut writer, &delta.events);
    }
    writer.finish()
}

fn decode_deltas(reader: &mut Reader) -> Result<StreamCommand, DecodeError> {
    let count = reader.count("delta count")?;
    let mut deltas = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.string("consumer name")?;
        deltas.push(ConsumerDelta { name, events: read_events(reader)? });
    }
    Ok(StreamCommand::ConsumerDeltas(deltas))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_jsapi::{ConsumerConfig, StreamConfig};
    use weir_stdx::time::UnixNanos;

    use super::*;
    use crate::command::{
        FastLimits, FastRecord, Firing, FiringAction, MirrorBatch, OriginRecord, PublishRecord, RestoreBatch,
        SourceBatch,
    };
    use crate::consumer::{ConsumerEvent, ConsumerState};

    fn samples() -> Vec<StreamCommand> {
        let record = |subject: &'static str, payload: &'static [u8]| PublishRecord {
            subject: Bytes::from_static(subject.as_bytes()),
            headers: Bytes::from_static(b"NATS/1.0\r\nA: b\r\n\r\n"),
            payload: Bytes::from_static(payload),
            timestamp: UnixNanos(1_700_000_000_000_000_001),
        };
        let at = UnixNanos(77);
        let events = vec![
            ConsumerEvent::Delivered { stream_seq: 300, consumer_seq: 2, delivery_count: 1, at },
            ConsumerEvent::Acked { stream_seq: u64::MAX, at },
            ConsumerEvent::InProgress { stream_seq: 1, at },
            ConsumerEvent::Dropped { stream_seq: 2, at },
            ConsumerEvent::Exhausted { stream_seq: 3 },
            ConsumerEvent::Reset { stream_seq: 4 },
        ];
        let config = ConsumerConfig { name: "c".to_owned(), ..ConsumerConfig::default() };
        let stream = StreamConfig { name: "S".to_owned(), max_msgs: -1, ..StreamConfig::default() };
        vec![
            StreamCommand::Publish(vec![record("a.b", b"x"), record("c", b"")]),
            StreamCommand::Publish(Vec::new()),
            StreamCommand::PublishAtomic {
                batch: Bytes::from_static(b"id"),
                records: vec![record("a", b"x"), record("b", b"")],
            },
            StreamCommand::PublishFast {
                limits: FastLimits { timeout: 10_000_000_000, inflight_max: 1000 },
                records: vec![
                    FastRecord { record: record("a", b"x"), reply: Bytes::from_static(b"r.$FI") },
                    FastRecord { record: record("a", b"y"), reply: Bytes::new() },
                ],
            },
            StreamCommand::FireSchedules {
                now: at,
                firings: vec![
                    Firing { at, seq: 1, action: FiringAction::Once },
                    Firing { at, seq: 2, action: FiringAction::Repeat { at, text: "T".to_owned() } },
                    Firing { at, seq: 3, action: FiringAction::Drop },
                ],
            },
            StreamCommand::DeleteMessage { seq: 9, erase: true },
            StreamCommand::Purge(Purge { filter: Some("a.>".to_owned()), below_seq: 5, keep: 0 }),
            StreamCommand::Expire { now: at },
            StreamCommand::UpdateConfig(Box::new(stream)),
            StreamCommand::CreateConsumer {
                name: "c".to_owned(),
                config: Box::new(config.clone()),
                created: at,
            },
            StreamCommand::UpdateConsumer { name: "c".to_owned(), config: Box::new(config) },
            StreamCommand::DeleteConsumer { name: "c".to_owned() },
            StreamCommand::ConsumerDeltas(vec![ConsumerDelta { name: "c".to_owned(), events }]),
            StreamCommand::Mirror(MirrorBatch {
                after: 7,
                records: vec![OriginRecord { seq: 300, record: record("a", b"x") }],
                up_to: 301,
            }),
            StreamCommand::Source(SourceBatch {
                index_name: "A > >".to_owned(),
                identity: "I".to_owned(),
                after: 1,
                records: vec![OriginRecord { seq: 2, record: record("a", b"") }],
            }),
            StreamCommand::Restore(RestoreBatch {
                records: vec![OriginRecord { seq: 7, record: record("a", b"x") }],
                up_to: 9,
            }),
            StreamCommand::RestoreConsumer {
                name: "c".to_owned(),
                config: Box::new(ConsumerConfig { name: "c".to_owned(), ..ConsumerConfig::default() }),
                created: at,
                state: Box::new(ConsumerState::starting_at(5)),
            },
        ]
    }

    #[test]
    fn commands_survive_the_log() {
        for command in samples() {
            assert_eq!(StreamCommand::decode(command.encode()), Ok(command));
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        for command in samples() {
            let bytes = command.encode();
            for end in 0..bytes.len() {
                assert!(StreamCommand::decode(bytes.slice(..end)).is_err(), "{command:?} cut at {end}");
            }
        }
    }

    #[test]
    fn newer_versions_are_refused_by_name() {
        let error = StreamCommand::decode(Bytes::from_static(&[9, 1])).expect_err("version 9");
        assert_eq!(error, DecodeError::Version { what: WHAT, found: 9, known: VERSION });
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..24) {
            if bytes.len() > 1 {
                bytes[0] = VERSION;
                bytes[1] = kind;
            }
            let _ = StreamCommand::decode(Bytes::from(bytes));
        }
    }
}
