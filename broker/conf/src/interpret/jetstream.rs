//! The `jetstream` block. Wrong types are reported at the block, as the reference does.

use std::{path::PathBuf, time::Duration};

use super::{jetstream_of, put};
use crate::{
    error::ConfError,
    options::{BatchOptions, JetStreamOptions, Options, Secret, StoreCipher, StoreEncryption, SyncPolicy},
    read::Reader,
    value::{Node, Value},
};

pub(super) fn jetstream(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    match &node.value {
        Value::Boolean(true) => {
            jetstream_of(reader, options);
        }
        Value::Boolean(false) => options.jetstream = None,
        Value::String(word) => match word.to_lowercase().as_str() {
            "enabled" | "enable" => {
                jetstream_of(reader, options);
            }
            "disabled" | "disable" => options.jetstream = None,
            _ => {
                let message = format!("Expected 'enabled' or 'disabled' for string value, got '{word}'");
                reader.error(node, message);
            }
        },
        Value::Map(_) => {
            reader.blamed = Some((node.file.clone(), node.line, node.column));
            block(reader, options, node);
            reader.blamed = None;
        }
        other => {
            let kind = other.go_type();
            let message = format!("Expected map, bool or string to define JetStream, got {kind}");
            reader.error(node, message);
        }
    }
}

fn block(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    let mut enabled = true;
    let mut jetstream = jetstream_of(reader, options).clone();
    for (key, node) in reader.entries(node).unwrap_or_default() {
        let name = key.to_lowercase();
        match name.as_str() {
            "enable" | "enabled" => put(&mut enabled, reader.boolean(node)),
            "strict" => match node.value {
                Value::Boolean(strict) => jetstream.strict = strict,
                _ => {
                    // The words of Go for a number printed as a string.
                    let shown = match &node.value {
                        Value::String(text) => text.clone(),
                        other => format!("%!s({}={})", other.go_type(), node.shown()),
                    };
                    let message = format!("Expected 'true' or 'false' for bool value, got '{shown}'");
                    reader.error(node, message);
                }
            },
            "unique_tag" => put(&mut jetstream.unique_tag, reader.string(node)),
            "domain" => jetstream.domain = reader.string(node).filter(|d| !d.is_empty()),
            "store" | "store_dir" | "storedir" => store_dir(reader, &mut jetstream, node),
            "sync" | "sync_interval" => sync(reader, &mut jetstream, key, node),
            "max_memory_store" | "max_mem_store" | "max_mem" => {
                jetstream.max_memory = bounded_size(reader, "max_mem_store", node);
            }
            "max_file_store" | "max_file" => {
                jetstream.max_file = bounded_size(reader, "max_file_store", node);
            }
            "max_buffered_size" => {
                let size = storage_size(reader, "max_buffered_size", node);
                put(&mut jetstream.buffered_bytes_max, size.and_then(positive));
            }
            "max_buffered_msgs" => match node.value {
                Value::Integer(count) => put(&mut jetstream.buffered_messages_max, positive(count)),
                _ => {
                    let message = format!("Expected a parseable size for {key:?}, got {}", node.shown());
                    reader.error(node, message);
                }
            },
            "limits" => limits(reader, &mut jetstream, node),
            "request_queue_limit" => match node.value {
                Value::Integer(limit) => jetstream.request_queue_limit = u64::try_from(limit).unwrap_or(0),
                _ => {
                    let message = format!("Expected a parseable size for {key:?}, got {}", node.shown());
                    reader.error(node, message);
                }
            },
            _ if encryption(reader, &mut jetstream.encryption, &name, node) || tuning(reader, key, node) => {}
            _ => reader.unknown(key, node),
        }
    }
    options.jetstream = enabled.then_some(jetstream);
}

fn store_dir(reader: &mut Reader<'_>, jetstream: &mut JetStreamOptions, node: &Node) {
    if reader.store_dir.is_some() {
        return reader.error(node, "Duplicate 'store_dir' configuration");
    }
    jetstream.store_dir = reader.string(node).filter(|text| !text.is_empty()).map(PathBuf::from);
}

fn sync(reader: &mut Reader<'_>, jetstream: &mut JetStreamOptions, key: &str, node: &Node) {
    if node.as_str().is_some_and(|text| text.eq_ignore_ascii_case("always")) {
        jetstream.sync = SyncPolicy::Always;
        return;
    }
    if let Some(interval) = reader.duration(key, node) {
        jetstream.sync = SyncPolicy::Interval(interval);
    }
}

/// What protects stored data. A TPM is not served, so not silently left out.
fn encryption(reader: &mut Reader<'_>, encryption: &mut StoreEncryption, name: &str, node: &Node) -> bool {
    let secret = |text: String| Some(text).filter(|text| !text.is_empty()).map(Secret::new);
    match name {
        "key" | "ek" | "encryption_key" => put(&mut encryption.key, reader.string(node).map(secret)),
        "prev_key" | "prev_ek" | "prev_encryption_key" => {
            put(&mut encryption.previous_key, reader.string(node).map(secret));
        }
        "cipher" => cipher(reader, encryption, node),
        "tpm" => {
            if node.as_map().is_none() {
                let kind = node.value.go_type();
                let message = format!("Expected a map to define JetStreamLimits, got {kind}");
                reader.error(node, message);
                return true;
            }
            reader.refuse("jetstream.tpm", node);
        }
        _ => return false,
    }
    true
}

fn cipher(reader: &mut Reader<'_>, encryption: &mut StoreEncryption, node: &Node) {
    let Some(name) = reader.string(node) else { return };
    match name.to_lowercase().as_str() {
        "chacha" | "chachapoly" => encryption.cipher = Some(StoreCipher::ChaCha20Poly1305),
        "aes" => encryption.cipher = Some(StoreCipher::Aes256Gcm),
        _ => reader.error(node, format!("Unknown cipher type: {name:?}")),
    }
}

/// Options that tune the reference's own machinery: checked, and said to have no effect.
fn tuning(reader: &mut Reader<'_>, key: &str, node: &Node) -> bool {
    let name = key.to_lowercase();
    let expected = |kind: &str| format!("Expected {kind} for {key:?}, got {}", node.shown());
    match name.as_str() {
        "extension_hint" => {
            reader.string(node);
        }
        "max_outstanding_catchup" => {
            storage_size(reader, &name, node);
        }
        "info_queue_limit" => {
            if !matches!(node.value, Value::Integer(_)) {
                reader.error(node, expected("a parseable size"));
            }
        }
        "meta_compact" => {
            if !matches!(node.value, Value::Integer(0..)) {
                reader.error(node, expected("an absolute size"));
            }
        }
        "meta_compact_size" => {
            if storage_size(reader, &name, node).is_some_and(|size| size < 0) {
                reader.error(node, expected("an absolute size"));
            }
        }
        "meta_compact_sync" => {
            reader.boolean(node);
        }
        "max_concurrent_io" => {
            if !matches!(node.value, Value::Integer(4..=8192)) {
                let shown = node.shown();
                let message =
                    format!("Expected an absolute size for {key:?} between 4 and 8192, got {shown}");
                reader.error(node, message);
            }
        }
        _ => return false,
    }
    reader.unserved(format!("jetstream.{name}"), node);
    true
}

fn limits(reader: &mut Reader<'_>, jetstream: &mut JetStreamOptions, node: &Node) {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        return reader.error(node, format!("Expected a map to define JetStreamLimits, got {kind}"));
    }
    for (key, node) in reader.entries(node).unwrap_or_default() {
        let name = key.to_lowercase();
        match name.as_str() {
            "default_max_consumers" => {
                let number = reader.integer(node).filter(|number| *number != 0);
                // Below zero is no limit, zero the default.
                put(
                    &mut jetstream.default_max_consumers,
                    number.map(|number| u64::try_from(number).unwrap_or(0)),
                );
            }
            "max_ack_pending" => put(&mut jetstream.max_ack_pending, reader.integer(node)),
            "max_ha_assets" => put(&mut jetstream.max_ha_assets, reader.integer(node)),
            "max_request_batch" => put(&mut jetstream.max_request_batch, reader.integer(node)),
            "duplicate_window" => {
                jetstream.duplicate_window = duration(reader, node).filter(|window| !window.is_zero());
            }
            "batch" => batch(reader, &mut jetstream.batches, node),
            _ => reader.unknown(key, node),
        }
    }
}

/// Zero and less are the default.
fn positive(number: i64) -> Option<usize> {
    usize::try_from(number).ok().filter(|&number| number > 0)
}

fn batch(reader: &mut Reader<'_>, batches: &mut BatchOptions, node: &Node) {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        return reader.error(node, format!("Expected a map to define batch limits, got {kind}"));
    }
    for (key, node) in reader.entries(node).unwrap_or_default() {
        let name = key.to_lowercase();
        match name.as_str() {
            "max_inflight_per_stream" => {
                batches.inflight_per_stream = reader.integer(node).and_then(positive);
            }
            "max_inflight_total" => batches.inflight_total = reader.integer(node).and_then(positive),
            "max_msgs" => {
                let count = reader.integer(node).and_then(positive);
                put(&mut batches.messages, count.map(|count| count as u64));
            }
            "timeout" => put(&mut batches.timeout, duration(reader, node).filter(|wait| !wait.is_zero())),
            _ => reader.unknown(key, node),
        }
    }
}

/// A duration whose complaint has no position.
fn duration(reader: &mut Reader<'_>, node: &Node) -> Option<Duration> {
    let text = reader.string(node)?;
    match crate::parse_duration(&text) {
        Ok(duration) => Some(duration),
        Err(reason) => {
            reader.errors.push(ConfError::bare(&node.file, node.line, node.column, reason));
            None
        }
    }
}

fn bounded_size(reader: &mut Reader<'_>, field: &str, node: &Node) -> Option<u64> {
    storage_size(reader, field, node).and_then(|size| u64::try_from(size).ok())
}

/// Bytes as a number, or as a string that ends in K, M, G or T (powers of 1024).
fn storage_size(reader: &mut Reader<'_>, field: &str, node: &Node) -> Option<i64> {
    let text = match &node.value {
        Value::Integer(number) => return Some(*number),
        Value::String(text) => text,
        _ => {
            reader.error(node, format!("{field} must be int64 or string"));
            return None;
        }
    };
    let Some(suffix) = text.chars().last() else { return Some(0) };
    let digits = &text[..text.len() - suffix.len_utf8()];
    // The reference checks the number first and then the suffix.
    let Ok(number) = digits.parse::<i64>() else {
        let message = format!("{field} strconv.ParseInt: parsing {digits:?}: invalid syntax");
        reader.error(node, message);
        return None;
    };
    let shift = match suffix {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => {
            reader.error(node, format!("{field} sizes defined as strings must end in K, M, G, T"));
            return None;
        }
    };
    let size = number.checked_mul(1 << shift);
    if size.is_none() {
        reader.error(node, format!("{field} is out of range"));
    }
    size
}
