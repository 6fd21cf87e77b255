//! A stream's machine as a replicated state: position in its log, checkpoints, snapshots. What the commands do is
//! the machine's business (`weir_jetstream`), how messages are kept the store's (`weir_storage`).

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use weir_jetstream::meta::StreamAssignment;
use weir_jetstream::{Outcome, Store, StreamCommand, StreamMachine};
use weir_storage::disk::Disk;
use weir_storage::{FileStoreOptions, Journal, StorageError, Unsynced};

use super::quarantine::OpenFailure;
use super::store::StreamStore;
use crate::replicated::{SnapshotView, StateMachine};
use crate::space::Space;

/// Format of the state that goes into checkpoints and snapshots beside the messages.
const VERSION: u8 = 1;
/// Version, term, index.
const POSITION_LEN: usize = 1 + 8 + 8;
/// The state beside the messages is never larger.
const STATE_BYTES_MAX: u64 = 1 << 30;

pub(crate) struct StreamState {
    machine: StreamMachine<StreamStore>,
    term: u64,
    index: u64,
    /// Bytes of log applied since the last checkpoint.
    log_bytes: u64,
    /// Grows with every change to the set of consumers or to a consumer's configuration.
    consumers_revision: u64,
    /// Fast batches of the whole server.
    fast_total: Option<Arc<AtomicUsize>>,
    /// Who is told when there is no room for the stream's messages, and its group.
    space: Option<(Arc<Space>, u64)>,
}

impl StreamState {
    /// The state of a checkpoint, or of a new stream when the store has none.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        journal: &Journal,
        options: &FileStoreOptions,
        folder: &Path,
        assignment: &StreamAssignment,
    ) -> Result<Self, OpenFailure> {
        let (store, checkpoint) = StreamStore::open(disk, journal, options, folder, assignment)?;
        if checkpoint.is_empty() {
            let machine = StreamMachine::new((*assignment.config).clone(), assignment.created, store)
                .map_err(|error| error.to_string())?;
            return Ok(Self::new(machine, 0, 0));
        }
        let (term, index, rest) = split(checkpoint)?;
        let machine = StreamMachine::restore(rest, store).map_err(|error| error.to_string())?;
        Ok(Self::new(machine, term, index))
    }

    fn new(machine: StreamMachine<StreamStore>, term: u64, index: u64) -> Self {
        Self { machine, term, index, log_bytes: 0, consumers_revision: 0, fast_total: None, space: None }
    }

    /// Counts the stream's fast batches with those of the whole server.
    pub(crate) fn count_fast_batches(&mut self, total: &Arc<AtomicUsize>) {
        self.machine.count_fast_batches(Arc::clone(total));
        self.fast_total = Some(Arc::clone(total));
    }

    /// Who is told when there is no room for the stream's messages.
    pub(crate) fn report_to(&mut self, space: &Arc<Space>, group: u64) {
        self.space = Some((Arc::clone(space), group));
    }

    fn report_shortage(&self) {
        if let Some(reason) = self.machine.store().shortage()
            && let Some((space, group)) = &self.space
        {
            space.note(*group, reason);
        }
    }

    /// Tries again to write what there was no room for; gives what there still is none for.
    pub(crate) fn retry(&mut self) -> Result<Option<String>, String> {
        self.machine.store_mut().retry()?;
        Ok(self.machine.store().shortage())
    }

    pub(crate) fn machine(&self) -> &StreamMachine<StreamStore> {
        &self.machine
    }

    pub(crate) fn machine_mut(&mut self) -> &mut StreamMachine<StreamStore> {
        &mut self.machine
    }

    /// Bytes of log applied since the last checkpoint.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// Grows with every change to the set of consumers or to a consumer's configuration.
    pub(crate) fn consumers_revision(&self) -> u64 {
        self.consumers_revision
    }

    /// The files that the next checkpoint has to sync; without the lock that is no stall.
    pub(crate) fn unsynced(&mut self) -> Result<Vec<Unsynced>, StorageError> {
        self.machine.store_mut().unsynced()
    }

    /// Makes the state durable; entries up to the index it returns need not be kept any more.
    pub(crate) fn checkpoint(&mut self) -> Result<u64, StorageError> {
        let extra = self.encode();
        self.machine.store_mut().checkpoint(self.index, &extra)?;
        self.log_bytes = 0;
        Ok(self.index)
    }

    /// A memory stream's checkpoints go to a file in this folder from now on.
    pub(crate) fn keep_in(&mut self, disk: Arc<dyn Disk>, folder: &Path) {
        let is_memory = self.machine.config().storage == weir_jsapi::StorageType::Memory;
        self.machine.store_mut().keep_in(disk, folder, is_memory);
    }

    /// Lets go of the store's files; the state is of no use afterwards.
    pub(crate) fn release(&mut self) {
        drop(self.machine.store_mut().take());
    }

    fn encode(&self) -> Bytes {
        let state = self.machine.checkpoint_state();
        let mut out = BytesMut::with_capacity(POSITION_LEN + state.len());
        out.put_u8(VERSION);
        out.put_u64_le(self.term);
        out.put_u64_le(self.index);
        out.put_slice(&state);
        out.freeze()
    }
}

fn split(mut state: Bytes) -> Result<(u64, u64, Bytes), String> {
    if state.len() < POSITION_LEN {
        return Err(format!("stream state of {} bytes is too short", state.len()));
    }
    let version = state.get_u8();
    if version != VERSION {
        return Err(format!("stream state has format {version}, this server reads format {VERSION}"));
    }
    let (term, index) = (state.get_u64_le(), state.get_u64_le());
    Ok((term, index, state))
}

impl StateMachine for StreamState {
    type Outcome = Outcome;

    fn apply(&mut self, _index: u64, command: Bytes) -> Result<Outcome, String> {
        self.log_bytes += command.len() as u64;
        let command = StreamCommand::decode(command).map_err(|error| error.to_string())?;
        if matches!(
            command,
            StreamCommand::CreateConsumer { .. }
                | StreamCommand::RestoreConsumer { .. }
                | StreamCommand::UpdateConsumer { .. }
                | StreamCommand::DeleteConsumer { .. }
        ) {
            self.consumers_revision += 1;
        }
        let outcome = self.machine.apply(command).map_err(|error| error.to_string());
        self.report_shortage();
        outcome
    }

    fn applied(&self) -> (u64, u64) {
        (self.term, self.index)
    }

    fn advance(&mut self, term: u64, index: u64) {
        self.term = term;
        self.index = index;
        if let Some((space, _)) = &self.space {
            space.change();
        }
    }

    fn count(&self) -> u64 {
        self.machine.store().last_seq()
    }

    fn snapshot(&mut self) -> Result<SnapshotView, String> {
        let state = self.encode();
        let messages = self.machine.store_mut().snapshot()?;
        Ok(Box::new(move |out| {
            out.write_all(&(state.len() as u64).to_le_bytes())?;
            out.write_all(&state)?;
            messages(out)
        }))
    }

    fn snapshot_install(&mut self, _term: u64, index: u64, content: &mut dyn Read) -> Result<(), String> {
        let mut length = [0_u8; 8];
        content.read_exact(&mut length).map_err(|error| error.to_string())?;
        let length = u64::from_le_bytes(length);
        if length > STATE_BYTES_MAX {
            return Err(format!("stream state of {length} bytes in a snapshot is too large"));
        }
        let mut state = Vec::new();
        content.take(length).read_to_end(&mut state).map_err(|error| error.to_string())?;
        let (term, applied, rest) = split(Bytes::from(state))?;
        if applied < index {
            return Err(format!("stream snapshot ends at entry {applied}, {index} was promised"));
        }
        self.machine.store_mut().snapshot_install(content)?;
        let store = self.machine.store_mut().take();
        self.machine = StreamMachine::restore(rest, store).map_err(|error| error.to_string())?;
        if let Some(total) = &self.fast_total {
            self.machine.count_fast_batches(Arc::clone(total));
        }
        (self.term, self.index) = (term, applied);
        self.consumers_revision += 1;
        self.checkpoint().map(|_| ()).map_err(|error| error.to_string())
    }
}
