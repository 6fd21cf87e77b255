//! An account's side of the exchange: installing imports, shadows of subscriptions, outstanding responses.
//! Not the way of a message (see `routing`).

use super::latency::Outcome;
use super::remote_latency::Halves;
use super::responses::{self, Ended, Response, Responses};
use super::service::ServiceImport;
use super::stream::{Shadow, StreamImport};
use super::{Exchange, Mapped};
use crate::account::Account;
use crate::account_settings::AccountSettings;
use crate::options::HubOptions;
use crate::subscription::{Subscription, Target};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use weir_subject::{has_wildcards, matches};

/// One-time subjects by the reply subject they stand for.
type Waiting = FxHashMap<Box<[u8]>, Vec<(Weak<Account>, Box<[u8]>)>>;
/// The subscriptions in other accounts that stand for a local one, by its address.
type Shadows = FxHashMap<usize, Vec<(Arc<Account>, Arc<Subscription>)>>;

/// What an account keeps of the exchange.
pub(crate) struct AccountExchange {
    pub(crate) options: Arc<HubOptions>,
    current: ArcSwap<Exchange>,
    has_mappings: AtomicBool,
    has_trace: AtomicBool,
    pub(crate) responses: Responses,
    /// Of measurements with a responder on another server.
    pub(crate) halves: Halves,
    waiting: Mutex<Waiting>,
    waiting_count: AtomicUsize,
    shadows: Mutex<Shadows>,
    has_streams: AtomicBool,
}

impl AccountExchange {
    pub(crate) fn new(options: Arc<HubOptions>) -> Self {
        Self {
            options,
            current: ArcSwap::from_pointee(Exchange::default()),
            has_mappings: AtomicBool::new(false),
            has_trace: AtomicBool::new(false),
            responses: Responses::default(),
            halves: Halves::default(),
            waiting: Mutex::new(Waiting::default()),
            waiting_count: AtomicUsize::new(0),
            shadows: Mutex::new(Shadows::default()),
            has_streams: AtomicBool::new(false),
        }
    }

    pub(crate) fn current(&self) -> Arc<Exchange> {
        self.current.load_full()
    }

    /// Whether publishes may have to go elsewhere: one load for those of accounts without mappings.
    #[inline]
    pub(crate) fn has_mappings(&self) -> bool {
        self.has_mappings.load(Ordering::Relaxed)
    }

    /// Whether other tracing systems' headers start message traces.
    #[inline]
    pub(crate) fn has_trace(&self) -> bool {
        self.has_trace.load(Ordering::Relaxed)
    }

    pub(crate) fn map(&self, subject: &[u8], random: impl FnMut() -> u32) -> Mapped {
        self.current.load().mappings.map(subject, random)
    }
}

impl Account {
    /// Takes over a resolved exchange; what is imported changes at once.
    pub(crate) fn install(self: &Arc<Self>, mut exchange: Exchange) {
        exchange.subscriptions =
            exchange.services.iter().map(|import| Arc::new(service_subscription(import))).collect();
        let state = self.exchange();
        let mut shadows = state.shadows.lock();
        let new = Arc::new(exchange);
        let old = state.current.swap(Arc::clone(&new));
        for subscription in &old.subscriptions {
            subscription.closed.store(true, Ordering::Release);
            self.interest().remove(subscription);
        }
        for subscription in &new.subscriptions {
            self.interest().insert(Arc::clone(subscription));
        }
        state.has_mappings.store(!new.mappings.is_empty(), Ordering::Relaxed);
        state.has_trace.store(new.settings.message_trace.is_some(), Ordering::Relaxed);
        state.has_streams.store(!new.streams.is_empty(), Ordering::Relaxed);
        let mut local = Vec::new();
        if !new.streams.is_empty() {
            self.interest().for_each(|subscription| {
                if matches!(subscription.target, Target::Client(_) | Target::Internal(_)) {
                    local.push(Arc::clone(subscription));
                }
            });
        }
        let gone = std::mem::take(&mut *shadows);
        for subscription in local {
            self.add_shadows(&mut shadows, &new.streams, &subscription);
        }
        drop(shadows);
        for (account, shadow) in gone.into_values().flatten() {
            account.unsubscribe(&shadow);
        }
    }

    /// Shows others new exports; imports are resolved afterwards.
    pub(crate) fn announce_settings(self: &Arc<Self>, settings: Arc<AccountSettings>) {
        let state = self.exchange();
        let old = state.current();
        let shown = super::resolve::exports_of(&settings, state.options.cluster_name().as_deref());
        let shown = Exchange {
            settings,
            streams: old.streams.clone(),
            services: old.services.clone(),
            subscriptions: old.subscriptions.clone(),
            ..shown.unwrap_or_default()
        };
        state.current.store(Arc::new(shown));
    }

    /// Makes a new local subscription heard in the accounts it imports from.
    pub(crate) fn shadow(self: &Arc<Self>, subscription: &Arc<Subscription>) {
        let state = self.exchange();
        if !state.has_streams.load(Ordering::Acquire)
            || !matches!(subscription.target, Target::Client(_) | Target::Internal(_))
        {
            return;
        }
        let mut shadows = state.shadows.lock();
        let current = state.current();
        self.add_shadows(&mut shadows, &current.streams, subscription);
        // It may have ended before its shadows were there.
        if subscription.closed.load(Ordering::Acquire)
            && let Some(gone) = shadows.remove(&address(subscription))
        {
            drop(shadows);
            for (account, shadow) in gone {
                account.unsubscribe(&shadow);
            }
        }
    }

    fn add_shadows(
        self: &Arc<Self>,
        shadows: &mut Shadows,
        streams: &[Arc<StreamImport>],
        subscription: &Arc<Subscription>,
    ) {
        let key = address(subscription);
        if shadows.contains_key(&key) {
            return;
        }
        let mut made = Vec::new();
        for import in streams {
            let Some(subject) = import.shadow_subject(subscription.subject()) else { continue };
            let Some(exporter) = import.exporter.upgrade() else { continue };
            let shadow = Shadow {
                import: Arc::clone(import),
                importer: Arc::downgrade(self),
                subscription: Arc::clone(subscription),
            };
            let target = Target::Shadow(Box::new(shadow));
            let shadow = Arc::new(Subscription::new(&subject, subscription.queue(), b"", target));
            exporter.subscribe(Arc::clone(&shadow));
            made.push((exporter, shadow));
        }
        if !made.is_empty() {
            shadows.insert(key, made);
        }
    }

    /// Forgets what a subscription that ended was for: its shadows, and responses that nobody waits for any more.
    pub(crate) fn subscription_ended(&self, subscription: &Arc<Subscription>) {
        let state = self.exchange();
        if state.has_streams.load(Ordering::Acquire) {
            let gone = state.shadows.lock().remove(&address(subscription));
            for (account, shadow) in gone.into_iter().flatten() {
                account.unsubscribe(&shadow);
            }
        }
        if state.waiting_count.load(Ordering::Acquire) > 0
            && !subscription.subject.starts_with(responses::PREFIX)
        {
            self.stop_waiting(&subscription.subject);
        }
    }

    fn stop_waiting(&self, subject: &[u8]) {
        let state = self.exchange();
        let mut waiting = state.waiting.lock();
        let lost: Vec<Box<[u8]>> = if has_wildcards(subject) {
            waiting.keys().filter(|reply| matches(subject, reply)).cloned().collect()
        } else {
            waiting.get_key_value(subject).map(|(reply, _)| reply.clone()).into_iter().collect()
        };
        let mut ended = Vec::new();
        for reply in lost {
            if !self.interest().has_any(&reply) {
                ended.extend(waiting.remove(&reply).into_iter().flatten());
            }
        }
        state.waiting_count.store(waiting.len(), Ordering::Release);
        drop(waiting);
        for (exporter, name) in ended {
            let Some(exporter) = exporter.upgrade() else { continue };
            let responses = &exporter.exchange().responses;
            if responses.get(&name).is_some_and(|response| !response.answered.load(Ordering::Relaxed))
                && let Some(response) = responses.remove(&name)
            {
                response.tell_failure(&exporter, &Outcome::InterestLost);
            }
        }
    }

    /// Notes that `name` of `exporter` stands for `reply` of this account.
    pub(super) fn wait_for(&self, exporter: &Arc<Self>, reply: &[u8], name: &[u8]) {
        let state = self.exchange();
        let mut waiting = state.waiting.lock();
        waiting.entry(reply.into()).or_default().push((Arc::downgrade(exporter), name.into()));
        state.waiting_count.store(waiting.len(), Ordering::Release);
    }

    /// Forgets a response of this, the exporting, account.
    pub(super) fn end_response(self: &Arc<Self>, response: &Arc<Response>, why: Ended) {
        self.exchange().responses.remove(&response.name);
        self.response_ended(response, why);
    }

    /// What follows when a response is not expected any more.
    pub(super) fn response_ended(self: &Arc<Self>, response: &Arc<Response>, why: Ended) {
        match why {
            Ended::Answered => {}
            Ended::NotDelivered => response.tell_failure(self, &Outcome::NotDelivered),
            Ended::TimedOut => response.tell_failure(self, &Outcome::TimedOut),
        }
        let Some(importer) = response.importer.upgrade() else { return };
        let state = importer.exchange();
        let mut waiting = state.waiting.lock();
        if let Some(names) = waiting.get_mut(&response.to) {
            names.retain(|(_, name)| *name != response.name);
            if names.is_empty() {
                waiting.remove(&response.to);
            }
        }
        state.waiting_count.store(waiting.len(), Ordering::Release);
    }
}

fn address(subscription: &Arc<Subscription>) -> usize {
    Arc::as_ptr(subscription) as usize
}

fn service_subscription(import: &Arc<ServiceImport>) -> Subscription {
    Subscription::new(import.from.as_bytes(), None, b"", Target::Service(Arc::clone(import)))
}
