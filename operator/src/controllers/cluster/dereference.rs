//! Reads what a Cluster's reconcile needs, and nothing else does I/O for reading.
use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::names::Names;
use super::steps::Brokers;
use super::storage;
use super::view::PodView;
use crate::admin::api::StatusReply;
use crate::context::Context;
use crate::error::KubeError;

/// What Kubernetes has of a Cluster.
pub struct Observed {
    /// The StatefulSet.
    pub stateful_set: Option<StatefulSet>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Its volumes.
    pub claims: Vec<PersistentVolumeClaim>,
}

impl Observed {
    /// The image that the StatefulSet runs.
    pub fn image(&self) -> Option<&str> {
        let template = &self.stateful_set.as_ref()?.spec.as_ref()?.template;
        template.spec.as_ref()?.containers.first()?.image.as_deref()
    }
}

/// Reads it.
pub async fn dereference(context: &Context, names: &Names) -> Result<Observed, KubeError> {
    let sets: Api<StatefulSet> = context.api(&names.namespace);
    let pods: Api<Pod> = context.api(&names.namespace);
    let selected = ListParams::default().labels(&names.selector_text());
    let (stateful_set, pods, claims) = futures::try_join!(
        sets.get_opt(&names.cluster),
        pods.list(&selected),
        storage::list(context, names)
    )?;
    Ok(Observed { stateful_set, pods: pods.items, claims })
}

/// Asks every broker that has an address how it is. Those that do not answer are left out.
pub async fn ask_brokers(
    context: &Context,
    brokers: &Brokers<'_>,
    pods: &[Pod],
) -> BTreeMap<String, StatusReply> {
    let questions = pods.iter().map(|pod| async move {
        let view = PodView {
            name: pod.name_any(),
            ip: pod.status.as_ref().and_then(|status| status.pod_ip.clone()),
            ..PodView::default()
        };
        let admin = brokers.admin(&view)?;
        let answer = match admin {
            Ok(admin) => admin.status().await,
            Err(error) => Err(error),
        };
        let result = if answer.is_ok() { "ok" } else { "error" };
        context.metrics.broker_requests.with_label_values(&["status", result]).inc();
        answer
            .inspect_err(|error| tracing::debug!(pod = view.name, %error, "no word from the broker"))
            .ok()
            .map(|answer| (view.name, answer))
    });
    join_all(questions).await.into_iter().flatten().collect()
}
