//! The cluster: routes from the options, and what JetStream needs to know of the other servers.

use std::{net::TcpListener, sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{info, warn};
use weir_conf::{ClusterOptions, Options, WeirOptions};
use weir_hub::Hub;
use weir_jetstream_node::{Neighbours, PeerInfo, PeerSeen, Seed};
use weir_net::tls::Revocation;
use weir_raft::GroupOptions;
use weir_topology::{RouteOptions, RouteTls, RouteUrl, SeedState, Topology};

use crate::listen;

/// nats-server's port for routes, for seeds that name none.
const ROUTE_PORT_DEFAULT: u16 = 6222;

/// The longest pause between attempts at a seed with `connect_backoff`, as in nats-server.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Without `cluster.ping_interval` routes are pinged at least this often, so that a dead one is noticed soon.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The running routes.
pub(crate) struct RunningCluster {
    pub(crate) topology: Arc<Topology>,
    pub(crate) name: String,
    pub(crate) name_is_dynamic: bool,
    host: String,
}

/// The cluster's name and whether it was made up: where there are to be routes and none is configured.
pub(crate) fn name(options: &Options, made_up: impl FnOnce() -> String) -> Option<(String, bool)> {
    let cluster = options.cluster.as_ref()?;
    match (cluster.name.as_str(), cluster.port) {
        ("", 0) => None,
        ("", _) => Some((made_up(), true)),
        (name, _) => Some((name.to_owned(), false)),
    }
}

fn announce_name(name: &str, is_dynamic: bool) {
    info!("Cluster name is {name}");
    if is_dynamic {
        warn!("Cluster name was dynamically generated, consider setting one");
    }
}

/// Starts the routes, when the options ask for a cluster.
pub(crate) fn start(
    options: &Options,
    hub: &Arc<Hub>,
    name: Option<(String, bool)>,
    revocation: &Revocation,
) -> Result<Option<RunningCluster>, String> {
    let Some(cluster) = options.cluster.as_ref().filter(|cluster| cluster.port != 0) else {
        return Ok(None);
    };
    let (name, name_is_dynamic) = name.unwrap_or_default();
    let listener = listen::bind(&cluster.host, cluster.port).map_err(|reason| {
        // Of a start that goes on, the name is told later.
        announce_name(&name, name_is_dynamic);
        format!("Error listening on router port: {} - {reason}", cluster.port)
    })?;
    if let Some(text) = &cluster.advertise {
        weir_conf::advertised(text).map_err(|reason| {
            format!("Error setting route INFO with Cluster.Advertise value of {text}, err={reason}")
        })?;
    }
    let routes = RouteOptions {
        cluster: name.clone(),
        cluster_is_dynamic: name_is_dynamic,
        ..route_options(options, cluster, &hub.options().system_account, revocation)?
    };
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
    let topology = Topology::start(Arc::clone(hub), routes, listener);
    let host = cluster.host.clone();
    Ok(Some(RunningCluster { topology, name, name_is_dynamic, host }))
}

/// What the routes need of the options, but for the cluster's name.
fn route_options(
    options: &Options,
    cluster: &ClusterOptions,
    system_account: &str,
    revocation: &Revocation,
) -> Result<RouteOptions, String> {
    let mut accounts = cluster.accounts.clone();
    // As in nats-server: the system account has its own connection wherever there are pools.
    if cluster.pool_size < 1 {
        accounts.clear();
    } else if !options.no_system_account && !accounts.iter().any(|account| account == system_account) {
        accounts.push(system_account.to_owned());
    }
    let tls = cluster.tls.as_ref().map(|tls| RouteTls::load(tls, revocation)).transpose()?;
    let defaults = RouteOptions::default();
    Ok(RouteOptions {
        host: cluster.host.clone(),
        advertise: cluster.advertise.clone(),
        no_advertise: cluster.no_advertise,
        advertises_clients: options.client_advertise.is_some(),
        websocket_urls: options
            .websocket
            .iter()
            .filter_map(|websocket| websocket.advertise.clone())
            .collect(),
        user: cluster.user.clone(),
        password: cluster.password.clone(),
        auth_timeout: cluster.auth_timeout,
        tls: tls.map(Arc::new),
        seeds: cluster.routes.iter().map(seed).collect(),
        pool_size: cluster.pool_size,
        accounts,
        permissions: cluster.permissions.clone(),
        compression: cluster.compression.clone(),
        connect_retries: cluster.connect_retries,
        max_reconnect_delay: if cluster.connect_backoff { MAX_BACKOFF } else { defaults.max_reconnect_delay },
        connect_error_reports: options.connect_error_reports,
        reconnect_error_reports: options.reconnect_error_reports,
        ping_interval: cluster.ping_interval.unwrap_or_else(|| options.ping_interval.min(PING_INTERVAL)),
        ping_max: cluster.ping_max.unwrap_or(options.ping_max),
        write_deadline: cluster.write_deadline,
        write_timeout: cluster.write_timeout,
        ..defaults
    })
}

fn seed(url: &weir_conf::Url) -> RouteUrl {
    RouteUrl {
        scheme: url.scheme.clone(),
        host: url.host.clone(),
        port: url.port.unwrap_or(ROUTE_PORT_DEFAULT),
        user: url.user.clone(),
        password: url.password.clone(),
    }
}

impl RunningCluster {
    /// Says where routes are accepted.
    pub(crate) fn announce(&self) {
        announce_name(&self.name, self.name_is_dynamic);
        let address = listen::join(&self.host, self.topology.port());
        info!("Listening for route connections on {address}");
        let options = self.topology.options();
        if options.tls.as_ref().is_some_and(|tls| tls.options().insecure) {
            warn!(
                "TLS certificate chain and hostname of solicited routes will not be verified. DO NOT USE IN PRODUCTION!"
            );
        }
    }

    /// What the routes shall take over from new options, if those have a cluster; files are read here.
    pub(crate) fn prepare_reload(
        &self,
        options: &Options,
        hub: &Hub,
        revocation: &Revocation,
    ) -> Result<Option<RouteOptions>, String> {
        let Some(cluster) = options.cluster.as_ref() else { return Ok(None) };
        let is_dynamic = cluster.name.is_empty();
        let routes = route_options(options, cluster, &hub.options().system_account, revocation)?;
        Ok(Some(RouteOptions { cluster: cluster.name.clone(), cluster_is_dynamic: is_dynamic, ..routes }))
    }

    /// What JetStream needs of the cluster: its gRPC port is bound here.
    pub(crate) fn for_jetstream(
        &self,
        options: &Options,
    ) -> Result<weir_jetstream_node::ClusterOptions, String> {
        let weir = &options.weir;
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
            server_tags: options.server_tags.clone(),
            unique_tag: options.jetstream.as_ref().map(|js| js.unique_tag.clone()).unwrap_or_default(),
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
