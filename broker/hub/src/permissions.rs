//! What a user may publish to and subscribe to. Not who the user is.

use std::time::Duration;
use weir_subject::{is_subset, matches, overlaps};

/// A subject pattern, perhaps for one queue group (pattern) only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The subject pattern.
    pub subject: Box<[u8]>,
    /// The queue group's name or pattern; only looked at for subscriptions.
    pub queue: Option<Box<[u8]>>,
}

impl Rule {
    /// Reads `subject` or `subject queue`.
    pub fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let subject = words.next().unwrap_or_default().as_bytes().into();
        Self { subject, queue: words.next().map(|queue| queue.as_bytes().into()) }
    }

    fn covers_queue(&self, queue: Option<&[u8]>) -> bool {
        match (&self.queue, queue) {
            (None, _) => true,
            (Some(rule), Some(queue)) => **rule == *queue || is_subset(queue, rule),
            (Some(_), None) => false,
        }
    }
}

/// Allowed and denied subjects. Without `allow`, everything not denied is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// What is allowed; `None` allows everything.
    pub allow: Option<Vec<Rule>>,
    /// What is denied, even if it is allowed.
    pub deny: Vec<Rule>,
}

/// What a user may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Publishing.
    pub publish: RuleSet,
    /// Subscribing.
    pub subscribe: RuleSet,
    /// Publishing to the reply subjects of requests that were received.
    pub allow_responses: Option<ResponsePermission>,
}

/// How a request may be answered by one who may not publish to its reply subject otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponsePermission {
    /// How many messages; `None` is any number.
    pub max_messages: Option<u64>,
    /// For how long; `None` is for ever.
    pub expires: Option<Duration>,
}

impl Default for ResponsePermission {
    /// One message within two minutes, as in nats-server.
    fn default() -> Self {
        Self { max_messages: Some(1), expires: Some(Duration::from_secs(120)) }
    }
}

/// The verdict on a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SubscribeVerdict {
    Refused,
    Allowed,
    /// Allowed, but messages on these subjects must not be delivered.
    AllowedExcept(Vec<Rule>),
}

impl Permissions {
    /// Whether a message may be published to this literal subject.
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        let rules = &self.publish;
        rules.allow.as_ref().is_none_or(|allow| allow.iter().any(|rule| matches(&rule.subject, subject)))
            && !rules.deny.iter().any(|rule| matches(&rule.subject, subject))
    }

    /// Whether the subject, wildcards included, may be subscribed to, be it with exceptions.
    pub fn may_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.judge_subscription(subject, queue) != SubscribeVerdict::Refused
    }

    pub(crate) fn judge_subscription(&self, subject: &[u8], queue: Option<&[u8]>) -> SubscribeVerdict {
        let rules = &self.subscribe;
        let allowed = rules.allow.as_ref().is_none_or(|allow| {
            let covering = || allow.iter().filter(|rule| is_subset(subject, &rule.subject));
            // A queue group has to be named as soon as any is, even if the subject itself is allowed.
            if queue.is_some() && covering().any(|rule| rule.queue.is_some()) {
                covering().any(|rule| rule.queue.is_some() && rule.covers_queue(queue))
            } else {
                covering().any(|rule| rule.queue.is_none())
            }
        });
        let denied = rules.deny.iter().any(|rule| covers(rule, subject) && rule.covers_queue(queue));
        if !allowed || denied {
            return SubscribeVerdict::Refused;
        }
        let except: Vec<Rule> = rules
            .deny
            .iter()
            .filter(|rule| overlaps(&rule.subject, subject) && rule.covers_queue(queue))
            .cloned()
            .collect();
        if except.is_empty() { SubscribeVerdict::Allowed } else { SubscribeVerdict::AllowedExcept(except) }
    }
}

/// Whether a rule denies a subscribed pattern. Its tokens are compared like those of a literal subject, as
/// nats-server does: a rule's `*` denies a pattern's last `>`. (It also allows it there; that is not followed.)
fn covers(rule: &Rule, subject: &[u8]) -> bool {
    matches(&rule.subject, subject)
}

/// Whether one of the rules covers this literal subject.
pub(crate) fn is_denied(rules: &[Rule], subject: &[u8]) -> bool {
    rules.iter().any(|rule| matches(&rule.subject, subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> RuleSet {
        let parse = |texts: &[&str]| texts.iter().map(|text| Rule::parse(text)).collect::<Vec<_>>();
        RuleSet { allow: allow.map(parse), deny: parse(deny) }
    }

    #[test]
    fn deny_wins_over_allow() {
        let permissions =
            Permissions { publish: rules(Some(&["a.>"]), &["a.secret"]), ..Permissions::default() };
        assert!(permissions.may_publish(b"a.b"));
        assert!(!permissions.may_publish(b"a.secret"));
        assert!(!permissions.may_publish(b"b"));
    }

    #[test]
    fn a_subscription_must_lie_within_what_is_allowed() {
        let permissions =
            Permissions { subscribe: rules(Some(&["a.*", "q q1"]), &["a.x"]), ..Permissions::default() };
        assert_eq!(permissions.judge_subscription(b"a.b", None), SubscribeVerdict::Allowed);
        assert_eq!(permissions.judge_subscription(b"a.>", None), SubscribeVerdict::Refused);
        assert_eq!(permissions.judge_subscription(b"a.x", None), SubscribeVerdict::Refused);
        assert_eq!(
            permissions.judge_subscription(b"a.*", None),
            SubscribeVerdict::AllowedExcept(vec![Rule::parse("a.x")])
        );
        assert_eq!(permissions.judge_subscription(b"q", None), SubscribeVerdict::Refused);
        assert_eq!(permissions.judge_subscription(b"q", Some(b"q1")), SubscribeVerdict::Allowed);
    }

    #[test]
    fn without_allow_everything_else_is_allowed() {
        let permissions = Permissions { publish: rules(None, &["x.>"]), ..Permissions::default() };
        assert!(permissions.may_publish(b"a") && !permissions.may_publish(b"x.y"));
    }
}
