//! The Kubernetes API of Weir: the types behind `kubectl get clusters,streams,consumers`.
//! Types only: no client, no behaviour beyond small readers of their own fields.
pub mod v1alpha1;
