//! Routes between servers, in nats-server's own protocol: seeds, gossip, pools, interest, messages.
//!
//! A message goes over one hop only: what comes over a route is delivered here and nowhere else.
//! It is not: gateways and leaf nodes, or what Weir's servers use each other for (they exchange an opaque
//! object, see `Topology::announce`).

mod address;
mod dial;
mod handshake;
mod interest;
mod link;
mod options;
mod register;
mod remote;
mod resolve;
mod snapshot;
mod topology;

pub use address::{RouteUrl, RouteUrlError};
pub use options::RouteOptions;
pub use snapshot::{PeerSeen, RouteSnapshot, RoutesSnapshot, SeedState, SeedView};
pub use topology::Topology;
