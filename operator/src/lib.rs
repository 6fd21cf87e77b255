//! The Weir operator: turns Clusters, Streams and Consumers into running brokers and JetStream objects.
//! The library exists for the binary and its tests; it is no public API.
pub mod api;
pub mod controllers;
pub mod crds;
