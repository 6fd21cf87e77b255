//! Names, labels and addresses of everything that belongs to one Cluster.
//! The only place that knows how they are made.
use std::collections::BTreeMap;

/// Label that ties an object to its Cluster.
pub const CLUSTER_LABEL: &str = "weir.dev/cluster";
/// Value of `app.kubernetes.io/managed-by`, and the name that writes as field manager.
pub const MANAGER: &str = "weir-operator";
/// Port of the NATS protocol.
pub const CLIENT_PORT: i32 = 4222;
/// Port of the routes between brokers.
pub const ROUTE_PORT: i32 = 6222;
/// Port of the monitoring endpoints.
pub const MONITOR_PORT: i32 = 8222;
/// Port of Raft and the admin service.
pub const GRPC_PORT: i32 = 4333;

/// Names of one Cluster's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// metadata.name of the Cluster; also the StatefulSet's, the client Service's and the ConfigMap's.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// DNS domain of the Kubernetes cluster.
    pub domain: String,
}

impl Names {
    /// The Service that gives each pod a name of its own.
    pub fn headless(&self) -> String {
        format!("{}-headless", self.cluster)
    }
    /// The Secret with the credentials of applications.
    pub fn app_secret(&self) -> String {
        format!("{}-app", self.cluster)
    }
    /// The Secret with the credentials of the operator.
    pub fn operator_secret(&self) -> String {
        format!("{}-operator", self.cluster)
    }
    /// The Secret with what the brokers show each other.
    pub fn cluster_secret(&self) -> String {
        format!("{}-cluster", self.cluster)
    }
    /// The pod, and server name, of one broker.
    pub fn pod(&self, ordinal: i32) -> String {
        format!("{}-{ordinal}", self.cluster)
    }
    /// The number of a broker, from its name; `None` when it is not one of this Cluster's.
    pub fn ordinal(&self, pod: &str) -> Option<i32> {
        let number = pod.strip_prefix(self.cluster.as_str())?.strip_prefix('-')?;
        number.parse().ok().filter(|ordinal| number == i32::to_string(ordinal))
    }
    /// The volume claim of one broker.
    pub fn volume_claim(&self, ordinal: i32) -> String {
        format!("data-{}-{ordinal}", self.cluster)
    }
    /// Full DNS name of one broker.
    pub fn pod_address(&self, ordinal: i32) -> String {
        format!("{}.{}", self.pod(ordinal), self.headless_address())
    }
    /// Full DNS name behind which all pods are.
    pub fn headless_address(&self) -> String {
        format!("{}.{}.svc.{}", self.headless(), self.namespace, self.domain)
    }
    /// Where clients connect.
    pub fn client_host(&self) -> String {
        format!("{}.{}.svc.{}", self.cluster, self.namespace, self.domain)
    }
    /// Where clients connect, as a URL.
    pub fn client_url(&self) -> String {
        format!("nats://{}:{CLIENT_PORT}", self.client_host())
    }
    /// What selects the pods; never changes over a Cluster's life.
    pub fn selector(&self) -> BTreeMap<String, String> {
        [("app.kubernetes.io/name", "weir"), (CLUSTER_LABEL, self.cluster.as_str())]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }
    /// The selector as one string, as `kubectl -l` takes it.
    pub fn selector_text(&self) -> String {
        let pairs: Vec<String> =
            self.selector().iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }
    /// Labels of every object.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        for (key, value) in [
            ("app.kubernetes.io/instance", self.cluster.as_str()),
            ("app.kubernetes.io/component", "broker"),
            ("app.kubernetes.io/managed-by", MANAGER),
        ] {
            labels.insert(key.into(), value.into());
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_come_only_from_own_pods() {
        let names = Names { cluster: "demo".into(), namespace: "n".into(), domain: "cluster.local".into() };
        for (pod, expected) in [
            ("demo-0", Some(0)),
            ("demo-8", Some(8)),
            ("demo-01", None),
            ("demo-x", None),
            ("demo--1", None),
            ("demo2-0", None),
            ("other-0", None),
        ] {
            assert_eq!(names.ordinal(pod).filter(|ordinal| *ordinal >= 0), expected, "{pod}");
        }
    }
}
