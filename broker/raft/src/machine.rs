//! The seam to what a group replicates: a deterministic machine fed with committed entries.
//! This room knows nothing of what the payloads mean.

use std::any::Any;
use std::io::{Read, Write};

use bytes::Bytes;

use crate::types::Leadership;

/// What a machine answers to one entry; only looked at where the entry was proposed.
pub type Response = Option<Box<dyn Any + Send>>;

/// What a machine reports when it cannot go on (a failing disk). It stops its group for good.
pub type MachineError = Box<dyn std::error::Error + Send + Sync>;

/// A position in a group's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    pub term: u64,
    pub index: u64,
}

/// One committed entry. `payload` is empty for entries of Raft's own (a new leader's first entry, a
/// change of members): a machine only notes their position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub term: u64,
    pub index: u64,
    pub payload: Bytes,
}

impl Committed {
    #[must_use]
    pub fn position(&self) -> LogPosition {
        LogPosition { term: self.term, index: self.index }
    }
}

/// One group's state machine. Calls come from the group's own worker, one at a time and in log order,
/// except `leadership`, which comes from another task.
pub trait Machine: Send + Sync + 'static {
    /// The last entry contained in the state, as it survived a restart; `None` for an empty state.
    /// Entries after it are applied again.
    fn applied(&self) -> Option<LogPosition>;

    /// Applies entries in order and answers each one (same length as `entries`). Must not block on
    /// anything but short disk writes. An entry that cannot be read is an error of the machine.
    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Response>, MachineError>;

    /// A consistent view of the state as it is now, cheap to make; its content is written out later, on
    /// another thread, while entries go on being applied.
    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, MachineError>;

    /// Replaces the whole state by a snapshot taken at `position`. Runs on a thread that may block.
    /// The new state must be durable, with `applied()` at `position`, when this returns.
    fn install(&self, position: LogPosition, content: &mut dyn Read) -> Result<(), MachineError>;

    /// Told of every change: `Leader` once the log up to the term's first entry is applied, `Follower`
    /// at once when leadership ends or a majority has been silent. Must not block.
    fn leadership(&self, state: Leadership);
}

/// A view of a machine's state, to be written once.
pub trait SnapshotSource: Send + Sync {
    /// The last entry contained.
    fn position(&self) -> LogPosition;
    /// Writes the whole content. Runs on a thread that may block.
    fn write_to(self: Box<Self>, out: &mut dyn Write) -> std::io::Result<()>;
}
