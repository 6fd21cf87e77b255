//! Connections to brokers as the operator's own user, one a Cluster, kept while they are used.
//! Found by the Service's address, so that no DNS is needed; async-nats connects again by itself.
use std::collections::HashMap;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;

use crate::api::v1alpha1::Cluster;
use crate::context::Context;
use crate::controllers::cluster::names::{CLIENT_PORT, Names};
use crate::error::KubeError;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The Cluster's objects are not there yet.
    #[error("{0} is not there yet")]
    Missing(String),
    /// The API server did not answer as hoped.
    #[error("cannot read {name}: {source}")]
    Read {
        /// What.
        name: String,
        /// Why.
        source: KubeError,
    },
    /// The broker did not take the connection.
    #[error("cannot connect to the brokers: {0}")]
    Connect(String),
}

/// The connections of this process. Keyed by namespace, name and uid: another Cluster of the same name never gets
/// the connection of this one.
#[derive(Default)]
pub struct Connections {
    open: Mutex<HashMap<String, Client>>,
}

fn key(cluster: &Cluster) -> String {
    format!(
        "{}/{}/{}",
        cluster.namespace().unwrap_or_default(),
        cluster.name_any(),
        cluster.uid().unwrap_or_default()
    )
}

impl Connections {
    /// The connection to a Cluster, made if there is none.
    pub async fn get(&self, context: &Context, cluster: &Cluster) -> Result<Client, ConnectError> {
        let key = key(cluster);
        let open = self.open.lock().get(&key).cloned();
        if let Some(client) = open {
            return Ok(client);
        }
        let client = connect(context, cluster).await?;
        self.open.lock().insert(key, client.clone());
        Ok(client)
    }

    /// Closes the connection to a Cluster; the next request makes another, with the credentials of then.
    pub fn close(&self, cluster: &Cluster) {
        self.open.lock().remove(&key(cluster));
    }

    /// Closes connections to Clusters that are gone.
    pub fn retain(&self, mut alive: impl FnMut(&str) -> bool) {
        self.open.lock().retain(|key, _| alive(key));
    }

    /// What `retain` compares with.
    pub fn key_of(cluster: &Cluster) -> String {
        key(cluster)
    }
}

async fn connect(context: &Context, cluster: &Cluster) -> Result<Client, ConnectError> {
    let names = Names {
        cluster: cluster.name_any(),
        namespace: cluster.namespace().unwrap_or_default(),
        domain: context.settings.cluster_domain.clone(),
    };
    let services: Api<Service> = context.api(&names.namespace);
    let secrets: Api<Secret> = context.api(&names.namespace);
    let service = found("Service", &names.cluster, services.get_opt(&names.cluster).await)?;
    let secret = found("Secret", &names.operator_secret(), secrets.get_opt(&names.operator_secret()).await)?;
    let address =
        service
            .spec
            .and_then(|spec| spec.cluster_ip)
            .filter(|ip| !ip.is_empty() && ip != "None")
            .ok_or_else(|| ConnectError::Missing(format!("the address of Service {}", names.cluster)))?;
    let field = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        value
            .and_then(|value| String::from_utf8(value.0.clone()).ok())
            .ok_or_else(|| ConnectError::Missing(format!("\"{key}\" in Secret {}", names.operator_secret())))
    };
    let host = if address.contains(':') { format!("[{address}]") } else { address };
    ConnectOptions::with_user_and_password(field("username")?, field("password")?)
        .name("weir-operator")
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ignore_discovered_servers()
        .connect(format!("nats://{host}:{CLIENT_PORT}"))
        .await
        .map_err(|error| ConnectError::Connect(error.to_string()))
}

fn found<T>(kind: &str, name: &str, read: Result<Option<T>, kube::Error>) -> Result<T, ConnectError> {
    let name = format!("{kind} {name}");
    match read {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(ConnectError::Missing(name)),
        Err(source) => Err(ConnectError::Read { name, source: source.into() }),
    }
}
