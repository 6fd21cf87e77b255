//! What is known of the peers, and the lanes to them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tonic::metadata::AsciiMetadataValue;

use crate::net::dial::Dialer;
use crate::net::lane::{Lane, LaneKind};
use crate::node::Resolver;
use crate::types::{PeerId, PeerInfo};

/// The peers of one node.
pub(crate) struct Peers {
    pub(crate) this: PeerId,
    pub(crate) token: Option<AsciiMetadataValue>,
    resolver: Resolver,
    dialer: Dialer,
    known: Mutex<HashMap<PeerId, PeerInfo>>,
    lanes: Mutex<HashMap<(PeerId, LaneKind), Arc<Lane>>>,
    /// Told which peer has just connected, so that nobody goes on waiting to try it again.
    connected: mpsc::UnboundedSender<PeerId>,
    /// Snapshots being written out and sent at once.
    pub(crate) snapshots: Semaphore,
}

/// Snapshots sent at once; others wait.
const MAX_SNAPSHOTS_SENT: usize = 4;

/// Why a peer cannot be reached.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConnectError(pub(crate) String);

impl Peers {
    pub(crate) fn new(
        this: PeerId,
        token: Option<AsciiMetadataValue>,
        resolver: Resolver,
        dialer: Dialer,
        connected: mpsc::UnboundedSender<PeerId>,
    ) -> Arc<Self> {
        Arc::new(Self {
            this,
            token,
            resolver,
            dialer,
            known: Mutex::default(),
            lanes: Mutex::default(),
            connected,
            snapshots: Semaphore::new(MAX_SNAPSHOTS_SENT),
        })
    }

    pub(crate) fn set(&self, peer: PeerId, info: PeerInfo) {
        self.known.lock().insert(peer, info);
    }

    /// Fills in what a membership says of a peer, unless more is known.
    pub(crate) fn hint(&self, peer: PeerId, info: &PeerInfo) {
        if info.endpoint.is_empty() {
            return;
        }
        let mut known = self.known.lock();
        known.entry(peer).or_insert_with(|| info.clone());
    }

    pub(crate) fn info(&self, peer: PeerId) -> Option<PeerInfo> {
        let known = self.known.lock().get(&peer).cloned();
        match (self.resolver)(peer) {
            Some(endpoint) => {
                let name = known.map(|info| info.name).unwrap_or_default();
                Some(PeerInfo { name, endpoint })
            }
            None => known,
        }
    }

    /// A new connection to a peer, its address looked up anew.
    pub(crate) async fn connect(&self, peer: PeerId) -> Result<tonic::transport::Channel, ConnectError> {
        let info = self.info(peer);
        let endpoint = info.map(|info| info.endpoint).unwrap_or_default();
        if endpoint.is_empty() {
            return Err(ConnectError(format!("no endpoint of server {peer} is known")));
        }
        self.dialer.connect(&endpoint).await
    }

    pub(crate) fn lane(self: &Arc<Self>, peer: PeerId, kind: LaneKind) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry((peer, kind)).or_insert_with(|| Lane::start(Arc::clone(self), peer, kind));
        Arc::clone(lane)
    }

    /// A peer is there: lanes to it need not pause any longer.
    pub(crate) fn heard_from(&self, peer: PeerId) {
        for ((to, _), lane) in self.lanes.lock().iter() {
            if *to == peer {
                lane.heard();
            }
        }
        // Only fails while the node stops.
        let _ = self.connected.send(peer);
    }

    /// Ends all lanes.
    pub(crate) fn close(&self) {
        let lanes = std::mem::take(&mut *self.lanes.lock());
        for lane in lanes.values() {
            lane.close();
        }
    }
}
