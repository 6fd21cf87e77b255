//! Who becomes a route: another server's place in the table, and what is told of it. Not the bytes, and not
//! whether it is let in (`handshake`).

use crate::handshake::Refusal;
use crate::places::{Refused, Request};
use crate::remote::{Link, Remote};
use crate::topology::Topology;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::debug;
use weir_hub::CloseReason;
use weir_proto::Info;

/// A connection that has its place.
pub(crate) struct Registered {
    pub(crate) remote: Arc<Remote>,
    pub(crate) index: usize,
    /// Whether it is the first to that server.
    pub(crate) is_first: bool,
}

impl Topology {
    /// Gives a connection its place; `account` is the one it is for alone, or empty.
    pub(crate) fn register(
        &self,
        link: &Arc<Link>,
        info: &Info,
        account: &str,
    ) -> Result<Registered, Refusal> {
        let options = self.options();
        if !account.is_empty() && self.hub.account(account).is_none() {
            let text = format!("Unable to lookup account \"{account}\": account missing");
            return Err(Refusal::told(text, CloseReason::MissingAccount));
        }
        if !account.is_empty()
            && !self.is_pinned(account)
            && info.route_pool_size > 0
            && options.pool_size > 0
        {
            let text = format!("No route for account \"{account}\"");
            return Err(Refusal::told(text, CloseReason::ProtocolViolation));
        }
        if *self.stopping.borrow() || self.reload.rejects() {
            return Err(Refusal::silent(CloseReason::DuplicateRoute));
        }
        let remote_ip = link.address.ip().to_canonical();
        let mut remotes = self.remotes.write();
        let is_new = !remotes.contains_key(&info.server_id);
        let remote = remotes
            .entry(info.server_id.clone())
            .or_insert_with(|| Arc::new(Remote::new(&info.server_id, &info.server_name, remote_ip)));
        let remote = Arc::clone(remote);
        let request = Request {
            solicited: link.solicited,
            account,
            remote_pool_size: info.route_pool_size,
            remote_index: info.route_pool_idx,
            own_pool_size: options.pool_size,
            // A server dials because it has no such connection: either both dialled at once, or ours is dead and
            // we have not noticed. Both sides must keep the same one: among Weir's servers the one that the smaller
            // id dialled; nats-server always keeps its own.
            incoming_wins: info.weir.is_none() || info.server_id < self.hub.options().server_id,
        };
        let placed = remote.places.write().place(&request, link, |known| known.solicited);
        let placed = match placed {
            Ok(placed) => placed,
            Err(refused) => {
                if is_new {
                    remotes.remove(&info.server_id);
                }
                return Err(match refused {
                    Refused::Duplicate => Refusal::silent(CloseReason::DuplicateRoute),
                    Refused::Error(text, reason) => Refusal::told(text, reason),
                });
            }
        };
        drop(remotes);
        if let Some(replaced) = placed.replaced {
            if replaced.configured.load(Ordering::Relaxed) {
                link.configured.store(true, Ordering::Relaxed);
            }
            replaced.outbox.close(CloseReason::DuplicateRoute);
        }
        link.index.store(placed.index, Ordering::Relaxed);
        remote.note_ip(remote_ip);
        self.note_registered(link, &remote, info, account, placed.is_first || is_new);
        Ok(Registered { remote, index: placed.index, is_first: placed.is_first })
    }

    fn note_registered(
        &self,
        link: &Arc<Link>,
        remote: &Arc<Remote>,
        info: &Info,
        account: &str,
        is_new: bool,
    ) {
        if account.is_empty() {
            remote.learn(info.weir.as_ref(), &info.connect_urls, &info.ws_connect_urls);
            debug!("{} - Registering remote route {:?}", link.label(), info.server_id);
        } else {
            debug!(
                "{} - Registering remote route {:?} for account {account:?}",
                link.label(),
                info.server_id
            );
        }
        self.note_change();
        if is_new {
            self.update_connect_urls(link.local_ip);
        }
    }

    /// Takes a connection that ended out of the table.
    pub(crate) fn unregister(&self, remote: &Arc<Remote>, link: &Arc<Link>) {
        self.drop_interest(link);
        let mut remotes = self.remotes.write();
        let (has_pool, has_any) = {
            let mut places = remote.places.write();
            (places.remove(link), places.any().is_some())
        };
        let is_gone = !has_any && remotes.get(&remote.id).is_some_and(|known| Arc::ptr_eq(known, remote));
        if is_gone {
            remotes.remove(&remote.id);
        }
        drop(remotes);
        self.note_change();
        if !has_pool {
            remote.learn(None, &[], &[]);
            self.update_connect_urls(None);
        }
    }
}
