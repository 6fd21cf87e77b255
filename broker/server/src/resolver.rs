//! Operator mode's accounts: their claims, where they come from, and what the hub is told of them.
//! Not the users (see `authenticator`), nor what claims mean (weir-auth).

mod activation;
mod directory;
mod fetch;
mod jetstream;
mod replies;
mod review;
mod service;
mod settings;
mod synchronise;
mod trusted;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tracing::{debug, error, info, warn};
use weir_auth::{
    jwt::{Account, Claims, ImportType},
    operator::{Trust, is_account_key},
};
use weir_conf::{Options, format_duration};
use weir_hub::Hub;

use crate::jetstream::{RunningJetStream, domain};
use fetch::Resolver;
pub(crate) use settings::default_permissions;
pub(crate) use trusted::{announce, check, system_account};

/// So many accounts are fetched at once; who comes later waits.
const FETCHES_AT_ONCE: usize = 64;
/// So far exporters of exporters are fetched on the way to one account.
const MAX_IMPORT_DEPTH: usize = 16;
/// A fetch that takes longer is warned of.
const SLOW_FETCH: Duration = Duration::from_secs(1);

/// All that is known of one account.
struct Known {
    token: String,
    claims: Arc<Claims<Account>>,
    /// Some of its imports could not be made.
    is_incomplete: bool,
}

/// The accounts of operator mode.
pub(crate) struct Accounts {
    this: Weak<Self>,
    hub: Weak<Hub>,
    trust: RwLock<Trust>,
    operator: trusted::Operator,
    pinned: BTreeSet<String>,
    default_sentinel: Option<String>,
    resolver: RwLock<Arc<Resolver>>,
    system_account: String,
    domain: Option<String>,
    /// Domains of accounts without JetStream.
    default_domains: BTreeMap<String, String>,
    known: RwLock<HashMap<String, Arc<Known>>>,
    fetching: Semaphore,
    jetstream: OnceLock<Arc<RunningJetStream>>,
}

type Loading<'a> = Pin<Box<dyn Future<Output = Result<Arc<Claims<Account>>, String>> + Send + 'a>>;

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Starts the accounts, where there is operator mode.
pub(crate) async fn start(accounts: Option<&Arc<Accounts>>, options: &Options) -> Result<(), String> {
    match accounts {
        Some(accounts) => accounts.start(options).await,
        None => Ok(()),
    }
}

impl Accounts {
    /// The accounts of these options; `None` without operators. The error is what keeps the server from starting.
    pub(crate) fn new(options: &Options, hub: &Arc<Hub>) -> Result<Option<Arc<Self>>, String> {
        if !crate::authenticator::is_operator_mode(options) {
            return Ok(None);
        }
        let operators = trusted::operators(options)?;
        let resolver = Resolver::open(options)?;
        let accounts = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            hub: Arc::downgrade(hub),
            trust: RwLock::new(Trust::new(&operators, &options.operator.trusted_keys)),
            operator: trusted::Operator::of(&operators),
            pinned: trusted::pinned(options),
            default_sentinel: options.operator.default_sentinel.clone(),
            resolver: RwLock::new(Arc::new(resolver)),
            system_account: system_account(options).unwrap_or_default(),
            domain: domain::of(options).map(str::to_owned),
            default_domains: options.default_js_domain.clone(),
            known: RwLock::new(HashMap::new()),
            fetching: Semaphore::new(FETCHES_AT_ONCE),
            jetstream: OnceLock::new(),
        });
        hub.set_activation_check(Arc::new(activation::Check::new(&accounts)));
        Ok(Some(accounts))
    }

    /// Fetches the system account, then serves requests and keeps in step with other servers.
    /// The error is what keeps the server from starting.
    async fn start(self: &Arc<Self>, options: &Options) -> Result<(), String> {
        self.resolver().probe().await?;
        if !self.system_account.is_empty() {
            let found = self.lookup(&self.system_account).await;
            found.map_err(|reason| format!("error resolving system account: {reason}"))?;
        }
        service::start(self, options);
        Ok(())
    }

    /// Whether users of that account may come in at all.
    pub(crate) fn is_pinned(&self, account: &str) -> bool {
        self.pinned.is_empty() || self.pinned.contains(account)
    }

    /// The JWT that stands in for clients without one.
    pub(crate) fn default_sentinel(&self) -> Option<&str> {
        self.default_sentinel.as_deref()
    }

    /// Whether the account may use its signing keys only.
    pub(crate) fn is_strict(&self, account: &Claims<Account>) -> bool {
        self.trust.read().is_strict(&account.issuer)
    }

    /// The account's claims, fetched when they are not known or have expired.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) async fn lookup(&self, key: &str) -> Result<Arc<Claims<Account>>, String> {
        let known = self.known.read().get(key).cloned();
        match known {
            Some(known) if known.claims.expires == 0 || known.claims.expires > now() => {
                Ok(Arc::clone(&known.claims))
            }
            Some(_) => {
                debug!("Requested account [{key}] has expired");
                self.load(key, 0).await.map_err(|_| "account expired".to_owned())
            }
            None => self.load(key, 0).await,
        }
    }

    /// What is known of the account, without fetching.
    fn claims_of(&self, key: &str) -> Option<Arc<Claims<Account>>> {
        self.known.read().get(key).map(|known| Arc::clone(&known.claims))
    }

    fn resolver(&self) -> Arc<Resolver> {
        Arc::clone(&self.resolver.read())
    }

    fn load<'a>(&'a self, key: &'a str, depth: usize) -> Loading<'a> {
        Box::pin(async move {
            let token = self.fetch(key).await?;
            self.take(key, token, depth).await
        })
    }

    async fn fetch(&self, key: &str) -> Result<String, String> {
        if !is_account_key(key) {
            return Err("will only fetch valid account keys".to_owned());
        }
        let _turn = self.fetching.acquire().await.map_err(|error| error.to_string())?;
        let began = std::time::Instant::now();
        let resolver = self.resolver();
        let fetched = match resolver.fetch(key).await {
            Err(reason) if resolver.asks_others() => synchronise::ask_others(self, key, &resolver)
                .await
                .map_err(|other| if other.is_empty() { reason } else { other }),
            fetched => fetched,
        };
        let took = began.elapsed();
        let text = format!("Account [{key}] fetch took {}", format_duration(took));
        if took > SLOW_FETCH {
            warn!("{text}");
        } else {
            debug!("{text}");
        }
        fetched.inspect_err(|reason| warn!("Account fetch failed: {reason}"))
    }

    /// Checks an account's JWT and makes the hub's account what it says.
    async fn take(&self, key: &str, token: String, depth: usize) -> Result<Arc<Claims<Account>>, String> {
        let known = self.known.read().get(key).cloned();
        if let Some(known) = known.filter(|known| known.token == token && !known.is_incomplete) {
            debug!("Requested account update for [{key}], same claims detected");
            return Ok(Arc::clone(&known.claims));
        }
        let claims: Arc<Claims<Account>> = Arc::from(self.trust.read().verify_account(&token, now())?);
        if claims.subject != key {
            return Err("account validation failed".to_owned());
        }
        debug!("Updating account claims: {key}/{}", claims.name);
        // Known from here on, so that accounts that import from each other find an end.
        let news = Known { token, claims: Arc::clone(&claims), is_incomplete: false };
        let before = self.known.write().insert(key.to_owned(), Arc::new(news));
        let missing = self.load_exporters(&claims, depth).await;
        if missing > 0 {
            self.mark_incomplete(key);
        }
        let is_new = before.is_none();
        self.tell_hub(&claims, before.map(|before| Arc::clone(&before.claims)));
        self.tell_jetstream(&claims);
        if is_new {
            self.await_jetstream(key).await;
        }
        Ok(claims)
    }

    /// Fetches the accounts that are imported from; returns how many there are not.
    async fn load_exporters(&self, claims: &Claims<Account>, depth: usize) -> usize {
        let mut missing = 0;
        let mut seen = BTreeSet::new();
        for import in claims.nats.imports.iter().filter(|import| seen.insert(&import.account)) {
            if self.claims_of(&import.account).is_some() {
                continue;
            }
            let found = if depth < MAX_IMPORT_DEPTH {
                self.load(&import.account, depth + 1).await.map(|_| ())
            } else {
                Err("too many accounts on the way".to_owned())
            };
            if let Err(reason) = found {
                missing += 1;
                let (account, subject) = (&import.account, &import.subject);
                let kind = import.kind.map_or("unknown", ImportType::name);
                error!("Can't locate account [{account}] for import of [{subject}] {kind} (err={reason})");
            }
        }
        missing
    }

    fn mark_incomplete(&self, key: &str) {
        let mut known = self.known.write();
        if let Some(entry) = known.get_mut(key) {
            let (token, claims) = (entry.token.clone(), Arc::clone(&entry.claims));
            *entry = Arc::new(Known { token, claims, is_incomplete: true });
        }
    }

    fn tell_hub(&self, claims: &Arc<Claims<Account>>, before: Option<Arc<Claims<Account>>>) {
        let Some(hub) = self.hub.upgrade() else { return };
        let mut settings = settings::settings(claims);
        let default = self.default_domains.get(&claims.subject).map(String::as_str);
        domain::add_default(&mut settings, default, claims.nats.limits.is_jetstream_enabled());
        domain::add(&mut settings, self.domain.as_deref(), claims.subject == self.system_account);
        hub.configure_account(&claims.subject, settings);
        if let Some(before) = before {
            let strict = self.is_strict(claims);
            hub.review_account(&claims.subject, |principal, credentials| {
                review::review(claims, &before, strict, principal, credentials)
            });
        }
        for until in activation::expiries(claims).chain((claims.expires > 0).then_some(claims.expires)) {
            self.remind(claims, until);
        }
    }

    /// Looks at the account again at that second, if its claims are the same then.
    fn remind(&self, claims: &Arc<Claims<Account>>, at: i64) {
        let (this, claims) = (Weak::clone(&self.this), Arc::downgrade(claims));
        let left = u64::try_from(at.saturating_sub(now())).unwrap_or(0);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(left.saturating_add(1))).await;
            if let (Some(this), Some(claims)) = (this.upgrade(), claims.upgrade()) {
                this.on_time(&claims);
            }
        });
    }

    fn on_time(&self, claims: &Arc<Claims<Account>>) {
        let is_current = self.claims_of(&claims.subject).is_some_and(|known| Arc::ptr_eq(&known, claims));
        let Some(hub) = self.hub.upgrade().filter(|_| is_current) else { return };
        if claims.expires > 0 && claims.expires <= now() {
            hub.review_account(&claims.subject, |_, _| review::expired());
        }
        hub.recheck_imports(&claims.subject);
    }

    /// Takes over a JWT that came from elsewhere, if the account is in use.
    ///
    /// # Errors
    /// Why not.
    async fn update(&self, key: &str, token: String) -> Result<(), String> {
        self.take(key, token, 0).await.map(|_| ())
    }

    /// Whether the account is in use.
    fn is_known(&self, key: &str) -> bool {
        self.known.read().contains_key(key)
    }

    /// Ends an account that was deleted: its users are put out, and it can do nothing.
    fn remove(&self, key: &str) {
        if self.known.write().remove(key).is_none() {
            return;
        }
        debug!("Disable account {key} due to remove");
        self.end_jetstream(key);
        if let Some(hub) = self.hub.upgrade() {
            hub.review_account(key, |_, _| review::expired());
            hub.remove_account(key);
        }
    }

    /// Takes over what a changed configuration says of operators and resolver, and looks at every account again.
    /// The options have passed `check`.
    pub(crate) async fn reload(&self, options: &Options) {
        let Ok(operators) = trusted::operators(options) else { return };
        *self.trust.write() = Trust::new(&operators, &options.operator.trusted_keys);
        let resolver = self.resolver();
        resolver.reload(options);
        let keys: Vec<String> = self.known.read().keys().cloned().collect();
        for key in keys {
            match self.fetch(&key).await {
                Ok(token) => {
                    if self.update(&key, token).await.is_err() && resolver.is_memory() {
                        info!("Reloaded: deleting account [bad claims]: {key:?}");
                        self.known.write().remove(&key);
                        self.end_jetstream(&key);
                    }
                }
                Err(_) if resolver.is_memory() => {
                    info!("Reloaded: deleting account [removed]: {key:?}");
                    self.known.write().remove(&key);
                    self.end_jetstream(&key);
                }
                Err(_) => {}
            }
        }
    }
}
