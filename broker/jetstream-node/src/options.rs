//! What the room is told at start. The server room fills it from the configuration.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use weir_raft::GroupOptions;
use weir_storage::{EncryptionOptions, SyncPolicy};

use crate::accounts::AccountShare;
use crate::limits::ServerRoom;
use crate::neighbours::Neighbours;
use crate::stream::ingest::IngestLimits;

/// Settings of one server's JetStream.
pub struct NodeOptions {
    pub server_name: String,
    /// The folder that holds journal, meta state and streams.
    pub store_dir: PathBuf,
    pub sync: SyncPolicy,
    /// How the store is encrypted; a store that is encrypted otherwise is refused.
    pub encryption: Option<EncryptionOptions>,
    pub room: ServerRoom,
    /// API requests with unknown fields are refused.
    pub strict: bool,
    /// The subjects that acknowledge messages name domain and account (version 2) before stream and consumer.
    pub scoped_acks: bool,
    /// API requests worked on at the same time; more are dropped, the client asks again.
    pub api_requests_max: u64,
    /// Printed in acknowledgements and infos when set.
    pub domain: Option<String>,
    pub ingest: IngestLimits,
    /// The accounts that are known at the start, with what they may use of JetStream; others come later.
    pub accounts: BTreeMap<String, Option<AccountShare>>,
    /// Present when the server is part of a cluster.
    pub cluster: Option<ClusterOptions>,
}

/// Settings of a clustered server.
pub struct ClusterOptions {
    pub cluster_name: String,
    /// Bound already; serves Raft's lanes and the admin service.
    pub grpc_listener: TcpListener,
    /// host:port that other servers reach it at; an empty host stands for the address they see.
    pub grpc_advertise: String,
    /// Asked of every caller of the gRPC service.
    pub secret: Option<String>,
    pub neighbours: Arc<dyn Neighbours>,
    pub group_options: GroupOptions,
    /// What placements of streams may ask for.
    pub server_tags: Vec<String>,
    /// Replicas of a stream go to servers whose tags with this prefix differ; empty: to any.
    pub unique_tag: String,
}
