//! News between servers after their introduction: of themselves, and of servers that joined. Not the dialling.

use crate::address::RouteUrl;
use crate::dial::Target;
use crate::interest::Entry;
use crate::remote::{Link, Remote};
use crate::topology::Topology;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::{debug, error};
use weir_hub::Counted;
use weir_proto::Info;

/// Whoever hears of the server tells others as it thinks fit.
pub(crate) const MODE_DEFAULT: i64 = 0;
/// Whoever hears of the server tells nobody.
const MODE_DISABLED: i64 = 1;
/// Whoever hears of the server tells others, even though it only heard of it.
const MODE_OVERRIDE: i64 = 2;

impl Topology {
    /// Handles an INFO on a route that exists: news of that server, or gossip about another.
    pub(crate) fn on_later_info(self: &Arc<Self>, remote: &Arc<Remote>, link: &Arc<Link>, info: &Info) {
        if !info.route_acc_add_reqid.is_empty() {
            self.on_account_request(remote, link, info);
        } else if info.server_id != remote.id {
            self.on_gossip(info);
        } else if info.ldm {
            if remote.learn(info.weir.as_ref(), &[], &[]) {
                self.note_change();
                self.update_connect_urls(None);
            }
        } else {
            self.on_new_permissions(remote, link, info);
            if remote.learn(info.weir.as_ref(), &info.connect_urls, &info.ws_connect_urls) {
                self.note_change();
                self.update_connect_urls(None);
            }
        }
    }

    /// What the other server exports decides what of our interest it notes: it may note more now.
    fn on_new_permissions(&self, remote: &Arc<Remote>, link: &Arc<Link>, info: &Info) {
        let mut terms = link.terms.lock();
        let exports_changed = terms.export != info.export;
        terms.import.clone_from(&info.import);
        terms.export.clone_from(&info.export);
        drop(terms);
        if exports_changed {
            for (link, _) in remote.links() {
                self.send_interest(remote, &link);
            }
        }
    }

    fn on_gossip(self: &Arc<Self>, info: &Info) {
        let options = self.options();
        let is_itself = info.server_id == self.hub.options().server_id;
        let is_known = self.remotes.read().contains_key(&info.server_id);
        if info.server_id.is_empty() || is_itself || is_known || !info.route_account.is_empty() {
            // Connections for single accounts follow from the first.
            return;
        }
        let text = if info.ip.is_empty() { format!("{}:{}", info.host, info.port) } else { info.ip.clone() };
        let mut url = match RouteUrl::parse(&text) {
            Ok(url) => url,
            Err(error) => return error!("Error parsing URL from INFO: {error}"),
        };
        let is_seed = options.seeds.iter().any(|seed| {
            seed.port == info.port
                && (seed.host.eq_ignore_ascii_case(&info.host) || seed.host.eq_ignore_ascii_case(&url.host))
        });
        if is_seed {
            return;
        }
        if info.auth_required {
            url.user.clone_from(&options.user);
            url.password.clone_from(&options.password);
        }
        let target = Target {
            url,
            account: String::new(),
            configured: false,
            server_id: Some(info.server_id.clone()),
            gossip_mode: info.gossip_mode,
        };
        self.dial_implicit(target);
    }

    /// Tells all other servers of a new one, so that they dial it.
    pub(crate) fn gossip_about(&self, remote: &Remote, link: &Link, info: &Info, own_mode: i64) {
        let is_configured = link.configured.load(Ordering::Relaxed);
        let was_gossip = link.solicited && !is_configured;
        if (was_gossip && own_mode != MODE_OVERRIDE) || info.gossip_mode == MODE_DISABLED {
            return;
        }
        let mut news = info.clone();
        if news.ip.is_empty() {
            let address = SocketAddr::new(link.address.ip().to_canonical(), info.port);
            news.ip = format!("nats-route://{address}/");
        }
        news.nonce = String::new();
        news.route_pool_idx = 0;
        for other in self.remotes.read().values().filter(|other| other.id != remote.id) {
            let Some(receiver) = other.any_link() else { continue };
            let is_seed = receiver.configured.load(Ordering::Relaxed);
            news.gossip_mode = if (!link.solicited && is_seed) || (link.solicited && is_configured) {
                MODE_OVERRIDE
            } else if link.solicited {
                MODE_DEFAULT
            } else {
                MODE_DISABLED
            };
            let line = news.to_line();
            receiver.outbox.append(Counted::NOTHING, |out| out.extend_from_slice(&line));
            receiver.outbox.flush();
        }
    }

    /// Another server gives an account a connection of its own, or has learnt that this one does.
    fn on_account_request(&self, remote: &Arc<Remote>, link: &Arc<Link>, info: &Info) {
        if info.route_account.is_empty() {
            self.reload.on_answer(&info.route_acc_add_reqid);
            return;
        }
        let account = info.route_account.clone();
        debug!("{} - account {account:?} gets a route of its own", link.label());
        self.pin(&account);
        // What was told of it on the pool ends; the new connection brings it again.
        for (pooled, _) in remote.links().into_iter().filter(|(_, dedicated)| dedicated.is_empty()) {
            self.drop_interest_if(&pooled, |key| *key.account == *account.as_bytes());
        }
        let answer = Info { route_account: String::new(), ..info.clone() }.to_line();
        link.outbox.append(Counted::NOTHING, |out| out.extend_from_slice(&answer));
        link.outbox.flush();
        self.note_change();
    }

    /// Notes interest that came over a connection, if this server exports the subject.
    pub(crate) fn note_interest(
        &self,
        link: &Arc<Link>,
        account: &Arc<weir_hub::Account>,
        is_own: bool,
        entry: &Entry<'_>,
    ) {
        if entry.weight > 0 && !self.rules.may_export(entry.subject) {
            let subject = String::from_utf8_lossy(entry.subject);
            debug!("{} - Can not export {subject:?}, ignoring remote subscription request", link.label());
            return;
        }
        self.apply_interest(link, account, is_own, entry);
    }
}
