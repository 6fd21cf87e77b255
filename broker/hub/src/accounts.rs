//! What the hub's accounts are configured to be, as a whole. Not what one account does with it.

use crate::account::Account;
use crate::account_settings::{AccountError, AccountSettings, ActivationCheck};
use crate::close_reason::CloseReason;
use crate::exchange::{self, Lookup};
use crate::hub::Hub;
use crate::outbox::Counted;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use tracing::error;
use weir_proto::{encode, err};

impl Hub {
    /// Checks a configuration of accounts as a whole, without taking it over: what nats-server would refuse,
    /// in its words.
    pub fn check_accounts(
        accounts: &BTreeMap<String, AccountSettings>,
        cluster: Option<&str>,
    ) -> Result<(), AccountError> {
        exchange::check(accounts, cluster).map_err(AccountError)
    }

    /// Creates the account or replaces what it is configured to be; accounts that import from it follow.
    /// Imports that are not possible (now) are left out and logged.
    pub fn configure_account(&self, name: &str, settings: AccountSettings) -> Arc<Account> {
        let account = self.ensure_account(name);
        if *account.settings() != settings {
            self.configure_accounts(BTreeMap::from([(name.to_owned(), settings)]));
        }
        account
    }

    /// Like `configure_account`, for many at once.
    pub fn configure_accounts(&self, accounts: BTreeMap<String, AccountSettings>) {
        let _one_at_a_time = self.configuring.lock();
        // The exports of all have to be there before the first import is resolved.
        let mut changed = Vec::new();
        for (name, settings) in accounts {
            let account = self.ensure_account(&name);
            if *account.settings() != settings {
                account.announce_settings(Arc::new(settings));
                changed.push(name);
            }
        }
        let depends = |account: &Arc<Account>| {
            changed.iter().any(|name| name == account.name())
                || account.settings().imports.iter().any(|import| changed.contains(&import.account))
        };
        let affected: Vec<_> = self.accounts().into_iter().filter(depends).collect();
        self.resolve(&affected);
        for name in &changed {
            self.enforce_limits(name);
        }
    }

    /// Makes an account's connections look at its limits again; those beyond them are closed, the
    /// oldest first.
    fn enforce_limits(&self, name: &str) {
        let Some(account) = self.account(name) else { return };
        let mut members = self.connections_of(&account);
        members.sort_by_key(|client| std::cmp::Reverse(client.started));
        let limits = account.settings().limits.clone();
        let max = limits.max_connections.unwrap_or(usize::MAX);
        let max_subscriptions = limits.max_subscriptions.unwrap_or(usize::MAX);
        for (at, client) in members.iter().enumerate() {
            client.permissions_changed.store(true, Ordering::Relaxed);
            let (text, reason) = if at >= max {
                (err::MAX_ACCOUNT_CONNECTIONS, CloseReason::MaxAccountConnectionsExceeded)
            } else if client.subscriptions.lock().len() >= max_subscriptions {
                // One that has as many as it may have is closed as well, as in nats-server.
                (err::MAX_SUBSCRIPTIONS, CloseReason::MaxSubscriptionsExceeded)
            } else {
                continue;
            };
            error!("{} - {text}", client.label());
            client.outbox.append(Counted::NOTHING, |out| encode::error(out, text));
            client.close(reason);
        }
    }

    /// Takes an account out of the books: nothing is exported or imported any more. Its connections stay.
    pub fn remove_account(&self, name: &str) -> Option<Arc<Account>> {
        self.configure_account(name, AccountSettings::default());
        self.take_account(name)
    }

    /// Sets who judges activation tokens; imports that need one are looked at again.
    pub fn set_activation_check(&self, check: Arc<dyn ActivationCheck>) {
        self.activation.store(Some(Arc::new(check)));
        let has_tokens = |account: &Arc<Account>| {
            account.settings().imports.iter().any(|import| import.activation.is_some())
        };
        let affected: Vec<_> = self.accounts().into_iter().filter(has_tokens).collect();
        self.resolve(&affected);
    }

    /// Looks again at what an account imports, after a token of it has expired or was revoked.
    pub fn recheck_imports(&self, name: &str) {
        if let Some(account) = self.account(name) {
            self.resolve(&[account]);
        }
    }

    /// Compiles mappings for single clusters anew, after the cluster's name has changed.
    pub(crate) fn refresh_mappings(&self) {
        let _one_at_a_time = self.configuring.lock();
        let names_clusters = |account: &Arc<Account>| {
            let settings = account.settings();
            let mut destinations = settings.mappings.iter().flat_map(|mapping| &mapping.destinations);
            destinations.any(|destination| destination.cluster.is_some())
        };
        let affected: Vec<_> = self.accounts().into_iter().filter(names_clusters).collect();
        self.resolve(&affected);
    }

    fn resolve(&self, accounts: &[Arc<Account>]) {
        let cluster = self.options().cluster_name();
        let activation = self.activation.load_full();
        let lookup = Lookup {
            exchange: &|name| self.account(name).map(|account| account.exchange().current()),
            account: &|name| self.account(name).map_or_else(Weak::new, |account| Arc::downgrade(&account)),
            activation: activation.as_deref().map(|check| &**check),
            cluster: cluster.as_deref(),
        };
        for account in accounts {
            let (resolved, errors) = exchange::resolve(account.name(), &account.settings(), &lookup);
            for error in errors {
                error!("Account {:?}: {error}", account.name());
            }
            account.install(resolved);
        }
    }
}
