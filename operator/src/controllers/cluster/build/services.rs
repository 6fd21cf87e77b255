//! The two Services: one name for clients, one name a pod for brokers.
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::api::v1alpha1::ServiceType;
use crate::controllers::cluster::names::{CLIENT_PORT, GRPC_PORT, MONITOR_PORT, ROUTE_PORT};
use crate::controllers::cluster::validate::ValidatedCluster;

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number,
        target_port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}

/// Gives each pod a DNS name, ready or not: brokers find each other before any of them is ready.
pub fn headless_service(cluster: &ValidatedCluster) -> Service {
    Service {
        metadata: metadata(cluster, cluster.names.headless()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(cluster.names.selector()),
            ports: Some(vec![
                port("client", CLIENT_PORT),
                port("cluster", ROUTE_PORT),
                port("monitor", MONITOR_PORT),
                port("grpc", GRPC_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// What clients connect to: ready brokers only.
pub fn client_service(cluster: &ValidatedCluster) -> Service {
    let wanted = &cluster.spec.service;
    let mut metadata = metadata(cluster, cluster.names.cluster.clone());
    if !wanted.annotations.is_empty() {
        metadata.annotations = Some(wanted.annotations.clone());
    }
    let type_ = match wanted.type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_.into()),
            selector: Some(cluster.names.selector()),
            ports: Some(vec![port("client", CLIENT_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
