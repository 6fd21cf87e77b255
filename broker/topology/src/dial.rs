//! Reaching out to other servers: seeds for ever, servers named by gossip for a while, and the rest of each pool.
//! Not what happens on the connection.

use crate::address::RouteUrl;
use crate::link::{self, Role};
use crate::remote::Remote;
use crate::resolve::resolve;
use crate::topology::{SeedKnown, Topology};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing::{debug, error};

/// How long a TCP connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a server named by gossip is tried.
const IMPLICIT_ATTEMPTS: u32 = 10;
/// The pause between those, and between attempts at the rest of a pool.
const PAUSE: Duration = Duration::from_secs(1);
/// How many servers named by gossip are dialled at once.
const MAX_IMPLICIT: usize = 256;
/// Every so many failed attempts at a seed are worth a line in the log.
const LOG_EVERY: u32 = 20;

/// What came of dialling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It became a route.
    Connected(String),
    /// That server is connected already.
    Duplicate(String),
    /// It is this server.
    Itself,
}

impl Topology {
    /// Keeps one seed connected for as long as this server runs.
    pub(crate) async fn follow_seed(self: Arc<Self>, at: usize) {
        let url = self.options.seeds[at].clone();
        let mut stopping = self.stopping.subscribe();
        let mut changes = self.changes();
        let mut failures = 0u32;
        loop {
            let known = self.seeds.lock()[at].1.clone();
            let is_fine = match &known {
                SeedKnown::Itself => return,
                SeedKnown::Server(id) => self.remotes.read().contains_key(id),
                SeedKnown::Unresolved => false,
            };
            if is_fine {
                failures = 0;
                tokio::select! {
                    _ = changes.changed() => continue,
                    _ = stopping.wait_for(|stopping| *stopping) => return,
                }
            }
            match self.dial(&url, true).await {
                Ok(Outcome::Itself) => self.note_seed(at, SeedKnown::Itself),
                Ok(Outcome::Connected(id) | Outcome::Duplicate(id)) => {
                    self.note_seed(at, SeedKnown::Server(id))
                }
                Err(reason) => {
                    failures += 1;
                    if failures % LOG_EVERY == 1 {
                        error!("Error trying to connect to route (attempt {failures}): {url}: {reason}");
                    }
                    if known != SeedKnown::Unresolved {
                        self.note_seed(at, SeedKnown::Unresolved);
                    }
                }
            }
            let pause = self.pause_after(failures, at);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    fn note_seed(&self, at: usize, known: SeedKnown) {
        let mut seeds = self.seeds.lock();
        if seeds[at].1 != known {
            seeds[at].1 = known;
            drop(seeds);
            self.note_change();
        }
    }

    /// Doubles up to the maximum, and differs between servers and seeds so that two do not dial in step for ever.
    fn pause_after(&self, failures: u32, at: usize) -> Duration {
        let options = &self.options;
        let base = options.reconnect_delay * 2u32.saturating_pow(failures.min(8));
        let spread = self
            .hub
            .options()
            .server_id
            .bytes()
            .fold(at as u64 + 1, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        base.min(options.max_reconnect_delay)
            + Duration::from_millis(spread.wrapping_add(u64::from(failures) * 37) % 100)
    }

    /// Tries all addresses of `url` until one answers.
    pub(crate) async fn dial(self: &Arc<Self>, url: &RouteUrl, configured: bool) -> Result<Outcome, String> {
        let addresses = resolve(&url.host, url.port).await?;
        let mut last = "the name has no address".to_owned();
        for address in addresses {
            debug!("Trying to connect to route on {url} ({address})");
            let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(problem)) => {
                    last = format!("{address}: {problem}");
                    continue;
                }
                Err(_) => {
                    last = format!("{address}: no answer");
                    continue;
                }
            };
            let (sender, outcome) = oneshot::channel();
            let role = Role::Solicited { url: url.clone(), configured, outcome: Some(sender) };
            tokio::spawn(link::run(Arc::clone(self), stream, address, role));
            match outcome.await {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(reason)) => last = format!("{address}: {reason}"),
                Err(_) => last = format!("{address}: the connection was closed"),
            }
        }
        Err(last)
    }

    /// Dials a server that gossip named, for a while.
    pub(crate) fn dial_implicit(self: &Arc<Self>, server_id: String, url: RouteUrl) {
        let mut implicit = self.implicit.lock();
        if *self.stopping.borrow() || implicit.len() >= MAX_IMPLICIT || !implicit.insert(server_id.clone()) {
            return;
        }
        drop(implicit);
        let topology = Arc::clone(self);
        tokio::spawn(async move {
            for _ in 0..IMPLICIT_ATTEMPTS {
                if *topology.stopping.borrow() || topology.remotes.read().contains_key(&server_id) {
                    break;
                }
                match topology.dial(&url, false).await {
                    Ok(_) => break,
                    Err(reason) => debug!("cannot reach {server_id} named by gossip: {reason}"),
                }
                tokio::time::sleep(PAUSE).await;
            }
            topology.implicit.lock().remove(&server_id);
        });
    }

    /// Completes the pool of a server that this one dialled.
    pub(crate) fn fill_pool(self: &Arc<Self>, remote: &Arc<Remote>, url: RouteUrl, configured: bool) {
        if remote.filling.swap(true, Ordering::AcqRel) {
            return;
        }
        let (topology, remote) = (Arc::clone(self), Arc::clone(remote));
        tokio::spawn(async move {
            while remote.free_index().is_some()
                && topology.is_connected(&remote)
                && !*topology.stopping.borrow()
            {
                match topology.dial(&url, configured).await {
                    Ok(Outcome::Connected(_)) => {}
                    Ok(Outcome::Duplicate(_) | Outcome::Itself) | Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
            remote.filling.store(false, Ordering::Release);
        });
    }

    fn is_connected(&self, remote: &Arc<Remote>) -> bool {
        self.remotes.read().get(&remote.id).is_some_and(|known| Arc::ptr_eq(known, remote))
    }
}
