//! OCSP as the options ask for it: statuses that our certificates are shown with, questions about those of peers.
//! Not the formats and the handshakes (see the net room).

mod cache;
mod issuer;
mod monitor;
mod peer;
mod responder;
mod route_peer;
mod statuses;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};
use tracing::{debug, info, warn};
use weir_conf::{OcspCache, OcspMode, Options, TlsOptions};
use weir_net::{
    ocsp::{Certificate, Status},
    tls::{Revocation, Staple, own_chains},
};

use crate::system::{Command, System};
pub(crate) use cache::ResponseCache;
use monitor::Monitor;
use peer::ClientCheck;
use responder::Responder;
use route_peer::RouteCheck;
use statuses::{Known, Statuses};

const CLIENT: &str = "Client";
const ROUTER: &str = "Router";

/// Where peers that are refused are told of: the system account, once it runs.
pub(crate) type Events = Arc<OnceLock<Weak<System>>>;

/// What each port shows and asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revocations {
    pub(crate) clients: Revocation,
    pub(crate) websocket: Revocation,
    pub(crate) routes: Revocation,
}

impl Revocations {
    /// Some port asks about the certificates of its clients.
    pub(crate) fn asks_about_clients(&self) -> bool {
        self.clients.peers.is_some() || self.websocket.peers.is_some()
    }
}

/// What lasts from reload to reload.
#[derive(Clone)]
pub(crate) struct Lasting {
    events: Events,
    /// To the process.
    commands: mpsc::Sender<Command>,
    known: statuses::Memory,
    staples: Staples,
}

/// What is shown, by the kind of connection and the certificate's digest: it stays the same over reloads, so that
/// ports which still use an older set of options are shown fresh statuses as well.
type Staples = Arc<Mutex<HashMap<(&'static str, [u8; 32]), Weak<Staple>>>>;

impl Lasting {
    pub(crate) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self {
            events: Events::default(),
            commands,
            known: statuses::Memory::default(),
            staples: Staples::default(),
        }
    }

    fn staple(&self, kind: &'static str, leaf: &Certificate) -> Arc<Staple> {
        let mut all = self.staples.lock();
        all.retain(|_, staple| staple.strong_count() > 0);
        let kept = all.get(&(kind, leaf.digest())).and_then(Weak::upgrade);
        kept.unwrap_or_else(|| {
            let made = Arc::new(Staple::default());
            all.insert((kind, leaf.digest()), Arc::downgrade(&made));
            made
        })
    }

    /// From now on, where there is one.
    pub(crate) fn tell_events_to(&self, system: Option<&Arc<System>>) {
        if let Some(system) = system {
            // Set once, at the start.
            let _ = self.events.set(Arc::downgrade(system));
        }
    }
}

/// OCSP under one set of options.
pub(crate) struct Ocsp {
    pub(crate) revocations: Revocations,
    pub(crate) cache: Option<Arc<ResponseCache>>,
    statuses: Arc<Statuses>,
    monitors: Vec<Monitor>,
    commands: mpsc::Sender<Command>,
    tasks: Vec<JoinHandle<()>>,
}

impl Ocsp {
    /// Fetches what has to be shown. The error is what keeps the server from starting, or from taking over options.
    pub(crate) async fn prepare(options: &Options, lasting: &Lasting) -> Result<Self, String> {
        let responder = Arc::new(Responder::new());
        let urls = options.ocsp.as_ref().map(|ocsp| ocsp.override_urls.clone()).unwrap_or_default();
        let statuses = Arc::new(Statuses {
            responder: Arc::clone(&responder),
            directory: store_dir(options).map(|store| store.join("ocsp")),
            urls,
            known: Arc::clone(&lasting.known),
        });
        let mut monitors = Vec::new();
        let mut revocations = Revocations::default();
        let websocket = options.websocket.as_ref().filter(|websocket| websocket.port != 0);
        let cluster = options.cluster.as_ref().filter(|cluster| cluster.port != 0);
        let ports = [
            (CLIENT, options.tls.as_ref(), &mut revocations.clients),
            (CLIENT, websocket.and_then(|websocket| websocket.tls.as_ref()), &mut revocations.websocket),
            (ROUTER, cluster.and_then(|cluster| cluster.tls.as_ref()), &mut revocations.routes),
        ];
        let cache = response_cache(options);
        let asking = peer::Asking {
            responder,
            cache: Arc::clone(&cache),
            events: Arc::clone(&lasting.events),
            runtime: Handle::current(),
        };
        let asking = Arc::new(asking);
        for (kind, tls, revocation) in ports {
            let Some(tls) = tls else { continue };
            let mode = options.ocsp.as_ref().map(|ocsp| ocsp.mode);
            let made = staples(kind, tls, mode, &statuses, lasting).await?;
            revocation.staples =
                made.iter().map(|one| one.as_ref().map(|one| Arc::clone(&one.staple))).collect();
            if kind == ROUTER && made.iter().any(Option::is_some) {
                revocation.staple_wanted = Some(ROUTER);
                let (statuses, runtime) = (Arc::clone(&statuses), Handle::current());
                revocation.peers = Some(Arc::new(RouteCheck { statuses, runtime }));
            }
            monitors.extend(made.into_iter().flatten());
            if kind == CLIENT {
                ask(tls, revocation, &asking)?;
            }
        }
        let cache = revocations.asks_about_clients().then_some(cache);
        let commands = lasting.commands.clone();
        Ok(Self { revocations, cache, statuses, monitors, commands, tasks: Vec::new() })
    }

    /// Keeps the statuses fresh from now on.
    pub(crate) fn start(&mut self) {
        for monitor in std::mem::take(&mut self.monitors) {
            info!("OCSP Stapling enabled for {} connections", monitor.kind);
            let run = monitor.run(Arc::clone(&self.statuses), self.commands.clone());
            self.tasks.push(tokio::spawn(run));
        }
        if let Some(cache) = &self.cache {
            cache.start();
            info!("OCSP peer cache online, type [{}]", cache.kind());
            self.tasks.extend(cache.keep_saved());
        }
    }

    /// Ends what `start` began, and saves what is worth it.
    pub(crate) fn stop(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        if let Some(cache) = &self.cache {
            cache.stop();
        }
    }
}

fn store_dir(options: &Options) -> Option<&PathBuf> {
    let jetstream = options.jetstream.as_ref().and_then(|jetstream| jetstream.store_dir.as_ref());
    jetstream.or(options.store_dir.as_ref())
}

/// The cache of answers about peers; a local one where nothing is said of it, as in nats-server.
fn response_cache(options: &Options) -> Arc<ResponseCache> {
    let local = OcspCache::Local {
        local_store: "_rc_".into(),
        preserve_revoked: false,
        save_interval: Duration::from_secs(300),
    };
    Arc::new(ResponseCache::new(options.ocsp_cache.as_ref().unwrap_or(&local)))
}

/// Asks about clients where the block wants it.
fn ask(tls: &TlsOptions, revocation: &mut Revocation, asking: &Arc<peer::Asking>) -> Result<(), String> {
    let Some(options) = tls.ocsp_peer.as_ref().filter(|peer| peer.verify) else { return Ok(()) };
    debug!("Plugging TLS OCSP peer for [{CLIENT}]");
    if !tls.verify && !tls.verify_and_map {
        return Err("OCSP peer verification for client connections requires TLS verify (mTLS) to be enabled"
            .to_owned());
    }
    let check = ClientCheck { kind: CLIENT, options: options.clone(), asking: Arc::clone(asking) };
    revocation.peers = Some(Arc::new(check));
    Ok(())
}

/// What to do about one certificate.
struct Policy {
    staples: bool,
    stops_when_revoked: bool,
}

fn policy(mode: Option<OcspMode>, must_staple: bool) -> Policy {
    let (staples, stops_when_revoked) = match mode {
        Some(OcspMode::Never) => (false, false),
        Some(OcspMode::Always) => (true, true),
        Some(OcspMode::Must) => (must_staple, must_staple),
        Some(OcspMode::Auto) | None => (must_staple, false),
    };
    Policy { staples, stops_when_revoked }
}

/// For each certificate of a block its monitor, where its status has to be shown, with the first status.
async fn staples(
    kind: &'static str,
    tls: &TlsOptions,
    mode: Option<OcspMode>,
    statuses: &Statuses,
    lasting: &Lasting,
) -> Result<Vec<Option<Monitor>>, String> {
    let mut made = Vec::new();
    for (file, chain) in own_chains(tls)? {
        let file = file.display().to_string();
        let Some(own) = chain.first() else { continue };
        let leaf = Certificate::parse(own).map_err(|error| format!("error parsing certificate: {error}"))?;
        let policy = policy(mode, leaf.must_staple);
        if !policy.staples {
            if leaf.must_staple {
                warn!("Certificate at '{file}' has MustStaple but OCSP is disabled");
            }
            made.push(None);
            continue;
        }
        statuses.make_directory()?;
        let issuer = issuer::find(tls.ca_file.as_deref(), &leaf, &chain)?;
        let known = statuses.get(&leaf, &issuer).await;
        let known =
            known.map_err(|error| format!("bad OCSP status update for certificate at '{file}': {error}"))?;
        let status = known.response.status;
        if status != Status::Good && policy.stops_when_revoked {
            return Err(format!("found existing OCSP status for certificate at '{file}': {status}"));
        }
        let staple = lasting.staple(kind, &leaf);
        show(&staple, known);
        let stops_when_revoked = policy.stops_when_revoked;
        made.push(Some(Monitor { kind, file, leaf, issuer, staple, stops_when_revoked }));
    }
    Ok(made)
}

fn show(staple: &Staple, known: Known) {
    staple.set(known.raw, known.response.next_update);
}

/// The time since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment in seconds since 1970, as Go prints it; none is Go's zero.
fn moment(seconds: Option<u64>) -> String {
    let nanos = |seconds| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    seconds.map_or_else(
        || "0001-01-01T00:00:00Z".to_owned(),
        |seconds| weir_jsapi::time::Time::from_unix_nanos(nanos(seconds)).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_decide_by_what_the_certificate_promises() {
        let decided = |mode, must_staple| {
            let policy = policy(mode, must_staple);
            (policy.staples, policy.stops_when_revoked)
        };
        assert_eq!(decided(None, true), (true, false));
        assert_eq!(decided(None, false), (false, false));
        assert_eq!(decided(Some(OcspMode::Auto), true), (true, false));
        assert_eq!(decided(Some(OcspMode::Auto), false), (false, false));
        assert_eq!(decided(Some(OcspMode::Must), true), (true, true));
        assert_eq!(decided(Some(OcspMode::Must), false), (false, false));
        assert_eq!(decided(Some(OcspMode::Always), false), (true, true));
        assert_eq!(decided(Some(OcspMode::Never), true), (false, false));
    }

    #[test]
    fn moments_are_written_as_go_does() {
        assert_eq!(moment(Some(0)), "1970-01-01T00:00:00Z");
        assert_eq!(moment(None), "0001-01-01T00:00:00Z");
    }
}
