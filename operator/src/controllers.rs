//! One controller a kind.
pub mod cluster;
