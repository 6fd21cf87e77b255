//! `authorization` blocks and users; also the blocks inside `cluster`, `gateway` and the like.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::permissions::permissions;
use crate::{
    error::ConfError,
    keys::{self, KeyKind},
    options::{AuthCallout, Options, Permissions, UserConfig},
    parse::Document,
    read::Reader,
    value::{Map, Node, Value},
};

/// The account of users that no account names.
pub(crate) const GLOBAL_ACCOUNT: &str = "$G";

/// What an `authorization` block says.
#[derive(Default)]
pub(super) struct Authorization {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) users: Vec<UserConfig>,
    pub(super) has_users: bool,
    pub(super) callout: Option<AuthCallout>,
    pub(super) proxy_required: bool,
    pub(super) default_permissions: Option<Permissions>,
}

/// The block at the top of the file.
pub(super) fn authorization(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    let Some(auth) = block(reader, node) else { return };
    if (auth.user.is_some() || auth.password.is_some()) && auth.token.is_some() {
        return reader.error(node, "Cannot have a user/pass and token");
    }
    if auth.user.is_some() && auth.has_users {
        return reader.error(node, "Can not have a single user/pass and a users array");
    }
    if auth.token.is_some() && auth.has_users {
        return reader.error(node, "Can not have a token and a users array");
    }
    if let Some(timeout) = auth.timeout.filter(|timeout| !timeout.is_zero()) {
        options.auth_timeout = timeout;
        reader.auth_timeout_given = true;
    }
    options.auth_token = auth.token;
    options.auth_callout = auth.callout;
    options.proxy_required = auth.proxy_required;
    if let Some(user) = auth.user {
        options.single_user = Some(user.clone());
        options.users.push(UserConfig {
            account: GLOBAL_ACCOUNT.to_owned(),
            user,
            password: auth.password.unwrap_or_default(),
            permissions: auth.default_permissions,
            proxy_required: auth.proxy_required,
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

/// Reads an authorization block.
pub(super) fn block(reader: &mut Reader<'_>, node: &Node) -> Option<Authorization> {
    let mut auth = Authorization::default();
    for (key, node) in reader.entries(node)? {
        match key.to_lowercase().as_str() {
            "user" | "username" => auth.user = named(reader.string(node)),
            "pass" | "password" => auth.password = named(reader.string(node)),
            "token" => auth.token = named(reader.string(node)),
            "timeout" => auth.timeout = timeout(reader, key, node, "authorization"),
            "users" => {
                auth.has_users = true;
                auth.users = users(reader, node, GLOBAL_ACCOUNT);
            }
            "default_permission" | "default_permissions" | "permissions" => {
                auth.default_permissions = permissions(reader, node);
            }
            "auth_callout" | "auth_hook" => auth.callout = callout(reader, node),
            "proxy_required" => auth.proxy_required = reader.boolean(node).unwrap_or(true),
            _ => reader.unknown(key, node),
        }
    }
    Some(auth)
}

fn named(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// The block of `websocket` and `mqtt`: no users, no permissions.
pub(super) fn simple(reader: &mut Reader<'_>, node: &Node) -> Authorization {
    let mut auth = Authorization::default();
    for (key, node) in reader.entries(node).unwrap_or_default() {
        match key.to_lowercase().as_str() {
            "user" | "username" => auth.user = named(reader.string(node)),
            "pass" | "password" => auth.password = named(reader.string(node)),
            "token" => auth.token = named(reader.string(node)),
            "timeout" => {
                auth.timeout = match &node.value {
                    Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
                    Value::Float(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
                    // The reference takes a second for whatever else it finds; a duration is meant as one.
                    Value::String(text) => {
                        Some(crate::parse_duration(text).unwrap_or(Duration::from_secs(1)))
                    }
                    _ => Some(Duration::from_secs(1)),
                };
            }
            _ => reader.unknown(key, node),
        }
    }
    auth
}

/// Seconds as a number, or a duration; long ones are warned of.
pub(super) fn timeout(reader: &mut Reader<'_>, key: &str, node: &Node, block: &str) -> Option<Duration> {
    const LONG: Duration = Duration::from_secs(60);
    let timeout = reader.seconds(node, &format!("error parsing {block} config, 'timeout'"))?;
    if timeout > LONG {
        let (shown, seconds) = (node.shown(), timeout.as_secs_f64());
        let reason = format!(
            "timeout of {shown} ({seconds:.6} seconds) is high, consider keeping it under 60 seconds. possibly caused by unquoted duration; use '1m' instead of 1m, for example"
        );
        reader.warning(node, key, &reason);
    }
    Some(timeout)
}

/// A `users` array.
pub(super) fn users(reader: &mut Reader<'_>, node: &Node, account: &str) -> Vec<UserConfig> {
    let Value::Array(items) = &node.value else {
        let message = format!("Expected users field to be an array, got {}", node.shown());
        // The reference knows no position for the users of an account.
        if account == GLOBAL_ACCOUNT {
            reader.error(node, message);
        } else {
            super::tls::bare(reader, message);
        }
        return Vec::new();
    };
    items.iter().filter_map(|item| user(reader, item, account)).collect()
}

fn user(reader: &mut Reader<'_>, node: &Node, account: &str) -> Option<UserConfig> {
    if node.as_map().is_none() {
        let message = format!("Expected user entry to be a map/struct, got {}", node.shown());
        reader.error(node, message);
        return None;
    }
    let mut user = UserConfig { account: account.to_owned(), ..UserConfig::default() };
    // The reference points at the field it has read last.
    let mut last = node;
    let complaints = reader.errors.len();
    for (key, node) in reader.entries(node)? {
        last = node;
        match key.to_lowercase().as_str() {
            "user" | "username" => super::put(&mut user.user, reader.string(node)),
            "pass" | "password" => super::put(&mut user.password, reader.string(node)),
            "nkey" => user.nkey = named(reader.string(node)),
            "permission" | "permissions" | "authorization" => {
                user.permissions = permissions(reader, node);
            }
            "allowed_connection_types" | "connection_types" | "clients" => {
                user.allowed_connection_types = connection_types(reader, node);
            }
            "proxy_required" => user.proxy_required = reader.boolean(node).unwrap_or(true),
            _ => reader.unknown(key, node),
        }
    }
    match &user.nkey {
        Some(key) if !keys::is_valid(key, KeyKind::User) => {
            reader.error(last, "Not a valid public nkey for a user");
            None
        }
        Some(_) if !user.user.is_empty() || !user.password.is_empty() => {
            reader.error(last, "Nkey users do not take usernames or passwords");
            None
        }
        None if user.user.is_empty() => {
            if reader.errors.len() == complaints {
                reader.error(last, "User entry requires a user");
            }
            None
        }
        _ => Some(user),
    }
}

fn connection_types(reader: &mut Reader<'_>, node: &Node) -> BTreeSet<String> {
    const KNOWN: [&str; 7] =
        ["STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS", "IN_PROCESS"];
    let words = reader.strings("allowed connection types", node);
    let upper = words.iter().map(|word| word.to_uppercase());
    let (known, unknown): (Vec<_>, Vec<_>) = upper.partition(|word| KNOWN.contains(&word.as_str()));
    if !unknown.is_empty() {
        let list: Vec<String> = unknown.iter().map(|word| format!("{word:?}")).collect();
        // The place is that of the last word read.
        let place = match &node.value {
            Value::Array(items) => items.last().unwrap_or(node),
            _ => node,
        };
        let _ = place;
        reader.error(node, format!("invalid connection types [{}]", list.join(" ")));
    }
    known.into_iter().collect()
}

fn callout(reader: &mut Reader<'_>, node: &Node) -> Option<AuthCallout> {
    if node.as_map().is_none() {
        let message = format!("Expected authorization callout to be a map/struct, got {}", node.shown());
        reader.error(node, message);
        return None;
    }
    let mut callout = AuthCallout { account: GLOBAL_ACCOUNT.to_owned(), ..AuthCallout::default() };
    let mut last = node;
    for (key, node) in reader.entries(node)? {
        last = node;
        match key.to_lowercase().as_str() {
            "issuer" => {
                callout.issuer = reader.string(node)?;
                if !keys::is_valid(&callout.issuer, KeyKind::Account) {
                    let issuer = &callout.issuer;
                    let message =
                        format!("Expected callout user to be a valid public account nkey, got {issuer:?}");
                    reader.error(node, message);
                    return None;
                }
            }
            "account" | "acc" => {
                callout.account = named(reader.string(node)).unwrap_or_else(|| GLOBAL_ACCOUNT.to_owned());
            }
            "auth_users" | "users" => {
                callout.auth_users = list(reader, node, "auth_users")?;
            }
            "xkey" | "key" => {
                let key = reader.string(node)?;
                if !keys::is_valid(&key, KeyKind::Curve) {
                    let message = format!("Expected callout xkey to be a valid public xkey, got {key:?}");
                    reader.error(node, message);
                    return None;
                }
                callout.xkey = Some(key);
            }
            "allowed_accounts" => callout.allowed_accounts = list(reader, node, "allowed accounts")?,
            _ if node.used_as_variable => {}
            _ => reader.error(node, format!("Unknown field {key:?} parsing authorization callout")),
        }
    }
    if callout.issuer.is_empty() {
        reader.error(last, "Authorization callouts require an issuer to be specified");
        return None;
    }
    if callout.auth_users.is_empty() {
        reader.error(last, "Authorization callouts require authorized users to be specified");
        return None;
    }
    Some(callout)
}

fn list(reader: &mut Reader<'_>, node: &Node, field: &str) -> Option<Vec<String>> {
    let Value::Array(items) = &node.value else {
        // The reference shows the type of its own node here.
        reader.error(node, format!("Expected {field} field to be an array, got *conf.token"));
        return None;
    };
    items.iter().map(|item| reader.string(item)).collect()
}

/// What needs all the users: no name twice, and the accounts a callout may use exist.
pub(super) fn check_users(reader: &mut Reader<'_>, options: &Options, document: &Document) {
    let mut seen = BTreeMap::new();
    for user in &options.users {
        let (kind, name) = match &user.nkey {
            Some(key) => ("nkey", key),
            None => ("user", &user.user),
        };
        if seen.insert(name, ()).is_none() {
            continue;
        }
        let node = place_of_account(&document.root, &user.account);
        let (line, column) = node.map_or((1, 0), |node| (node.line, node.column));
        let file = node.map_or_else(|| document.file.clone(), |node| node.file.clone());
        let message = format!("Duplicate {kind} {name:?} detected");
        reader.errors.push(ConfError::at(&file, line, column, message));
    }
    let allowed = options.auth_callout.iter().flat_map(|callout| &callout.allowed_accounts);
    for account in allowed {
        if !options.accounts.contains_key(account) {
            let message =
                format!("auth_callout allowed account {account:?} not found in configured accounts");
            super::tls::bare(reader, message);
        }
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
