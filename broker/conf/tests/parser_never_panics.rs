//! Whatever the text, the parser answers.

use proptest::prelude::*;
use weir_conf::{MemorySources, format_duration, parse_duration, parse_text};

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,200}") {
        let _ = parse_text(&text, &MemorySources::default());
    }

    #[test]
    fn text_of_the_language_is_parsed_or_refused(
        text in "([a-c$1-9.{}\\[\\]:=,;'\"()#/\\\\ \n-]|include |true|1k){0,60}"
    ) {
        let _ = parse_text(&text, &MemorySources::default());
    }

    #[test]
    fn durations_survive_being_printed(nanos in 0u64..9_000_000_000_000_000) {
        let duration = std::time::Duration::from_nanos(nanos);
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
}

#[test]
fn nesting_without_end_is_refused() {
    let text = "a{".repeat(100_000);
    assert!(parse_text(&text, &MemorySources::default()).is_err());
}

#[test]
fn variables_that_multiply_without_end_are_refused() {
    let mut text = "a0: [1k, 2k]\n".replace("[1k, 2k]", "[x, y]");
    for level in 1..40 {
        let below = level - 1;
        text += &format!("a{level}: [$a{below}, $a{below}]\n");
    }
    assert!(parse_text(&text, &MemorySources::default()).is_err());
}

#[test]
fn includes_that_multiply_without_end_are_refused() {
    let mut sources = MemorySources::default();
    for level in 0..60 {
        let next = level + 1;
        sources.files.insert(format!("f{level}"), format!("include f{next}\ninclude f{next}\n"));
    }
    sources.files.insert("f60".to_owned(), "a: 1\n".to_owned());
    assert!(parse_text("include f0\n", &sources).is_err());
}

#[test]
fn a_variable_that_is_itself_is_refused() {
    let mut sources = MemorySources::default();
    sources.variables.insert("A".to_owned(), "$A".to_owned());
    assert!(parse_text("b: $A", &sources).is_err());
}

#[test]
fn a_file_that_includes_itself_is_refused() {
    let mut sources = MemorySources::default();
    sources.files.insert("x".to_owned(), "include x\n".to_owned());
    assert!(parse_text("include x\n", &sources).is_err());
}
