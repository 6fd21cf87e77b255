//! The machine's state beside its messages, as it goes into a store's checkpoint and into snapshots.

use std::sync::Arc;

use bytes::Bytes;
use weir_jsapi::{ConsumerConfig, StoreCompression, StreamConfig};

use super::dedupe::Dedupe;
use super::{Consumer, RemovalLog, StreamMachine};
use crate::codec::{DecodeError, Reader, Writer, read_consumer_state, write_consumer_state};
use crate::store::{Filter, Store};

const VERSION: u8 = 1;
const WHAT: &str = "stream checkpoint";
const KIND: u8 = b'S';

impl<S: Store> StreamMachine<S> {
    /// Everything but the messages: configuration, dedupe table, consumers.
    pub fn checkpoint_state(&self) -> Bytes {
        let mut writer = Writer::new(VERSION, KIND, 4096);
        writer.json(&*self.config);
        writer.time(self.created);
        writer.time(self.last_timestamp);
        writer.bytes(self.last_msg_id.as_deref().unwrap_or_default());
        writer.varint(self.dedupe.entries().len() as u64);
        for entry in self.dedupe.entries() {
            writer.bytes(&entry.id);
            writer.varint(entry.seq);
            writer.time(entry.timestamp);
        }
        writer.varint(self.consumers.len() as u64);
        for (name, consumer) in &self.consumers {
            writer.bytes(name.as_bytes());
            writer.json(&*consumer.config);
            writer.time(consumer.created);
            write_consumer_state(&mut writer, &consumer.state);
        }
        self.lifetimes.write(&mut writer);
        self.schedules.write(&mut writer);
        self.fast.write(&mut writer);
        self.sources.write(&mut writer);
        writer.finish()
    }

    /// A machine from a checkpoint and the store it belongs to.
    pub fn restore(checkpoint: Bytes, mut store: S) -> Result<Self, DecodeError> {
        let (mut reader, kind) = Reader::open(checkpoint, WHAT, VERSION)?;
        if kind != KIND {
            return Err(DecodeError::Kind { what: WHAT, found: kind });
        }
        let config: StreamConfig = reader.json("stream configuration")?;
        store.set_compression(config.compression == StoreCompression::S2);
        let created = reader.time("created")?;
        let last_timestamp = reader.time("last timestamp")?;
        let last_msg_id = Bytes::copy_from_slice(&reader.bytes("last message id")?);
        let last_msg_id = (!last_msg_id.is_empty()).then_some(last_msg_id);
        let mut dedupe = Dedupe::default();
        for _ in 0..reader.count("dedupe count")? {
            // Copies: slices would hold the whole checkpoint in memory.
            let id = Bytes::copy_from_slice(&reader.bytes("message id")?);
            let seq = reader.varint("sequence of a message id")?;
            dedupe.insert(id, seq, reader.time("time of a message id")?);
        }
        let mut machine = Self {
            republisher: super::republish::Republisher::of(&config),
            config: Arc::new(config),
            created,
            store,
            dedupe,
            consumers: std::collections::BTreeMap::new(),
            removals: RemovalLog::default(),
            interest: super::interest::Interest::default(),
            lifetimes: super::ttl::Lifetimes::default(),
            schedules: super::schedule::Schedules::default(),
            fast: super::fast::FastBatches::default(),
            sources: super::sourced::SourcePositions::default(),
            last_timestamp,
            last_msg_id,
        };
        for _ in 0..reader.count("consumer count")? {
            let name: Arc<str> = Arc::from(reader.string("consumer name")?);
            let config: ConsumerConfig = reader.json("consumer configuration")?;
            let created = reader.time("created")?;
            let state = read_consumer_state(&mut reader)?;
            let filter = Filter::new(config.filters());
            machine.consumers.insert(name, Consumer { config: Arc::new(config), created, filter, state });
        }
        machine.lifetimes = super::ttl::Lifetimes::read(&mut reader)?;
        if !reader.is_empty() {
            machine.schedules = super::schedule::Schedules::read(&mut reader)?;
            machine.fast = super::fast::FastBatches::read(&mut reader)?;
        }
        // Checkpoints written before there were sources end here.
        if !reader.is_empty() {
            machine.sources = super::sourced::SourcePositions::read(&mut reader)?;
        }
        reader.finish()?;
        Ok(machine)
    }
}
