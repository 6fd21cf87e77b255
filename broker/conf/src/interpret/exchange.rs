//! `exports` and `imports` of an account. Whether they fit together is checked when all accounts are
//! known.

use super::permissions::is_valid_subject;
use crate::{
    options::{ExchangeKind, ExportConfig, ImportConfig, LatencyConfig, ResponseType},
    read::Reader,
    value::{Map, Node, Value},
};

pub(super) fn exports(reader: &mut Reader<'_>, node: &Node) -> Vec<ExportConfig> {
    let Value::Array(items) = &node.value else {
        let kind = node.value.go_type();
        reader.error(node, format!("Exports should be an array, got {kind}"));
        return Vec::new();
    };
    items.iter().filter_map(|item| export(reader, item)).collect()
}

fn export(reader: &mut Reader<'_>, node: &Node) -> Option<ExportConfig> {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        reader.error(node, format!("Export Items should be a map with type entry, got {kind}"));
        return None;
    }
    let mut export = ExportConfig {
        kind: ExchangeKind::Stream,
        subject: String::new(),
        accounts: None,
        response_type: ResponseType::Singleton,
        response_threshold: None,
        latency: None,
        account_token_position: 0,
        allow_trace: false,
    };
    let mut kind = None;
    // Directives that only services know: what they are called, and where.
    let mut for_services: Vec<(&str, &Node)> = Vec::new();
    for (key, node) in reader.entries(node)? {
        let name = key.to_lowercase();
        match name.as_str() {
            "stream" | "service" => {
                let other = if name == "stream" { "service" } else { "stream" };
                if kind.is_some() {
                    let shown = node.shown();
                    let message = format!("Detected {name} {shown:?} but already saw a {other}");
                    reader.error(node, message);
                    continue;
                }
                let Some(subject) = node.as_str() else {
                    let found = node.value.go_type();
                    reader.error(node, format!("Expected {name} name to be string, got {found}"));
                    continue;
                };
                subject.clone_into(&mut export.subject);
                kind = Some(if name == "stream" { ExchangeKind::Stream } else { ExchangeKind::Service });
            }
            "accounts" => {
                let names = reader.array(node).unwrap_or_default();
                let names: Vec<String> = names.iter().filter_map(|item| reader.string(item)).collect();
                export.accounts = (!names.is_empty()).then_some(names);
            }
            "account_token_position" => {
                let position = reader.integer(node).unwrap_or(0);
                export.account_token_position = usize::try_from(position).unwrap_or(usize::MAX);
            }
            "response" | "response_type" => {
                for_services.push(("response", node));
                export.response_type = response_type(reader, node).unwrap_or_default();
            }
            "threshold" | "response_threshold" | "response_max_time" | "response_time" => {
                for_services.push(("response", node));
                export.response_threshold = response_threshold(reader, node);
            }
            "latency" => {
                for_services.push(("latency", node));
                export.latency = latency(reader, node);
            }
            "allow_trace" => {
                for_services.push(("allow_trace", node));
                export.allow_trace = reader.boolean(node).unwrap_or(false);
            }
            _ => reader.unknown(key, node),
        }
    }
    export.kind = kind?;
    if export.kind == ExchangeKind::Stream
        && let Some((what, node)) = for_services.first()
    {
        reader.error(node, format!("Detected {what} directive on non-service"));
    }
    Some(export)
}

fn response_type(reader: &mut Reader<'_>, node: &Node) -> Option<ResponseType> {
    let Some(text) = node.as_str() else {
        let kind = node.value.go_type();
        reader.error(node, format!("Expected response type to be string, got {kind}"));
        return None;
    };
    match text.to_lowercase().as_str() {
        "single" | "singleton" => Some(ResponseType::Singleton),
        "stream" => Some(ResponseType::Stream),
        "chunk" | "chunked" => Some(ResponseType::Chunked),
        _ => {
            reader.error(node, format!("Unknown response type: {text:?}"));
            None
        }
    }
}

fn response_threshold(reader: &mut Reader<'_>, node: &Node) -> Option<std::time::Duration> {
    let expected = "Expected response threshold to be a parseable time duration, got";
    let Some(text) = node.as_str() else {
        let kind = node.value.go_type();
        reader.error(node, format!("{expected} {kind}"));
        return None;
    };
    match crate::parse_duration(text) {
        Ok(threshold) => Some(threshold).filter(|threshold| !threshold.is_zero()),
        Err(_) => {
            reader.error(node, format!("{expected} {text:?}"));
            None
        }
    }
}

fn latency(reader: &mut Reader<'_>, node: &Node) -> Option<LatencyConfig> {
    let map = match &node.value {
        Value::String(subject) => return Some(LatencyConfig { sampling: 100, subject: subject.clone() }),
        Value::Map(map) => map,
        other => {
            let kind = other.go_type();
            reader.error(node, format!("Expected latency entry to be a map/struct or string, got {kind}"));
            return None;
        }
    };
    let sampling = match map.get("sampling") {
        Some(node) => sampling(reader, node)?,
        None => 100,
    };
    let Some(subject) = map.get("subject") else {
        reader.error(node, "Latency subject required, but missing");
        return None;
    };
    match subject.as_str() {
        Some(text) => Some(LatencyConfig { sampling, subject: text.to_owned() }),
        None => {
            // The reference shows the type it wanted.
            reader.error(subject, "Expected latency subject to be a string, got string");
            None
        }
    }
}

fn sampling(reader: &mut Reader<'_>, node: &Node) -> Option<u8> {
    let number = match &node.value {
        Value::Integer(number) => *number,
        Value::String(text) if text.trim().eq_ignore_ascii_case("headers") => return Some(0),
        Value::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or(text);
            match digits.parse::<i64>() {
                Ok(number) => number,
                Err(_) => {
                    let message = format!(
                        "Failed to parse latency sample: strconv.Atoi: parsing {digits:?}: invalid syntax"
                    );
                    reader.error(node, message);
                    return None;
                }
            }
        }
        other => {
            let kind = other.go_type();
            reader.error(node, format!("Expected latency sample to be a string or map/struct, got {kind}"));
            return None;
        }
    };
    let percent = u8::try_from(number).ok().filter(|percent| (1..=100).contains(percent));
    if percent.is_none() {
        reader.error(node, "bad sampling percentage, should be 1-100");
    }
    percent
}

pub(super) fn imports(reader: &mut Reader<'_>, node: &Node) -> Vec<ImportConfig> {
    let Value::Array(items) = &node.value else {
        let kind = node.value.go_type();
        reader.error(node, format!("Imports should be an array, got {kind}"));
        return Vec::new();
    };
    let mut imports: Vec<ImportConfig> = Vec::new();
    for item in items {
        let Some(import) = import(reader, item) else { continue };
        let local = import.to.as_ref().unwrap_or(&import.subject);
        let same = imports.iter().find(|other| {
            import.kind == ExchangeKind::Service
                && other.kind == ExchangeKind::Service
                && other.account == import.account
                && other.to.as_ref().unwrap_or(&other.subject) == local
        });
        if let Some(other) = same {
            let (account, subject) = (&other.account, &other.subject);
            let message = format!(
                "Duplicate service import subject {local:?}, previously used in import for account {account:?}, subject {subject:?}"
            );
            reader.error(item, message);
            continue;
        }
        imports.push(import);
    }
    imports
}

fn import(reader: &mut Reader<'_>, node: &Node) -> Option<ImportConfig> {
    if node.as_map().is_none() {
        let kind = node.value.go_type();
        reader.error(node, format!("Import Items should be a map with type entry, got {kind}"));
        return None;
    }
    let mut source: Option<(ExchangeKind, String, String)> = None;
    let (mut to, mut prefix, mut share, mut traced) = (None, None, false, None);
    for (key, node) in reader.entries(node)? {
        let name = key.to_lowercase();
        let named = |text: Option<String>| text.filter(|text| !text.is_empty());
        match name.as_str() {
            "stream" | "service" if source.is_some() => {
                let other = if name == "stream" { "service" } else { "stream" };
                reader.error(node, format!("Detected {name} but already saw a {other}"));
            }
            "stream" => source = origin(reader, ExchangeKind::Stream, "Stream", node),
            "service" => source = origin(reader, ExchangeKind::Service, "Service", node),
            "prefix" => prefix = named(reader.string(node)),
            "to" => {
                to = named(reader.string(node));
                let stream = source.as_ref().is_some_and(|(kind, ..)| *kind == ExchangeKind::Stream);
                if stream && prefix.is_some() {
                    let message = "Stream import can not have a 'prefix' and a 'to' property";
                    reader.error(node, message);
                }
            }
            "share" => share = reader.boolean(node).unwrap_or(false),
            "allow_trace" => traced = reader.boolean(node).map(|on| (on, node)),
            _ => reader.unknown(key, node),
        }
    }
    let (kind, account, subject) = source?;
    if kind == ExchangeKind::Service
        && let Some((_, node)) = traced
    {
        reader.error(node, "Detected allow_trace directive on a non-stream");
    }
    if kind == ExchangeKind::Service {
        prefix = None;
    }
    let allow_trace = traced.is_some_and(|(on, _)| on);
    // A prefix beats another subject, as in the reference.
    let to = if prefix.is_some() { None } else { to };
    Some(ImportConfig { kind, account, subject, to, prefix, share, allow_trace })
}

fn origin(
    reader: &mut Reader<'_>,
    kind: ExchangeKind,
    word: &str,
    node: &Node,
) -> Option<(ExchangeKind, String, String)> {
    let Some(map) = node.as_map() else {
        let found = node.value.go_type();
        reader.error(node, format!("{word} entry should be an account map, got {found}"));
        return None;
    };
    let (account, subject) = account_and_subject(reader, map);
    if account.is_empty() || subject.is_empty() {
        reader.error(node, "Expect an account name and a subject");
        return None;
    }
    Some((kind, account, subject))
}

fn account_and_subject(reader: &mut Reader<'_>, map: &Map) -> (String, String) {
    let (mut account, mut subject) = (String::new(), String::new());
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "account" => account = reader.string(node).unwrap_or_default(),
            "subject" => subject = reader.string(node).unwrap_or_default(),
            _ => reader.unknown(key, node),
        }
    }
    (account, subject)
}

/// An exported subject may be imported by its own words or by a narrower pattern.
pub(super) fn is_usable(subject: &str) -> bool {
    is_valid_subject(subject)
}
