//! What comes from outside, given to the code that reads it first: each target is a function of bytes that panics
//! where a promise is broken. Not the search for inputs: `driver/` has that, `tests/replay.rs` runs the known ones.
//!
//! Beyond "no panic", targets hold what the reader promises: a stream cut anywhere parses like the whole, an index
//! finds what matching says, what is written reads back.

mod backups;
mod config;
mod headers;
mod jetstream;
mod jwt;
mod ocsp;
mod parsers;
mod proxy;
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
    ("proxy", proxy::proxy),
    ("ocsp", ocsp::ocsp),
    ("api_request", jetstream::request),
    ("api_subject", jetstream::subject),
    ("log_command", jetstream::commands),
    ("journal", journal),
    ("store", store),
    ("backup", backups::backup),
    ("words", words::words),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// The first byte says whether a journal's bytes follow or what its records are.
fn journal(data: &[u8]) {
    match data.split_first() {
        Some((kind, bytes)) if kind % 8 == 0 => weir_storage::probe::journal_file(bytes),
        Some((_, bytes)) => weir_storage::probe::journal_records(bytes),
        None => {}
    }
}

/// The first byte says what of a store follows.
fn store(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 3 {
        0 => weir_storage::probe::message_record(bytes),
        1 => weir_storage::probe::store_file(bytes),
        _ => weir_storage::probe::snapshot(bytes),
    }
}
