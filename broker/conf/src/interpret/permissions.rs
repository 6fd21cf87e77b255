//! `permissions` of users, of accounts and of routes.

use std::time::Duration;

use super::tls::bare;
use crate::{
    options::{Permissions, ResponsePermission, SubjectPermission},
    read::Reader,
    value::{Node, Value},
};

/// A `permissions` map.
pub(super) fn permissions(reader: &mut Reader<'_>, node: &Node) -> Option<Permissions> {
    let Some(map) = node.as_map() else {
        let message = format!("Expected permissions to be a map/struct, got {}", node.shown());
        reader.error(node, message);
        return None;
    };
    let mut granted = Permissions::default();
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "pub" | "publish" | "import" => {
                granted.publish = subject_permission(reader, node, false);
            }
            "sub" | "subscribe" | "export" => {
                granted.subscribe = subject_permission(reader, node, true);
            }
            "publish_allow_responses" | "allow_responses" => {
                granted.allow_responses = allow_responses(reader, node);
            }
            _ if node.used_as_variable => {}
            _ => reader.error(node, format!("Unknown field {key:?} parsing permissions")),
        }
    }
    // Allowed responses without a word on publishing mean: nothing else may be published.
    if granted.allow_responses.is_some() {
        granted.publish.get_or_insert_default().allow.get_or_insert_default();
    }
    Some(granted)
}

fn subject_permission(reader: &mut Reader<'_>, node: &Node, queues: bool) -> Option<SubjectPermission> {
    let Some(map) = node.as_map() else {
        let mut granted = SubjectPermission::default();
        match subjects(node, queues) {
            Ok(found) => granted.allow = Some(found),
            // The reference knows no position here.
            Err(message) => bare(reader, message),
        }
        return Some(granted);
    };
    if map.is_empty() {
        return None;
    }
    let mut granted = SubjectPermission::default();
    for (key, node) in map {
        let list = match key.to_lowercase().as_str() {
            "allow" => granted.allow.get_or_insert_default(),
            "deny" => &mut granted.deny,
            _ if node.used_as_variable => continue,
            _ => {
                let message = format!(
                    "Unknown field name {key:?} parsing subject permissions, only 'allow' or 'deny' are permitted"
                );
                reader.error(node, message);
                continue;
            }
        };
        match subjects(node, queues) {
            Ok(found) => *list = found,
            Err(message) => reader.error(node, message),
        }
    }
    Some(granted)
}

/// The checked subjects of a permission, also of `deny_imports` and the like.
pub(super) fn subjects(node: &Node, queues: bool) -> Result<Vec<String>, String> {
    let found = match &node.value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => {
            let texts: Option<Vec<String>> =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            texts.ok_or("Subject in permissions array cannot be cast to string")?
        }
        other => {
            return Err(format!(
                "Expected subject permissions to be a subject, or array of subjects, got {}",
                other.go_type()
            ));
        }
    };
    for text in &found {
        check_subject(text, queues)?;
    }
    Ok(found)
}

/// A subject, or with `queues` a subject and the name of a queue.
pub(super) fn check_subject(text: &str, queues: bool) -> Result<(), String> {
    if is_valid_subject(text) {
        return Ok(());
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let invalid = |subject: &str| Err(format!("subject {subject:?} is not a valid subject"));
    match words.as_slice() {
        [subject, queue] if queues => {
            if !is_valid_subject(subject) {
                return invalid(subject);
            }
            if !is_valid_subject(queue) {
                return Err(format!("queue {queue:?} is not a valid queue"));
            }
            Ok(())
        }
        _ => invalid(text),
    }
}

/// A subject, wildcards included.
pub(super) fn is_valid_subject(subject: &str) -> bool {
    let tokens: Vec<&str> = subject.split('.').collect();
    let last = tokens.len() - 1;
    tokens.iter().enumerate().all(|(position, token)| {
        !token.is_empty()
            && !token.contains([' ', '\t', '\n', '\r', '\u{c}'])
            && (*token != ">" || position == last)
    })
}

/// A subject without wildcards.
pub(super) fn is_valid_publish_subject(subject: &str) -> bool {
    is_valid_subject(subject) && !subject.split('.').any(|token| token == "*" || token == ">")
}

/// `true`, or `{ max, expires }`; by default one message within two minutes.
fn allow_responses(reader: &mut Reader<'_>, node: &Node) -> Option<ResponsePermission> {
    let mut granted = ResponsePermission { max_msgs: 1, expires: Some(Duration::from_secs(120)) };
    if let Value::Boolean(allowed) = node.value {
        return allowed.then_some(granted);
    }
    let Some(map) = node.as_map() else {
        reader.error(node, "error parsing response permissions, expected a boolean or a map");
        return None;
    };
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "max" | "max_msgs" | "max_messages" | "max_responses" => {
                let number = reader.integer(node).filter(|number| *number != 0);
                granted.max_msgs = number.unwrap_or(granted.max_msgs);
            }
            "expires" | "expiration" | "ttl" => {
                let Some(text) = node.as_str() else {
                    reader.error(node, "error parsing expires, not a duration string");
                    continue;
                };
                // Below zero is for ever.
                let (endless, text) = match text.strip_prefix('-') {
                    Some(rest) => (true, rest),
                    None => (false, text),
                };
                match crate::parse_duration(text) {
                    Ok(Duration::ZERO) => {}
                    Ok(expires) => granted.expires = (!endless).then_some(expires),
                    Err(reason) => reader.error(node, format!("error parsing expires: {reason}")),
                }
            }
            _ if node.used_as_variable => {}
            _ => reader.error(node, format!("Unknown field {key:?} parsing permissions")),
        }
    }
    Some(granted)
}
