//! The `accounts` block.

use super::{
    authorization::{GLOBAL_ACCOUNT, users, with_defaults},
    exchange, exchange_check,
    mappings::mappings,
    permissions::{is_valid_publish_subject, permissions},
    tls::bare,
};
use crate::{
    keys::{self, KeyKind},
    options::{AccountConfig, AccountJetStream, AccountLimits, MessageTrace, Options, UserConfig},
    read::Reader,
    value::{Node, Value},
};

pub(super) fn accounts(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    match &node.value {
        Value::Array(items) => {
            for item in items {
                named_account(reader, options, item);
            }
        }
        Value::Map(_) => {
            for (name, node) in reader.entries(node).unwrap_or_default() {
                account(reader, options, name, node);
            }
        }
        _ => {}
    }
    if reader.errors.is_empty() {
        // Not every account need be told of before the others.
        exchange_check::check(reader, options, node);
    }
}

fn named_account(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    let Some(name) = reader.string(node) else { return };
    if name == GLOBAL_ACCOUNT {
        return reader.error(node, format!("{name:?} is a Reserved Account"));
    }
    if options.accounts.contains_key(&name) {
        return reader.error(node, format!("Duplicate Account Entry: {name}"));
    }
    options.accounts.insert(name.clone(), AccountConfig { name, ..AccountConfig::default() });
}

fn account(reader: &mut Reader<'_>, options: &mut Options, name: &str, node: &Node) {
    if node.used_as_variable {
        return;
    }
    if node.as_map().is_none() {
        return reader.error(node, "Expected map entries for accounts");
    }
    if name == GLOBAL_ACCOUNT {
        return reader.error(node, format!("{name:?} is a Reserved Account"));
    }
    let mut config = AccountConfig { name: name.to_owned(), ..AccountConfig::default() };
    let mut members: Vec<UserConfig> = Vec::new();
    for (key, node) in reader.entries(node).unwrap_or_default() {
        match key.to_lowercase().as_str() {
            "nkey" => match node.as_str().filter(|key| keys::is_valid(key, KeyKind::Account)) {
                Some(key) => config.nkey = Some(key.to_owned()),
                None => {
                    let shown = node.shown();
                    reader.error(node, format!("Not a valid public nkey for an account: {shown:?}"));
                }
            },
            "imports" => config.imports = exchange::imports(reader, node),
            "exports" => config.exports = exchange::exports(reader, node),
            "users" => {
                members = users(reader, node, name);
                refuse_beside_single_user(reader, options, node, &members);
            }
            "jetstream" => config.jetstream = jetstream(reader, node),
            "default_permissions" => config.default_permissions = permissions(reader, node),
            "mappings" | "maps" => config.mappings = mappings(reader, node),
            "limits" => config.limits = limits(reader, node),
            "msg_trace" | "trace_dest" => config.msg_trace = msg_trace(reader, key, node),
            _ => reader.unknown(key, node),
        }
    }
    let names = members.iter().map(|user| user.nkey.clone().unwrap_or_else(|| user.user.clone()));
    config.users = names.collect();
    options.users.extend(with_defaults(members, config.default_permissions.as_ref()));
    options.accounts.insert(name.to_owned(), config);
}

fn refuse_beside_single_user(
    reader: &mut Reader<'_>,
    options: &Options,
    node: &Node,
    members: &[UserConfig],
) {
    if members.is_empty() {
        return;
    }
    if options.single_user.is_some() {
        reader.error(node, "Can not have a single user/pass and accounts");
    } else if options.auth_token.is_some() {
        reader.error(node, "Can not have a token and accounts");
    }
}

fn limits(reader: &mut Reader<'_>, node: &Node) -> AccountLimits {
    let mut limits = AccountLimits::default();
    if node.as_map().is_none() {
        let message = format!("Expected account limits to be a map/struct, got {}", node.shown());
        reader.error(node, message);
        return limits;
    }
    for (key, node) in reader.entries(node).unwrap_or_default() {
        let place = match key.to_lowercase().as_str() {
            "max_connections" | "max_conn" => &mut limits.max_connections,
            "max_subscriptions" | "max_subs" => &mut limits.max_subscriptions,
            "max_payload" | "max_pay" => &mut limits.max_payload,
            "max_leafnodes" | "max_leafs" => &mut limits.max_leafnodes,
            _ if node.used_as_variable => continue,
            _ => {
                reader.error(node, format!("Unknown field {key:?} parsing account limits"));
                continue;
            }
        };
        *place = reader.integer(node);
    }
    limits
}

fn msg_trace(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<MessageTrace> {
    let (mut destination, mut sampling) = (None, None);
    match &node.value {
        Value::String(_) => destination = trace_destination(reader, key, node),
        Value::Map(map) => {
            for (entry, node) in map {
                match entry.to_lowercase().as_str() {
                    "dest" => destination = trace_destination(reader, entry, node),
                    "sampling" => sampling = trace_sampling(reader, entry, node),
                    _ if node.used_as_variable => {}
                    _ => {
                        let message = format!(
                            "Unknown field {entry:?} parsing account message trace map/struct {key:?}"
                        );
                        reader.error(node, message);
                    }
                }
            }
        }
        other => {
            let kind = other.go_type();
            let message =
                format!("Expected account message trace {key:?} to be a string or a map/struct, got {kind}");
            reader.error(node, message);
        }
    }
    if destination.is_none() && sampling.is_some() {
        let message = "Trace destination sampling ignored since no destination was set";
        reader.plain_warning(node, message);
    }
    Some(MessageTrace { destination: destination?, sampling: sampling.unwrap_or(100) })
}

fn trace_destination(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<String> {
    let Some(text) = node.as_str() else {
        let kind = node.value.go_type();
        reader.error(node, format!("Field {key:?} should be a string, got {kind}"));
        return None;
    };
    if !is_valid_publish_subject(text) {
        reader.error(node, format!("Trace destination {text:?} is not valid"));
        return None;
    }
    Some(text.to_owned())
}

fn trace_sampling(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<u8> {
    let number = match &node.value {
        Value::Integer(number) => *number,
        Value::String(text) => match text.strip_suffix('%').unwrap_or(text).parse::<i64>() {
            Ok(number) => number,
            Err(_) => {
                reader.error(node, format!("Invalid trace destination sampling value {text:?}"));
                return None;
            }
        },
        other => {
            let kind = other.go_type();
            let message = format!(
                "Trace destination sampling field {key:?} should be an integer or a percentage, got {kind}"
            );
            reader.error(node, message);
            return None;
        }
    };
    let percent = u8::try_from(number).ok().filter(|percent| (1..=100).contains(percent));
    if percent.is_none() {
        let message = format!("Ttrace destination sampling value {number} is invalid, needs to be [1..100]");
        reader.error(node, message);
    }
    percent
}

fn jetstream(reader: &mut Reader<'_>, node: &Node) -> Option<AccountJetStream> {
    let mut share = AccountJetStream::default();
    // The reference knows no position for what is wrong with the value as a whole.
    match &node.value {
        Value::Boolean(enabled) => return enabled.then_some(share),
        Value::String(word) => match word.to_lowercase().as_str() {
            "enabled" | "enable" => return Some(share),
            "disabled" | "disable" => return None,
            _ => {
                bare(reader, format!("Expected 'enabled' or 'disabled' for string value, got '{word}'"));
                return None;
            }
        },
        Value::Map(_) => {}
        other => {
            let kind = other.go_type();
            bare(reader, format!("Expected map, bool or string to define JetStream, got {kind}"));
            return None;
        }
    }
    for (key, node) in reader.entries(node)? {
        let expected = |what: &str| format!("Expected a parseable {what} for {key:?}, got {}", node.shown());
        let place = match key.to_lowercase().as_str() {
            "max_memory" | "max_mem" | "mem" | "memory" => &mut share.max_memory,
            "max_store" | "max_file" | "max_disk" | "store" | "disk" => &mut share.max_store,
            "max_streams" | "streams" => &mut share.max_streams,
            "max_consumers" | "consumers" => &mut share.max_consumers,
            "mem_max_stream_bytes" | "memory_max_stream_bytes" => &mut share.memory_max_stream_bytes,
            "disk_max_stream_bytes" | "store_max_stream_bytes" => &mut share.store_max_stream_bytes,
            "max_ack_pending" => &mut share.max_ack_pending,
            "max_bytes_required" | "max_stream_bytes" | "max_bytes" => {
                match node.value {
                    Value::Boolean(required) => share.max_bytes_required = required,
                    _ => reader.error(node, expected("bool")),
                }
                continue;
            }
            "cluster_traffic" => {
                cluster_traffic(reader, key, node);
                continue;
            }
            _ => {
                reader.unknown(key, node);
                continue;
            }
        };
        match node.value {
            Value::Integer(number) => *place = number,
            _ => reader.error(node, expected("size")),
        }
    }
    Some(share)
}

/// Raft runs over connections of its own here, in no account.
fn cluster_traffic(reader: &mut Reader<'_>, key: &str, node: &Node) {
    match node.as_str() {
        Some("system" | "") => {}
        Some("owner") => reader.unserved("jetstream.cluster_traffic of an account", node),
        Some(other) => {
            let message = format!("Expected 'system' or 'owner' string value for {key:?}, got {other}");
            reader.error(node, message);
        }
        None => {
            let shown = node.shown();
            let message =
                format!("Expected either 'system' or 'owner' string value for {key:?}, got {shown}");
            reader.error(node, message);
        }
    }
}
