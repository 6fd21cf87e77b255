//! What every reconcile needs: client, recorder, settings, counters. One for the whole process.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;

use crate::connections::Connections;
use crate::metrics::Metrics;

/// First wait after a failure.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest wait after failures.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Kubernetes refuses longer notes in events.
const NOTE_BYTES_MAX: usize = 1000;

/// What the command line sets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of brokers whose Cluster names none.
    pub broker_image: Option<String>,
    /// The only namespace to look at; `None` is all.
    pub watch_namespace: Option<String>,
    /// DNS domain of the Kubernetes cluster.
    pub cluster_domain: String,
    /// How often a converged object is compared with what the broker has.
    pub drift_interval: Duration,
    /// Who writes events.
    pub pod_name: String,
}

/// Shared by all controllers.
pub struct Context {
    /// Talks to the API server.
    pub client: Client,
    /// What the command line sets.
    pub settings: Settings,
    /// Counters of this process.
    pub metrics: Metrics,
    /// Connections to brokers.
    pub connections: Connections,
    /// What `apply` last wrote, and the resourceVersion it got: see there.
    pub applied: Mutex<HashMap<String, (String, String)>>,
    recorder: Recorder,
    failures: Mutex<HashMap<String, Failure>>,
}

/// The last failure of an object.
struct Failure {
    what: String,
    wait: Duration,
    since: Instant,
}

impl Context {
    /// A context for one process.
    pub fn new(client: Client, settings: Settings, metrics: Metrics) -> Self {
        let reporter =
            Reporter { controller: "weir-operator".into(), instance: Some(settings.pod_name.clone()) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            settings,
            metrics,
            connections: Connections::default(),
            applied: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// An API for one namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// An API for all that the operator looks at.
    pub fn watched<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.settings.watch_namespace {
            Some(namespace) => self.api(namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Tells people what happened to an object. Failing to is only logged.
    pub async fn event(&self, object: &ObjectReference, type_: EventType, reason: &str, note: String) {
        let mut note = note;
        if note.len() > NOTE_BYTES_MAX {
            let end = (0..=NOTE_BYTES_MAX).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
            note.truncate(end);
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            // Events that differ in it are not merged into one: each note is to be read.
            action: format!("Reconcile-{:016x}", hash_of(&note)),
            note: Some(note),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, object).await {
            tracing::warn!(reason, %error, "cannot publish an event");
        }
    }

    /// Says how long to wait after a failure: 1 s, doubled each time the wait was over, up to 60 s. Another failure
    /// than the last begins anew; a try before its time, because something changed, does not count.
    pub fn backoff(&self, key: &str, failure: &str) -> Duration {
        let mut failures = self.failures.lock();
        let now = Instant::now();
        let begin = || Failure { what: failure.to_owned(), wait: BACKOFF_MIN, since: now };
        match failures.get_mut(key).filter(|last| last.what == failure) {
            None => {
                failures.insert(key.to_owned(), begin());
                BACKOFF_MIN
            }
            Some(last) if now.duration_since(last.since) >= last.wait => {
                last.wait = (last.wait * 2).min(BACKOFF_MAX);
                last.since = now;
                last.wait
            }
            Some(last) => last.wait,
        }
    }

    /// The object is fine, or gone.
    pub fn forget_failures(&self, key: &str) {
        self.failures.lock().remove(key);
    }
}

fn hash_of(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Spreads a wait by up to a tenth either way, so that many objects do not wake together.
pub fn jitter(wait: Duration) -> Duration {
    let mut byte = [0u8; 1];
    // Without randomness the wait is simply exact.
    let _ = getrandom::fill(&mut byte);
    wait.mul_f64(0.9 + f64::from(byte[0]) / 255.0 * 0.2)
}
