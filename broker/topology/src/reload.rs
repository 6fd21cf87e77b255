//! Changes of the cluster's options while routes run. Not their comparison with nats-server's texts (the server's).

use crate::options::RouteOptions;
use crate::remote::Link;
use crate::topology::{SeedKnown, Topology};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{info, warn};
use weir_hub::{CloseReason, Counted};
use weir_proto::Info;

/// How long other servers may take to confirm that an account gets its own connection.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// A change that is under way.
#[derive(Default)]
pub(crate) struct Reload {
    rejects: AtomicBool,
    request: Mutex<String>,
    answers: AtomicU64,
    answered: Notify,
}

impl Reload {
    /// Whether new connections have to wait for the change.
    pub(crate) fn rejects(&self) -> bool {
        self.rejects.load(Ordering::Acquire)
    }

    pub(crate) fn on_answer(&self, request: &str) {
        if *self.request.lock() == request {
            self.answers.fetch_add(1, Ordering::AcqRel);
            self.answered.notify_one();
        }
    }
}

impl Topology {
    /// Takes over new options: seeds, credentials, permissions, pool, accounts, compression, intervals. The
    /// cluster's name is kept unless a new one was chosen. Host and port are taken as they are.
    pub async fn reload(self: &Arc<Self>, mut new: RouteOptions) {
        let old = self.options();
        let known = self.cluster();
        if new.cluster_is_dynamic || new.cluster.is_empty() {
            new.cluster.clone_from(&known.text);
            new.cluster_is_dynamic = known.is_dynamic;
        }
        let changed_name = new.cluster != known.text;
        let pool_changed = old.pool_size != new.pool_size;
        let added: Vec<_> = missing_from(&new.accounts, &old.accounts);
        let removed: Vec<_> = missing_from(&old.accounts, &new.accounts);
        let new_seeds: Vec<_> = missing_from(&new.seeds, &old.seeds);
        let gone_seeds: Vec<_> = missing_from(&old.seeds, &new.seeds);
        self.set_options(new.clone());
        if changed_name {
            let name = crate::handshake::ClusterName { text: new.cluster.clone(), is_dynamic: false };
            self.adopt(name, "");
        }
        self.change_seeds(&new_seeds, &gone_seeds);
        if old.permissions != new.permissions {
            self.change_permissions(&new);
        }
        if pool_changed || !added.is_empty() || !removed.is_empty() {
            self.change_pool(pool_changed, &added, &removed).await;
        }
        // The connections look at what concerns them one by one.
        for link in self.links() {
            link.is_outdated.store(true, Ordering::Release);
            link.outbox.wake();
        }
        self.follow_seeds(&new_seeds, &new.accounts);
        let kept: Vec<_> = new.seeds.iter().filter(|url| !new_seeds.contains(url)).cloned().collect();
        self.follow_accounts(&kept, &added);
        self.update_connect_urls(None);
        self.tell_all();
        self.note_change();
    }

    fn change_seeds(&self, added: &[crate::RouteUrl], gone: &[crate::RouteUrl]) {
        let mut seeds = self.seeds.lock();
        seeds.retain(|(url, _)| !gone.contains(url));
        seeds.extend(added.iter().map(|url| (url.clone(), SeedKnown::Unresolved)));
        drop(seeds);
        for url in gone {
            for link in self.links() {
                if link.url.as_ref() == Some(url) {
                    link.outbox.close(CloseReason::RouteRemoved);
                    info!("Removed route {url}");
                }
            }
        }
    }

    /// All connections in the table.
    fn links(&self) -> Vec<Arc<Link>> {
        let remotes: Vec<_> = self.remotes.read().values().cloned().collect();
        remotes.iter().flat_map(|remote| remote.links()).map(|(link, _)| link).collect()
    }

    /// What may come in and go out now: takes back and tells the difference, and says so in INFO.
    fn change_permissions(&self, new: &RouteOptions) {
        let before: Vec<_> = self.with_interest(|subject| self.rules.may_import(subject));
        self.rules.set(new.permissions.as_ref());
        let remotes: Vec<_> = self.remotes.read().values().cloned().collect();
        for link in self.links() {
            self.drop_interest_if(&link, |key| !self.rules.may_export(&key.subject));
        }
        for (account, subject, queue) in before {
            if !self.rules.may_import(&subject) {
                weir_hub::InterestListener::interest_changed(self, &account, &subject, queue.as_deref(), 0);
            }
        }
        for remote in &remotes {
            for (link, _) in remote.links() {
                self.send_interest(remote, &link);
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "an account, a subject and a queue group, used once")]
    fn with_interest(
        &self,
        takes: impl Fn(&[u8]) -> bool,
    ) -> Vec<(Arc<weir_hub::Account>, Box<[u8]>, Option<Box<[u8]>>)> {
        let mut found = Vec::new();
        for account in self.hub.accounts() {
            account.with_local_interest(|entries| {
                for entry in entries.filter(|entry| takes(&entry.subject)) {
                    found.push((Arc::clone(&account), entry.subject, entry.queue));
                }
            });
        }
        found
    }

    async fn change_pool(self: &Arc<Self>, pool_changed: bool, added: &[String], removed: &[String]) {
        self.reload.rejects.store(true, Ordering::Release);
        self.announce_accounts(added).await;
        for link in self.links() {
            let account = link.terms.lock().account.clone();
            let goes = if account.is_empty() { pool_changed } else { removed.contains(&account) };
            if goes {
                link.outbox.close(CloseReason::RouteRemoved);
            }
        }
        let mut pinned = (**self.pinned.load()).clone();
        pinned.retain(|account| !removed.contains(account));
        self.pinned.store(Arc::new(pinned));
        self.reload.rejects.store(false, Ordering::Release);
        if !pool_changed {
            // These accounts use the pool again.
            let remotes: Vec<_> = self.remotes.read().values().cloned().collect();
            for account in removed.iter().filter_map(|name| self.hub.account(name)) {
                for remote in &remotes {
                    for (link, _) in remote.links() {
                        self.send_interest_of(remote, &link, &account);
                        link.outbox.flush();
                    }
                }
            }
        }
    }

    /// Prepares the other servers for connections of these accounts, and waits for them to confirm.
    async fn announce_accounts(&self, added: &[String]) {
        let request = weir_hub::new_nonce().unwrap_or_default().to_string();
        self.reload.request.lock().clone_from(&request);
        self.reload.answers.store(0, Ordering::Release);
        let mut asked = 0;
        let pool_size = self.options().pool_size;
        for account in added {
            let remotes: Vec<_> = self.remotes.read().values().cloned().collect();
            let line = Info {
                route_pool_size: i64::from(pool_size.max(0)),
                route_account: account.clone(),
                route_acc_add_reqid: request.clone(),
                ..Info::default()
            }
            .to_line();
            for remote in remotes {
                let carrier = {
                    let places = remote.places.read();
                    let link =
                        places.for_interest(account, false, pool_size).map(|(link, _)| Arc::clone(link));
                    link.filter(|_| !places.no_pool())
                };
                let Some(link) = carrier else { continue };
                for (pooled, _) in remote.links().iter().filter(|(_, dedicated)| dedicated.is_empty()) {
                    self.drop_interest_if(pooled, |key| *key.account == *account.as_bytes());
                }
                link.outbox.append(Counted::NOTHING, |out| out.extend_from_slice(&line));
                link.outbox.flush();
                asked += 1;
            }
            self.pin(account);
        }
        let deadline = tokio::time::Instant::now() + CONFIRM_WITHIN;
        while self.reload.answers.load(Ordering::Acquire) < asked {
            if tokio::time::timeout_at(deadline, self.reload.answered.notified()).await.is_err() {
                warn!(
                    "Timed out waiting for confirmation from all routes regarding per-account routes changes"
                );
                break;
            }
        }
        self.reload.request.lock().clear();
    }

    /// Notes that an account has its own connections from now on.
    pub(crate) fn pin(&self, account: &str) {
        let mut pinned = (**self.pinned.load()).clone();
        if pinned.insert(account.to_owned()) {
            self.pinned.store(Arc::new(pinned));
        }
    }
}

fn missing_from<T: PartialEq + Clone>(these: &[T], those: &[T]) -> Vec<T> {
    these.iter().filter(|one| !those.contains(one)).cloned().collect()
}
