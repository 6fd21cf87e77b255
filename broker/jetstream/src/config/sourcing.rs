//! Rules for `mirror` and `sources` of a stream's configuration, in nats-server's order and words.

use std::collections::{BTreeSet, VecDeque};

use weir_jsapi::{
    ApiError, ErrorDefinition, StreamConfig, StreamConsumerSource, StreamSource, SubjectTransform, errors,
};
use weir_subject::{
    Transform, has_wildcards, is_subset, is_valid_literal, is_valid_subject, overlaps, validate_mapping,
};

use super::is_valid_name;
use super::stream::{OtherStreams, invalid};
use crate::sourcing::{consumer_name, index_name};

const API_PREFIX: &str = "$JS.API";

/// What mirror and sources say of streams elsewhere, to be compared with each other.
#[derive(Default)]
struct Seen {
    /// Subjects of the origins that are streams of this account.
    subjects: Vec<String>,
    deliver_prefixes: Vec<String>,
    api_prefixes: Vec<String>,
}

/// Judges `mirror` and `sources`; a mirror inherits `mirror_direct` from its origin.
pub(super) fn check_sourcing(
    config: &mut StreamConfig,
    others: OtherStreams<'_>,
    pedantic: bool,
) -> Result<(), ApiError> {
    let mut seen = Seen::default();
    check_mirror(config, others, pedantic, &mut seen)?;
    if !config.sources.is_empty() && config.allow_msg_schedules {
        return Err(errors::SOURCE_WITH_MSG_SCHEDULES.error());
    }
    check_sources(config, others, &mut seen)?;
    check_prefixes(&seen)?;
    check_cycles(config, others)
}

fn check_mirror(
    config: &mut StreamConfig,
    others: OtherStreams<'_>,
    pedantic: bool,
    seen: &mut Seen,
) -> Result<(), ApiError> {
    let Some(mirror) = &config.mirror else { return Ok(()) };
    let excluded = [
        (config.first_seq > 0, errors::MIRROR_WITH_FIRST_SEQ),
        (!config.subjects.is_empty(), errors::MIRROR_WITH_SUBJECTS),
        (!config.sources.is_empty(), errors::MIRROR_WITH_SOURCES),
        (config.allow_msg_counter, errors::MIRROR_WITH_COUNTERS),
        (config.allow_atomic, errors::MIRROR_WITH_ATOMIC_PUBLISH),
        (config.allow_batched, errors::MIRROR_WITH_BATCH_PUBLISH),
        (config.allow_msg_schedules, errors::MIRROR_WITH_MSG_SCHEDULES),
    ];
    if let Some((_, error)) = excluded.iter().find(|(is_set, _)| *is_set) {
        return Err(error.error());
    }
    check_consumer(mirror, errors::MIRROR_DURABLE_CONSUMER_CFG_INVALID)?;
    if !mirror.filter_subject.is_empty() && !mirror.subject_transforms.is_empty() {
        return Err(errors::MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED.error());
    }
    if config.subject_delete_marker_ttl > 0 {
        return Err(invalid("subject delete markers forbidden on mirrors"));
    }
    for (index, pair) in mirror.subject_transforms.iter().enumerate() {
        check_transform(
            pair,
            errors::MIRROR_INVALID_SUBJECT_FILTER,
            errors::MIRROR_INVALID_TRANSFORM_DESTINATION,
        )?;
        let collides = |(other_index, other): (usize, &SubjectTransform)| {
            other_index != index && overlaps(pair.src.as_bytes(), other.src.as_bytes())
        };
        if mirror.subject_transforms.iter().enumerate().any(collides) {
            return Err(errors::MIRROR_OVERLAPPING_SUBJECT_FILTERS.error());
        }
    }
    if note_external(mirror, seen) {
        return Ok(());
    }
    if !is_valid_name(&mirror.name) {
        return Err(errors::MIRROR_INVALID_STREAM_NAME.error());
    }
    let Some(origin) = others(&mirror.name) else { return Ok(()) };
    seen.subjects.extend(origin.subjects.iter().cloned());
    if is_smaller(config, &origin) {
        return Err(errors::MIRROR_MAX_MESSAGE_SIZE_TOO_BIG.error());
    }
    if pedantic && config.mirror_direct != origin.allow_direct {
        return Err(errors::PEDANTIC.with("origin stream has direct get set, mirror has it disabled"));
    }
    config.mirror_direct = origin.allow_direct;
    Ok(())
}

fn check_sources(config: &StreamConfig, others: OtherStreams<'_>, seen: &mut Seen) -> Result<(), ApiError> {
    let mut index_names = BTreeSet::new();
    let mut consumers = BTreeSet::new();
    for source in &config.sources {
        if !is_valid_name(&source.name) {
            return Err(errors::SOURCE_INVALID_STREAM_NAME.error());
        }
        if !index_names.insert(index_name(source)) {
            return Err(errors::SOURCE_DUPLICATE_DETECTED.error());
        }
        check_source_filters(source)?;
        check_consumer(source, errors::SOURCE_DURABLE_CONSUMER_CFG_INVALID)?;
        if source.consumer.is_some() && !consumers.insert(consumer_name(source)) {
            return Err(errors::SOURCE_DURABLE_CONSUMER_DUPLICATE_DETECTED.error());
        }
        if note_external(source, seen) {
            continue;
        }
        let Some(origin) = others(&source.name) else { continue };
        seen.subjects.extend(origin.subjects.iter().cloned());
        if is_smaller(config, &origin) {
            return Err(errors::SOURCE_MAX_MESSAGE_SIZE_TOO_BIG.error());
        }
    }
    Ok(())
}

fn check_source_filters(source: &StreamSource) -> Result<(), ApiError> {
    let transforms = &source.subject_transforms;
    if !source.filter_subject.is_empty() && !transforms.is_empty() {
        return Err(errors::SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED.error());
    }
    for pair in transforms {
        check_transform(
            pair,
            errors::SOURCE_INVALID_SUBJECT_FILTER,
            errors::SOURCE_INVALID_TRANSFORM_DESTINATION,
        )?;
    }
    for (index, pair) in transforms.iter().enumerate() {
        let covered = |(other_index, other): (usize, &SubjectTransform)| {
            other_index != index && is_subset(pair.src.as_bytes(), other.src.as_bytes())
        };
        if transforms.iter().enumerate().any(covered) {
            return Err(errors::SOURCE_OVERLAPPING_SUBJECT_FILTERS.error());
        }
    }
    Ok(())
}

fn check_transform(
    pair: &SubjectTransform,
    bad_source: ErrorDefinition,
    bad_destination: ErrorDefinition,
) -> Result<(), ApiError> {
    if !pair.src.is_empty() && !is_valid_subject(pair.src.as_bytes()) {
        return Err(bad_source.with(format!("invalid subject {}", pair.src)));
    }
    validate_mapping(&pair.src, &pair.dest).map_err(|error| bad_destination.with(error))
}

/// A durable consumer of the origin says itself where it starts and what it filters.
fn check_consumer(source: &StreamSource, error: ErrorDefinition) -> Result<(), ApiError> {
    let Some(StreamConsumerSource { name, deliver_subject }) = &source.consumer else { return Ok(()) };
    let deliver = deliver_subject.as_bytes();
    let is_wrong = !is_valid_name(name)
        || has_wildcards(deliver)
        || !is_valid_subject(deliver)
        || source.opt_start_seq != 0
        || source.opt_start_time.is_some()
        || !source.filter_subject.is_empty();
    if is_wrong { Err(error.error()) } else { Ok(()) }
}

/// Notes the prefixes of a stream elsewhere; false for one of this account.
fn note_external(source: &StreamSource, seen: &mut Seen) -> bool {
    let Some(external) = &source.external else { return false };
    if !external.deliver.is_empty() {
        seen.deliver_prefixes.push(external.deliver.clone());
    }
    if !external.api.is_empty() {
        seen.api_prefixes.push(external.api.clone());
    }
    true
}

/// Whether the stream refuses messages that its origin takes.
fn is_smaller(config: &StreamConfig, origin: &StreamConfig) -> bool {
    config.max_msg_size > 0 && origin.max_msg_size > 0 && config.max_msg_size < origin.max_msg_size
}

fn check_prefixes(seen: &Seen) -> Result<(), ApiError> {
    for prefix in &seen.deliver_prefixes {
        if !is_valid_literal(prefix.as_bytes()) {
            return Err(errors::STREAM_INVALID_EXTERNAL_DELIVERY_SUBJ.with(prefix));
        }
        for subject in &seen.subjects {
            if overlaps(subject.as_bytes(), format!("{prefix}.{subject}").as_bytes()) {
                return Err(with_two(errors::STREAM_EXTERNAL_DEL_PREFIX_OVERLAPS, prefix, subject));
            }
        }
    }
    for prefix in &seen.api_prefixes {
        if !is_valid_literal(prefix.as_bytes()) {
            return Err(invalid(format!(
                "stream external api prefix {prefix:?} must be a valid subject without wildcards"
            )));
        }
        if prefix == API_PREFIX {
            return Err(with_two(errors::STREAM_EXTERNAL_API_OVERLAP, prefix, API_PREFIX));
        }
    }
    Ok(())
}

/// An error whose text has two placeholders.
fn with_two(definition: ErrorDefinition, first: &str, second: &str) -> ApiError {
    let mut error = definition.with(first);
    if let (Some(open), Some(close)) = (error.description.rfind('{'), error.description.rfind('}')) {
        error.description.replace_range(open..=close, second);
    }
    error
}

/// A message must not come back to the stream it came from.
fn check_cycles(config: &StreamConfig, others: OtherStreams<'_>) -> Result<(), ApiError> {
    let cycle = || Err(invalid("detected cycle"));
    let mut to_visit = VecDeque::from([std::sync::Arc::new(config.clone())]);
    let mut visited = BTreeSet::new();
    while let Some(stream) = to_visit.pop_front() {
        visited.insert(stream.name.clone());
        for source in stream.sources.iter().filter(|source| source.external.is_none()) {
            if visited.contains(&source.name) {
                if passes(&stream.subjects, &source.filter_subject) {
                    return cycle();
                }
            } else if let Some(origin) = others(&source.name) {
                to_visit.push_back(origin);
            }
        }
        if let Some(mirror) = stream.mirror.as_ref().filter(|mirror| mirror.external.is_none()) {
            if visited.contains(&mirror.name) {
                return cycle();
            }
            to_visit.extend(others(&mirror.name));
        }
    }
    Ok(())
}

fn passes(subjects: &[String], filter: &str) -> bool {
    filter.is_empty() || subjects.iter().any(|subject| overlaps(subject.as_bytes(), filter.as_bytes()))
}

/// What only a stream's creation judges, and says as a failed creation.
pub(crate) fn check_sourcing_at_creation(config: &StreamConfig) -> Result<(), ApiError> {
    let origins = config.mirror.iter().map(|mirror| (mirror, "mirror"));
    for (source, kind) in origins.chain(config.sources.iter().map(|source| (source, "source"))) {
        let filter = &source.filter_subject;
        if !filter.is_empty() && !is_valid_subject(filter.as_bytes()) {
            let colon = if kind == "source" { ":" } else { "" };
            let text = format!("subject filter '{filter}' for the {kind}{colon} invalid subject");
            return Err(errors::STREAM_CREATE.with(text));
        }
        for pair in source.subject_transforms.iter().filter(|pair| !pair.dest.is_empty()) {
            if let Err(error) = Transform::new(&pair.src, &pair.dest) {
                return Err(errors::STREAM_CREATE.with(format!(
                    "subject transform from '{}' to '{}' for the {kind}: {error}",
                    pair.src, pair.dest
                )));
            }
        }
    }
    Ok(())
}
