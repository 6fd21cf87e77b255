//! An account: its interest and the messages published in it. Not who may do so.

use crate::account_settings::AccountSettings;
use crate::exchange::AccountExchange;
use crate::ingress::{Audience, Ingress};
use crate::interest::Interest;
use crate::message::{Inbound, Origin, OutboundMessage};
use crate::options::HubOptions;
use crate::peer::{InterestListener, LocalInterest, Peer};
use crate::snapshot::SubscriptionSnapshot;
use crate::subscription::{Subscription, Target};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::watch;

/// What an internal subscriber runs, inline in the publisher's task: never block in it.
pub type InternalHandler = Arc<dyn Fn(&Inbound<'_>) + Send + Sync>;

/// The hub's listener for changes of local interest; shared by all accounts, set once routes start.
pub(crate) type ListenerSlot = Arc<ArcSwapOption<Arc<dyn InterestListener>>>;

/// Tells somebody outside whether a subject is listened to.
struct Watcher {
    listeners: Listeners,
    sender: watch::Sender<bool>,
}

/// Who counts as listening.
#[derive(PartialEq, Eq)]
enum Listeners {
    Anybody,
    /// Subscribers to just the subject: of this queue group, or of none.
    Exactly(Option<Box<[u8]>>),
}

type InterestKey = (Box<[u8]>, Option<Box<[u8]>>);

/// An account of this server.
pub struct Account {
    name: String,
    number: u64,
    /// For handing itself to the listener.
    this: Weak<Self>,
    interest: Interest,
    /// How many local subscriptions there are of each subject and queue group.
    local: Mutex<FxHashMap<InterestKey, u32>>,
    listener: ListenerSlot,
    changes: watch::Sender<u64>,
    /// By subject.
    watchers: Mutex<FxHashMap<Box<[u8]>, Vec<Watcher>>>,
    watcher_count: AtomicUsize,
    subscriptions: AtomicUsize,
    connections: AtomicUsize,
    exchange: AccountExchange,
    inserts: AtomicU64,
    removes: AtomicU64,
    past: Past,
    routed: Routed,
}

/// What an account's messages to and from other servers are.
#[derive(Default)]
struct Routed {
    in_messages: AtomicU64,
    in_bytes: AtomicU64,
    out_messages: AtomicU64,
    out_bytes: AtomicU64,
}

/// What an account's clients that are gone have moved, and how often one was too slow.
#[derive(Default)]
struct Past {
    in_messages: AtomicU64,
    in_bytes: AtomicU64,
    out_messages: AtomicU64,
    out_bytes: AtomicU64,
    slow_consumers: AtomicU64,
}

/// What an account's clients have moved so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccountTraffic {
    /// Messages from clients.
    pub in_messages: u64,
    /// Bytes of those: headers and payloads.
    pub in_bytes: u64,
    /// Messages to clients.
    pub out_messages: u64,
    /// Bytes of those.
    pub out_bytes: u64,
    /// Clients cut because they did not read fast enough.
    pub slow_consumers: u64,
}

/// A subscription of this process; dropping it unsubscribes.
#[must_use = "dropping it unsubscribes"]
pub struct InternalSubscription {
    account: Arc<Account>,
    subscription: Arc<Subscription>,
}

impl Drop for InternalSubscription {
    fn drop(&mut self) {
        self.account.unsubscribe(&self.subscription);
    }
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The routing state for publishes from inside, taken while in use: a handler may publish in turn.
    static INTERNAL: Cell<Option<Box<Ingress>>> = const { Cell::new(None) };
}

impl Account {
    pub(crate) fn new(name: &str, listener: ListenerSlot, options: Arc<HubOptions>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            name: name.to_owned(),
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            this: Weak::clone(this),
            interest: Interest::new(options.caches_interest),
            local: Mutex::new(FxHashMap::default()),
            listener,
            changes: watch::Sender::new(0),
            watchers: Mutex::new(FxHashMap::default()),
            watcher_count: AtomicUsize::new(0),
            subscriptions: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            exchange: AccountExchange::new(options),
            inserts: AtomicU64::new(0),
            removes: AtomicU64::new(0),
            past: Past::default(),
            routed: Routed::default(),
        })
    }

    /// The account's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is configured to be.
    pub fn settings(&self) -> Arc<AccountSettings> {
        Arc::clone(&self.exchange.current().settings)
    }

    pub(crate) fn exchange(&self) -> &AccountExchange {
        &self.exchange
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn interest(&self) -> &Interest {
        &self.interest
    }

    /// How many subscriptions of clients and of this process there are.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// How many subscriptions there are, those that stand for other servers' included.
    pub fn interest_count(&self) -> u64 {
        let (made, ended) = self.subscription_changes();
        made.saturating_sub(ended)
    }

    /// How many client connections are bound to it.
    pub fn connection_count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether no more connections may join.
    pub(crate) fn is_full(&self) -> bool {
        let max = self.exchange.current().settings.limits.max_connections;
        max.is_some_and(|max| self.connection_count() >= max)
    }

    /// How many subscriptions were ever made and how many ended, other servers' included: (made, ended).
    pub fn subscription_changes(&self) -> (u64, u64) {
        (self.inserts.load(Ordering::Relaxed), self.removes.load(Ordering::Relaxed))
    }

    /// What came from other servers and went to them.
    pub fn routed(&self) -> AccountTraffic {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AccountTraffic {
            in_messages: load(&self.routed.in_messages),
            in_bytes: load(&self.routed.in_bytes),
            out_messages: load(&self.routed.out_messages),
            out_bytes: load(&self.routed.out_bytes),
            slow_consumers: 0,
        }
    }

    /// Counts messages and bytes that came from another server.
    pub fn count_routed_in(&self, messages: u64, bytes: u64) {
        self.routed.in_messages.fetch_add(messages, Ordering::Relaxed);
        self.routed.in_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_routed_out(&self, messages: u64, bytes: u64) {
        self.routed.out_messages.fetch_add(messages, Ordering::Relaxed);
        self.routed.out_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// See `count_past`.
    pub(crate) fn past(&self) -> AccountTraffic {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let past = &self.past;
        AccountTraffic {
            in_messages: load(&past.in_messages),
            in_bytes: load(&past.in_bytes),
            out_messages: load(&past.out_messages),
            out_bytes: load(&past.out_bytes),
            slow_consumers: load(&past.slow_consumers),
        }
    }

    /// Counts what no client of now shows: what those that left have done, and each time that one was too slow.
    pub(crate) fn count_past(&self, traffic: AccountTraffic) {
        let add = |counter: &AtomicU64, count: u64| {
            counter.fetch_add(count, Ordering::Relaxed);
        };
        let past = &self.past;
        add(&past.in_messages, traffic.in_messages);
        add(&past.in_bytes, traffic.in_bytes);
        add(&past.out_messages, traffic.out_messages);
        add(&past.out_bytes, traffic.out_bytes);
        add(&past.slow_consumers, traffic.slow_consumers);
    }

    /// How many subscriptions of this server's clients match: all that a literal `subject` is delivered to, or all
    /// that lie within a pattern; with `queue`, only those of that queue group.
    pub fn count_subscribers(&self, subject: &[u8], queue: Option<&[u8]>) -> usize {
        let is_literal = !weir_subject::has_wildcards(subject);
        let mut count = 0;
        self.interest.for_each(|subscription| {
            let covered = if is_literal {
                weir_subject::matches(&subscription.subject, subject)
            } else {
                weir_subject::is_subset(&subscription.subject, subject)
            };
            let in_queue = queue.is_none_or(|queue| subscription.queue.as_deref() == Some(queue));
            count += usize::from(covered && in_queue && matches!(subscription.target, Target::Client(_)));
        });
        count
    }

    pub(crate) fn count_connection(&self, joined: bool) {
        if joined {
            self.connections.fetch_add(1, Ordering::Relaxed);
        } else {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Visits every subscription of clients and of this process.
    pub fn for_each_subscription(&self, mut visit: impl FnMut(&Subscription)) {
        self.interest.for_each(|subscription| {
            if matches!(subscription.target, Target::Client(_) | Target::Internal(_)) {
                visit(subscription);
            }
        });
    }

    /// Every subscription of clients and of this process.
    pub fn subscriptions_snapshot(&self) -> Vec<SubscriptionSnapshot> {
        let mut found = Vec::new();
        self.interest.for_each(|subscription| match &subscription.target {
            Target::Client(client) => found.push(SubscriptionSnapshot::of(subscription, client.id)),
            Target::Peer { .. } => {}
            _ => found.push(SubscriptionSnapshot::of(subscription, 0)),
        });
        found
    }

    /// Subscribes `handler` to `subject` (wildcards allowed), optionally as a member of a queue group.
    /// Interest is told to other servers as a client's would be. An invalid subject is never matched.
    pub fn subscribe_internal(
        self: &Arc<Self>,
        subject: &str,
        queue: Option<&str>,
        handler: InternalHandler,
    ) -> InternalSubscription {
        self.subscribe_inside(subject, queue, handler, true)
    }

    /// Like `subscribe_internal`, but other servers are not told: only what is published here arrives.
    pub fn subscribe_local(
        self: &Arc<Self>,
        subject: &str,
        handler: InternalHandler,
    ) -> InternalSubscription {
        self.subscribe_inside(subject, None, handler, false)
    }

    fn subscribe_inside(
        self: &Arc<Self>,
        subject: &str,
        queue: Option<&str>,
        handler: InternalHandler,
        announced: bool,
    ) -> InternalSubscription {
        let mut subscription =
            Subscription::new(subject.as_bytes(), queue.map(str::as_bytes), b"", Target::Internal(handler));
        subscription.announced = announced;
        let subscription = Arc::new(subscription);
        self.subscribe(Arc::clone(&subscription));
        InternalSubscription { account: Arc::clone(self), subscription }
    }

    /// Publishes and flushes; returns how many deliveries were made (local subscriptions and servers).
    pub fn publish(
        self: &Arc<Self>,
        subject: &[u8],
        reply: Option<&[u8]>,
        headers: &[u8],
        payload: &[u8],
    ) -> usize {
        self.publish_batch([OutboundMessage { subject, deliver_to: None, reply, headers, payload }])
    }

    /// Publishes to whoever listens on `to`, showing them `subject`, as deliveries from a stream do.
    pub fn publish_as(
        self: &Arc<Self>,
        to: &[u8],
        subject: &[u8],
        reply: Option<&[u8]>,
        headers: &[u8],
        payload: &[u8],
    ) -> usize {
        self.publish_batch([OutboundMessage { subject, deliver_to: Some(to), reply, headers, payload }])
    }

    /// Publishes many messages, flushing each receiver once; returns the number of deliveries.
    pub fn publish_batch<'a>(
        self: &Arc<Self>,
        messages: impl IntoIterator<Item = OutboundMessage<'a>>,
    ) -> usize {
        let mut total = 0;
        self.publish_batch_with(messages, |_, deliveries| total += deliveries);
        total
    }

    /// Like `publish_batch`; tells for each message, by its place, how many deliveries were made.
    pub fn publish_batch_with<'a>(
        self: &Arc<Self>,
        messages: impl IntoIterator<Item = OutboundMessage<'a>>,
        mut tell: impl FnMut(usize, usize),
    ) {
        let mut ingress = INTERNAL.take().unwrap_or_else(|| Box::new(Ingress::new(0, self.number << 7)));
        for (at, message) in messages.into_iter().enumerate() {
            let message = message.to_route();
            tell(at, ingress.route(self, &message, Origin::Internal, true, Audience::Everyone));
        }
        let _ = ingress.flush(false);
        INTERNAL.set(Some(ingress));
    }

    /// Whether a message on this literal subject would be delivered, here or through a route.
    pub fn has_interest(&self, subject: &[u8]) -> bool {
        self.interest.has_any(subject)
    }

    /// A counter that grows with every change of interest in the account.
    pub fn interest_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether the literal `subject` has interest, kept up to date; cheaper than `interest_changes` for many watchers.
    pub fn watch_interest(self: &Arc<Self>, subject: &str) -> watch::Receiver<bool> {
        self.watch(subject.as_bytes(), Listeners::Anybody)
    }

    /// Whether somebody listens on just the literal `subject` (no wildcards): in `queue`, or in no queue group.
    pub fn watch_listeners(self: &Arc<Self>, subject: &str, queue: Option<&str>) -> watch::Receiver<bool> {
        self.watch(subject.as_bytes(), Listeners::Exactly(queue.map(|queue| queue.as_bytes().into())))
    }

    fn watch(&self, subject: &[u8], listeners: Listeners) -> watch::Receiver<bool> {
        let mut watchers = self.watchers.lock();
        // Those whose receivers are gone are dropped here, so that the table follows what is watched.
        watchers.retain(|_, all| {
            all.retain(|watcher| watcher.sender.receiver_count() > 0);
            !all.is_empty()
        });
        self.watcher_count.store(watchers.len() + 1, Ordering::Release);
        let of_subject = watchers.entry(subject.into()).or_default();
        if let Some(watcher) = of_subject.iter().find(|watcher| watcher.listeners == listeners) {
            return watcher.sender.subscribe();
        }
        let (sender, receiver) = watch::channel(false);
        let watcher = Watcher { listeners, sender };
        self.tell(subject, &watcher);
        of_subject.push(watcher);
        receiver
    }

    fn tell(&self, subject: &[u8], watcher: &Watcher) {
        let is_heard = match &watcher.listeners {
            Listeners::Anybody => self.interest.has_any(subject),
            Listeners::Exactly(queue) => self.interest.has_exactly(subject, queue.as_deref()),
        };
        watcher.sender.send_if_modified(|known| std::mem::replace(known, is_heard) != is_heard);
    }

    pub(crate) fn subscribe(self: &Arc<Self>, subscription: Arc<Subscription>) {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
        self.inserts.fetch_add(1, Ordering::Relaxed);
        self.interest.insert(Arc::clone(&subscription));
        self.count_local(&subscription, true);
        self.announce_change(&subscription.subject);
        self.shadow(&subscription);
    }

    /// Does nothing when it was unsubscribed before.
    pub(crate) fn unsubscribe(&self, subscription: &Arc<Subscription>) {
        if subscription.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.interest.remove(subscription) {
            self.subscriptions.fetch_sub(1, Ordering::Relaxed);
            self.removes.fetch_add(1, Ordering::Relaxed);
            self.count_local(subscription, false);
        }
        self.announce_change(&subscription.subject);
        self.subscription_ended(subscription);
    }

    fn count_local(&self, subscription: &Subscription, added: bool) {
        if !subscription.announced {
            return;
        }
        let mut local = self.local.lock();
        let key = (subscription.subject.clone(), subscription.queue.clone());
        let weight = if added {
            let weight = local.entry(key).or_insert(0);
            *weight += 1;
            *weight
        } else {
            let Some(weight) = local.get_mut(&key) else { return };
            *weight -= 1;
            let left = *weight;
            if left == 0 {
                local.remove(&key);
            }
            left
        };
        let is_news = subscription.queue.is_some() || weight == u32::from(added);
        if is_news
            && let Some(listener) = &*self.listener.load()
            && let Some(this) = self.this.upgrade()
        {
            let shown = if subscription.queue.is_some() { weight } else { weight.min(1) };
            listener.interest_changed(&this, &subscription.subject, subscription.queue.as_deref(), shown);
        }
    }

    /// Hands this server's current interest to `visit` while no change can be announced,
    /// so that what `visit` notes and what the listener is told afterwards fit together.
    pub fn with_local_interest(&self, visit: impl FnOnce(&mut dyn Iterator<Item = LocalInterest>)) {
        let local = self.local.lock();
        let mut entries = local.iter().map(|((subject, queue), weight)| LocalInterest {
            subject: subject.clone(),
            queue: queue.clone(),
            weight: if queue.is_some() { *weight } else { 1 },
        });
        visit(&mut entries);
    }

    /// Notes another server's interest, its own or (`is_leaf`) that of its leaf nodes; undone by
    /// `remove_remote_interest`.
    pub fn add_remote_interest(
        &self,
        peer: &Arc<dyn Peer>,
        subject: &[u8],
        queue: Option<&[u8]>,
        weight: u32,
        is_leaf: bool,
    ) -> Arc<Subscription> {
        let target = Target::Peer { peer: Arc::clone(peer), weight: AtomicU32::new(weight), is_leaf };
        let subscription = Arc::new(Subscription::new(subject, queue, b"", target));
        self.interest.insert(Arc::clone(&subscription));
        self.inserts.fetch_add(1, Ordering::Relaxed);
        self.announce_change(subject);
        subscription
    }

    /// Changes the weight of another server's queue group.
    pub fn set_remote_weight(&self, remote: &Arc<Subscription>, weight: u32) {
        if let Target::Peer { weight: known, .. } = &remote.target {
            known.store(weight, Ordering::Relaxed);
        }
    }

    /// Forgets another server's interest.
    pub fn remove_remote_interest(&self, remote: &Arc<Subscription>) {
        if !remote.closed.swap(true, Ordering::AcqRel) {
            self.interest.remove(remote);
            self.removes.fetch_add(1, Ordering::Relaxed);
            self.announce_change(&remote.subject);
        }
    }

    fn announce_change(&self, subject: &[u8]) {
        if self.changes.receiver_count() > 0 {
            self.changes.send_modify(|count| *count += 1);
        }
        if self.watcher_count.load(Ordering::Acquire) == 0 {
            return;
        }
        let watchers = self.watchers.lock();
        if weir_subject::has_wildcards(subject) {
            for (watched, all) in
                watchers.iter().filter(|(watched, _)| weir_subject::matches(subject, watched))
            {
                all.iter().for_each(|watcher| self.tell(watched, watcher));
            }
        } else if let Some(all) = watchers.get(subject) {
            all.iter().for_each(|watcher| self.tell(subject, watcher));
        }
    }
}
