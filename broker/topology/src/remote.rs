//! Another server and the connections to it: where a message for it goes. Not the table of all servers.

use crate::address::RouteUrl;
use crate::places::Places;
use crate::rules::RouteRules;
use crate::snapshot::PeerSeen;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use weir_conf::CompressionMode;
use weir_hub::{Outbox, Peer, PeerMessage, Subscription};
use weir_proto::{ImportExport, encode};
use weir_stdx::time::UnixNanos;

/// Interest as one connection brought it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct InterestKey {
    pub(crate) account: Box<[u8]>,
    pub(crate) subject: Box<[u8]>,
    pub(crate) queue: Option<Box<[u8]>>,
    /// The cluster of the leaf nodes whose interest it is.
    pub(crate) leaf: Option<Box<[u8]>>,
}

/// One connection to another server.
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) address: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    /// Whether this server began it.
    pub(crate) solicited: bool,
    /// Whether it is one of the configured seeds.
    pub(crate) configured: AtomicBool,
    /// What was dialled.
    pub(crate) url: Option<RouteUrl>,
    pub(crate) started: UnixNanos,
    pub(crate) last_activity: AtomicU64,
    pub(crate) in_messages: AtomicU64,
    pub(crate) in_bytes: AtomicU64,
    pub(crate) rtt_nanos: AtomicU64,
    pub(crate) interest: Mutex<FxHashMap<InterestKey, Arc<Subscription>>>,
    /// What its interest leads to, by account.
    pub(crate) peers: Mutex<FxHashMap<String, Arc<dyn Peer>>>,
    pub(crate) rules: Arc<RouteRules>,
    pub(crate) takes_headers: AtomicBool,
    /// The other server's name, once it is known.
    pub(crate) remote_name: OnceLock<String>,
    /// What its introduction brought.
    pub(crate) terms: Mutex<Terms>,
    /// Its place in the pool.
    pub(crate) index: AtomicUsize,
    /// The options have changed since it last looked.
    pub(crate) is_outdated: AtomicBool,
}

/// What two servers agreed on for a connection.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// The account it is for alone; empty for all.
    pub(crate) account: String,
    pub(crate) compression: CompressionMode,
    /// What the other server imports and exports.
    pub(crate) import: Option<ImportExport>,
    pub(crate) export: Option<ImportExport>,
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Link {
    /// The number that logs and monitoring show.
    pub(crate) fn number(&self) -> u64 {
        self.id & ((1 << 48) - 1)
    }

    pub(crate) fn label(&self) -> String {
        format!("{} - rid:{}", self.address, self.number())
    }
}

/// Another server.
pub(crate) struct Remote {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Whether it let us in, or we let it in: until then it is nobody's peer.
    pub(crate) confirmed: AtomicBool,
    pub(crate) places: RwLock<Places<Arc<Link>>>,
    state: RwLock<State>,
}

struct State {
    weir: Option<Value>,
    connect_urls: Vec<String>,
    websocket_urls: Vec<String>,
    remote_ip: IpAddr,
}

impl Remote {
    pub(crate) fn new(id: &str, name: &str, remote_ip: IpAddr) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            confirmed: AtomicBool::new(false),
            places: RwLock::new(Places::new()),
            state: RwLock::new(State {
                weir: None,
                connect_urls: Vec::new(),
                websocket_urls: Vec::new(),
                remote_ip,
            }),
        }
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Acquire)
    }

    /// Notes what its INFO says; tells whether that is news.
    pub(crate) fn learn(
        &self,
        weir: Option<&Value>,
        connect_urls: &[String],
        websocket_urls: &[String],
    ) -> bool {
        let mut state = self.state.write();
        // An INFO without the object (a later one of the pool, gossip) does not take it back.
        let is_news = weir.is_some_and(|weir| state.weir.as_ref() != Some(weir))
            || state.connect_urls != connect_urls
            || state.websocket_urls != websocket_urls;
        if let Some(weir) = weir {
            state.weir = Some(weir.clone());
        }
        state.connect_urls = connect_urls.to_vec();
        state.websocket_urls = websocket_urls.to_vec();
        is_news
    }

    pub(crate) fn connect_urls(&self) -> Vec<String> {
        self.state.read().connect_urls.clone()
    }

    pub(crate) fn websocket_urls(&self) -> Vec<String> {
        self.state.read().websocket_urls.clone()
    }

    pub(crate) fn seen(&self) -> PeerSeen {
        let state = self.state.read();
        PeerSeen {
            server_id: self.id.clone(),
            server_name: self.name.clone(),
            remote_ip: state.remote_ip,
            weir: state.weir.clone(),
        }
    }

    pub(crate) fn note_ip(&self, ip: IpAddr) {
        self.state.write().remote_ip = ip;
    }

    /// All connections, with the accounts of those that are for one alone.
    pub(crate) fn links(&self) -> Vec<(Arc<Link>, String)> {
        let places = self.places.read();
        let pool = places.pooled().map(|link| (Arc::clone(link), String::new()));
        pool.chain(places.dedicated().map(|(account, link)| (Arc::clone(link), account.to_owned()))).collect()
    }

    /// The connection for what concerns the server as a whole.
    pub(crate) fn any_link(&self) -> Option<Arc<Link>> {
        self.places.read().any().cloned()
    }
}

/// The way over one connection to another server, for one account: what its interest leads to.
pub(crate) struct LinkPeer {
    pub(crate) link: Arc<Link>,
    /// Absent when the connection is dedicated to the account.
    pub(crate) account: Option<Box<[u8]>>,
}

impl Peer for LinkPeer {
    fn id(&self) -> u64 {
        self.link.id
    }

    fn outbox(&self) -> &Arc<Outbox> {
        &self.link.outbox
    }

    fn connection(&self) -> u64 {
        self.link.number()
    }

    fn label(&self) -> String {
        self.link.label()
    }

    fn name(&self) -> String {
        self.link.remote_name.get().cloned().unwrap_or_default()
    }

    fn takes_headers(&self) -> bool {
        self.link.takes_headers.load(Ordering::Relaxed)
    }

    fn accepts(&self, subject: &[u8]) -> bool {
        self.link.rules.may_send(subject)
    }

    fn write_line(&self, message: &PeerMessage<'_>, out: &mut Vec<u8>) {
        // A delivery that shows another subject carries it behind the reply: `<ack subject>@<shown subject>`.
        let (subject, shown) = match (message.deliver_to, message.reply) {
            (Some(to), Some(_)) => (to, Some(message.subject)),
            (Some(to), None) => (to, None),
            (None, _) => (message.subject, None),
        };
        encode::route_message_line(
            out,
            &encode::RouteLine {
                account: self.account.as_deref(),
                subject,
                reply: message.reply,
                shown,
                queues: message.queues,
                header_size: message.headers.len(),
                total_size: message.headers.len() + message.payload.len(),
            },
        );
    }
}

/// Splits what a server put behind a reply: `$JS.ACK.<at least 7 tokens>@<shown subject>`.
pub(crate) fn split_shown(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    if !reply.starts_with(b"$JS.ACK.") {
        return None;
    }
    let mut dots = 0;
    for (at, byte) in reply.iter().enumerate() {
        match byte {
            b'.' => dots += 1,
            b'@' if dots >= 8 => return Some((&reply[..at], &reply[at + 1..])),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_subject_follows_the_ack_subject() {
        let reply = b"$JS.ACK.S.C.1.2.3.4.5@orders.new";
        assert_eq!(split_shown(reply), Some((&b"$JS.ACK.S.C.1.2.3.4.5"[..], &b"orders.new"[..])));
        assert_eq!(split_shown(b"$JS.ACK.S@x.C.1"), None);
        assert_eq!(split_shown(b"_INBOX.a@b"), None);
    }
}
