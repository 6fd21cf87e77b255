//! From the parsed tree to [`Options`]: one arm a key, with nats-server's names and texts.
//!
//! Keys are matched without regard to case. A key of nats-server that has no effect here yet is
//! listed in [`Options::unserved`]; one whose absence would protect less is an error.

mod accounts;
mod authorization;
mod cluster;
mod compression;
mod exchange;
mod exchange_check;
mod jetstream;
mod later;
mod mappings;
mod ocsp;
mod operator;
mod permissions;
mod tls;
mod websocket;
mod weir;

pub(crate) use tls::check_files as check_tls_files;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{
    error::{ConfError, ConfErrors},
    options::{JetStreamOptions, Options, Resolver},
    parse::Document,
    read::Reader,
    sources::Sources,
    value::{Node, Value},
};

/// Reads a parsed configuration over `options`, which hold the defaults.
pub(crate) fn apply(
    document: &Document,
    options: &mut Options,
    sources: &dyn Sources,
) -> Result<(), ConfErrors> {
    let mut reader = Reader::new(sources);
    if document.root.is_empty() {
        let message = format!("{}: config has no values or is empty", document.file);
        reader.warnings.push(ConfError::bare(&document.file, 0, 0, message));
    }
    system_account(&mut reader, options, document);
    // In the order of the file, so that complaints come in that order and the last alias wins.
    let mut entries: Vec<(&String, &Node)> = document.root.iter().collect();
    entries.sort_by_key(|(_, node)| (node.file != document.file, node.line, node.column));
    for (key, node) in entries {
        top(&mut reader, options, key, node);
    }
    finish(&mut reader, options, document);
    options.config_digest.clone_from(&document.digest);
    options.config_file = Some(PathBuf::from(document.file.as_ref()));
    options.unserved = std::mem::take(&mut reader.unserved);
    options.warnings = std::mem::take(&mut reader.warnings);
    options.problems = std::mem::take(&mut reader.late);
    if reader.errors.is_empty() {
        return Ok(());
    }
    // The warnings come first, as in the reference.
    let mut errors = std::mem::take(&mut options.warnings);
    errors.append(&mut reader.errors);
    Err(ConfErrors { errors, list: true })
}

/// The system account is known before all else, since other options depend on it.
fn system_account(reader: &mut Reader<'_>, options: &mut Options, document: &Document) {
    let node = document.root.get("system_account").or_else(|| document.root.get("system"));
    let Some(node) = node else { return };
    match node.as_str() {
        Some(name) => options.system_account = Some(name.to_owned()).filter(|name| !name.is_empty()),
        None => reader.error(node, "system account name must be a string"),
    }
}

/// What needs the whole file.
fn finish(reader: &mut Reader<'_>, options: &mut Options, document: &Document) {
    authorization::check_users(reader, options, document);
    let after_tls = options.tls.as_ref().map(|tls| tls.timeout + Duration::from_secs(1));
    if let Some(timeout) = after_tls.filter(|_| !reader.auth_timeout_given) {
        options.auth_timeout = timeout;
    }
    if let Some(url) = reader.operator_resolver.take().filter(|_| options.operator.resolver.is_none()) {
        options.operator.resolver = Some(Resolver::Url(url));
    }
    if options.system_account.is_none() {
        options.system_account = reader.operator_system_account.take();
    }
    if options.operator.jwts.is_empty() && options.operator.trusted_keys.is_empty() {
        return;
    }
    let named: Vec<&str> = reader
        .operator_claims
        .iter()
        .filter_map(|claims| claims["nats"]["system_account"].as_str().filter(|name| !name.is_empty()))
        .collect();
    let system = options.system_account.as_deref();
    if system.is_some_and(|system| !named.is_empty() && !named.contains(&system)) {
        let message = "system_account in config and operator JWT must be identical";
        reader.late.push(message.to_owned());
    }
}

/// Puts a read value in its place; a failed read has already complained.
fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn top(reader: &mut Reader<'_>, options: &mut Options, key: &str, node: &Node) {
    let name = key.to_lowercase();
    match name.as_str() {
        "accounts" => accounts::accounts(reader, options, node),
        "authorization" => authorization::authorization(reader, options, node),
        "cluster" => cluster::cluster(reader, options, node),
        "jetstream" => jetstream::jetstream(reader, options, node),
        "websocket" | "ws" => websocket::websocket(reader, options, node),
        "weir" => weir::weir(reader, &mut options.weir, node),
        "gateway" => later::gateway(reader, node),
        "leaf" | "leafnodes" => later::leafnodes(reader, node),
        "mqtt" => later::mqtt(reader, node),
        "tls" => options.tls = tls::tls(reader, node, tls::Place::Clients),
        "ocsp" => ocsp::stapling(reader, options, node),
        "ocsp_cache" => ocsp::cache(reader, options, node),
        "mappings" | "maps" => options.mappings = mappings::mappings(reader, node),
        "no_auth_user" => {
            options.no_auth_user = reader.string(node).filter(|user| !user.is_empty());
        }
        // Read before all others, by exactly these names.
        "system_account" | "system" => {}
        "no_system_account" | "no_system" | "no_sys_acc" => {
            put(&mut options.no_system_account, reader.boolean(node));
        }
        _ if operator::key(reader, options, &name, node) => {}
        _ if listening(reader, options, &name, node) => {}
        _ if logging(reader, options, &name, node) => {}
        _ if limits(reader, options, key, node) => {}
        _ if pace(reader, options, &name, node) => {}
        _ if identity(reader, options, &name, node) => {}
        _ => reader.unknown(key, node),
    }
}

fn listening(reader: &mut Reader<'_>, options: &mut Options, name: &str, node: &Node) -> bool {
    match name {
        "listen" => {
            if let Some((host, port)) = reader.listen(node) {
                put(&mut options.host, host);
                options.port = default_port(port);
            }
        }
        "port" => put(&mut options.port, reader.number("port", node).map(default_port)),
        "host" | "net" => {
            put(&mut options.host, reader.string(node).filter(|host| !host.is_empty()));
        }
        "client_advertise" => {
            options.client_advertise = reader.string(node).filter(|text| !text.is_empty());
        }
        "http" | "https" => {
            if let Some((host, port)) = reader.listen(node) {
                put(&mut options.http_host, host);
                let place = if name == "http" { &mut options.http_port } else { &mut options.https_port };
                *place = (port != 0).then_some(port);
            }
        }
        "http_port" | "monitor_port" => {
            let port = reader.number("http_port", node);
            options.http_port = port.filter(|port| *port != 0);
        }
        "https_port" => {
            let port = reader.number("https_port", node);
            options.https_port = port.filter(|port| *port != 0);
        }
        "http_base_path" => {
            let path = reader.string(node).unwrap_or_default();
            options.http_base_path = base_path(&path);
        }
        "allow_non_tls" => put(&mut options.allow_non_tls, reader.boolean(node)),
        "proxy_protocol" => put(&mut options.proxy_protocol, reader.boolean(node)),
        "prof_port" => {
            put(&mut options.prof_port, reader.number("prof_port", node));
            if options.prof_port != 0 {
                reader.unserved(name, node);
            }
        }
        "prof_block_rate" => {
            reader.integer(node);
            reader.unserved(name, node);
        }
        _ => return false,
    }
    true
}

/// Zero is nats-server's word for its usual port.
fn default_port(port: i32) -> i32 {
    if port == 0 { Options::default().port } else { port }
}

/// A path with a leading slash and no trailing one.
pub(crate) fn base_path(path: &str) -> String {
    match path.trim_matches('/') {
        "" => String::new(),
        inner => format!("/{inner}"),
    }
}

fn logging(reader: &mut Reader<'_>, options: &mut Options, name: &str, node: &Node) -> bool {
    let path = |text: Option<String>| text.filter(|text| !text.is_empty()).map(PathBuf::from);
    match name {
        "debug" => put(&mut options.debug, reader.boolean(node)),
        "trace" => put(&mut options.trace, reader.boolean(node)),
        "trace_verbose" => {
            put(&mut options.trace_verbose, reader.boolean(node));
            options.trace |= options.trace_verbose;
        }
        "trace_headers" => {
            put(&mut options.trace_headers, reader.boolean(node));
            options.trace |= options.trace_headers;
        }
        "logtime" => put(&mut options.logtime, reader.boolean(node)),
        "logtime_utc" => put(&mut options.logtime_utc, reader.boolean(node)),
        "logfile" | "log_file" => options.log_file = path(reader.string(node)),
        "logfile_size_limit" | "log_size_limit" => {
            put(&mut options.log_size_limit, unsigned(reader.integer(node)));
        }
        "logfile_max_num" | "log_max_num" => {
            put(&mut options.log_max_num, unsigned(reader.integer(node)));
        }
        "syslog" => put(&mut options.syslog, reader.boolean(node)),
        "remote_syslog" => {
            options.remote_syslog = reader.string(node).filter(|text| !text.is_empty());
        }
        "pidfile" | "pid_file" => options.pid_file = path(reader.string(node)),
        "ports_file_dir" => options.ports_file_dir = path(reader.string(node)),
        "max_traced_msg_len" => {
            put(&mut options.max_traced_msg_len, unsigned(reader.integer(node)));
        }
        "connect_error_reports" => {
            put(&mut options.connect_error_reports, unsigned(reader.integer(node)).filter(|n| *n > 0));
        }
        "reconnect_error_reports" => {
            put(&mut options.reconnect_error_reports, unsigned(reader.integer(node)).filter(|n| *n > 0));
        }
        _ => return false,
    }
    true
}

/// Below zero means what zero means.
fn unsigned(number: Option<i64>) -> Option<u64> {
    number.map(|number| u64::try_from(number).unwrap_or(0))
}

fn limits(reader: &mut Reader<'_>, options: &mut Options, key: &str, node: &Node) -> bool {
    match key.to_lowercase().as_str() {
        "max_control_line" => {
            let number = size_32(reader, key, node).filter(|number| *number != 0);
            put(&mut options.max_control_line, number);
        }
        "max_payload" => {
            put(&mut options.max_payload, size_32(reader, key, node).filter(|number| *number != 0));
        }
        "max_pending" => {
            let number: Option<u64> = reader.number("max_pending", node);
            put(&mut options.max_pending, number.filter(|number| *number != 0));
        }
        "max_connections" | "max_conn" => {
            put(&mut options.max_connections, reader.integer(node));
        }
        "max_subscriptions" | "max_subs" => {
            put(&mut options.max_subscriptions, unsigned(reader.integer(node)));
        }
        "max_sub_tokens" | "max_subscription_tokens" => match reader.integer(node) {
            Some(number) if number > i64::from(u8::MAX) => {
                reader.error(node, format!("{key} value is too big"));
            }
            Some(number) if number <= 0 => {
                reader.error(node, format!("{key} value can not be negative"));
            }
            Some(number) => options.max_sub_tokens = u8::try_from(number).unwrap_or(u8::MAX),
            None => {}
        },
        "max_closed_clients" => {
            let number: Option<usize> = reader.number("max_closed_clients", node);
            put(&mut options.max_closed_clients, number.filter(|number| *number != 0));
        }
        "disable_sublist_cache" | "no_sublist_cache" => {
            put(&mut options.disable_sublist_cache, reader.boolean(node));
        }
        "no_header_support" => put(&mut options.no_header_support, reader.boolean(node)),
        "no_fast_producer_stall" => {
            put(&mut options.no_fast_producer_stall, reader.boolean(node));
        }
        _ => return false,
    }
    true
}

/// A size that nats-server keeps in 32 bits. `None` also for what is below zero: without a limit there
/// in the one case, with none that makes sense in the other.
fn size_32(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<u32> {
    let number = reader.integer(node)?;
    if number > i64::from(i32::MAX) {
        reader.error(node, format!("{key} value is too big"));
        return None;
    }
    let size = u32::try_from(number).ok();
    if size.is_none() {
        reader.unserved(format!("{key} below zero"), node);
    }
    size
}

fn pace(reader: &mut Reader<'_>, options: &mut Options, name: &str, node: &Node) -> bool {
    match name {
        "ping_interval" => {
            let interval = reader.duration("ping_interval", node);
            put(&mut options.ping_interval, interval.filter(|time| !time.is_zero()));
        }
        "ping_max" => {
            let number = reader.integer(node).filter(|number| *number != 0);
            put(&mut options.ping_max, number.map(|number| u32::try_from(number).unwrap_or(0)));
        }
        "write_deadline" => {
            let deadline = reader.duration("write_deadline", node);
            put(&mut options.write_deadline, deadline.filter(|time| !time.is_zero()));
        }
        "write_timeout" => put(&mut options.write_timeout, reader.write_timeout(node)),
        "lame_duck_duration" => lame_duck_duration(reader, options, node),
        "lame_duck_grace_period" => {
            let Some(text) = reader.string(node) else { return true };
            match crate::parse_duration(&text) {
                Ok(Duration::ZERO) => {}
                Ok(grace) => options.lame_duck_grace_period = grace,
                Err(_) if text.starts_with('-') => {
                    reader.error(node, "invalid lame_duck_grace_period, needs to be positive");
                }
                Err(reason) => {
                    reader.error(node, format!("error parsing lame_duck_grace_period: {reason}"));
                }
            }
        }
        _ => return false,
    }
    true
}

/// A tag or a list of tags.
fn tags(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
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

fn lame_duck_duration(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    const MINIMUM_S: u64 = 30;
    let Some(text) = reader.string(node) else { return };
    let duration = match crate::parse_duration(&text) {
        Ok(duration) => duration,
        Err(reason) => {
            return reader.error(node, format!("error parsing lame_duck_duration: {reason}"));
        }
    };
    if duration.as_secs() < MINIMUM_S {
        let message = format!(
            "invalid lame_duck_duration of {}, minimum is {MINIMUM_S} seconds",
            crate::format_duration(duration)
        );
        return reader.error(node, message);
    }
    options.lame_duck_duration = duration;
}

fn identity(reader: &mut Reader<'_>, options: &mut Options, name: &str, node: &Node) -> bool {
    match name {
        "server_name" => {
            let Some(name) = reader.string(node) else { return true };
            if name.contains(' ') {
                reader.error(node, "server name cannot contain spaces");
            } else {
                options.server_name = name;
            }
        }
        "feature_flags" => feature_flags(reader, options, node),
        "default_js_domain" => default_js_domain(reader, options, node),
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
                options.store_dir.clone_from(&reader.store_dir);
                if let Some(jetstream) = &mut options.jetstream {
                    jetstream.store_dir.clone_from(&reader.store_dir);
                }
            }
        }
        _ => return false,
    }
    true
}

fn feature_flags(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    let Some(map) = node.as_map() else {
        let kind = node.value.go_type();
        return reader.error(node, format!("error parsing feature flags: unsupported type {kind}"));
    };
    for (flag, entry) in map {
        match entry.value {
            Value::Boolean(on) => {
                options.feature_flags.insert(flag.clone(), on);
            }
            _ => {
                let kind = entry.value.go_type();
                // The reference points at the entry.
                let message = format!("error parsing feature flag {flag:?}: expected bool, got {kind}");
                reader.error(entry, message);
            }
        }
    }
}

fn default_js_domain(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    let Some(map) = node.as_map() else {
        let kind = node.value.go_type();
        return reader.error(node, format!("error default_js_domain config: unsupported type {kind}"));
    };
    reader.blamed = Some((node.file.clone(), node.line, node.column));
    options.default_js_domain =
        map.iter().filter_map(|(account, node)| Some((account.clone(), reader.string(node)?))).collect();
    reader.blamed = None;
}

/// The JetStream options, made when a key first needs them.
fn jetstream_of<'a>(reader: &Reader<'_>, options: &'a mut Options) -> &'a mut JetStreamOptions {
    options.jetstream.get_or_insert_with(|| JetStreamOptions {
        store_dir: reader.store_dir.clone(),
        ..JetStreamOptions::default()
    })
}
