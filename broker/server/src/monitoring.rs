//! Fills the monitor's [`Source`] from the other rooms.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::{Mutex, RwLock};
use weir_hub::{AccountTraffic, ConnectionSnapshot, Hub, SubscriptionSnapshot};
use weir_jsapi::time::Time;
use weir_monitor::{
    Account, Connection, Counters, Health, JetStream, PeerCertificate, Presence, Queue, RaftGroup, Route,
    Server, ServerSettings, Source, SubjectRules, Subscription, Traffic, Wanted,
};

use weir_topology::{RouteSnapshot, RouteSubscription};

use crate::{
    account_view,
    cluster::RunningCluster,
    jetstream::RunningJetStream,
    machine,
    ocsp::ResponseCache,
    system::{System, client_type},
};

/// Publishes this server's figures.
pub(crate) struct ServerSource {
    hub: Arc<Hub>,
    settings: RwLock<ServerSettings>,
    /// Clients are served: not while starting, in lame duck mode or stopping.
    accepting: AtomicBool,
    /// Requests by path, of the known paths only: the map is bounded.
    http_requests: Mutex<BTreeMap<&'static str, u64>>,
    processor: Mutex<ProcessorUse>,
    /// The configuration asks for JetStream.
    jetstream_configured: bool,
    jetstream: OnceLock<Arc<RunningJetStream>>,
    cluster: OnceLock<Arc<RunningCluster>>,
    system: OnceLock<Weak<System>>,
    ocsp_cache: Mutex<Option<Arc<ResponseCache>>>,
}

struct ProcessorUse {
    at: Instant,
    used: Duration,
    percent: f64,
}

impl ServerSource {
    pub(crate) fn new(hub: Arc<Hub>, settings: ServerSettings, jetstream_configured: bool) -> Self {
        let processor = ProcessorUse { at: Instant::now(), used: machine::usage().cpu_time, percent: 0.0 };
        Self {
            hub,
            settings: RwLock::new(settings),
            accepting: AtomicBool::new(false),
            http_requests: Mutex::new(BTreeMap::new()),
            processor: Mutex::new(processor),
            jetstream_configured,
            jetstream: OnceLock::new(),
            cluster: OnceLock::new(),
            system: OnceLock::new(),
            ocsp_cache: Mutex::new(None),
        }
    }

    pub(crate) fn set_accepting(&self, accepting: bool) {
        self.accepting.store(accepting, Ordering::Release);
    }

    /// Answers about clients' certificates are kept there now.
    pub(crate) fn set_ocsp_cache(&self, cache: Option<Arc<ResponseCache>>) {
        *self.ocsp_cache.lock() = cache;
    }

    /// JetStream runs now.
    pub(crate) fn set_jetstream(&self, jetstream: Arc<RunningJetStream>) {
        // Set once, at the start.
        let _ = self.jetstream.set(jetstream);
    }

    /// The routes run now.
    pub(crate) fn set_cluster(&self, cluster: Arc<RunningCluster>) {
        let port = cluster.topology.port();
        self.update_settings(|settings| {
            if let Some(settings) = &mut settings.cluster {
                settings.name.clone_from(&cluster.name);
                settings.port = port;
            }
        });
        // Set once, at the start.
        let _ = self.cluster.set(cluster);
    }

    /// The system account's services run now.
    pub(crate) fn set_system(&self, system: Weak<System>) {
        // Set once, at the start.
        let _ = self.system.set(system);
    }

    /// Settings as they are now.
    pub(crate) fn settings(&self) -> ServerSettings {
        let mut settings = self.settings.read().clone();
        if let Some(cluster) = &mut settings.cluster {
            // A name that was made up may have given way to another server's.
            cluster.name = self.hub.cluster_name();
        }
        settings
    }

    /// There may be other servers.
    pub(crate) fn is_clustered(&self) -> bool {
        self.cluster.get().is_some()
    }

    /// An account's name for people.
    pub(crate) fn account_tag(&self, name: &str) -> String {
        let tag = self.hub.account(name).map(|account| account.settings().display_name.clone());
        tag.filter(|tag| !tag.is_empty()).unwrap_or_else(|| name.to_owned())
    }

    /// One account's figures.
    pub(crate) fn account(&self, name: &str) -> Option<Account> {
        let traffic = self.hub.account_traffic();
        let account = self.hub.account(name)?;
        Some(self.account_view(&account, traffic.get(name).copied().unwrap_or_default()))
    }

    fn account_view(&self, account: &weir_hub::Account, traffic: AccountTraffic) -> Account {
        let (inserts, removes) = account.subscription_changes();
        let routed = account.routed();
        let settings = account.settings();
        let system = self.settings.read().system_account.clone();
        Account {
            name: account.name().to_owned(),
            name_tag: self.account_tag(account.name()),
            jetstream: self.jetstream.get().is_some_and(|js| js.serves(account.name())),
            connections: account.connection_count() as u64,
            subscriptions: account.interest_count(),
            subscription_inserts: inserts,
            subscription_removes: removes,
            updated: self.settings.read().start,
            received: Traffic { msgs: traffic.in_messages, bytes: traffic.in_bytes },
            sent: Traffic { msgs: traffic.out_messages, bytes: traffic.out_bytes },
            received_by_routes: Traffic { msgs: routed.in_messages, bytes: routed.in_bytes },
            sent_by_routes: Traffic { msgs: routed.out_messages, bytes: routed.out_bytes },
            slow_consumers: traffic.slow_consumers,
            exports: account_view::exports(&settings, account.name() == system, self.jetstream_configured),
            imports: account_view::imports(
                account.name(),
                &system,
                &settings,
                self.jetstream_configured,
                |name| self.hub.account(name).map(|exporter| exporter.settings()),
            ),
            mappings: account_view::mappings(&settings),
            ..Account::default()
        }
    }

    pub(crate) fn update_settings(&self, change: impl FnOnce(&mut ServerSettings)) {
        change(&mut self.settings.write());
    }

    /// Percent of one processor since the last look, at most once a second.
    fn cpu_percent(&self, used: Duration) -> f64 {
        let mut processor = self.processor.lock();
        let elapsed = processor.at.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let spent = used.saturating_sub(processor.used);
            let percent = spent.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
            *processor = ProcessorUse { at: Instant::now(), used, percent };
        }
        processor.percent
    }

    fn counters(&self) -> Counters {
        let counters = self.hub.counters();
        let (in_msgs, in_bytes) = counters.received();
        let (out_msgs, out_bytes) = self.hub.sent();
        let routes = self.cluster.get().map(|cluster| cluster.topology.routes_snapshot().routes);
        let routes = routes.unwrap_or_default();
        let remotes = self.cluster.get().map_or(0, |cluster| cluster.topology.peers().len());
        let (slow_routes, stale_routes) =
            self.cluster.get().map_or((0, 0), |cluster| cluster.topology.troubles());
        let sum = |figure: fn(&RouteSnapshot) -> u64| routes.iter().map(figure).sum::<u64>();
        Counters {
            connections: self.hub.connection_count() as u64,
            total_connections: counters.total_connections(),
            routes: routes.len() as u64,
            remotes: remotes as u64,
            in_msgs: in_msgs + sum(|route| route.in_messages),
            in_bytes: in_bytes + sum(|route| route.in_bytes),
            in_client_msgs: in_msgs,
            in_client_bytes: in_bytes,
            out_msgs: out_msgs + sum(|route| route.out_messages),
            out_bytes: out_bytes + sum(|route| route.out_bytes),
            out_client_msgs: out_msgs,
            out_client_bytes: out_bytes,
            slow_consumers: counters.slow_consumers(),
            stale_connections: counters.stale_connections(),
            slow_routes,
            stale_routes,
            stalled_clients: counters.stalls(),
            subscriptions: self.hub.interest_count(),
        }
    }
}

/// The time now, as the API prints it.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_unix_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// A moment, as the API prints it.
pub(crate) fn time_of(nanos: u64) -> Time {
    Time::from_unix_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

impl Source for ServerSource {
    fn server(&self) -> Server {
        let usage = machine::usage();
        let info = self.hub.info();
        Server {
            settings: self.settings(),
            counters: self.counters(),
            now: now(),
            memory_bytes: usage.memory_bytes,
            cpu_percent: self.cpu_percent(usage.cpu_time),
            connect_urls: info.connect_urls,
            websocket_urls: info.ws_connect_urls,
            ocsp_peer_cache: self.ocsp_cache.lock().as_ref().and_then(|cache| cache.figures()),
        }
    }

    fn connections(&self, wanted: Wanted) -> Vec<Connection> {
        let mut found = Vec::new();
        if wanted.open {
            found.extend(self.hub.connections_snapshot(wanted.subscriptions));
        }
        if wanted.closed {
            found.extend(self.hub.closed_connections_snapshot());
        }
        let tagged = |snapshot: ConnectionSnapshot| {
            let name = match snapshot.account.as_str() {
                "" => weir_hub::GLOBAL_ACCOUNT,
                name => name,
            };
            // A closed connection's global account is not named.
            let is_shown = snapshot.stop.is_none() || name != weir_hub::GLOBAL_ACCOUNT;
            let tag = if is_shown { self.account_tag(name) } else { String::new() };
            connection(snapshot, tag)
        };
        found.into_iter().map(tagged).collect()
    }

    fn route_rules(&self) -> (Option<SubjectRules>, Option<SubjectRules>) {
        let Some(cluster) = self.cluster.get() else { return (None, None) };
        let snapshot = cluster.topology.routes_snapshot();
        (snapshot.import.as_ref().map(subject_rules), snapshot.export.as_ref().map(subject_rules))
    }

    fn routes(&self, subscriptions: bool) -> Vec<Route> {
        let Some(cluster) = self.cluster.get() else { return Vec::new() };
        let routes = cluster.topology.routes_snapshot().routes.into_iter();
        routes.map(|snapshot| route(snapshot, subscriptions)).collect()
    }

    fn subscriptions(&self, account: Option<&str>) -> Vec<Subscription> {
        let mut found = Vec::new();
        for held in self.hub.accounts() {
            if account.is_none_or(|name| held.name() == name) {
                let tag = self.account_tag(held.name());
                let list = held.subscriptions_snapshot().into_iter();
                found.extend(
                    list.map(|one| Subscription {
                        account_tag: tag.clone(),
                        ..subscription(one, held.name())
                    }),
                );
            }
        }
        found
    }

    fn accounts(&self) -> Vec<Account> {
        let traffic = self.hub.account_traffic();
        let view = |account: Arc<weir_hub::Account>| {
            self.account_view(&account, traffic.get(account.name()).copied().unwrap_or_default())
        };
        self.hub.accounts().into_iter().map(view).collect()
    }

    fn raft_groups(&self) -> Option<Vec<RaftGroup>> {
        let jetstream = self.jetstream.get()?;
        let own = self.settings.read();
        jetstream.raft_groups(&own.server_name, &own.system_account)
    }

    fn queues(&self) -> Vec<Queue> {
        let system = self.system.get().and_then(Weak::upgrade);
        let mut queues = system.map(|system| system.queues()).unwrap_or_default();
        queues.extend(self.jetstream.get().into_iter().flat_map(|jetstream| jetstream.queues()));
        queues
    }

    fn command_line(&self) -> Vec<String> {
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    fn http_requests(&self) -> BTreeMap<String, u64> {
        let requests = self.http_requests.lock();
        requests.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect()
    }

    fn count_http_request(&self, path: &'static str) {
        *self.http_requests.lock().entry(path).or_insert(0) += 1;
    }

    fn jetstream(&self, details: bool) -> Option<JetStream> {
        self.jetstream.get().map(|jetstream| jetstream.view(details))
    }

    fn health(&self) -> Health {
        let jetstream = self.jetstream.get();
        Health {
            accepting: self.accepting.load(Ordering::Acquire),
            jetstream_configured: self.jetstream_configured,
            jetstream_running: jetstream.is_some(),
            meta_problem: jetstream.and_then(|jetstream| jetstream.meta_problem()),
            behind: jetstream.map(|jetstream| jetstream.node.behind()).unwrap_or_default(),
        }
    }

    fn presence(&self, account: &str, stream: &str, consumer: Option<&str>) -> Presence {
        match self.jetstream.get() {
            Some(jetstream) => jetstream.presence(account, stream, consumer),
            None => Presence::NoAccount,
        }
    }
}

fn connection(snapshot: ConnectionSnapshot, account_tag: String) -> Connection {
    let client_type = client_type(&snapshot);
    let account = snapshot.account;
    let tls = snapshot.transport.as_ref().and_then(|transport| transport.tls.clone()).unwrap_or_default();
    let list = snapshot.subscription_list.into_iter();
    Connection {
        cid: snapshot.id,
        ip: snapshot.address.ip().to_string(),
        port: snapshot.address.port(),
        start: time_of(snapshot.start.as_nanos()),
        last_activity: time_of(snapshot.last_activity.as_nanos()),
        stop: snapshot.stop.map(|stop| time_of(stop.as_nanos())),
        reason: snapshot.reason.map(|reason| reason.text().to_owned()).unwrap_or_default(),
        rtt: (snapshot.rtt_nanos > 0).then(|| Duration::from_nanos(snapshot.rtt_nanos)),
        pending_bytes: snapshot.pending_bytes as u64,
        in_msgs: snapshot.in_messages,
        out_msgs: snapshot.out_messages,
        in_bytes: snapshot.in_bytes,
        out_bytes: snapshot.out_bytes,
        subscription_count: snapshot.subscriptions as u64,
        name: snapshot.name,
        lang: snapshot.lang,
        version: snapshot.version,
        stalls: snapshot.stalls,
        client_type,
        tls_version: tls.version,
        tls_cipher_suite: tls.cipher_suite,
        tls_peer_certs: tls.peer_certificates.iter().map(|der| peer_certificate(der)).collect(),
        tls_first: tls.is_first,
        authorized_user: snapshot.authorized_user,
        account_tag,
        jwt: snapshot.jwt,
        issuer_key: snapshot.issuer_key,
        tags: snapshot.tags,
        proxy_key: snapshot.proxy_key,
        subscriptions: list.map(|one| subscription(one, &account)).collect(),
        account,
    }
}

fn route(snapshot: RouteSnapshot, subscriptions: bool) -> Route {
    let list = if subscriptions { snapshot.subscription_details } else { Vec::new() };
    let named = |one: RouteSubscription| Subscription {
        account: one.account,
        subject: one.subject,
        queue: one.queue,
        sid: one.sid,
        msgs: one.messages,
        cid: snapshot.id,
        ..Subscription::default()
    };
    Route {
        rid: snapshot.id,
        remote_id: snapshot.remote_id,
        remote_name: snapshot.remote_name,
        did_solicit: snapshot.did_solicit,
        is_configured: snapshot.is_configured,
        ip: snapshot.address.ip().to_string(),
        port: snapshot.address.port(),
        start: time_of(snapshot.start.as_nanos()),
        last_activity: time_of(snapshot.last_activity.as_nanos()),
        rtt: (snapshot.rtt_nanos > 0).then(|| Duration::from_nanos(snapshot.rtt_nanos)),
        pending_bytes: snapshot.pending_bytes as u64,
        in_msgs: snapshot.in_messages,
        out_msgs: snapshot.out_messages,
        in_bytes: snapshot.in_bytes,
        out_bytes: snapshot.out_bytes,
        subscription_count: snapshot.subscriptions as u64,
        subscriptions: list.into_iter().map(named).collect(),
        account: Some(snapshot.account).filter(|account| !account.is_empty()),
        compression: snapshot.compression,
        import: snapshot.import.as_ref().map(subject_rules),
        export: snapshot.export.as_ref().map(subject_rules),
    }
}

fn subject_rules(rules: &weir_proto::ImportExport) -> SubjectRules {
    SubjectRules { allow: rules.allow.clone(), deny: rules.deny.clone() }
}

fn subscription(snapshot: SubscriptionSnapshot, account: &str) -> Subscription {
    Subscription {
        account: account.to_owned(),
        account_tag: account.to_owned(),
        subject: snapshot.subject,
        queue: Some(snapshot.queue).filter(|queue| !queue.is_empty()),
        sid: snapshot.sid,
        msgs: snapshot.messages,
        max: snapshot.max,
        cid: snapshot.connection,
    }
}

/// A client's certificate as `/connz` shows it.
fn peer_certificate(der: &[u8]) -> PeerCertificate {
    let (cert_sha256, spki_sha256) = weir_net::tls::fingerprints(der);
    PeerCertificate { subject: weir_auth::certificate::full_subject_text(der), spki_sha256, cert_sha256 }
}
