//! How listeners let connections in: TLS, headers of proxies, WebSocket. Not the handshakes.

use std::sync::Arc;
use std::time::Duration;
use weir_conf::HandshakeFirst;
use weir_net::tls::ServerTls;

/// How the clients' port lets connections in.
#[derive(Clone, Default)]
pub struct Entrance {
    /// TLS, where it is configured.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether clients may go without TLS all the same.
    pub allow_non_tls: bool,
    /// Whether load balancers put the client's address in front of connections.
    pub proxy_protocol: bool,
}

impl Entrance {
    /// Whether operations are all there is on the socket.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none() && !self.proxy_protocol
    }

    pub(crate) fn requires_tls(&self) -> bool {
        self.tls.is_some() && !self.allow_non_tls
    }

    /// When the handshake comes before INFO: for how long it is waited for, if not for ever.
    pub(crate) fn tls_first(&self) -> Option<Option<Duration>> {
        match self.tls.as_ref()?.current().handshake_first {
            HandshakeFirst::Never => None,
            HandshakeFirst::Always => Some(None),
            HandshakeFirst::Auto(wait) => Some(Some(wait)),
        }
    }
}
