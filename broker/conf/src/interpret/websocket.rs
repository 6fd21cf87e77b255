//! The `websocket` block.

use std::time::Duration;

use super::{
    authorization::simple,
    put,
    tls::{self, Place},
};
use crate::{
    options::{Options, WebSocketOptions},
    read::Reader,
    value::{Node, Value},
};

pub(super) fn websocket(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        return reader.error(node, format!("Expected websocket to be a map, got {kind}"));
    }
    let mut websocket = WebSocketOptions::default();
    for (key, node) in reader.entries(node).unwrap_or_default() {
        let name = key.to_lowercase();
        let known = door(reader, &mut websocket, &name, node)
            || origins(reader, &mut websocket, &name, node)
            || credentials(reader, &mut websocket, &name, node);
        if !known {
            reader.unknown(key, node);
        }
    }
    options.websocket = (websocket.port != 0).then_some(websocket);
}

fn door(reader: &mut Reader<'_>, websocket: &mut WebSocketOptions, name: &str, node: &Node) -> bool {
    match name {
        "listen" => {
            if let Some((host, port)) = reader.listen(node) {
                put(&mut websocket.host, host);
                websocket.port = port;
            }
        }
        "port" => put(&mut websocket.port, reader.number("port", node)),
        "host" | "net" => put(&mut websocket.host, reader.string(node)),
        "advertise" => websocket.advertise = reader.string(node).filter(|text| !text.is_empty()),
        "no_tls" => put(&mut websocket.no_tls, reader.boolean(node)),
        "tls" => websocket.tls = tls::tls(reader, node, Place::Clients),
        "compress" | "compression" => put(&mut websocket.compression, reader.boolean(node)),
        "handshake_timeout" => put(&mut websocket.handshake_timeout, handshake_timeout(reader, node)),
        "ping_interval" => {
            websocket.ping_interval = reader.duration("ping_interval", node).filter(|time| !time.is_zero());
        }
        _ => return false,
    }
    true
}

fn handshake_timeout(reader: &mut Reader<'_>, node: &Node) -> Option<Duration> {
    let timeout = match &node.value {
        Value::Integer(seconds) => Some(Duration::from_secs(u64::try_from(*seconds).unwrap_or(0))),
        Value::String(text) => match crate::parse_duration(text) {
            Ok(timeout) => Some(timeout),
            Err(reason) => {
                reader.error(node, reason);
                None
            }
        },
        other => {
            let kind = other.go_type();
            reader.error(node, format!("error parsing handshake timeout: unsupported type {kind}"));
            None
        }
    };
    timeout.filter(|timeout| !timeout.is_zero())
}

fn origins(reader: &mut Reader<'_>, websocket: &mut WebSocketOptions, name: &str, node: &Node) -> bool {
    match name {
        "same_origin" => put(&mut websocket.same_origin, reader.boolean(node)),
        "allowed_origins" | "allowed_origin" | "allow_origins" | "allow_origin" | "origins" | "origin" => {
            websocket.allowed_origins = reader.strings("allowed origins", node);
        }
        "headers" => {
            let Some(map) = node.as_map() else {
                let kind = node.value.go_type();
                reader.error(node, format!("error parsing headers: unsupported type {kind}"));
                return true;
            };
            for (key, node) in map {
                match node.as_str() {
                    Some(value) => {
                        websocket.headers.insert(key.clone(), value.to_owned());
                    }
                    None => {
                        let kind = node.value.go_type();
                        let message = format!("error parsing header key {key}: unsupported type {kind}");
                        reader.error(node, message);
                    }
                }
            }
        }
        _ => return false,
    }
    true
}

fn credentials(reader: &mut Reader<'_>, websocket: &mut WebSocketOptions, name: &str, node: &Node) -> bool {
    let named = |text: Option<String>| text.filter(|text| !text.is_empty());
    match name {
        "authorization" | "authentication" => {
            let auth = simple(reader, node);
            websocket.username = named(auth.user);
            websocket.password = named(auth.password);
            websocket.token = named(auth.token);
            websocket.auth_timeout = auth.timeout.filter(|timeout| !timeout.is_zero());
        }
        "jwt_cookie" => websocket.jwt_cookie = named(reader.string(node)),
        "user_cookie" => websocket.user_cookie = named(reader.string(node)),
        "pass_cookie" => websocket.pass_cookie = named(reader.string(node)),
        "token_cookie" => websocket.token_cookie = named(reader.string(node)),
        "no_auth_user" => websocket.no_auth_user = named(reader.string(node)),
        _ => return false,
    }
    true
}
