//! The requests about account claims that the system account carries. Not the folder they change.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};
use weir_auth::{
    jwt::{self, Account, Claims},
    operator::is_account_key,
};
use weir_conf::Options;
use weir_hub::{Account as HubAccount, Hub, Inbound, InternalHandler, InternalSubscription};

use super::{
    Accounts,
    directory::{Deletion, Directory},
    fetch::{Folder, Resolver},
    now, replies,
    synchronise::{self, Packs},
};
use crate::settings::feature_flags;

/// Requests that may wait; more are dropped, and the log says so.
const QUEUE_MAX: usize = 1024;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// A new JWT for the account in the subject.
    UpdateOne,
    /// A new JWT for the account it speaks of.
    Update,
    /// Another server asks for a JWT.
    Lookup,
    /// Another server compares its folder with ours.
    Pack,
    /// All keys are asked for.
    List,
    /// Accounts are to be deleted.
    Delete,
    /// A part of another server's folder.
    Packed,
}

/// A message as it waits.
pub(super) struct Request {
    topic: Topic,
    subject: String,
    reply: Vec<u8>,
    payload: Vec<u8>,
}

/// What a request is answered with.
pub(super) struct Desk {
    pub(super) accounts: Weak<Accounts>,
    pub(super) hub: Arc<Hub>,
    pub(super) system: Arc<HubAccount>,
    pub(super) resolver: Arc<Resolver>,
    about: replies::About,
}

/// Subscribes and serves until the server ends.
pub(super) fn start(accounts: &Arc<Accounts>, options: &Options) {
    let Some(hub) = accounts.hub.upgrade() else { return };
    let system = hub.system_account();
    let resolver = accounts.resolver();
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let mut subscriptions = Vec::new();
    let mut subscribe = |topic: Topic, subject: &str, group: Option<&str>| {
        subscriptions.push(system.subscribe_internal(subject, group, handler(topic, queue.clone())));
    };
    subscribe(Topic::UpdateOne, "$SYS.ACCOUNT.*.CLAIMS.UPDATE", None);
    subscribe(Topic::UpdateOne, "$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE", None);
    let mut packs = None;
    if let Some(folder) = resolver.folder() {
        subscribe(Topic::Update, "$SYS.REQ.CLAIMS.UPDATE", None);
        subscribe(Topic::List, "$SYS.REQ.CLAIMS.LIST", None);
        subscribe(Topic::Delete, "$SYS.REQ.CLAIMS.DELETE", None);
        let path = folder.directory.lock().path().display().to_string();
        if folder.is_full {
            subscribe(Topic::Lookup, "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP", None);
            subscribe(Topic::Pack, "$SYS.REQ.CLAIMS.PACK", Some("responder"));
            let inbox = synchronise::inbox(&hub);
            subscribe(Topic::Packed, &inbox, None);
            packs = Some(Packs { inbox, interval: folder.interval });
            info!("Managing all jwt in exclusive directory {path}");
        } else {
            info!("Managing some jwt in exclusive directory {path}");
        }
    }
    let desk = Arc::new(Desk {
        accounts: Arc::downgrade(accounts),
        hub,
        system,
        resolver,
        about: replies::About {
            tags: options.server_tags.clone(),
            metadata: options.server_metadata.clone(),
            feature_flags: feature_flags(options),
        },
    });
    tokio::spawn(serve(desk, waiting, packs, subscriptions));
}

fn handler(topic: Topic, queue: mpsc::Sender<Request>) -> InternalHandler {
    Arc::new(move |message: &Inbound<'_>| {
        let request = Request {
            topic,
            subject: String::from_utf8_lossy(message.subject).into_owned(),
            reply: message.reply.unwrap_or_default().to_vec(),
            payload: message.payload.to_vec(),
        };
        if queue.try_send(request).is_err() {
            warn!("Account claims: too many requests wait, one is dropped");
        }
    })
}

async fn serve(
    desk: Arc<Desk>,
    mut waiting: mpsc::Receiver<Request>,
    packs: Option<Packs>,
    _subscriptions: Vec<InternalSubscription>,
) {
    let check = desk.resolver.folder().map_or(Duration::MAX / 4, |folder| folder.expiry_check);
    let mut expiry = tokio::time::interval(check);
    let interval = packs.as_ref().map_or(Duration::MAX / 4, |packs| packs.interval);
    let mut next_pack = tokio::time::Instant::now().checked_add(interval);
    loop {
        let pack_due = async {
            match next_pack {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = waiting.recv() => {
                let Some(request) = request else { return };
                desk.answer(request).await;
            }
            _ = expiry.tick() => desk.with_directory(|directory| directory.expire(now())).await.unwrap_or(()),
            () = pack_due, if packs.is_some() => {
                next_pack = tokio::time::Instant::now().checked_add(interval);
                if let Some(packs) = &packs {
                    synchronise::compare(&desk, packs).await;
                }
            }
        }
        if desk.accounts.strong_count() == 0 {
            return;
        }
    }
}

impl Desk {
    async fn answer(self: &Arc<Self>, request: Request) {
        match request.topic {
            Topic::UpdateOne => self.update_one(request).await,
            Topic::Update => self.update(request).await,
            Topic::Delete => self.delete(request).await,
            Topic::Packed => synchronise::merge(self, &request.payload).await,
            // Others wait for these, and changing an account may take fetching others.
            Topic::Lookup | Topic::Pack | Topic::List => {
                let desk = Arc::clone(self);
                tokio::spawn(async move { desk.tell(request).await });
            }
        }
    }

    async fn tell(&self, request: Request) {
        if request.reply.is_empty() {
            return;
        }
        match request.topic {
            Topic::Lookup => {
                let key = account_of(&request.subject).unwrap_or_default().to_owned();
                let found = self.with_directory(move |directory| directory.load(&key, now())).await;
                match found {
                    Some(Ok(token)) => self.publish(&request.reply, token.unwrap_or_default().as_bytes()),
                    Some(Err(reason)) => error!("DirResolver - Error looking up account: {reason}"),
                    None => {}
                }
            }
            Topic::Pack => synchronise::pack(self, &request.reply, request.payload).await,
            _ => {
                let keys = self.with_directory(|directory| directory.keys()).await.unwrap_or_default();
                debug!("list request responded with {} account ids", keys.len());
                self.publish(&request.reply, &replies::list(&self.hub, &self.about, &keys));
            }
        }
    }

    pub(super) fn publish(&self, subject: &[u8], payload: &[u8]) {
        self.system.publish(subject, None, &[], payload);
    }

    /// Runs on the folder, off the runtime's threads; `None` without a folder.
    pub(super) async fn with_directory<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Directory) -> T + Send + 'static,
    ) -> Option<T> {
        let directory: Arc<Mutex<Directory>> = Arc::clone(&self.resolver.folder()?.directory);
        tokio::task::spawn_blocking(move || work(&mut directory.lock())).await.ok()
    }

    fn respond(&self, request: &Request, account: &str, message: &str, outcome: Result<(), String>) {
        let answer = replies::outcome(&self.hub, &self.about, account, message, outcome);
        if !request.reply.is_empty() {
            self.publish(&request.reply, &answer);
        }
    }

    async fn update_one(&self, request: Request) {
        let Some(key) = account_of(&request.subject).map(str::to_owned) else { return };
        let Some(folder) = self.resolver.folder() else { return self.update_known(&request, &key).await };
        let failed = if folder.is_full {
            "jwt update resulted in error"
        } else {
            "jwt update cache resulted in error"
        };
        let claims = match decoded(&request.payload) {
            Ok((_, claims)) => claims,
            Err(reason) => {
                let about = if folder.is_full { "n/a" } else { &key };
                return self.respond(&request, about, failed, Err(reason));
            }
        };
        let valid = || validate(&claims);
        if folder.is_full && valid().is_err() {
            return self.respond(&request, &claims.subject, "jwt validation failed", valid());
        }
        if claims.subject != key {
            let reason = "subject does not match jwt content".to_owned();
            return self.respond(&request, &key, failed, Err(reason));
        }
        if let Err(reason) = self.check_strict(&claims) {
            return self.respond(&request, &key, failed, Err(reason));
        }
        self.keep(&request, folder, &claims, failed).await;
    }

    async fn update(&self, request: Request) {
        let Some(folder) = self.resolver.folder() else { return };
        let failed = if folder.is_full {
            "jwt update resulted in error"
        } else {
            "jwt update cache resulted in error"
        };
        let claims = match decoded(&request.payload) {
            Ok((_, claims)) => claims,
            Err(reason) => return self.respond(&request, "n/a", failed, Err(reason)),
        };
        if let Err(reason) = self.check_strict(&claims) {
            return self.respond(&request, &claims.subject, failed, Err(reason));
        }
        if folder.is_full
            && let Err(reason) = validate(&claims)
        {
            return self.respond(&request, &claims.subject, "jwt validation failed", Err(reason));
        }
        self.keep(&request, folder, &claims, failed).await;
    }

    /// Keeps a JWT in the folder and takes it over.
    async fn keep(&self, request: &Request, folder: &Folder, claims: &Claims<Account>, failed: &str) {
        let Some(accounts) = self.accounts.upgrade() else { return };
        let key = claims.subject.clone();
        if !folder.is_full {
            if !accounts.is_known(&key) {
                return self.respond(request, &key, "jwt update cache skipped", Ok(()));
            }
            if let Err(reason) = validate(claims) {
                return self.respond(request, &key, "jwt update cache validation failed", Err(reason));
            }
        }
        let token = String::from_utf8_lossy(&request.payload).into_owned();
        let (owned_key, owned_token) = (key.clone(), token.clone());
        let saved =
            self.with_directory(move |directory| directory.save(&owned_key, &owned_token, now())).await;
        match saved {
            Some(Ok(changed)) => {
                if changed {
                    take_over(&accounts, &key, token).await;
                }
                let done = if folder.is_full { "jwt updated" } else { "jwt updated cache" };
                self.respond(request, &key, done, Ok(()));
            }
            Some(Err(reason)) => self.respond(request, &key, failed, Err(reason)),
            None => {}
        }
    }

    /// Without a folder only what is in use is changed.
    async fn update_known(&self, request: &Request, key: &str) {
        const FAILED: &str = "jwt update resulted in error";
        let Some(accounts) = self.accounts.upgrade() else { return };
        if request.payload.is_empty() {
            return self.respond(request, key, "jwt update error", Err("request body is empty".to_owned()));
        }
        let (token, claims) = match decoded(&request.payload) {
            Ok(read) => read,
            Err(reason) => return self.respond(request, key, FAILED, Err(reason)),
        };
        if claims.subject != key {
            let reason = "subject does not match jwt content".to_owned();
            return self.respond(request, key, FAILED, Err(reason));
        }
        if !accounts.is_known(key) {
            return self.respond(request, key, "jwt update skipped", Ok(()));
        }
        match accounts.update(key, token).await {
            Ok(()) => self.respond(request, key, "jwt updated", Ok(())),
            Err(reason) => self.respond(request, key, FAILED, Err(reason)),
        }
    }

    fn check_strict(&self, claims: &Claims<Account>) -> Result<(), String> {
        let Some(accounts) = self.accounts.upgrade() else { return Ok(()) };
        if accounts.operator.is_strict && claims.issuer == accounts.operator.key {
            return Err("operator requires issuer to be a signing key".to_owned());
        }
        Ok(())
    }

    async fn delete(&self, request: Request) {
        let Some(accounts) = self.accounts.upgrade() else { return };
        let (subject, keys) = match self.deletable(&accounts, &request.payload) {
            Ok(keys) => keys,
            Err((subject, reason)) => {
                let message = format!("delete accounts request by {subject} failed");
                return self.respond(&request, "", &message, Err(reason));
            }
        };
        debug!("delete accounts request by {subject}");
        let (mut done, mut errors) = (0, Vec::new());
        for key in keys {
            let owned = key.clone();
            match self.with_directory(move |directory| directory.delete(&owned)).await {
                Some(Ok(existed)) => {
                    done += 1;
                    if existed {
                        accounts.remove(&key);
                    }
                }
                Some(Err(reason)) => errors.push(reason),
                None => {}
            }
        }
        if errors.is_empty() {
            return self.respond(&request, "", &format!("deleted {done} accounts"), Ok(()));
        }
        let message = format!("deleted {done} accounts, failed for {}", errors.len());
        self.respond(&request, "", &message, Err(errors.join("\n")));
    }

    /// The keys a request may delete; with an error, also who asked.
    fn deletable(
        &self,
        accounts: &Accounts,
        payload: &[u8],
    ) -> Result<(String, Vec<String>), (String, String)> {
        let text = std::str::from_utf8(payload).map_err(|error| (String::new(), error.to_string()))?;
        let claims = jwt::decode_generic(text).map_err(|error| (String::new(), error.to_string()))?;
        let subject = claims.subject.clone();
        let refused = |reason: &str| (subject.clone(), reason.to_owned());
        let deletion = self.resolver.folder().map(|folder| folder.directory.lock().deletion());
        if deletion.is_none_or(|deletion| deletion == Deletion::Refused) {
            return Err(refused("delete must be enabled in server config"));
        }
        if claims.subject != claims.issuer {
            return Err(refused("not self signed"));
        }
        if !accounts.operator.signers.contains(&claims.issuer) {
            return Err(refused("not trusted"));
        }
        let listed = claims.nats.get("accounts").and_then(serde_json::Value::as_array);
        let mut keys = Vec::new();
        for entry in listed.ok_or_else(|| refused("malformed request"))? {
            match entry.as_str() {
                Some(key) if is_account_key(key) && key == accounts.system_account => {
                    return Err(refused("not allowed to delete system account"));
                }
                Some(key) if is_account_key(key) => keys.push(key.to_owned()),
                _ => return Err(refused("malformed request")),
            }
        }
        Ok((subject, keys))
    }
}

/// Lets an account in use become what a kept JWT says.
pub(super) async fn take_over(accounts: &Arc<Accounts>, key: &str, token: String) {
    if accounts.is_known(key)
        && let Err(reason) = accounts.update(key, token).await
    {
        error!("DirResolver - Update for account {key:?} resulted in error {reason}");
    }
}

fn decoded(payload: &[u8]) -> Result<(String, Box<Claims<Account>>), String> {
    let text = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
    let claims = jwt::decode_account(text).map_err(|error| error.to_string())?;
    Ok((text.to_owned(), claims))
}

fn validate(claims: &Claims<Account>) -> Result<(), String> {
    let issues = claims.issues(now());
    let errors = issues.errors();
    if errors.is_empty() { Ok(()) } else { Err(format!("validation errors: [{}]", errors.join(" "))) }
}

/// The account in `$SYS.REQ.ACCOUNT.<key>.CLAIMS...` or `$SYS.ACCOUNT.<key>.CLAIMS...`.
fn account_of(subject: &str) -> Option<&str> {
    let mut tokens = subject.split('.').skip_while(|token| *token != "ACCOUNT");
    tokens.nth(1)
}
