//! Monitoring over HTTP: nats-server's `/varz`, `/connz` and their like, `/healthz`, and `/metrics`.
//!
//! What it is: pure renders of what a [`Source`] publishes, with nats-server's keys in its order.
//! What it is not: it counts nothing but its own requests and reaches into no other room.

mod accountz;
mod connz;
mod healthz;
mod http;
mod index;
mod json;
mod jsz;
mod metrics;
mod query;
mod routez;
mod source;
mod subsz;
mod varz;
mod view;

pub use http::{Monitor, serve};
pub use source::{Health, Presence, Source, Wanted};
pub use view::{
    Account, ClusterSettings, Connection, Counters, JetStream, JetStreamAccount, JetStreamConfig,
    JetStreamStats, JetStreamStream, MetaGroup, Route, Server, ServerSettings, Subscription,
    SubscriptionCounts,
};
