//! Operator mode: operators, where account claims come from, trusted keys; also trusted proxies.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::tls::{self, Place};
use crate::{
    keys::{self, KeyKind},
    options::{Options, Resolver, TrustedProxy},
    read::Reader,
    value::{Node, Value},
};

/// Every JWT begins so: it is `{"` in base 64.
const JWT_PREFIX: &str = "eyJ";

/// One key of operator mode; false when it is none.
pub(super) fn key(reader: &mut Reader<'_>, options: &mut Options, name: &str, node: &Node) -> bool {
    match name {
        "operator" | "operators" | "roots" | "root" | "root_operators" | "root_operator" => {
            operators(reader, options, node);
        }
        "resolver" | "account_resolver" | "accounts_resolver" => {
            options.operator.resolver = resolver(reader, node);
        }
        "resolver_tls" => options.operator.resolver_tls = tls::tls(reader, node, Place::Clients),
        "resolver_preload" => preload(reader, options, node),
        "resolver_pinned_accounts" => {
            let pinned = list(reader, node, "resolver_pinned_accounts");
            options.operator.resolver_pinned_accounts = pinned.into_iter().collect();
        }
        "default_sentinel" => {
            options.operator.default_sentinel = reader.string(node).filter(|text| !text.is_empty());
        }
        "trusted" | "trusted_keys" => {
            options.operator.trusted_keys = list(reader, node, "trusted");
            // The reference points at the last of them.
            let node = match &node.value {
                Value::Array(items) => items.last().unwrap_or(node),
                _ => node,
            };
            for key in &options.operator.trusted_keys {
                if !keys::is_valid(key, KeyKind::Operator) {
                    let message = format!("trust key {key:?} required to be a valid public operator nkey");
                    reader.error(node, message);
                }
            }
        }
        "proxies" => options.proxies = proxies(reader, node),
        _ => return false,
    }
    true
}

fn list(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<String> {
    reader.strings(what, node)
}

fn operators(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    let names = match &node.value {
        Value::String(name) => vec![name.clone()],
        Value::Array(items) => {
            let names: Option<Vec<String>> =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            names.unwrap_or_else(|| {
                let message =
                    "error parsing operators: unsupported type *conf.token where string is expected";
                reader.error(node, message);
                Vec::new()
            })
        }
        other => {
            let message = format!("error parsing operators: unsupported type {}", other.go_type());
            return reader.error(node, message);
        }
    };
    let mut claims = Vec::new();
    for name in names {
        match operator(reader, &name) {
            Ok((jwt, claim)) => {
                options.operator.jwts.push(jwt);
                claims.push(claim);
            }
            Err(reason) => reader.error(node, format!("error parsing operator JWT: {reason}")),
        }
    }
    // A single operator says where accounts are and which is the system's, unless the file does.
    if let [claim] = claims.as_slice() {
        let field = |name: &str| {
            let text = claim["nats"][name].as_str();
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        reader.operator_resolver = field("account_server_url").map(|url| format!("{url}/accounts"));
        reader.operator_system_account = field("system_account");
    }
    reader.operator_claims = claims;
}

/// The JWT of a file, or the one that stands in the configuration itself.
fn operator(reader: &Reader<'_>, name: &str) -> Result<(String, serde_json::Value), String> {
    let text = match reader.file(Path::new(name)) {
        Ok(text) => text,
        Err(_) if name.starts_with(JWT_PREFIX) => name.to_owned(),
        Err(reason) => return Err(reason),
    };
    let jwt = undecorated(&text);
    let claims = decoded(&jwt).ok_or("expected 3 chunks")?;
    match claims["nats"]["type"].as_str().or(claims["type"].as_str()) {
        Some("operator") => Ok((jwt, claims)),
        _ => Err("not operator claim".to_owned()),
    }
}

/// The JWT between the lines `-----BEGIN ...` and `-----END ...`, or the whole text.
fn undecorated(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with("---"));
    match lines.nth(1) {
        Some(line) if line.starts_with(JWT_PREFIX) => line.to_owned(),
        _ => text.trim().to_owned(),
    }
}

/// The claims of a JWT whose signature nobody has looked at here.
pub(super) fn decoded(jwt: &str) -> Option<serde_json::Value> {
    let mut chunks = jwt.split('.');
    let (Some(_), Some(claims), Some(_), None) = (chunks.next(), chunks.next(), chunks.next(), chunks.next())
    else {
        return None;
    };
    let bytes = URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn resolver(reader: &mut Reader<'_>, node: &Node) -> Option<Resolver> {
    let found = match &node.value {
        Value::String(text) => {
            let upper = text.to_uppercase();
            if upper.contains("MEM") { Some(Resolver::Memory) } else { url_resolver(reader, node, text)? }
        }
        Value::Map(_) => directory(reader, node)?,
        other => {
            let message = format!("error parsing operator resolver, wrong type {}", other.go_type());
            reader.error(node, message);
            return None;
        }
    };
    if found.is_none() {
        reader.error(
            node,
            "error parsing account resolver, should be MEM or  URL(\"url\") or a map containing dir and type state=[FULL|CACHE])",
        );
    }
    found
}

/// `URL(...)`. `None` after a complaint.
fn url_resolver(reader: &mut Reader<'_>, node: &Node, text: &str) -> Option<Option<Resolver>> {
    let lower = text.to_lowercase();
    let Some(start) = lower.find("url(") else { return Some(None) };
    let rest = &text[start + 4..];
    let Some(inside) = rest.split(')').next() else { return Some(None) };
    let address = inside.trim().trim_matches('"');
    if address.contains(char::is_control) {
        reader.error(node, format!("error parsing account resolver url [{address:?}]"));
        return None;
    }
    let slash = if address.ends_with('/') { "" } else { "/" };
    Some(Some(Resolver::Url(format!("{address}{slash}"))))
}

/// The keys of a resolver in a folder.
#[derive(Default)]
struct Directory {
    path: PathBuf,
    kind: String,
    allow_delete: bool,
    hard_delete: Option<bool>,
    limit: i64,
    ttl: std::time::Duration,
    interval: std::time::Duration,
    timeout: Option<std::time::Duration>,
}

/// A folder with accounts. `None` after a complaint.
fn directory(reader: &mut Reader<'_>, node: &Node) -> Option<Option<Resolver>> {
    const FETCH_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(1900);
    const INTERVAL: std::time::Duration = std::time::Duration::from_secs(60);
    let read = directory_keys(reader, node)?;
    let timeout = read.timeout.unwrap_or(FETCH_TIMEOUT);
    let limit = read.limit;
    let cache = match read.kind.to_uppercase().as_str() {
        "CACHE" => true,
        "FULL" => false,
        "MEM" | "MEMORY" => return Some(Some(Resolver::Memory)),
        _ => return Some(None),
    };
    let complaints = reader.errors.len();
    check_directory(reader, node, &read.path);
    let mut refuse = |refused: bool, message: &str| {
        if refused {
            reader.error(node, message);
        }
    };
    if cache {
        refuse(!read.interval.is_zero(), "CACHE does not accept sync");
        refuse(read.allow_delete, "CACHE does not accept allow_delete");
        refuse(read.hard_delete.is_some(), "CACHE does not accept hard_delete");
    } else {
        refuse(!read.ttl.is_zero(), "FULL does not accept ttl");
        refuse(read.hard_delete.is_some() && !read.allow_delete, "hard_delete has no effect without delete");
    }
    if reader.errors.len() > complaints {
        return None;
    }
    let dir = read.path;
    Some(Some(if cache {
        Resolver::Cache { dir, ttl: read.ttl, timeout, limit }
    } else {
        let interval = Some(read.interval).filter(|time| !time.is_zero()).unwrap_or(INTERVAL);
        let hard_delete = read.hard_delete.unwrap_or(false);
        Resolver::Full { dir, allow_delete: read.allow_delete, hard_delete, interval, timeout, limit }
    }))
}

fn directory_keys(reader: &mut Reader<'_>, node: &Node) -> Option<Directory> {
    let mut read = Directory::default();
    for (key, entry) in reader.entries(node)? {
        match key.as_str() {
            "dir" => read.path = PathBuf::from(reader.string(entry)?),
            "type" => read.kind = reader.string(entry)?,
            "allow_delete" => read.allow_delete = reader.boolean(entry)?,
            "hard_delete" => read.hard_delete = Some(reader.boolean(entry)?),
            "limit" => read.limit = reader.integer(entry)?,
            "ttl" | "interval" | "timeout" => {
                let text = reader.string(entry)?;
                let time = match crate::parse_duration(&text) {
                    Ok(time) => time,
                    Err(reason) => {
                        reader.error(node, reason);
                        return None;
                    }
                };
                match key.as_str() {
                    "ttl" => read.ttl = time,
                    "interval" => read.interval = time,
                    _ => read.timeout = Some(time),
                }
            }
            // The reference takes no notice of others.
            _ => reader.unserved(format!("resolver.{key}"), entry),
        }
    }
    Some(read)
}

fn check_directory(reader: &mut Reader<'_>, node: &Node, path: &Path) {
    if path.as_os_str().is_empty() {
        reader.error(node, "dir has no value and needs to point to a directory");
        return reader.error(node, "mkdir : no such file or directory");
    }
    if reader.is_file(path) {
        reader.error(node, "dir needs to point to an accessible directory");
        reader.error(node, format!("mkdir {}: not a directory", path.display()));
    }
}

fn preload(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    let Some(map) = node.as_map() else {
        let message = "preload should be a map of account_public_key:account_jwt";
        return reader.error(node, message);
    };
    for (key, node) in map {
        let Some(jwt) = node.as_str() else {
            reader.error(node, "preload map value should be a string JWT");
            continue;
        };
        let kind = decoded(jwt).and_then(|claims| {
            claims["nats"]["type"].as_str().or(claims["type"].as_str()).map(str::to_owned)
        });
        if kind.as_deref() != Some("account") {
            reader.error(node, "invalid account JWT");
            continue;
        }
        options.operator.resolver_preload.insert(key.clone(), jwt.to_owned());
    }
}

fn proxies(reader: &mut Reader<'_>, node: &Node) -> Vec<TrustedProxy> {
    let mut trusted = Vec::new();
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        reader.error(node, format!("expected proxies to be a map/struct, got {kind}"));
        return trusted;
    }
    for (key, node) in reader.entries(node).unwrap_or_default() {
        if !key.eq_ignore_ascii_case("trusted") {
            reader.unknown(key, node);
            continue;
        }
        let Value::Array(items) = &node.value else {
            let kind = node.value.go_type();
            reader.error(node, format!("expected proxies' trusted field to be an array, got {kind}"));
            continue;
        };
        trusted.extend(items.iter().filter_map(|item| proxy(reader, item)));
    }
    trusted
}

fn proxy(reader: &mut Reader<'_>, node: &Node) -> Option<TrustedProxy> {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        reader.error(node, format!("expected proxies' trusted entry to be a map/struct, got {kind}"));
        return None;
    }
    let mut proxy = TrustedProxy { key: String::new() };
    for (key, node) in reader.entries(node)? {
        match key.to_lowercase().as_str() {
            "key" | "public_key" => {
                proxy.key = reader.string(node)?;
                if !keys::is_valid(&proxy.key, KeyKind::Any) {
                    let message = format!("invalid proxy key {:?}", proxy.key);
                    reader.error(node, message);
                }
            }
            _ => reader.unknown(key, node),
        }
    }
    Some(proxy)
}
