//! The hub: accounts, interest, routing of core messages, outboxes and client sessions.
//!
//! It is not: the wire codec (weir-proto), subject algebra (weir-subject), routes between servers
//! (weir-topology registers itself here as `Peer`s and an `InterestListener`), or JetStream.

mod account;
mod message;
mod peer;

pub use account::{Account, InternalHandler, InternalSubscription};
pub use message::{Inbound, Origin, OutboundMessage};
pub use peer::{InterestListener, LocalInterest, Peer, PeerMessage};

use std::sync::Arc;

/// The name of the account that clients belong to when nothing else is configured.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// The name of the default system account.
pub const SYSTEM_ACCOUNT: &str = "$SYS";

/// One server's accounts and connections.
pub struct Hub {
    accounts: parking_lot::RwLock<rustc_hash::FxHashMap<String, Arc<Account>>>,
}

impl Hub {
    /// The account of that name, if it is configured (or, for routes, was learnt).
    pub fn account(&self, name: &str) -> Option<Arc<Account>> {
        self.accounts.read().get(name).cloned()
    }

    /// The account named `$G`.
    pub fn global_account(&self) -> Arc<Account> {
        self.ensure_account(GLOBAL_ACCOUNT)
    }

    /// The account named `$SYS`.
    pub fn system_account(&self) -> Arc<Account> {
        self.ensure_account(SYSTEM_ACCOUNT)
    }

    /// The account of that name, created when it is not there.
    pub fn ensure_account(&self, name: &str) -> Arc<Account> {
        if let Some(account) = self.account(name) {
            return account;
        }
        let mut accounts = self.accounts.write();
        Arc::clone(accounts.entry(name.to_owned()).or_insert_with(|| Account::new(name)))
    }
}
