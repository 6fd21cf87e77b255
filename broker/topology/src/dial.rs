//! Reaching out to other servers: seeds for ever, servers named by gossip for a while, until each has all its
//! connections. Not what happens on them.

use crate::address::RouteUrl;
use crate::gossip::MODE_DEFAULT;
use crate::remote::Link;
use crate::resolve::resolve;
use crate::session::{self, Role};
use crate::topology::{SeedKnown, Topology};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing::{debug, error};

/// How long a TCP connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a server named by gossip is tried when nothing is configured.
const IMPLICIT_ATTEMPTS: u32 = 10;
/// The pause between those.
const IMPLICIT_PAUSE: Duration = Duration::from_secs(1);
/// How long to leave a place free that the other side is likely to fill, since it began the other connections.
const YIELD_PAUSE: Duration = Duration::from_millis(1500);
/// How many servers named by gossip are dialled at once.
const MAX_IMPLICIT: usize = 256;

/// What came of dialling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It became a route.
    Connected(String),
    /// That server has all its connections, or closed this one since it has another for the place.
    Duplicate(String),
    /// It is this server.
    Itself,
}

/// Where to keep up connections.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: RouteUrl,
    /// The account the connection is for alone; empty for the pool.
    pub(crate) account: String,
    /// Whether it is a seed.
    pub(crate) configured: bool,
    /// Known from the beginning when gossip named it.
    pub(crate) server_id: Option<String>,
    /// What INFO shall say of gossip about this server.
    pub(crate) gossip_mode: i64,
}

impl Topology {
    /// Keeps up connections to seeds: a pool each, and one for each of the accounts.
    pub(crate) fn follow_seeds(self: &Arc<Self>, seeds: &[RouteUrl], accounts: &[String]) {
        self.follow_accounts(seeds, &[String::new()]);
        self.follow_accounts(seeds, accounts);
    }

    /// Keeps up a connection to each seed for each of the accounts.
    pub(crate) fn follow_accounts(self: &Arc<Self>, seeds: &[RouteUrl], accounts: &[String]) {
        for (url, account) in seeds.iter().flat_map(|url| accounts.iter().map(move |account| (url, account)))
        {
            let target = Target {
                url: url.clone(),
                account: account.clone(),
                configured: true,
                server_id: None,
                gossip_mode: MODE_DEFAULT,
            };
            tokio::spawn(Arc::clone(self).follow(target));
        }
    }

    /// Keeps up connections to a server that gossip named, for a while after it is gone.
    pub(crate) fn dial_implicit(self: &Arc<Self>, target: Target) {
        let Some(id) = target.server_id.clone() else { return };
        let mut implicit = self.implicit.lock();
        if *self.stopping.borrow() || implicit.len() >= MAX_IMPLICIT || !implicit.insert(id.clone()) {
            return;
        }
        drop(implicit);
        for account in self.pinned.load().iter() {
            tokio::spawn(Arc::clone(self).follow(Target { account: account.clone(), ..target.clone() }));
        }
        let topology = Arc::clone(self);
        tokio::spawn(async move {
            Arc::clone(&topology).follow(target).await;
            topology.implicit.lock().remove(&id);
        });
    }

    async fn follow(self: Arc<Self>, target: Target) {
        let mut stopping = self.stopping.subscribe();
        let mut changes = self.changes();
        let mut failures = 0u32;
        let mut was_reached = false;
        loop {
            changes.borrow_and_update();
            if !self.is_wanted(&target, failures) {
                return;
            }
            let next = match self.next_step(&target) {
                Next::Stop => return,
                Next::Wait => {
                    failures = 0;
                    tokio::select! {
                        _ = changes.changed() => continue,
                        _ = stopping.wait_for(|stopping| *stopping) => return,
                    }
                }
                Next::Yield => YIELD_PAUSE,
                Next::Dial => match self.dial(&target).await {
                    Ok(Outcome::Itself) => {
                        self.note_seed(&target, SeedKnown::Itself);
                        continue;
                    }
                    Ok(Outcome::Connected(id)) => {
                        (failures, was_reached) = (0, true);
                        self.note_seed(&target, SeedKnown::Server(id));
                        continue;
                    }
                    Ok(Outcome::Duplicate(id)) => {
                        self.note_seed(&target, SeedKnown::Server(id));
                        self.pause_after(0, &target)
                    }
                    Err(reason) => {
                        failures += 1;
                        self.report(failures, was_reached, &reason);
                        self.note_seed(&target, SeedKnown::Unresolved);
                        self.pause_after(failures, &target)
                    }
                },
            };
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    /// Whether the configuration, or patience, still asks for it.
    fn is_wanted(&self, target: &Target, failures: u32) -> bool {
        let options = self.options();
        if !target.account.is_empty() && !self.is_pinned(&target.account) {
            return false;
        }
        if target.configured {
            return options.seeds.contains(&target.url);
        }
        let attempts =
            if options.connect_retries > 0 { options.connect_retries + 1 } else { IMPLICIT_ATTEMPTS };
        failures < attempts
    }

    fn next_step(&self, target: &Target) -> Next {
        let known = match self.seed(target) {
            SeedKnown::Itself => return Next::Stop,
            SeedKnown::Unresolved => None,
            SeedKnown::Server(id) => self.remotes.read().get(&id).cloned(),
        };
        let Some(remote) = known else {
            // A connection for one account comes after the pool's first.
            return if target.account.is_empty() { Next::Dial } else { self.wait_for_pool(target) };
        };
        let places = remote.places.read();
        let is_whole = if target.account.is_empty() {
            !places.has_free()
        } else {
            places.no_pool() || places.has_dedicated(&target.account) || places.pooled().next().is_none()
        };
        if is_whole {
            return Next::Wait;
        }
        let theirs = places.pooled().find(|link| !link.solicited);
        let is_recent = |link: &Arc<Link>| {
            let age = crate::topology::now().as_nanos().saturating_sub(link.started.as_nanos());
            u128::from(age) < YIELD_PAUSE.as_nanos()
        };
        match theirs {
            Some(link) if is_recent(link) || !remote.is_confirmed() => Next::Yield,
            _ => Next::Dial,
        }
    }

    /// Gossip's targets are given up together with the pool.
    fn wait_for_pool(&self, target: &Target) -> Next {
        let is_given_up = !target.configured
            && target.server_id.as_ref().is_some_and(|id| !self.implicit.lock().contains(id));
        if is_given_up { Next::Stop } else { Next::Wait }
    }

    fn seed(&self, target: &Target) -> SeedKnown {
        if let Some(id) = &target.server_id {
            return SeedKnown::Server(id.clone());
        }
        let seeds = self.seeds.lock();
        let known = seeds.iter().find(|(url, _)| *url == target.url);
        known.map_or(SeedKnown::Unresolved, |(_, known)| known.clone())
    }

    fn note_seed(&self, target: &Target, known: SeedKnown) {
        if !target.configured || (known == SeedKnown::Unresolved && !target.account.is_empty()) {
            return;
        }
        let mut seeds = self.seeds.lock();
        let Some(seed) = seeds.iter_mut().find(|(url, _)| *url == target.url) else { return };
        if seed.1 != known {
            seed.1 = known;
            drop(seeds);
            self.note_change();
        }
    }

    fn report(&self, failures: u32, was_reached: bool, reason: &str) {
        let options = self.options();
        let every = if was_reached { options.reconnect_error_reports } else { options.connect_error_reports };
        if failures == 1 || u64::from(failures).is_multiple_of(every.max(1)) {
            error!("Error trying to connect to route (attempt {failures}): {reason}");
        } else {
            debug!("Error trying to connect to route (attempt {failures}): {reason}");
        }
    }

    /// Doubles up to the maximum, and differs between servers and targets so that two do not dial in step for ever.
    fn pause_after(&self, failures: u32, target: &Target) -> Duration {
        let options = self.options();
        let base = options.reconnect_delay * 2u32.saturating_pow(failures.min(12));
        let base = if target.configured { base.min(options.max_reconnect_delay) } else { IMPLICIT_PAUSE };
        let own = &self.hub.options().server_id;
        let spread = own
            .bytes()
            .chain(target.account.bytes())
            .fold(u64::from(target.url.port), |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        base + Duration::from_millis(spread.wrapping_add(u64::from(failures) * 37) % 100)
    }

    /// Tries all addresses of the target until one answers.
    async fn dial(self: &Arc<Self>, target: &Target) -> Result<Outcome, String> {
        let addresses = resolve(&target.url.host, target.url.port).await?;
        let mut last = format!("lookup for host \"{}\": no such host", target.url.host);
        for address in addresses {
            debug!("Trying to connect to route on {} ({address})", target.url.authority());
            let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(problem)) => {
                    last = format!("dial tcp {address}: connect: {}", words(&problem));
                    continue;
                }
                Err(_) => {
                    last = format!("dial tcp {address}: i/o timeout");
                    continue;
                }
            };
            let (sender, outcome) = oneshot::channel();
            let role = Role::Solicited { target: target.clone(), outcome: Some(sender) };
            tokio::spawn(session::run(Arc::clone(self), stream, address, role));
            match outcome.await {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(reason)) => last = format!("{address}: {reason}"),
                Err(_) => last = format!("{address}: the connection was closed"),
            }
        }
        Err(last)
    }
}

enum Next {
    Dial,
    /// Give the other side time to dial.
    Yield,
    /// Nothing to do until something changes.
    Wait,
    Stop,
}

/// The system's words for a failure, as Go writes them.
fn words(problem: &std::io::Error) -> String {
    match problem.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        _ => problem.to_string(),
    }
}
