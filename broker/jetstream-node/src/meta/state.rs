//! The meta machine as a replicated state: position in its log, checkpoint file, snapshots. What the commands do
//! is the machine's business (`weir_jetstream::meta`).

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use weir_jetstream::meta::{MetaCommand, MetaMachine, MetaOutcome};
use weir_storage::disk::Disk;
use weir_storage::{StorageError, whole_file};

use crate::replicated::{SnapshotView, StateMachine};
use crate::stream::quarantine::OpenFailure;

/// What the checkpoint file starts with.
pub(crate) const MAGIC: &[u8; 8] = b"WEIRMETA";
/// Bytes before the machine's state: term and index.
const POSITION_LEN: usize = 16;
/// A snapshot larger than this is not a meta state.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

pub(crate) struct MetaState {
    machine: MetaMachine,
    term: u64,
    index: u64,
    disk: Arc<dyn Disk>,
    file: PathBuf,
}

impl MetaState {
    /// The state before the first entry.
    pub(crate) fn new(disk: Arc<dyn Disk>, file: PathBuf) -> Self {
        Self { machine: MetaMachine::default(), term: 0, index: 0, disk, file }
    }

    /// Reads the newest checkpoint, if there is one.
    pub(crate) fn open(disk: Arc<dyn Disk>, file: PathBuf) -> Result<Self, OpenFailure> {
        let content = whole_file::read(&*disk, &file, MAGIC)?;
        let Some(content) = content else { return Ok(Self::new(disk, file)) };
        let (term, index, machine) =
            decode(&content).map_err(|reason| format!("{}: {reason}", file.display()))?;
        Ok(Self { machine, term, index, disk, file })
    }

    pub(crate) fn machine(&self) -> &MetaMachine {
        &self.machine
    }

    pub(crate) fn machine_mut(&mut self) -> &mut MetaMachine {
        &mut self.machine
    }

    /// Writes the checkpoint; entries up to the index it returns need not be kept any more.
    pub(crate) fn checkpoint(&self) -> Result<u64, StorageError> {
        whole_file::write(&*self.disk, &self.file, MAGIC, &self.encode())?;
        Ok(self.index)
    }

    /// `checkpoint` on another disk than it was read from.
    pub(crate) fn checkpoint_on(&self, disk: &dyn Disk) -> Result<(), StorageError> {
        whole_file::write(disk, &self.file, MAGIC, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        content.extend_from_slice(&self.term.to_le_bytes());
        content.extend_from_slice(&self.index.to_le_bytes());
        content.extend_from_slice(&self.machine.checkpoint());
        content
    }
}

fn decode(content: &[u8]) -> Result<(u64, u64, MetaMachine), String> {
    let (position, state) = content
        .split_at_checked(POSITION_LEN)
        .ok_or_else(|| format!("meta state of {} bytes is too short", content.len()))?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let machine = MetaMachine::restore(Bytes::copy_from_slice(state)).map_err(|error| error.to_string())?;
    Ok((number(&position[..8]), number(&position[8..]), machine))
}

impl StateMachine for MetaState {
    type Outcome = MetaOutcome;

    fn apply(&mut self, _index: u64, command: Bytes) -> Result<MetaOutcome, String> {
        let command = MetaCommand::decode(command).map_err(|error| error.to_string())?;
        Ok(self.machine.apply(command))
    }

    fn applied(&self) -> (u64, u64) {
        (self.term, self.index)
    }

    fn advance(&mut self, term: u64, index: u64) {
        self.term = term;
        self.index = index;
    }

    fn count(&self) -> u64 {
        self.machine.next_group()
    }

    fn snapshot(&mut self) -> Result<SnapshotView, String> {
        let content = self.encode();
        Ok(Box::new(move |out| out.write_all(&content)))
    }

    fn snapshot_install(&mut self, _term: u64, index: u64, content: &mut dyn Read) -> Result<(), String> {
        let mut bytes = Vec::new();
        content.take(SNAPSHOT_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let (term, applied, machine) = decode(&bytes)?;
        if applied < index {
            return Err(format!("meta snapshot ends at entry {applied}, {index} was promised"));
        }
        (self.machine, self.term, self.index) = (machine, term, applied);
        self.checkpoint().map(|_| ()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_jetstream::meta::MetaPeer;
    use weir_storage::disk::RealDisk;

    #[test]
    fn state_and_position_survive_a_checkpoint_and_a_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = MetaState::open(Arc::new(RealDisk), folder.path().join("meta")).unwrap();
        let member = MetaPeer { id: 3, name: "n".to_owned(), endpoint: "h:1".to_owned() };
        let command = MetaCommand::PeerAdded(member.clone()).encode();
        state.apply(9, command).unwrap();
        state.advance(2, 9);
        assert_eq!(state.checkpoint().unwrap(), 9);

        let reopened = MetaState::open(Arc::new(RealDisk), folder.path().join("meta")).unwrap();
        assert_eq!(reopened.applied(), (2, 9));
        assert_eq!(reopened.machine().peer(3), Some(&member));

        let mut snapshot = Vec::new();
        state.snapshot().unwrap()(&mut snapshot).unwrap();
        let mut other = MetaState::open(Arc::new(RealDisk), folder.path().join("other")).unwrap();
        other.snapshot_install(2, 9, &mut &snapshot[..]).unwrap();
        assert_eq!((other.applied(), other.machine().peer(3)), ((2, 9), Some(&member)));
        assert!(other.snapshot_install(2, 10, &mut &snapshot[..]).is_err());
    }
}
