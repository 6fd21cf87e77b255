//! `mappings`: where publishes to a subject go instead.

use weir_subject::{Transform, tokenize, validate_mapping};

use super::permissions::is_valid_subject;
use crate::{
    options::{MappingConfig, MappingDestination},
    read::Reader,
    value::{Map, Node, Value},
};

pub(super) fn mappings(reader: &mut Reader<'_>, node: &Node) -> Vec<MappingConfig> {
    let entries = reader.entries(node).unwrap_or_default();
    entries.into_iter().filter_map(|(subject, entry)| mapping(reader, node, subject, entry)).collect()
}

fn mapping(reader: &mut Reader<'_>, block: &Node, source: &str, node: &Node) -> Option<MappingConfig> {
    if !is_valid_subject(source) {
        reader.error(block, format!("Subject {source:?} is not a valid subject"));
        return None;
    }
    let destinations = match &node.value {
        Value::String(subject) => {
            let subject = subject.clone();
            let destination = MappingDestination { subject, weight: 100, cluster: None };
            if let Err(reason) = check(source, std::slice::from_ref(&destination)) {
                let to = &destination.subject;
                let message = format!("Error adding mapping for {source:?} to {to:?} : {reason}");
                reader.error(node, message);
                return None;
            }
            return Some(MappingConfig { source: source.to_owned(), destinations: vec![destination] });
        }
        Value::Array(items) => {
            items.iter().map(|item| destination(reader, item)).collect::<Option<Vec<_>>>()?
        }
        _ => vec![destination(reader, node)?],
    };
    if let Err(reason) = check(source, &destinations) {
        reader.error(node, format!("Error adding mapping for {source:?} : {reason}"));
        return None;
    }
    Some(MappingConfig { source: source.to_owned(), destinations })
}

fn destination(reader: &mut Reader<'_>, node: &Node) -> Option<MappingDestination> {
    let Some(map) = node.as_map() else {
        reader.error(node, "Expected an entry for the mapping destination");
        return None;
    };
    reader.blamed = Some((node.file.clone(), node.line, node.column));
    let destination = weighted(reader, node, map);
    reader.blamed = None;
    destination
}

fn weighted(reader: &mut Reader<'_>, place: &Node, map: &Map) -> Option<MappingDestination> {
    let (mut subject, mut percent, mut cluster) = (String::new(), None, None);
    for (key, node) in map {
        match key.to_lowercase().as_str() {
            "dest" | "destination" => subject = reader.string(node)?,
            "weight" => percent = Some(weight(reader, node)?),
            "cluster" => cluster = Some(reader.string(node)?).filter(|name| !name.is_empty()),
            _ => {
                reader.error(node, format!("Unknown field {key:?} for mapping destination"));
                return None;
            }
        }
    }
    match percent {
        Some(weight) => Some(MappingDestination { subject, weight, cluster }),
        None => {
            reader.error(place, format!("Missing weight for mapping destination {subject:?}"));
            None
        }
    }
}

fn weight(reader: &mut Reader<'_>, node: &Node) -> Option<u8> {
    let number = match &node.value {
        Value::Integer(number) => *number,
        Value::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or(text);
            match digits.parse::<i64>() {
                Ok(number) => number,
                Err(_) => {
                    reader.error(node, format!("Invalid weight {digits:?} for mapping destination"));
                    return None;
                }
            }
        }
        _ => {
            reader.error(node, format!("Unknown entry type for weight of {}\n", node.shown()));
            return None;
        }
    };
    let percent = u8::try_from(number).ok().filter(|percent| *percent <= 100);
    if percent.is_none() {
        reader.error(node, format!("Invalid weight {number} for mapping destination"));
    }
    percent
}

fn check(source: &str, destinations: &[MappingDestination]) -> Result<(), String> {
    for (position, destination) in destinations.iter().enumerate() {
        let before = &destinations[..position];
        if before.iter().any(|other| other.subject == destination.subject) {
            return Err(format!("duplicate entry for {:?}", destination.subject));
        }
        let same = before.iter().filter(|other| other.cluster == destination.cluster);
        let total: u32 = same.map(|other| u32::from(other.weight)).sum();
        if total + u32::from(destination.weight) > 100 {
            return Err("total weight needs to be <= 100".to_owned());
        }
        validate_mapping(source, &destination.subject).map_err(|error| error.to_string())?;
        if !destination.subject.is_empty() {
            Transform::new(source, &destination.subject).map_err(|error| error.to_string())?;
        }
    }
    // What the weights leave over stays where it was.
    Transform::new(source, &tokenize(source)).map(|_| ()).map_err(|error| error.to_string())
}
