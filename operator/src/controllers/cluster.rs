//! The Cluster controller: dereference (I/O), validate, build (both pure), apply, status.
pub mod build;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod names;
pub mod validate;
