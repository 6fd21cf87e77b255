//! Decides how the number of brokers changes next. Pure: asked again after every step, so that an operator killed
//! between two steps goes on where it was. The only way to fewer brokers leads through `Scale::Shrink`.
use std::collections::BTreeSet;

use super::names::Names;
use super::view::View;

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As many as wanted.
    Steady,
    /// Volumes of brokers that left for good have to go before their numbers are used again: a broker must never
    /// come back with the identity it lost.
    ReplaceVolumes(Vec<i32>),
    /// Make the StatefulSet this large.
    Grow(i32),
    /// Take this broker, the last, out of the cluster; then make the StatefulSet one smaller.
    Shrink(i32),
}

/// The next step. `retired` are numbers whose volume belonged to a broker that left.
pub fn plan(view: &View, retired: &BTreeSet<i32>) -> Scale {
    if view.wanted < view.current {
        // One at a time: the last that left has to be gone before the next leaves.
        let leaving = view.pods.iter().any(|pod| pod.ordinal >= view.current);
        return if leaving || !view.settled { Scale::Steady } else { Scale::Shrink(view.current - 1) };
    }
    let stale: Vec<i32> = (view.current..view.wanted).filter(|ordinal| retired.contains(ordinal)).collect();
    match (stale.is_empty(), view.wanted > view.current) {
        (false, _) => Scale::ReplaceVolumes(stale),
        (true, true) => Scale::Grow(view.wanted),
        (true, false) => Scale::Steady,
    }
}

/// Whether those that stay could still decide after a broker has left: more than half of them are ready now.
pub fn survives(view: &View, leaving: i32) -> bool {
    let ready = view.pods.iter().filter(|pod| pod.ordinal < leaving && pod.ready && !pod.terminating).count();
    i32::try_from(ready).is_ok_and(|ready| ready > leaving / 2)
}

/// Members of the meta group that have no pod and will get none: left over when a removed broker asked to join again
/// before its pod was gone.
pub fn ghosts(view: &View, names: &Names) -> Vec<String> {
    let gone = |name: &String| {
        names.ordinal(name).is_some_and(|ordinal| ordinal >= view.current.max(view.wanted))
            && view.pods.iter().all(|pod| pod.name != *name)
    };
    view.meta.members.iter().filter(|name| gone(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::cluster::view::fixtures::healthy;

    #[test]
    fn growing_is_one_step_and_shrinking_one_broker_at_a_time() {
        let none = BTreeSet::new();
        assert_eq!(plan(&healthy(3, 0), &none), Scale::Grow(3));
        assert_eq!(plan(&healthy(5, 3), &none), Scale::Grow(5));
        assert_eq!(plan(&healthy(3, 3), &none), Scale::Steady);
        assert_eq!(plan(&healthy(1, 5), &none), Scale::Shrink(4));
    }

    #[test]
    fn a_broker_leaves_only_after_the_one_before_is_gone() {
        let mut view = healthy(3, 5);
        view.current = 4;
        assert_eq!(plan(&view, &BTreeSet::new()), Scale::Steady, "demo-4 is still there");
        view.pods.pop();
        assert_eq!(plan(&view, &BTreeSet::new()), Scale::Shrink(3));
    }

    #[test]
    fn a_broker_leaves_only_while_the_others_keep_a_quorum_without_it() {
        let mut view = healthy(2, 3);
        assert!(survives(&view, 2));
        view.pods[0].ready = false;
        assert!(!survives(&view, 2), "one of two cannot decide");
        let mut view = healthy(3, 4);
        view.pods[0].ready = false;
        assert!(survives(&view, 3), "two of three can");
        view.pods[1].terminating = true;
        assert!(!survives(&view, 3));
        assert!(survives(&healthy(1, 2), 1));
    }

    #[test]
    fn volumes_of_brokers_that_left_are_replaced_before_their_numbers_come_back() {
        let retired = BTreeSet::from([1, 4]);
        assert_eq!(plan(&healthy(5, 3), &retired), Scale::ReplaceVolumes(vec![4]));
        assert_eq!(plan(&healthy(4, 3), &retired), Scale::Grow(4));
        assert_eq!(plan(&healthy(3, 3), &retired), Scale::Steady, "a running broker keeps its volume");
    }

    #[test]
    fn a_member_without_pod_beyond_the_last_broker_is_a_ghost() {
        let names = Names { cluster: "demo".into(), namespace: "shop".into(), domain: "d".into() };
        let mut view = healthy(3, 3);
        view.meta.members.insert("demo-3".into());
        view.meta.members.insert("somebody-else".into());
        assert_eq!(ghosts(&view, &names), ["demo-3"]);
        view.wanted = 4;
        assert!(ghosts(&view, &names).is_empty(), "it is coming back");
        view.wanted = 3;
        view.pods.push(crate::controllers::cluster::view::PodView {
            ordinal: 3,
            name: "demo-3".into(),
            terminating: true,
            ..Default::default()
        });
        assert!(ghosts(&view, &names).is_empty(), "it has not gone yet");
    }
}
