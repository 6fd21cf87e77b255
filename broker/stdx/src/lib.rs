//! Small extensions of the standard library that know nothing of messaging: instants in nanoseconds,
//! Go's duration and time texts, ids, a seedable random generator.
//! Nothing here reads a clock, opens a file or draws randomness by itself.

pub mod duration;
pub mod id;
pub mod quote;
pub mod rng;
pub mod time;
