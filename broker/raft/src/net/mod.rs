//! How groups talk: lanes (one stream a peer pair and purpose, all groups on it), snapshots, and the
//! service that answers them. Knows Raft's messages, not their meaning.

pub(crate) mod auth;
pub(crate) mod client;
pub(crate) mod dial;
pub(crate) mod lane;
pub(crate) mod messages;
pub(crate) mod peers;
pub(crate) mod server;
pub(crate) mod sessions;
pub(crate) mod snapshot_receive;
pub(crate) mod snapshot_send;
