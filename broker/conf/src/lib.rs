//! The NATS configuration language, the command line, and the typed options they give.
//!
//! What it is: a parser that keeps the position of every value, a reader that turns the tree into
//! [`Options`] with nats-server's own error texts, and the Go-style flags.
//! What it is not: it opens no sockets, applies nothing, and reads the environment and files only
//! through [`Sources`].

mod advertise;
mod bytesize;
mod cli;
mod digest;
mod duration;
mod error;
mod interpret;
mod keys;
mod number;
mod options;
mod parse;
mod read;
mod scan;
mod sources;
mod url;
mod usage;
mod validate;
mod value;

pub use advertise::advertised;
pub use bytesize::friendly_bytes;
pub use cli::{Flags, Invocation, Persona, RunRequest, SignalCommand, SignalRequest, UsageError};
pub use duration::parse_duration;
pub use error::{ConfError, ConfErrors};
pub use options::{
    AccountConfig, AccountJetStream, AccountLimits, AuthCallout, BatchOptions, CertPair, ClusterOptions,
    CompressionMode, CompressionOptions, ExchangeKind, ExportConfig, HandshakeFirst, ImportConfig,
    JetStreamOptions, LatencyConfig, MappingConfig, MappingDestination, MessageTrace, OcspCache, OcspMode,
    OcspOptions, OcspPeerOptions, OperatorOptions, Options, Permissions, Resolver, ResponsePermission,
    ResponseType, RoutePermissions, Secret, StoreCipher, StoreEncryption, SubjectPermission, SyncPolicy,
    TlsOptions, TlsVersion, TrustedProxy, Unserved, UserConfig, WebSocketOptions, WeirOptions,
    WriteTimeoutPolicy,
};
pub use parse::{Document, parse_file, parse_text};
pub use sources::{MemorySources, Sources, SystemSources};
pub use url::Url;
pub use usage::{TLS_HELP, usage_text};
pub use value::{Map, Node, Value};
pub use weir_stdx::duration::format_duration;
