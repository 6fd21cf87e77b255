//! The handshake over a transport's socket, either role, within a time. Not what comes before or after.

use super::certificates::public_key_fingerprint;
use super::client::ClientTls;
use super::refusal;
use super::server::ServerTlsState;
use super::session::{Received, TlsSession};
use super::suites::suite_name;
use crate::facts::TlsFacts;
use crate::transport::Transport;
use bytes::BufMut;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, ProtocolVersion};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// The most bytes read at once during a handshake.
const READ_BYTES: usize = 4 * 1024;
/// More than this is not taken in for one handshake: long chains of certificates fit.
const MAX_HANDSHAKE_BYTES: usize = 128 * 1024;

/// Why a handshake failed; the texts are those of Go where they are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not done in time.
    #[error("TLS handshake timeout")]
    Timeout,
    /// The first bytes are no TLS: a probe or a client that was not told.
    #[error("tls: first record does not look like a TLS handshake")]
    NotTls,
    /// The peer's certificate is not among those pinned.
    #[error("certificate not pinned")]
    NotPinned,
    /// The peer went away.
    #[error("EOF")]
    Closed,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl HandshakeError {
    /// Whether it is what load balancers and port scanners cause, and not worth an error in the log.
    pub fn is_probe(&self) -> bool {
        matches!(self, Self::Timeout | Self::NotTls)
    }
}

impl Transport {
    /// The server's side: everything from here on is encrypted.
    pub async fn accept_tls(&self, tls: &ServerTlsState) -> Result<TlsFacts, HandshakeError> {
        let connection =
            UnbufferedServerConnection::new(Arc::clone(&tls.config)).map_err(|error| reason(&error))?;
        let checks = tls.checks.as_ref();
        self.shake_hands(TlsSession::Server(connection), tls.timeout, &tls.pinned, checks).await
    }

    /// The client's side, to a server of that name or address.
    pub async fn connect_tls(&self, tls: &ClientTls, server_name: &str) -> Result<TlsFacts, HandshakeError> {
        let state = tls.current();
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|error| HandshakeError::Other(error.to_string()))?;
        let connection = UnbufferedClientConnection::new(Arc::clone(&state.config), name)
            .map_err(|error| reason(&error))?;
        self.shake_hands(TlsSession::Client(connection), state.timeout, &state.pinned, None).await
    }

    async fn shake_hands(
        &self,
        session: TlsSession,
        limit: Duration,
        pinned: &BTreeSet<String>,
        checks: Option<&Arc<Semaphore>>,
    ) -> Result<TlsFacts, HandshakeError> {
        let done = tokio::time::timeout(limit, drive(self.socket(), Box::new(session), checks))
            .await
            .map_err(|_| HandshakeError::Timeout)??;
        let session = done.session;
        let facts = facts(&session);
        if !pinned.is_empty() {
            let own = session.common().peer_certificates().and_then(<[_]>::first);
            let fingerprint = own.and_then(public_key_fingerprint);
            if !fingerprint.is_some_and(|fingerprint| pinned.contains(&fingerprint)) {
                return Err(HandshakeError::NotPinned);
            }
        }
        self.set_tls(session, done.incoming, done.decoded);
        Ok(facts)
    }
}

/// A handshake under way.
struct Shaking {
    session: Box<TlsSession>,
    /// An incomplete record.
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Data that came in one piece with the end of the handshake.
    decoded: Vec<u8>,
}

impl Shaking {
    fn take_in(&mut self) -> Result<Received, Error> {
        let Self { session, incoming, outgoing, decoded } = self;
        session.receive(incoming, outgoing, &mut |plain| decoded.extend_from_slice(plain))
    }
}

/// Takes in what was received: on a thread of its own where somebody has to be asked about the peer.
async fn step(
    mut shaking: Shaking,
    checks: Option<&Arc<Semaphore>>,
) -> Result<(Shaking, Result<Received, Error>), HandshakeError> {
    let Some(checks) = checks else {
        let outcome = shaking.take_in();
        return Ok((shaking, outcome));
    };
    let failed = |error: &dyn std::error::Error| HandshakeError::Other(error.to_string());
    let permit = Arc::clone(checks).acquire_owned().await.map_err(|error| failed(&error))?;
    let work = tokio::task::spawn_blocking(move || {
        let outcome = shaking.take_in();
        drop(permit);
        (shaking, outcome)
    });
    work.await.map_err(|error| failed(&error))
}

async fn drive(
    socket: &TcpStream,
    session: Box<TlsSession>,
    checks: Option<&Arc<Semaphore>>,
) -> Result<Shaking, HandshakeError> {
    let mut shaking = Shaking { session, incoming: Vec::new(), outgoing: Vec::new(), decoded: Vec::new() };
    let mut is_first = true;
    let mut taken_in = 0;
    loop {
        let outcome;
        (shaking, outcome) = step(shaking, checks).await?;
        // Who does not speak TLS does not understand an alert either.
        if is_first && outcome.as_ref().is_err_and(is_not_tls) {
            return Err(HandshakeError::NotTls);
        }
        let written = write_all(socket, &std::mem::take(&mut shaking.outgoing)).await;
        let received = outcome.map_err(|error| reason(&error))?;
        written.map_err(|error| io_reason(&error))?;
        is_first &= received.consumed == 0;
        shaking.incoming.drain(..received.consumed.min(shaking.incoming.len()));
        if !shaking.session.is_handshaking() {
            return Ok(shaking);
        }
        if received.closed {
            return Err(HandshakeError::Closed);
        }
        taken_in += read_more(socket, &mut shaking.incoming).await?;
        if taken_in > MAX_HANDSHAKE_BYTES {
            return Err(HandshakeError::Other("tls: handshake message too large".to_owned()));
        }
    }
}

fn is_not_tls(error: &Error) -> bool {
    use InvalidMessage::{InvalidContentType, MessageTooLarge, UnknownProtocolVersion};
    matches!(error, Error::InvalidMessage(InvalidContentType | UnknownProtocolVersion | MessageTooLarge))
}

async fn read_more(socket: &TcpStream, incoming: &mut Vec<u8>) -> Result<usize, HandshakeError> {
    loop {
        socket.readable().await.map_err(|error| io_reason(&error))?;
        incoming.reserve(READ_BYTES);
        let before = incoming.len();
        match socket.try_read_buf(&mut incoming.limit(READ_BYTES)) {
            Ok(0) => return Err(HandshakeError::Closed),
            Ok(_) => return Ok(incoming.len() - before),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(io_reason(&error)),
        }
    }
}

async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.ready(Interest::WRITABLE).await?;
        match socket.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn facts(session: &TlsSession) -> TlsFacts {
    let common = session.common();
    let version = match common.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    };
    let chain = common.peer_certificates().unwrap_or_default();
    TlsFacts {
        version: version.to_owned(),
        cipher_suite: common
            .negotiated_cipher_suite()
            .map(|suite| suite_name(suite.suite()))
            .unwrap_or_default(),
        peer_certificates: chain.iter().map(|certificate| certificate.to_vec()).collect(),
        // rustls does not tell it of unbuffered sessions.
        server_name: None,
        is_first: false,
    }
}

fn io_reason(error: &io::Error) -> HandshakeError {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
            HandshakeError::Closed
        }
        _ => HandshakeError::Other(error.to_string()),
    }
}

/// The error in the words of Go where it has some.
fn reason(error: &Error) -> HandshakeError {
    if let Some(text) = refusal::text(error) {
        return HandshakeError::Other(text.to_owned());
    }
    let text = match error {
        Error::General(text) if text == "no server certificate chain resolved" => {
            "tls: there is no current OCSP status to show with the certificate".to_owned()
        }
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid".to_owned()
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        Error::InvalidCertificate(other) => format!("tls: failed to verify certificate: {other}"),
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        other => format!("tls: {other}"),
    };
    HandshakeError::Other(text)
}

fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::BadCertificate => "bad certificate".to_owned(),
        AlertDescription::UnknownCA => "unknown certificate authority".to_owned(),
        AlertDescription::CertificateUnknown => "unknown certificate".to_owned(),
        AlertDescription::CertificateExpired => "expired certificate".to_owned(),
        AlertDescription::ProtocolVersion => "protocol version not supported".to_owned(),
        AlertDescription::HandshakeFailure => "handshake failure".to_owned(),
        AlertDescription::InternalError => "internal error".to_owned(),
        other => format!("{other:?}"),
    }
}
