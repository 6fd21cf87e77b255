//! TLS by rustls: configurations, handshakes, sessions. Not who is let in by a certificate.

mod certificates;
mod client;
mod handshake;
mod server;
mod session;
mod suites;

pub use certificates::fingerprints;
pub use client::{ClientTls, client_config};
pub use handshake::HandshakeError;
pub use server::{ServerTls, ServerTlsState, server_config};
pub(crate) use session::{MAX_RECORD_BYTES, TlsSession};
