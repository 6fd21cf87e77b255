//! The Weir operator: turns Clusters, Streams and Consumers into running brokers and JetStream objects.
//! The library exists for the binary and its tests; it is no public API.
pub mod admin;
pub mod api;
pub mod apply;
pub mod conditions;
pub mod connections;
pub mod context;
pub mod controllers;
pub mod crds;
pub mod error;
pub mod http;
pub mod metrics;
pub mod run;
