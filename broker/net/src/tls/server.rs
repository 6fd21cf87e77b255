//! The server's side of TLS as configured, replaceable while connections come in. Not the handshake.

use super::certificates::{self, ByName};
use super::chains::Chains;
use super::revocation::{CheckedClients, Revocation};
use super::suites;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use weir_conf::{HandshakeFirst, TlsOptions};

/// What one handshake goes by.
pub struct ServerTlsState {
    pub(crate) config: Arc<ServerConfig>,
    /// How long a handshake may take.
    pub timeout: Duration,
    /// Whether the handshake comes before INFO.
    pub handshake_first: HandshakeFirst,
    /// Whether clients have to show a certificate.
    pub verify: bool,
    pub(crate) pinned: BTreeSet<String>,
    /// Somebody is asked about clients, which takes time: so many handshakes may do that at once.
    pub(crate) checks: Option<Arc<Semaphore>>,
}

/// So many handshakes may wait for what others say of their clients; each has a thread of its own.
const MAX_CHECKS: usize = 32;

impl ServerTlsState {
    /// For programs that speak TLS by themselves.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

/// The TLS of one listener. New handshakes go by what `replace` has set last.
pub struct ServerTls {
    state: ArcSwap<ServerTlsState>,
    rate: Mutex<Rate>,
}

/// Loads the files of `options`.
pub fn server_config(options: &TlsOptions) -> Result<ServerTls, String> {
    server_config_with(options, &Revocation::default())
}

/// The same, for a port that shows or asks more than certificates.
pub fn server_config_with(options: &TlsOptions, revocation: &Revocation) -> Result<ServerTls, String> {
    let rate = Rate { limit: options.connection_rate_limit, count: 0, end: None };
    Ok(ServerTls { state: ArcSwap::from_pointee(load(options, revocation)?), rate: Mutex::new(rate) })
}

impl ServerTls {
    /// What a handshake that begins now goes by.
    pub fn current(&self) -> Arc<ServerTlsState> {
        self.state.load_full()
    }

    /// Loads the files of `options` for the handshakes from now on; on an error all stays as it was.
    /// The rate limit stays: it cannot be reloaded in nats-server either.
    pub fn replace(&self, options: &TlsOptions) -> Result<(), String> {
        self.replace_with(options, &Revocation::default())
    }

    /// The same, for a port that shows or asks more than certificates.
    pub fn replace_with(&self, options: &TlsOptions, revocation: &Revocation) -> Result<(), String> {
        self.state.store(Arc::new(load(options, revocation)?));
        Ok(())
    }

    /// Whether `connection_rate_limit` allows one more handshake at `now`.
    pub fn allows_handshake(&self, now: Instant) -> bool {
        self.rate.lock().allow(now)
    }
}

fn load(options: &TlsOptions, revocation: &Revocation) -> Result<ServerTlsState, String> {
    let provider = suites::provider(options)?;
    let certificates = certificates::load(options, &provider)?;
    let verify = options.verify || options.verify_and_map || options.verify_cert_and_check_known_urls;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(suites::versions(options))
        .map_err(|error| error.to_string())?;
    let builder = if verify {
        let roots = Arc::new(certificates::authorities(options.ca_file.as_deref())?);
        let mut verifier: Arc<dyn ClientCertVerifier> =
            WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| error.to_string())?;
        if let Some(check) = revocation.peers.clone() {
            let chains = Chains::load(options.ca_file.as_deref())?;
            verifier = Arc::new(CheckedClients { inner: verifier, chains, check });
        }
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(certificates, &revocation.staples)));
    config.ignore_client_order = true;
    // No resumption: it would outlive a reload of authorities, and costs memory a connection.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(ServerTlsState {
        config: Arc::new(config),
        timeout: options.timeout,
        handshake_first: options.handshake_first,
        verify,
        pinned: options.pinned_certs.clone(),
        checks: (verify && revocation.peers.is_some()).then(|| Arc::new(Semaphore::new(MAX_CHECKS))),
    })
}

/// Counts handshakes a second the way nats-server does: a limit of n lets n through.
struct Rate {
    limit: u64,
    count: u64,
    end: Option<Instant>,
}

impl Rate {
    fn allow(&mut self, now: Instant) -> bool {
        if self.limit == 0 {
            return true;
        }
        match self.end {
            Some(end) if now <= end => self.count += 1,
            _ => {
                self.count = 0;
                self.end = Some(now + Duration::from_secs(1));
            }
        }
        self.count < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_limit_lets_so_many_through_a_second() {
        let mut rate = Rate { limit: 2, count: 0, end: None };
        let start = Instant::now();
        assert_eq!([rate.allow(start), rate.allow(start), rate.allow(start)], [true, true, false]);
        assert!(rate.allow(start + Duration::from_millis(1001)));
        let mut open = Rate { limit: 0, count: 0, end: None };
        assert!((0..100).all(|_| open.allow(start)));
    }
}
