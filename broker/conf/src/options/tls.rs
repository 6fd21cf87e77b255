//! Options of TLS: certificates, verification, versions, OCSP. The files are named, not loaded.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

/// A `tls` block.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsOptions {
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Roots that certificates of the other side are verified with.
    pub ca_file: Option<PathBuf>,
    /// Several certificates, chosen by the name that a client asks for; instead of `cert_file`.
    pub certificates: Vec<CertPair>,
    /// Ask clients for a certificate and verify it.
    pub verify: bool,
    /// Find the user by the client's certificate; implies `verify`.
    pub verify_and_map: bool,
    /// Routes: the certificate's names have to be among the configured URLs; implies `verify`.
    pub verify_cert_and_check_known_urls: bool,
    /// As a client: take any certificate.
    pub insecure: bool,
    /// Go's names; empty is the default set.
    pub cipher_suites: Vec<String>,
    pub allow_insecure_cipher_suites: bool,
    /// Go's names, such as `CurveP256` and `X25519`; empty is the default set.
    pub curve_preferences: Vec<String>,
    /// `None` is TLS 1.2.
    pub min_version: Option<TlsVersion>,
    /// For the handshake.
    pub timeout: Duration,
    /// New handshakes a second; 0 is no limit.
    pub connection_rate_limit: u64,
    /// SHA-256 of accepted clients' public keys (SPKI), lower-case hex; empty accepts all.
    pub pinned_certs: BTreeSet<String>,
    pub handshake_first: HandshakeFirst,
    pub ocsp_peer: Option<OcspPeerOptions>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            ca_file: None,
            certificates: Vec::new(),
            verify: false,
            verify_and_map: false,
            verify_cert_and_check_known_urls: false,
            insecure: false,
            cipher_suites: Vec::new(),
            allow_insecure_cipher_suites: false,
            curve_preferences: Vec::new(),
            min_version: None,
            timeout: Duration::from_secs(2),
            connection_rate_limit: 0,
            pinned_certs: BTreeSet::new(),
            handshake_first: HandshakeFirst::Never,
            ocsp_peer: None,
        }
    }
}

/// A certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertPair {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// Whether the TLS handshake comes before INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HandshakeFirst {
    /// After INFO, as clients of NATS expect.
    #[default]
    Never,
    Always,
    /// When the client begins within this time; else INFO is sent.
    Auto(Duration),
}

/// `ocsp_peer`: what is asked of the authorities about the other side's certificates.
#[derive(Debug, Clone, PartialEq)]
pub struct OcspPeerOptions {
    pub verify: bool,
    /// Of a request to a responder.
    pub timeout: Duration,
    pub allowed_clock_skew: Duration,
    /// A refused peer is only logged.
    pub warn_only: bool,
    pub unknown_is_good: bool,
    pub allow_when_ca_unreachable: bool,
    pub cache_ttl_when_next_update_unset: Duration,
}

impl Default for OcspPeerOptions {
    fn default() -> Self {
        Self {
            verify: false,
            timeout: Duration::from_secs(2),
            allowed_clock_skew: Duration::from_secs(30),
            warn_only: false,
            unknown_is_good: false,
            allow_when_ca_unreachable: false,
            cache_ttl_when_next_update_unset: Duration::from_secs(3600),
        }
    }
}

/// `ocsp`: stapling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspOptions {
    pub mode: OcspMode,
    /// Responders to use instead of the certificate's.
    pub override_urls: Vec<String>,
}

/// When certificates are stapled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspMode {
    /// Certificates that ask for it (must-staple).
    Auto,
    /// All.
    Always,
    /// None.
    Never,
    /// Those that ask for it; without a status the server stops.
    Must,
}

/// `ocsp_cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OcspCache {
    /// Nothing is kept.
    None,
    /// Responses are kept in a folder.
    Local { local_store: PathBuf, preserve_revoked: bool, save_interval: Duration },
}
