//! NATS' wire protocol, sans-io: parsing what clients and servers send, encoding what they are sent.
//!
//! It is not: sockets, sessions or the meaning of an operation (weir-hub, weir-topology).

mod args;
mod client;
mod connect;
pub mod encode;
mod error;
mod headers;
mod info;
pub mod limits;
mod route;

pub use client::{ClientOp, ClientParser, Publish};
pub use connect::{ConnectOptions, RouteConnect};
pub use error::{ParseError, err};
pub use headers::{HeaderBlock, HeaderBuilder, HeaderIter};
pub use info::{ImportExport, Info};
pub use route::{RouteMessage, RouteOp, RouteParser};

/// What a parser makes of the bytes it was given.
#[derive(Debug)]
pub enum Parsed<T> {
    /// One complete operation, and how many bytes it took.
    Op(T, usize),
    /// The operation goes on. `total` is its length when it is known already, else 0.
    Incomplete {
        /// The operation's length in bytes from its first byte, or 0 while unknown.
        total: usize,
    },
}
