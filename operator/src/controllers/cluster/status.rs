//! Says in a status what is there and what goes on. Pure.
use k8s_openapi::jiff::Timestamp;

use super::rollout::{Roll, STARTING_S};
use super::validate::ValidatedCluster;
use super::view::{PodView, View};
use crate::api::v1alpha1::{Cluster, ClusterStatus, condition};
use crate::conditions::{Conditions, Verdict};

/// Why a scale-down does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// One word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// What a reconcile did and could not do.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Steps that failed, one sentence each; the others were done.
    pub problems: Vec<String>,
    /// Why a scale-down does not go on.
    pub blocked: Option<Blocked>,
    /// What volumes are growing, or why they do not.
    pub resizing: Option<String>,
}

/// The word on the whole Cluster.
pub fn verdict(view: &View, roll: &Roll, outcome: &Outcome) -> Verdict {
    let View { wanted, current, .. } = *view;
    let ready = view.ready();
    let count = format!("{ready} of {wanted} brokers ready");
    if !outcome.problems.is_empty() {
        return Verdict::waiting("Failing", outcome.problems.join("; "));
    }
    if let Some(blocked) = &outcome.blocked {
        let message = blocked.message.clone();
        return Verdict { ready: ready >= current, ..Verdict::stalled("ScaleDownBlocked", message) };
    }
    if ready == 0 {
        return Verdict::waiting("Forming", count);
    }
    if current != wanted {
        return Verdict::waiting("Scaling", format!("{count}, on the way from {current} to {wanted}"));
    }
    match roll {
        Roll::Steady => {}
        Roll::Wait(why) => return Verdict::waiting("Restarting", format!("{count}; waiting: {why}")),
        Roll::Replace(_) | Roll::Restart(_) => return Verdict::waiting("Restarting", count),
    }
    if let Some(pod) = view.pods.iter().find(|pod| pod.terminating && pod.ordinal >= wanted) {
        return Verdict::waiting("Scaling", format!("{count}, {} is terminating", pod.name));
    }
    if ready < wanted {
        let starting = |pod: &PodView| !pod.terminating && (pod.ready || pod.age_s < STARTING_S);
        let all_young = view.missing().is_empty() && view.pods.iter().all(starting);
        return Verdict::waiting(if all_young { "Starting" } else { "Degraded" }, count);
    }
    if view.meta.known {
        if view.meta.leader.is_none() {
            return Verdict::waiting("NoLeader", format!("{count}, but no meta leader is known"));
        }
        let outside = |pod: &&PodView| pod.ordinal < wanted && !view.meta.members.contains(&pod.name);
        if let Some(pod) = view.pods.iter().find(outside) {
            return Verdict::waiting("Joining", format!("{count}, {} is no member yet", pod.name));
        }
    }
    Verdict::ready(count)
}

/// The whole status.
pub fn status(
    cluster: &Cluster,
    valid: &ValidatedCluster,
    view: &View,
    roll: &Roll,
    outcome: &Outcome,
    now: Timestamp,
) -> ClusterStatus {
    let before = cluster.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = cluster.metadata.generation;
    let mut conditions = Conditions::new(before, generation, now);
    conditions.verdict(&verdict(view, roll, outcome));
    match &outcome.blocked {
        Some(blocked) => {
            conditions.set(condition::SCALE_DOWN_BLOCKED, true, blocked.reason, &blocked.message);
        }
        None => conditions.set(condition::SCALE_DOWN_BLOCKED, false, "No", ""),
    }
    if let Some(resizing) = &outcome.resizing {
        conditions.set(condition::STORAGE_RESIZING, true, "Resizing", resizing);
    }
    // Without an answer nothing new is known: the last word stands.
    let last = cluster.status.clone().unwrap_or_default();
    let meta_known = view.meta.known;
    ClusterStatus {
        observed_generation: generation,
        replicas: i32::try_from(view.pods.len()).unwrap_or(i32::MAX),
        ready_replicas: view.ready(),
        selector: Some(valid.names.selector_text()),
        image: Some(valid.image.clone()),
        url: Some(valid.names.client_url()),
        credentials_secret: Some(valid.names.app_secret()),
        meta_leader: if meta_known { view.meta.leader.clone() } else { last.meta_leader },
        members: if meta_known { view.meta.members.iter().cloned().collect() } else { last.members },
        conditions: conditions.finish(),
    }
}

/// The status of a Cluster that cannot be built: what was last seen, and why.
pub fn invalid(cluster: &Cluster, message: &str, now: Timestamp) -> ClusterStatus {
    let mut status = cluster.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&status.conditions, cluster.metadata.generation, now);
    conditions.verdict(&Verdict::stalled("Invalid", message));
    status.conditions = conditions.finish();
    status.observed_generation = cluster.metadata.generation;
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::cluster::view::fixtures::healthy;

    fn reason(view: &View, roll: &Roll, outcome: &Outcome) -> (bool, &'static str) {
        let verdict = verdict(view, roll, outcome);
        (verdict.ready, verdict.reason)
    }

    #[test]
    fn the_reason_names_what_goes_on() {
        let none = Outcome::default();
        assert_eq!(reason(&healthy(3, 3), &Roll::Steady, &none), (true, "Ready"));
        assert_eq!(reason(&healthy(5, 3), &Roll::Steady, &none), (false, "Scaling"));
        assert_eq!(reason(&healthy(3, 3), &Roll::Wait("x".into()), &none), (false, "Restarting"));
        assert_eq!(reason(&healthy(3, 0), &Roll::Steady, &none), (false, "Forming"));
        let mut view = healthy(3, 3);
        view.pods[1].terminating = true;
        assert_eq!(
            reason(&view, &Roll::Steady, &none),
            (false, "Degraded"),
            "a terminating pod is not ready"
        );
        let mut view = healthy(3, 3);
        view.pods[1].ready = false;
        assert_eq!(reason(&view, &Roll::Steady, &none), (false, "Degraded"));
        view.pods[1].age_s = 5;
        assert_eq!(reason(&view, &Roll::Steady, &none), (false, "Starting"));
        let mut view = healthy(3, 3);
        view.meta.leader = None;
        assert_eq!(reason(&view, &Roll::Steady, &none), (false, "NoLeader"));
        let mut view = healthy(3, 3);
        view.meta.members.remove("demo-2");
        assert_eq!(reason(&view, &Roll::Steady, &none), (false, "Joining"));
        view.meta = Default::default();
        assert_eq!(
            reason(&view, &Roll::Steady, &none),
            (true, "Ready"),
            "nobody answered, Kubernetes' word counts"
        );
    }

    #[test]
    fn a_blocked_scale_down_leaves_a_serving_cluster_ready_and_stalled() {
        let blocked = Blocked { reason: "ReplicasHeld", message: "demo-4 holds ORDERS".into() };
        let outcome = Outcome { blocked: Some(blocked), ..Outcome::default() };
        let verdict = verdict(&healthy(3, 5), &Roll::Steady, &outcome);
        assert!(verdict.ready && verdict.stalled && !verdict.reconciling);
        assert_eq!(verdict.reason, "ScaleDownBlocked");
    }
}
