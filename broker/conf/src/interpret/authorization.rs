//! The `authorization` block, users and permissions.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    error::ConfError,
    options::{Options, Permissions, ResponsePermission, SubjectPermission, UserConfig},
    parse::Document,
    read::Reader,
    value::{Map, Node, Value},
};

/// The account of users that no account names.
pub(crate) const GLOBAL_ACCOUNT: &str = "$G";

/// What an `authorization` block says; also the one inside `cluster`.
#[derive(Default)]
pub(super) struct Authorization {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) users: Vec<UserConfig>,
    pub(super) has_users: bool,
    default_permissions: Option<Permissions>,
}

impl Authorization {
    pub(super) fn has_permissions(&self) -> bool {
        self.default_permissions.is_some()
    }
}

pub(super) fn authorization(reader: &mut Reader, options: &mut Options, node: &Node) {
    let Some(auth) = block(reader, node, "authorization") else { return };
    if (auth.user.is_some() || auth.password.is_some()) && auth.token.is_some() {
        return reader.error(node, "Cannot have a user/pass and token");
    }
    if auth.user.is_some() && auth.has_users {
        return reader.error(node, "Can not have a single user/pass and a users array");
    }
    if auth.token.is_some() && auth.has_users {
        return reader.error(node, "Can not have a token and a users array");
    }
    if let Some(timeout) = auth.timeout {
        options.auth_timeout = timeout;
    }
    options.auth_token = auth.token;
    if let Some(user) = auth.user {
        options.users.push(UserConfig {
            account: GLOBAL_ACCOUNT.to_owned(),
            user,
            password: auth.password.unwrap_or_default(),
            permissions: auth.default_permissions,
            ..UserConfig::default()
        });
        return;
    }
    options.users.extend(with_defaults(auth.users, auth.default_permissions.as_ref()));
}

/// Gives users without permissions of their own the default ones.
pub(super) fn with_defaults(mut users: Vec<UserConfig>, default: Option<&Permissions>) -> Vec<UserConfig> {
    for user in &mut users {
        if user.permissions.is_none() {
            user.permissions = default.cloned();
        }
    }
    users
}

/// Reads an authorization block; `path` names it in messages.
pub(super) fn block(reader: &mut Reader, node: &Node, path: &str) -> Option<Authorization> {
    let map = reader.map(node)?;
    let mut auth = Authorization::default();
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "user" | "username" => auth.user = reader.string(node),
            "pass" | "password" => auth.password = reader.string(node),
            "token" => auth.token = reader.string(node),
            "timeout" => auth.timeout = timeout(reader, node),
            "users" => {
                auth.has_users = true;
                auth.users = users(reader, node, GLOBAL_ACCOUNT);
            }
            "default_permission" | "default_permissions" | "permissions" => {
                auth.default_permissions = permissions(reader, node);
            }
            known @ ("auth_callout" | "auth_hook" | "proxy_required") => {
                reader.refuse(&format!("{path}.{known}"), node);
            }
            _ => reader.unknown(key, node),
        }
    }
    Some(auth)
}

/// Seconds as a number, or a duration.
pub(super) fn timeout(reader: &mut Reader, node: &Node) -> Option<Duration> {
    match &node.value {
        Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Value::Float(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        Value::String(text) => match crate::parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(reason) => {
                let message = format!("error parsing authorization config, 'timeout' {reason}");
                reader.error(node, message);
                None
            }
        },
        _ => {
            reader.error(node, "error parsing authorization config, 'timeout' wrong type");
            None
        }
    }
}

/// A `users` array.
pub(super) fn users(reader: &mut Reader, node: &Node, account: &str) -> Vec<UserConfig> {
    let Value::Array(items) = &node.value else {
        reader.error(node, format!("Expected users field to be an array, got {}", shown(node)));
        return Vec::new();
    };
    items.iter().filter_map(|item| user(reader, item, account)).collect()
}

fn shown(node: &Node) -> String {
    match &node.value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Float(number) => number.to_string(),
        other => other.go_type().to_owned(),
    }
}

fn user(reader: &mut Reader, node: &Node, account: &str) -> Option<UserConfig> {
    let Some(map) = node.as_map() else {
        let message = format!("Expected user entry to be a map/struct, got {}", shown(node));
        reader.error(node, message);
        return None;
    };
    let (mut name, mut password, mut granted) = (None, None, None);
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "user" | "username" => name = reader.string(node),
            "pass" | "password" => password = reader.string(node),
            "permission" | "permissions" | "authorization" => {
                granted = permissions(reader, node);
            }
            known @ ("nkey"
            | "allowed_connection_types"
            | "connection_types"
            | "clients"
            | "proxy_required") => {
                reader.refuse(&format!("users.{known}"), node);
            }
            _ => reader.unknown(key, node),
        }
    }
    let Some(user) = name.filter(|name| !name.is_empty()) else {
        if !map.keys().any(|key| key.eq_ignore_ascii_case("nkey")) {
            // The reference points at the entry's last field.
            let place = map.values().max_by_key(|n| (n.line, n.column)).unwrap_or(node);
            reader.error(place, "User entry requires a user");
        }
        return None;
    };
    let password = password.unwrap_or_default();
    Some(UserConfig {
        account: account.to_owned(),
        user,
        password,
        permissions: granted,
        ..UserConfig::default()
    })
}

/// A `permissions` map.
pub(super) fn permissions(reader: &mut Reader, node: &Node) -> Option<Permissions> {
    let Some(map) = node.as_map() else {
        let message = format!("Expected permissions to be a map/struct, got {}", shown(node));
        reader.error(node, message);
        return None;
    };
    let mut granted = Permissions::default();
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "pub" | "publish" | "import" => {
                granted.publish = Some(subject_permission(reader, node, false));
            }
            "sub" | "subscribe" | "export" => {
                granted.subscribe = Some(subject_permission(reader, node, true));
            }
            "publish_allow_responses" | "allow_responses" => {
                granted.allow_responses = allow_responses(reader, node);
                if granted.allow_responses.is_some() {
                    reader.error(node, "\"allow_responses\" is not supported yet");
                }
            }
            _ => reader.error(node, format!("Unknown field {key:?} parsing permissions")),
        }
    }
    // Allowed responses without a word on publishing mean: nothing else may be published.
    if granted.allow_responses.is_some() && granted.publish.is_none() {
        granted.publish = Some(SubjectPermission { allow: Some(Vec::new()), deny: Vec::new() });
    }
    Some(granted)
}

fn subject_permission(reader: &mut Reader, node: &Node, queues: bool) -> SubjectPermission {
    let Some(map) = node.as_map() else {
        let allow = Some(subjects(reader, node, queues));
        return SubjectPermission { allow, deny: Vec::new() };
    };
    let mut granted = SubjectPermission::default();
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "allow" => granted.allow = Some(subjects(reader, node, queues)),
            "deny" => granted.deny = subjects(reader, node, queues),
            _ => {
                let message = format!(
                    "Unknown field name {key:?} parsing subject permissions, only 'allow' or 'deny' are permitted"
                );
                reader.error(node, message);
            }
        }
    }
    granted
}

fn subjects(reader: &mut Reader, node: &Node, queues: bool) -> Vec<String> {
    let found = match &node.value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(|item| reader.string(item)).collect(),
        other => {
            let message = format!(
                "Expected subject permissions to be a subject, or array of subjects, got {}",
                other.go_type()
            );
            reader.errors.push(ConfError::bare(&node.file, node.line, node.column, message));
            Vec::new()
        }
    };
    for text in &found {
        // A queue name may follow the subject of a subscription.
        let mut words = text.split_whitespace();
        let subject = if queues { words.next().unwrap_or_default() } else { text };
        if !is_valid_subject(subject) || (queues && words.count() > 1) {
            let message = format!("subject {subject:?} is not a valid subject");
            reader.errors.push(ConfError::bare(&node.file, node.line, node.column, message));
        }
    }
    found
}

fn is_valid_subject(subject: &str) -> bool {
    let tokens: Vec<&str> = subject.split('.').collect();
    let last = tokens.len() - 1;
    tokens.iter().enumerate().all(|(position, token)| {
        !token.is_empty() && !token.contains(char::is_whitespace) && (*token != ">" || position == last)
    })
}

/// `true`, or `{ max, expires }`; by default one message within two minutes.
fn allow_responses(reader: &mut Reader, node: &Node) -> Option<ResponsePermission> {
    let mut granted = ResponsePermission { max_msgs: 1, expires: Some(Duration::from_secs(120)) };
    if let Value::Boolean(allowed) = node.value {
        return allowed.then_some(granted);
    }
    let Some(map) = node.as_map() else {
        let kind = node.value.go_type();
        reader.error(node, format!("error parsing response permissions, got {kind}"));
        return None;
    };
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "max" | "max_msgs" | "max_messages" | "max_responses" => {
                let number = reader.integer(node).filter(|number| *number != 0);
                granted.max_msgs = number.unwrap_or(1);
            }
            "expires" | "expiration" | "ttl" => {
                let expires = reader.duration("expires", node);
                granted.expires = expires.filter(|d| !d.is_zero()).or(granted.expires);
            }
            _ => reader.error(node, format!("Unknown field {key:?} parsing permissions")),
        }
    }
    Some(granted)
}

/// A user name may appear once, in whatever account.
pub(super) fn check_users(reader: &mut Reader, options: &Options, document: &Document) {
    let mut seen = BTreeSet::new();
    for user in &options.users {
        if seen.insert(&user.user) {
            continue;
        }
        let node = place_of_account(&document.root, &user.account);
        let (line, column) = node.map_or((1, 0), |node| (node.line, node.column));
        let file = node.map_or_else(|| document.file.clone(), |node| node.file.clone());
        let message = format!("Duplicate user {:?} detected", user.user);
        reader.errors.push(ConfError::at(&file, line, column, message));
    }
}

fn place_of_account<'a>(root: &'a Map, account: &str) -> Option<&'a Node> {
    let find = |name: &str| root.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, n)| n);
    if account == GLOBAL_ACCOUNT {
        return find("authorization");
    }
    let accounts = find("accounts")?;
    let account = accounts.as_map()?.get(account)?;
    let users = account.as_map()?.iter().find(|(key, _)| key.eq_ignore_ascii_case("users"));
    users.map(|(_, node)| node).or(Some(account))
}
