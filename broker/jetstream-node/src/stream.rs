//! Streams on this server: their replicas, and what the leader of one does.

pub(crate) mod acks;
pub(crate) mod delivery;
pub(crate) mod gathering;
pub(crate) mod growth;
pub(crate) mod ingest;
pub(crate) mod input;
pub(crate) mod leader;
pub(crate) mod maintenance;
pub(crate) mod membership;
pub(crate) mod quarantine;
pub(crate) mod replica;
pub(crate) mod room;
pub(crate) mod scheduler;
pub(crate) mod scrub;
pub(crate) mod sourcing;
pub(crate) mod state;
pub(crate) mod store;
