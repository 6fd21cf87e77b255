//! Copies of what connections are and do, for monitoring. Not its JSON.

use crate::close_reason::CloseReason;
use crate::permissions::Permissions;
use crate::subscription::Subscription;
use std::net::SocketAddr;
use std::sync::Arc;
use weir_net::TransportFacts;
use weir_stdx::time::UnixNanos;

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionSnapshot {
    /// The subject.
    pub subject: String,
    /// The queue group; empty for none.
    pub queue: String,
    /// The client's id for it.
    pub sid: String,
    /// How many messages it got.
    pub messages: u64,
    /// After how many it ends; 0 for never.
    pub max: u64,
    /// The connection's id.
    pub connection: u64,
}

impl SubscriptionSnapshot {
    pub(crate) fn of(subscription: &Subscription, connection: u64) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            subject: text(&subscription.subject),
            queue: subscription.queue.as_deref().map(text).unwrap_or_default(),
            sid: text(&subscription.sid),
            messages: subscription.delivered(),
            max: subscription.max.load(std::sync::atomic::Ordering::Relaxed),
            connection,
        }
    }
}

/// What a connected client may do, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionRights {
    /// What it may do; `None` means everything.
    pub permissions: Option<Arc<Permissions>>,
    /// When its credentials expire.
    pub expires: Option<UnixNanos>,
}

/// One client connection.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionSnapshot {
    /// Its id (`cid`).
    pub id: u64,
    /// The client's address.
    pub address: SocketAddr,
    /// How it came in, where that is not plain TCP.
    pub transport: Option<Arc<TransportFacts>>,
    /// When it began.
    pub start: UnixNanos,
    /// When it was last heard of.
    pub last_activity: UnixNanos,
    /// The last round trip in nanoseconds; 0 while unknown.
    pub rtt_nanos: u64,
    /// Bytes that wait to be written.
    pub pending_bytes: usize,
    /// Messages from the client.
    pub in_messages: u64,
    /// Bytes of those.
    pub in_bytes: u64,
    /// Messages to the client.
    pub out_messages: u64,
    /// Bytes of those, protocol included.
    pub out_bytes: u64,
    /// How often it had to wait for a receiver.
    pub stalls: u64,
    /// How many subscriptions it has.
    pub subscriptions: usize,
    /// Those, if asked for; of a closed connection up to 1024.
    pub subscription_list: Vec<SubscriptionSnapshot>,
    /// Whether its CONNECT was accepted.
    pub is_connected: bool,
    /// The protocol version from CONNECT.
    pub protocol: i64,
    /// The name from CONNECT.
    pub name: String,
    /// The client library's language.
    pub lang: String,
    /// The client library's version.
    pub version: String,
    /// The account's name; empty before authentication.
    pub account: String,
    /// The user's name, its nkey, or `[REDACTED]` for a token; empty without one.
    pub authorized_user: String,
    /// The user's JWT; empty without one.
    pub jwt: String,
    /// The key that signed the user's JWT; empty without one.
    pub issuer_key: String,
    /// The name in the user's JWT; empty without one.
    pub name_tag: String,
    /// The tags in the user's JWT.
    pub tags: Vec<String>,
    /// The trusted proxy it came through; empty without one.
    pub proxy_key: String,
    /// When it ended, for closed ones.
    pub stop: Option<UnixNanos>,
    /// Why it ended, for closed ones.
    pub reason: Option<CloseReason>,
}
