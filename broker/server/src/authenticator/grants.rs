//! From permissions of the configuration and of claims to the hub's. Not their enforcement.

use std::time::Duration;

use weir_auth::jwt;
use weir_hub::{Permissions, ResponsePermission, Rule, RuleSet};

/// What `allow_responses` means where it gives no figures.
const DEFAULT_RESPONSES: u64 = 1;
const DEFAULT_RESPONSE_TIME: Duration = Duration::from_secs(120);

/// Configured permissions.
pub(crate) fn configured_permissions(granted: &weir_conf::Permissions) -> Permissions {
    let rules = |side: &Option<weir_conf::SubjectPermission>| {
        side.as_ref().map_or_else(RuleSet::default, |side| RuleSet {
            allow: side.allow.as_deref().map(parsed),
            deny: parsed(&side.deny),
        })
    };
    let mut subscribe = rules(&granted.subscribe);
    // Nothing in the list is no list, as in nats-server; for publishes it is a list that allows nothing.
    subscribe.allow = subscribe.allow.filter(|allow| !allow.is_empty());
    let allow_responses = granted.allow_responses.as_ref().map(|responses| ResponsePermission {
        max_messages: u64::try_from(responses.max_msgs).ok(),
        expires: responses.expires,
    });
    answering(Permissions { publish: rules(&granted.publish), subscribe, allow_responses })
}

/// Permissions of claims; an empty list of allowed subjects allows everything there.
pub(crate) fn jwt_permissions(granted: &jwt::Permissions) -> Permissions {
    let rules = |side: &jwt::Permission| RuleSet {
        allow: (!side.allow.is_empty()).then(|| parsed(&side.allow)),
        deny: parsed(&side.deny),
    };
    let allow_responses = granted.responses.as_ref().map(|responses| ResponsePermission {
        max_messages: match responses.max {
            0 => Some(DEFAULT_RESPONSES),
            max => u64::try_from(max).ok(),
        },
        expires: match responses.ttl {
            0 => Some(DEFAULT_RESPONSE_TIME),
            ttl => u64::try_from(ttl).ok().map(Duration::from_nanos),
        },
    });
    answering(Permissions {
        publish: rules(&granted.publish),
        subscribe: rules(&granted.subscribe),
        allow_responses,
    })
}

/// Who may answer may not publish anything else unless that is said.
fn answering(mut permissions: Permissions) -> Permissions {
    if permissions.allow_responses.is_some() {
        permissions.publish.allow.get_or_insert_default();
    }
    permissions
}

fn parsed(texts: &[String]) -> Vec<Rule> {
    texts.iter().map(|text| Rule::parse(text)).collect()
}
