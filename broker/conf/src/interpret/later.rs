//! `gateway`, `leafnodes` and `mqtt`: read and checked as the reference does, not served yet.
//!
//! What is read here is kept only as far as later checks need it.

mod leafnodes;

pub(super) use leafnodes::leafnodes;

use super::{
    authorization::simple,
    cluster,
    tls::{self, Place},
};
use crate::{
    read::Reader,
    value::{Node, Value},
};

pub(super) fn gateway(reader: &mut Reader<'_>, node: &Node) {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        return reader.error(node, format!("Expected gateway to be a map, got {kind}"));
    }
    let (mut named, mut port) = (None, 0);
    for (key, node) in reader.entries(node).unwrap_or_default() {
        match key.to_lowercase().as_str() {
            "name" => named = cluster::name(reader, node, "gateway").filter(|name| !name.is_empty()),
            "listen" => port = reader.listen(node).map_or(0, |(_, port)| port),
            "port" => port = reader.number("port", node).unwrap_or(0),
            "host" | "net" | "advertise" => {
                reader.string(node);
            }
            "authorization" => {
                cluster::server_authorization(reader, node, "Gateway");
            }
            "tls" => {
                tls::tls(reader, node, Place::Servers);
            }
            "connect_retries" => {
                reader.integer(node);
            }
            "connect_backoff" | "reject_unknown" | "reject_unknown_cluster" => {
                reader.boolean(node);
            }
            "gateways" => gateways(reader, node),
            "write_deadline" => {
                reader.duration("write_deadline", node);
            }
            "write_timeout" => {
                reader.write_timeout(node);
            }
            _ => reader.unknown(key, node),
        }
    }
    match (named, port) {
        (None, 0) => {}
        (None, _) => reader.late.push("gateway has no name".to_owned()),
        (Some(name), 0) => {
            let message = format!("gateway {name:?} has no port specified (select -1 for random port)");
            reader.late.push(message);
        }
        _ => {}
    }
    reader.unserved("gateway", node);
}

fn gateways(reader: &mut Reader<'_>, node: &Node) {
    let Value::Array(items) = &node.value else {
        let kind = node.value.go_type();
        return tls::bare(reader, format!("Expected gateways field to be an array, got {kind}"));
    };
    for (position, item) in items.iter().enumerate() {
        if item.as_map().is_none() {
            let message = format!("Expected gateway entry to be a map/struct, got {}", item.shown());
            reader.error(item, message);
            continue;
        }
        let (mut name, mut urls) = (String::new(), 0);
        for (key, node) in reader.entries(item).unwrap_or_default() {
            match key.to_lowercase().as_str() {
                "name" => name = reader.string(node).unwrap_or_default(),
                "tls" => {
                    tls::tls(reader, node, Place::Servers);
                }
                "url" => {
                    if let Some(text) = reader.string(node) {
                        urls += usize::from(reader.url("gateway", node, &text).is_some());
                    }
                }
                "urls" => urls += reader.urls("gateway", node).len(),
                _ => reader.unknown(key, node),
            }
        }
        if name.is_empty() {
            reader.late.push(format!("gateway in the list {position} has no name"));
        } else if urls == 0 {
            reader.late.push(format!("gateway {name:?} has no URL"));
        }
    }
}

pub(super) fn mqtt(reader: &mut Reader<'_>, node: &Node) {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        return reader.error(node, format!("Expected mqtt to be a map, got {kind}"));
    }
    for (key, node) in reader.entries(node).unwrap_or_default() {
        let name = key.to_lowercase();
        match name.as_str() {
            "listen" => {
                reader.listen(node);
            }
            "port" | "stream_replicas" => {
                reader.integer(node);
            }
            "host" | "net" | "no_auth_user" | "js_domain" => {
                reader.string(node);
            }
            "tls" => {
                tls::tls(reader, node, Place::Clients);
            }
            "authorization" | "authentication" => {
                simple(reader, node);
            }
            "ack_wait" | "ackwait" => {
                reader.duration("ack_wait", node);
            }
            "js_api_timeout" | "api_timeout" => {
                reader.duration("js_api_timeout", node);
            }
            "consumer_inactive_threshold" | "consumer_auto_cleanup" => {
                reader.duration("consumer_inactive_threshold", node);
            }
            "max_ack_pending" | "max_pending" | "max_inflight" => {
                if let Some(number) = reader.integer(node).filter(|n| !(0..=0xFFFF).contains(n)) {
                    reader.error(node, format!("invalid value {number}, should in [0..65535] range"));
                }
            }
            "consumer_replicas" => {
                reader.warning(node, key, "consumer replicas setting ignored in this server version");
            }
            "consumer_memory_storage" | "reject_qos2_publish" | "downgrade_qos2_subscribe" => {
                reader.boolean(node);
            }
            _ => reader.unknown(key, node),
        }
    }
    reader.unserved("mqtt", node);
}
