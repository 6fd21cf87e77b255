//! One server's accounts, connections, limits and identity. Not the operations of a client.

use crate::GLOBAL_ACCOUNT;
use crate::account::{Account, AccountTraffic, ListenerSlot};
use crate::account_settings::ActivationCheck;
use crate::auth::{Authenticator, Credentials, Principal, Review};
use crate::client::{self, ClientHandle, ClientState, Greeting};
use crate::close_reason::CloseReason;
use crate::counters::Counters;
use crate::deferred;
use crate::entrance::Entrance;
use crate::exchange::RemoteRequests;
use crate::observer::Observer;
use crate::options::{HubOptions, Limits};
use crate::outbox::{Counted, Outbox};
use crate::peer::InterestListener;
use crate::snapshot::{ConnectionRights, ConnectionSnapshot};
use crate::websocket::WebSocketEntrance;
use arc_swap::{ArcSwap, ArcSwapOption};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{debug, error, info};
use weir_net::{ConnectionKind, Transport, TransportFacts};
use weir_proto::{ConnectOptions, Info, encode, err};
use weir_stdx::time::UnixNanos;

/// How long to wait after accept failed (no file descriptors left, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two clients that are closed in lame duck mode, as in nats-server.
const MAX_LAME_DUCK_PAUSE: Duration = Duration::from_secs(1);

const ONE_SECOND_NANOS: u64 = 1_000_000_000;

/// A number that looks random, different for each connection.
fn spread(id: u64) -> u32 {
    u32::try_from(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).unwrap_or(0)
}

/// The time now, for stamps that people and clients see.
pub(crate) fn now() -> UnixNanos {
    UnixNanos::from_system_time(SystemTime::now())
}

/// 11 random bytes in base64, as nats-server asks clients to sign; `None` when there is no randomness.
pub fn new_nonce() -> Option<Box<str>> {
    let mut random = [0u8; 11];
    getrandom::fill(&mut random).ok()?;
    Some(URL_SAFE_NO_PAD.encode(random).into_boxed_str())
}

/// One server's accounts and connections.
pub struct Hub {
    options: Arc<HubOptions>,
    limits: ArcSwap<Limits>,
    authenticator: ArcSwap<Arc<dyn Authenticator>>,
    accounts: RwLock<FxHashMap<String, Arc<Account>>>,
    listener: ListenerSlot,
    pub(crate) activation: ArcSwapOption<Arc<dyn ActivationCheck>>,
    /// Held while accounts are configured.
    pub(crate) configuring: Mutex<()>,
    observer: ArcSwapOption<Arc<dyn Observer>>,
    entrance: ArcSwap<Entrance>,
    websocket: ArcSwapOption<WebSocketEntrance>,
    connections: RwLock<FxHashMap<u64, Arc<ClientHandle>>>,
    account_changes: watch::Sender<u64>,
    closed: Mutex<VecDeque<ConnectionSnapshot>>,
    counters: Counters,
    next_id: AtomicU64,
    /// What INFO says beyond the fixed fields.
    info: Mutex<InfoState>,
    lame_duck: AtomicBool,
    /// When it was last logged that there are too many connections, in nanoseconds since 1970.
    full_logged: AtomicU64,
    stopping: watch::Sender<bool>,
}

#[derive(Default)]
struct InfoState {
    connect_urls: Vec<String>,
    websocket_urls: Vec<String>,
    port: u16,
}

impl Hub {
    /// A hub without connections; `serve` lets clients in.
    pub fn new(options: HubOptions, limits: Limits, authenticator: Arc<dyn Authenticator>) -> Arc<Self> {
        let port = options.port;
        let hub = Self {
            options: Arc::new(options),
            limits: ArcSwap::from_pointee(limits),
            authenticator: ArcSwap::from_pointee(authenticator),
            accounts: RwLock::new(FxHashMap::default()),
            listener: Arc::new(ArcSwapOption::empty()),
            activation: ArcSwapOption::empty(),
            configuring: Mutex::new(()),
            observer: ArcSwapOption::empty(),
            entrance: ArcSwap::default(),
            websocket: ArcSwapOption::empty(),
            connections: RwLock::new(FxHashMap::default()),
            account_changes: watch::Sender::new(0),
            closed: Mutex::new(VecDeque::new()),
            counters: Counters::default(),
            // nats-server's first client has id 5 or so as well: its own connections come first.
            next_id: AtomicU64::new(5),
            info: Mutex::new(InfoState { port, ..InfoState::default() }),
            lame_duck: AtomicBool::new(false),
            full_logged: AtomicU64::new(0),
            stopping: watch::Sender::new(false),
        };
        hub.ensure_account(GLOBAL_ACCOUNT);
        hub.system_account();
        Arc::new(hub)
    }

    /// The server's identity and fixed settings.
    pub fn options(&self) -> &HubOptions {
        &self.options
    }

    /// The limits in force.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// Changes the limits; connections that exist keep their max_payload and max_control_line.
    pub fn set_limits(&self, limits: Limits) {
        for connection in self.connections.read().values() {
            connection.outbox.set_max_pending(limits.max_pending);
            connection.passes_over_crowded.store(!limits.holds_publishers, Ordering::Relaxed);
        }
        self.limits.store(Arc::new(limits));
    }

    /// Closes connections, in no particular order, while there are more than allowed; returns how many.
    pub fn enforce_max_connections(&self) -> usize {
        let max = self.limits.load().max_connections;
        if max == 0 {
            return 0;
        }
        let handles: Vec<_> = self.connections.read().values().cloned().collect();
        let excess = handles.len().saturating_sub(max);
        for (at, handle) in handles.iter().take(excess).enumerate() {
            if at == 0 {
                // One line stands for all, as in nats-server.
                let account = handle.state.read().account.clone();
                let account = account.map_or_else(String::new, |account| account.name().to_owned());
                error!("{} - {} - Account:{account}", handle.label(), err::MAX_CONNECTIONS);
            }
            handle.outbox.append(Counted::NOTHING, |out| encode::error(out, err::MAX_CONNECTIONS));
            handle.close(CloseReason::MaxConnectionsExceeded);
        }
        excess
    }

    /// How connections come in over WebSocket; `None` when they do not.
    pub fn websocket(&self) -> Option<Arc<WebSocketEntrance>> {
        self.websocket.load_full()
    }

    /// Changes how connections come in over WebSocket from now on.
    pub fn set_websocket(&self, entrance: WebSocketEntrance) {
        self.websocket.store(Some(Arc::new(entrance)));
    }

    /// The entrance of a connection that came in over WebSocket.
    pub(crate) fn websocket_of(&self, handle: &ClientHandle) -> Option<Arc<WebSocketEntrance>> {
        let facts = handle.transport.load();
        facts.as_ref().filter(|facts| facts.kind == ConnectionKind::WebSocket)?;
        self.websocket()
    }

    /// How connections come in.
    pub fn entrance(&self) -> Arc<Entrance> {
        self.entrance.load_full()
    }

    /// Changes how connections come in from now on.
    pub fn set_entrance(&self, entrance: Entrance) {
        self.entrance.store(Arc::new(entrance));
    }

    pub(crate) fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::clone(&self.authenticator.load())
    }

    /// Changes who gets in. Connections that exist and would not get in any more stay until `disconnect`.
    pub fn set_authenticator(&self, authenticator: Arc<dyn Authenticator>) {
        self.authenticator.store(Arc::new(authenticator));
    }

    /// The account of that name, if it is configured (or, for routes, was learnt).
    pub fn account(&self, name: &str) -> Option<Arc<Account>> {
        self.accounts.read().get(name).cloned()
    }

    /// All accounts.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        self.accounts.read().values().cloned().collect()
    }

    /// The account named `$G`.
    pub fn global_account(&self) -> Arc<Account> {
        self.ensure_account(GLOBAL_ACCOUNT)
    }

    /// The system account, by its configured name (`$SYS` when none is).
    pub fn system_account(&self) -> Arc<Account> {
        self.ensure_account(&self.options.system_account)
    }

    /// The account of that name, created when it is not there.
    pub fn ensure_account(&self, name: &str) -> Arc<Account> {
        if let Some(account) = self.account(name) {
            return account;
        }
        let mut is_new = false;
        let mut accounts = self.accounts.write();
        let account = accounts.entry(name.to_owned()).or_insert_with(|| {
            is_new = true;
            Account::new(name, Arc::clone(&self.listener), Arc::clone(&self.options))
        });
        let account = Arc::clone(account);
        drop(accounts);
        if is_new {
            self.observe(|observer| observer.account_added(&account));
            self.account_changes.send_modify(|count| *count += 1);
        }
        account
    }

    /// A counter that grows when an account comes up.
    pub fn account_changes(&self) -> watch::Receiver<u64> {
        self.account_changes.subscribe()
    }

    /// The connections that are bound to an account.
    pub(crate) fn connections_of(&self, account: &Arc<Account>) -> Vec<Arc<ClientHandle>> {
        let is_member = |client: &&Arc<ClientHandle>| {
            client.state.read().account.as_ref().is_some_and(|known| Arc::ptr_eq(known, account))
        };
        self.connections.read().values().filter(is_member).cloned().collect()
    }

    pub(crate) fn take_account(&self, name: &str) -> Option<Arc<Account>> {
        self.accounts.write().remove(name)
    }

    /// Sets who is told of changes of local interest. Current interest: see `Account::with_local_interest`.
    pub fn set_interest_listener(&self, listener: Arc<dyn InterestListener>) {
        self.listener.store(Some(Arc::new(listener)));
    }

    /// Sets who is told of clients that come and go.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        self.observer.store(Some(Arc::new(observer)));
    }

    pub(crate) fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &*self.observer.load() {
            tell(observer.as_ref().as_ref());
        }
    }

    /// The server's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many client connections there are.
    pub fn connection_count(&self) -> usize {
        self.connections.read().len()
    }

    /// How many subscriptions of clients and of this process there are.
    pub fn subscription_count(&self) -> usize {
        self.accounts.read().values().map(|account| account.subscription_count()).sum()
    }

    /// How many subscriptions there are, those that stand for other servers' included.
    pub fn interest_count(&self) -> u64 {
        self.accounts.read().values().map(|account| account.interest_count()).sum()
    }

    /// The open connections.
    pub fn connections_snapshot(&self, with_subscriptions: bool) -> Vec<ConnectionSnapshot> {
        let handles: Vec<_> = self.connections.read().values().cloned().collect();
        handles.iter().map(|handle| handle.snapshot(with_subscriptions)).collect()
    }

    /// Connections that ended, oldest first, up to 10,000.
    pub fn closed_connections_snapshot(&self) -> Vec<ConnectionSnapshot> {
        self.closed.lock().iter().cloned().collect()
    }

    /// What the clients of each account have moved, those that are gone included, by the account's name.
    pub fn account_traffic(&self) -> FxHashMap<String, AccountTraffic> {
        let accounts = self.accounts();
        let mut traffic: FxHashMap<_, _> =
            accounts.iter().map(|account| (account.name().to_owned(), account.past())).collect();
        for handle in self.connections.read().values() {
            let Some(name) = handle.state.read().account.as_ref().map(|account| account.name().to_owned())
            else {
                continue;
            };
            let entry = traffic.entry(name).or_default();
            let (messages, bytes) = handle.outbox.sent();
            entry.in_messages += handle.in_messages.load(Ordering::Relaxed);
            entry.in_bytes += handle.in_bytes.load(Ordering::Relaxed);
            entry.out_messages += messages;
            entry.out_bytes += bytes;
        }
        traffic
    }

    pub(crate) fn connection(&self, id: u64) -> Option<Arc<ClientHandle>> {
        self.connections.read().get(&id).cloned()
    }

    /// One open connection.
    pub fn connection_snapshot(&self, id: u64, with_subscriptions: bool) -> Option<ConnectionSnapshot> {
        let handle = self.connections.read().get(&id).cloned();
        handle.map(|handle| handle.snapshot(with_subscriptions))
    }

    /// What a connected client may do and when its credentials expire; `None` for an unknown connection.
    pub fn connection_rights(&self, id: u64) -> Option<ConnectionRights> {
        let handle = self.connections.read().get(&id).cloned()?;
        let state = handle.state.read();
        Some(ConnectionRights { permissions: state.permissions.clone(), expires: state.expires })
    }

    /// Tells one client, by INFO, that it should move to another server.
    pub fn announce_lame_duck_to(&self, id: u64) -> Result<(), &'static str> {
        let handle = self.connections.read().get(&id).cloned().ok_or("no such client id")?;
        if !handle.async_info.load(Ordering::Relaxed) {
            return Err("client does not support Lame Duck Mode or is not ready to receive the notification");
        }
        let mut info = self.client_info_of(&handle, None, None);
        info.ldm = true;
        let line = info.to_line();
        handle.outbox.append(Counted::NOTHING, |out| out.extend_from_slice(&line));
        handle.outbox.flush();
        Ok(())
    }

    /// Messages and bytes to clients that are still connected and that are gone: (messages, bytes).
    pub fn sent(&self) -> (u64, u64) {
        let (mut messages, mut bytes) = self.counters.sent_to_closed();
        for connection in self.connections.read().values() {
            let (more_messages, more_bytes) = connection.outbox.sent();
            messages += more_messages;
            bytes += more_bytes;
        }
        (messages, bytes)
    }

    /// Cuts one connection; false when there is none of that id.
    pub fn disconnect(&self, id: u64, reason: CloseReason) -> bool {
        let handle = self.connections.read().get(&id).cloned();
        handle.inspect(|handle| handle.close(reason)).is_some()
    }

    /// Lets clients in until `shutdown` or `enter_lame_duck`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        if let Ok(address) = listener.local_addr() {
            self.info.lock().port = address.port();
        }
        let mut stopping = self.stopping.subscribe();
        // Keeps nothing alive, and connections may outlive their listener.
        tokio::spawn(deferred::backstop());
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            match accepted {
                Ok((stream, address)) => self.admit(Arc::new(self.transport_of(stream)), address, None),
                Err(problem) => Self::pause_accepting(&problem).await,
            }
        }
    }

    pub(crate) async fn pause_accepting(problem: &std::io::Error) {
        error!("Temporary Client Accept Error ({problem}), sleeping {}ms", ACCEPT_PAUSE.as_millis());
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    pub(crate) fn transport_of(&self, stream: TcpStream) -> Transport {
        if let Err(problem) = stream.set_nodelay(true) {
            debug!("cannot set TCP_NODELAY: {problem}");
        }
        Transport::plain(stream)
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Takes a connection into the books and serves it; `facts` is what is known of it already.
    pub(crate) fn admit(
        self: &Arc<Self>,
        transport: Arc<Transport>,
        address: SocketAddr,
        facts: Option<Arc<TransportFacts>>,
    ) {
        let limits = self.limits();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let came_through = facts.is_some();
        let handle = Arc::new(ClientHandle {
            id,
            socket_address: SocketAddr::new(address.ip().to_canonical(), address.port()),
            proxied_address: OnceLock::new(),
            started: now(),
            outbox: Outbox::new(id, Arc::clone(&transport), limits.max_pending),
            transport: ArcSwapOption::new(facts),
            last_activity: AtomicU64::new(now().as_nanos()),
            in_messages: AtomicU64::new(0),
            in_bytes: AtomicU64::new(0),
            rtt_nanos: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            passes_over_crowded: AtomicBool::new(!limits.holds_publishers),
            headers: AtomicBool::new(false),
            async_info: AtomicBool::new(false),
            permissions_changed: AtomicBool::new(false),
            tracks_replies: AtomicBool::new(false),
            replies: ArcSwapOption::empty(),
            remote_requests: RemoteRequests::default(),
            max_payload: AtomicUsize::new(limits.max_payload),
            state: RwLock::new(ClientState::default()),
            subscriptions: Mutex::new(FxHashMap::default()),
        });
        let mut connections = self.connections.write();
        let is_full = limits.max_connections > 0 && connections.len() >= limits.max_connections;
        connections.insert(id, Arc::clone(&handle));
        drop(connections);
        self.counters.count_connection();
        debug!("{} - Client connection created", handle.label());
        if is_full {
            self.log_full(&handle);
            tokio::spawn(client::refuse(Arc::clone(self), handle, err::MAX_CONNECTIONS));
        } else {
            let entrance = self.entrance.load();
            let entrance = (!came_through && !entrance.is_plain()).then(|| Arc::clone(&entrance));
            tokio::spawn(client::run(Arc::clone(self), transport, handle, entrance));
        }
    }

    /// At most one line a second, as in nats-server: there may be many of them.
    fn log_full(&self, handle: &ClientHandle) {
        let at = now().as_nanos();
        let last = self.full_logged.load(Ordering::Relaxed);
        let is_time = at.saturating_sub(last) >= ONE_SECOND_NANOS;
        if is_time
            && self.full_logged.compare_exchange(last, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            error!("{} - {}", handle.label(), err::MAX_CONNECTIONS);
        }
    }

    pub(crate) fn forget_connection(&self, handle: &Arc<ClientHandle>) {
        if self.connections.write().remove(&handle.id).is_none() {
            return;
        }
        let reason = handle.outbox.closed().unwrap_or(CloseReason::ClientClosed);
        if reason == CloseReason::SlowConsumerPendingBytes {
            let max = self.limits.load().max_pending;
            info!("{} - Slow Consumer Detected: MaxPending of {max} Exceeded", handle.label());
        }
        debug!("{} - Client connection closed: {}", handle.label(), reason.text());
        self.counters.count_closed(reason, handle.outbox.sent());
        let mut snapshot = handle.snapshot(true);
        snapshot.stop = Some(now());
        snapshot.reason = Some(reason);
        let account = handle.state.read().account.clone();
        if let Some(account) = account {
            account.count_past(AccountTraffic {
                in_messages: snapshot.in_messages,
                in_bytes: snapshot.in_bytes,
                out_messages: snapshot.out_messages,
                out_bytes: snapshot.out_bytes,
                slow_consumers: u64::from(reason.is_slow_consumer()),
            });
            if snapshot.is_connected {
                self.observe(|observer| observer.account_changed(&account));
            }
        }
        self.observe(|observer| observer.disconnected(&snapshot));
        let max_closed = self.limits.load().max_closed_clients;
        let mut closed = self.closed.lock();
        closed.push_back(snapshot);
        while closed.len() > max_closed {
            closed.pop_front();
        }
    }

    /// The INFO line for one client; with `account`, the one that follows its first PING.
    pub(crate) fn client_info(
        &self,
        handle: &ClientHandle,
        account: Option<&str>,
        nonce: Option<&str>,
    ) -> Vec<u8> {
        self.client_info_of(handle, account, nonce).to_line()
    }

    fn client_info_of(&self, handle: &ClientHandle, account: Option<&str>, nonce: Option<&str>) -> Info {
        let mut info = self.info();
        info.auth_required = self.authenticator.load().is_announced(handle.kind());
        nonce.unwrap_or_default().clone_into(&mut info.nonce);
        info.client_id = handle.id;
        info.client_ip = handle.address().ip().to_string();
        let max_payload = handle.max_payload.load(Ordering::Relaxed);
        info.max_payload = i64::try_from(max_payload).unwrap_or(i64::MAX);
        info.ldm = self.lame_duck.load(Ordering::Relaxed);
        self.adapt_to_transport(&mut info, handle);
        // Each kind of client hears of its own kind of port.
        info.ws_connect_urls.clear();
        if let Some(account) = account {
            info.connect_info = true;
            info.auth_required = self.authenticator.load().is_required(handle.kind());
            account.clone_into(&mut info.remote_account);
            info.acc_is_sys = account == self.options.system_account;
        }
        info
    }

    /// The INFO that comes first.
    pub(crate) fn first_info(
        &self,
        handle: &ClientHandle,
        nonce: Option<&str>,
        greeting: Greeting,
    ) -> Vec<u8> {
        let mut info = self.client_info_of(handle, None, nonce);
        if greeting.hides_address {
            info.client_ip.clear();
        }
        info.tls_required = greeting.tls_required.unwrap_or(info.tls_required);
        info.to_line()
    }

    /// What this server says about itself to clients, without what concerns one of them only.
    pub fn info(&self) -> Info {
        let options = &self.options;
        let limits = self.limits.load();
        let state = self.info.lock();
        let entrance = self.entrance.load();
        let (host, port) = match &limits.advertised {
            Some((host, port)) => (host, port.unwrap_or(state.port)),
            None => (&options.host, state.port),
        };
        Info {
            server_id: options.server_id.clone(),
            server_name: options.server_name.clone(),
            version: options.version.clone(),
            proto: 1,
            git_commit: options.git_commit.clone(),
            go: options.language.clone(),
            host: host.clone(),
            port,
            headers: limits.headers,
            auth_required: self.authenticator.load().is_announced(ConnectionKind::Standard),
            max_payload: i64::try_from(limits.max_payload).unwrap_or(i64::MAX),
            jetstream: options.jetstream,
            cluster: options.cluster_name().unwrap_or_default(),
            domain: options.domain.clone().unwrap_or_default(),
            connect_urls: state.connect_urls.clone(),
            ws_connect_urls: state.websocket_urls.clone(),
            api_lvl: options.api_level,
            xkey: options.xkey.clone(),
            tls_required: entrance.requires_tls(),
            tls_available: entrance.tls.is_some() && entrance.allow_non_tls,
            tls_verify: entrance.tls.as_ref().is_some_and(|tls| tls.current().verify),
            ..Info::default()
        }
    }

    /// Sets the `host:port` of all servers of the cluster and tells clients that can take it.
    pub fn set_connect_urls(&self, urls: Vec<String>) {
        let mut state = self.info.lock();
        if state.connect_urls != urls {
            state.connect_urls = urls;
            drop(state);
            self.broadcast_info();
        }
    }

    /// Sets the `host:port` of the WebSocket ports of the cluster and tells clients that can take it.
    pub fn set_websocket_urls(&self, urls: Vec<String>) {
        let mut state = self.info.lock();
        if state.websocket_urls != urls {
            state.websocket_urls = urls;
            drop(state);
            self.broadcast_info();
        }
    }

    /// The INFO of a client that came in over WebSocket speaks of that port.
    fn adapt_to_transport(&self, info: &mut Info, handle: &ClientHandle) {
        let Some(entrance) = self.websocket_of(handle) else { return };
        info.connect_urls.clone_from(&self.info.lock().websocket_urls);
        info.tls_required = entrance.tls.is_some();
        info.tls_available = entrance.tls.is_some();
        info.host.clone_from(&entrance.host);
        info.port = entrance.port;
    }

    /// The cluster's name now: one that was made up gives way to one that another server brings.
    pub fn cluster_name(&self) -> String {
        self.options.cluster_name().unwrap_or_default()
    }

    /// Changes the cluster's name; mappings for single clusters follow.
    pub fn set_cluster_name(&self, name: &str) {
        self.options.adopted_cluster.store(Some(Arc::new(name.to_owned())));
        self.refresh_mappings();
    }

    fn broadcast_info(&self) {
        let handles: Vec<_> = self.connections.read().values().cloned().collect();
        for handle in handles {
            if handle.async_info.load(Ordering::Relaxed) {
                let line = self.client_info(&handle, None, None);
                handle.outbox.append(Counted::NOTHING, |out| out.extend_from_slice(&line));
                handle.outbox.flush();
            }
        }
    }

    /// Whether the server is in lame duck mode.
    pub fn is_lame_duck(&self) -> bool {
        self.lame_duck.load(Ordering::Relaxed)
    }

    /// Stops accepting, tells clients, waits `grace`, then closes them spread over `duration`.
    pub async fn enter_lame_duck(&self, duration: Duration, grace: Duration) {
        if self.lame_duck.swap(true, Ordering::Relaxed) {
            return;
        }
        self.stopping.send_replace(true);
        self.broadcast_info();
        if self.connections.read().is_empty() {
            return;
        }
        tokio::time::sleep(grace).await;
        let mut ids: Vec<u64> = self.connections.read().keys().copied().collect();
        info!("Closing existing clients");
        let left = match duration.saturating_sub(grace) {
            Duration::ZERO => Duration::from_secs(1),
            left => left,
        };
        let pause = (left / u32::try_from(ids.len().max(1)).unwrap_or(u32::MAX)).min(MAX_LAME_DUCK_PAUSE);
        // In no order that clients could guess, and with pauses of half their length or more.
        ids.sort_by_key(|id| spread(*id));
        for (at, id) in ids.into_iter().enumerate() {
            if at > 0 {
                tokio::time::sleep(pause / 2 + pause / 2 * (spread(id) % 1000) / 1000).await;
            }
            self.disconnect(id, CloseReason::ServerShutdown);
        }
    }

    /// Asks the authenticator again about every connection, after users changed: who does not exist any more, or is
    /// in another account now, is closed; who would not get in any more is told so as well; changed permissions take
    /// effect.
    pub async fn recheck_credentials(&self) {
        let authenticator = self.authenticator();
        let handles: Vec<_> = self.connections.read().values().cloned().collect();
        for handle in handles {
            let known = {
                let state = handle.state.read();
                let inside = state.account.is_some();
                state.principal.clone().filter(|_| inside).map(|principal| {
                    let credentials = state.credentials.clone().unwrap_or_else(|| Credentials {
                        options: ConnectOptions::default(),
                        connection: handle.id,
                        started: handle.started,
                        address: handle.address(),
                        nonce: String::new(),
                        transport: handle.transport.load_full().unwrap_or_default(),
                    });
                    (principal, credentials)
                })
            };
            // Who is not in yet will be asked by the new authenticator anyway.
            let Some((principal, credentials)) = known else { continue };
            if authenticator.has_moved(&principal) {
                handle.close(CloseReason::ClientClosed);
                continue;
            }
            let verdict = authenticator.authenticate(&credentials).verdict().await;
            match verdict {
                Ok(new) if new.account == principal.account => handle.replace_principal(new),
                Ok(_) => handle.close(CloseReason::ClientClosed),
                Err(refusal) => handle.end(&refusal),
            }
        }
    }

    /// Asks about every connection of an account, the oldest first, after what the account may do changed.
    pub fn review_account(
        &self,
        account: &str,
        mut judge: impl FnMut(&Principal, Option<&Credentials>) -> Review,
    ) {
        let mut handles: Vec<_> = self.connections.read().values().cloned().collect();
        handles.sort_unstable_by_key(|handle| handle.id);
        for handle in handles {
            let review = {
                let state = handle.state.read();
                match &state.principal {
                    Some(principal) if state.account.as_ref().is_some_and(|own| own.name() == account) => {
                        judge(principal, state.credentials.as_ref())
                    }
                    _ => continue,
                }
            };
            match review {
                Review::Keep => {}
                Review::Replace(principal) => handle.replace_principal(*principal),
                Review::Close(refusal) => handle.end(&refusal),
            }
        }
    }

    /// Stops accepting and closes all connections; returns when they are gone, or after `limit`.
    pub async fn shutdown(&self, limit: Duration) {
        self.stopping.send_replace(true);
        let deadline = tokio::time::Instant::now() + limit;
        for handle in self.connections.read().values() {
            handle.close(CloseReason::ServerShutdown);
        }
        while !self.connections.read().is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
