//! Interest on its way between servers: ours to them as it changes and when they connect, theirs to the hub.
//! Not the messages.

use crate::remote::{InterestKey, Link, LinkPeer, Remote};
use crate::topology::Topology;
use std::sync::Arc;
use weir_hub::{Account, Appended, Counted, InterestListener, Peer};
use weir_proto::encode;

/// Interest is written in pieces of about this size.
const PIECE_BYTES: usize = 32 * 1024;

/// One entry of another server's interest.
pub(crate) struct Entry<'a> {
    pub(crate) leaf: Option<&'a [u8]>,
    pub(crate) subject: &'a [u8],
    pub(crate) queue: Option<&'a [u8]>,
    /// 0 takes it back.
    pub(crate) weight: u32,
}

impl InterestListener for Topology {
    fn interest_changed(&self, account: &Arc<Account>, subject: &[u8], queue: Option<&[u8]>, weight: u32) {
        let is_let_in = self.rules.may_import(subject);
        if !is_let_in && weight > 0 {
            return;
        }
        let (is_pinned, pool_size) = (self.is_pinned(account.name()), self.options().pool_size);
        for remote in self.remotes.read().values() {
            let places = remote.places.read();
            let Some((link, is_own)) = places.for_interest(account.name(), is_pinned, pool_size) else {
                continue;
            };
            let name = (!is_own).then_some(account.name().as_bytes());
            if weir_hub::trace::is_on() {
                trace_interest(link, |out| encode::route_interest(out, name, subject, queue, weight));
            }
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

/// Shows a line about interest in the log.
fn trace_interest(link: &Link, write: impl FnOnce(&mut Vec<u8>)) {
    let mut line = Vec::new();
    write(&mut line);
    weir_hub::trace::out(&link.label(), String::from_utf8_lossy(&line).trim_end());
}

impl Topology {
    /// Whether the account has a connection of its own to every server that knows pools.
    pub(crate) fn is_pinned(&self, account: &str) -> bool {
        self.pinned.load().contains(account)
    }

    /// Tells a connection the interest of the accounts it carries. It must be in the table already, so that
    /// what changes meanwhile is told as well; telling twice does no harm.
    pub(crate) fn send_interest(&self, remote: &Remote, link: &Arc<Link>) {
        for account in self.hub.accounts() {
            self.send_interest_of(remote, link, &account);
        }
        link.outbox.flush();
    }

    /// The same for one account.
    pub(crate) fn send_interest_of(&self, remote: &Remote, link: &Arc<Link>, account: &Account) {
        let is_pinned = self.is_pinned(account.name());
        let places = remote.places.read();
        let carries = places.for_interest(account.name(), is_pinned, self.options().pool_size);
        let Some((_, is_own)) = carries.filter(|(chosen, _)| *chosen == link) else { return };
        drop(places);
        let name = (!is_own).then_some(account.name().as_bytes());
        account.with_local_interest(|entries| {
            let mut piece = Vec::new();
            for entry in entries.filter(|entry| self.rules.may_import(&entry.subject)) {
                let from = piece.len();
                encode::route_interest(
                    &mut piece,
                    name,
                    &entry.subject,
                    entry.queue.as_deref(),
                    entry.weight,
                );
                if weir_hub::trace::is_on() {
                    trace_interest(link, |out| out.extend_from_slice(&piece[from..]));
                }
                if piece.len() > PIECE_BYTES {
                    link.outbox.append_buffer(Counted::NOTHING, &mut piece);
                }
            }
            link.outbox.append_buffer(Counted::NOTHING, &mut piece);
        });
    }

    /// Notes or forgets interest of another server.
    pub(crate) fn apply_interest(
        &self,
        link: &Arc<Link>,
        account: &Arc<Account>,
        is_own: bool,
        entry: &Entry<'_>,
    ) {
        let key = InterestKey {
            account: account.name().as_bytes().into(),
            subject: entry.subject.into(),
            queue: entry.queue.map(Into::into),
            leaf: entry.leaf.map(Into::into),
        };
        let mut interest = link.interest.lock();
        if entry.weight == 0 {
            if let Some(subscription) = interest.remove(&key) {
                account.remove_remote_interest(&subscription);
            }
        } else if let Some(subscription) = interest.get(&key) {
            account.set_remote_weight(subscription, entry.weight);
        } else if link.outbox.closed().is_none() {
            let mut peers = link.peers.lock();
            let peer = peers.entry(account.name().to_owned()).or_insert_with(|| {
                let account = (!is_own).then(|| account.name().as_bytes().into());
                Arc::new(LinkPeer { link: Arc::clone(link), account }) as Arc<dyn Peer>
            });
            let is_leaf = entry.leaf.is_some();
            let noted = account.add_remote_interest(peer, entry.subject, entry.queue, entry.weight, is_leaf);
            interest.insert(key, noted);
        }
    }

    /// Forgets all interest that came over a connection.
    pub(crate) fn drop_interest(&self, link: &Link) {
        self.drop_interest_if(link, |_| true);
        // They hold the link in turn.
        link.peers.lock().clear();
    }

    /// Forgets interest that came over a connection.
    pub(crate) fn drop_interest_if(&self, link: &Link, goes: impl Fn(&InterestKey) -> bool) {
        let mut gone = Vec::new();
        link.interest.lock().retain(|key, subscription| {
            let stays = !goes(key);
            if !stays {
                gone.push((key.account.clone(), Arc::clone(subscription)));
            }
            stays
        });
        for (account, subscription) in gone {
            if let Some(account) = std::str::from_utf8(&account).ok().and_then(|name| self.hub.account(name))
            {
                account.remove_remote_interest(&subscription);
            }
        }
    }
}
