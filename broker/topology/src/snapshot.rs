//! Copies of what routes are and do, for monitoring and for forming a cluster. Not its JSON.

use crate::address::RouteUrl;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use weir_stdx::time::UnixNanos;

/// What is known of one configured seed.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedView {
    /// As configured.
    pub url: RouteUrl,
    /// What came of it.
    pub state: SeedState,
}

/// What came of one configured seed.
#[derive(Debug, Clone, PartialEq)]
pub enum SeedState {
    /// Nobody was reached under it yet, or not any more.
    Unresolved,
    /// It is this server.
    Itself,
    /// Another server, which is connected.
    Connected(PeerSeen),
}

/// Another server that is connected.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerSeen {
    /// Its id.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// Its address.
    pub remote_ip: IpAddr,
    /// What it announces of itself, if it is a Weir server that announced something.
    pub weir: Option<Value>,
}

/// All routes.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutesSnapshot {
    /// One entry a connection.
    pub routes: Vec<RouteSnapshot>,
}

/// One connection of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteSnapshot {
    /// Its id (`rid`).
    pub id: u64,
    /// The other server's id.
    pub remote_id: String,
    /// The other server's name.
    pub remote_name: String,
    /// Whether this server began it.
    pub did_solicit: bool,
    /// Whether it is one of the configured seeds.
    pub is_configured: bool,
    /// The other side's address.
    pub address: SocketAddr,
    /// When it began.
    pub start: UnixNanos,
    /// When something was last received.
    pub last_activity: UnixNanos,
    /// The last round trip in nanoseconds; 0 while unknown.
    pub rtt_nanos: u64,
    /// Bytes that wait to be written.
    pub pending_bytes: usize,
    /// Messages received.
    pub in_messages: u64,
    /// Bytes of those.
    pub in_bytes: u64,
    /// Messages sent.
    pub out_messages: u64,
    /// Bytes sent.
    pub out_bytes: u64,
    /// How many subscriptions of the other server it carries.
    pub subscriptions: usize,
    /// Those subjects.
    pub subscription_list: Vec<String>,
    /// The account it is dedicated to; empty for none.
    pub account: String,
}
