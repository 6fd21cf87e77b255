//! Why connections end, in nats-server's words. Not the ending.

/// Why an outbox takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer went away.
    ClientClosed,
    /// No CONNECT in time.
    AuthenticationTimeout,
    /// Wrong credentials.
    AuthenticationViolation,
    /// The credentials' time is over.
    AuthenticationExpired,
    /// A client that may only come through a proxy came without one.
    ProxyRequired,
    /// A proxy signed with a key that is not trusted.
    ProxyNotTrusted,
    /// More pending bytes than allowed.
    SlowConsumerPendingBytes,
    /// No write succeeded for too long.
    SlowConsumerWriteDeadline,
    /// A write failed.
    WriteError,
    /// A read failed.
    ReadError,
    /// What was sent is no operation.
    ParseError,
    /// What was sent is not allowed here.
    ProtocolViolation,
    /// CONNECT names a protocol that does not exist.
    BadClientProtocolVersion,
    /// PINGs were not answered.
    StaleConnection,
    /// Too many connections.
    MaxConnectionsExceeded,
    /// A message too large.
    MaxPayloadExceeded,
    /// A line too long.
    MaxControlLineExceeded,
    /// `no_responders` without `headers`.
    NoRespondersRequiresHeaders,
    /// The server stops.
    ServerShutdown,
    /// Cut by an operator.
    Kicked,
    /// The credentials are not valid any more.
    CredentialsRevoked,
    /// A route to this server itself or one that exists already.
    DuplicateRoute,
    /// A route of another cluster.
    ClusterNameConflict,
    /// The TLS handshake failed.
    TlsHandshakeError,
    /// It speaks the protocol of another port.
    WrongPort,
    /// Too many connections of one account.
    MaxAccountConnectionsExceeded,
    /// Too many subscriptions.
    MaxSubscriptionsExceeded,
    /// The route is not configured any more.
    RouteRemoved,
    /// A gateway of another name.
    WrongGateway,
    /// The account is not there.
    MissingAccount,
    /// Headers from a client that did not ask for them, or headers that are none.
    MessageHeaderViolation,
    /// A leaf node that is connected already.
    DuplicateRemoteLeafnodeConnection,
    /// An MQTT client of the same id came.
    DuplicateClientId,
    /// Another server of the same name.
    DuplicateServerName,
    /// A server that is too old.
    MinimumVersionRequired,
    /// A leaf node of a cluster of the same name.
    ClusterNamesIdentical,
    /// A fault of this server.
    InternalError,
}

impl CloseReason {
    /// The text that nats-server shows.
    pub fn text(self) -> &'static str {
        match self {
            Self::ClientClosed => "Client Closed",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::AuthenticationViolation => "Authentication Failure",
            Self::AuthenticationExpired => "Authentication Expired",
            Self::ProxyRequired => "Proxy Required",
            Self::ProxyNotTrusted => "Proxy Not Trusted",
            Self::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            Self::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            Self::WriteError => "Write Error",
            Self::ReadError => "Read Error",
            Self::ParseError => "Parse Error",
            Self::ProtocolViolation => "Protocol Violation",
            Self::BadClientProtocolVersion => "Bad Client Protocol Version",
            Self::StaleConnection => "Stale Connection",
            Self::MaxConnectionsExceeded => "Maximum Connections Exceeded",
            Self::MaxPayloadExceeded => "Maximum Message Payload Exceeded",
            Self::MaxControlLineExceeded => "Maximum Control Line Exceeded",
            Self::NoRespondersRequiresHeaders => "No Responders Requires Headers",
            Self::ServerShutdown => "Server Shutdown",
            Self::Kicked => "Kicked",
            Self::CredentialsRevoked => "Credentials Revoked",
            Self::DuplicateRoute => "Duplicate Route",
            Self::ClusterNameConflict => "Cluster Name Conflict",
            Self::TlsHandshakeError => "TLS Handshake Failure",
            Self::WrongPort => "Incorrect Port",
            Self::MaxAccountConnectionsExceeded => "Maximum Account Connections Exceeded",
            Self::MaxSubscriptionsExceeded => "Maximum Subscriptions Exceeded",
            Self::RouteRemoved => "Route Removed",
            Self::WrongGateway => "Wrong Gateway",
            Self::MissingAccount => "Missing Account",
            Self::MessageHeaderViolation => "Message Header Violation",
            Self::DuplicateRemoteLeafnodeConnection => "Duplicate Remote LeafNode Connection",
            Self::DuplicateClientId => "Duplicate Client ID",
            Self::DuplicateServerName => "Duplicate Server Name",
            Self::MinimumVersionRequired => "Minimum Version Required",
            Self::ClusterNamesIdentical => "Cluster Names Identical",
            Self::InternalError => "Internal Client",
        }
    }

    /// The status with which a WebSocket is closed (RFC 6455 section 7.4.1), as nats-server chooses it.
    pub(crate) fn websocket_status(self) -> u16 {
        match self {
            Self::ClientClosed => 1000,
            Self::WriteError | Self::ReadError | Self::StaleConnection | Self::ServerShutdown => 1001,
            Self::ParseError | Self::ProtocolViolation | Self::BadClientProtocolVersion => 1002,
            Self::AuthenticationTimeout
            | Self::AuthenticationViolation
            | Self::AuthenticationExpired
            | Self::SlowConsumerPendingBytes
            | Self::SlowConsumerWriteDeadline
            | Self::MaxConnectionsExceeded
            | Self::MaxAccountConnectionsExceeded
            | Self::MaxSubscriptionsExceeded
            | Self::MissingAccount
            | Self::MaxControlLineExceeded
            | Self::CredentialsRevoked => 1008,
            Self::MaxPayloadExceeded => 1009,
            Self::TlsHandshakeError => 1015,
            _ => 1011,
        }
    }

    /// Whether the connection was cut because it did not read fast enough.
    pub fn is_slow_consumer(self) -> bool {
        matches!(self, Self::SlowConsumerPendingBytes | Self::SlowConsumerWriteDeadline)
    }

    /// Whether what waits is still worth writing before the socket is closed.
    pub(crate) fn flushes(self) -> bool {
        !matches!(
            self,
            Self::ClientClosed
                | Self::SlowConsumerPendingBytes
                | Self::SlowConsumerWriteDeadline
                | Self::WriteError
                | Self::ReadError
                | Self::InternalError
                | Self::TlsHandshakeError
        )
    }
}
