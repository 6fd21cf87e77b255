//! All routes of this server: the table of other servers, what is told to them, what others may ask.
//! Not one connection (`session`), reaching out (`dial`), admission (`register`) or changes of options (`reload`).

use crate::address::RouteUrl;
use crate::handshake::{ClusterName, Own};
use crate::options::RouteOptions;
use crate::remote::Remote;
use crate::rules::{RouteRules, to_info};
use crate::session::{self, Role};
use crate::snapshot::{PeerSeen, RoutesSnapshot, SeedState, SeedView};
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{error, info};
use weir_hub::{CloseReason, Counted, Hub};
use weir_proto::Info;
use weir_stdx::time::UnixNanos;

/// How long to wait after accept failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn now() -> UnixNanos {
    UnixNanos::from_system_time(SystemTime::now())
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SeedKnown {
    Unresolved,
    Itself,
    Server(String),
}

/// This server's routes.
pub struct Topology {
    pub(crate) hub: Arc<Hub>,
    options: ArcSwap<RouteOptions>,
    cluster: ArcSwap<ClusterName>,
    /// Accounts with a connection of their own: the configured ones and those that another server asked for.
    pub(crate) pinned: ArcSwap<FxHashSet<String>>,
    pub(crate) rules: Arc<RouteRules>,
    pub(crate) remotes: RwLock<FxHashMap<String, Arc<Remote>>>,
    pub(crate) seeds: Mutex<Vec<(RouteUrl, SeedKnown)>>,
    /// Servers that gossip named and that are being dialled.
    pub(crate) implicit: Mutex<FxHashSet<String>>,
    pub(crate) reload: crate::reload::Reload,
    announced: Mutex<Option<Value>>,
    changes: watch::Sender<u64>,
    pub(crate) stopping: watch::Sender<bool>,
    /// Connections that are being served, with those that are not introduced.
    pub(crate) sessions: AtomicUsize,
    lame_duck: AtomicBool,
    slow: AtomicU64,
    stale: AtomicU64,
    next_id: AtomicU64,
    port: u16,
}

/// What one INFO says beyond what they all say.
#[derive(Default)]
pub(crate) struct InfoTerms<'a> {
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) account: &'a str,
    pub(crate) index: usize,
    pub(crate) compression: &'a str,
    pub(crate) gossip_mode: i64,
    /// Whether it introduces a connection, so that it has a nonce, as in nats-server.
    pub(crate) is_first: bool,
}

impl Topology {
    /// Accepts routes on `listener`, dials the seeds, and carries the hub's interest and messages.
    /// Must be called within a tokio runtime.
    pub fn start(hub: Arc<Hub>, options: RouteOptions, listener: TcpListener) -> Arc<Self> {
        let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
        let seeds = options.seeds.iter().map(|url| (url.clone(), SeedKnown::Unresolved)).collect();
        let rules = Arc::new(RouteRules::default());
        rules.set(options.permissions.as_ref());
        let cluster = ClusterName { text: options.cluster.clone(), is_dynamic: options.cluster_is_dynamic };
        let topology = Arc::new(Self {
            hub,
            cluster: ArcSwap::from_pointee(cluster),
            pinned: ArcSwap::from_pointee(options.accounts.iter().cloned().collect()),
            rules,
            remotes: RwLock::new(FxHashMap::default()),
            seeds: Mutex::new(seeds),
            implicit: Mutex::new(FxHashSet::default()),
            reload: crate::reload::Reload::default(),
            announced: Mutex::new(None),
            changes: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            sessions: AtomicUsize::new(0),
            lame_duck: AtomicBool::new(false),
            slow: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            port,
            options: ArcSwap::from_pointee(options),
        });
        topology.hub.set_interest_listener(Arc::clone(&topology) as Arc<dyn weir_hub::InterestListener>);
        topology.update_connect_urls(None);
        tokio::spawn(Arc::clone(&topology).accept(listener));
        let options = topology.options();
        topology.follow_seeds(&options.seeds, &options.accounts);
        topology
    }

    /// The options in force.
    pub fn options(&self) -> Arc<RouteOptions> {
        self.options.load_full()
    }

    pub(crate) fn set_options(&self, options: RouteOptions) {
        self.options.store(Arc::new(options));
    }

    pub(crate) fn cluster(&self) -> Arc<ClusterName> {
        self.cluster.load_full()
    }

    /// Hands `judge` what it needs to know of this server.
    pub(crate) fn with_own<T>(&self, judge: impl FnOnce(&Own<'_>) -> T) -> T {
        let (cluster, options, hub) = (self.cluster(), self.options(), self.hub.options());
        judge(&Own {
            server_id: &hub.server_id,
            server_name: &hub.server_name,
            cluster: &cluster,
            options: &options,
        })
    }

    /// Takes on another name for the cluster; routes to all servers but one end, since they knew the old one.
    pub(crate) fn adopt(&self, name: ClusterName, except: &str) {
        info!("Cluster name updated to {}", name.text);
        self.hub.set_cluster_name(&name.text);
        self.cluster.store(Arc::new(name));
        for remote in self.remotes.read().values().filter(|remote| remote.id != except) {
            for (link, _) in remote.links() {
                link.outbox.close(CloseReason::ClusterNameConflict);
            }
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut stopping = self.stopping.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    tokio::spawn(session::run(Arc::clone(&self), stream, address, Role::Accepted));
                }
                Err(problem) => {
                    error!(
                        "Temporary Route Accept Error ({problem}), sleeping {}ms",
                        ACCEPT_PAUSE.as_millis()
                    );
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    pub(crate) fn next_link_id(&self) -> u64 {
        // Beside the clients' ids, so that no outbox has the id of another.
        (1 << 48) + self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The configured seeds and what came of them.
    pub fn seeds(&self) -> Vec<SeedView> {
        let remotes = self.remotes.read();
        self.seeds
            .lock()
            .iter()
            .map(|(url, known)| SeedView {
                url: url.clone(),
                state: match known {
                    SeedKnown::Unresolved => SeedState::Unresolved,
                    SeedKnown::Itself => SeedState::Itself,
                    SeedKnown::Server(id) => remotes
                        .get(id)
                        .filter(|remote| remote.is_confirmed())
                        .map_or(SeedState::Unresolved, |remote| SeedState::Connected(remote.seen())),
                },
            })
            .collect()
    }

    /// All other servers that are connected.
    pub fn peers(&self) -> Vec<PeerSeen> {
        let mut peers: Vec<_> = self
            .remotes
            .read()
            .values()
            .filter(|remote| remote.is_confirmed())
            .map(|remote| remote.seen())
            .collect();
        peers.sort_by(|left, right| left.server_name.cmp(&right.server_name));
        peers
    }

    /// A counter that grows with every change of `seeds` or `peers`.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Notes that a server let us in, or we let it in.
    pub(crate) fn confirm(&self, remote: &Remote) {
        if !remote.confirmed.swap(true, Ordering::AcqRel) {
            self.note_change();
        }
    }

    pub(crate) fn note_change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Sets the object this server tells all other servers about itself, now and when they connect.
    pub fn announce(&self, object: Value) {
        *self.announced.lock() = Some(object);
        self.tell_all();
    }

    /// Tells all other servers that this one is about to stop, so that they do not send clients here.
    pub fn enter_lame_duck(&self) {
        self.lame_duck.store(true, Ordering::Relaxed);
        self.tell_all();
    }

    /// Sends the current INFO over one connection to each server.
    pub(crate) fn tell_all(&self) {
        for remote in self.remotes.read().values() {
            if let Some(link) = remote.any_link() {
                let line =
                    self.info(&InfoTerms { local_ip: link.local_ip, ..InfoTerms::default() }).to_line();
                link.outbox.append(Counted::NOTHING, |out| out.extend_from_slice(&line));
                link.outbox.flush();
            }
        }
    }

    /// What this server says about itself on routes.
    pub(crate) fn info(&self, terms: &InfoTerms<'_>) -> Info {
        let client = self.hub.info();
        let options = self.options();
        let cluster = self.cluster();
        let permissions = options.permissions.as_ref();
        let mut info = Info {
            server_id: client.server_id,
            server_name: client.server_name,
            version: client.version,
            // The level that says «understands message traces».
            proto: 3,
            go: client.go,
            host: options.host.clone(),
            port: self.port,
            headers: client.headers,
            auth_required: options.user.is_some(),
            tls_required: options.tls.is_some(),
            tls_verify: options.tls.is_some(),
            max_payload: client.max_payload,
            jetstream: client.jetstream,
            nonce: if terms.is_first {
                weir_hub::new_nonce().unwrap_or_default().into()
            } else {
                String::new()
            },
            cluster: cluster.text.clone(),
            cluster_dynamic: cluster.is_dynamic,
            domain: client.domain,
            ldm: self.lame_duck.load(Ordering::Relaxed),
            compression: terms.compression.to_owned(),
            import: permissions.and_then(|given| to_info(given.import.as_ref())),
            export: permissions.and_then(|given| to_info(given.export.as_ref())),
            lnoc: true,
            lnocu: true,
            ln: true,
            route_pool_size: i64::from(options.pool_size.max(0)),
            route_pool_idx: i64::try_from(terms.index).unwrap_or_default(),
            route_account: terms.account.to_owned(),
            gossip_mode: terms.gossip_mode,
            // Always there, so that Weir's servers know each other.
            weir: Some(
                self.announced.lock().clone().unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            ),
            ..Info::default()
        };
        if let Some((host, port)) = options.advertise.as_deref().map(|text| split_advertised(text, self.port))
        {
            info.ip = format!("nats-route://{}/", crate::address::join(&host, port));
            (info.host, info.port) = (host, port);
        }
        if !options.no_advertise {
            info.connect_urls = self.own_client_urls(terms.local_ip);
            info.ws_connect_urls = self.own_websocket_urls(terms.local_ip);
        }
        info
    }

    /// The name that a certificate has to bear: a server that gossip named by its address shows one for the
    /// names of the seeds.
    pub(crate) fn tls_name(&self, url: &RouteUrl) -> String {
        if url.host.parse::<IpAddr>().is_err() {
            return url.host.clone();
        }
        let options = self.options();
        let named = options.seeds.iter().find(|seed| seed.host.parse::<IpAddr>().is_err());
        named.map_or_else(|| url.host.clone(), |seed| seed.host.clone())
    }

    /// An advertised address without a port means this server's.
    fn own_client_urls(&self, local_ip: Option<IpAddr>) -> Vec<String> {
        let client = self.hub.info();
        if self.options().advertises_clients {
            return vec![crate::address::join(&client.host, client.port)];
        }
        shown_address(&client.host, client.port, local_ip)
    }

    fn own_websocket_urls(&self, local_ip: Option<IpAddr>) -> Vec<String> {
        let options = self.options();
        match self.hub.websocket() {
            None => Vec::new(),
            Some(entrance) if !options.websocket_urls.is_empty() => {
                let texts = options.websocket_urls.iter();
                texts.map(|text| split_advertised(text, entrance.port)).map(url).collect()
            }
            Some(entrance) => shown_address(&entrance.host, entrance.port, local_ip),
        }
    }

    /// Tells clients of all servers of the cluster.
    pub(crate) fn update_connect_urls(&self, local_ip: Option<IpAddr>) {
        let options = self.options();
        if options.no_advertise {
            return;
        }
        let remotes = self.remotes.read();
        let urls = remotes.values().flat_map(|remote| remote.connect_urls()).collect();
        let websocket = remotes.values().flat_map(|remote| remote.websocket_urls()).collect();
        let local_ip = local_ip.or_else(|| {
            remotes.values().flat_map(|remote| remote.links()).find_map(|(link, _)| link.local_ip)
        });
        drop(remotes);
        let known = self.hub.info();
        if let Some(urls) = all_urls(self.own_client_urls(local_ip), urls, &known.connect_urls) {
            self.hub.set_connect_urls(urls);
        }
        if let Some(urls) = all_urls(self.own_websocket_urls(local_ip), websocket, &known.ws_connect_urls) {
            self.hub.set_websocket_urls(urls);
        }
    }

    /// All connections to other servers.
    pub fn routes_snapshot(&self) -> RoutesSnapshot {
        let remotes: Vec<_> = self.remotes.read().values().cloned().collect();
        let mut routes: Vec<_> = remotes
            .iter()
            .flat_map(|remote| remote.links().into_iter().map(|(link, _)| crate::snapshot::of(remote, &link)))
            .collect();
        routes.sort_by_key(|route| route.id);
        let options = self.options();
        let permissions = options.permissions.clone().unwrap_or_default();
        RoutesSnapshot {
            routes,
            import: to_info(permissions.import.as_ref()),
            export: to_info(permissions.export.as_ref()),
        }
    }

    pub(crate) fn count_slow(&self) {
        self.slow.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_stale(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
    }

    /// Routes that were too slow, and that did not answer PINGs: (slow, stale).
    pub fn troubles(&self) -> (u64, u64) {
        (self.slow.load(Ordering::Relaxed), self.stale.load(Ordering::Relaxed))
    }

    /// Messages sent over routes and their bytes, of the connections that exist.
    pub fn sent(&self) -> (u64, u64) {
        let remotes = self.remotes.read();
        remotes.values().flat_map(|remote| remote.links()).fold((0, 0), |(messages, bytes), (link, _)| {
            let (more_messages, more_bytes) = link.outbox.sent();
            (messages + more_messages, bytes + more_bytes)
        })
    }

    /// The port routes are accepted on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops accepting and dialling, and closes all routes; returns when they are gone, or after `limit`.
    pub async fn shutdown(&self, limit: Duration) {
        self.close();
        let deadline = tokio::time::Instant::now() + limit;
        while self.sessions.load(Ordering::Acquire) > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops accepting and dialling, and begins to close all routes.
    pub fn close(&self) {
        self.stopping.send_replace(true);
        for remote in self.remotes.read().values() {
            for (link, _) in remote.links() {
                link.outbox.close(CloseReason::ServerShutdown);
            }
        }
    }
}

/// The address that others are told; what is none was refused at the start.
fn split_advertised(text: &str, own_port: u16) -> (String, u16) {
    weir_conf::advertised(text)
        .map_or_else(|_| (text.to_owned(), own_port), |(host, port)| (host, port.unwrap_or(own_port)))
}

fn url((host, port): (String, u16)) -> String {
    crate::address::join(&host, port)
}

/// This server's addresses, and behind them the others'. `None` while there was no other yet: clients are told
/// nothing then, as in nats-server.
fn all_urls(mut own: Vec<String>, mut others: Vec<String>, known: &[String]) -> Option<Vec<String>> {
    if others.is_empty() && known.is_empty() {
        return None;
    }
    others.sort();
    others.dedup();
    others.retain(|url| !own.contains(url));
    own.append(&mut others);
    Some(own)
}

/// What clients are told of a port: its host, or for all hosts the address that the routes use.
fn shown_address(host: &str, port: u16, local_ip: Option<IpAddr>) -> Vec<String> {
    let address: Option<IpAddr> = host.parse().ok();
    match (host.is_empty() || address.is_some_and(|address| address.is_unspecified()), local_ip) {
        (false, _) => vec![format!("{host}:{port}")],
        (true, Some(ip)) => vec![SocketAddr::new(ip.to_canonical(), port).to_string()],
        (true, None) => Vec::new(),
    }
}
