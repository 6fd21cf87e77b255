//! What this room needs to know of the other servers, without knowing of routes: the server room connects it
//! to the topology.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use weir_raft::PeerId;

/// What a server tells the others of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    pub peer_id: PeerId,
    /// host:port of its gRPC service.
    pub grpc: String,
    /// A member of an initialised meta group.
    pub meta: bool,
    /// Names of the servers that this one would form the meta group with, sorted, itself included; empty while
    /// not all of its seed routes are resolved.
    pub forming: Vec<String>,
    /// Its `server_tags`, which placements of streams may ask for.
    pub tags: Vec<String>,
}

/// Another Weir server that is connected now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSeen {
    pub name: String,
    pub info: PeerInfo,
}

/// Where a configured seed route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seed {
    /// Not connected yet.
    Unresolved,
    /// It is this server.
    Itself,
    /// Another Weir server.
    Peer(PeerSeen),
    /// A server that is not Weir: it takes no part in JetStream here.
    Foreign,
}

/// The other servers, as the routes see them.
pub trait Neighbours: Send + Sync + 'static {
    /// All connected Weir servers.
    fn peers(&self) -> Vec<PeerSeen>;
    /// One entry for each configured seed route.
    fn seeds(&self) -> Vec<Seed>;
    /// Bumped when `peers` or `seeds` changes.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Tells the others about this server, now and on later connections.
    fn announce(&self, info: PeerInfo);
}

/// `PeerInfo` as it stands in a route's INFO. The id is text: JSON numbers do not hold 64 bits everywhere.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Announcement {
    peer_id: String,
    grpc: String,
    meta: bool,
    forming: Vec<String>,
    tags: Vec<String>,
}

impl PeerInfo {
    /// The JSON object for a route's INFO.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "peer_id": self.peer_id.0.to_string(),
            "grpc": self.grpc,
            "meta": self.meta,
            "forming": self.forming,
            "tags": self.tags,
        })
    }

    /// Reads another server's object. `remote_ip` stands in for a host it could not know of itself.
    pub fn from_json(value: &serde_json::Value, remote_ip: Option<std::net::IpAddr>) -> Option<Self> {
        let announcement = Announcement::deserialize(value).ok()?;
        let peer_id = PeerId(announcement.peer_id.parse().ok()?);
        let (host, port) = announcement.grpc.rsplit_once(':')?;
        let grpc = match (host, remote_ip) {
            ("" | "0.0.0.0" | "[::]", Some(std::net::IpAddr::V4(ip))) => format!("{ip}:{port}"),
            ("" | "0.0.0.0" | "[::]", Some(std::net::IpAddr::V6(ip))) => format!("[{ip}]:{port}"),
            _ => announcement.grpc.clone(),
        };
        let Announcement { meta, forming, tags, .. } = announcement;
        Some(Self { peer_id, grpc, meta, forming, tags })
    }
}
