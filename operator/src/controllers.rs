//! One controller a kind.
pub mod cluster;
pub mod jetstream;
