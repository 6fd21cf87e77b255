//! The stores against a simple model, with reopening, crashes, damage and snapshots.

mod coded;
mod crash;
mod damage;
mod model;
mod random;
