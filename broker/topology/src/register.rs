//! Who becomes a route: the checks on another server's INFO, its place in the table, and gossip about it.
//! Not the bytes.

use crate::address::RouteUrl;
use crate::remote::{Link, Remote};
use crate::topology::Topology;
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::debug;
use weir_hub::{CloseReason, Counted};
use weir_proto::Info;

/// A server that became, or stays, a route.
pub(crate) struct Registered {
    pub(crate) remote: Arc<Remote>,
    pub(crate) index: usize,
}

/// Why a server does not become a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is this server.
    Itself,
    /// It is connected already.
    Duplicate,
    /// It is told why, and the connection closed with this reason.
    Error(String, CloseReason),
}

impl Topology {
    /// Checks another server's first INFO and gives the connection its place.
    pub(crate) fn register(&self, link: &Arc<Link>, info: &Info) -> Result<Registered, Refusal> {
        self.check(info)?;
        let dedicated = if link.solicited { "" } else { info.route_account.as_str() };
        let remote_ip = link.address.ip().to_canonical();
        let mut remotes = self.remotes.write();
        let is_new = !remotes.contains_key(&info.server_id);
        let remote = remotes.entry(info.server_id.clone()).or_insert_with(|| {
            Arc::new(Remote::new(&info.server_id, &info.server_name, self.options.pool_size, remote_ip))
        });
        let remote = Arc::clone(remote);
        let index = match self.choose_place(&remote, link, info, dedicated) {
            Ok(index) => index,
            Err(refusal) => {
                if is_new {
                    remotes.remove(&info.server_id);
                }
                return Err(refusal);
            }
        };
        remote.put(index, dedicated, Arc::clone(link));
        drop(remotes);
        if remote.learn(info.weir.as_ref(), &info.connect_urls) || is_new {
            self.note_change();
        }
        if is_new {
            self.gossip_about(&remote, info, link.address);
            self.update_connect_urls(link.local_ip);
        }
        debug!(
            "{} - rid:{} - Registering remote route {:?}",
            link.address,
            link.id & 0xFFFF_FFFF,
            info.server_id
        );
        Ok(Registered { remote, index })
    }

    fn check(&self, info: &Info) -> Result<(), Refusal> {
        let own = self.hub.options();
        if info.server_id == own.server_id {
            return Err(Refusal::Itself);
        }
        let options = &self.options;
        if info.cluster != options.cluster && !(options.cluster_is_dynamic || info.cluster_dynamic) {
            let text = format!(
                "Rejecting connection, cluster name {:?} does not match {:?}",
                info.cluster, options.cluster
            );
            return Err(Refusal::Error(text, CloseReason::ClusterNameConflict));
        }
        if info.server_name == own.server_name {
            let text = format!("Remote server has a duplicate name: {:?}", info.server_name);
            return Err(Refusal::Error(text, CloseReason::DuplicateRoute));
        }
        let pool_size = i64::try_from(options.pool_size).unwrap_or(1);
        if info.route_pool_size != pool_size && info.route_pool_size > 0 {
            let text = format!("Mismatch route pool size: {pool_size} vs {}", info.route_pool_size);
            return Err(Refusal::Error(text, CloseReason::ProtocolViolation));
        }
        if !(0..pool_size).contains(&info.route_pool_idx) {
            let text = format!("Invalid route pool index: {}", info.route_pool_idx);
            return Err(Refusal::Error(text, CloseReason::ProtocolViolation));
        }
        Ok(())
    }

    fn choose_place(
        &self,
        remote: &Remote,
        link: &Link,
        info: &Info,
        dedicated: &str,
    ) -> Result<usize, Refusal> {
        if link.solicited {
            return remote.free_index().ok_or(Refusal::Duplicate);
        }
        let index = usize::try_from(info.route_pool_idx).unwrap_or_default();
        let known =
            if dedicated.is_empty() { remote.link_at(index) } else { remote.dedicated_link(dedicated) };
        let Some(known) = known else { return Ok(index) };
        // It dials because it has no such connection: either both dialled at once, or ours is dead and we have
        // not noticed. Both sides must keep the same one: among Weir's servers the one that the smaller id dialled.
        let is_weir = info.weir.is_some();
        let keeps_incoming = !known.solicited || !is_weir || info.server_id < self.hub.options().server_id;
        if keeps_incoming {
            known.outbox.close(CloseReason::DuplicateRoute);
            Ok(index)
        } else {
            Err(Refusal::Duplicate)
        }
    }

    /// Takes a connection that ended out of the table.
    pub(crate) fn unregister(&self, remote: &Arc<Remote>, link: &Arc<Link>) {
        self.drop_interest(link);
        let mut remotes = self.remotes.write();
        let is_left = remote.remove(link);
        let is_gone = !is_left && remotes.get(&remote.id).is_some_and(|known| Arc::ptr_eq(known, remote));
        if is_gone {
            remotes.remove(&remote.id);
        }
        drop(remotes);
        if is_gone {
            self.note_change();
            self.update_connect_urls(None);
        }
    }

    /// Handles an INFO on a route that exists: news of that server, or gossip about another.
    pub(crate) fn on_later_info(self: &Arc<Self>, remote: &Arc<Remote>, info: &Info) {
        if info.server_id != remote.id {
            self.on_gossip(info);
            return;
        }
        if info.ldm {
            remote.forget_connect_urls();
        }
        let urls = if info.ldm { &[][..] } else { &info.connect_urls };
        if remote.learn(info.weir.as_ref(), urls) {
            self.note_change();
            self.update_connect_urls(None);
        }
    }

    fn on_gossip(self: &Arc<Self>, info: &Info) {
        let is_known = info.server_id == self.hub.options().server_id
            || self.remotes.read().contains_key(&info.server_id);
        if is_known {
            return;
        }
        let text = if info.ip.is_empty() { format!("{}:{}", info.host, info.port) } else { info.ip.clone() };
        match RouteUrl::parse(&text) {
            Ok(url) => self.dial_implicit(info.server_id.clone(), url),
            Err(error) => debug!("gossip about {:?} with {text:?}: {error}", info.server_id),
        }
    }

    /// Tells all other servers of a new one, so that they dial it.
    fn gossip_about(&self, remote: &Remote, info: &Info, address: SocketAddr) {
        let mut news = info.clone();
        if news.ip.is_empty() {
            let address = SocketAddr::new(address.ip().to_canonical(), info.port);
            news.ip = format!("nats-route://{address}/");
        }
        news.nonce = String::new();
        news.route_pool_idx = 0;
        let line = news.to_line();
        for other in self.remotes.read().values() {
            if other.id != remote.id
                && let Some(link) = other.link_at(0).or_else(|| other.links().pop().map(|(link, _)| link))
            {
                link.outbox.append(Counted::NOTHING, |out| out.extend_from_slice(&line));
                link.outbox.flush();
            }
        }
    }
}
