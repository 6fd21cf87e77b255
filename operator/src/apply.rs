//! Server-side apply that writes only when something differs, and status writes of the same kind.
//! Not the deletion of what is no longer wanted: each controller knows its own.
use std::fmt::Debug;
use std::fmt::Write;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::controllers::cluster::names::MANAGER;
use crate::error::KubeError;

/// Annotation with the hash of what was applied last: shows that a field was taken out of it.
const HASH_ANNOTATION: &str = "weir.dev/applied";
/// Field manager of statuses.
const STATUS_MANAGER: &str = "weir-operator-status";

/// A write that the API server refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {kind} {name}: {source}")]
pub struct ApplyError {
    verb: &'static str,
    kind: String,
    name: String,
    source: KubeError,
}

impl ApplyError {
    fn new<K: Resource<DynamicType = ()>>(verb: &'static str, name: &str, source: kube::Error) -> Self {
        Self { verb, kind: K::kind(&()).into_owned(), name: name.to_owned(), source: source.into() }
    }
}

/// Makes an object what `desired` says, and returns what is there afterwards. Writes nothing when it is that already.
pub async fn apply<K>(context: &Context, mut desired: K) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let name = desired.name_any();
    let namespace = desired.namespace().unwrap_or_default();
    let api: Api<K> = context.api(&namespace);
    let hash = hash_of(&desired);
    desired.annotations_mut().insert(HASH_ANNOTATION.to_owned(), hash.clone());
    let live = api.get_opt(&name).await.map_err(|error| ApplyError::new::<K>("get", &name, error))?;
    let key = format!("{}/{namespace}/{name}", K::kind(&()));
    if let Some(live) = live {
        let same = covers(&to_value(&live), &to_value(&desired));
        // Where the API server rewrites a value (1000m becomes 1), comparing never succeeds; but then nothing has
        // changed as long as the version is the one our own write gave.
        let ours = Some((hash.clone(), live.resource_version().unwrap_or_default()));
        if same || context.applied.lock().get(&key).cloned() == ours {
            return Ok(live);
        }
    }
    let params = PatchParams::apply(MANAGER).force();
    let written = api
        .patch(&name, &params, &Patch::Apply(&desired))
        .await
        .map_err(|error| ApplyError::new::<K>("apply", &name, error))?;
    context.metrics.writes.with_label_values(&[&*K::kind(&()), "apply"]).inc();
    tracing::info!(kind = %K::kind(&()), namespace, name, "applied");
    context.applied.lock().insert(key, (hash, written.resource_version().unwrap_or_default()));
    Ok(written)
}

/// Writes a status when it differs from `before`.
pub async fn write_status<K, S>(
    context: &Context,
    object: &K,
    before: Option<&S>,
    status: &S,
) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    S: Serialize + PartialEq,
{
    if before == Some(status) {
        return Ok(());
    }
    let name = object.name_any();
    let api: Api<K> = context.api(&object.namespace().unwrap_or_default());
    let patch = serde_json::json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status,
    });
    context.metrics.writes.with_label_values(&[&*K::kind(&()), "status"]).inc();
    match api.patch_status(&name, &PatchParams::apply(STATUS_MANAGER).force(), &Patch::Apply(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(ApplyError::new::<K>("write the status of", &name, error)),
    }
}

fn to_value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn hash_of(object: &impl Serialize) -> String {
    let digest = Sha256::digest(to_value(object).to_string());
    digest[..8].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether everything in `desired` is in `live`, with the same value.
fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, wanted)| {
            live.get(key).map_or_else(|| wanted.is_null(), |present| covers(present, wanted))
        }),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(present, wanted)| covers(present, wanted))
        }
        _ => live == desired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_of_the_api_server_are_no_difference_but_changes_are() {
        let desired = json!({ "spec": { "ports": [{ "name": "a", "port": 1 }], "type": "ClusterIP" } });
        let mut live = json!({ "spec": { "ports": [{ "name": "a", "port": 1, "protocol": "TCP" }], "type": "ClusterIP", "clusterIP": "x" }, "status": {} });
        assert!(covers(&live, &desired));
        live["spec"]["ports"][0]["port"] = json!(2);
        assert!(!covers(&live, &desired), "a changed value");
        live["spec"]["ports"] = json!([]);
        assert!(!covers(&live, &desired), "a removed element");
        assert!(!covers(&json!({}), &desired), "nothing at all");
    }

    #[test]
    fn taking_a_field_out_changes_the_hash() {
        assert_ne!(hash_of(&json!({ "a": 1, "b": 2 })), hash_of(&json!({ "a": 1 })));
    }
}
