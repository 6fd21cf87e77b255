//! Bounds of the protocol and nats-server's defaults. Not their enforcement.

/// Default bound of a control line's arguments, in bytes.
pub const DEFAULT_MAX_CONTROL_LINE_BYTES: usize = 4096;
/// Default bound of a message (headers and payload), in bytes.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = 1024 * 1024;
/// Default bound of what waits to be written to one connection, in bytes.
pub const DEFAULT_MAX_PENDING_BYTES: usize = 64 * 1024 * 1024;
/// Default bound of client connections.
pub const DEFAULT_MAX_CONNECTIONS: usize = 64 * 1024;
/// The most arguments any operation of a client has; more is an error.
pub(crate) const MAX_CLIENT_ARGS: usize = 5;
/// A control line between servers may be so many times longer than one of a client.
pub const ROUTE_LINE_FACTOR: usize = 16;
/// The most queue groups one message between servers may name.
pub const MAX_ROUTE_QUEUES: usize = 4096;
