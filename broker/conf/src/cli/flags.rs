//! Go's flag syntax: `-x`, `--x`, `-x=v`, `-x v`; switches take a value only after `=`.

use std::collections::BTreeMap;

/// The flags as given, by the first name of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    values: BTreeMap<&'static str, String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    Number,
    Text,
}

use Kind::{Number, Switch, Text};

/// Each flag: its names (the first one is its key) and what it takes.
const FLAGS: &[(&[&str], Kind)] = &[
    (&["h", "help"], Switch),
    (&["p", "port"], Number),
    (&["n", "name", "server_name"], Text),
    (&["a", "addr", "net"], Text),
    (&["client_advertise"], Text),
    (&["D", "debug"], Switch),
    (&["V", "trace"], Switch),
    (&["VV"], Switch),
    (&["DV"], Switch),
    (&["DVV"], Switch),
    (&["T", "logtime"], Switch),
    (&["logtime_utc"], Switch),
    (&["user"], Text),
    (&["pass"], Text),
    (&["auth"], Text),
    (&["m", "http_port"], Number),
    (&["ms", "https_port"], Number),
    (&["c", "config"], Text),
    (&["t"], Switch),
    (&["sl", "signal"], Text),
    (&["P", "pid"], Text),
    (&["ports_file_dir"], Text),
    (&["l", "log"], Text),
    (&["log_size_limit"], Number),
    (&["s", "syslog"], Switch),
    (&["r", "remote_syslog"], Text),
    (&["v", "version"], Switch),
    (&["profile"], Number),
    (&["routes"], Text),
    (&["cluster", "cluster_listen"], Text),
    (&["cluster_advertise"], Text),
    (&["no_advertise"], Switch),
    (&["connect_retries"], Number),
    (&["cluster_name"], Text),
    (&["help_tls"], Switch),
    (&["tls"], Switch),
    (&["tlsverify"], Switch),
    (&["tlscert"], Text),
    (&["tlskey"], Text),
    (&["tlscacert"], Text),
    (&["max_traced_msg_len"], Number),
    (&["js", "jetstream"], Switch),
    (&["sd", "store_dir"], Text),
    (&["weir_grpc"], Text),
    (&["cluster_secret_file"], Text),
];

impl Flags {
    /// Reads the flags up to the first word that is none (or `--`); gives the words after them. The
    /// errors are Go's.
    pub(super) fn parse(arguments: &[String]) -> Result<(Self, Vec<String>), String> {
        let mut flags = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.clone().next() {
            if argument == "--" {
                rest.next();
                break;
            }
            let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
                break;
            };
            rest.next();
            let body = body.strip_prefix('-').unwrap_or(body);
            if body.is_empty() || body.starts_with(['-', '=']) {
                return Err(format!("bad flag syntax: {argument}"));
            }
            let (name, inline) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let Some((names, kind)) = FLAGS.iter().find(|(names, _)| names.contains(&name)) else {
                return Err(format!("flag provided but not defined: -{name}"));
            };
            let value = match (kind, inline) {
                (Switch, inline) => switch(name, inline)?.to_string(),
                (_, Some(value)) => value,
                (_, None) => rest.next().cloned().ok_or(format!("flag needs an argument: -{name}"))?,
            };
            if *kind == Number {
                check_number(name, &value)?;
            }
            flags.values.insert(names[0], value);
        }
        Ok((flags, rest.cloned().collect()))
    }

    /// The value of a flag, when given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of a number flag, when given.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(go_integer)
    }

    /// The value of a switch, when given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value == "true")
    }

    /// The switch is given and on.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.switch(name) == Some(true)
    }
}

fn switch(name: &str, inline: Option<String>) -> Result<bool, String> {
    match inline.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("invalid boolean value {other:?} for -{name}: parse error")),
    }
}

fn check_number(name: &str, value: &str) -> Result<(), String> {
    match go_integer(value) {
        Some(_) => Ok(()),
        None => Err(format!("invalid value {value:?} for flag -{name}: parse error")),
    }
}

/// An integer as Go's flags take it: with a sign, and in base 16, 8 or 2 by its prefix.
fn go_integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(digits, radix).ok()?.checked_mul(sign)
}
