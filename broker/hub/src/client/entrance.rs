//! What comes before a client's first operation: INFO, a proxy's header, TLS. Not the operations.

use super::connection::Connection;
use super::session::Greeting;
use crate::close_reason::CloseReason;
use crate::entrance::Entrance;
use crate::outbox::Outbox;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, error, warn};
use weir_net::tls::{HandshakeError, ServerTls, ServerTlsState};
use weir_net::{Fronted, Interest, TlsFacts, TransportFacts};

/// What a first byte says that begins a TLS handshake (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;
/// How long INFO may take to be written before the handshake.
const INFO_LIMIT: Duration = Duration::from_secs(2);

impl Connection {
    /// Brings a connection to where operations begin; the order is that of nats-server.
    pub(super) async fn come_in(&mut self, entrance: &Entrance) -> Result<(), CloseReason> {
        let greeting = Greeting { tls_required: None, hides_address: entrance.proxy_protocol };
        let tls = entrance.tls.as_ref().map(|tls| (tls, tls.current()));
        let mut first = entrance.tls_first().is_some();
        match entrance.tls_first() {
            None => self.session.greet(greeting),
            Some(None) => {}
            Some(Some(wait)) => {
                // Only clients that begin with TLS send anything before they have seen INFO.
                let has_begun = tokio::time::timeout(wait, self.transport.peek(&mut [0])).await.is_ok();
                if !has_begun {
                    first = false;
                    self.session.greet(greeting);
                }
            }
        }
        if entrance.proxy_protocol {
            self.read_proxy_header().await?;
        }
        let mut shakes_hands = first || entrance.requires_tls();
        if let (Some((_, state)), false) = (&tls, shakes_hands) {
            shakes_hands = self.is_handshake(state.timeout).await;
        }
        if let (Some((tls, state)), true) = (&tls, shakes_hands) {
            let facts = self.shake_hands(tls, state, first).await?;
            let facts = TransportFacts { tls: Some(facts), ..TransportFacts::default() };
            self.handle.transport.store(Some(Arc::new(facts)));
        }
        if first {
            self.session.greet(Greeting { tls_required: Some(true), hides_address: false });
        }
        self.start_timers();
        Ok(())
    }

    async fn is_handshake(&mut self, limit: Duration) -> bool {
        let mut first = [0];
        let seen = tokio::time::timeout(limit, self.transport.peek(&mut first)).await;
        matches!(seen, Ok(Ok(1))) && first == [HANDSHAKE_RECORD]
    }

    async fn read_proxy_header(&mut self) -> Result<(), CloseReason> {
        match self.transport.read_proxy_header().await {
            Ok(Fronted::Client(address)) => {
                let _ = self.handle.proxied_address.set(address);
                Ok(())
            }
            Ok(Fronted::Absent | Fronted::Local) => Ok(()),
            Err(problem) => {
                warn!("Error reading PROXY protocol header from {}: {problem}", self.handle.socket_address);
                Err(CloseReason::ProtocolViolation)
            }
        }
    }

    async fn shake_hands(
        &mut self,
        tls: &ServerTls,
        state: &ServerTlsState,
        first: bool,
    ) -> Result<TlsFacts, CloseReason> {
        if !tls.allows_handshake(Instant::now()) {
            self.session.error("Connection throttling is active. Please try again later.");
            self.session.flush();
            return Err(CloseReason::MaxConnectionsExceeded);
        }
        self.wait_until_written().await?;
        debug!("{} - Starting TLS client connection handshake", self.handle.label());
        let outcome = tokio::select! {
            outcome = self.transport.accept_tls(state) => outcome,
            reason = closed(&self.handle.outbox) => return Err(reason),
        };
        match outcome {
            Ok(facts) => {
                let label = self.handle.label();
                debug!("{label} - TLS handshake complete");
                debug!("{label} - TLS version {}, cipher suite {}", facts.version, facts.cipher_suite);
                Ok(TlsFacts { is_first: first, ..facts })
            }
            Err(problem) => {
                let label = self.handle.label();
                match problem {
                    HandshakeError::Timeout => debug!("{label} - TLS handshake timeout"),
                    _ if problem.is_probe() => debug!("{label} - TLS handshake error: {problem}"),
                    _ => error!("{label} - TLS handshake error: {problem}"),
                }
                Err(CloseReason::TlsHandshakeError)
            }
        }
    }

    /// INFO has to be on its way before the first encrypted byte.
    async fn wait_until_written(&mut self) -> Result<(), CloseReason> {
        let outbox = Arc::clone(&self.handle.outbox);
        while outbox.pending() > 0 {
            let ready = tokio::time::timeout(INFO_LIMIT, self.transport.ready(Interest::WRITABLE)).await;
            if !matches!(ready, Ok(Ok(_))) {
                return Err(CloseReason::TlsHandshakeError);
            }
            outbox.unblock();
        }
        Ok(())
    }
}

/// Resolves when somebody has closed the connection.
async fn closed(outbox: &Outbox) -> CloseReason {
    loop {
        if let Some(reason) = outbox.closed() {
            return reason;
        }
        outbox.woken().await;
    }
}
