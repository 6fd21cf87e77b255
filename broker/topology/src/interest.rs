//! Interest on its way between servers: ours to them as it changes and when they connect, theirs to the hub.
//! Not the messages.

use crate::remote::{InterestKey, Link, LinkPeer, Remote, pool_index};
use crate::topology::Topology;
use std::sync::Arc;
use weir_hub::{Account, Appended, Counted, InterestListener, Peer};
use weir_proto::encode;

/// Interest is written in pieces of about this size.
const PIECE_BYTES: usize = 32 * 1024;

impl Remote {
    /// The connection on which an account's interest is told; only that one, so that it can be taken back there.
    fn interest_link(&self, account: &str, pool_size: usize) -> Option<(Arc<Link>, bool)> {
        match self.dedicated_link(account) {
            Some(link) => Some((link, true)),
            None => self.link_at(pool_index(account, pool_size)).map(|link| (link, false)),
        }
    }
}

impl InterestListener for Topology {
    fn interest_changed(&self, account: &Arc<Account>, subject: &[u8], queue: Option<&[u8]>, weight: u32) {
        for remote in self.remotes.read().values() {
            let Some((link, dedicated)) = remote.interest_link(account.name(), self.options.pool_size) else {
                continue;
            };
            let name = (!dedicated).then_some(account.name().as_bytes());
            let appended = link
                .outbox
                .append(Counted::NOTHING, |out| encode::route_interest(out, name, subject, queue, weight));
            if matches!(appended, Appended::MustFlush { .. }) {
                // The connection's own task writes: many changes in a row become one write.
                link.outbox.wake();
            }
        }
    }
}

impl Topology {
    /// Tells a new connection the interest of the accounts it carries. It must be in the table already, so that
    /// what changes meanwhile is told as well; telling twice does no harm.
    pub(crate) fn send_interest(&self, link: &Link, index: usize, dedicated: &str, remote: &Remote) {
        for account in self.hub.accounts() {
            let is_dedicated = account.name() == dedicated;
            let is_ours = if dedicated.is_empty() {
                pool_index(account.name(), self.options.pool_size) == index
                    && remote.dedicated_link(account.name()).is_none()
            } else {
                is_dedicated
            };
            if is_ours {
                send_account(&account, link, !is_dedicated, true);
            }
            if is_dedicated
                && let Some(pooled) = remote.link_at(pool_index(account.name(), self.options.pool_size))
            {
                send_account(&account, &pooled, true, false);
            }
        }
        link.outbox.flush();
    }

    /// Notes or forgets interest of another server.
    pub(crate) fn apply_interest(
        link: &Arc<Link>,
        account: &Arc<Account>,
        is_dedicated: bool,
        subject: &[u8],
        queue: Option<&[u8]>,
        weight: u32,
    ) {
        let key: InterestKey = (account.name().as_bytes().into(), subject.into(), queue.map(Into::into));
        let mut interest = link.interest.lock();
        if weight == 0 {
            if let Some(subscription) = interest.remove(&key) {
                account.remove_remote_interest(&subscription);
            }
        } else if let Some(subscription) = interest.get(&key) {
            account.set_remote_weight(subscription, weight);
        } else {
            let mut peers = link.peers.lock();
            let peer = peers.entry(account.name().to_owned()).or_insert_with(|| {
                let account = (!is_dedicated).then(|| account.name().as_bytes().into());
                Arc::new(LinkPeer { link: Arc::clone(link), account }) as Arc<dyn Peer>
            });
            interest.insert(key, account.add_remote_interest(peer, subject, queue, weight, false));
        }
    }

    /// Forgets all interest that came over a connection.
    pub(crate) fn drop_interest(&self, link: &Link) {
        let interest = std::mem::take(&mut *link.interest.lock());
        // They hold the link in turn.
        link.peers.lock().clear();
        for ((account, _, _), subscription) in interest {
            if let Some(account) = std::str::from_utf8(&account).ok().and_then(|name| self.hub.account(name))
            {
                account.remove_remote_interest(&subscription);
            }
        }
    }
}

fn send_account(account: &Account, link: &Link, named: bool, present: bool) {
    let name = named.then_some(account.name().as_bytes());
    account.with_local_interest(|entries| {
        let mut piece = Vec::new();
        for entry in entries {
            let weight = if present { entry.weight } else { 0 };
            encode::route_interest(&mut piece, name, &entry.subject, entry.queue.as_deref(), weight);
            if piece.len() > PIECE_BYTES {
                link.outbox.append_buffer(Counted::NOTHING, &mut piece);
            }
        }
        link.outbox.append_buffer(Counted::NOTHING, &mut piece);
    });
}
