//! The accounts as JetStream sees them: which of them it serves, what each may use, what each has asked. It judges no
//! request, and where an account's share comes from (configuration, claims) is the server room's business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use weir_hub::{Account, ExchangeKind, InternalSubscription};
use weir_jsapi::AccountLimits;

use crate::api::{self, Role};
use crate::context::Context;
use crate::requester::Requester;
use crate::snapshot::AccountSnapshot;

/// What an account may use, by tier (`R1`, `R3`); the tier `""` is for every number of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountShare(pub BTreeMap<String, AccountLimits>);

impl Default for AccountShare {
    /// No limits.
    fn default() -> Self {
        Self(BTreeMap::from([(String::new(), AccountLimits::default())]))
    }
}

/// The tier of a number of replicas.
pub(crate) fn tier_name(replicas: i64) -> String {
    format!("R{}", replicas.max(1))
}

impl AccountShare {
    /// The limits for streams with so many replicas, and their tier; `None`: the account may have none of those.
    pub(crate) fn select(&self, replicas: i64) -> Option<(&str, &AccountLimits)> {
        let find = |tier: &str| self.0.get_key_value(tier).map(|(name, limits)| (name.as_str(), limits));
        find("").or_else(|| find(&tier_name(replicas)))
    }

    /// Whether limits are by tier.
    pub(crate) fn is_tiered(&self) -> bool {
        !self.0.contains_key("")
    }
}

/// Requests of an account, or of all, since the start.
#[derive(Debug, Default)]
pub(crate) struct ApiCounters {
    pub(crate) total: AtomicU64,
    pub(crate) errors: AtomicU64,
}

/// An account that JetStream serves.
pub(crate) struct JetStreamAccount {
    pub(crate) account: Arc<Account>,
    share: RwLock<Arc<AccountShare>>,
    pub(crate) requester: Arc<Requester>,
    pub(crate) api: ApiCounters,
}

impl JetStreamAccount {
    pub(crate) fn share(&self) -> Arc<AccountShare> {
        Arc::clone(&self.share.read())
    }

    pub(crate) fn snapshot(&self) -> AccountSnapshot {
        let share = self.share();
        AccountSnapshot {
            name: self.account.name().to_owned(),
            limits: share.0.get("").map(|limits| (limits.max_memory, limits.max_storage)),
            api_total: self.api.total.load(Ordering::Relaxed),
            api_errors: self.api.errors.load(Ordering::Relaxed),
        }
    }
}

enum Entry {
    Served(Arc<JetStreamAccount>),
    /// Known and without JetStream: what its clients ask is refused by the server they are connected to.
    Refused {
        _answers: Vec<InternalSubscription>,
    },
}

type Services = BTreeMap<String, Vec<InternalSubscription>>;

/// See the module.
#[derive(Default)]
pub(crate) struct Accounts {
    entries: RwLock<BTreeMap<String, Entry>>,
    /// The meta leader's part of the API, by account; none while another server leads.
    services: Mutex<Option<Services>>,
}

impl Accounts {
    /// The account, if JetStream serves it.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<JetStreamAccount>> {
        match self.entries.read().get(name)? {
            Entry::Served(account) => Some(Arc::clone(account)),
            Entry::Refused { .. } => None,
        }
    }

    pub(crate) fn is_served(&self, name: &str) -> bool {
        matches!(self.entries.read().get(name), Some(Entry::Served(_)))
    }

    /// All that are served, by name.
    pub(crate) fn served(&self) -> Vec<Arc<JetStreamAccount>> {
        let entries = self.entries.read();
        let served = entries.values().filter_map(|entry| match entry {
            Entry::Served(account) => Some(Arc::clone(account)),
            Entry::Refused { .. } => None,
        });
        served.collect()
    }

    /// What the account may use for streams with so many replicas.
    pub(crate) fn limits(&self, name: &str, replicas: i64) -> Option<AccountLimits> {
        let share = self.get(name)?.share();
        share.select(replicas).map(|(_, limits)| limits.clone())
    }
}

impl Context {
    /// Serves the account within this share from now on; `None`: refuses its requests. Its streams stay what they are.
    pub(crate) fn set_account(self: &Arc<Self>, name: &str, share: Option<AccountShare>) {
        if name == self.hub.options().system_account {
            return;
        }
        match share {
            Some(share) => self.serve(name, share),
            None => self.refuse(name),
        }
        self.space.change();
        for replica in self.all_replicas() {
            if replica.assignment().account == name {
                replica.sync_leadership();
            }
        }
    }

    /// Forgets an account that is gone. Its streams stay, and are served again when it is back.
    pub(crate) fn remove_account(self: &Arc<Self>, name: &str) {
        self.set_account(name, None);
        self.accounts.entries.write().remove(name);
    }

    fn serve(self: &Arc<Self>, name: &str, share: AccountShare) {
        let account = self.account(name);
        if let Some(known) = self.accounts.get(name) {
            if Arc::ptr_eq(&known.account, &account) {
                *known.share.write() = Arc::new(share);
                return;
            }
            // The hub's account was made anew.
            self.remove_account(name);
        }
        let served = Arc::new(JetStreamAccount {
            account: Arc::clone(&account),
            share: RwLock::new(Arc::new(share)),
            requester: Requester::new(Arc::clone(&account), &self.random_id()),
            api: ApiCounters::default(),
        });
        self.accounts.entries.write().insert(name.to_owned(), Entry::Served(served));
        if let Some(services) = &mut *self.accounts.services.lock() {
            services.insert(name.to_owned(), self.subscribe_services(&account));
        }
    }

    fn refuse(self: &Arc<Self>, name: &str) {
        let account = self.account(name);
        let answers = if imports_api(&account) {
            Vec::new()
        } else {
            let refuse = || api::handler(self, Role::Refusal);
            api::SUBJECTS.iter().map(|subject| account.subscribe_local(subject, refuse())).collect()
        };
        self.accounts.entries.write().insert(name.to_owned(), Entry::Refused { _answers: answers });
        if let Some(services) = &mut *self.accounts.services.lock() {
            services.remove(name);
        }
    }

    /// Refuses what the system account's clients ask of this server, and answers what they ask of every server.
    pub(crate) fn serve_system_account(self: &Arc<Self>) -> [InternalSubscription; 2] {
        let system = self.hub.system_account();
        let refusal = api::handler(self, Role::SystemRefusal);
        let rescue = api::handler(self, Role::Rescue);
        [
            system.subscribe_local("$JS.API.>", refusal),
            system.subscribe_internal(api::RESCUE_SUBJECT, None, rescue),
        ]
    }

    fn subscribe_services(self: &Arc<Self>, account: &Arc<Account>) -> Vec<InternalSubscription> {
        let subscribe =
            |subject: &&str| account.subscribe_internal(subject, None, api::handler(self, Role::Meta));
        api::SUBJECTS.iter().map(subscribe).collect()
    }

    /// Answers for all accounts what the meta leader answers, or stops doing so. Tells whether that is a change.
    pub(crate) fn lead_api(self: &Arc<Self>, leads: bool) -> bool {
        let mut services = self.accounts.services.lock();
        if leads == services.is_some() {
            return false;
        }
        *services = leads.then(|| {
            let system = self.hub.system_account();
            let subjects = api::SYSTEM_SUBJECTS.iter();
            let own = subjects
                .map(|subject| system.subscribe_internal(subject, None, api::handler(self, Role::System)))
                .collect();
            let served = self.accounts.served().into_iter();
            let served = served
                .map(|served| (served.account.name().to_owned(), self.subscribe_services(&served.account)));
            served.chain([(system.name().to_owned(), own)]).collect()
        });
        true
    }
}

/// Whether the account takes the API from another account, where its requests go then.
fn imports_api(account: &Account) -> bool {
    account.settings().imports.iter().any(|import| {
        let local = import.to.as_deref().unwrap_or(&import.subject);
        import.kind == ExchangeKind::Service
            && weir_subject::matches(local.as_bytes(), api::INFO_SUBJECT.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_limit_goes_before_tiers_and_an_unknown_tier_is_none() {
        let limits = |max_streams| AccountLimits { max_streams, ..AccountLimits::default() };
        let tiered =
            AccountShare(BTreeMap::from([("R1".to_owned(), limits(1)), ("R3".to_owned(), limits(3))]));
        assert_eq!(tiered.select(0).map(|(tier, limits)| (tier, limits.max_streams)), Some(("R1", 1)));
        assert_eq!(tiered.select(3).map(|(tier, limits)| (tier, limits.max_streams)), Some(("R3", 3)));
        assert_eq!(tiered.select(2), None);
        assert!(tiered.is_tiered());
        let flat = AccountShare::default();
        assert_eq!(flat.select(5).map(|(tier, _)| tier), Some(""));
        assert!(!flat.is_tiered());
    }
}
