//! The volumes: growing them, marking those of brokers that left, removing them by policy.
//! Growing comes before everything else and needs no healthy broker: a full disk is cured by it.
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::names::Names;
use super::validate::ValidatedCluster;
use super::view::View;
use crate::api::v1alpha1::{Amount, RetentionPolicy};
use crate::context::Context;
use crate::error::KubeError;

/// Marks the volume of a broker that was removed from its cluster for good.
const RETIRED_ANNOTATION: &str = "weir.dev/retired";

/// The volume claims of a Cluster.
pub async fn list(context: &Context, names: &Names) -> Result<Vec<PersistentVolumeClaim>, kube::Error> {
    let api: Api<PersistentVolumeClaim> = context.api(&names.namespace);
    Ok(api.list(&ListParams::default().labels(&names.selector_text())).await?.items)
}

/// Number of the broker that a claim belongs to.
fn ordinal(names: &Names, claim: &PersistentVolumeClaim) -> Option<i32> {
    names.ordinal(claim.name_any().strip_prefix("data-")?)
}

/// Numbers whose volume belonged to a broker that left.
pub fn retired(names: &Names, claims: &[PersistentVolumeClaim]) -> BTreeSet<i32> {
    claims
        .iter()
        .filter(|claim| claim.annotations().contains_key(RETIRED_ANNOTATION))
        .filter_map(|claim| ordinal(names, claim))
        .collect()
}

/// Asks for larger volumes where the spec wants more than a claim does. Returns what is under way or refused, for the
/// status.
pub async fn grow(
    context: &Context,
    cluster: &ValidatedCluster,
    claims: &[PersistentVolumeClaim],
) -> Option<String> {
    let mut resizing = None;
    let wanted = &cluster.spec.storage.size;
    let api: Api<PersistentVolumeClaim> = context.api(&cluster.names.namespace);
    for claim in claims {
        let name = claim.name_any();
        let requested = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"))
            .and_then(|size| Amount(size.0.clone()).bytes());
        let capacity = claim
            .status
            .as_ref()
            .and_then(|status| status.capacity.as_ref()?.get("storage"))
            .and_then(|size| Amount(size.0.clone()).bytes());
        if requested < wanted.bytes() {
            let patch = json!({ "spec": { "resources": { "requests": { "storage": wanted.0 } } } });
            context.metrics.writes.with_label_values(&["PersistentVolumeClaim", "patch"]).inc();
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => resizing = Some(format!("{name} grows to {}", wanted.0)),
                Err(error) => {
                    resizing = Some(format!("{name} cannot grow: {}", KubeError::from(error)));
                }
            }
        } else if capacity.is_some() && capacity < wanted.bytes() && requested == wanted.bytes() {
            resizing = Some(format!("{name} is growing to {}", wanted.0));
        }
    }
    resizing
}

/// Makes the Cluster the owner of its volumes where they are to be deleted with it, and of none where they are not.
/// Bound ones only: changing a claim while the scheduler places its pod makes it start over, with the nodes of the
/// first try fixed and the pods no longer spread. (The StatefulSet's own retention policy does just that.)
pub async fn own(
    context: &Context,
    cluster: &ValidatedCluster,
    claims: &[PersistentVolumeClaim],
) -> Result<(), KubeError> {
    let api: Api<PersistentVolumeClaim> = context.api(&cluster.names.namespace);
    let wanted = cluster.spec.storage.when_deleted == RetentionPolicy::Delete;
    for claim in claims {
        let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let owned = claim.owner_references().iter().any(|owner| owner.uid == cluster.owner.uid);
        if !bound || owned == wanted || claim.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let mut owners: Vec<OwnerReference> = claim.owner_references().to_vec();
        owners.retain(|owner| owner.uid != cluster.owner.uid);
        if wanted {
            owners.push(OwnerReference {
                controller: None,
                block_owner_deletion: None,
                ..cluster.owner.clone()
            });
        }
        let patch =
            json!({ "metadata": { "ownerReferences": owners, "resourceVersion": claim.resource_version() } });
        context.metrics.writes.with_label_values(&["PersistentVolumeClaim", "patch"]).inc();
        api.patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    Ok(())
}

/// Marks the volume of a broker that has left.
pub async fn retire(context: &Context, names: &Names, ordinal: i32) -> Result<(), KubeError> {
    let api: Api<PersistentVolumeClaim> = context.api(&names.namespace);
    let patch = json!({ "metadata": { "annotations": { RETIRED_ANNOTATION: "true" } } });
    context.metrics.writes.with_label_values(&["PersistentVolumeClaim", "patch"]).inc();
    match api.patch(&names.volume_claim(ordinal), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}

/// Deletes the marked volume of a broker whose number comes back. It goes once no pod uses it any more.
pub async fn replace(
    context: &Context,
    names: &Names,
    claims: &[PersistentVolumeClaim],
    ordinals: &[i32],
) -> Result<(), KubeError> {
    for claim in claims {
        let stale = ordinal(names, claim).is_some_and(|number| ordinals.contains(&number));
        if stale && claim.metadata.deletion_timestamp.is_none() {
            delete(context, claim).await?;
        }
    }
    Ok(())
}

/// Deletes the marked volumes of brokers that are gone, where the spec says so.
pub async fn remove_retired(
    context: &Context,
    cluster: &ValidatedCluster,
    view: &View,
    claims: &[PersistentVolumeClaim],
) -> Result<(), KubeError> {
    if cluster.spec.storage.when_scaled != RetentionPolicy::Delete {
        return Ok(());
    }
    for claim in claims {
        let gone = claim.annotations().contains_key(RETIRED_ANNOTATION)
            && claim.metadata.deletion_timestamp.is_none()
            && ordinal(&cluster.names, claim).is_some_and(|number| {
                number >= view.current && view.pods.iter().all(|pod| pod.ordinal != number)
            });
        if gone {
            delete(context, claim).await?;
        }
    }
    Ok(())
}

async fn delete(context: &Context, claim: &PersistentVolumeClaim) -> Result<(), KubeError> {
    let api: Api<PersistentVolumeClaim> = context.api(&claim.namespace().unwrap_or_default());
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: claim.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    context.metrics.writes.with_label_values(&["PersistentVolumeClaim", "delete"]).inc();
    tracing::info!(claim = claim.name_any(), "deleting the volume of a broker that left");
    match api.delete(&claim.name_any(), &params).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}
