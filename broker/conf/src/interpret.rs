//! From the parsed tree to [`Options`]: one arm a key, with nats-server's names and texts.
//!
//! Keys are matched without regard to case. A key of nats-server that has no effect here yet is
//! listed in [`Options::unserved`]; one whose absence would protect less is an error.

mod accounts;
mod authorization;
mod cluster;
mod jetstream;
mod weir;

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    error::{ConfError, ConfErrors},
    options::{JetStreamOptions, Options},
    parse::Document,
    read::Reader,
    value::{Node, Value},
};

/// Understood by nats-server, harmless to leave out, not served yet.
const UNSERVED: &[&str] = &[
    "trace_headers",
    "mappings",
    "maps",
    "disable_sublist_cache",
    "no_sublist_cache",
    "gateway",
    "leaf",
    "leafnodes",
    "logfile_size_limit",
    "log_size_limit",
    "logfile_max_num",
    "log_max_num",
    "syslog",
    "remote_syslog",
    "prof_port",
    "prof_block_rate",
    "max_sub_tokens",
    "max_subscription_tokens",
    "allow_non_tls",
    "write_timeout",
    "no_header_support",
    "connect_error_reports",
    "reconnect_error_reports",
    "websocket",
    "ws",
    "mqtt",
    "feature_flags",
    "default_js_domain",
    "ocsp_cache",
    "no_fast_producer_stall",
];

/// Leaving these out would let in who the file keeps out, or show what it hides.
const REFUSED: &[&str] = &[
    "tls",
    "https",
    "https_port",
    "ocsp",
    "operator",
    "operators",
    "roots",
    "root",
    "root_operators",
    "root_operator",
    "resolver",
    "account_resolver",
    "accounts_resolver",
    "resolver_tls",
    "resolver_preload",
    "resolver_pinned_accounts",
    "default_sentinel",
    "trusted",
    "trusted_keys",
    "proxies",
    "proxy_protocol",
];

/// Reads a parsed configuration over `options`, which hold the defaults.
pub(crate) fn apply(document: &Document, options: &mut Options) -> Result<(), ConfErrors> {
    if document.root.is_empty() {
        let message = format!("{}: config has no values or is empty", document.file);
        let errors = vec![ConfError::bare(&document.file, 0, 0, message)];
        return Err(ConfErrors { errors, list: true });
    }
    let mut reader = Reader::default();
    // In the order of the file, so that complaints come in that order and the last alias wins.
    let mut entries: Vec<(&String, &Node)> = document.root.iter().collect();
    entries.sort_by_key(|(_, node)| (node.file != document.file, node.line, node.column));
    for (key, node) in entries {
        top(&mut reader, options, key, node);
    }
    authorization::check_users(&mut reader, options, document);
    options.config_digest.clone_from(&document.digest);
    options.config_file = Some(PathBuf::from(document.file.as_ref()));
    options.unserved = std::mem::take(&mut reader.unserved);
    options.warnings = std::mem::take(&mut reader.warnings);
    if reader.errors.is_empty() {
        return Ok(());
    }
    // The warnings come first, as in the reference.
    let mut errors = std::mem::take(&mut options.warnings);
    errors.append(&mut reader.errors);
    Err(ConfErrors { errors, list: true })
}

/// Puts a read value in its place; a failed read has already complained.
fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn top(reader: &mut Reader, options: &mut Options, key: &str, node: &Node) {
    let name = key.to_lowercase();
    match name.as_str() {
        "accounts" => accounts::accounts(reader, options, node),
        "authorization" => authorization::authorization(reader, options, node),
        "cluster" => cluster::cluster(reader, options, node),
        "jetstream" => jetstream::jetstream(reader, options, node),
        "weir" => weir::weir(reader, &mut options.weir, node),
        "no_auth_user" => options.no_auth_user = reader.string(node),
        "system_account" | "system" => options.system_account = reader.string(node),
        "no_system_account" | "no_system" | "no_sys_acc" => {
            put(&mut options.no_system_account, reader.boolean(node));
        }
        known if UNSERVED.contains(&known) => check_unserved(reader, known, node),
        known if REFUSED.contains(&known) => reader.refuse(known, node),
        _ if listening(reader, options, &name, node) => {}
        _ if logging(reader, options, &name, node) => {}
        _ if limits(reader, options, &name, node) => {}
        _ if identity(reader, options, &name, node) => {}
        _ => reader.unknown(key, node),
    }
}

fn listening(reader: &mut Reader, options: &mut Options, name: &str, node: &Node) -> bool {
    match name {
        "listen" => {
            if let Some((host, port)) = reader.listen(node) {
                put(&mut options.host, host);
                options.port = port;
            }
        }
        "port" => put(&mut options.port, reader.number("port", node)),
        "host" | "net" => put(&mut options.host, reader.string(node)),
        "client_advertise" => options.client_advertise = reader.string(node),
        "http" => {
            if let Some((host, port)) = reader.listen(node) {
                put(&mut options.http_host, host);
                options.http_port = (port != 0).then_some(port);
            }
        }
        "http_port" | "monitor_port" => {
            let port = reader.number("http_port", node);
            options.http_port = port.filter(|port| *port != 0);
        }
        "http_base_path" => {
            let path = reader.string(node).unwrap_or_default();
            options.http_base_path = base_path(&path);
        }
        _ => return false,
    }
    true
}

/// A path with a leading slash and no trailing one.
pub(crate) fn base_path(path: &str) -> String {
    match path.trim_matches('/') {
        "" => String::new(),
        inner => format!("/{inner}"),
    }
}

fn logging(reader: &mut Reader, options: &mut Options, name: &str, node: &Node) -> bool {
    match name {
        "debug" => put(&mut options.debug, reader.boolean(node)),
        "trace" => put(&mut options.trace, reader.boolean(node)),
        "trace_verbose" => {
            put(&mut options.trace_verbose, reader.boolean(node));
            options.trace |= options.trace_verbose;
        }
        "logtime" => put(&mut options.logtime, reader.boolean(node)),
        "logtime_utc" => put(&mut options.logtime_utc, reader.boolean(node)),
        "logfile" | "log_file" => options.log_file = reader.string(node).map(PathBuf::from),
        "pidfile" | "pid_file" => options.pid_file = reader.string(node).map(PathBuf::from),
        "ports_file_dir" => options.ports_file_dir = reader.string(node).map(PathBuf::from),
        "max_traced_msg_len" => {
            put(&mut options.max_traced_msg_len, reader.number("max_traced_msg_len", node));
        }
        _ => return false,
    }
    true
}

fn limits(reader: &mut Reader, options: &mut Options, name: &str, node: &Node) -> bool {
    match name {
        "max_control_line" => {
            let number = reader.number::<i32>("max_control_line", node);
            put(&mut options.max_control_line, number.and_then(|n| u32::try_from(n).ok()));
        }
        "max_payload" => {
            let number = reader.number::<i32>("max_payload", node);
            put(&mut options.max_payload, number.and_then(|n| u32::try_from(n).ok()));
        }
        "max_pending" => put(&mut options.max_pending, reader.number("max_pending", node)),
        "max_connections" | "max_conn" => {
            put(&mut options.max_connections, reader.integer(node));
        }
        "max_subscriptions" | "max_subs" => {
            put(&mut options.max_subscriptions, reader.number("max_subscriptions", node));
        }
        "max_closed_clients" => {
            put(&mut options.max_closed_clients, reader.number("max_closed_clients", node));
        }
        "ping_interval" => put(&mut options.ping_interval, reader.duration("ping_interval", node)),
        "ping_max" => put(&mut options.ping_max, reader.number("ping_max", node)),
        "write_deadline" => {
            put(&mut options.write_deadline, reader.duration("write_deadline", node));
        }
        "lame_duck_duration" => lame_duck_duration(reader, options, node),
        "lame_duck_grace_period" => {
            let grace = reader.duration("lame_duck_grace_period", node);
            put(&mut options.lame_duck_grace_period, grace);
        }
        _ => return false,
    }
    true
}

/// A tag or a list of tags.
fn tags(reader: &mut Reader, node: &Node) -> Vec<String> {
    let refused = match &node.value {
        Value::String(text) => return vec![text.clone()],
        Value::Array(items) => {
            let tags: Option<Vec<String>> =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            match tags {
                Some(tags) => return tags,
                None => "*conf.token where string is expected",
            }
        }
        other => other.go_type(),
    };
    reader.error(node, format!("error parsing tags: unsupported type {refused}"));
    Vec::new()
}

fn lame_duck_duration(reader: &mut Reader, options: &mut Options, node: &Node) {
    const MINIMUM_S: u64 = 30;
    let Some(duration) = reader.duration("lame_duck_duration", node) else { return };
    if duration.as_secs() < MINIMUM_S {
        let message = format!(
            "invalid lame_duck_duration of {}, minimum is {MINIMUM_S} seconds",
            crate::format_duration(duration)
        );
        return reader.error(node, message);
    }
    options.lame_duck_duration = duration;
}

fn identity(reader: &mut Reader, options: &mut Options, name: &str, node: &Node) -> bool {
    match name {
        "server_name" => {
            let Some(name) = reader.string(node) else { return true };
            if name.contains(' ') {
                reader.error(node, "server name cannot contain spaces");
            } else {
                options.server_name = name;
            }
        }
        "server_tags" => options.server_tags = tags(reader, node),
        "server_metadata" => {
            if node.as_map().is_none() {
                let kind = node.value.go_type();
                reader.error(node, format!("error parsing metadata: unsupported type {kind}"));
                return true;
            }
            let entries = node.as_map().into_iter().flatten();
            options.server_metadata = entries
                .filter_map(|(key, node)| Some((key.clone(), reader.string(node)?)))
                .collect::<BTreeMap<_, _>>();
        }
        "store_dir" | "storedir" => {
            let directory = reader.string(node);
            let jetstream = options.jetstream.as_ref().and_then(|js| js.store_dir.clone());
            if jetstream.is_some() {
                reader.error(node, "Duplicate 'store_dir' configuration");
            } else if let Some(directory) = directory {
                // Without a jetstream block the directory alone starts nothing.
                reader.store_dir = Some(PathBuf::from(directory));
                if let Some(jetstream) = &mut options.jetstream {
                    jetstream.store_dir.clone_from(&reader.store_dir);
                }
            }
        }
        _ => return false,
    }
    true
}

/// The few unserved options that nats-server checks in ways worth keeping.
fn check_unserved(reader: &mut Reader, name: &str, node: &Node) {
    match name {
        "prof_port" | "prof_block_rate" | "connect_error_reports" | "reconnect_error_reports" => {
            reader.integer(node);
        }
        "feature_flags" => {
            for (flag, node) in reader.map(node).into_iter().flatten() {
                if !matches!(node.value, Value::Boolean(_)) {
                    let kind = node.value.go_type();
                    let message = format!("error parsing feature flag {flag:?}: expected bool, got {kind}");
                    reader.error(node, message);
                }
            }
        }
        _ => {}
    }
    reader.unserved(name, node);
}

/// The JetStream options, made when a key first needs them.
fn jetstream_of<'a>(reader: &Reader, options: &'a mut Options) -> &'a mut JetStreamOptions {
    options.jetstream.get_or_insert_with(|| JetStreamOptions {
        store_dir: reader.store_dir.clone(),
        ..JetStreamOptions::default()
    })
}
