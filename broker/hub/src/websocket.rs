//! The WebSocket port: TLS and the upgrade, then clients as any others. Not frames.

use crate::close_reason::CloseReason;
use crate::hub::Hub;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tracing::error;
use weir_net::tls::ServerTls;
use weir_net::websocket::{UpgradeError, UpgradeKind, UpgradeRules};
use weir_net::{ConnectionKind, Farewell, TlsFacts, Transport, TransportFacts};

/// How the WebSocket port lets connections in.
#[derive(Clone, Default)]
pub struct WebSocketEntrance {
    /// TLS; without it the port speaks `ws://`.
    pub tls: Option<Arc<ServerTls>>,
    /// What an upgrade has to be like.
    pub rules: UpgradeRules,
    /// How long TLS and a request may take, each.
    pub handshake_timeout: Duration,
    /// How long CONNECT may take, where it differs.
    pub auth_timeout: Option<Duration>,
    /// How long a connection may be quiet, where it differs.
    pub ping_interval: Option<Duration>,
    /// What INFO says in `host`.
    pub host: String,
    /// What INFO says in `port`.
    pub port: u16,
}

impl Hub {
    /// Lets clients in over WebSocket until `shutdown` or `enter_lame_duck`; `set_websocket` says how.
    pub async fn serve_websocket(self: Arc<Self>, listener: TcpListener) {
        let mut stopping = self.stopping();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    tokio::spawn(Arc::clone(&self).upgrade(stream, address));
                }
                Err(problem) => Self::pause_accepting(&problem).await,
            }
        }
    }

    async fn upgrade(self: Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let Some(entrance) = self.websocket() else { return };
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let transport = Arc::new(self.transport_of(stream));
        let mut tls = None;
        if let Some(known) = &entrance.tls {
            match shake_hands(&transport, known, entrance.handshake_timeout).await {
                Ok(facts) => tls = Some(facts),
                Err(problem) => {
                    error!("websocket: http: TLS handshake error from {address}: {problem}");
                    return;
                }
            }
        }
        let refused = |reason: &str| error!("{address} - websocket handshake error: {reason}");
        let accepted =
            transport.accept_websocket(&entrance.rules, entrance.handshake_timeout, &refused).await;
        let upgrade = match accepted {
            Ok(upgrade) => upgrade,
            Err(UpgradeError::TooEarly) => {
                refused("client sent data before handshake is complete");
                return;
            }
            Err(UpgradeError::Gone) => return,
        };
        if upgrade.kind != UpgradeKind::Client {
            error!("Not configured to accept leaf node connections");
            let reason = CloseReason::ClientClosed;
            transport.say_farewell(Farewell { status: reason.websocket_status(), text: reason.text() });
            return;
        }
        let facts = TransportFacts {
            kind: ConnectionKind::WebSocket,
            tls,
            cookies: upgrade.cookies,
            forwarded_for: upgrade.forwarded_for,
        };
        self.admit(transport, address, Some(Arc::new(facts)));
    }
}

async fn shake_hands(
    transport: &Transport,
    tls: &ServerTls,
    limit: Duration,
) -> Result<TlsFacts, weir_net::tls::HandshakeError> {
    let state = tls.current();
    match tokio::time::timeout(limit, transport.accept_tls(&state)).await {
        Ok(done) => done,
        Err(_) => Err(weir_net::tls::HandshakeError::Timeout),
    }
}
