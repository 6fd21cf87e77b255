//! What can be wrong with what was sent, and the texts of `-ERR`. Not when to send them.

use std::fmt;

/// The texts of `-ERR`, as nats-server sends them.
pub mod err {
    /// An operation that is not part of the protocol.
    pub const UNKNOWN_OPERATION: &str = "Unknown Protocol Operation";
    /// Credentials missing or wrong.
    pub const AUTHORIZATION: &str = "Authorization Violation";
    /// No CONNECT in time.
    pub const AUTHENTICATION_TIMEOUT: &str = "Authentication Timeout";
    /// The user's time is over.
    pub const AUTHENTICATION_EXPIRED: &str = "User Authentication Expired";
    /// The account's time is over.
    pub const ACCOUNT_AUTHENTICATION_EXPIRED: &str = "Account Authentication Expired";
    /// No PONG for too many PINGs.
    pub const STALE_CONNECTION: &str = "Stale Connection";
    /// A message larger than max_payload.
    pub const MAX_PAYLOAD: &str = "Maximum Payload Violation";
    /// A subject that cannot be subscribed to.
    pub const INVALID_SUBJECT: &str = "Invalid Subject";
    /// A subject that cannot be published to.
    pub const INVALID_PUBLISH_SUBJECT: &str = "Invalid Publish Subject";
    /// An argument line longer than max_control_line.
    pub const MAX_CONTROL_LINE: &str = "maximum control line exceeded";
    /// One connection too many.
    pub const MAX_CONNECTIONS: &str = "maximum connections exceeded";
    /// The account has as many connections as it may have.
    pub const MAX_ACCOUNT_CONNECTIONS: &str = "maximum account active connections exceeded";
    /// One subscription too many.
    pub const MAX_SUBSCRIPTIONS: &str = "maximum subscriptions exceeded";
    /// A `protocol` in CONNECT that does not exist.
    pub const INVALID_CLIENT_PROTOCOL: &str = "invalid client protocol";
    /// `no_responders` without `headers`.
    pub const NO_RESPONDERS_NEEDS_HEADERS: &str = "no responders requires headers support";
    /// A client on the port for routes.
    pub const CLIENT_ON_ROUTE_PORT: &str = "attempted to connect to route port";
}

/// Why bytes cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// Not an operation of this protocol, or a payload that does not end where it should.
    UnknownOperation,
    /// An operation whose arguments are wrong; says which.
    BadArguments(&'static str),
    /// An argument line longer than the limit.
    ControlLineTooLong,
    /// A message larger than the limit.
    PayloadTooLarge {
        /// Its announced size in bytes.
        size: u64,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOperation => formatter.write_str("unknown protocol operation"),
            Self::BadArguments(what) => write!(formatter, "bad arguments: {what}"),
            Self::ControlLineTooLong => formatter.write_str("maximum control line exceeded"),
            Self::PayloadTooLarge { size } => write!(formatter, "payload of {size} bytes is too large"),
        }
    }
}

impl std::error::Error for ParseError {}
