//! What routes may bring in and take out, as the cluster is configured. Not where it is configured.

use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use weir_conf::{RoutePermissions, SubjectPermission};
use weir_hub::{Permissions, Rule, RuleSet};
use weir_proto::ImportExport;

/// The permissions in force on all routes.
#[derive(Default)]
pub(crate) struct RouteRules {
    /// Publishing stands for what is imported, subscribing for what is exported.
    permissions: ArcSwapOption<Permissions>,
    has_denials: AtomicBool,
}

impl RouteRules {
    pub(crate) fn set(&self, permissions: Option<&RoutePermissions>) {
        let permissions = permissions.map(|given| {
            Arc::new(Permissions {
                publish: rule_set(given.import.as_ref()),
                subscribe: rule_set(given.export.as_ref()),
                allow_responses: None,
            })
        });
        let has_denials = permissions.as_ref().is_some_and(|given| !given.subscribe.deny.is_empty());
        self.permissions.store(permissions);
        self.has_denials.store(has_denials, Ordering::Release);
    }

    /// Whether this server tells others of its interest in the subject, wildcards included.
    pub(crate) fn may_import(&self, subject: &[u8]) -> bool {
        self.permissions.load().as_ref().is_none_or(|permissions| permissions.may_publish(subject))
    }

    /// Whether this server takes note of others' interest in the subject, wildcards included.
    pub(crate) fn may_export(&self, subject: &[u8]) -> bool {
        self.permissions.load().as_ref().is_none_or(|permissions| permissions.may_subscribe(subject, None))
    }

    /// Whether a message on this literal subject may leave, when the interest was noted.
    pub(crate) fn may_send(&self, subject: &[u8]) -> bool {
        !self.has_denials.load(Ordering::Acquire) || self.may_export(subject)
    }
}

fn rule_set(given: Option<&SubjectPermission>) -> RuleSet {
    let Some(given) = given else { return RuleSet::default() };
    let rules = |texts: &[String]| texts.iter().map(|text| Rule::parse(text)).collect();
    RuleSet { allow: given.allow.as_deref().map(rules), deny: rules(&given.deny) }
}

/// What INFO says of them.
pub(crate) fn to_info(given: Option<&SubjectPermission>) -> Option<ImportExport> {
    given.map(|given| ImportExport {
        allow: given.allow.clone().unwrap_or_default(),
        deny: given.deny.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_let_in_and_out_as_configured() {
        let rules = RouteRules::default();
        assert!(rules.may_import(b"a") && rules.may_export(b">") && rules.may_send(b"a"));
        let permission = |allow: Option<&str>, deny: &[&str]| SubjectPermission {
            allow: allow.map(|text| vec![text.to_owned()]),
            deny: deny.iter().map(|text| (*text).to_owned()).collect(),
        };
        rules.set(Some(&RoutePermissions {
            import: Some(permission(Some("in.>"), &["in.not"])),
            export: Some(permission(None, &["secret.>"])),
        }));
        assert!(rules.may_import(b"in.a") && !rules.may_import(b"in.not") && !rules.may_import(b"out"));
        assert!(rules.may_export(b"x") && !rules.may_export(b"secret.a"));
        assert!(rules.may_export(b">") && !rules.may_send(b"secret.a") && rules.may_send(b"x"));
        rules.set(None);
        assert!(rules.may_import(b"out") && rules.may_send(b"secret.a"));
    }
}
