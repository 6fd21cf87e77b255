//! TLS by rustls: configurations, handshakes, sessions. Not who is let in by a certificate.

mod certificates;
mod chains;
mod client;
mod handshake;
mod refusal;
mod revocation;
mod server;
mod session;
mod staple;
mod suites;

pub use rustls::pki_types::{CertificateDer as X509, UnixTime};

pub use certificates::{fingerprints, own_chains};
pub use chains::Chains;
pub use client::{ClientTls, client_config, client_config_with};
pub use handshake::HandshakeError;
pub use revocation::{PeerCheck, Revocation};
pub use server::{ServerTls, ServerTlsState, server_config, server_config_with};
pub(crate) use session::{MAX_RECORD_BYTES, TlsSession};
pub use staple::{Staple, check_staple};
