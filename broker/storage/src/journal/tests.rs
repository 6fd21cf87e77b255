//! The journal against a model: what was promised must be there after every crash, and nothing else.

mod crash;
mod damage;
mod faults;
mod model;
mod plain;
mod sealed;
