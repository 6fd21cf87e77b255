//! Version `weir.dev/v1alpha1`.
#![expect(
    unreachable_pub,
    reason = "the schema derive makes inner copies of these types, which the lint takes for ours"
)]
mod cluster;
mod common;
mod consumer;
mod stream;

pub use cluster::*;
pub use common::*;
pub use consumer::*;
pub use stream::*;

/// The API group of every kind.
pub const GROUP: &str = "weir.dev";
