//! The `accounts` block.

use std::collections::btree_map::Entry;

use super::authorization::{GLOBAL_ACCOUNT, permissions, users, with_defaults};
use crate::{
    options::{AccountConfig, AccountJetStream, Options},
    read::Reader,
    value::{Node, Value},
};

/// Harmless to leave out of an account, not served yet.
const UNSERVED: &[&str] = &["imports", "exports", "mappings", "maps", "msg_trace", "trace_dest"];

pub(super) fn accounts(reader: &mut Reader, options: &mut Options, node: &Node) {
    match &node.value {
        Value::Array(items) => {
            for item in items {
                let Some(name) = reader.string(item) else { continue };
                match options.accounts.entry(name) {
                    Entry::Occupied(entry) => {
                        let message = format!("Duplicate Account Entry: {}", entry.key());
                        reader.error(item, message);
                    }
                    Entry::Vacant(entry) => {
                        let name = entry.key().clone();
                        entry.insert(AccountConfig { name, ..AccountConfig::default() });
                    }
                }
            }
        }
        Value::Map(map) => {
            for (name, node) in map {
                account(reader, options, name, node);
            }
        }
        _ => {}
    }
}

fn account(reader: &mut Reader, options: &mut Options, name: &str, node: &Node) {
    if name == GLOBAL_ACCOUNT {
        return reader.error(node, format!("{name:?} is a Reserved Account"));
    }
    let Some(map) = node.as_map() else {
        if !node.used_as_variable {
            reader.error(node, "Expected map entries for accounts");
        }
        return;
    };
    let mut config = AccountConfig { name: name.to_owned(), ..AccountConfig::default() };
    let (mut members, mut default) = (Vec::new(), None);
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "users" => members = users(reader, node, name),
            "jetstream" => config.jetstream = jetstream(reader, node),
            "default_permission" | "default_permissions" | "permissions" => {
                default = permissions(reader, node);
            }
            "limits" => reader.refuse(&format!("accounts.{name}.limits"), node),
            "nkey" => reader.refuse(&format!("accounts.{name}.nkey"), node),
            known if UNSERVED.contains(&known) => {
                reader.unserved(format!("accounts.{name}.{known}"), node);
            }
            _ => reader.unknown(key, node),
        }
    }
    config.users = members.iter().map(|user| user.user.clone()).collect();
    options.users.extend(with_defaults(members, default.as_ref()));
    options.accounts.insert(name.to_owned(), config);
}

fn jetstream(reader: &mut Reader, node: &Node) -> Option<AccountJetStream> {
    let mut share = AccountJetStream::default();
    let map = match &node.value {
        Value::Boolean(enabled) => return enabled.then_some(share),
        Value::String(word) => match word.to_lowercase().as_str() {
            "enabled" | "enable" => return Some(share),
            "disabled" | "disable" => return None,
            _ => {
                let message = format!("Expected 'enabled' or 'disabled' for string value, got '{word}'");
                reader.error(node, message);
                return None;
            }
        },
        Value::Map(map) => map,
        other => {
            let kind = other.go_type();
            let message = format!("Expected map, bool or string to define JetStream, got {kind}");
            reader.error(node, message);
            return None;
        }
    };
    let mut enabled = true;
    for (key, node) in map {
        let (place, known) = match key.to_lowercase().as_str() {
            "max_memory" | "max_mem" | "mem" | "memory" => (&mut share.max_memory, true),
            "max_store" | "max_file" | "max_disk" | "store" | "disk" => (&mut share.max_store, true),
            "max_streams" | "streams" => (&mut share.max_streams, true),
            "max_consumers" | "consumers" => (&mut share.max_consumers, true),
            "enabled" => {
                enabled = reader.boolean(node).unwrap_or(true);
                continue;
            }
            "max_bytes_required"
            | "max_stream_bytes"
            | "max_bytes"
            | "mem_max_stream_bytes"
            | "memory_max_stream_bytes"
            | "disk_max_stream_bytes"
            | "store_max_stream_bytes"
            | "max_ack_pending"
            | "cluster_traffic" => {
                reader.unserved(format!("jetstream.{key} of an account"), node);
                continue;
            }
            _ => (&mut share.max_memory, false),
        };
        if !known {
            reader.unknown(key, node);
            continue;
        }
        match super::jetstream::storage_size(reader, key, node) {
            Some(number) => *place = number,
            None => continue,
        }
    }
    enabled.then_some(share)
}
