//! The hub: accounts, interest, routing of core messages, outboxes and client sessions.
//!
//! It is not: the wire codec (weir-proto), subject algebra (weir-subject), routes between servers
//! (weir-topology registers itself here as `Peer`s and an `InterestListener`), or JetStream.

mod account;
mod account_settings;
mod accounts;
mod auth;
mod buffer;
mod client;
mod close_reason;
mod counters;
mod deferred;
mod encoding;
mod entrance;
mod exchange;
mod hub;
mod ingress;
mod interest;
mod message;
mod message_trace;
mod observer;
mod options;
mod outbox;
mod peer;
mod permissions;
mod reserved;
mod slow;
mod snapshot;
mod subscription;
pub mod trace;
mod websocket;

pub use account::{Account, AccountTraffic, InternalHandler, InternalSubscription};
pub use account_settings::{
    AccountError, AccountLimits, AccountSettings, ActivationCheck, ActivationRequest, ExchangeKind, Export,
    ExportAccess, Import, LatencyConfig, MappingConfig, MappingDestination, MessageTraceSettings,
    ResponseType,
};
pub use auth::{
    Authenticator, ConnectionLimits, Credentials, Decision, Identity, OpenDoor, Principal, Refusal, Review,
    Verdict, is_bcrypt, verify,
};
pub use close_reason::CloseReason;
pub use counters::Counters;
pub use deferred::write_deferred;
pub use encoding::encoded;
pub use entrance::Entrance;
pub use hub::{Hub, new_nonce};
pub use ingress::Held;
pub use message::{Inbound, Origin, OutboundMessage};
pub use message_trace::MessageTrace;
pub use observer::Observer;
pub use options::{HubOptions, Limits, new_server_id};
pub use outbox::{Appended, Counted, Outbox, Pressure};
pub use peer::{InterestListener, LocalInterest, Peer, PeerIngress, PeerMessage};
pub use permissions::{Permissions, ResponsePermission, Rule, RuleSet};
pub use slow::{Late, Slow};
pub use snapshot::{ConnectionRights, ConnectionSnapshot, SubscriptionSnapshot};
pub use subscription::Subscription;
pub use trace::show_in_traces;
pub use websocket::WebSocketEntrance;
pub use weir_net::{ConnectionKind, Cookies, TlsFacts, TransportFacts};

/// The name of the account that clients belong to when nothing else is configured.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// The name of the default system account.
pub const SYSTEM_ACCOUNT: &str = "$SYS";
