//! Decides which pods restart next after the pod template changed. Pure; asked again after every change.
//! Broken pods first, since they serve nobody; then one at a time, each ready and caught up before the next; the
//! meta leader last.
use super::view::{PodView, View};

/// How long a new pod counts as starting: it holds up the replacement of other pods that are not ready either, and
/// its Cluster is not called degraded.
pub const STARTING_S: i64 = 60;

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roll {
    /// Every pod is of the current template.
    Steady,
    /// Something has to happen first.
    Wait(String),
    /// Delete these pods, which do not run: nobody notices.
    Replace(Vec<PodView>),
    /// Make this broker give away what it leads, then delete its pod.
    Restart(PodView),
}

/// The next step.
pub fn plan(view: &View) -> Roll {
    if !view.settled {
        return Roll::Steady;
    }
    let outdated: Vec<&PodView> = view.pods.iter().filter(|pod| pod.outdated && !pod.terminating).collect();
    if outdated.is_empty() {
        return Roll::Steady;
    }
    let dead: Vec<PodView> = outdated.iter().filter(|pod| pod.dead).map(|pod| (*pod).clone()).collect();
    if !dead.is_empty() {
        return Roll::Replace(dead);
    }
    if let Some(leaving) = view.pods.iter().find(|pod| pod.terminating) {
        return Roll::Wait(format!("{} is terminating", leaving.name));
    }
    if let Some(ordinal) = view.missing().first() {
        return Roll::Wait(format!("broker {ordinal} has no pod yet"));
    }
    if let Some(unready) = outdated.iter().rev().find(|pod| !pod.ready) {
        let starting = view.pods.iter().find(|pod| !pod.outdated && !pod.ready && pod.age_s < STARTING_S);
        return match starting {
            Some(pod) => Roll::Wait(format!("{} is starting", pod.name)),
            None => Roll::Restart((*unready).clone()),
        };
    }
    if let Some(pod) = view.pods.iter().find(|pod| !pod.ready) {
        return Roll::Wait(format!("{} is not ready", pod.name));
    }
    if let Some(pod) = view.pods.iter().find(|pod| pod.caught_up != Some(true)) {
        return Roll::Wait(format!("{} is not caught up", pod.name));
    }
    let leads = |pod: &PodView| view.meta.leader.as_deref() == Some(pod.name.as_str());
    let next = outdated.iter().rev().find(|pod| !leads(pod)).or(outdated.first());
    next.map_or(Roll::Steady, |pod| Roll::Restart((*pod).clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::cluster::view::fixtures::healthy;

    fn outdated() -> View {
        let mut view = healthy(3, 3);
        view.pods.iter_mut().for_each(|pod| pod.outdated = true);
        view
    }

    fn next(view: &View) -> String {
        match plan(view) {
            Roll::Steady => "steady".into(),
            Roll::Wait(why) => format!("wait: {why}"),
            Roll::Replace(pods) => {
                format!("replace {}", pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>().join(" "))
            }
            Roll::Restart(pod) => format!("restart {}", pod.name),
        }
    }

    #[test]
    fn the_meta_leader_restarts_last() {
        let mut view = outdated();
        view.meta.leader = Some("demo-2".into());
        assert_eq!(next(&view), "restart demo-1");
        view.pods[1].outdated = false;
        assert_eq!(next(&view), "restart demo-0");
        view.pods[0].outdated = false;
        assert_eq!(next(&view), "restart demo-2");
        view.pods[2].outdated = false;
        assert_eq!(next(&view), "steady");
    }

    #[test]
    fn the_next_waits_until_the_last_is_ready_and_caught_up() {
        let mut view = outdated();
        view.pods[2].outdated = false;
        view.pods[2].ready = false;
        assert_eq!(next(&view), "wait: demo-2 is not ready");
        view.pods[2].ready = true;
        view.pods[2].caught_up = Some(false);
        assert_eq!(next(&view), "wait: demo-2 is not caught up");
        view.pods[2].caught_up = None;
        assert_eq!(next(&view), "wait: demo-2 is not caught up", "no answer counts as no");
        view.pods[2].caught_up = Some(true);
        assert_eq!(next(&view), "restart demo-1");
    }

    #[test]
    fn pods_that_do_not_run_are_replaced_first_and_together() {
        let mut view = outdated();
        view.pods[0].dead = true;
        view.pods[0].ready = false;
        view.pods[2].dead = true;
        view.pods[2].ready = false;
        assert_eq!(next(&view), "replace demo-0 demo-2");
    }

    #[test]
    fn a_fixed_template_reaches_pods_that_run_but_never_get_ready() {
        let mut view = outdated();
        view.pods.iter_mut().for_each(|pod| pod.ready = false);
        assert_eq!(next(&view), "restart demo-2");
        view.pods[2].outdated = false;
        view.pods[2].age_s = 5;
        assert_eq!(next(&view), "wait: demo-2 is starting");
        view.pods[2].age_s = 100;
        assert_eq!(next(&view), "restart demo-1", "it cannot get ready without the others");
    }

    #[test]
    fn nothing_restarts_while_a_pod_is_away() {
        let mut view = outdated();
        view.pods[1].terminating = true;
        assert_eq!(next(&view), "wait: demo-1 is terminating");
        view.pods.remove(1);
        assert_eq!(next(&view), "wait: broker 1 has no pod yet");
        view.settled = false;
        assert_eq!(next(&view), "steady", "the revision is not known yet");
    }
}
