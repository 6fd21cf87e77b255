//! What a client may do and how much of it, as permissions and limits change. Not who it is.

use super::session::Session;
use crate::account::Account;
use crate::close_reason::CloseReason;
use crate::permissions::{Permissions, SubscribeVerdict};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::{error, info};
use weir_proto::err;

/// So many verdicts on subjects are remembered, as in nats-server.
const MAX_VERDICTS: usize = 128;

impl Session {
    /// Whether permissions let a message go to `subject`. One look-up when that was asked before.
    pub(super) fn may_publish(&mut self, subject: &[u8]) -> bool {
        if let Some(verdict) = self.verdicts.get(subject) {
            return *verdict;
        }
        let Some(permissions) = &self.permissions else { return true };
        let verdict = permissions.may_publish(subject);
        if !verdict && permissions.allow_responses.is_some() {
            // Depends on what was asked and when: not to be remembered.
            let replies = self.handle.replies.load();
            return replies.as_ref().is_some_and(|replies| replies.allows(subject, crate::hub::now()));
        }
        if self.verdicts.len() >= MAX_VERDICTS {
            self.verdicts.clear();
        }
        self.verdicts.insert(subject.into(), verdict);
        verdict
    }

    pub(super) fn take_permissions(&mut self, permissions: Option<Arc<Permissions>>) {
        self.verdicts.clear();
        self.handle.set_replies(permissions.as_ref());
        self.permissions = permissions;
    }

    /// Takes over permissions and limits that were changed; subscriptions that are not allowed any more end.
    pub(super) fn apply_permissions(&mut self) {
        let state = self.handle.state.read();
        let permissions = state.permissions.clone();
        self.expires = state.expires;
        drop(state);
        self.take_permissions(permissions.clone());
        if let Some(account) = self.account.clone() {
            self.apply_limits(&account);
        }
        let Some(permissions) = permissions else { return };
        let held: Vec<_> = self.handle.subscriptions.lock().values().cloned().collect();
        for subscription in held {
            let verdict = permissions.judge_subscription(subscription.subject(), subscription.queue());
            if verdict == SubscribeVerdict::Refused {
                self.handle.drop_subscription(&subscription);
                let text = String::from_utf8_lossy;
                let queue = subscription.queue().map(text);
                let queue = queue.map(|queue| format!(" using queue {queue:?}")).unwrap_or_default();
                let what =
                    format!("{:?}{queue} (sid {:?})", text(subscription.subject()), text(&subscription.sid));
                self.error(&format!("Permissions Violation for Subscription to {what}"));
                info!("Removed sub {what} for {} - not authorized", self.handle.label());
            }
        }
    }

    /// Takes the lowest of the limits of user, account and server.
    pub(super) fn apply_limits(&mut self, account: &Account) {
        let server = self.hub.limits();
        let settings = account.settings();
        let of_account = &settings.limits;
        let of_user = &self.user_limits;
        let lowest = |limits: [Option<usize>; 3]| limits.into_iter().flatten().min();
        let of_server = (server.max_subscriptions > 0).then_some(server.max_subscriptions);
        self.max_subscriptions = lowest([of_user.max_subscriptions, of_account.max_subscriptions, of_server]);
        let max_payload = lowest([of_user.max_payload, of_account.max_payload, Some(server.max_payload)])
            .unwrap_or(usize::MAX);
        self.parser.max_payload = max_payload;
        self.handle.max_payload.store(max_payload, Ordering::Relaxed);
    }

    pub(super) fn refuse_more_subscriptions(&mut self) {
        error!("{} - {}", self.handle.label(), err::MAX_SUBSCRIPTIONS);
        self.error(err::MAX_SUBSCRIPTIONS);
    }

    pub(super) fn refuse_in_full_account(&mut self) -> CloseReason {
        error!("{} - {}", self.handle.label(), err::MAX_ACCOUNT_CONNECTIONS);
        self.error(err::MAX_ACCOUNT_CONNECTIONS);
        CloseReason::MaxAccountConnectionsExceeded
    }
}
