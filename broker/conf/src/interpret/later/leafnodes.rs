//! The `leafnodes` block and its remotes.

use std::collections::BTreeSet;

use crate::{
    interpret::{
        authorization::timeout,
        compression::{On, compression},
        permissions::subjects,
        tls::{self, Place},
    },
    keys::{self, KeyKind},
    read::Reader,
    url::Url,
    value::{Node, Value},
};

pub(in crate::interpret) fn leafnodes(reader: &mut Reader<'_>, node: &Node) {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        return reader.error(node, format!("Expected map to define a leafnode, got {kind}"));
    }
    for (key, node) in reader.entries(node).unwrap_or_default() {
        match key.to_lowercase().as_str() {
            "listen" => {
                reader.listen(node);
            }
            "port" => {
                reader.integer(node);
            }
            "host" | "net" | "leafnode_advertise" | "advertise" => {
                reader.string(node);
            }
            "authorization" => authorization(reader, node),
            "remotes" => remotes(reader, node),
            "reconnect" | "reconnect_delay" | "reconnect_interval" => {
                reader.duration("reconnect", node);
            }
            "dial_timeout" => {
                reader.duration("dial_timeout", node);
            }
            "tls" => {
                tls::tls(reader, node, Place::Clients);
            }
            "no_advertise" | "isolate_leafnode_interest" | "isolate" => {
                reader.boolean(node);
            }
            "min_version" | "minimum_version" => min_version(reader, node),
            "compression" => {
                compression(reader, key, node, On::Auto);
            }
            "write_deadline" => {
                reader.duration("write_deadline", node);
            }
            "write_timeout" => {
                reader.write_timeout(node);
            }
            _ => reader.unknown(key, node),
        }
    }
    reader.unserved("leafnodes", node);
}

/// At least 2.8.0: older servers cannot be leaf nodes of a newer one.
fn min_version(reader: &mut Reader<'_>, node: &Node) {
    let Some(text) = reader.string(node) else { return };
    let numbers: Option<Vec<u32>> = {
        let plain = text.strip_prefix('v').unwrap_or(&text);
        let plain = plain.split(['-', '+']).next().unwrap_or_default();
        plain.split('.').map(|part| part.parse().ok()).collect()
    };
    match numbers.as_deref() {
        Some([major, minor, _]) if (*major, *minor) >= (2, 8) => {}
        Some([_, _, _]) => reader.error(node, "the minimum version should be at least 2.8.0"),
        _ => reader.error(node, "invalid leafnode's minimum version: invalid semver"),
    }
}

fn authorization(reader: &mut Reader<'_>, node: &Node) {
    let (mut single, mut nkey, mut users) = (false, false, Vec::new());
    for (key, node) in reader.entries(node).unwrap_or_default() {
        match key.to_lowercase().as_str() {
            "user" | "username" => single = reader.string(node).is_some_and(|name| !name.is_empty()),
            "pass" | "password" | "account" => {
                reader.string(node);
            }
            "nkey" => {
                nkey = true;
                let valid = reader.string(node).is_some_and(|key| keys::is_valid(&key, KeyKind::User));
                if !valid {
                    reader.error(node, "Not a valid public nkey for leafnode authorization");
                }
            }
            "timeout" => {
                timeout(reader, key, node, "leafnode authorization");
            }
            "users" => users = leaf_users(reader, node),
            "proxy_required" => {
                reader.boolean(node);
            }
            _ => reader.unknown(key, node),
        }
    }
    if users.is_empty() {
        return;
    }
    if single {
        return reader.error(node, "can not have a single user/pass and a users array");
    }
    if nkey {
        return reader.error(node, "can not have a single nkey and a users array");
    }
    let mut seen = BTreeSet::new();
    if let Some(user) = users.iter().find(|user| !seen.insert(*user)) {
        reader.error(node, format!("duplicate user {user:?} detected in leafnode authorization"));
    }
}

fn leaf_users(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let Value::Array(items) = &node.value else {
        let message = format!("Expected users field to be an array, got {}", node.shown());
        reader.error(node, message);
        return Vec::new();
    };
    let mut users = Vec::new();
    for item in items {
        if item.as_map().is_none() {
            let message = format!("Expected user entry to be a map/struct, got {}", item.shown());
            reader.error(item, message);
            continue;
        }
        let mut name = String::new();
        for (key, node) in reader.entries(item).unwrap_or_default() {
            match key.to_lowercase().as_str() {
                "user" | "username" => name = reader.string(node).unwrap_or_default(),
                "pass" | "password" | "account" => {
                    reader.string(node);
                }
                "proxy_required" => {
                    reader.boolean(node);
                }
                _ => reader.unknown(key, node),
            }
        }
        users.push(name);
    }
    users
}

/// What tells one remote from another.
#[derive(Default)]
struct Remote {
    urls: Vec<Url>,
    account: String,
    credentials: Option<String>,
    nkey: bool,
    tls: bool,
    proxy: Option<Proxy>,
}

#[derive(Default)]
struct Proxy {
    url: String,
    username: String,
    password: String,
    /// A timeout or TLS is configured.
    more: bool,
    tls: bool,
}

fn remotes(reader: &mut Reader<'_>, node: &Node) {
    let Value::Array(items) = &node.value else {
        let kind = node.value.go_type();
        return reader.error(node, format!("Expected remotes field to be an array, got {kind}"));
    };
    let mut names = BTreeSet::new();
    for item in items {
        if item.as_map().is_none() {
            let message = format!("Expected remote leafnode entry to be a map/struct, got {}", item.shown());
            reader.error(item, message);
            continue;
        }
        let mut remote = Remote::default();
        let mut proxy_place = item;
        for (key, node) in reader.entries(item).unwrap_or_default() {
            let name = key.to_lowercase();
            if name == "proxy" {
                proxy_place = node;
            }
            let known = connection(reader, &mut remote, &name, node) || behaviour(reader, key, &name, node);
            if !known {
                reader.unknown(key, node);
            }
        }
        if let Some(problem) = remote.proxy.as_ref().and_then(|proxy| proxy_problem(proxy, &remote)) {
            reader.error(proxy_place, problem);
            continue;
        }
        let name = remote_name(&remote);
        if !names.insert(name.clone()) {
            reader.error(item, format!("duplicate remote {name}"));
        }
        check_mix(reader, &remote);
    }
}

fn remote_name(remote: &Remote) -> String {
    let urls: Vec<String> = remote.urls.iter().map(|url| format!("{:?}", url.to_string())).collect();
    let account = if remote.account.is_empty() { "$G" } else { &remote.account };
    let more = match (&remote.credentials, remote.nkey) {
        (Some(file), _) => format!(", credentials={file:?}"),
        (None, true) => ", nkey=\"[REDACTED]\"".to_owned(),
        (None, false) => String::new(),
    };
    format!("urls=[{}], account={account:?}{more}", urls.join(" "))
}

/// Either all of a remote's URLs are WebSocket ones, or none.
fn check_mix(reader: &mut Reader<'_>, remote: &Remote) {
    let websockets = remote.urls.iter().filter(|url| url.scheme == "ws" || url.scheme == "wss").count();
    if websockets != 0 && websockets != remote.urls.len() {
        let urls: Vec<String> = remote.urls.iter().map(|url| format!("{:?}", url.to_string())).collect();
        reader.late.push(format!(
            "remote leaf node configuration cannot have a mix of websocket and non-websocket urls: [{}]",
            urls.join(" ")
        ));
    }
}

fn connection(reader: &mut Reader<'_>, remote: &mut Remote, name: &str, node: &Node) -> bool {
    const BOTH: &str = "Remote leafnode can not have both creds and nkey defined";
    match name {
        "url" | "urls" => match &node.value {
            Value::Array(_) => remote.urls = reader.urls("leafnode", node),
            Value::String(text) => remote.urls.extend(reader.url("leafnode", node, text)),
            _ => {
                let shown = node.shown();
                let message = format!("Expected remote leafnode url to be an array or string, got {shown}");
                reader.error(node, message);
            }
        },
        "account" | "local" => remote.account = reader.string(node).unwrap_or_default(),
        "creds" | "credentials" => {
            let file = reader.string(node);
            if remote.nkey {
                reader.error(node, BOTH);
            } else {
                remote.credentials = file;
            }
        }
        "nkey" | "seed" => {
            let Some(seed) = reader.string(node) else { return true };
            if !keys::is_user_seed(&seed) {
                reader.error(node, format!("Remote leafnode nkey is not a valid seed: {seed:?}"));
            } else if remote.credentials.is_some() {
                reader.error(node, BOTH);
            } else {
                remote.nkey = true;
            }
        }
        "tls" => {
            remote.tls = true;
            tls::tls(reader, node, Place::Clients);
        }
        "proxy" => remote.proxy = proxy(reader, node),
        _ => return false,
    }
    true
}

fn behaviour(reader: &mut Reader<'_>, key: &str, name: &str, node: &Node) -> bool {
    match name {
        "no_randomize"
        | "dont_randomize"
        | "hub"
        | "ws_compress"
        | "ws_compression"
        | "websocket_compress"
        | "websocket_compression"
        | "ws_no_masking"
        | "websocket_no_masking"
        | "isolate_leafnode_interest"
        | "isolate"
        | "request_isolation"
        | "disabled"
        | "ignore_discovered_servers" => {
            reader.boolean(node);
        }
        "deny_imports" | "deny_import" | "deny_exports" | "deny_export" => {
            if let Err(message) = subjects(node, false) {
                reader.error(node, message);
            }
        }
        "jetstream_cluster_migrate" | "js_cluster_migrate" => match &node.value {
            Value::Boolean(_) => {}
            Value::Map(map) => {
                if let Some(delay) = map.get("leader_migrate_delay") {
                    reader.duration("leader_migrate_delay", delay);
                }
            }
            other => {
                let kind = other.go_type();
                let message = format!("Expected boolean or map for jetstream_cluster_migrate, got {kind}");
                tls::bare(reader, message);
            }
        },
        "compression" => {
            compression(reader, key, node, On::Auto);
        }
        "first_info_timeout" | "dial_timeout" => {
            reader.duration(key, node);
        }
        _ => return false,
    }
    true
}

fn proxy(reader: &mut Reader<'_>, node: &Node) -> Option<Proxy> {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        reader.error(node, format!("Expected proxy to be a map, got {kind}"));
        return None;
    }
    let mut proxy = Proxy::default();
    for (key, node) in reader.entries(node)? {
        match key.to_lowercase().as_str() {
            "url" => proxy.url = reader.string(node)?,
            "username" => proxy.username = reader.string(node)?,
            "password" => proxy.password = reader.string(node)?,
            "timeout" => {
                proxy.more = true;
                reader.duration("proxy timeout", node);
            }
            "tls" => {
                proxy.more = true;
                proxy.tls = true;
                proxy_tls(reader, node);
            }
            _ => reader.unknown(key, node),
        }
    }
    Some(proxy)
}

fn proxy_tls(reader: &mut Reader<'_>, node: &Node) {
    const NOT_FOR_CLIENTS: [&str; 8] = [
        "verify",
        "verify_and_map",
        "verify_cert_and_check_known_urls",
        "connection_rate_limit",
        "pinned_certs",
        "handshake_first",
        "ocsp_peer",
        "first",
    ];
    let mut refused = false;
    for (key, entry) in reader.entries(node).unwrap_or_default() {
        if NOT_FOR_CLIENTS.contains(&key.to_lowercase().as_str()) {
            reader.error(entry, format!("{key:?} is not supported for proxy TLS"));
            refused = true;
        }
    }
    if !refused {
        tls::tls(reader, node, Place::Clients);
    }
}

fn proxy_problem(proxy: &Proxy, remote: &Remote) -> Option<String> {
    let more = proxy.more || !proxy.username.is_empty() || !proxy.password.is_empty();
    if proxy.url.is_empty() {
        return more.then(|| "proxy URL must be specified when other proxy options are set".to_owned());
    }
    let (scheme, rest) = proxy.url.split_once("://").unwrap_or(("", &proxy.url));
    if scheme != "http" && scheme != "https" {
        return Some(format!("proxy URL scheme must be http or https, got: {scheme}"));
    }
    if rest.split('/').next().unwrap_or_default().is_empty() {
        return Some("proxy URL must specify a host".to_owned());
    }
    if proxy.tls && scheme != "https" {
        return Some(format!("proxy TLS configuration requires an https proxy URL, got: {scheme}"));
    }
    if proxy.username.is_empty() != proxy.password.is_empty() {
        return Some("proxy username and password must both be specified or both be empty".to_owned());
    }
    let secure = remote.urls.iter().find(|url| url.scheme == "wss").filter(|_| !remote.tls)?;
    Some(format!(
        "proxy is configured but remote URL {secure} requires TLS and no TLS configuration is provided. When using proxy with TLS endpoints, ensure TLS is properly configured for the leafnode remote"
    ))
}
