//! Fills the monitor's [`Source`] from the other rooms.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::{Mutex, RwLock};
use weir_hub::{ConnectionSnapshot, Hub, SubscriptionSnapshot};
use weir_jsapi::time::Time;
use weir_monitor::{
    Account, Connection, Counters, Health, JetStream, Presence, Route, Server, ServerSettings, Source,
    Subscription, SubscriptionCounts, Wanted,
};

use weir_topology::RouteSnapshot;

use crate::{cluster::RunningCluster, jetstream::RunningJetStream, machine};

/// Publishes this server's figures.
pub(crate) struct ServerSource {
    hub: Arc<Hub>,
    settings: RwLock<ServerSettings>,
    /// Clients are served: not while starting, in lame duck mode or stopping.
    accepting: AtomicBool,
    processor: Mutex<ProcessorUse>,
    /// The configuration asks for JetStream.
    jetstream_configured: bool,
    jetstream: OnceLock<Arc<RunningJetStream>>,
    cluster: OnceLock<Arc<RunningCluster>>,
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
            processor: Mutex::new(processor),
            jetstream_configured,
            jetstream: OnceLock::new(),
            cluster: OnceLock::new(),
        }
    }

    pub(crate) fn set_accepting(&self, accepting: bool) {
        self.accepting.store(accepting, Ordering::Release);
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
            stalled_clients: counters.stalls(),
            subscriptions: self.hub.subscription_count() as u64,
            ..Counters::default()
        }
    }
}

/// The time now, as the API prints it.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_unix_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn time_of(nanos: u64) -> Time {
    Time::from_unix_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

impl Source for ServerSource {
    fn server(&self) -> Server {
        let usage = machine::usage();
        Server {
            settings: self.settings.read().clone(),
            counters: self.counters(),
            now: now(),
            memory_bytes: usage.memory_bytes,
            cpu_percent: self.cpu_percent(usage.cpu_time),
            connect_urls: self.hub.info().connect_urls,
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
        found.into_iter().map(connection).collect()
    }

    fn routes(&self, subscriptions: bool) -> Vec<Route> {
        let Some(cluster) = self.cluster.get() else { return Vec::new() };
        let routes = cluster.topology.routes_snapshot().routes.into_iter();
        routes.map(|snapshot| route(snapshot, subscriptions)).collect()
    }

    fn subscriptions(&self, list: bool) -> (SubscriptionCounts, Vec<Subscription>) {
        let num_subscriptions = self.hub.subscription_count() as u64;
        let counts = SubscriptionCounts {
            num_subscriptions,
            num_inserts: num_subscriptions,
            ..SubscriptionCounts::default()
        };
        let mut found = Vec::new();
        if list {
            for open in self.hub.connections_snapshot(true) {
                let account = open.account.clone();
                found.extend(open.subscription_list.into_iter().map(|one| subscription(one, &account)));
            }
        }
        (counts, found)
    }

    fn accounts(&self) -> Vec<Account> {
        let accounts = self.hub.accounts().into_iter();
        let view = |account: Arc<weir_hub::Account>| Account {
            name: account.name().to_owned(),
            jetstream: self.jetstream.get().is_some_and(|js| js.serves(account.name())),
            connections: account.connection_count() as u64,
            total_connections: account.connection_count() as u64,
            subscriptions: account.subscription_count() as u64,
            ..Account::default()
        };
        accounts.map(view).collect()
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

fn connection(snapshot: ConnectionSnapshot) -> Connection {
    let account = snapshot.account;
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
        authorized_user: snapshot.authorized_user,
        subscriptions: list.map(|one| subscription(one, &account)).collect(),
        account,
    }
}

fn route(snapshot: RouteSnapshot, subscriptions: bool) -> Route {
    let list = if subscriptions { snapshot.subscription_list } else { Vec::new() };
    let named = |subject| Subscription { subject, cid: snapshot.id, ..Subscription::default() };
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
    }
}

fn subscription(snapshot: SubscriptionSnapshot, account: &str) -> Subscription {
    Subscription {
        account: account.to_owned(),
        subject: snapshot.subject,
        queue: Some(snapshot.queue).filter(|queue| !queue.is_empty()),
        sid: snapshot.sid,
        msgs: snapshot.messages,
        max: snapshot.max,
        cid: snapshot.connection,
    }
}
