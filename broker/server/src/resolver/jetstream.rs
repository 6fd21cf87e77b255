//! JetStream of accounts that are known by claims: what each may use is told when its claims come, change or go, and
//! accounts are looked up that other servers or stored streams name. What shares mean is not decided here.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;
use tracing::debug;
use weir_auth::{
    jwt::{Account, Claims},
    operator::is_account_key,
};
use weir_hub::Hub;

use super::Accounts;
use crate::jetstream::{RunningJetStream, shares};

/// An account that could not be fetched is asked for again after this.
const RETRY: Duration = Duration::from_secs(30);
/// Accounts that could not be fetched and are remembered; what is beyond is asked for again at once.
const FAILED_MAX: usize = 10_000;
/// How long the first client of an account waits until its JetStream is served.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(1);
const SERVICE_POLL: Duration = Duration::from_millis(5);

impl Accounts {
    /// Tells this JetStream of all accounts from now on.
    pub(crate) fn serve_jetstream(self: &Arc<Self>, jetstream: &Arc<RunningJetStream>) {
        if self.jetstream.set(Arc::clone(jetstream)).is_err() {
            return;
        }
        let known: Vec<_> = self.known.read().values().map(|known| Arc::clone(&known.claims)).collect();
        for claims in known {
            self.tell_jetstream(&claims);
        }
        if let Some(hub) = self.hub.upgrade() {
            tokio::spawn(discover(Arc::downgrade(self), Arc::downgrade(&hub), hub.account_changes()));
        }
    }

    /// An account's claims are new or have changed.
    pub(super) fn tell_jetstream(&self, claims: &Claims<Account>) {
        if let Some(jetstream) = self.jetstream.get() {
            jetstream.node.set_account(&claims.subject, shares::of_claims(&claims.nats.limits));
        }
    }

    /// An account is gone.
    pub(super) fn end_jetstream(&self, key: &str) {
        if let Some(jetstream) = self.jetstream.get() {
            jetstream.node.remove_account(key);
        }
    }

    /// Waits a little until the meta leader has heard of an account that is new here.
    pub(super) async fn await_jetstream(&self, key: &str) {
        let Some(jetstream) = self.jetstream.get() else { return };
        let deadline = Instant::now() + SERVICE_TIMEOUT;
        while jetstream.node.serves(key) && !jetstream.node.is_answered(key) && Instant::now() < deadline {
            tokio::time::sleep(SERVICE_POLL).await;
        }
    }
}

/// Looks up accounts that came up in the hub by a route or by a stored stream.
async fn discover(accounts: Weak<Accounts>, hub: Weak<Hub>, mut changes: tokio::sync::watch::Receiver<u64>) {
    let mut failed: HashMap<String, Instant> = HashMap::new();
    loop {
        changes.mark_unchanged();
        let names: Vec<String> = {
            let (Some(accounts), Some(hub)) = (accounts.upgrade(), hub.upgrade()) else { return };
            let all = hub.accounts();
            all.iter()
                .map(|account| account.name())
                .filter(|name| is_account_key(name) && !accounts.is_known(name))
                .map(str::to_owned)
                .collect()
        };
        failed.retain(|name, since| since.elapsed() < RETRY && names.contains(name));
        for name in names.iter().filter(|name| !failed.contains_key(*name)) {
            let Some(accounts) = accounts.upgrade() else { return };
            if let Err(reason) = accounts.lookup(name).await {
                debug!("Account [{name}] is not known here: {reason}");
            }
        }
        for name in names {
            let is_known = accounts.upgrade().is_none_or(|accounts| accounts.is_known(&name));
            if !is_known && failed.len() < FAILED_MAX {
                failed.entry(name).or_insert_with(Instant::now);
            }
        }
        let wait = if failed.is_empty() { Duration::MAX } else { RETRY };
        if let Ok(Err(_)) = tokio::time::timeout(wait, changes.changed()).await {
            return;
        }
    }
}
