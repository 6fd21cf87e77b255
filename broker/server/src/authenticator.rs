//! From configured users to the hub's authenticator.

use std::sync::Arc;

use weir_conf::Options;
use weir_hub::{
    Authenticator, OpenDoor, Permissions, ResponsePermission, Rule, RuleSet, StaticAuthenticator, StaticUser,
    is_bcrypt,
};

/// Who may get in, by these options.
pub(crate) fn authenticator(options: &Options) -> Arc<dyn Authenticator> {
    if options.users.is_empty() && options.auth_token.is_none() {
        return Arc::new(OpenDoor);
    }
    let users = options.users.iter().map(|user| StaticUser {
        user: user.user.clone(),
        password: user.password.clone(),
        account: user.account.clone(),
        permissions: user.permissions.as_ref().map(|granted| Arc::new(permissions(granted))),
    });
    Arc::new(StaticAuthenticator {
        token: options.auth_token.clone(),
        users: users.collect(),
        no_auth_user: options.no_auth_user.clone(),
    })
}

/// Some secret is written down as it is.
pub(crate) fn has_plain_secrets(options: &Options) -> bool {
    let passwords = options.users.iter().map(|user| user.password.as_str());
    passwords.chain(options.auth_token.as_deref()).any(|text| !text.is_empty() && !is_bcrypt(text))
}

fn permissions(granted: &weir_conf::Permissions) -> Permissions {
    let rules = |side: &Option<weir_conf::SubjectPermission>| {
        let parse = |texts: &[String]| texts.iter().map(|text| Rule::parse(text)).collect();
        side.as_ref().map_or_else(RuleSet::default, |side| RuleSet {
            allow: side.allow.as_deref().map(parse),
            deny: parse(&side.deny),
        })
    };
    let mut subscribe = rules(&granted.subscribe);
    // Nothing in the list is no list, as in nats-server; for publishes it is a list that allows nothing.
    subscribe.allow = subscribe.allow.filter(|allow| !allow.is_empty());
    let mut publish = rules(&granted.publish);
    let allow_responses = granted.allow_responses.as_ref().map(|responses| ResponsePermission {
        max_messages: u64::try_from(responses.max_msgs).ok(),
        expires: responses.expires,
    });
    if allow_responses.is_some() {
        // Who may answer may not publish anything else unless that is said.
        publish.allow.get_or_insert_default();
    }
    Permissions { publish, subscribe, allow_responses }
}

#[cfg(test)]
mod tests {
    use weir_conf::{SubjectPermission, UserConfig};

    use super::*;

    fn with_user(password: &str) -> Options {
        let publish = SubjectPermission { allow: Some(vec!["a.>".to_owned()]), deny: vec!["a.x".to_owned()] };
        let user = UserConfig {
            account: "A".to_owned(),
            user: "u".to_owned(),
            password: password.to_owned(),
            permissions: Some(weir_conf::Permissions {
                publish: Some(publish),
                ..weir_conf::Permissions::default()
            }),
            ..UserConfig::default()
        };
        Options { users: vec![user], ..Options::default() }
    }

    #[test]
    fn without_users_the_door_is_open() {
        assert!(!authenticator(&Options::default()).is_required());
        assert!(authenticator(&with_user("p")).is_required());
    }

    #[test]
    fn permissions_reach_the_hub() {
        let options = with_user("p");
        let granted = options.users[0].permissions.as_ref().map(permissions).expect("granted");
        assert!(granted.may_publish(b"a.b") && !granted.may_publish(b"a.x"));
        assert!(!granted.may_publish(b"b"));
    }

    #[test]
    fn plain_secrets_are_told_from_hashes() {
        assert!(has_plain_secrets(&with_user("p")));
        assert!(!has_plain_secrets(&with_user("$2a$11$abc")));
        assert!(!has_plain_secrets(&Options::default()));
    }
}
