//! The status of a certificate: remembered, from the disk, or from a responder. Not when it is asked for.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use parking_lot::Mutex;
use tracing::debug;
use weir_net::ocsp::{Certificate, Response, request};

use super::{
    moment, now,
    responder::{Answer, Responder},
};
use crate::io_reason;

/// How long a responder may take, as in nats-server.
const LIMIT: Duration = Duration::from_secs(30);
/// A larger file is none of ours.
const MAX_FILE_BYTES: u64 = 128 * 1024;
/// Statuses that are remembered.
const MAX_KNOWN: usize = 1024;

/// A status and the answer it is from.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) raw: Vec<u8>,
    pub(super) response: Response,
}

/// Statuses by the digests of their certificates.
pub(super) type Memory = Arc<Mutex<HashMap<[u8; 32], Known>>>;

/// Where statuses come from.
pub(super) struct Statuses {
    pub(super) responder: Arc<Responder>,
    /// Where they are kept; nowhere without a `store_dir`.
    pub(super) directory: Option<PathBuf>,
    /// Responders that are asked instead of the certificate's.
    pub(super) urls: Vec<String>,
    pub(super) known: Memory,
}

impl std::fmt::Debug for Statuses {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Statuses").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Statuses {
    /// Makes the folder, where there is to be one.
    pub(super) fn make_directory(&self) -> Result<(), String> {
        let Some(directory) = &self.directory else { return Ok(()) };
        match fs::metadata(directory) {
            Ok(found) if found.is_dir() => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o750).create(directory).map_err(|error| {
                    format!("could not create OCSP storage directory - {}", io_reason(&error))
                })
            }
            _ => Err("OCSP storage directory is not a directory".to_owned()),
        }
    }

    /// The status, from wherever there is one that is still true.
    pub(super) async fn get(&self, leaf: &Certificate, issuer: &Certificate) -> Result<Known, String> {
        let remembered = self.known.lock().get(&leaf.digest()).cloned();
        if let Some(known) = remembered.filter(|known| check(&known.response).is_ok()) {
            return Ok(known);
        }
        match self.load(leaf, issuer) {
            Some(known) => {
                self.remember(leaf, known.clone());
                Ok(known)
            }
            None => self.fetch(leaf, issuer).await,
        }
    }

    fn load(&self, leaf: &Certificate, issuer: &Certificate) -> Option<Known> {
        let path = self.directory.as_ref()?.join(file_name(leaf));
        let size = fs::metadata(&path).ok()?.len();
        let raw = fs::read(&path).ok().filter(|_| size <= MAX_FILE_BYTES)?;
        let response = Response::parse(&raw, leaf, issuer).ok()?;
        let usable = response.is_authorized(issuer) && check(&response).is_ok();
        usable.then_some(Known { raw, response })
    }

    /// The status as a responder has it now; kept in memory and on the disk.
    pub(super) async fn fetch(&self, leaf: &Certificate, issuer: &Certificate) -> Result<Known, String> {
        let raw = self.ask(leaf, issuer).await?;
        let failed = |reason: &dyn std::fmt::Display| format!("failed to get remote status: {reason}");
        let response = Response::parse(&raw, leaf, issuer).map_err(|error| failed(&error))?;
        if !response.is_authorized(issuer) {
            return Err(failed(&"the signer is not authorized by the CA to act as OCSP signer"));
        }
        check(&response)?;
        if let Some(directory) = &self.directory {
            save(directory, &file_name(leaf), &raw)
                .map_err(|error| format!("failed to write ocsp status: {}", io_reason(&error)))?;
        }
        let known = Known { raw, response };
        self.remember(leaf, known.clone());
        Ok(known)
    }

    fn remember(&self, leaf: &Certificate, known: Known) {
        let mut all = self.known.lock();
        if all.len() >= MAX_KNOWN {
            all.retain(|_, known| check(&known.response).is_ok());
        }
        if all.len() >= MAX_KNOWN {
            all.clear();
        }
        all.insert(leaf.digest(), known);
    }

    async fn ask(&self, leaf: &Certificate, issuer: &Certificate) -> Result<Vec<u8>, String> {
        let request = request(leaf, issuer)?;
        let urls = if self.urls.is_empty() { &leaf.responders } else { &self.urls };
        let mut failed = "no available ocsp servers".to_owned();
        for url in urls {
            let url = url.trim_end_matches('/');
            let posted = self.responder.post(url, request.clone(), LIMIT);
            let refused = match timed("POST", url, request.len(), posted).await {
                Ok(body) => return Ok(body),
                Err(refused) => refused,
            };
            let encoded = BASE64.encode(&request);
            let url = format!("{url}/{encoded}");
            match timed("GET", &url, encoded.len(), self.responder.get(&url, LIMIT)).await {
                Ok(body) => return Ok(body),
                Err(error) => failed = format!("exhausted ocsp servers: {refused}\n{error}"),
            }
        }
        Err(failed)
    }
}

async fn timed(
    method: &str,
    url: &str,
    length: usize,
    asking: impl Future<Output = Result<Answer, String>>,
) -> Result<Vec<u8>, String> {
    let began = Instant::now();
    let Answer { status, body } = asking.await?;
    let seconds = began.elapsed().as_secs_f64();
    debug!("Received OCSP response (method={method}, status={status}, url={url}, duration={seconds:.3}s)");
    if status > 299 {
        return Err(format!("non-ok http status on {method} request (reqlen={length}): {status}"));
    }
    Ok(body)
}

/// Whether the answer is true now, by its own times.
pub(super) fn check(response: &Response) -> Result<(), String> {
    let now = now();
    let at = |time: u64| moment(Some(time));
    match response.next_update {
        Some(next) if Duration::from_secs(next) < now => {
            return Err(format!("invalid ocsp NextUpdate, is past time: {}", at(next)));
        }
        _ => {}
    }
    if Duration::from_secs(response.this_update) > now {
        let this = at(response.this_update);
        return Err(format!("invalid ocsp ThisUpdate, is future time: {this}"));
    }
    Ok(())
}

/// As nats-server names it: by the whole certificate.
fn file_name(leaf: &Certificate) -> String {
    leaf.digest().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts it in place at once, so that nobody reads half of it.
fn save(directory: &Path, name: &str, data: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("tmp-cert-status-{}-{name}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        io::Write::write_all(&mut file, data)?;
        drop(file);
        fs::rename(&temporary, directory.join(name))
    };
    // What is left of a failed attempt is of no use.
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}
