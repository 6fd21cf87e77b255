//! The node: owns the groups of one server and the gRPC service they talk through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::admin::{AdminHandler, AdminService, admin_server::AdminServer};
use crate::error::{OpenError, StartError};
use crate::group::{Group, Opening};
use crate::group_log::GroupLog;
use crate::machine::Machine;
use crate::net::auth::{Gate, bearer};
use crate::net::dial::{
    CONNECTION_WINDOW_BYTES, Dialer, FRAME_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, STREAM_WINDOW_BYTES,
};
use crate::net::peers::Peers;
use crate::net::server::LaneService;
use crate::options::{GroupOptions, MAX_MESSAGE_BYTES, NodeConfig};
use crate::pb::raft::raft_server::RaftServer;
use crate::quiet_node;
use crate::registry::Registry;
use crate::snapshot::Spool;
use crate::types::{GroupId, PeerId, PeerInfo};

/// Time for calls under way to end when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Asked for a peer's endpoint before what `set_peer` said; `None` when it does not know.
pub type Resolver = Arc<dyn Fn(PeerId) -> Option<String> + Send + Sync>;

/// The Raft side of one server; clones share it.
#[derive(Clone)]
pub struct RaftNode {
    inner: Arc<NodeInner>,
}

struct NodeInner {
    address: SocketAddr,
    log: Arc<dyn GroupLog>,
    peers: Arc<Peers>,
    registry: Arc<Registry>,
    spool: Spool,
    admin: AdminService,
    stop: Mutex<Option<Stop>>,
}

struct Stop {
    signal: watch::Sender<bool>,
    server: JoinHandle<()>,
    reconnector: JoinHandle<()>,
}

impl RaftNode {
    /// Serves the listener and gets ready to open groups.
    ///
    /// # Errors
    /// When the listener, the spool folder or the secret cannot be used.
    pub async fn start(
        config: NodeConfig,
        log: Arc<dyn GroupLog>,
        resolver: Resolver,
    ) -> Result<Self, StartError> {
        let spool = Spool::open(&config.spool_dir, config.spool_vault.clone())
            .map_err(|source| StartError::SpoolFolder { path: config.spool_dir.clone(), source })?;
        let token = match &config.secret {
            Some(secret) => Some(bearer(secret).ok_or(StartError::Secret)?),
            None => None,
        };
        if token.is_none() {
            tracing::warn!("no cluster secret: whoever reaches the gRPC port is trusted");
        }
        let address = config.listener.local_addr().map_err(StartError::Listener)?;
        config.listener.set_nonblocking(true).map_err(StartError::Listener)?;
        let listener = tokio::net::TcpListener::from_std(config.listener);
        let listener = listener.map_err(StartError::Listener)?;

        let (connected, heard) = mpsc::unbounded_channel();
        let peers = Peers::new(config.peer, token.clone(), resolver, Dialer::new(), connected);
        let this = PeerInfo { name: config.name, endpoint: address.to_string() };
        peers.set(config.peer, this);
        let registry = Arc::new(Registry::default());
        let admin = AdminService::default();
        admin.set(config.admin);

        let (signal, stopped) = watch::channel(false);
        let lanes =
            LaneService::new(Arc::clone(&peers), Arc::clone(&registry), spool.clone(), stopped.clone());
        let router = services(lanes, admin.clone(), Gate::new(token));
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(quiet_node::run(Arc::clone(&peers), Arc::clone(&registry), stopped.clone()));
        let server = tokio::spawn(serve(router, incoming, stopped));
        let reconnector = tokio::spawn(reset_backoffs(Arc::clone(&registry), heard));
        let stop = Stop { signal, server, reconnector };
        let inner = NodeInner { address, log, peers, registry, spool, admin, stop: Mutex::new(Some(stop)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn group_log(&self) -> Arc<dyn GroupLog> {
        Arc::clone(&self.inner.log)
    }

    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.inner.peers.this
    }

    /// Where the gRPC service listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.address
    }

    /// What is known of a peer, or of this server (its advertised endpoint); replaces what was known.
    pub fn set_peer(&self, peer: PeerId, info: PeerInfo) {
        self.inner.peers.set(peer, info);
    }

    #[must_use]
    pub fn peer_info(&self, peer: PeerId) -> Option<PeerInfo> {
        self.inner.peers.info(peer)
    }

    /// Who answers the admin service; `None` makes it refuse with UNAVAILABLE.
    pub fn set_admin(&self, handler: Option<Arc<dyn AdminHandler>>) {
        self.inner.admin.set(handler);
    }

    /// Opens a group with whatever its log holds; an empty log makes an uninitialised group, which waits
    /// to be initialised or to be added by its leader.
    ///
    /// # Errors
    /// `StateLost` when the log was cut beyond what the machine has; the others say what they are.
    pub async fn open_group(
        &self,
        id: GroupId,
        machine: Arc<dyn Machine>,
        options: GroupOptions,
    ) -> Result<Group, OpenError> {
        if self.inner.stop.lock().is_none() {
            return Err(OpenError::ShuttingDown);
        }
        if !self.inner.registry.reserve(id) {
            return Err(OpenError::AlreadyOpen(id.0));
        }
        let opening = Opening {
            id,
            log: Arc::clone(&self.inner.log),
            machine,
            peers: Arc::clone(&self.inner.peers),
            spool: self.inner.spool.clone(),
            options,
        };
        match opening.open().await {
            Ok(group) => {
                self.inner.registry.fill(group.clone());
                Ok(group)
            }
            Err(error) => {
                self.inner.registry.remove(id);
                Err(error)
            }
        }
    }

    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<Group> {
        self.inner.registry.group(id)
    }

    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        self.inner.registry.all()
    }

    /// Stops a group and leaves its log.
    pub async fn close_group(&self, id: GroupId) {
        if let Some(group) = self.inner.registry.remove(id) {
            group.stop().await;
        }
    }

    /// Stops a group, if open, and deletes its log, vote included. Only when the whole group is gone, or
    /// after its other members have removed this one: a member that forgets its vote breaks the group.
    pub async fn drop_group(&self, id: GroupId) -> std::io::Result<()> {
        self.close_group(id).await;
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |result| {
            // The caller may have given up.
            let _ = sender.send(result);
        });
        self.inner.log.drop_group(id, done);
        receiver.await.map_err(std::io::Error::other)?
    }

    /// Stops all groups, the lanes and the service.
    pub async fn shutdown(&self) {
        let stop = self.inner.stop.lock().take();
        for group in self.inner.registry.all() {
            self.close_group(group.id()).await;
        }
        self.inner.peers.close();
        if let Some(stop) = stop {
            // The service may have ended by itself.
            let _ = stop.signal.send(true);
            stop.reconnector.abort();
            let mut server = stop.server;
            if tokio::time::timeout(STOP_TIMEOUT, &mut server).await.is_err() {
                server.abort();
            }
        }
    }
}

/// All that the gRPC port answers.
fn services(lanes: LaneService, admin: AdminService, gate: Gate) -> Router {
    let lanes = RaftServer::new(lanes)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .add_service(InterceptedService::new(lanes, gate.clone()))
        .add_service(InterceptedService::new(AdminServer::new(admin), gate))
}

async fn serve(router: Router, incoming: TcpListenerStream, mut stopped: watch::Receiver<bool>) {
    let stopped = async move {
        // Told to stop, or the node is gone.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
        tracing::error!(%error, "the gRPC service has ended");
    }
}

/// A peer that has just connected is tried again at once by all groups.
async fn reset_backoffs(registry: Arc<Registry>, mut heard: mpsc::UnboundedReceiver<PeerId>) {
    while let Some(peer) = heard.recv().await {
        for group in registry.all() {
            group.reset_backoff(peer).await;
        }
    }
}
