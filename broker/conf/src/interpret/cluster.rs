//! The `cluster` block.

use super::{authorization, put};
use crate::{
    options::{ClusterOptions, Options},
    read::Reader,
    value::Node,
};

/// Harmless to leave out, not served yet.
const UNSERVED: &[&str] = &["connect_backoff", "accounts", "compression", "write_deadline", "write_timeout"];

pub(super) fn cluster(reader: &mut Reader, options: &mut Options, node: &Node) {
    let Some(map) = node.as_map() else {
        let kind = node.value.go_type();
        return reader.error(node, format!("Expected map to define cluster, got {kind}"));
    };
    let mut cluster = ClusterOptions::default();
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "name" => {
                let name = reader.string(node).unwrap_or_default();
                if name.contains(' ') {
                    reader.error(node, "cluster name cannot contain spaces");
                }
                cluster.name = name;
            }
            "listen" => {
                if let Some((host, port)) = reader.listen(node) {
                    put(&mut cluster.host, host);
                    cluster.port = port;
                }
            }
            "port" => put(&mut cluster.port, reader.number("port", node)),
            "host" | "net" => put(&mut cluster.host, reader.string(node)),
            "authorization" => authorization(reader, &mut cluster, node),
            "routes" => cluster.routes = reader.urls("route", node),
            "cluster_advertise" | "advertise" => cluster.advertise = reader.string(node),
            "no_advertise" => put(&mut cluster.no_advertise, reader.boolean(node)),
            "connect_retries" => {
                put(&mut cluster.connect_retries, reader.number("connect_retries", node));
            }
            "pool_size" => put(&mut cluster.pool_size, reader.number("pool_size", node)),
            "ping_interval" => cluster.ping_interval = reader.duration("ping_interval", node),
            "ping_max" => cluster.ping_max = reader.number("ping_max", node),
            known @ ("tls" | "permissions") => reader.refuse(&format!("cluster.{known}"), node),
            known if UNSERVED.contains(&known) => {
                reader.unserved(format!("cluster.{known}"), node);
            }
            _ => reader.unknown(key, node),
        }
    }
    options.cluster = Some(cluster);
}

fn authorization(reader: &mut Reader, cluster: &mut ClusterOptions, node: &Node) {
    let Some(auth) = authorization::block(reader, node, "cluster.authorization") else { return };
    if auth.has_users {
        return reader.error(node, "Cluster authorization does not allow multiple users");
    }
    if auth.token.is_some() {
        return reader.error(node, "Cluster authorization does not support tokens");
    }
    if auth.has_permissions() {
        return reader.refuse("cluster.authorization.permissions", node);
    }
    cluster.user = auth.user;
    cluster.password = auth.password;
    put(&mut cluster.auth_timeout, auth.timeout);
}
