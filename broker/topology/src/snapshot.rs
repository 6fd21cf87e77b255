//! Copies of what routes are and do, for monitoring and for forming a cluster. Not its JSON.

use crate::address::RouteUrl;
use crate::remote::{Link, Remote};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use weir_proto::ImportExport;
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
    /// What this server imports, if that is configured.
    pub import: Option<ImportExport>,
    /// What this server exports, if that is configured.
    pub export: Option<ImportExport>,
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
    /// The same with their details.
    pub subscription_details: Vec<RouteSubscription>,
    /// The account it is dedicated to; empty for none.
    pub account: String,
    /// How it is compressed, as nats-server names it.
    pub compression: &'static str,
    /// What the other server imports, if it says so.
    pub import: Option<ImportExport>,
    /// What the other server exports, if it says so.
    pub export: Option<ImportExport>,
}

/// One entry of another server's interest.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteSubscription {
    /// The account.
    pub account: String,
    /// The subject.
    pub subject: String,
    /// The queue group, if any.
    pub queue: Option<String>,
    /// What stands for a client's subscription id, as in nats-server: kind, account, subject and queue group.
    pub sid: String,
    /// How many messages were sent for it.
    pub messages: u64,
}

pub(crate) fn of(remote: &Remote, link: &Link) -> RouteSnapshot {
    let (out_messages, out_bytes) = link.outbox.sent();
    let terms = link.terms.lock().clone();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let interest = link.interest.lock();
    let mut details: Vec<_> = interest
        .iter()
        .map(|(key, subscription)| {
            let kind = if key.leaf.is_some() { 'L' } else { 'R' };
            let account =
                if terms.account.is_empty() { format!("{} ", text(&key.account)) } else { String::new() };
            let leaf = key.leaf.as_deref().map_or(String::new(), |origin| format!("{} ", text(origin)));
            let queue = key.queue.as_deref().map(text);
            let suffix = queue.as_ref().map_or(String::new(), |queue| format!(" {queue}"));
            RouteSubscription {
                account: text(&key.account),
                subject: text(&key.subject),
                sid: format!("{kind} {leaf}{account}{}{suffix}", text(&key.subject)),
                queue,
                messages: subscription.delivered(),
            }
        })
        .collect();
    drop(interest);
    details.sort_by(|left, right| left.sid.cmp(&right.sid));
    RouteSnapshot {
        id: link.number(),
        remote_id: remote.id.clone(),
        remote_name: remote.name.clone(),
        did_solicit: link.solicited,
        is_configured: link.configured.load(Ordering::Relaxed),
        address: link.address,
        start: link.started,
        last_activity: UnixNanos(link.last_activity.load(Ordering::Relaxed)),
        rtt_nanos: link.rtt_nanos.load(Ordering::Relaxed),
        pending_bytes: link.outbox.pending(),
        in_messages: link.in_messages.load(Ordering::Relaxed),
        in_bytes: link.in_bytes.load(Ordering::Relaxed),
        out_messages,
        out_bytes,
        subscriptions: details.len(),
        subscription_list: details.iter().map(|detail| detail.subject.clone()).collect(),
        subscription_details: details,
        account: terms.account,
        compression: terms.compression.name(),
        import: terms.import,
        export: terms.export,
    }
}
