//! The `cluster` block.

use std::time::Duration;

use super::{
    authorization, compression,
    permissions::permissions,
    put,
    tls::{self, Place},
};
use crate::{
    error::ConfError,
    options::{ClusterOptions, Options, Permissions, RoutePermissions},
    read::Reader,
    value::Node,
};

/// Route pings may not be further apart.
const PING_INTERVAL_MAX: Duration = Duration::from_secs(30);

pub(super) fn cluster(reader: &mut Reader<'_>, options: &mut Options, node: &Node) {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        return reader.error(node, format!("Expected map to define cluster, got {kind}"));
    }
    let mut cluster = ClusterOptions::default();
    for (key, node) in reader.entries(node).unwrap_or_default() {
        let name = key.to_lowercase();
        let known = address(reader, &mut cluster, &name, node)
            || routes(reader, &mut cluster, key, node)
            || pace(reader, &mut cluster, &name, node);
        if !known {
            reader.unknown(key, node);
        }
    }
    if cluster.auth_timeout.is_zero() {
        cluster.auth_timeout = ClusterOptions::default().auth_timeout;
    }
    options.cluster = Some(cluster);
}

/// A name without blanks that leaf nodes do not use themselves.
pub(super) fn name(reader: &mut Reader<'_>, node: &Node, kind: &str) -> Option<String> {
    let name = reader.string(node)?;
    if name.contains(' ') {
        reader.error(node, format!("{kind} name cannot contain spaces"));
        return None;
    }
    if name == "_" {
        reader.error(node, "cluster name is reserved");
        return None;
    }
    Some(name)
}

fn address(reader: &mut Reader<'_>, cluster: &mut ClusterOptions, key: &str, node: &Node) -> bool {
    match key {
        "name" => put(&mut cluster.name, name(reader, node, "cluster")),
        "listen" => {
            if let Some((host, port)) = reader.listen(node) {
                put(&mut cluster.host, host);
                cluster.port = port;
            }
        }
        "port" => put(&mut cluster.port, reader.number("port", node)),
        "host" | "net" => put(&mut cluster.host, reader.string(node)),
        "cluster_advertise" | "advertise" => {
            cluster.advertise = reader.string(node).filter(|text| !text.is_empty());
        }
        "no_advertise" => put(&mut cluster.no_advertise, reader.boolean(node)),
        _ => return false,
    }
    true
}

fn routes(reader: &mut Reader<'_>, cluster: &mut ClusterOptions, key: &str, node: &Node) -> bool {
    match key.to_lowercase().as_str() {
        "authorization" => authorization(reader, cluster, key, node),
        "routes" => cluster.routes = reader.urls("route", node),
        "tls" => cluster.tls = tls::tls(reader, node, Place::Servers),
        "permissions" => route_permissions(reader, cluster, node),
        "connect_retries" => {
            let number = reader.integer(node);
            put(&mut cluster.connect_retries, number.map(|n| u32::try_from(n).unwrap_or(0)));
        }
        "connect_backoff" => put(&mut cluster.connect_backoff, reader.boolean(node)),
        "pool_size" => {
            let size: Option<i32> = reader.number("pool_size", node);
            put(&mut cluster.pool_size, size.filter(|size| *size != 0));
        }
        "accounts" => cluster.accounts = reader.strings("accounts", node),
        "compression" => {
            let default = compression::On::Fast;
            put(&mut cluster.compression, compression::compression(reader, key, node, default));
        }
        _ => return false,
    }
    true
}

fn pace(reader: &mut Reader<'_>, cluster: &mut ClusterOptions, key: &str, node: &Node) -> bool {
    match key {
        "ping_interval" => {
            let interval = reader.duration("ping_interval", node).filter(|time| !time.is_zero());
            if interval.is_some_and(|interval| interval > PING_INTERVAL_MAX) {
                let longest = crate::format_duration(PING_INTERVAL_MAX);
                reader.plain_warning(
                    node,
                    format!("Cluster 'ping_interval' will reset to {longest} which is the max for routes"),
                );
            }
            cluster.ping_interval = interval.map(|interval| interval.min(PING_INTERVAL_MAX));
        }
        "ping_max" => {
            let number = reader.integer(node).filter(|number| *number != 0);
            cluster.ping_max = number.map(|number| u32::try_from(number).unwrap_or(0));
        }
        "write_deadline" => {
            let deadline = reader.duration("write_deadline", node);
            cluster.write_deadline = deadline.filter(|time| !time.is_zero());
        }
        "write_timeout" => put(&mut cluster.write_timeout, reader.write_timeout(node)),
        _ => return false,
    }
    true
}

fn authorization(reader: &mut Reader<'_>, cluster: &mut ClusterOptions, key: &str, node: &Node) {
    let Some(auth) = server_authorization(reader, node, "Cluster") else { return };
    if let Some(permissions) = auth.default_permissions {
        reader.warning(node, key, "setting \"permissions\" within cluster authorization block is deprecated");
        if cluster.permissions.is_none() {
            set_permissions(reader, cluster, node, permissions);
        }
    }
    cluster.user = auth.user;
    cluster.password = auth.password;
    put(&mut cluster.auth_timeout, auth.timeout);
}

/// The `authorization` of connections between servers: one user.
pub(super) fn server_authorization(
    reader: &mut Reader<'_>,
    node: &Node,
    kind: &str,
) -> Option<authorization::Authorization> {
    let auth = authorization::block(reader, node)?;
    let refused = if auth.has_users {
        "does not allow multiple users"
    } else if auth.token.is_some() {
        "does not support tokens"
    } else if auth.callout.is_some() {
        "does not support callouts"
    } else {
        return Some(auth);
    };
    reader.error(node, format!("{kind} authorization {refused}"));
    None
}

fn route_permissions(reader: &mut Reader<'_>, cluster: &mut ClusterOptions, node: &Node) {
    if node.as_map().is_none() {
        // The reference knows no position here.
        return tls::bare(reader, format!("Expected permissions to be a map/struct, got {}", node.shown()));
    }
    let Some(permissions) = permissions(reader, node) else { return };
    if permissions.allow_responses.is_some() {
        return reader.error(node, "Cluster permissions do not support dynamic responses");
    }
    set_permissions(reader, cluster, node, permissions);
}

/// Routes know no queue permissions.
fn set_permissions(
    reader: &mut Reader<'_>,
    cluster: &mut ClusterOptions,
    node: &Node,
    permissions: Permissions,
) {
    let exported = permissions.subscribe.iter();
    for (what, list) in
        exported.flat_map(|side| [("allow", side.allow.as_deref()), ("deny", Some(&side.deny))])
    {
        for subject in list.unwrap_or_default() {
            if let Err(reason) = super::permissions::check_subject(subject, false) {
                let message = format!("cluster export {what}: {reason}");
                reader.errors.push(ConfError::at(&node.file, node.line, node.column, message));
                return;
            }
        }
    }
    cluster.permissions =
        Some(RoutePermissions { import: permissions.publish, export: permissions.subscribe });
}
