//! The `jetstream` block.

use std::path::PathBuf;

use super::{jetstream_of, put};
use crate::{
    options::{JetStreamOptions, Options, SyncPolicy},
    read::Reader,
    value::{Map, Node, Value},
};

/// Harmless to leave out, not served yet.
const UNSERVED: &[&str] = &[
    "extension_hint",
    "unique_tag",
    "max_outstanding_catchup",
    "max_buffered_size",
    "max_buffered_msgs",
    "request_queue_limit",
    "info_queue_limit",
    "meta_compact",
    "meta_compact_size",
    "meta_compact_sync",
    "max_concurrent_io",
];

const UNSERVED_LIMITS: &[&str] =
    &["max_ack_pending", "max_ha_assets", "max_request_batch", "duplicate_window", "batch"];

pub(super) fn jetstream(reader: &mut Reader, options: &mut Options, node: &Node) {
    match &node.value {
        Value::Boolean(true) => {
            jetstream_of(reader, options);
        }
        Value::Boolean(false) => {}
        Value::String(word) => match word.to_lowercase().as_str() {
            "enabled" | "enable" => {
                jetstream_of(reader, options);
            }
            "disabled" | "disable" => {}
            _ => {
                let message = format!("Expected 'enabled' or 'disabled' for string value, got '{word}'");
                reader.error(node, message);
            }
        },
        Value::Map(map) => block(reader, options, map),
        other => {
            let kind = other.go_type();
            let message = format!("Expected map, bool or string to define JetStream, got {kind}");
            reader.error(node, message);
        }
    }
}

fn block(reader: &mut Reader, options: &mut Options, map: &Map) {
    let mut enabled = true;
    let mut jetstream = jetstream_of(reader, options).clone();
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "enabled" => put(&mut enabled, reader.boolean(node)),
            "strict" => put(&mut jetstream.strict, reader.boolean(node)),
            "domain" => jetstream.domain = reader.string(node).filter(|d| !d.is_empty()),
            "store" | "store_dir" | "storedir" => store_dir(reader, &mut jetstream, node),
            "sync" | "sync_interval" => sync(reader, &mut jetstream, node),
            "max_memory_store" | "max_mem_store" | "max_mem" => {
                let size = storage_size(reader, "max_mem_store", node);
                jetstream.max_memory = size.and_then(|size| u64::try_from(size).ok());
            }
            "max_file_store" | "max_file" => {
                let size = storage_size(reader, "max_file_store", node);
                jetstream.max_file = size.and_then(|size| u64::try_from(size).ok());
            }
            "limits" => limits(reader, &mut jetstream, node),
            known @ ("key"
            | "ek"
            | "encryption_key"
            | "prev_key"
            | "prev_ek"
            | "prev_encryption_key"
            | "cipher"
            | "tpm") => {
                reader.refuse(&format!("jetstream.{known}"), node);
            }
            known if UNSERVED.contains(&known) => {
                reader.unserved(format!("jetstream.{known}"), node);
            }
            _ => reader.unknown(key, node),
        }
    }
    options.jetstream = enabled.then_some(jetstream);
}

fn store_dir(reader: &mut Reader, jetstream: &mut JetStreamOptions, node: &Node) {
    if reader.store_dir.is_some() {
        return reader.error(node, "Duplicate 'store_dir' configuration");
    }
    jetstream.store_dir = reader.string(node).map(PathBuf::from);
}

fn sync(reader: &mut Reader, jetstream: &mut JetStreamOptions, node: &Node) {
    if node.as_str().is_some_and(|text| text.eq_ignore_ascii_case("always")) {
        jetstream.sync = SyncPolicy::Always;
        return;
    }
    if let Some(interval) = reader.duration("sync_interval", node) {
        jetstream.sync = SyncPolicy::Interval(interval);
    }
}

fn limits(reader: &mut Reader, jetstream: &mut JetStreamOptions, node: &Node) {
    for (key, node) in reader.map(node).into_iter().flatten() {
        match key.to_lowercase().as_str() {
            "default_max_consumers" => {
                let number = reader.number("default_max_consumers", node);
                put(&mut jetstream.default_max_consumers, number);
            }
            known if UNSERVED_LIMITS.contains(&known) => {
                reader.unserved(format!("jetstream.limits.{known}"), node);
            }
            _ => reader.unknown(key, node),
        }
    }
}

/// Bytes as a number, or as a string that ends in K, M, G or T (powers of 1024).
pub(super) fn storage_size(reader: &mut Reader, field: &str, node: &Node) -> Option<i64> {
    let text = match &node.value {
        Value::Integer(number) => return Some(*number),
        Value::String(text) => text.trim(),
        _ => {
            reader.error(node, format!("{field} must be int64 or string"));
            return None;
        }
    };
    let shift = match text.chars().last().map(|c| c.to_ascii_uppercase()) {
        None => return Some(0),
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        Some(_) => {
            // The reference checks the number first and then the suffix.
            let digits = &text[..text.len() - text.chars().last().map_or(0, char::len_utf8)];
            let message = if digits.parse::<i64>().is_err() {
                format!("{field} strconv.ParseInt: parsing {digits:?}: invalid syntax")
            } else {
                format!("{field} sizes defined as strings must end in K, M, G, T")
            };
            reader.error(node, message);
            return None;
        }
    };
    let digits = &text[..text.len() - 1];
    match digits.parse::<i64>().ok().and_then(|number| number.checked_mul(1 << shift)) {
        Some(size) => Some(size),
        None => {
            let message = format!("{field} strconv.ParseInt: parsing {digits:?}: invalid syntax");
            reader.error(node, message);
            None
        }
    }
}
