//! The node: owns the groups of one server and the gRPC service they talk through.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::admin::AdminHandler;
use crate::error::{OpenError, StartError};
use crate::group::Group;
use crate::group_log::GroupLog;
use crate::machine::Machine;
use crate::options::{GroupOptions, NodeConfig};
use crate::types::{GroupId, PeerId, PeerInfo};

/// Asked for a peer's endpoint before what `set_peer` said; `None` when it does not know.
pub type Resolver = Arc<dyn Fn(PeerId) -> Option<String> + Send + Sync>;

/// The Raft side of one server; clones share it.
#[derive(Clone)]
pub struct RaftNode {
    inner: Arc<NodeInner>,
}

struct NodeInner {
    peer: PeerId,
    address: SocketAddr,
}

impl RaftNode {
    /// Serves the listener and gets ready to open groups.
    pub async fn start(
        config: NodeConfig,
        _log: Arc<dyn GroupLog>,
        _resolver: Resolver,
    ) -> Result<Self, StartError> {
        let address = config.listener.local_addr().map_err(StartError::Listener)?;
        let inner = NodeInner { peer: config.peer, address };
        Ok(Self { inner: Arc::new(inner) })
    }

    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.inner.peer
    }

    /// Where the gRPC service listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.address
    }

    /// What is known of a peer; replaces what was known before.
    pub fn set_peer(&self, _peer: PeerId, _info: PeerInfo) {}

    #[must_use]
    pub fn peer_info(&self, _peer: PeerId) -> Option<PeerInfo> {
        None
    }

    /// Who answers the admin service.
    pub fn set_admin(&self, _handler: Option<Arc<dyn AdminHandler>>) {}

    /// Opens a group with whatever its log holds; an empty log makes an uninitialised group, which waits
    /// to be initialised or to be added by its leader.
    pub async fn open_group(
        &self,
        id: GroupId,
        _machine: Arc<dyn Machine>,
        _options: GroupOptions,
    ) -> Result<Group, OpenError> {
        Err(OpenError::Options(id.0, "not built yet".to_owned()))
    }

    #[must_use]
    pub fn group(&self, _id: GroupId) -> Option<Group> {
        None
    }

    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        Vec::new()
    }

    /// Stops a group and leaves its log.
    pub async fn close_group(&self, _id: GroupId) {}

    /// Stops a group, if open, and deletes its log, vote included. Only after the group's other members
    /// have removed this one.
    pub async fn drop_group(&self, _id: GroupId) -> std::io::Result<()> {
        Ok(())
    }

    /// Stops all groups and the service.
    pub async fn shutdown(&self) {}
}
