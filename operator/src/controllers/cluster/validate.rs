//! From a Cluster as written to one that can be built: defaults filled, amounts read. Pure.
//! What the API server's rules can refuse is refused there; here is what they cannot see.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use super::names::Names;
use crate::api::v1alpha1::{Amount, Cluster, ClusterSpec, REPLICAS_MAX};

/// Share of a volume that streams may fill when the spec sets none: a file system keeps some for itself, and the
/// journal needs room.
const FILE_STORE_PERCENT: u64 = 90;

/// A Cluster that can be built.
#[derive(Clone, Debug)]
pub struct ValidatedCluster {
    /// Names of all its objects.
    pub names: Names,
    /// Makes it the owner of what is built.
    pub owner: OwnerReference,
    /// The spec, for what needs no reading.
    pub spec: ClusterSpec,
    /// The image to run.
    pub image: String,
    /// Bytes of streams in memory on each broker.
    pub memory_store_bytes: u64,
    /// Bytes of streams on each volume.
    pub file_store_bytes: u64,
}

/// Why a Cluster cannot be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The object does not come from an API server.
    #[error("the object has no {0}")]
    Incomplete(&'static str),
    /// Out of range; the API server refuses it too.
    #[error("spec.replicas is {0}, it must be 1 to {REPLICAS_MAX}")]
    Replicas(i32),
    /// Not an amount.
    #[error("spec.{field} is \"{value}\", which is no amount")]
    Amount {
        /// Where it stands.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// Neither the spec, nor the running pods, nor the operator name an image.
    #[error("spec.image is not set and the operator has no default image")]
    NoImage,
}

fn bytes(field: &'static str, amount: &Amount) -> Result<u64, Invalid> {
    amount.bytes().ok_or_else(|| Invalid::Amount { field, value: amount.0.clone() })
}

/// Checks and completes a Cluster. `running_image` is what its StatefulSet already runs: without an image in the
/// spec that stays, so that a new operator with another default restarts nothing.
pub fn validate(
    cluster: &Cluster,
    running_image: Option<&str>,
    default_image: Option<&str>,
    domain: &str,
) -> Result<ValidatedCluster, Invalid> {
    let spec = &cluster.spec;
    if !(1..=REPLICAS_MAX).contains(&spec.replicas) {
        return Err(Invalid::Replicas(spec.replicas));
    }
    let volume_bytes = bytes("storage.size", &spec.storage.size)?;
    let file_store_bytes = match &spec.jetstream.max_file_store {
        Some(amount) => bytes("jetstream.maxFileStore", amount)?,
        None => volume_bytes / 100 * FILE_STORE_PERCENT,
    };
    let image = spec.image.as_deref().or(running_image).or(default_image).ok_or(Invalid::NoImage)?;
    Ok(ValidatedCluster {
        names: Names {
            cluster: cluster.name_any(),
            namespace: cluster.namespace().ok_or(Invalid::Incomplete("namespace"))?,
            domain: domain.to_owned(),
        },
        owner: cluster.controller_owner_ref(&()).ok_or(Invalid::Incomplete("uid"))?,
        image: image.to_owned(),
        memory_store_bytes: bytes("jetstream.maxMemoryStore", &spec.jetstream.max_memory_store)?,
        file_store_bytes,
        spec: spec.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::cluster::fixtures::cluster;

    #[test]
    fn nine_tenths_of_the_volume_are_for_streams_unless_set() {
        let mut demo = cluster("demo", 3);
        demo.spec.storage.size = Amount("10Gi".into());
        let valid = validate(&demo, None, Some("weir:1"), "cluster.local").unwrap();
        assert_eq!(valid.file_store_bytes, 9_663_676_380);
        demo.spec.jetstream.max_file_store = Some(Amount("1Gi".into()));
        assert_eq!(validate(&demo, None, Some("weir:1"), "x").unwrap().file_store_bytes, 1 << 30);
    }

    #[test]
    fn a_running_image_outlives_the_operators_default() {
        let mut demo = cluster("demo", 3);
        let image = |demo: &Cluster, running, default| {
            validate(demo, running, default, "cluster.local").map(|valid| valid.image)
        };
        assert_eq!(image(&demo, Some("weir:1"), Some("weir:2")).unwrap(), "weir:1");
        assert_eq!(image(&demo, None, Some("weir:2")).unwrap(), "weir:2");
        assert_eq!(image(&demo, None, None), Err(Invalid::NoImage));
        demo.spec.image = Some("weir:3".into());
        assert_eq!(image(&demo, Some("weir:1"), None).unwrap(), "weir:3");
    }

    #[test]
    fn what_the_rules_let_through_is_still_checked() {
        assert_eq!(validate(&cluster("demo", 0), None, Some("w"), "d").unwrap_err(), Invalid::Replicas(0));
        let mut demo = cluster("demo", 1);
        demo.spec.storage.size = Amount("much".into());
        assert!(validate(&demo, None, Some("w"), "d").unwrap_err().to_string().contains("storage.size"));
    }
}
