//! One controller for all kinds that live in a broker: Streams and Consumers. A kind says what it wants as JSON; this
//! says when to create, update, adopt, leave alone and delete.
//! The broker is asked before anything is written to it: a converged object causes no write anywhere.
pub mod api;
pub mod compare;
pub mod consumer;
pub mod stream;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use self::api::{JetStream, RequestError};
use self::compare::Owner;
use crate::api::v1alpha1::{Cluster, ClusterRef, condition};
use crate::apply::{ApplyError, write_status};
use crate::conditions::{Conditions, Verdict};
use crate::context::{Context, jitter};
use crate::error::KubeError;

/// Held while there may be something in a broker to delete.
pub const FINALIZER: &str = "weir.dev/jetstream";
/// Field manager of the finalizer alone.
const FINALIZER_MANAGER: &str = "weir-operator-finalizer";
/// How long a deletion waits for a broker that does not answer before the object goes anyway.
const DELETE_PATIENCE_S: i64 = 30;
/// How soon to look again whether what an object lives in is there.
const WAITING: Duration = Duration::from_secs(3);
/// How soon such a deletion is tried again.
const DELETE_RETRY: Duration = Duration::from_secs(3);

/// A configuration: keys and values of JetStream's JSON.
pub type Config = Map<String, Value>;

/// What a kind wants a broker to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// What the spec sets, or what has a fixed default.
    pub set: Config,
    /// What the broker puts where the spec sets nothing; null for nothing at all. Restored when the spec changed,
    /// never compared.
    pub defaults: Config,
}

/// What a spec says on how to treat what is in the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Take over what exists and nobody manages.
    pub adopt: bool,
    /// Leave it in the broker when the object goes.
    pub prevent_delete: bool,
    /// Never change it.
    pub prevent_update: bool,
}

/// A kind that lives in a broker.
pub trait BrokerObject:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its status.
    type Status: Serialize + PartialEq + Clone + Send + Sync;

    /// The Cluster it lives in.
    fn cluster_ref(&self) -> &ClusterRef;
    /// What the spec says on how to treat it.
    fn policy(&self) -> Policy;
    /// What the broker is to have; the error is a sentence for the status.
    fn wanted(&self) -> Result<Wanted, String>;
    /// `Stream ORDERS`, for people.
    fn title(&self) -> String;
    /// Subject that asks for its present state.
    fn info_subject(&self) -> String;
    /// Subject and body that create it.
    fn create_request(&self, config: &Config) -> (String, Value);
    /// Subject and body that change it.
    fn update_request(&self, config: &Config) -> (String, Value);
    /// Subject that deletes it.
    fn delete_subject(&self) -> String;
    /// Whether an error says that it is not there.
    fn is_missing(error: &RequestError) -> bool;
    /// Whether an error says that what it lives in is not there, and so neither is it.
    fn is_parent_missing(error: &RequestError) -> bool;
    /// Its present status.
    fn status(&self) -> Option<&Self::Status>;
    /// Conditions and observed generation of the present status.
    fn last(&self) -> (&[Condition], Option<i64>);
    /// A status with these conditions.
    fn new_status(&self, conditions: Vec<Condition>) -> Self::Status;
}

/// Why a reconcile ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Kubernetes refused a write.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Kubernetes refused the finalizer.
    #[error("cannot change the finalizer: {0}")]
    Finalizer(KubeError),
    /// The broker refused, or nobody answered; the status says which.
    #[error("{0}")]
    NotYet(String),
}

/// What a controller of broker objects needs.
pub struct BrokerContext {
    /// Shared by all controllers.
    pub base: Arc<Context>,
    /// The Clusters, as watched.
    pub clusters: Store<Cluster>,
}

impl BrokerContext {
    /// The Cluster that an object refers to.
    fn cluster(&self, object: &impl BrokerObject) -> Option<Arc<Cluster>> {
        let reference = object.cluster_ref();
        let own = object.namespace().unwrap_or_default();
        let namespace = reference.namespace.as_deref().unwrap_or(&own);
        self.clusters.get(&ObjectRef::new(&reference.name).within(namespace))
    }
}

/// Brings one object closer to its spec.
pub async fn reconcile<K: BrokerObject>(
    object: Arc<K>,
    context: Arc<BrokerContext>,
) -> Result<Action, ReconcileError> {
    let cluster = context.cluster(&*object);
    if object.meta().deletion_timestamp.is_some() {
        return delete(&*object, &context, cluster.as_deref()).await;
    }
    let verdict = match place(&*object, cluster.as_deref()) {
        Ok(cluster) => bring_about(&*object, &context, cluster).await?,
        Err(verdict) => verdict,
    };
    let base = &context.base;
    let (before, _) = object.last();
    let mut conditions = Conditions::new(before, object.meta().generation, Timestamp::now());
    conditions.verdict(&verdict);
    let conditions = conditions.finish();
    announce(base, &*object, &verdict).await;
    write_status(base, &*object, object.status(), &object.new_status(conditions)).await?;
    match verdict.reason {
        // These are watched too; looking by itself is only for what no event tells.
        "ClusterNotReady" | "StreamNotFound" => Ok(Action::requeue(jitter(WAITING))),
        "ClusterNotFound" | "ClusterNotAllowed" | "Invalid" => {
            Ok(Action::requeue(jitter(base.settings.drift_interval)))
        }
        _ if verdict.ready => Ok(Action::requeue(jitter(base.settings.drift_interval))),
        reason => Err(ReconcileError::NotYet(format!("{reason}: {}", verdict.message))),
    }
}

/// The Cluster to work with, or why there is none.
fn place<'a>(object: &impl BrokerObject, cluster: Option<&'a Cluster>) -> Result<&'a Cluster, Verdict> {
    let reference = object.cluster_ref();
    let own = object.namespace().unwrap_or_default();
    let namespace = reference.namespace.as_ref().unwrap_or(&own);
    let Some(cluster) = cluster else {
        let message = format!("there is no Cluster {} in namespace {namespace}", reference.name);
        return Err(Verdict::waiting("ClusterNotFound", message));
    };
    let allowed = &cluster.spec.allowed_namespaces;
    if *namespace != own && !allowed.iter().any(|name| name == "*" || *name == own) {
        let message =
            format!("Cluster {}/{} does not list {own} in allowedNamespaces", namespace, reference.name);
        return Err(Verdict::stalled("ClusterNotAllowed", message));
    }
    if cluster.metadata.deletion_timestamp.is_some() {
        let message = format!("Cluster {} is being deleted", reference.name);
        return Err(Verdict::stalled("ClusterNotFound", message));
    }
    if cluster.status.as_ref().is_none_or(|status| status.ready_replicas == 0) {
        let message = format!("Cluster {} has no broker that is ready", reference.name);
        return Err(Verdict::waiting("ClusterNotReady", message));
    }
    Ok(cluster)
}

/// Makes the broker have what the spec says.
async fn bring_about<K: BrokerObject>(
    object: &K,
    context: &BrokerContext,
    cluster: &Cluster,
) -> Result<Verdict, ReconcileError> {
    let wanted = match object.wanted() {
        Ok(wanted) => wanted,
        Err(message) => return Ok(Verdict::stalled("Invalid", message)),
    };
    let base = &context.base;
    let jetstream = match JetStream::connect(base, cluster).await {
        Ok(jetstream) => jetstream,
        Err(error) => return Ok(Verdict::waiting("ClusterNotReady", error.to_string())),
    };
    set_finalizer(base, object, true).await?;
    let owner = Owner::of(object);
    let outcome = match jetstream.request("info", &object.info_subject(), &json!({})).await {
        Ok(info) => align(object, base, &jetstream, &wanted, &owner, config_of(&info)).await,
        Err(error) if K::is_parent_missing(&error) => Err(error),
        Err(error) if K::is_missing(&error) => create(object, base, &jetstream, &wanted, &owner).await,
        Err(error) => Err(error),
    };
    Ok(outcome.unwrap_or_else(|error| refused::<K>(&error)))
}

/// The word on a request that failed.
fn refused<K: BrokerObject>(error: &RequestError) -> Verdict {
    match error {
        _ if K::is_parent_missing(error) => Verdict::waiting("StreamNotFound", error.to_string()),
        RequestError::Api { .. } => {
            Verdict { reconciling: true, ..Verdict::stalled("Refused", error.to_string()) }
        }
        _ => Verdict::waiting("ClusterNotReady", error.to_string()),
    }
}

fn config_of(info: &Value) -> Config {
    info.get("config").and_then(Value::as_object).cloned().unwrap_or_default()
}

async fn create<K: BrokerObject>(
    object: &K,
    context: &Context,
    jetstream: &JetStream<'_>,
    wanted: &Wanted,
    owner: &Owner,
) -> Result<Verdict, RequestError> {
    let (subject, body) = object.create_request(&owner.stamp(wanted.set.clone()));
    jetstream.request("create", &subject, &body).await?;
    let title = object.title();
    context.event(&object.object_ref(&()), EventType::Normal, "Created", format!("{title} created")).await;
    Ok(Verdict::ready(format!("{title} is as described")))
}

/// What exists is ours, free to adopt, or somebody else's; ours is changed where it differs.
async fn align<K: BrokerObject>(
    object: &K,
    context: &Context,
    jetstream: &JetStream<'_>,
    wanted: &Wanted,
    owner: &Owner,
    live: Config,
) -> Result<Verdict, RequestError> {
    let (title, policy) = (object.title(), object.policy());
    match Owner::in_config(&live) {
        Some(other) if other != *owner => {
            return Ok(Verdict::stalled("NotOurs", format!("{title} is managed by {other}")));
        }
        None if !policy.adopt => {
            let message = format!(
                "{title} exists already; set spec.adopt: true to take it over as it is described here"
            );
            return Ok(Verdict::stalled("NotOurs", message));
        }
        _ => {}
    }
    let set = owner.stamp(wanted.set.clone());
    let (_, observed_generation) = object.last();
    let spec_changed = observed_generation != object.meta().generation;
    let mut differs = compare::differences(&live, &set);
    if spec_changed {
        differs.extend(compare::differences(&live, &wanted.defaults));
    }
    if differs.is_empty() {
        return Ok(Verdict::ready(format!("{title} is as described")));
    }
    if policy.prevent_update {
        let message = format!("{title} differs in {}, and preventUpdate is set", differs.join(", "));
        return Ok(Verdict { ready: true, ..Verdict::stalled("UpdatePrevented", message) });
    }
    let mut config = compare::without_broker_metadata(live);
    if spec_changed {
        config.extend(wanted.defaults.clone());
    }
    config.extend(set.clone());
    config.retain(|_, value| !value.is_null());
    let (subject, body) = object.update_request(&config);
    let answer = jetstream.request("update", &subject, &body).await?;
    let left = compare::differences(&config_of(&answer), &set);
    if !left.is_empty() {
        let message = format!("{title} was updated, but the broker keeps its own {}", left.join(", "));
        return Ok(Verdict::stalled("NotTaken", message));
    }
    let (reason, why) = if spec_changed {
        ("Updated", "to the new spec")
    } else {
        ("DriftCorrected", "back, somebody else had changed it")
    };
    let note = format!("{title} put {why}: {}", differs.join(", "));
    context.event(&object.object_ref(&()), EventType::Normal, reason, note).await;
    Ok(Verdict::ready(format!("{title} is as described")))
}

/// Deletes what is in the broker, if it is ours, then lets the object go. Never waits for what cannot come: a Cluster
/// that is gone or going takes everything with it.
async fn delete<K: BrokerObject>(
    object: &K,
    context: &BrokerContext,
    cluster: Option<&Cluster>,
) -> Result<Action, ReconcileError> {
    let base = &context.base;
    if !object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::await_change());
    }
    let alive = cluster.filter(|cluster| cluster.metadata.deletion_timestamp.is_none());
    let allowed = alive.filter(|cluster| {
        place(object, Some(cluster)).map_or_else(|verdict| verdict.reason != "ClusterNotAllowed", |_| true)
    });
    if let Some(cluster) = allowed.filter(|_| !object.policy().prevent_delete)
        && let Err(error) = delete_in_broker(object, base, cluster).await
    {
        let since = object.meta().deletion_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        if Timestamp::now().as_second() - since < DELETE_PATIENCE_S {
            tracing::info!(object = object.title(), %error, "cannot delete yet");
            return Ok(Action::requeue(DELETE_RETRY));
        }
        let note = format!("{} may be left in the brokers: {error}", object.title());
        base.event(&object.object_ref(&()), EventType::Warning, "LeftBehind", note).await;
    }
    set_finalizer(base, object, false).await?;
    base.forget_failures(&failure_key(object));
    Ok(Action::await_change())
}

async fn delete_in_broker<K: BrokerObject>(
    object: &K,
    context: &Context,
    cluster: &Cluster,
) -> Result<(), RequestError> {
    let jetstream = JetStream::connect(context, cluster).await?;
    let gone = |error: &RequestError| K::is_missing(error) || K::is_parent_missing(error);
    match jetstream.request("info", &object.info_subject(), &json!({})).await {
        Ok(info) if Owner::in_config(&config_of(&info)) == Some(Owner::of(object)) => {}
        Ok(_) => return Ok(()),
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    }
    match jetstream.request("delete", &object.delete_subject(), &json!({})).await {
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Sets or removes the finalizer; other finalizers belong to others and stay.
async fn set_finalizer<K: BrokerObject>(
    context: &Context,
    object: &K,
    on: bool,
) -> Result<(), ReconcileError> {
    if object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) == on {
        return Ok(());
    }
    let finalizers: &[&str] = if on { &[FINALIZER] } else { &[] };
    // With the uid, an object that has gone meanwhile is not made again by this.
    let patch = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": { "finalizers": finalizers, "uid": object.uid() },
    });
    let api: Api<K> = context.api(&object.namespace().unwrap_or_default());
    context.metrics.writes.with_label_values(&[&*K::kind(&()), "finalizer"]).inc();
    match api
        .patch(&object.name_any(), &PatchParams::apply(FINALIZER_MANAGER).force(), &Patch::Apply(&patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if !on && (status.is_not_found() || status.is_conflict()) => Ok(()),
        Err(error) => Err(ReconcileError::Finalizer(error.into())),
    }
}

/// Tells of a Ready condition that changed, once.
async fn announce(context: &Context, object: &impl BrokerObject, verdict: &Verdict) {
    let same = object.last().0.iter().any(|last| {
        last.type_ == condition::READY && last.reason == verdict.reason && last.message == verdict.message
    });
    // Getting ready is told by what was done: Created, Updated, DriftCorrected.
    if same || verdict.reason == "Ready" {
        return;
    }
    let kind = if verdict.stalled { EventType::Warning } else { EventType::Normal };
    context.event(&object.object_ref(&()), kind, verdict.reason, verdict.message.clone()).await;
}

/// What failures of an object are counted under.
pub fn failure_key<K: BrokerObject>(object: &K) -> String {
    format!("{}/{}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Stream;
    use crate::controllers::cluster::fixtures::cluster;

    fn stream(namespace: &str, cluster_namespace: Option<&str>) -> Stream {
        let spec = json!({ "clusterRef": { "name": "demo", "namespace": cluster_namespace } });
        let mut stream = Stream::new("orders", serde_json::from_value(spec).unwrap());
        stream.metadata.namespace = Some(namespace.into());
        stream
    }

    fn reason(stream: &Stream, cluster: Option<&Cluster>) -> &'static str {
        place(stream, cluster).map_or_else(|verdict| verdict.reason, |_| "fine")
    }

    #[test]
    fn a_cluster_of_another_namespace_has_to_allow_it() {
        let mut demo = cluster("demo", 3);
        demo.status = Some(crate::api::v1alpha1::ClusterStatus { ready_replicas: 1, ..Default::default() });
        assert_eq!(reason(&stream("shop", None), Some(&demo)), "fine");
        assert_eq!(reason(&stream("other", Some("shop")), Some(&demo)), "ClusterNotAllowed");
        demo.spec.allowed_namespaces = vec!["other".into()];
        assert_eq!(reason(&stream("other", Some("shop")), Some(&demo)), "fine");
        demo.spec.allowed_namespaces = vec!["*".into()];
        assert_eq!(reason(&stream("third", Some("shop")), Some(&demo)), "fine");
    }

    #[test]
    fn without_a_serving_cluster_it_waits() {
        let mut demo = cluster("demo", 3);
        assert_eq!(reason(&stream("shop", None), None), "ClusterNotFound");
        assert_eq!(reason(&stream("shop", None), Some(&demo)), "ClusterNotReady");
        demo.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        assert_eq!(reason(&stream("shop", None), Some(&demo)), "ClusterNotFound");
    }

    #[test]
    fn errors_of_jetstream_are_told_with_code_and_text() {
        let error = RequestError::Api {
            code: 500,
            err_code: 10074,
            description: "replicas > 1 not supported in non-clustered mode".into(),
        };
        let verdict = refused::<Stream>(&error);
        assert_eq!(verdict.reason, "Refused");
        assert_eq!(
            verdict.message,
            "replicas > 1 not supported in non-clustered mode (JetStream error 10074)"
        );
        assert!(verdict.stalled);
    }
}
