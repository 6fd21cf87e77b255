//! Consumers: the replicated state and its events, and the leader's delivery machine.

mod delivery;
mod effect;
mod state;

pub use delivery::{ConsumerDelivery, Progress, Setting, StopReason, subject_scope};
pub use effect::{Delivery, Effect};
pub use state::{Candidate, ConsumerEvent, ConsumerState, Pending, Position};
