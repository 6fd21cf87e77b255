//! Carries out what the planners decided: orders to brokers, and deletions of pods. Each call is one step; what
//! comes next is decided anew from what is then there.
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::names::Names;
use super::scale;
use super::status::Blocked;
use super::storage;
use super::view::{PodView, View};
use crate::admin::{Admin, AdminError};
use crate::context::Context;
use crate::error::KubeError;

/// Most streams that a message names.
const STREAMS_NAMED_MAX: usize = 5;

/// Reaches the admin services of one Cluster.
pub struct Brokers<'a> {
    /// The Cluster's token.
    pub token: &'a str,
}

impl Brokers<'_> {
    /// The admin service of a pod; `None` while it has no address.
    pub fn admin(&self, pod: &PodView) -> Option<Result<Admin, AdminError>> {
        pod.ip.as_deref().map(|ip| Admin::new(&pod.name, ip, self.token))
    }

    fn leader(&self, view: &View) -> Result<Admin, Blocked> {
        let no_leader = || Blocked {
            reason: "NoLeader",
            message: "no meta leader is known, so that no broker can be taken out of the cluster".into(),
        };
        let pod = view.leader_pod().ok_or_else(no_leader)?;
        self.admin(pod).ok_or_else(no_leader)?.map_err(|error| failed(&error))
    }
}

fn failed(error: &AdminError) -> Blocked {
    Blocked { reason: "BrokerFailed", message: error.to_string() }
}

/// Takes the last broker out of the cluster, for good: only while it holds no replica of a stream. After this the
/// StatefulSet may be one smaller. Doing it again does no harm.
pub async fn take_out(
    context: &Context,
    names: &Names,
    brokers: &Brokers<'_>,
    view: &View,
    ordinal: i32,
) -> Result<(), Blocked> {
    let name = names.pod(ordinal);
    if !scale::survives(view, ordinal) {
        let message = format!("without {name}, too few of the others are ready to go on; waiting for them");
        return Err(Blocked { reason: "TooFewReady", message });
    }
    let leader = brokers.leader(view)?;
    let held = leader.replicas(&name).await.map_err(|error| failed(&error))?;
    if !held.is_empty() {
        let more = held.len().saturating_sub(STREAMS_NAMED_MAX);
        let mut streams: Vec<String> =
            held.iter().take(STREAMS_NAMED_MAX).map(|replica| replica.stream.clone()).collect();
        if more > 0 {
            streams.push(format!("{more} more"));
        }
        let message = format!(
            "{name} holds replicas of {}: lower their replicas or delete them, or set spec.replicas back",
            streams.join(", ")
        );
        return Err(Blocked { reason: "ReplicasHeld", message });
    }
    // What it leads goes to others first; a broker that does not answer leads nothing for long.
    if let Some(Ok(admin)) = view.pods.iter().find(|pod| pod.name == name).and_then(|pod| brokers.admin(pod))
    {
        match admin.transfer_leadership().await {
            Ok(kept) if kept.is_empty() => {}
            Ok(kept) => tracing::warn!(broker = name, ?kept, "leadership was not given away"),
            Err(error) => tracing::warn!(broker = name, %error, "leadership was not given away"),
        }
    }
    remove_member(brokers, view, &leader, &name).await?;
    storage::retire(context, names, ordinal).await.map_err(|error| Blocked {
        reason: "VolumeNotMarked",
        message: format!("{}: {error}", names.volume_claim(ordinal)),
    })
}

/// Removes a member and makes sure that it is none any more. `leader` may have moved since: then the next try
/// finds the new one.
async fn remove_member(
    brokers: &Brokers<'_>,
    view: &View,
    leader: &Admin,
    name: &str,
) -> Result<(), Blocked> {
    if view.meta.leader.as_deref() == Some(name) {
        return Err(Blocked {
            reason: "LeaderLeaving",
            message: format!("{name} leads the cluster; waiting for another broker to take over"),
        });
    }
    let removed = leader.remove_peer(name).await.map_err(|error| Blocked {
        reason: if error.is_refusal() { "ReplicasHeld" } else { "BrokerFailed" },
        message: error.to_string(),
    })?;
    let again = brokers.leader(view)?.status().await.map_err(|error| failed(&error))?;
    if again.members.iter().any(|member| member.name == name) || !removed {
        return Err(Blocked {
            reason: "NotRemoved",
            message: format!("{name} is still a member; trying again"),
        });
    }
    Ok(())
}

/// Removes members that have no pod any more.
pub async fn remove_ghosts(brokers: &Brokers<'_>, view: &View, ghosts: &[String]) -> Result<(), String> {
    for name in ghosts {
        let leader = brokers.leader(view).map_err(|blocked| blocked.message)?;
        remove_member(brokers, view, &leader, name)
            .await
            .map_err(|blocked| format!("{name} has no pod but is a member: {}", blocked.message))?;
    }
    Ok(())
}

/// Makes a broker give away what it leads, then deletes its pod.
pub async fn restart(
    context: &Context,
    names: &Names,
    brokers: &Brokers<'_>,
    pod: &PodView,
) -> Result<(), KubeError> {
    if let Some(Ok(admin)) = brokers.admin(pod) {
        match admin.transfer_leadership().await {
            Ok(kept) if kept.is_empty() => {}
            Ok(kept) => {
                tracing::warn!(pod = pod.name, ?kept, "restarts with leadership it could not give away")
            }
            Err(error) => tracing::warn!(pod = pod.name, %error, "restarts without giving leadership away"),
        }
    }
    delete_pod(context, names, pod).await
}

/// Deletes this very pod; a later one of the same name stays.
pub async fn delete_pod(context: &Context, names: &Names, pod: &PodView) -> Result<(), KubeError> {
    let api: Api<Pod> = context.api(&names.namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    context.metrics.writes.with_label_values(&["Pod", "delete"]).inc();
    match api.delete(&pod.name, &params).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}
