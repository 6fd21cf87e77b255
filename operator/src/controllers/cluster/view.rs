//! What is there of a Cluster, in the few words that decisions need. Pure: made from what was read.
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::names::Names;
use crate::admin::api::StatusReply;

/// A Cluster as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Brokers the spec asks for.
    pub wanted: i32,
    /// Brokers the StatefulSet has; 0 when it is not there.
    pub current: i32,
    /// The StatefulSet's controller has seen its latest spec.
    pub settled: bool,
    /// The pods, by number.
    pub pods: Vec<PodView>,
    /// The group that knows all streams.
    pub meta: MetaView,
}

/// One broker's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    /// Its number.
    pub ordinal: i32,
    /// Its name, and its server's.
    pub name: String,
    /// Tells it from a later pod of the same name.
    pub uid: String,
    /// Where it is reached.
    pub ip: Option<String>,
    /// Kubernetes says it is ready.
    pub ready: bool,
    /// Its container does not run.
    pub dead: bool,
    /// It is on its way out.
    pub terminating: bool,
    /// It was made from an older template.
    pub outdated: bool,
    /// Since it was made, in seconds.
    pub age_s: i64,
    /// Its replicas have applied what is committed; `None` when it did not answer.
    pub caught_up: Option<bool>,
}

/// The meta group, as its members say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaView {
    /// Somebody answered.
    pub known: bool,
    /// Name of the leader.
    pub leader: Option<String>,
    /// Names of the members.
    pub members: BTreeSet<String>,
}

impl View {
    /// Pods that are ready and stay.
    pub fn ready(&self) -> i32 {
        let count = self.pods.iter().filter(|pod| pod.ready && !pod.terminating).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    }
    /// The leader's pod.
    pub fn leader_pod(&self) -> Option<&PodView> {
        let leader = self.meta.leader.as_ref()?;
        self.pods.iter().find(|pod| pod.name == *leader)
    }
    /// Pods that should be there and are not.
    pub fn missing(&self) -> Vec<i32> {
        (0..self.current).filter(|ordinal| self.pods.iter().all(|pod| pod.ordinal != *ordinal)).collect()
    }
}

/// Looks at what was read. `answers` are the brokers' own words, by pod name.
pub fn view(
    names: &Names,
    wanted: i32,
    stateful_set: Option<&StatefulSet>,
    pods: &[Pod],
    answers: &BTreeMap<String, StatusReply>,
    now: Timestamp,
) -> View {
    let status = stateful_set.and_then(|set| set.status.as_ref());
    let settled = stateful_set
        .is_some_and(|set| status.and_then(|status| status.observed_generation) >= set.metadata.generation);
    let revision = status.and_then(|status| status.update_revision.as_deref()).filter(|_| settled);
    let mut views: Vec<PodView> = pods
        .iter()
        .filter_map(|pod| {
            let answer = answers.get(&pod.name_any());
            Some(PodView {
                ordinal: names.ordinal(&pod.name_any())?,
                caught_up: answer.map(|answer| answer.caught_up && answer.meta_member),
                ..pod_view(pod, revision, now)
            })
        })
        .collect();
    views.sort_by_key(|pod| pod.ordinal);
    View {
        wanted,
        current: stateful_set.and_then(|set| set.spec.as_ref()?.replicas).unwrap_or(0),
        settled,
        pods: views,
        meta: meta_view(answers),
    }
}

fn pod_view(pod: &Pod, revision: Option<&str>, now: Timestamp) -> PodView {
    let status = pod.status.as_ref();
    let ready = status.and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    let running = status.and_then(|status| status.container_statuses.as_ref()).is_some_and(|containers| {
        containers
            .iter()
            .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
    });
    let created = pod.metadata.creation_timestamp.as_ref().map_or(now, |created| created.0);
    PodView {
        ordinal: 0,
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        ip: status.and_then(|status| status.pod_ip.clone()),
        ready,
        dead: !running,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        outdated: revision.is_some_and(|revision| {
            pod.labels().get("controller-revision-hash").is_some_and(|own| own != revision)
        }),
        age_s: now.as_second() - created.as_second(),
        caught_up: None,
    }
}

/// The leader's list counts; without a leader among the answers, the longest.
fn meta_view(answers: &BTreeMap<String, StatusReply>) -> MetaView {
    let members_of = |answer: &StatusReply| -> BTreeSet<String> {
        answer.members.iter().filter(|member| member.voter).map(|member| member.name.clone()).collect()
    };
    let leader =
        answers.values().find(|answer| answer.meta_leader == answer.server_name && answer.meta_member);
    match leader {
        Some(leader) => {
            MetaView { known: true, leader: Some(leader.server_name.clone()), members: members_of(leader) }
        }
        None => MetaView {
            known: !answers.is_empty(),
            leader: None,
            members: answers.values().map(members_of).max_by_key(BTreeSet::len).unwrap_or_default(),
        },
    }
}

#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;

    /// `current` ready, caught-up brokers of `demo`, led by demo-0.
    pub(crate) fn healthy(wanted: i32, current: i32) -> View {
        let name = |ordinal: i32| format!("demo-{ordinal}");
        View {
            wanted,
            current,
            settled: true,
            pods: (0..current)
                .map(|ordinal| PodView {
                    ordinal,
                    name: name(ordinal),
                    uid: format!("uid-{ordinal}"),
                    ip: Some(format!("198.18.0.{ordinal}")),
                    ready: true,
                    age_s: 1000,
                    caught_up: Some(true),
                    ..PodView::default()
                })
                .collect(),
            meta: MetaView { known: true, leader: Some(name(0)), members: (0..current).map(name).collect() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::Member;
    use serde_json::json;

    fn names() -> Names {
        Names { cluster: "demo".into(), namespace: "shop".into(), domain: "cluster.local".into() }
    }

    fn answer(server: &str, leader: &str, members: &[&str]) -> (String, StatusReply) {
        let members = members
            .iter()
            .map(|name| Member { name: (*name).to_owned(), voter: true, ..Member::default() })
            .collect();
        let reply = StatusReply {
            server_name: server.into(),
            meta_leader: leader.into(),
            meta_member: true,
            caught_up: true,
            members,
            ..StatusReply::default()
        };
        (server.to_owned(), reply)
    }

    #[test]
    fn the_leaders_list_of_members_counts() {
        let answers = BTreeMap::from([
            answer("demo-0", "demo-1", &["demo-0", "demo-1", "demo-2"]),
            answer("demo-1", "demo-1", &["demo-0", "demo-1"]),
        ]);
        let meta = view(&names(), 3, None, &[], &answers, Timestamp::UNIX_EPOCH).meta;
        assert_eq!(meta.leader.as_deref(), Some("demo-1"));
        assert_eq!(meta.members.len(), 2);
    }

    #[test]
    fn pods_are_read_from_their_status() {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": { "generation": 2 },
            "spec": { "replicas": 2, "selector": {}, "serviceName": "x", "template": {} },
            "status": { "replicas": 2, "observedGeneration": 2, "updateRevision": "demo-b" },
        }))
        .unwrap();
        let pod = |name: &str, revision: &str, state: serde_json::Value, ready: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": name, "uid": "u", "labels": { "controller-revision-hash": revision } },
                "status": {
                    "podIP": "198.18.0.9",
                    "conditions": [{ "type": "Ready", "status": ready }],
                    "containerStatuses": [{ "name": "weir", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state }],
                },
            }))
            .unwrap()
        };
        let pods = [
            pod("demo-1", "demo-a", json!({ "waiting": { "reason": "CrashLoopBackOff" } }), "False"),
            pod("demo-0", "demo-b", json!({ "running": {} }), "True"),
            pod("stranger-0", "demo-b", json!({ "running": {} }), "True"),
        ];
        let view = view(&names(), 3, Some(&set), &pods, &BTreeMap::new(), Timestamp::UNIX_EPOCH);
        assert_eq!((view.wanted, view.current, view.ready(), view.pods.len()), (3, 2, 1, 2));
        assert!(!view.pods[0].outdated && !view.pods[0].dead && view.pods[0].ready);
        assert!(view.pods[1].outdated && view.pods[1].dead && !view.pods[1].ready);
        assert!(!view.meta.known);
    }
}
