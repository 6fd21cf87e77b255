//! Routes between servers, in nats-server's own protocol: seeds, gossip, pools, interest, messages.
//!
//! A message goes over one hop only: what comes over a route is delivered here and nowhere else.
//! It is not: gateways and leaf nodes, or what Weir's servers use each other for (they exchange an opaque
//! object, see `Topology::announce`).

mod address;
mod certificate;
mod compression;
mod dial;
mod gossip;
mod handshake;
mod interest;
mod introduce;
mod operations;
mod options;
mod places;
mod register;
mod reload;
mod remote;
mod renew;
mod resolve;
mod rules;
mod session;
mod slow;
mod snapshot;
mod tls;
mod topology;
mod traced;

pub use address::{RouteUrl, RouteUrlError};
pub use options::RouteOptions;
pub use snapshot::{PeerSeen, RouteSnapshot, RouteSubscription, RoutesSnapshot, SeedState, SeedView};
pub use tls::RouteTls;
pub use topology::Topology;
