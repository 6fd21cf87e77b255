//! Client connections: what others may know of one (`ClientHandle`), its I/O loop and its session.

mod authenticate;
mod connection;
mod entrance;
mod handle;
mod powers;
mod refuse;
mod replies;
mod session;
mod traced;
mod unread;

pub(crate) use connection::{refuse, run};
pub(crate) use handle::{ClientHandle, ClientState};
pub(crate) use session::Greeting;
