//! Messages of a mirror's origin and of sources: stored once each, in the origin's order, whoever proposed them and
//! however often. How far a stream is with each source is part of its state.

use std::collections::BTreeMap;

use weir_jsapi::{ApiError, StreamConfig, errors};

use super::{Origin, StreamMachine};
use crate::codec::{DecodeError, Reader, Writer};
use crate::command::{MirrorBatch, Outcome, PublishOutcome, Republished, SourceBatch};
use crate::sourcing::{StoredOrigin, index_name};
use crate::store::{Store, StoreFailure};

/// Sources that a stream once had and whose positions are remembered.
const FORGOTTEN_MAX: usize = 1_000;

/// How far a stream is with one of its sources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourcePosition {
    /// The origin's sequence of the last message taken.
    pub seq: u64,
    /// The origin's identity; empty when it is not known.
    pub identity: String,
    /// Where that message is stored here.
    stored_at: u64,
}

/// Positions by [`index_name`], also of sources that were taken out of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SourcePositions(BTreeMap<String, SourcePosition>);

impl SourcePositions {
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.varint(self.0.len() as u64);
        for (name, position) in &self.0 {
            writer.bytes(name.as_bytes());
            writer.varint(position.seq);
            writer.bytes(position.identity.as_bytes());
            writer.varint(position.stored_at);
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut positions = BTreeMap::new();
        for _ in 0..reader.count("source count")? {
            let name = reader.string("name of a source")?;
            let seq = reader.varint("position of a source")?;
            let identity = reader.string("identity of an origin")?;
            let stored_at = reader.varint("sequence of a sourced message")?;
            positions.insert(name, SourcePosition { seq, identity, stored_at });
        }
        Ok(Self(positions))
    }
}

impl<S: Store> StreamMachine<S> {
    /// How far the stream is with a source; `None` when nothing came from it yet.
    pub fn source_position(&self, index_name: &str) -> Option<&SourcePosition> {
        self.sources.0.get(index_name)
    }

    /// A message from a backup says how far the stream was with one of its sources.
    pub(super) fn restore_position(&mut self, header: &str, stored_at: u64) {
        let Some(StoredOrigin { index_name, seq, identity }) = StoredOrigin::parse(header) else { return };
        if self.config.sources.iter().any(|source| index_name == self::index_name(source)) {
            self.sources.0.insert(index_name, SourcePosition { seq, identity, stored_at });
        }
    }

    pub(super) fn apply_mirror(&mut self, batch: MirrorBatch) -> Result<Outcome, StoreFailure> {
        let mut republished = Vec::new();
        if self.config.mirror.is_none() {
            let refused = Some(errors::STREAM_MIRROR_NOT_UPDATABLE.error());
            return Ok(self.mirrored(refused, republished));
        }
        if batch.after > self.store.state().last_seq {
            return Ok(self.mirrored(None, republished));
        }
        for entry in batch.records {
            let last_seq = self.store.state().last_seq;
            if entry.seq <= last_seq {
                continue;
            }
            if entry.seq > last_seq + 1 {
                self.store.skip_to(entry.seq - 1)?;
            }
            if let PublishOutcome::Rejected(error) =
                self.publish(entry.record, Origin::Server, &mut republished)?
            {
                return Ok(self.mirrored(Some(error), republished));
            }
        }
        if batch.up_to > self.store.state().last_seq {
            self.store.skip_to(batch.up_to)?;
        }
        Ok(self.mirrored(None, republished))
    }

    fn mirrored(&self, refused: Option<ApiError>, republished: Vec<Republished>) -> Outcome {
        Outcome::Sourced { position: self.store.state().last_seq, refused, republished }
    }

    pub(super) fn apply_source(&mut self, batch: SourceBatch) -> Result<Outcome, StoreFailure> {
        let SourceBatch { index_name, identity, after, records } = batch;
        let mut republished = Vec::new();
        let is_same = |known: &SourcePosition| {
            known.identity == identity || known.identity.is_empty() || identity.is_empty()
        };
        let known = self.sources.0.get(&index_name);
        // An origin that was made anew begins anew.
        let mut position = known.filter(|known| is_same(known)).cloned().unwrap_or_default();
        position.identity.clone_from(&identity);
        let mut refused = None;
        if !self.config.sources.iter().any(|source| index_name == self::index_name(source)) {
            refused = Some(errors::SOURCE_INVALID_STREAM_NAME.error());
        }
        if refused.is_none() && after <= position.seq {
            for entry in records.into_iter().filter(|entry| entry.seq > after) {
                if entry.seq <= position.seq {
                    continue;
                }
                match self.publish(entry.record, Origin::Server, &mut republished)? {
                    PublishOutcome::Rejected(error) => {
                        refused = Some(error);
                        break;
                    }
                    PublishOutcome::Stored { seq }
                    | PublishOutcome::Counted { seq, .. }
                    | PublishOutcome::Committed { seq, .. } => position.stored_at = seq,
                    PublishOutcome::Duplicate { .. } | PublishOutcome::Flow(_) => {}
                }
                position.seq = entry.seq;
            }
        }
        let seq = position.seq;
        if seq > 0 {
            self.sources.0.insert(index_name, position);
        }
        Ok(Outcome::Sourced { position: seq, refused, republished })
    }

    /// After a change of configuration: a source that comes back goes on where it was, unless what came from it last
    /// is gone with all before it.
    pub(super) fn adopt_sources(&mut self, before: &StreamConfig) {
        let names = |config: &StreamConfig| config.sources.iter().map(index_name).collect::<Vec<_>>();
        let (old, new) = (names(before), names(&self.config));
        let state = self.store.state();
        for name in new.iter().filter(|name| !old.contains(name)) {
            let is_gone = |known: &SourcePosition| state.messages == 0 || known.stored_at < state.first_seq;
            if self.sources.0.get(name).is_some_and(is_gone) {
                self.sources.0.remove(name);
            }
        }
        while self.sources.0.len() > new.len().saturating_add(FORGOTTEN_MAX) {
            let Some(name) = self.sources.0.keys().find(|name| !new.contains(name)).cloned() else { return };
            self.sources.0.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_jsapi::StreamSource;
    use weir_stdx::time::UnixNanos;

    use super::*;
    use crate::command::{OriginRecord, PublishRecord, StreamCommand};
    use crate::mem_store::MemStore;
    use crate::stream::tests::machine;

    fn origin() -> StreamSource {
        StreamSource { name: "O".to_owned(), ..StreamSource::default() }
    }

    fn records(sequences: &[u64]) -> Vec<OriginRecord> {
        let record = |seq: u64| PublishRecord {
            subject: Bytes::from_static(b"o"),
            headers: Bytes::new(),
            payload: Bytes::new(),
            timestamp: UnixNanos(seq),
        };
        sequences.iter().map(|&seq| OriginRecord { seq, record: record(seq) }).collect()
    }

    fn position(outcome: Outcome) -> u64 {
        let Outcome::Sourced { position, refused, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(refused, None);
        position
    }

    #[test]
    fn a_mirror_keeps_sequences_and_takes_nothing_twice_or_out_of_turn() {
        let mut mirror = machine(|config| config.mirror = Some(origin()));
        let mut take = |after, sequences: &[u64], up_to| {
            let batch = MirrorBatch { after, records: records(sequences), up_to };
            position(mirror.apply(StreamCommand::Mirror(batch)).expect("apply"))
        };
        assert_eq!(take(0, &[], 4), 4, "the origin begins at 5");
        assert_eq!(take(4, &[5, 8], 8), 8);
        assert_eq!(take(4, &[5, 8, 9], 9), 9, "again, with one more");
        assert_eq!(take(12, &[13], 13), 9, "10 to 12 are missing");
        let state = mirror.store().state();
        assert_eq!((state.first_seq, state.last_seq, state.messages), (5, 9, 3));
    }

    #[test]
    fn a_source_is_taken_once_in_turn_and_anew_when_it_was_made_anew() {
        let mut stream = machine(|config| config.sources = vec![origin()]);
        let name = index_name(&origin());
        let mut take = |identity: &str, after, sequences: &[u64]| {
            let (index_name, identity) = (name.clone(), identity.to_owned());
            let batch = SourceBatch { index_name, identity, after, records: records(sequences) };
            position(stream.apply(StreamCommand::Source(batch)).expect("apply"))
        };
        assert_eq!(take("I", 0, &[3, 7]), 7);
        assert_eq!(take("I", 0, &[3, 7, 8]), 8, "again, with one more");
        assert_eq!(take("I", 9, &[10]), 8, "9 is missing");
        assert_eq!(take("J", 0, &[1]), 1, "another stream of that name");
        assert_eq!(stream.store().state().messages, 4);
        let copy = StreamMachine::restore(stream.checkpoint_state(), MemStore::default()).expect("restored");
        assert_eq!(copy.source_position(&name), stream.source_position(&name));
    }

    #[test]
    fn a_source_that_comes_back_goes_on_where_it_was() {
        let mut stream = machine(|config| config.sources = vec![origin()]);
        let name = index_name(&origin());
        let batch =
            SourceBatch { index_name: name.clone(), records: records(&[5]), ..SourceBatch::default() };
        stream.apply(StreamCommand::Source(batch)).expect("apply");
        let with = (**stream.config()).clone();
        let without = StreamConfig { sources: Vec::new(), subjects: vec!["s".to_owned()], ..with.clone() };
        let update = |config: &StreamConfig| StreamCommand::UpdateConfig(Box::new(config.clone()));
        stream.apply(update(&without)).expect("apply");
        stream.apply(update(&with)).expect("apply");
        assert_eq!(stream.source_position(&name).map(|known| known.seq), Some(5));
        stream.apply(update(&without)).expect("apply");
        stream.apply(StreamCommand::Purge(crate::command::Purge::default())).expect("apply");
        stream.apply(update(&with)).expect("apply");
        assert_eq!(stream.source_position(&name), None, "nothing of it is left");
    }
}
