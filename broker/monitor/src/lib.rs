//! Monitoring over HTTP: nats-server's `/varz`, `/connz` and their like, `/healthz`, and `/metrics`.
//!
//! What it is: pure renders of what a [`Source`] publishes, with nats-server's keys in its order.
//! What it is not: it counts nothing but its own requests and reaches into no other room.

mod accountz;
mod answer;
mod connz;
mod healthz;
mod http;
mod index;
mod internals;
mod json;
mod jsz;
mod metrics;
mod peers;
mod query;
mod request;
mod routez;
mod source;
mod statsz;
mod subsz;
mod varz;
mod view;

pub use accountz::AccountStat;
pub use answer::{Answer, answer};
pub use http::{Listener, Monitor, serve};
pub use json::compact;
pub use request::{Endpoint, FilterSubject, Request, ServerFilter};
pub use source::{Health, Presence, Source, Wanted};
pub use view::{
    Account, ClusterSettings, Connection, Counters, JetStream, JetStreamAccount, JetStreamConfig,
    JetStreamStats, JetStreamStream, MetaGroup, OcspPeerCache, PeerCertificate, Queue, RaftGroup, RaftPeer,
    Route, Server, ServerSettings, SubjectRules, Subscription, TlsSettings, Traffic, WebSocketSettings,
};
