//! The meta state on this server: its log, how the meta group comes about, and what its leader does.

pub(crate) mod forming;
pub(crate) mod group;
pub(crate) mod leader;
pub(crate) mod quarantine;
pub(crate) mod reconcile;
pub(crate) mod state;
