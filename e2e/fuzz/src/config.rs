//! The configuration language with all that is made of it, and the command line.

use std::collections::BTreeMap;
use weir_conf::{Invocation, MemorySources, parse_text};

/// A file, which may include itself and another.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let sources = MemorySources {
        files: BTreeMap::from([
            ("main.conf".to_owned(), text.clone()),
            ("part.conf".to_owned(), "part { a: 1, b: [x, 'y', $HOME] }\n".to_owned()),
        ]),
        variables: BTreeMap::from([
            ("HOME".to_owned(), "/home/x".to_owned()),
            ("N".to_owned(), "7".to_owned()),
        ]),
    };
    // Most inputs are no configuration: those cost one reading only.
    if parse_text(&text, &sources).is_err() {
        return;
    }
    let mode: &[&str] =
        if data.len().is_multiple_of(2) { &["-c", "main.conf"] } else { &["-t", "-c", "main.conf"] };
    let arguments: Vec<String> = mode.iter().map(|word| (*word).to_owned()).collect();
    if let Err(error) = Invocation::from_args(&arguments, &sources) {
        let _ = error.to_string();
    }
}

/// One argument a line.
pub(crate) fn command_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let arguments: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let files = BTreeMap::from([("f".to_owned(), "port: 4333\n".to_owned())]);
    let sources = MemorySources { files, variables: BTreeMap::new() };
    if let Err(error) = Invocation::from_args(&arguments, &sources) {
        let _ = error.to_string();
    }
}
