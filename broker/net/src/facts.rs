//! What a transport knows of its connection, for those who judge or show it. Not the judging.

use std::net::IpAddr;

/// How a connection came in; the names are those of `allowed_connection_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ConnectionKind {
    /// The clients' port.
    #[default]
    Standard,
    /// The WebSocket port.
    WebSocket,
    /// The leaf nodes' port.
    Leafnode,
    /// A leaf node on the WebSocket port.
    LeafnodeWs,
    /// The MQTT port.
    Mqtt,
    /// MQTT on the WebSocket port.
    MqttWs,
    /// A client within this process.
    InProcess,
}

impl ConnectionKind {
    /// The name as configurations and user JWTs write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::WebSocket => "WEBSOCKET",
            Self::Leafnode => "LEAFNODE",
            Self::LeafnodeWs => "LEAFNODE_WS",
            Self::Mqtt => "MQTT",
            Self::MqttWs => "MQTT_WS",
            Self::InProcess => "IN_PROCESS",
        }
    }
}

/// What a TLS handshake has agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFacts {
    /// `1.2` or `1.3`.
    pub version: String,
    /// The name of the cipher suite as Go writes it (`TLS_AES_128_GCM_SHA256`).
    pub cipher_suite: String,
    /// The peer's chain as DER, its own certificate first; empty without one.
    pub peer_certificates: Vec<Vec<u8>>,
    /// The name of the server that the peer asked for.
    pub server_name: Option<String>,
    /// Whether the handshake came before INFO.
    pub is_first: bool,
}

/// What the cookies of a WebSocket upgrade said, by the configured names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cookies {
    /// Of `jwt_cookie`.
    pub jwt: Option<String>,
    /// Of `user_cookie`.
    pub user: Option<String>,
    /// Of `pass_cookie`.
    pub password: Option<String>,
    /// Of `token_cookie`.
    pub token: Option<String>,
}

/// What the transport knows of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransportFacts {
    /// How it came in.
    pub kind: ConnectionKind,
    /// What TLS has agreed on; `None` without TLS.
    pub tls: Option<TlsFacts>,
    /// The cookies of a WebSocket upgrade.
    pub cookies: Cookies,
    /// Who a WebSocket's proxy says it speaks for (`X-Forwarded-For`).
    pub forwarded_for: Option<IpAddr>,
}
