//! What comes from outside, given to the code that reads it first: each target is a function of bytes that panics
//! where a promise is broken. Not the search for inputs: `driver/` has that, `tests/replay.rs` runs the known ones.
//!
//! Beyond "no panic", targets hold what the reader promises: a stream cut anywhere parses like the whole, an index
//! finds what matching says, what is written reads back.

mod config;
mod headers;
mod jwt;
mod parsers;
mod subjects;
mod websocket;
mod words;

/// A target: reads the bytes, panics where a promise is broken.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("client", parsers::client),
    ("route", parsers::route),
    ("connect", parsers::connect),
    ("headers", headers::headers),
    ("config", config::config),
    ("command_line", config::command_line),
    ("subjects", subjects::subjects),
    ("transform", subjects::transform),
    ("jwt", jwt::claims),
    ("token", jwt::token),
    ("websocket", websocket::frames),
    ("upgrade", websocket::upgrade),
    ("words", words::words),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
