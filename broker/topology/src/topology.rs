//! All routes of this server: the table of other servers, what is told to them, what others may ask.
//! Not one connection (`link`), reaching out (`dial`), or admission (`register`).

use crate::address::RouteUrl;
use crate::link;
use crate::options::{MAX_POOL_SIZE, RouteOptions};
use crate::remote::{Link, Remote};
use crate::snapshot::{PeerSeen, RouteSnapshot, RoutesSnapshot, SeedState, SeedView};
use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;
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
    pub(crate) options: RouteOptions,
    pub(crate) remotes: RwLock<FxHashMap<String, Arc<Remote>>>,
    pub(crate) seeds: Mutex<Vec<(RouteUrl, SeedKnown)>>,
    /// Servers that gossip named and that are being dialled.
    pub(crate) implicit: Mutex<FxHashSet<String>>,
    announced: Mutex<Option<Value>>,
    changes: watch::Sender<u64>,
    pub(crate) stopping: watch::Sender<bool>,
    lame_duck: AtomicBool,
    next_id: AtomicU64,
    port: u16,
}

impl Topology {
    /// Accepts routes on `listener`, dials the seeds, and carries the hub's interest and messages.
    /// Must be called within a tokio runtime.
    pub fn start(hub: Arc<Hub>, mut options: RouteOptions, listener: TcpListener) -> Arc<Self> {
        options.pool_size = options.pool_size.clamp(1, MAX_POOL_SIZE);
        let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
        let seeds = options.seeds.iter().map(|url| (url.clone(), SeedKnown::Unresolved)).collect();
        let topology = Arc::new(Self {
            hub,
            options,
            remotes: RwLock::new(FxHashMap::default()),
            seeds: Mutex::new(seeds),
            implicit: Mutex::new(FxHashSet::default()),
            announced: Mutex::new(None),
            changes: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            lame_duck: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            port,
        });
        topology.hub.set_interest_listener(Arc::clone(&topology) as Arc<dyn weir_hub::InterestListener>);
        topology.update_connect_urls(None);
        tokio::spawn(Arc::clone(&topology).accept(listener));
        for at in 0..topology.options.seeds.len() {
            tokio::spawn(Arc::clone(&topology).follow_seed(at));
        }
        topology
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
                    tokio::spawn(link::run(Arc::clone(&self), stream, address, link::Role::Accepted));
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
    fn tell_all(&self) {
        for remote in self.remotes.read().values() {
            if let Some(link) = remote.link_at(0).or_else(|| remote.links().pop().map(|(link, _)| link)) {
                let line = self.info(link.local_ip).to_line();
                link.outbox.append(Counted::NOTHING, |out| out.extend_from_slice(&line));
                link.outbox.flush();
            }
        }
    }

    /// What this server says about itself on routes.
    pub(crate) fn info(&self, local_ip: Option<IpAddr>) -> Info {
        let client = self.hub.info();
        let options = &self.options;
        let mut info = Info {
            server_id: client.server_id,
            server_name: client.server_name,
            version: client.version,
            proto: 1,
            git_commit: client.git_commit,
            go: client.go,
            host: options.host.clone(),
            port: self.port,
            headers: true,
            auth_required: options.user.is_some(),
            max_payload: client.max_payload,
            jetstream: client.jetstream,
            cluster: options.cluster.clone(),
            cluster_dynamic: options.cluster_is_dynamic,
            domain: client.domain,
            ldm: self.lame_duck.load(Ordering::Relaxed),
            route_pool_size: i64::try_from(options.pool_size).unwrap_or(1),
            // Always there, so that Weir's servers know each other.
            weir: Some(
                self.announced.lock().clone().unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            ),
            ..Info::default()
        };
        if let Some(advertise) = &options.advertise {
            info.ip = format!("nats-route://{advertise}/");
        }
        if !options.no_advertise {
            info.connect_urls = self.own_client_urls(local_ip);
        }
        info
    }

    fn own_client_urls(&self, local_ip: Option<IpAddr>) -> Vec<String> {
        if !self.options.client_urls.is_empty() {
            return self.options.client_urls.clone();
        }
        let client = self.hub.info();
        let host: Option<IpAddr> = client.host.parse().ok();
        match (host.is_none_or(|host| host.is_unspecified()), local_ip) {
            (false, _) => vec![format!("{}:{}", client.host, client.port)],
            (true, Some(ip)) => vec![SocketAddr::new(ip.to_canonical(), client.port).to_string()],
            (true, None) => Vec::new(),
        }
    }

    /// Tells clients of all servers of the cluster.
    pub(crate) fn update_connect_urls(&self, local_ip: Option<IpAddr>) {
        if self.options.no_advertise {
            return;
        }
        let remotes = self.remotes.read();
        let mut urls: Vec<String> = remotes.values().flat_map(|remote| remote.connect_urls()).collect();
        let local_ip = local_ip.or_else(|| {
            remotes.values().flat_map(|remote| remote.links()).find_map(|(link, _)| link.local_ip)
        });
        drop(remotes);
        urls.extend(self.own_client_urls(local_ip));
        self.hub.set_connect_urls(urls);
    }

    /// All connections to other servers.
    pub fn routes_snapshot(&self) -> RoutesSnapshot {
        let remotes: Vec<_> = self.remotes.read().values().cloned().collect();
        let mut routes: Vec<_> = remotes
            .iter()
            .flat_map(|remote| {
                remote.links().into_iter().map(|(link, account)| route_snapshot(remote, &link, account))
            })
            .collect();
        routes.sort_by_key(|route| route.id);
        RoutesSnapshot { routes }
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

    /// Stops accepting and dialling, and closes all routes.
    pub fn shutdown(&self) {
        self.stopping.send_replace(true);
        for remote in self.remotes.read().values() {
            for (link, _) in remote.links() {
                link.outbox.close(CloseReason::ServerShutdown);
            }
        }
    }
}

fn route_snapshot(remote: &Remote, link: &Link, account: String) -> RouteSnapshot {
    let (out_messages, out_bytes) = link.outbox.sent();
    let interest = link.interest.lock();
    RouteSnapshot {
        id: link.id & ((1 << 48) - 1),
        remote_id: remote.id.clone(),
        remote_name: remote.name.clone(),
        did_solicit: link.solicited,
        is_configured: link.configured,
        address: link.address,
        start: link.started,
        last_activity: UnixNanos(link.last_activity.load(Ordering::Relaxed)),
        rtt_nanos: link.rtt_nanos.load(Ordering::Relaxed),
        pending_bytes: link.outbox.pending(),
        in_messages: link.in_messages.load(Ordering::Relaxed),
        in_bytes: link.in_bytes.load(Ordering::Relaxed),
        out_messages,
        out_bytes,
        subscriptions: interest.len(),
        subscription_list: interest
            .keys()
            .map(|(_, subject, _)| String::from_utf8_lossy(subject).into_owned())
            .collect(),
        account,
    }
}
