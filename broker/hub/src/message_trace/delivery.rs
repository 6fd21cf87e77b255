//! Deliveries of a traced message: each is noted, and made only if the sender wants that. Not those of others.

use super::{Egress, HOP, MessageTrace, NO_ECHO, NO_STALL, SUB_CLOSED, SUB_DENIED, SUB_EXCEEDED};
use crate::account::Account;
use crate::client::ClientHandle;
use crate::exchange::set_header;
use crate::ingress::{Delivery, Message};
use crate::message::Origin;
use crate::peer::Peer;
use crate::permissions::is_denied;
use crate::subscription::{Subscription, Target};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Delivery {
    /// Like `deliver`, for a traced message; `subject` is what the subscription listens on where it was found.
    pub(crate) fn deliver_traced(
        &mut self,
        subscription: &Arc<Subscription>,
        subject: &[u8],
        account: &Arc<Account>,
        message: &Message<'_>,
        origin: Origin,
    ) -> bool {
        let Target::Client(client) = &subscription.target else {
            return self.deliver_plain(subscription, account, message, origin);
        };
        let shown = message.shown.unwrap_or(message.subject);
        let only = self.trace.as_ref().is_some_and(|trace| trace.only);
        let error = if subscription.closed.load(Ordering::Acquire) {
            SUB_CLOSED
        } else if subscription.denied.as_ref().is_some_and(|rules| is_denied(rules, shown)) {
            SUB_DENIED
        } else if !only && self.passes_over(client) {
            NO_STALL
        } else if only || self.deliver_plain(subscription, account, message, origin) {
            ""
        } else {
            SUB_EXCEEDED
        };
        self.note_client(client, subscription, subject, account, error);
        error.is_empty()
    }

    /// Notes that a sender is not told its own message.
    pub(crate) fn note_own_echo(&self, subscription: &Subscription, account: &Account) {
        if let Target::Client(client) = &subscription.target {
            self.note_client(client, subscription, subscription.subject(), account, NO_ECHO);
        }
    }

    fn note_client(
        &self,
        client: &ClientHandle,
        subscription: &Subscription,
        subject: &[u8],
        account: &Account,
        error: &str,
    ) {
        if let Some(trace) = &self.trace {
            let name = client.state.read().options.name.clone();
            trace.sent(Egress::Client {
                cid: client.id,
                name: &name,
                account: account.name(),
                subject,
                queue: subscription.queue(),
                error,
            });
        }
    }

    /// Notes that the message goes to another server; returns the headers that it goes with.
    pub(crate) fn note_server(&mut self, peer: &dyn Peer, headers: &[u8]) -> Option<Vec<u8>> {
        let trace: &mut MessageTrace = self.trace.as_mut()?;
        let hop = trace.next_hop();
        trace.sent(Egress::Server { cid: peer.connection(), name: &peer.name(), hop: &hop });
        Some(set_header(headers, HOP, hop.as_bytes()))
    }
}
