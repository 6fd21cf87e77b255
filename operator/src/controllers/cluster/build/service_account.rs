//! The ServiceAccount that brokers run under. It may do nothing: brokers never talk to Kubernetes.
use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::controllers::cluster::validate::ValidatedCluster;

/// The ServiceAccount, without a token.
pub fn service_account(cluster: &ValidatedCluster) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(cluster, cluster.names.cluster.clone()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
