//! Looks at, and repairs, the store of a server that is stopped. What a server would find is found by the very code
//! that it starts with, on a disk that keeps what is written in memory. Not for a store that is in use: it is refused.

mod check;
mod journal;
mod layout;
mod open;
mod repair;
mod replay;
mod report;

pub use check::check;
pub use repair::{RepairMode, RepairReport, RepairedStream, repair};
pub(crate) use repair::{past_losses, refuse_unfinished};
pub use report::{CannotCheck, CheckReport, Finding, StreamReport};
