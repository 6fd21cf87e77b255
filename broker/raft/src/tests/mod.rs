//! Tests of the whole room: groups of several nodes in one process, over loopback, on real journals.

mod bad_disk;
mod cluster;
mod counter;
mod failures;
mod groups;
mod links;
mod memory_log;
mod partitions;
mod power;
mod quiet;
mod suite;
