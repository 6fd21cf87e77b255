//! `ocsp`, `ocsp_cache` and `ocsp_peer`: what is asked of certificate authorities.

use std::{path::PathBuf, time::Duration};

use crate::{
    options::{OcspCache, OcspMode, OcspOptions, OcspPeerOptions, Options},
    read::Reader,
    value::{Node, Value},
};

/// Stapling.
pub(super) fn stapling(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    let mut ocsp = OcspOptions { mode: OcspMode::Auto, override_urls: Vec::new() };
    match &node.value {
        Value::Boolean(true) => {}
        Value::Boolean(false) => ocsp.mode = OcspMode::Never,
        Value::Map(map) => {
            reader.blamed = Some((node.file.clone(), node.line, node.column));
            for (key, node) in map {
                match key.as_str() {
                    "mode" => match reader.string(node).map(|mode| mode.to_lowercase()).as_deref() {
                        Some("always") => ocsp.mode = OcspMode::Always,
                        Some("must") => ocsp.mode = OcspMode::Must,
                        Some("never") => ocsp.mode = OcspMode::Never,
                        Some("auto") => ocsp.mode = OcspMode::Auto,
                        Some(_) => {
                            reader.error(node, "error parsing ocsp config: unsupported ocsp mode string");
                        }
                        None => {}
                    },
                    "urls" => ocsp.override_urls = reader.strings("ocsp urls", node),
                    "url" => ocsp.override_urls = reader.string(node).into_iter().collect(),
                    _ => reader.error(node, "error parsing ocsp config: unsupported field string"),
                }
            }
            reader.blamed = None;
        }
        other => {
            let message = format!("error parsing ocsp config: unsupported type {}", other.go_type());
            return reader.error(node, message);
        }
    }
    options.ocsp = Some(ocsp);
}

/// The cache of responses about peers.
pub(super) fn cache(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    const SAVE_INTERVAL_MIN: Duration = Duration::from_secs(1);
    let (mut enabled, mut store) = (true, PathBuf::from("_rc_"));
    let (mut preserve, mut interval) = (false, Duration::from_secs(300));
    match &node.value {
        Value::Boolean(on) => enabled = *on,
        Value::Map(map) => {
            for (key, node) in map {
                let bad = format!("error parsing OCSP peer cache config, unknown field [{key:?}]");
                match (key.to_lowercase().as_str(), &node.value) {
                    ("type", Value::String(kind)) => match kind.to_lowercase().as_str() {
                        "local" => enabled = true,
                        "none" => enabled = false,
                        _ => {
                            let message =
                                format!("error parsing OCSP peer cache config, unknown type [{kind}]");
                            reader.error(node, message);
                        }
                    },
                    ("local_store", Value::String(path)) => store = PathBuf::from(path),
                    ("preserve_revoked", Value::Boolean(on)) => preserve = *on,
                    ("save_interval", _) => {
                        // A duration is refused in the words for peers.
                        let what = match node.value {
                            Value::String(_) => "error parsing tls peer config, conversion error:",
                            _ => "error parsing OCSP peer cache config, conversion error:",
                        };
                        if let Some(time) = reader.seconds_or(node, what, "unexpected type") {
                            interval = time.max(SAVE_INTERVAL_MIN);
                        }
                    }
                    _ => reader.error(node, bad),
                }
            }
        }
        other => {
            let message = format!("error parsing tags: unsupported type {}", other.go_type());
            return reader.error(node, message);
        }
    }
    options.ocsp_cache = Some(if enabled {
        OcspCache::Local { local_store: store, preserve_revoked: preserve, save_interval: interval }
    } else {
        OcspCache::None
    });
}

/// What is asked about the other side's certificates.
pub(super) fn peer(reader: &mut Reader<'_>, node: &Node) -> Option<OcspPeerOptions> {
    let mut peer = OcspPeerOptions::default();
    let map = match &node.value {
        Value::Boolean(on) => {
            peer.verify = *on;
            return Some(peer);
        }
        Value::Map(map) => map,
        _ => {
            // The reference names the type of the block, not of this value.
            let message = "error parsing ocsp peer config: unsupported type map[string]interface {}";
            reader.error(node, message);
            return None;
        }
    };
    for (key, entry) in map {
        let name = key.to_lowercase();
        let time = match name.as_str() {
            "ca_timeout" => Some(&mut peer.timeout),
            "allowed_clockskew" => Some(&mut peer.allowed_clock_skew),
            "cache_ttl_when_next_update_unset" => Some(&mut peer.cache_ttl_when_next_update_unset),
            _ => None,
        };
        // The reference says the position twice: of the entry, within what it says of the block.
        let entry_place = format!("{}:{}:{}", entry.file, entry.line, entry.column);
        if let Some(time) = time {
            let what = format!("{entry_place}: error parsing tls peer config, conversion error:");
            *time = reader.seconds_at(node, entry, &what, "unexpected type")?;
            continue;
        }
        let switch = match name.as_str() {
            "verify" => Some(&mut peer.verify),
            "warn_only" => Some(&mut peer.warn_only),
            "unknown_is_good" => Some(&mut peer.unknown_is_good),
            "allow_when_ca_unreachable" => Some(&mut peer.allow_when_ca_unreachable),
            _ => None,
        };
        match (switch, &entry.value) {
            (Some(switch), Value::Boolean(on)) => *switch = *on,
            _ => {
                let message =
                    format!("{entry_place}: error parsing tls peer config, unknown field [{key:?}]");
                reader.error(node, message);
                return None;
            }
        }
    }
    Some(peer)
}
