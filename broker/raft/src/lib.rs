//! Room weir-raft.
