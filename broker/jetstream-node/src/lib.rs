//! Runs JetStream on one server: the logs behind the machines, the streams' leaders, ingest, delivery and the API.
//!
//! The machines themselves are pure and in `weir-jetstream`; how messages and logs are kept is `weir-storage`'s
//! business, Raft's messages `weir-raft`'s. Clients and other servers come in through `weir-hub`.

mod accounts;
mod admin;
mod advisories;
mod api;
mod api_load;
mod backup;
mod clock;
mod context;
#[cfg(test)]
mod crash_states;
mod envelope;
mod exceeded;
mod identity;
mod inside;
mod limits;
mod meta;
mod neighbours;
mod node;
pub mod offline;
mod options;
mod patient;
mod placement;
mod replicated;
mod replicator;
mod requester;
mod snapshot;
mod space;
mod stream;
mod unsupported;
mod usage;

pub use accounts::AccountShare;
pub use inside::{GroupPeer, GroupView, QueueView};
pub use limits::{ServerLimits, ServerRoom};
pub use neighbours::{Neighbours, PeerInfo, PeerSeen, Seed};
pub use node::{JetStreamNode, StartError};
pub use options::{ClusterOptions, NodeOptions};
pub use snapshot::{AccountSnapshot, JetStreamSnapshot, MetaSnapshot, SnapshotOptions, StreamSnapshot};
pub use stream::ingest::IngestLimits;
pub use weir_jetstream::BatchLimits;
