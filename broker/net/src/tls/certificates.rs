//! Certificates from files: chains, keys, authorities, fingerprints, the choice by server name.
//! Not their verification.

use super::staple::Staple;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore, crypto::CryptoProvider};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use weir_conf::TlsOptions;

/// The certificates of `options`, in their order; the errors are those of nats-server where it has one.
pub(crate) fn load(
    options: &TlsOptions,
    provider: &CryptoProvider,
) -> Result<Vec<Arc<CertifiedKey>>, String> {
    match (&options.cert_file, &options.key_file) {
        (Some(_), None) => return Err("missing 'key_file' in TLS configuration".to_owned()),
        (None, Some(_)) => return Err("missing 'cert_file' in TLS configuration".to_owned()),
        (Some(certificates), Some(key)) => {
            let pair = load_pair(certificates, key, provider)
                .map_err(|reason| format!("error parsing X509 certificate/key pair: {reason}"))?;
            return Ok(vec![pair]);
        }
        (None, None) => {}
    }
    let count = options.certificates.len();
    let load_one = |(at, pair): (usize, &weir_conf::CertPair)| {
        load_pair(&pair.cert_file, &pair.key_file, provider)
            .map_err(|reason| format!("error parsing X509 certificate/key pair {}/{count}: {reason}", at + 1))
    };
    options.certificates.iter().enumerate().map(load_one).collect()
}

fn load_pair(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    let chain = read_chain(chain)?;
    let key_pem = read(key)?;
    let key = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|_| "tls: failed to find any PEM data in key input".to_owned())?;
    CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(|error| match error {
        Error::InconsistentKeys(_) => "tls: private key does not match public key".to_owned(),
        other => format!("tls: {other}"),
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("x509: {error}"))?;
    if chain.is_empty() {
        return Err("tls: failed to find any PEM data in certificate input".to_owned());
    }
    Ok(chain)
}

/// The chains that `options` names, in their order, with their files: a server's own certificate comes first.
pub fn own_chains(options: &TlsOptions) -> Result<Vec<(PathBuf, Vec<CertificateDer<'static>>)>, String> {
    let files = match &options.cert_file {
        Some(file) => vec![file],
        None => options.certificates.iter().map(|pair| &pair.cert_file).collect(),
    };
    files.into_iter().map(|file| Ok((file.clone(), read_chain(file)?))).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        format!("open {}: {reason}", path.display())
    })
}

/// The authorities of a `ca_file`; without one those of the system.
pub(crate) fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let added = store.add_parsable_certificates(authority_certificates(ca_file)?).0;
    if added == 0 && ca_file.is_some() {
        return Err("failed to parse root ca certificate".to_owned());
    }
    Ok(store)
}

/// The same, as certificates; some may be of no use.
pub(crate) fn authority_certificates(ca_file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(path) = ca_file else { return Ok(rustls_native_certs::load_native_certs().certs) };
    let pem = read(path)?;
    Ok(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect())
}

/// The lower-case hex SHA-256 of a certificate (DER) and of its public key, as monitoring shows them.
pub fn fingerprints(certificate: &[u8]) -> (String, String) {
    let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = public_key_fingerprint(&CertificateDer::from(certificate));
    (hex(&Sha256::digest(certificate)), key.unwrap_or_default())
}

/// The lower-case hex SHA-256 of a certificate's public key, as `pinned_certs` lists them.
pub(crate) fn public_key_fingerprint(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let digest = Sha256::digest(parsed.subject_public_key_info());
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A certificate that is shown to clients, with its status where that has to come along.
#[derive(Debug)]
pub(crate) struct Served {
    key: Arc<CertifiedKey>,
    staple: Option<Arc<Staple>>,
}

impl Served {
    /// `None` while there is no status: a certificate that promises one is not shown without it.
    fn shown(&self) -> Option<Arc<CertifiedKey>> {
        let Some(staple) = &self.staple else { return Some(Arc::clone(&self.key)) };
        let status = staple.current(SystemTime::now())?;
        Some(Arc::new(CertifiedKey {
            cert: self.key.cert.clone(),
            key: Arc::clone(&self.key.key),
            ocsp: Some(status),
        }))
    }
}

/// Chooses a certificate as Go does: the first that fits the name and the algorithms, else the first.
#[derive(Debug)]
pub(crate) struct ByName {
    certificates: Vec<Served>,
}

impl ByName {
    /// The staples belong to the certificates at the same places.
    pub(crate) fn new(certificates: Vec<Arc<CertifiedKey>>, staples: &[Option<Arc<Staple>>]) -> Self {
        let staples = staples.iter().cloned().chain(std::iter::repeat(None));
        let served = certificates.into_iter().zip(staples).map(|(key, staple)| Served { key, staple });
        Self { certificates: served.collect() }
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let first = self.certificates.first()?;
        if self.certificates.len() == 1 {
            return first.shown();
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |candidate: &&Served| {
            let signs = candidate.key.key.choose_scheme(hello.signature_schemes()).is_some();
            signs && name.as_ref().is_none_or(|name| is_for(&candidate.key, name))
        };
        self.certificates.iter().find(fits).unwrap_or(first).shown()
    }
}

fn is_for(candidate: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = candidate.cert.first().and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
    parsed.is_some_and(|parsed| rustls::client::verify_server_name(&parsed, name).is_ok())
}
