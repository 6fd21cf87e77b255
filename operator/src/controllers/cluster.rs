//! The Cluster controller: dereference (I/O), validate, build (both pure), apply, one step of scaling and of rolling,
//! status. A step that fails is told in the status and does not keep the others from being done.
pub mod build;
pub mod credentials;
pub mod dereference;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod names;
pub mod rollout;
pub mod scale;
pub mod status;
pub mod steps;
pub mod storage;
pub mod validate;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};

use self::build::Credentials;
use self::dereference::Observed;
use self::names::Names;
use self::rollout::Roll;
use self::scale::Scale;
use self::status::Outcome;
use self::steps::Brokers;
use self::validate::ValidatedCluster;
use self::view::View;
use crate::api::v1alpha1::{Cluster, condition};
use crate::apply::{ApplyError, apply, write_status};
use crate::context::{Context, jitter};
use crate::error::KubeError;

/// How soon to look again while brokers are on their way: what they say is no Kubernetes event.
const MOVING: Duration = Duration::from_secs(2);
/// How soon to look again whether a blocked scale-down can go on.
const BLOCKED: Duration = Duration::from_secs(10);

/// Why a reconcile ended early; all other failures are in the status.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server could not be read.
    #[error("cannot read the cluster's objects: {0}")]
    Dereference(#[from] KubeError),
    /// The status could not be written.
    #[error(transparent)]
    Status(#[from] ApplyError),
    /// Steps failed; the status says which.
    #[error("{0}")]
    Problems(String),
}

/// Brings one Cluster closer to its spec.
pub async fn reconcile(cluster: Arc<Cluster>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    if cluster.metadata.deletion_timestamp.is_some() {
        // Everything is owned by the Cluster: Kubernetes removes it.
        return Ok(Action::await_change());
    }
    let names = Names {
        cluster: cluster.name_any(),
        namespace: cluster.namespace().unwrap_or_default(),
        domain: context.settings.cluster_domain.clone(),
    };
    let observed = dereference::dereference(&context, &names).await?;
    let default_image = context.settings.broker_image.as_deref();
    let valid = match validate::validate(&cluster, observed.image(), default_image, &names.domain) {
        Ok(valid) => valid,
        Err(invalid) => {
            let status = status::invalid(&cluster, &invalid.to_string(), Timestamp::now());
            write_status(&context, &*cluster, cluster.status.as_ref(), &status).await?;
            return Ok(Action::await_change());
        }
    };
    let mut pass = Pass { context: &context, cluster: &cluster, valid: &valid, outcome: Outcome::default() };
    let (view, roll) = Box::pin(pass.run(observed)).await;
    let outcome = pass.outcome;
    let status = status::status(&cluster, &valid, &view, &roll, &outcome, Timestamp::now());
    announce(&context, &cluster, &status).await;
    write_status(&context, &*cluster, cluster.status.as_ref(), &status).await?;
    if !outcome.problems.is_empty() {
        return Err(ReconcileError::Problems(outcome.problems.join("; ")));
    }
    let verdict = status::verdict(&view, &roll, &outcome);
    Ok(Action::requeue(match (verdict.reconciling, verdict.stalled) {
        (true, _) => MOVING,
        (_, true) => BLOCKED,
        _ => jitter(context.settings.drift_interval),
    }))
}

/// One reconcile under way.
struct Pass<'a> {
    context: &'a Context,
    cluster: &'a Cluster,
    valid: &'a ValidatedCluster,
    outcome: Outcome,
}

impl Pass<'_> {
    /// Notes a failed step.
    fn note<T, E: std::fmt::Display>(&mut self, step: Result<T, E>) -> Option<T> {
        step.map_err(|problem| {
            tracing::warn!(cluster = self.valid.names.cluster, %problem, "a step failed");
            self.outcome.problems.push(problem.to_string());
        })
        .ok()
    }

    async fn say(&self, type_: EventType, reason: &str, note: String) {
        tracing::info!(cluster = self.valid.names.cluster, reason, note);
        self.context.event(&self.cluster.object_ref(&()), type_, reason, note).await;
    }

    /// Does what can be done now, and returns what there is.
    async fn run(&mut self, observed: Observed) -> (View, Roll) {
        let (context, names) = (self.context, &self.valid.names);
        let wanted = self.valid.spec.replicas;
        self.outcome.resizing = storage::grow(context, self.valid, &observed.claims).await;
        let owned = storage::own(context, self.valid, &observed.claims).await;
        self.note(owned);
        let look = |set: Option<&StatefulSet>, answers| {
            view::view(names, wanted, set, &observed.pods, answers, Timestamp::now())
        };
        let current = observed.stateful_set.as_ref().and_then(|set| set.spec.as_ref()?.replicas).unwrap_or(0);
        let credentials = credentials::read_or_make(context, names).await;
        let Some(credentials) = self.note(credentials) else {
            return (look(observed.stateful_set.as_ref(), &Default::default()), Roll::Steady);
        };
        if !self.apply_parts(&credentials, wanted.max(current)).await {
            return (look(observed.stateful_set.as_ref(), &Default::default()), Roll::Steady);
        }
        let brokers = Brokers { token: &credentials.grpc_token };
        let answers = dereference::ask_brokers(context, &brokers, &observed.pods).await;
        let before = look(observed.stateful_set.as_ref(), &answers);
        let replicas = self.scale(&brokers, &before, &observed).await;
        let mut set = observed.stateful_set.clone();
        if replicas > 0 {
            let built = build::stateful_set(self.valid, replicas, set.as_ref());
            let applied = apply(context, built).await;
            set = self.note(applied).or(set);
        }
        let view = look(set.as_ref(), &answers);
        let removed = storage::remove_retired(context, self.valid, &view, &observed.claims).await;
        self.note(removed);
        let ghosts = scale::ghosts(&view, names);
        if !ghosts.is_empty() {
            let removed = steps::remove_ghosts(&brokers, &view, &ghosts).await;
            self.note(removed);
        }
        let roll = rollout::plan(&view);
        self.roll(&brokers, &roll).await;
        (view, roll)
    }

    /// Applies all but the StatefulSet. False when brokers could not start with what is there.
    async fn apply_parts(&mut self, credentials: &Credentials, brokers: i32) -> bool {
        let (context, valid) = (self.context, self.valid);
        let needed = [
            self.note(apply(context, build::service_account(valid)).await).is_some(),
            self.note(apply(context, build::config_map(valid)).await).is_some(),
            self.note(apply(context, build::app_secret(valid, credentials)).await).is_some(),
            self.note(apply(context, build::operator_secret(valid, credentials)).await).is_some(),
            self.note(apply(context, build::cluster_secret(valid, credentials, brokers)).await).is_some(),
            self.note(apply(context, build::headless_service(valid)).await).is_some(),
        ];
        self.note(apply(context, build::client_service(valid)).await);
        if valid.spec.disruption_budget.enabled {
            self.note(apply(context, build::disruption_budget(valid)).await);
        } else {
            let removed = self.remove_budget().await;
            self.note(removed);
        }
        needed.iter().all(|done| *done)
    }

    async fn remove_budget(&self) -> Result<(), KubeError> {
        let api: Api<PodDisruptionBudget> = self.context.api(&self.valid.names.namespace);
        let name = &self.valid.names.cluster;
        let ours = |budget: PodDisruptionBudget| {
            budget.labels().get(names::CLUSTER_LABEL).is_some_and(|cluster| cluster == name)
        };
        if api.get_opt(name).await?.is_some_and(ours) {
            self.context.metrics.writes.with_label_values(&["PodDisruptionBudget", "delete"]).inc();
            api.delete(name, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// Takes one step of scaling; returns how many brokers the StatefulSet is to have now.
    async fn scale(&mut self, brokers: &Brokers<'_>, view: &View, observed: &Observed) -> i32 {
        let (context, names) = (self.context, &self.valid.names);
        let retired = storage::retired(names, &observed.claims);
        match scale::plan(view, &retired) {
            Scale::Steady => view.current,
            Scale::Grow(to) => {
                if view.current > 0 {
                    self.say(
                        EventType::Normal,
                        "ScalingUp",
                        format!("from {} to {to} brokers", view.current),
                    )
                    .await;
                }
                to
            }
            Scale::ReplaceVolumes(ordinals) => {
                let note =
                    format!("volumes of brokers {ordinals:?}, which had left, are replaced by empty ones");
                self.say(EventType::Normal, "ReplacingVolumes", note).await;
                let replaced = storage::replace(context, names, &observed.claims, &ordinals).await;
                self.note(replaced);
                view.current
            }
            Scale::Shrink(leaving) => match steps::take_out(context, names, brokers, view, leaving).await {
                Ok(()) => {
                    let note = format!("{} left the cluster", names.pod(leaving));
                    self.say(EventType::Normal, "ScalingDown", note).await;
                    leaving
                }
                Err(blocked) => {
                    self.outcome.blocked = Some(blocked);
                    view.current
                }
            },
        }
    }

    /// Takes one step of a rolling change.
    async fn roll(&mut self, brokers: &Brokers<'_>, roll: &Roll) {
        let (context, names) = (self.context, &self.valid.names);
        match roll {
            Roll::Steady | Roll::Wait(_) => {}
            Roll::Replace(pods) => {
                for pod in pods {
                    self.say(EventType::Normal, "ReplacingPod", format!("{} does not run", pod.name)).await;
                    let deleted = steps::delete_pod(context, names, pod).await;
                    self.note(deleted);
                }
            }
            Roll::Restart(pod) => {
                self.say(EventType::Normal, "RestartingPod", format!("{} takes up the new spec", pod.name))
                    .await;
                let restarted = steps::restart(context, names, brokers, pod).await;
                self.note(restarted);
            }
        }
    }
}

/// Tells of conditions that changed, once.
async fn announce(context: &Context, cluster: &Cluster, status: &crate::api::v1alpha1::ClusterStatus) {
    let before = cluster.status.as_ref().map_or(&[][..], |status| &status.conditions);
    for type_ in [condition::READY, condition::SCALE_DOWN_BLOCKED] {
        let find = |list: &[crate::api::v1alpha1::StatusCondition]| {
            list.iter().find(|condition| condition.type_ == type_).cloned()
        };
        let (Some(new), old) = (find(&status.conditions), find(before)) else { continue };
        let changed = old.is_none_or(|old| old.reason != new.reason || old.status != new.status);
        let tell = match type_ {
            condition::SCALE_DOWN_BLOCKED => new.status == "True",
            _ => new.reason != "ScaleDownBlocked",
        };
        if !changed || !tell {
            continue;
        }
        let bad = matches!(new.reason.as_str(), "Degraded" | "Failing" | "NoLeader")
            || type_ == condition::SCALE_DOWN_BLOCKED;
        let kind = if bad { EventType::Warning } else { EventType::Normal };
        let reason = if type_ == condition::READY { new.reason.as_str() } else { "ScaleDownBlocked" };
        context.event(&cluster.object_ref(&()), kind, reason, new.message.clone()).await;
    }
}
