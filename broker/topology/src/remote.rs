//! Another server and the connections to it: where a message for it goes. Not the table of all servers.

use crate::snapshot::PeerSeen;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use weir_hub::{Outbox, Peer, PeerMessage, Subscription};
use weir_proto::encode;
use weir_stdx::time::UnixNanos;

/// Interest as one connection brought it: (account, subject, queue).
pub(crate) type InterestKey = (Box<[u8]>, Box<[u8]>, Option<Box<[u8]>>);

/// One connection to another server.
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) address: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    /// Whether this server began it.
    pub(crate) solicited: bool,
    pub(crate) configured: bool,
    pub(crate) started: UnixNanos,
    pub(crate) last_activity: AtomicU64,
    pub(crate) in_messages: AtomicU64,
    pub(crate) in_bytes: AtomicU64,
    pub(crate) rtt_nanos: AtomicU64,
    pub(crate) interest: parking_lot::Mutex<FxHashMap<InterestKey, Arc<Subscription>>>,
    /// What its interest leads to, by account.
    pub(crate) peers: parking_lot::Mutex<FxHashMap<String, Arc<dyn Peer>>>,
}

/// Another server.
pub(crate) struct Remote {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Whether it let us in, or we let it in: until then it is nobody's peer.
    pub(crate) confirmed: AtomicBool,
    /// Whether somebody completes the pool.
    pub(crate) filling: AtomicBool,
    state: RwLock<State>,
}

struct State {
    /// The pool, by index.
    links: Vec<Option<Arc<Link>>>,
    /// Connections for one account each.
    dedicated: FxHashMap<String, Arc<Link>>,
    weir: Option<Value>,
    connect_urls: Vec<String>,
    remote_ip: IpAddr,
}

/// nats-server's choice of a connection for an account.
pub(crate) fn pool_index(account: &str, pool_size: usize) -> usize {
    if pool_size <= 1 {
        return 0;
    }
    let hash = account
        .bytes()
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % pool_size
}

impl Remote {
    pub(crate) fn new(id: &str, name: &str, pool_size: usize, remote_ip: IpAddr) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            confirmed: AtomicBool::new(false),
            filling: AtomicBool::new(false),
            state: RwLock::new(State {
                links: vec![None; pool_size],
                dedicated: FxHashMap::default(),
                weir: None,
                connect_urls: Vec::new(),
                remote_ip,
            }),
        }
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Acquire)
    }

    /// Notes what its INFO says; tells whether that is news.
    pub(crate) fn learn(&self, weir: Option<&Value>, connect_urls: &[String]) -> bool {
        let mut state = self.state.write();
        // An INFO without the object (a later one of the pool, gossip) does not take it back.
        let is_news =
            weir.is_some_and(|weir| state.weir.as_ref() != Some(weir)) || state.connect_urls != connect_urls;
        if let Some(weir) = weir {
            state.weir = Some(weir.clone());
        }
        state.connect_urls = connect_urls.to_vec();
        is_news
    }

    pub(crate) fn forget_connect_urls(&self) {
        self.state.write().connect_urls.clear();
    }

    pub(crate) fn connect_urls(&self) -> Vec<String> {
        self.state.read().connect_urls.clone()
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

    pub(crate) fn link_at(&self, index: usize) -> Option<Arc<Link>> {
        self.state.read().links.get(index).cloned().flatten()
    }

    pub(crate) fn dedicated_link(&self, account: &str) -> Option<Arc<Link>> {
        self.state.read().dedicated.get(account).cloned()
    }

    /// The first free place of the pool.
    pub(crate) fn free_index(&self) -> Option<usize> {
        self.state.read().links.iter().position(Option::is_none)
    }

    pub(crate) fn put(&self, index: usize, account: &str, link: Arc<Link>) {
        let mut state = self.state.write();
        state.remote_ip = link.address.ip().to_canonical();
        if account.is_empty() {
            if let Some(place) = state.links.get_mut(index) {
                *place = Some(link);
            }
        } else {
            state.dedicated.insert(account.to_owned(), link);
        }
    }

    /// Takes a connection out; tells whether any is left.
    pub(crate) fn remove(&self, link: &Arc<Link>) -> bool {
        let mut state = self.state.write();
        for place in &mut state.links {
            if place.as_ref().is_some_and(|known| Arc::ptr_eq(known, link)) {
                *place = None;
            }
        }
        state.dedicated.retain(|_, known| !Arc::ptr_eq(known, link));
        state.links.iter().any(Option::is_some) || !state.dedicated.is_empty()
    }

    pub(crate) fn links(&self) -> Vec<(Arc<Link>, String)> {
        let state = self.state.read();
        let pool = state.links.iter().flatten().map(|link| (Arc::clone(link), String::new()));
        pool.chain(state.dedicated.iter().map(|(account, link)| (Arc::clone(link), account.clone())))
            .collect()
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

    #[test]
    fn accounts_are_spread_as_nats_server_does() {
        // FNV-1a, 32 bits.
        assert_eq!(pool_index("$G", 1), 0);
        assert_eq!(pool_index("", 3), 0x811C_9DC5_usize % 3);
        assert_eq!(pool_index("a", 1 << 16), 0xE40C_292C_usize % (1 << 16));
    }
}
