//! The server: assembly and lifecycle.
//!
//! What it is: it starts the rooms in order, connects them, writes nats-server's log lines and files,
//! and obeys signals. What it is not: it serves no protocol itself.

mod account_view;
mod accounts;
mod app;
mod authenticator;
mod cluster;
mod doors;
mod entrance;
mod files;
mod https;
mod identity;
mod jetstream;
mod lifecycle;
mod listen;
mod log;
mod machine;
mod monitoring;
mod ocsp;
mod reload;
mod resolver;
mod served;
mod server_block;
mod settings;
mod signal_command;
mod signals;
mod startup;
mod store_command;
mod system;

pub use app::main;

/// The version of nats-server that clients may rely on: they switch features on by it.
const COMPATIBLE_VERSION: &str = "2.15.1";

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The reason of an I/O error in Go's words for the common ones.
fn io_reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "is a directory".to_owned(),
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        ErrorKind::AddrInUse => "address already in use".to_owned(),
        ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        _ => error.to_string(),
    }
}
