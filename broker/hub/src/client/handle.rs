//! What the rest of the hub knows of one client connection. Not its I/O.

use super::replies::Replies;
use crate::account::Account;
use crate::auth::{Credentials, Identity, Principal, Refusal};
use crate::close_reason::CloseReason;
use crate::exchange::RemoteRequests;
use crate::outbox::{Counted, Outbox};
use crate::permissions::Permissions;
use crate::snapshot::{ConnectionSnapshot, SubscriptionSnapshot};
use crate::subscription::Subscription;
use crate::trace;
use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tracing::error;
use weir_net::{ConnectionKind, TransportFacts};
use weir_proto::{ConnectOptions, encode};
use weir_stdx::time::UnixNanos;

/// So many subscriptions of a connection that is gone are remembered for monitoring.
const MAX_REMEMBERED_SUBSCRIPTIONS: usize = 1024;

/// One client connection.
pub(crate) struct ClientHandle {
    pub(crate) id: u64,
    /// The other end of the socket.
    pub(crate) socket_address: SocketAddr,
    /// The client behind a proxy.
    pub(crate) proxied_address: OnceLock<SocketAddr>,
    pub(crate) started: UnixNanos,
    pub(crate) outbox: Arc<Outbox>,
    /// What is known of how it came in; empty stands for a plain TCP connection.
    pub(crate) transport: ArcSwapOption<TransportFacts>,
    pub(crate) last_activity: AtomicU64,
    pub(crate) in_messages: AtomicU64,
    pub(crate) in_bytes: AtomicU64,
    pub(crate) rtt_nanos: AtomicU64,
    pub(crate) stalls: AtomicU64,
    /// Whether subscribers that are nearly full miss its messages.
    pub(crate) passes_over_crowded: AtomicBool,
    /// Whether it understands HMSG.
    pub(crate) headers: AtomicBool,
    /// Whether INFO may be sent at any time.
    pub(crate) async_info: AtomicBool,
    /// Whether its permissions were changed since its session last looked.
    pub(crate) permissions_changed: AtomicBool,
    /// Whether `replies` is there: looked at for every request it gets.
    pub(crate) tracks_replies: AtomicBool,
    pub(crate) replies: ArcSwapOption<Replies>,
    /// Requests from other servers whose latency is measured.
    pub(crate) remote_requests: RemoteRequests,
    /// The largest message it may send, in bytes.
    pub(crate) max_payload: AtomicUsize,
    pub(crate) state: RwLock<ClientState>,
    pub(crate) subscriptions: Mutex<FxHashMap<Box<[u8]>, Arc<Subscription>>>,
}

/// What CONNECT and authentication have decided.
#[derive(Default)]
pub(crate) struct ClientState {
    pub(crate) account: Option<Arc<Account>>,
    /// How logs and monitoring name the client.
    pub(crate) identity: Identity,
    pub(crate) permissions: Option<Arc<Permissions>>,
    /// When its credentials expire.
    pub(crate) expires: Option<UnixNanos>,
    /// Who it is, once that is decided.
    pub(crate) principal: Option<Arc<Principal>>,
    pub(crate) options: ConnectOptions,
    pub(crate) connected: bool,
    /// It is gone; the account stays known for those who ask about it.
    pub(crate) left: bool,
    /// What it had subscribed to when it left: how many, and the first of them.
    left_with: (usize, Vec<SubscriptionSnapshot>),
    /// What it got in with, to be checked again when users change.
    pub(crate) credentials: Option<Credentials>,
}

impl ClientState {
    /// The JWT from CONNECT, when authentication took it.
    fn shown_jwt(&self) -> &str {
        match (&self.principal, &self.credentials) {
            (Some(principal), Some(credentials)) if principal.has_jwt => &credentials.options.jwt,
            _ => "",
        }
    }

    /// The user as the end of a log label names it; `None` until CONNECT.
    fn user_label(&self) -> Option<String> {
        Some(self.identity.label()).filter(|label| self.connected && !label.is_empty())
    }
}

impl ClientHandle {
    /// Where the client is, as far as is known.
    pub(crate) fn address(&self) -> SocketAddr {
        *self.proxied_address.get().unwrap_or(&self.socket_address)
    }

    fn name(&self) -> String {
        // As in nats-server, a proxy's client is told by the proxy's address here.
        let (address, id) = (self.socket_address, self.id);
        let facts = self.transport.load();
        let Some(facts) = facts.as_ref().filter(|facts| facts.kind == ConnectionKind::WebSocket) else {
            return format!("{address} - cid:{id}");
        };
        match facts.forwarded_for {
            None => format!("{address} - wid:{id}"),
            Some(IpAddr::V4(client)) => format!("{client}/{address} - wid:{id}"),
            Some(IpAddr::V6(client)) => format!("[{client}]/{address} - wid:{id}"),
        }
    }

    /// How log lines name it, as nats-server does.
    pub(crate) fn label(&self) -> String {
        let state = self.state.read();
        let options = &state.options;
        let mut label = self.name();
        let version =
            if options.version.is_empty() { String::new() } else { format!("v{}", options.version) };
        let library: Vec<&str> = [version.as_str(), &options.lang, &options.name]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        if state.connected && !library.is_empty() {
            label.push_str(&format!(" - {:?}", library.join(":")));
        }
        if let (Some(user), Some(account)) = (state.user_label(), &state.account) {
            let (name, tag) = (account.name(), &account.settings().display_name);
            let slash = if tag.is_empty() { "" } else { "/" };
            label.push_str(&format!(" - {:?}", format!("{name}{slash}{tag}/{user}")));
        }
        label
    }

    /// Takes over what it may answer.
    pub(crate) fn set_replies(&self, permissions: Option<&Arc<Permissions>>) {
        let replies = permissions.and_then(Replies::new).map(Arc::new);
        self.tracks_replies.store(replies.is_some(), Ordering::Relaxed);
        self.replies.store(replies);
    }

    /// Notes that a request came, if its answer depends on that.
    #[inline]
    pub(crate) fn note_request(&self, reply: Option<&[u8]>) {
        if let Some(reply) = reply
            && self.tracks_replies.load(Ordering::Relaxed)
            && let Some(replies) = &*self.replies.load()
        {
            replies.note(reply, crate::hub::now());
        }
    }

    /// How it came in.
    pub(crate) fn kind(&self) -> ConnectionKind {
        self.transport.load().as_ref().map_or(ConnectionKind::Standard, |facts| facts.kind)
    }

    pub(crate) fn takes_headers(&self) -> bool {
        self.headers.load(Ordering::Relaxed)
    }

    /// Ends a subscription, wherever that was decided.
    pub(crate) fn drop_subscription(&self, subscription: &Arc<Subscription>) {
        let mut subscriptions = self.subscriptions.lock();
        if subscriptions.get(&subscription.sid).is_some_and(|known| Arc::ptr_eq(known, subscription)) {
            subscriptions.remove(&subscription.sid);
        }
        drop(subscriptions);
        let account = self.state.read().account.clone();
        if let Some(account) = account {
            account.unsubscribe(subscription);
        }
        if trace::is_on() {
            trace::subscription_ended(&self.label(), &subscription.sid);
        }
    }

    /// Ends all subscriptions.
    pub(crate) fn drop_subscriptions(&self) {
        let held: Vec<_> = self.subscriptions.lock().values().cloned().collect();
        for subscription in held {
            self.drop_subscription(&subscription);
        }
    }

    /// Ends all subscriptions and leaves the account.
    pub(crate) fn leave(&self) {
        let subscriptions = std::mem::take(&mut *self.subscriptions.lock());
        if trace::is_on() {
            let label = self.label();
            subscriptions.keys().for_each(|sid| trace::subscription_ended(&label, sid));
        }
        let mut state = self.state.write();
        let was_left = std::mem::replace(&mut state.left, true);
        if !was_left {
            let list = subscriptions.values().take(MAX_REMEMBERED_SUBSCRIPTIONS);
            let list = list.map(|subscription| SubscriptionSnapshot::of(subscription, self.id)).collect();
            state.left_with = (subscriptions.len(), list);
        }
        let account = state.account.clone().filter(|_| !was_left);
        drop(state);
        if let Some(account) = account {
            for subscription in subscriptions.values() {
                account.unsubscribe(subscription);
            }
            account.count_connection(false);
        }
    }

    pub(crate) fn snapshot(&self, with_subscriptions: bool) -> ConnectionSnapshot {
        let state = self.state.read();
        let (subscriptions, subscription_list) = match state.left {
            true if with_subscriptions => state.left_with.clone(),
            true => (state.left_with.0, Vec::new()),
            false => {
                let held = self.subscriptions.lock();
                let list = held.values().filter(|_| with_subscriptions);
                (held.len(), list.map(|one| SubscriptionSnapshot::of(one, self.id)).collect())
            }
        };
        let principal = state.principal.as_deref();
        let (out_messages, out_bytes) = self.outbox.sent();
        ConnectionSnapshot {
            id: self.id,
            address: self.address(),
            transport: self.transport.load_full(),
            start: self.started,
            last_activity: UnixNanos(self.last_activity.load(Ordering::Relaxed)),
            rtt_nanos: self.rtt_nanos.load(Ordering::Relaxed),
            pending_bytes: self.outbox.pending(),
            in_messages: self.in_messages.load(Ordering::Relaxed),
            in_bytes: self.in_bytes.load(Ordering::Relaxed),
            out_messages,
            out_bytes,
            stalls: self.stalls.load(Ordering::Relaxed),
            subscriptions,
            subscription_list,
            is_connected: state.connected,
            protocol: state.options.protocol,
            name: state.options.name.clone(),
            lang: state.options.lang.clone(),
            version: state.options.version.clone(),
            account: state.account.as_ref().map(|account| account.name().to_owned()).unwrap_or_default(),
            authorized_user: state.identity.shown().to_owned(),
            jwt: state.shown_jwt().to_owned(),
            issuer_key: principal.map(|principal| principal.issuer_key.clone()).unwrap_or_default(),
            name_tag: principal.map(|principal| principal.name_tag.clone()).unwrap_or_default(),
            tags: principal.map(|principal| principal.tags.clone()).unwrap_or_default(),
            proxy_key: principal.map(|principal| principal.proxy_key.clone()).unwrap_or_default(),
            stop: None,
            reason: None,
        }
    }

    /// Goes on as somebody else in the same account: other permissions, another end.
    pub(crate) fn replace_principal(&self, principal: Principal) {
        let mut state = self.state.write();
        let default =
            state.account.as_ref().and_then(|account| account.settings().default_permissions.clone());
        state.permissions = principal.permissions.clone().or(default);
        state.expires = principal.expires;
        state.principal = Some(Arc::new(principal));
        drop(state);
        self.permissions_changed.store(true, Ordering::Relaxed);
    }

    /// Ends a connection that was in, and says why.
    pub(crate) fn end(&self, refusal: &Refusal) {
        if !refusal.log.is_empty() {
            error!("{} - {}", self.label(), refusal.log);
        }
        if !refusal.answer.is_empty() {
            self.outbox.append(Counted::NOTHING, |out| encode::error(out, &refusal.answer));
        }
        self.close(refusal.reason);
    }

    pub(crate) fn close(&self, reason: CloseReason) {
        self.outbox.close(reason);
    }
}
