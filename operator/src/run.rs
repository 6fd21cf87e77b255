//! Runs the controllers: lease, watches, error policy, orderly end. What a controller does is its own matter.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt, future};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, ResourceExt};
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;

use crate::api::v1alpha1::{Cluster, ClusterRef, Consumer, Stream};
use crate::connections::Connections;
use crate::context::{Context, Settings};
use crate::controllers::cluster::names::{CLUSTER_LABEL, MANAGER};
use crate::controllers::jetstream::{BrokerContext, BrokerObject, failure_key};
use crate::controllers::{cluster, jetstream};
use crate::metrics::Metrics;

/// Objects of one kind worked on at a time.
const CONCURRENCY: u16 = 8;
/// Changes of one object within this time are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// How often connections to Clusters that are gone are closed.
const CONNECTION_CHECK: Duration = Duration::from_secs(60);
/// How long a lease holds without being renewed, and how much earlier it is renewed, in seconds.
const LEASE_S: u64 = 15;
const LEASE_GRACE_S: u64 = 5;
/// How long giving the lease back may take.
const LEASE_RELEASE: Duration = Duration::from_secs(5);
/// How often the API server is asked whether it knows our kinds yet.
const KINDS_CHECK: Duration = Duration::from_secs(2);

/// What `weir-operator run` is told.
pub struct Options {
    /// For the controllers.
    pub settings: Settings,
    /// Where `/healthz` and `/metrics` are served.
    pub listen: SocketAddr,
    /// Namespace and name of the lease; `None` works without one.
    pub lease: Option<(String, String)>,
}

/// Runs until TERM or INT, or until the lease is lost.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("no access to a Kubernetes API")?;
    let metrics = Metrics::new()?;
    let server = tokio::spawn(crate::http::serve(options.listen, metrics.clone()));
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        wait_for_signal().await;
        tracing::info!("ending");
        let _ = stop.send(true);
    });
    let context = Arc::new(Context::new(client.clone(), options.settings, metrics.clone()));
    let work = async {
        let (lost, lease) = match options.lease {
            Some((namespace, name)) => acquire(client, &namespace, &name, &context.settings.pod_name).await?,
            None => (None, None),
        };
        metrics.leader.set(1);
        wait_for_kinds(&context).await;
        tracing::info!("working");
        tokio::select! {
            () = controllers(context.clone(), stopped.clone()) => {}
            () = lease_lost(lost) => anyhow::bail!("the lease is lost: another operator may work now"),
        }
        // Its receiver is gone with the line above: the task gives the lease back, so that another need not wait.
        if let Some(lease) = lease {
            let _ = tokio::time::timeout(LEASE_RELEASE, lease).await;
        }
        Ok(())
    };
    let mut ended = stopped.clone();
    tokio::select! {
        result = work => result,
        result = server => result.context("the HTTP server ended").and_then(|result| result),
        // Between TERM and the lease nothing is under way; once working, the controllers end by themselves.
        _ = async {
            let _ = ended.wait_for(|ended| *ended).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
        } => Ok(()),
    }
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        }
        // Without handlers, the signals end the process by themselves.
        _ => future::pending().await,
    }
}

type Held = tokio::task::JoinHandle<kube_lease_manager::Result<kube_lease_manager::LeaseManager>>;

/// Waits for the lease. Dropping the receiver gives it back.
async fn acquire(
    client: Client,
    namespace: &str,
    name: &str,
    identity: &str,
) -> anyhow::Result<(Option<watch::Receiver<bool>>, Option<Held>)> {
    let manager = LeaseManagerBuilder::new(client, name)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(LEASE_S)
        .with_grace(LEASE_GRACE_S)
        .with_field_manager(MANAGER)
        .build()
        .await
        .context("cannot use the lease")?;
    tracing::info!(namespace, name, identity, "waiting for the lease");
    let (mut held, task) = manager.watch().await;
    held.wait_for(|held| *held).await.context("the lease task ended")?;
    Ok((Some(held), Some(task)))
}

async fn lease_lost(held: Option<watch::Receiver<bool>>) {
    match held {
        Some(mut held) => {
            let _ = held.wait_for(|held| !*held).await;
        }
        None => future::pending().await,
    }
}

/// A chart's CRDs and its operator are created at the same time: wait for the kinds to be served.
async fn wait_for_kinds(context: &Context) {
    let one = ListParams::default().limit(1);
    loop {
        let (clusters, streams, consumers): (Api<Cluster>, Api<Stream>, Api<Consumer>) =
            (context.watched(), context.watched(), context.watched());
        match tokio::try_join!(clusters.list(&one), streams.list(&one), consumers.list(&one)) {
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "the kinds are not served yet"),
        }
        tokio::time::sleep(KINDS_CHECK).await;
    }
}

fn config() -> Config {
    Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE)
}

async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn controllers(context: Arc<Context>, stopped: watch::Receiver<bool>) {
    let all = watcher::Config::default;
    let ours = || all().labels(CLUSTER_LABEL);
    let of_cluster = |pod: Pod| {
        let name = pod.labels().get(CLUSTER_LABEL).cloned();
        name.map(|name| ObjectRef::<Cluster>::new(&name).within(&pod.namespace().unwrap_or_default()))
    };
    let controller = Controller::new(context.watched::<Cluster>(), all())
        .with_config(config())
        .owns(context.watched::<StatefulSet>(), ours())
        .owns(context.watched::<Service>(), ours())
        .owns(context.watched::<ConfigMap>(), ours())
        .owns(context.watched::<PodDisruptionBudget>(), ours())
        .watches(context.watched::<Pod>(), ours(), of_cluster)
        .graceful_shutdown_on(until(stopped.clone()));
    let clusters = controller.store();
    let for_clusters = controller
        .run(
            |cluster, context| {
                timed("Cluster".to_owned(), context.metrics.clone(), cluster::reconcile(cluster, context))
            },
            |cluster, error, context: Arc<Context>| {
                let namespace = cluster.namespace().unwrap_or_default();
                let key = format!("Cluster/{namespace}/{}", cluster.name_any());
                failed(&context, &key, error)
            },
            context.clone(),
        )
        .for_each({
            let context = context.clone();
            move |result| {
                succeeded(&context, "Cluster", result);
                future::ready(())
            }
        });
    let broker = Arc::new(BrokerContext { base: context.clone(), clusters: clusters.clone() });
    tokio::join!(
        for_clusters,
        objects::<Stream>(broker.clone(), stopped.clone(), |streams| streams),
        objects::<Consumer>(broker, stopped.clone(), |consumers| {
            let store = consumers.store();
            consumers.watches(context.watched::<Stream>(), all(), move |stream| consumers_of(&store, &stream))
        }),
        close_connections(context.clone(), clusters, stopped),
    );
}

/// The controller of one kind that lives in brokers. Looks again when its Cluster changes.
async fn objects<K>(
    context: Arc<BrokerContext>,
    stopped: watch::Receiver<bool>,
    more: impl FnOnce(Controller<K>) -> Controller<K>,
) where
    K: BrokerObject,
{
    let base = context.base.clone();
    let controller = Controller::new(base.watched::<K>(), watcher::Config::default()).with_config(config());
    let store = controller.store();
    more(controller)
        .watches(base.watched::<Cluster>(), watcher::Config::default(), move |cluster| {
            referring(&store, &cluster)
        })
        .graceful_shutdown_on(until(stopped))
        .run(
            |object, context: Arc<BrokerContext>| {
                let metrics = context.base.metrics.clone();
                timed(K::kind(&()).into_owned(), metrics, jetstream::reconcile(object, context))
            },
            |object, error, context: Arc<BrokerContext>| failed(&context.base, &failure_key(&*object), error),
            context,
        )
        .for_each(move |result| {
            succeeded(&base, &K::kind(&()), result);
            future::ready(())
        })
        .await;
}

/// Objects that refer to a Cluster.
fn referring<K: BrokerObject>(store: &Store<K>, cluster: &Cluster) -> Vec<ObjectRef<K>> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace());
    let refers = |object: &Arc<K>| {
        let reference = object.cluster_ref();
        reference.name == name && reference.namespace.clone().or_else(|| object.namespace()) == namespace
    };
    store
        .state()
        .iter()
        .filter(|object| refers(object))
        .map(|object| ObjectRef::from_obj(&**object))
        .collect()
}

/// Consumers of a Stream: those that waited for it need not wait longer.
fn consumers_of(store: &Store<Consumer>, stream: &Stream) -> Vec<ObjectRef<Consumer>> {
    let cluster = |reference: &ClusterRef, own: Option<String>| {
        (reference.name.clone(), reference.namespace.clone().or(own))
    };
    let (name, held_by) = (stream.stream_name(), cluster(stream.cluster_ref(), stream.namespace()));
    let of_it = |consumer: &Arc<Consumer>| {
        consumer.spec.stream_name == name && cluster(consumer.cluster_ref(), consumer.namespace()) == held_by
    };
    store.state().iter().filter(|one| of_it(one)).map(|one| ObjectRef::from_obj(&**one)).collect()
}

/// Measures a reconcile.
async fn timed<E>(
    kind: String,
    metrics: Metrics,
    work: impl Future<Output = Result<Action, E>>,
) -> Result<Action, E> {
    let begun = Instant::now();
    let result = work.await;
    let word = if result.is_ok() { "ok" } else { "error" };
    metrics.reconciles.with_label_values(&[kind.as_str(), word]).inc();
    metrics.reconcile_seconds.with_label_values(&[kind.as_str()]).observe(begun.elapsed().as_secs_f64());
    result
}

fn failed(context: &Context, key: &str, error: &dyn std::error::Error) -> Action {
    let wait = context.backoff(key, &error.to_string());
    tracing::warn!(object = key, %error, retry_s = wait.as_secs(), "not there yet");
    Action::requeue(wait)
}

fn succeeded<K, E, Q>(
    context: &Context,
    kind: &str,
    result: Result<(ObjectRef<K>, Action), kube::runtime::controller::Error<E, Q>>,
) where
    K: kube::Resource<DynamicType = ()>,
    E: std::error::Error,
    Q: std::error::Error,
{
    match result {
        Ok((object, _)) => {
            let namespace = object.namespace.unwrap_or_default();
            context.forget_failures(&format!("{kind}/{namespace}/{}", object.name));
        }
        // Told already, with the object's name.
        Err(kube::runtime::controller::Error::ReconcilerFailed(..)) => {}
        // The object went while it waited for its turn.
        Err(kube::runtime::controller::Error::ObjectNotFound(_)) => {}
        Err(error) => tracing::warn!(kind, %error, "watching"),
    }
}

async fn close_connections(context: Arc<Context>, clusters: Store<Cluster>, stopped: watch::Receiver<bool>) {
    let check = async {
        loop {
            tokio::time::sleep(CONNECTION_CHECK).await;
            let alive: Vec<String> =
                clusters.state().iter().map(|cluster| Connections::key_of(cluster)).collect();
            context.connections.retain(|key| alive.iter().any(|other| other == key));
        }
    };
    tokio::select! { () = check => {}, () = until(stopped) => {} }
}
