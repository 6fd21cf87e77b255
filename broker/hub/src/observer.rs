//! The seam for events about connections: somebody outside the hub is told who came and went. Not the events' JSON.

use crate::account::Account;
use crate::close_reason::CloseReason;
use crate::snapshot::ConnectionSnapshot;
use std::sync::Arc;

/// Told about connections. Never called on the message path; must not block.
pub trait Observer: Send + Sync {
    /// A client's CONNECT was accepted; a client that sends a second CONNECT is announced again.
    fn connected(&self, connection: &ConnectionSnapshot);
    /// A client is gone; `stop` and `reason` are set, and the account unless it never got into one.
    fn disconnected(&self, connection: &ConnectionSnapshot);
    /// A client was refused, with the reason that its connection is closed with. `account` is the one whose
    /// credentials were refused, when they belong to one.
    fn authentication_failed(
        &self,
        connection: &ConnectionSnapshot,
        reason: CloseReason,
        account: Option<&Arc<Account>>,
    );
    /// An account is there from now on.
    fn account_added(&self, account: &Arc<Account>);
    /// The number of an account's connections here has changed.
    fn account_changed(&self, account: &Arc<Account>);
}
