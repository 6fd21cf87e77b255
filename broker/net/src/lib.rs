//! Transports: one socket with what lies on it (nothing, TLS, WebSocket), read and written without blocking.
//!
//! It is not: what the bytes mean, who may connect, when to write.

mod codec;
mod facts;
mod layers;
pub mod ocsp;
mod proxy;
mod s2;
pub mod tls;
mod transport;
pub mod websocket;

pub use codec::{Codec, Farewell, Taken, gather};
pub use facts::{ConnectionKind, Cookies, TlsFacts, TransportFacts};
pub use proxy::{Fronted, ProxyError, ProxyReader, ProxyStep};
pub use s2::{S2Codec, S2Control, S2Level};
pub use tokio::io::{Interest, Ready};
pub use transport::Transport;
