//! The cluster: routes from the options, and what JetStream needs to know of the other servers.

use std::{net::TcpListener, sync::Arc};

use tokio::sync::watch;
use tracing::{info, warn};
use weir_conf::{ClusterOptions, Options, WeirOptions};
use weir_hub::Hub;
use weir_jetstream_node::{Neighbours, PeerInfo, PeerSeen, Seed};
use weir_raft::GroupOptions;
use weir_topology::{RouteOptions, RouteUrl, SeedState, Topology};

use crate::listen;

/// nats-server's port for routes, for seeds that name none.
const ROUTE_PORT_DEFAULT: u16 = 6222;

/// The running routes.
pub(crate) struct RunningCluster {
    pub(crate) topology: Arc<Topology>,
    pub(crate) name: String,
    pub(crate) name_is_dynamic: bool,
    host: String,
}

/// The cluster's name: the configured one, else one that is made up.
pub(crate) fn name(cluster: &ClusterOptions, made_up: impl FnOnce() -> String) -> (String, bool) {
    if cluster.name.is_empty() { (made_up(), true) } else { (cluster.name.clone(), false) }
}

/// Starts the routes, when the options ask for a cluster.
pub(crate) fn start(
    options: &Options,
    hub: &Arc<Hub>,
    name: Option<(String, bool)>,
) -> Result<Option<RunningCluster>, String> {
    let Some(cluster) = options.cluster.as_ref().filter(|cluster| cluster.port != 0) else {
        return Ok(None);
    };
    let (name, name_is_dynamic) = name.unwrap_or_default();
    let listener = listen::bind(&cluster.host, cluster.port)
        .map_err(|reason| format!("Error listening on router port: {} - {reason}", cluster.port))?;
    let routes = RouteOptions {
        cluster: name.clone(),
        cluster_is_dynamic: name_is_dynamic,
        host: cluster.host.clone(),
        advertise: cluster.advertise.clone(),
        no_advertise: cluster.no_advertise,
        client_urls: options.client_advertise.iter().cloned().collect(),
        user: cluster.user.clone(),
        password: cluster.password.clone(),
        auth_timeout: cluster.auth_timeout,
        seeds: cluster.routes.iter().map(seed).collect(),
        pool_size: usize::try_from(cluster.pool_size).unwrap_or(1).max(1),
        ..RouteOptions::default()
    };
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
    let topology = Topology::start(Arc::clone(hub), routes, listener);
    let host = cluster.host.clone();
    Ok(Some(RunningCluster { topology, name, name_is_dynamic, host }))
}

fn seed(url: &weir_conf::Url) -> RouteUrl {
    RouteUrl {
        host: url.host.clone(),
        port: url.port.unwrap_or(ROUTE_PORT_DEFAULT),
        user: url.user.clone(),
        password: url.password.clone(),
    }
}

impl RunningCluster {
    /// Says where routes are accepted.
    pub(crate) fn announce(&self) {
        info!("Cluster name is {}", self.name);
        if self.name_is_dynamic {
            warn!("Cluster name was dynamically generated, consider setting one");
        }
        let address = listen::join(&self.host, self.topology.port());
        info!("Listening for route connections on {address}");
    }

    /// What JetStream needs of the cluster: its gRPC port is bound here.
    pub(crate) fn for_jetstream(
        &self,
        weir: &WeirOptions,
    ) -> Result<weir_jetstream_node::ClusterOptions, String> {
        let listener = bind_grpc(weir)?;
        let port = listen::port_of(&listener);
        info!("Listening for gRPC connections on {}", listen::join(&weir.grpc_host, port));
        let advertise = match (&weir.grpc_advertise, weir.grpc_host.as_str()) {
            (Some(address), _) => address.clone(),
            // The others see which address our routes come from.
            (None, "" | "0.0.0.0" | "::") => format!(":{port}"),
            (None, host) => listen::join(host, port),
        };
        Ok(weir_jetstream_node::ClusterOptions {
            cluster_name: self.name.clone(),
            grpc_listener: listener,
            grpc_advertise: advertise,
            secret: weir.cluster_secret.clone(),
            neighbours: Arc::new(Routes { topology: Arc::clone(&self.topology) }),
            group_options: GroupOptions {
                heartbeat: weir.heartbeat_interval,
                election_min: weir.election_timeout,
                election_max: weir.election_timeout * 2,
                ..GroupOptions::default()
            },
        })
    }
}

/// The configured port, or, when nobody chose one and the usual one is taken, a free one: several
/// servers on one machine then need no setting, since the routes carry the address.
fn bind_grpc(weir: &WeirOptions) -> Result<TcpListener, String> {
    match listen::bind(&weir.grpc_host, weir.grpc_port) {
        Ok(listener) => Ok(listener),
        Err(_) if !weir.grpc_configured => listen::bind(&weir.grpc_host, -1),
        Err(reason) => Err(reason),
    }
    .map_err(|reason| format!("Error listening on gRPC port: {} - {reason}", weir.grpc_port))
}

/// The topology as JetStream sees it.
struct Routes {
    topology: Arc<Topology>,
}

fn peer(seen: &weir_topology::PeerSeen) -> Option<PeerSeen> {
    let info = PeerInfo::from_json(seen.weir.as_ref()?, Some(seen.remote_ip))?;
    Some(PeerSeen { name: seen.server_name.clone(), info })
}

impl Neighbours for Routes {
    fn peers(&self) -> Vec<PeerSeen> {
        self.topology.peers().iter().filter_map(peer).collect()
    }

    fn seeds(&self) -> Vec<Seed> {
        let seeds = self.topology.seeds();
        let view = seeds.iter().map(|seed| match &seed.state {
            SeedState::Unresolved => Seed::Unresolved,
            SeedState::Itself => Seed::Itself,
            SeedState::Connected(seen) => match (&seen.weir, peer(seen)) {
                (_, Some(peer)) => Seed::Peer(peer),
                // It is one of ours and has not said more yet.
                (Some(_), None) => Seed::Unresolved,
                (None, None) => Seed::Foreign,
            },
        });
        view.collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.topology.changes()
    }

    fn announce(&self, info: PeerInfo) {
        self.topology.announce(info.to_json());
    }
}
