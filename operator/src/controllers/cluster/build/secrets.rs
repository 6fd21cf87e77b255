//! The Secrets: who may connect, and what brokers show each other. Pure: passwords come in from outside.
use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::metadata;
use crate::controllers::cluster::names::{CLIENT_PORT, GRPC_PORT, ROUTE_PORT};
use crate::controllers::cluster::validate::ValidatedCluster;

/// User of applications.
pub(super) const APP_USER: &str = "app";
/// User of the operator.
pub(super) const OPERATOR_USER: &str = "operator";
/// User that brokers show each other.
const ROUTE_USER: &str = "route";
/// Key of the included configuration file.
pub(super) const FILE: &str = "secret.conf";

/// The passwords of one Cluster. Letters and digits only, so that they need no quoting anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Of applications.
    pub app_password: String,
    /// Of the operator.
    pub operator_password: String,
    /// Of routes between brokers.
    pub route_password: String,
    /// Bearer token of Raft and the admin service.
    pub grpc_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Credentials { .. }")
    }
}

fn secret(cluster: &ValidatedCluster, name: String, data: BTreeMap<&str, String>) -> Secret {
    Secret {
        metadata: metadata(cluster, name),
        type_: Some("Opaque".into()),
        data: Some(
            data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect(),
        ),
        ..Secret::default()
    }
}

fn user_secret(cluster: &ValidatedCluster, name: String, user: &str, password: &str) -> Secret {
    let host = cluster.names.client_host();
    let data = BTreeMap::from([
        ("username", user.to_owned()),
        ("password", password.to_owned()),
        ("url", cluster.names.client_url()),
        ("uri", format!("nats://{user}:{password}@{host}:{CLIENT_PORT}")),
        ("host", host),
        ("port", CLIENT_PORT.to_string()),
    ]);
    secret(cluster, name, data)
}

/// What applications connect with.
pub fn app_secret(cluster: &ValidatedCluster, credentials: &Credentials) -> Secret {
    user_secret(cluster, cluster.names.app_secret(), APP_USER, &credentials.app_password)
}

/// What the operator connects with.
pub fn operator_secret(cluster: &ValidatedCluster, credentials: &Credentials) -> Secret {
    user_secret(cluster, cluster.names.operator_secret(), OPERATOR_USER, &credentials.operator_password)
}

/// What the brokers show each other, and the configuration that must not be in a ConfigMap: users, routes with
/// their password, the token. `brokers` is how many routes to list.
pub fn cluster_secret(cluster: &ValidatedCluster, credentials: &Credentials, brokers: i32) -> Secret {
    let data = BTreeMap::from([
        ("route-password", credentials.route_password.clone()),
        ("grpc-token", credentials.grpc_token.clone()),
        (FILE, secret_file(cluster, credentials, brokers)),
    ]);
    secret(cluster, cluster.names.cluster_secret(), data)
}

fn secret_file(cluster: &ValidatedCluster, credentials: &Credentials, brokers: i32) -> String {
    let Credentials { app_password, operator_password, route_password, grpc_token } = credentials;
    let mut file = format!(
        "# Written by weir-operator: edits are undone.
authorization {{
  users: [
    {{ user: \"{APP_USER}\", password: \"{app_password}\" }}
    {{ user: \"{OPERATOR_USER}\", password: \"{operator_password}\" }}
  ]
}}
cluster {{
  name: \"{}\"
  listen: \"0.0.0.0:{ROUTE_PORT}\"
  no_advertise: true
  authorization {{ user: \"{ROUTE_USER}\", password: \"{route_password}\" }}
  routes: [
",
        cluster.names.cluster
    );
    for ordinal in 0..brokers {
        let address = cluster.names.pod_address(ordinal);
        let _ = writeln!(file, "    \"nats://{ROUTE_USER}:{route_password}@{address}:{ROUTE_PORT}\"");
    }
    let _ = write!(
        file,
        "  ]
}}
weir {{
  grpc: \"0.0.0.0:{GRPC_PORT}\"
  grpc_advertise: $WEIR_GRPC_ADVERTISE
  cluster_secret: \"{grpc_token}\"
}}
"
    );
    file
}
