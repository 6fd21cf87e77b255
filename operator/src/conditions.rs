//! Builds the conditions of a status. Pure: the time comes in, and a condition that stays the same keeps its own.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::api::v1alpha1::condition;

/// What a reconcile found, in kstatus' terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The object is what its spec asks for.
    pub ready: bool,
    /// Work goes on by itself.
    pub reconciling: bool,
    /// A person has to act.
    pub stalled: bool,
    /// One word, CamelCase.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl Verdict {
    /// All is as asked.
    pub fn ready(message: impl Into<String>) -> Self {
        Self { ready: true, reconciling: false, stalled: false, reason: "Ready", message: message.into() }
    }
    /// On the way.
    pub fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ready: false, reconciling: true, stalled: false, reason, message: message.into() }
    }
    /// Stuck until a person acts.
    pub fn stalled(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ready: false, reconciling: false, stalled: true, reason, message: message.into() }
    }
}

/// The list of conditions of one status while it is written anew.
pub struct Conditions<'a> {
    before: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    list: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    /// Starts from what the status says now.
    pub fn new(before: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { before, generation, now, list: Vec::new() }
    }

    /// Sets one condition.
    pub fn set(&mut self, type_: &str, status: bool, reason: &str, message: &str) {
        let status = if status { "True" } else { "False" };
        let before = self.before.iter().find(|condition| condition.type_ == type_);
        let since = before
            .filter(|condition| condition.status == status)
            .map_or_else(|| Time(self.now), |condition| condition.last_transition_time.clone());
        self.list.push(Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: since,
            observed_generation: self.generation,
        });
    }

    /// Sets Ready, Reconciling and Stalled.
    pub fn verdict(&mut self, verdict: &Verdict) {
        let Verdict { ready, reconciling, stalled, reason, message } = verdict;
        self.set(condition::READY, *ready, reason, message);
        for (type_, on) in [(condition::RECONCILING, *reconciling), (condition::STALLED, *stalled)] {
            if on {
                self.set(type_, true, reason, message);
            } else {
                self.set(type_, false, "No", "");
            }
        }
    }

    /// The new list.
    pub fn finish(self) -> Vec<Condition> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_unchanged_condition_keeps_its_time() {
        let mut first = Conditions::new(&[], Some(1), at(10));
        first.verdict(&Verdict::waiting("Forming", "a"));
        let first = first.finish();
        let mut second = Conditions::new(&first, Some(1), at(20));
        second.verdict(&Verdict::waiting("Forming", "a"));
        assert_eq!(second.finish(), first);
    }

    #[test]
    fn a_flipped_condition_takes_the_new_time() {
        let mut first = Conditions::new(&[], Some(1), at(10));
        first.verdict(&Verdict::waiting("Forming", "a"));
        let first = first.finish();
        let mut second = Conditions::new(&first, Some(2), at(20));
        second.verdict(&Verdict::ready("b"));
        let second = second.finish();
        assert_eq!(second[0].last_transition_time, Time(at(20)));
        assert_eq!((second[0].status.as_str(), second[0].observed_generation), ("True", Some(2)));
        assert_eq!(second[2].last_transition_time, Time(at(10)), "Stalled was False before and is now");
    }
}
