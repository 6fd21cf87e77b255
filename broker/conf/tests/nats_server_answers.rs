//! Each configuration of `golden.json` gets the answer that nats-server 2.15.1 gave with `-t -c`,
//! digest or complaint. Where we mean to differ, the table below says why.

use weir_conf::{Invocation, MemorySources};

const FILE: &str = "golden.conf";

/// Configurations that we answer otherwise, with the reason.
const DEVIATIONS: &[(&str, &str)] = &[
    ("server_metadata { a }", "the reference loses the map a key without a value is in"),
    ("port: 1e", "the reference keeps a port that no address can have"),
    ("port: 2kbb", "the reference drops a number with an unknown unit"),
];

#[derive(Debug)]
struct Case {
    config: String,
    answer: String,
}

fn cases() -> Vec<Case> {
    let text = include_str!("golden.json");
    let parsed: serde_json::Value = serde_json::from_str(text).expect("golden.json is JSON");
    let field = |case: &serde_json::Value, name: &str| case[name].as_str().expect("text").to_owned();
    let cases = parsed.as_array().expect("an array").iter();
    cases.map(|case| Case { config: field(case, "config"), answer: field(case, "answer") }).collect()
}

fn answer(config: &str) -> String {
    let mut sources = MemorySources::default();
    sources.files.insert(FILE.to_owned(), config.to_owned());
    let arguments = ["-t", "-c", FILE].map(str::to_owned);
    match Invocation::from_args(&arguments, &sources) {
        Ok(Invocation::ConfigIsValid { file, digest, .. }) => {
            format!("configuration file {file} is valid ({digest})")
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn answers_are_those_of_nats_server() {
    let mut different = Vec::new();
    for case in cases() {
        if DEVIATIONS.iter().any(|(config, _)| *config == case.config) {
            continue;
        }
        let ours = answer(&case.config);
        if ours != case.answer {
            different.push(format!("{:?}\n  theirs {:?}\n  ours   {ours:?}", case.config, case.answer));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn deviations_still_deviate() {
    for case in cases() {
        if DEVIATIONS.iter().any(|(config, _)| *config == case.config) {
            assert_ne!(answer(&case.config), case.answer, "no longer a deviation: {:?}", case.config);
        }
    }
}
