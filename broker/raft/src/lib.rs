//! Raft groups over openraft: their logs on the node's journal, their traffic over gRPC, their state in
//! a `Machine`. Knows nothing of streams or of JetStream.
//!
//! Indexes start at 1 everywhere in this interface; 0 means none.

pub mod admin;
mod codec;
mod error;
mod group;
mod group_log;
mod grow;
mod journal_log;
mod leadership;
mod log_reader;
mod log_sizes;
mod log_store;
mod machine;
mod membership;
mod net;
mod node;
mod options;
mod pb;
mod propose;
mod quiet;
mod quiet_group;
mod quiet_node;
mod raft_types;
mod registry;
mod snapshot;
mod state_machine;
mod status;
mod types;

#[cfg(test)]
mod tests;

pub use error::{GroupError, OpenError, ProposeError, StartError};
pub use group::Group;
pub use group_log::{Done, GroupLog, LogExtent, LogRecord};
pub use machine::{Committed, LogPosition, Machine, MachineError, Response, SnapshotSource};
pub use node::{RaftNode, Resolver};
pub use options::{GroupOptions, MAX_APPEND_BYTES, MAX_ENTRY_BYTES, MAX_MESSAGE_BYTES, NodeConfig};
pub use propose::Proposed;
pub use types::{GroupId, GroupInside, GroupStatus, Leadership, PeerId, PeerInfo, ReplicationStatus};
