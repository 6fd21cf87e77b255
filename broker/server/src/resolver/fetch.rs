//! The places account JWTs come from: memory, a URL, a folder. Not what is done with them.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::{Mutex, RwLock};
use weir_auth::jwt;
use weir_conf::{Options, TlsOptions};

use super::{
    directory::{Deletion, Directory},
    now,
};
use crate::io_reason;

/// How long fetching an account may take where nothing else is configured, as in nats-server.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_millis(1900);
/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// The longest pause between two looks at what has expired in a folder.
const EXPIRY_CHECK: Duration = Duration::from_secs(60);
/// The shortest one.
const MIN_EXPIRY_CHECK: Duration = Duration::from_millis(100);

/// Where account JWTs come from.
pub(super) enum Resolver {
    /// Those the configuration names.
    Memory(RwLock<HashMap<String, String>>),
    /// Fetched by HTTP.
    Url(Box<Fetcher>),
    /// A folder.
    Folder(Folder),
}

/// A folder, and how other servers are asked.
pub(super) struct Folder {
    pub(super) directory: Arc<Mutex<Directory>>,
    /// Every account is kept; else only those in use.
    pub(super) is_full: bool,
    /// Between two looks at what has expired.
    pub(super) expiry_check: Duration,
    /// Between two comparisons with other servers.
    pub(super) interval: Duration,
    /// Of asking other servers.
    pub(super) timeout: Duration,
}

impl Resolver {
    /// The one these options describe, with what is preloaded.
    pub(super) fn open(options: &Options) -> Result<Self, String> {
        use weir_conf::Resolver as Configured;
        let operator = &options.operator;
        let resolver = match &operator.resolver {
            None | Some(Configured::Memory) => Self::Memory(RwLock::default()),
            Some(Configured::Url(url)) => {
                Self::Url(Box::new(Fetcher::new(url, operator.resolver_tls.as_ref())?))
            }
            Some(Configured::Full { dir, allow_delete, hard_delete, interval, timeout, limit }) => {
                let deletion = match (allow_delete, hard_delete) {
                    (false, _) => Deletion::Refused,
                    (true, false) => Deletion::Renamed,
                    (true, true) => Deletion::Removed,
                };
                let directory = open_directory(dir, deletion, bound(*limit, usize::MAX), None)?;
                Self::Folder(Folder {
                    directory,
                    is_full: true,
                    expiry_check: EXPIRY_CHECK,
                    interval: at_least(*interval, Duration::from_secs(60)),
                    timeout: at_least(*timeout, FETCH_TIMEOUT),
                })
            }
            Some(Configured::Cache { dir, ttl, timeout, limit }) => {
                let ttl = (!ttl.is_zero()).then_some(*ttl);
                let directory = open_directory(dir, Deletion::Removed, bound(*limit, 1000), Some(ttl))?;
                Self::Folder(Folder {
                    directory,
                    is_full: false,
                    expiry_check: ttl
                        .map_or(EXPIRY_CHECK, |ttl| (ttl / 2).clamp(MIN_EXPIRY_CHECK, EXPIRY_CHECK)),
                    interval: Duration::ZERO,
                    timeout: at_least(*timeout, FETCH_TIMEOUT),
                })
            }
        };
        resolver.preload(&operator.resolver_preload)?;
        Ok(resolver)
    }

    fn preload(&self, tokens: &BTreeMap<String, String>) -> Result<(), String> {
        if tokens.is_empty() {
            return Ok(());
        }
        for (key, token) in tokens {
            jwt::decode_account(token)
                .map_err(|error| format!("preload account error for {key:?}: {error}"))?;
            match self {
                Self::Memory(known) => {
                    known.write().insert(key.clone(), token.clone());
                }
                Self::Folder(folder) => {
                    // A newer one that other servers sent is worth more than the configuration's.
                    let _ = folder.directory.lock().save_if_newer(key, token, now());
                }
                Self::Url(_) => {
                    let text =
                        "resolver preloads only available for writeable resolver types MEM/DIR/CACHE_DIR";
                    return Err(text.to_owned());
                }
            }
        }
        Ok(())
    }

    /// An account's JWT.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn fetch(&self, key: &str) -> Result<String, String> {
        match self {
            Self::Memory(known) => known.read().get(key).cloned().ok_or_else(|| "account missing".to_owned()),
            Self::Url(fetcher) => fetcher.fetch(key).await,
            Self::Folder(folder) => {
                let (directory, key) = (Arc::clone(&folder.directory), key.to_owned());
                let loaded = tokio::task::spawn_blocking(move || directory.lock().load(&key, now())).await;
                loaded.map_err(|error| error.to_string())??.ok_or_else(|| "account jwt not found".to_owned())
            }
        }
    }

    /// Whether the place can be reached at all; asked once, at the start.
    pub(super) async fn probe(&self) -> Result<(), String> {
        match self {
            Self::Url(fetcher) => fetcher.fetch("").await.map(|_| ()),
            _ => Ok(()),
        }
    }

    pub(super) fn folder(&self) -> Option<&Folder> {
        match self {
            Self::Folder(folder) => Some(folder),
            _ => None,
        }
    }

    /// Other servers may know what this one does not.
    pub(super) fn asks_others(&self) -> bool {
        self.folder().is_some()
    }

    pub(super) fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Takes over changed preloads, and reads folders again.
    pub(super) fn reload(&self, options: &Options) {
        let tokens = &options.operator.resolver_preload;
        match self {
            Self::Memory(known) => {
                *known.write() = tokens.iter().map(|(key, token)| (key.clone(), token.clone())).collect();
            }
            Self::Folder(folder) => {
                let mut directory = folder.directory.lock();
                // What cannot be read keeps its place until the next reload.
                let _ = directory.index(now());
                for (key, token) in tokens {
                    let _ = directory.save_if_newer(key, token, now());
                }
            }
            Self::Url(_) => {}
        }
    }
}

fn at_least(configured: Duration, default: Duration) -> Duration {
    if configured.is_zero() { default } else { configured }
}

fn bound(configured: i64, default: usize) -> usize {
    usize::try_from(configured).ok().filter(|limit| *limit > 0).unwrap_or(default)
}

fn open_directory(
    path: &Path,
    deletion: Deletion,
    limit: usize,
    ttl: Option<Option<Duration>>,
) -> Result<Arc<Mutex<Directory>>, String> {
    let opened = Directory::open(path, deletion, limit, ttl, now());
    opened.map(|directory| Arc::new(Mutex::new(directory))).map_err(|error| {
        let (path, reason) = (path.display(), io_reason(&error));
        format!("error opening account folder {path}: {reason}")
    })
}

/// Fetches by HTTP.
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<hyper::body::Bytes>>,
    /// What an account's key is put behind.
    base: String,
}

impl Fetcher {
    fn new(url: &str, tls: Option<&TlsOptions>) -> Result<Self, String> {
        let is_plain = url.starts_with("http://");
        // Without TLS no authorities are needed, and there may be none.
        let options =
            tls.cloned().unwrap_or_else(|| TlsOptions { insecure: is_plain, ..TlsOptions::default() });
        let config = weir_net::tls::client_config(&options)?.rustls_config();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        let slash = if url.ends_with('/') { "" } else { "/" };
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            base: format!("{url}{slash}"),
        })
    }

    async fn fetch(&self, key: &str) -> Result<String, String> {
        let shown = redacted(&format!("{}{key}", self.base));
        let fetching = tokio::time::timeout(FETCH_TIMEOUT, self.request(key)).await;
        fetching
            .unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
            .map_err(|reason| format!("could not fetch <{shown:?}>: {reason}"))
    }

    async fn request(&self, key: &str) -> Result<String, String> {
        let uri: hyper::Uri =
            format!("{}{key}", self.base).parse().map_err(|error| format!("invalid URL: {error}"))?;
        let response = self.client.get(uri).await.map_err(|error| source_of(&error))?;
        if response.status() != hyper::StatusCode::OK {
            return Err(response.status().to_string());
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        String::from_utf8(body.to_vec()).map_err(|error| error.to_string())
    }
}

/// A URL without its password.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.split_once('@') {
        Some((login, host)) if !login.contains('/') => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:xxxxx@{host}")
        }
        _ => url.to_owned(),
    }
}

/// The innermost reason: the outer ones only say that there was one.
fn source_of(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
