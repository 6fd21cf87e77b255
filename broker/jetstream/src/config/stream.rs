//! Stream configurations: defaults, rules, and what an update may change.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_jsapi::{API_LEVEL, ApiError, DiscardPolicy, RetentionPolicy, SERVER_VERSION, StreamConfig, errors};
use weir_subject::{Transform, has_wildcards, is_subset, is_valid_subject, overlaps, validate_mapping};

use super::is_valid_name;
use super::sourcing::check_sourcing;

const NAME_BYTES_MAX: usize = 255;
const DESCRIPTION_BYTES_MAX: usize = 4 * 1024;
const METADATA_BYTES_MAX: usize = 128 * 1024;
const REPLICAS_MAX: i64 = 5;
const DUPLICATE_WINDOW_DEFAULT: i64 = 120_000_000_000;
/// Shortest max_age and duplicate_window, nanoseconds.
const AGE_MIN: i64 = 100_000_000;

const META_VERSION: &str = "_nats.ver";
const META_LEVEL: &str = "_nats.level";
const META_REQUIRED_LEVEL: &str = "_nats.req.level";

/// What the server and the account impose on streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimitsInForce {
    /// Part of a cluster: more than one replica is possible.
    pub clustered: bool,
    /// The account demands `max_bytes`.
    pub max_bytes_required: bool,
    /// Largest `max_bytes` of one stream; -1 is unlimited.
    pub max_stream_bytes: i64,
    /// Longest duplicate_window, nanoseconds; 0 is unlimited.
    pub max_duplicate_window: i64,
}

impl Default for StreamLimitsInForce {
    fn default() -> Self {
        Self { clustered: false, max_bytes_required: false, max_stream_bytes: -1, max_duplicate_window: 0 }
    }
}

/// The other streams of the account, by name.
pub type OtherStreams<'a> = &'a dyn Fn(&str) -> Option<Arc<StreamConfig>>;

pub(super) fn invalid(text: impl std::fmt::Display) -> ApiError {
    errors::STREAM_INVALID_CONFIG.with(text)
}

/// Completes a configuration as received by STREAM.CREATE or STREAM.UPDATE and judges it on its own and beside
/// `others`. `pedantic` refuses what would otherwise be corrected.
pub fn normalise_stream(
    mut config: StreamConfig,
    limits: &StreamLimitsInForce,
    pedantic: bool,
    others: OtherStreams<'_>,
) -> Result<StreamConfig, ApiError> {
    check_name(&config.name)?;
    if config.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(invalid(format!(
            "stream description is too long, maximum allowed is {DESCRIPTION_BYTES_MAX}"
        )));
    }
    let metadata: usize = config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata > METADATA_BYTES_MAX {
        return Err(invalid(format!("stream metadata exceeds maximum size of {METADATA_BYTES_MAX} bytes")));
    }
    check_replicas(&mut config)?;
    set_defaults(&mut config, pedantic)?;
    check_windows(&mut config, limits.max_duplicate_window, pedantic)?;
    // Checked one after the other, and completed: in the reference's order.
    super::publishing::check_rollup(&config)?;
    super::publishing::check_counter(&config)?;
    check_flags(&config)?;
    check_markers(&mut config, pedantic)?;
    super::publishing::check_schedules(&mut config, pedantic)?;
    super::publishing::check_persist_mode(&config)?;
    check_sourcing(&mut config, others, pedantic)?;
    set_subjects(&mut config)?;
    if limits.max_bytes_required && config.max_bytes <= 0 {
        return Err(errors::STREAM_MAX_BYTES_REQUIRED.error());
    }
    if limits.max_stream_bytes > 0 && config.max_bytes > limits.max_stream_bytes {
        return Err(errors::STREAM_MAX_STREAM_BYTES_EXCEEDED.error());
    }
    check_transform(&config)?;
    check_republish(&mut config, pedantic)?;
    if config.placement == Some(weir_jsapi::Placement::default()) {
        config.placement = None;
    }
    if config.placement.as_ref().is_some_and(|placement| !placement.preferred.is_empty()) {
        return Err(invalid("preferred server not permitted in placement"));
    }
    if !limits.clustered && config.num_replicas > 1 {
        return Err(errors::STREAM_REPLICAS_NOT_SUPPORTED.error());
    }
    let level = super::publishing::required_level(&config);
    set_metadata(&mut config.metadata, level);
    Ok(config)
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if !is_valid_name(name) {
        return Err(invalid(r"stream name is required and can not contain '.', '*', '>', '\', '/'"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(invalid(format!("stream name is too long, maximum allowed is {NAME_BYTES_MAX}")));
    }
    Ok(())
}

fn check_replicas(config: &mut StreamConfig) -> Result<(), ApiError> {
    match config.num_replicas {
        0 => config.num_replicas = 1,
        ..0 => return Err(errors::REPLICAS_COUNT_CANNOT_BE_NEGATIVE.error()),
        1..=REPLICAS_MAX => {}
        _ => return Err(invalid(format!("maximum replicas is {REPLICAS_MAX}"))),
    }
    Ok(())
}

/// Limits that are unset or nonsense become -1.
fn set_defaults(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let mut max_msg_size = i64::from(config.max_msg_size);
    let fields: [(&str, &mut i64); 5] = [
        ("max_msgs", &mut config.max_msgs),
        ("max_msgs_per_subject", &mut config.max_msgs_per_subject),
        ("max_bytes", &mut config.max_bytes),
        ("max_msg_size", &mut max_msg_size),
        ("max_consumers", &mut config.max_consumers),
    ];
    for (name, value) in fields {
        if *value < -1 && pedantic {
            return Err(errors::PEDANTIC.with(format!("{name} must be set to -1")));
        }
        if *value == 0 || *value < -1 {
            *value = -1;
        }
    }
    if max_msg_size == -1 {
        config.max_msg_size = -1;
    }
    Ok(())
}

fn check_windows(config: &mut StreamConfig, longest: i64, pedantic: bool) -> Result<(), ApiError> {
    if config.max_age < 0 {
        return Err(invalid("max age can not be negative"));
    }
    if config.max_age > 0 && config.max_age < AGE_MIN {
        return Err(invalid("max age needs to be >= 100ms"));
    }
    let takes_publishes = config.mirror.is_none() && config.sources.is_empty();
    if config.duplicate_window == 0 && takes_publishes {
        let is_limited = longest > 0 && longest < DUPLICATE_WINDOW_DEFAULT;
        if pedantic && is_limited {
            let text = "duplicate window limits are higher than current limits";
            return Err(errors::PEDANTIC.with(text));
        }
        let usual = if is_limited { longest } else { DUPLICATE_WINDOW_DEFAULT };
        let short = config.max_age > 0 && config.max_age < usual;
        if pedantic && short {
            return Err(errors::PEDANTIC.with("duplicate window cannot be bigger than max age"));
        }
        config.duplicate_window = if short { config.max_age } else { usual };
    }
    if config.duplicate_window < 0 {
        return Err(invalid("duplicates window can not be negative"));
    }
    if config.max_age > 0 && config.duplicate_window > config.max_age {
        return Err(invalid("duplicates window can not be larger then max age"));
    }
    if longest > 0 && config.duplicate_window > longest {
        let limit = super::go_duration(u64::try_from(longest).unwrap_or(0));
        return Err(invalid(format!("duplicates window can not be larger then server limit of {limit}")));
    }
    if config.duplicate_window > 0 && config.duplicate_window < AGE_MIN {
        return Err(invalid("duplicates window needs to be >= 100ms"));
    }
    Ok(())
}

/// Markers need message lifetimes and roll-ups.
fn check_markers(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    const MARKER_TTL_MIN: i64 = 1_000_000_000;
    match config.subject_delete_marker_ttl {
        0 => return Ok(()),
        ..0 => return Err(invalid("subject delete marker TTL must not be negative")),
        1..MARKER_TTL_MIN => return Err(invalid("subject delete marker TTL must be at least 1 second")),
        _ => {}
    }
    if pedantic && !config.allow_msg_ttl {
        return Err(invalid("subject delete marker cannot be set if message TTLs are disabled"));
    }
    if pedantic && !config.allow_rollup_hdrs {
        return Err(invalid("subject delete marker cannot be set if roll-ups are disabled"));
    }
    if !pedantic {
        config.allow_msg_ttl = true;
        config.allow_rollup_hdrs = true;
        config.deny_purge = false;
    }
    Ok(())
}

fn check_flags(config: &StreamConfig) -> Result<(), ApiError> {
    if config.discard_new_per_subject {
        if config.discard != DiscardPolicy::New {
            return Err(invalid("discard new per subject requires discard new policy to be set"));
        }
        if config.max_msgs_per_subject <= 0 {
            return Err(invalid("discard new per subject requires max msgs per subject > 0"));
        }
    }
    Ok(())
}

fn set_subjects(config: &mut StreamConfig) -> Result<(), ApiError> {
    if config.subjects.is_empty() && config.mirror.is_none() && config.sources.is_empty() {
        config.subjects.push(config.name.clone());
    }
    for (index, subject) in config.subjects.iter().enumerate() {
        let bytes = subject.as_bytes();
        if !is_valid_subject(bytes) {
            return Err(invalid("invalid subject"));
        }
        if config.subjects[..index].contains(subject) {
            return Err(invalid("duplicate subjects detected"));
        }
        check_reserved(subject, config.no_ack, config.num_replicas)?;
        let later = &config.subjects[index + 1..];
        if let Some(other) = later.iter().find(|other| overlaps(bytes, other.as_bytes())) {
            return Err(invalid(format!("subject {subject:?} overlaps with {other:?}")));
        }
    }
    Ok(())
}

fn check_transform(config: &StreamConfig) -> Result<(), ApiError> {
    let Some(transform) = &config.subject_transform else { return Ok(()) };
    if !transform.src.is_empty() && !is_valid_subject(transform.src.as_bytes()) {
        return Err(
            errors::STREAM_TRANSFORM_INVALID_SOURCE.with(format!("invalid subject {}", transform.src))
        );
    }
    validate_mapping(&transform.src, &transform.dest)
        .map_err(|error| errors::STREAM_TRANSFORM_INVALID_DESTINATION.with(error))
}

/// What is republished must not come back into the stream.
fn check_republish(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let Some(republish) = &mut config.republish else { return Ok(()) };
    if republish.src.is_empty() {
        if pedantic {
            return Err(errors::PEDANTIC.with("republish source can not be empty"));
        }
        ">".clone_into(&mut republish.src);
    }
    if republish.src == ">"
        && republish.dest == ">"
        && let Some(transform) = &config.subject_transform
        && config.subjects == [transform.src.as_str()]
    {
        if pedantic {
            return Err(errors::PEDANTIC.with("implicit republish based on subject transform"));
        }
        // Everything, under the subjects that the transform makes.
        republish.src.clone_from(&transform.dest);
        republish.dest.clone_from(&transform.dest);
    }
    if config.subjects.iter().any(|subject| overlaps(republish.dest.as_bytes(), subject.as_bytes())) {
        return Err(invalid("stream configuration for republish destination forms a cycle"));
    }
    if republish.dest.is_empty() {
        // The reference takes this, and republishes nothing.
        return Ok(());
    }
    Transform::new(&republish.src, &republish.dest).map(drop).map_err(|_| {
        invalid(format!(
            "stream configuration for republish with transform from '{}' to '{}' not valid",
            republish.src, republish.dest
        ))
    })
}

/// Subjects the server itself lives on may be captured only without publish acks, which would loop.
fn check_reserved(subject: &str, no_ack: bool, replicas: i64) -> Result<(), ApiError> {
    let bytes = subject.as_bytes();
    if subject == ">" {
        if !no_ack {
            return Err(invalid("capturing all subjects requires no-ack to be true"));
        }
        if replicas != 1 {
            return Err(invalid("capturing all subjects requires replicas of 1"));
        }
    }
    if no_ack {
        return Ok(());
    }
    let of_api = [&b"$JS.>"[..], b"$JSC.>", b"$NRG.>"].iter().any(|space| overlaps(bytes, space));
    if of_api && !is_subset(bytes, b"$JS.EVENT.>") {
        return Err(invalid("subjects that overlap with jetstream api require no-ack to be true"));
    }
    if overlaps(bytes, b"$SYS.>") && !is_subset(bytes, b"$SYS.ACCOUNT.>") {
        return Err(invalid("subjects that overlap with system api require no-ack to be true"));
    }
    Ok(())
}

/// Stored metadata: the client's own, and the level the features used ask for.
pub(super) fn set_metadata(metadata: &mut BTreeMap<String, String>, required_level: u32) {
    metadata.remove(META_VERSION);
    metadata.remove(META_LEVEL);
    metadata.insert(META_REQUIRED_LEVEL.to_owned(), required_level.to_string());
}

/// Why this server is too old for what this metadata belongs to, in nats-server's words.
pub fn unsupported(metadata: &BTreeMap<String, String>) -> Option<String> {
    let required = metadata.get(META_REQUIRED_LEVEL).filter(|level| !level.is_empty())?;
    let is_known = required.parse::<i64>().is_ok_and(|level| level <= i64::from(API_LEVEL));
    (!is_known)
        .then(|| format!("unsupported - required API level: {required}, current API level: {API_LEVEL}"))
}

/// Puts back what was known of the level that a stream or consumer requires.
pub fn keep_required_level(metadata: &mut BTreeMap<String, String>, level: Option<String>) {
    if let Some(level) = level {
        metadata.insert(META_REQUIRED_LEVEL.to_owned(), level);
    }
}

/// The level of the API that a stream or consumer requires, as its metadata says.
pub fn required_level(metadata: &BTreeMap<String, String>) -> Option<String> {
    metadata.get(META_REQUIRED_LEVEL).cloned()
}

/// Metadata as CREATE, UPDATE and INFO print it: with the server's version and level. LIST prints the stored one.
pub fn with_server_metadata(metadata: &mut BTreeMap<String, String>) {
    metadata.insert(META_VERSION.to_owned(), SERVER_VERSION.to_owned());
    metadata.insert(META_LEVEL.to_owned(), API_LEVEL.to_string());
}

/// Takes out what `with_server_metadata` put in: the metadata as stored.
pub fn without_server_metadata(metadata: &mut BTreeMap<String, String>) {
    metadata.remove(META_VERSION);
    metadata.remove(META_LEVEL);
}

/// Judges a change from one normalised configuration to another; gives the one to store.
pub fn check_stream_update(current: &StreamConfig, mut new: StreamConfig) -> Result<StreamConfig, ApiError> {
    let refuse = |text: &str| Err(invalid(text));
    if new.name != current.name {
        return refuse("stream configuration name must match original");
    }
    if new.storage != current.storage {
        return refuse("stream configuration update can not change storage type");
    }
    let is_queue = |config: &StreamConfig| config.retention == RetentionPolicy::WorkQueue;
    if is_queue(&new) != is_queue(current) {
        return refuse("stream configuration update can not change retention policy to/from workqueue");
    }
    if current.sealed && !new.sealed {
        return refuse("stream configuration update can not unseal a sealed stream");
    }
    if current.deny_delete && !new.deny_delete {
        return refuse("stream configuration update can not cancel deny message deletes");
    }
    if current.deny_purge && !new.deny_purge {
        return refuse("stream configuration update can not cancel deny purge");
    }
    // A mirror may become a stream of its own: then it has no origin any more.
    if new.mirror.is_some() && new.mirror != current.mirror {
        return Err(errors::STREAM_MIRROR_NOT_UPDATABLE.error());
    }
    if current.allow_msg_ttl && !new.allow_msg_ttl {
        return refuse("message TTL status can not be disabled");
    }
    super::publishing::check_update(current, &new)?;
    if new.sealed {
        // A sealed stream changes no more, not even by age.
        new.deny_delete = true;
        new.deny_purge = true;
        new.allow_rollup_hdrs = false;
        new.discard = DiscardPolicy::New;
        new.max_age = 0;
    }
    Ok(new)
}

/// True when a subject of one list overlaps a subject of the other.
pub(crate) fn subjects_overlap(one: &[String], other: &[String]) -> bool {
    one.iter().any(|subject| other.iter().any(|with| overlaps(subject.as_bytes(), with.as_bytes())))
}

/// True when a literal subject would be stored by the stream.
pub(super) fn captures(config: &StreamConfig, subject: &str) -> bool {
    debug_assert!(!has_wildcards(subject.as_bytes()), "deliver subjects are literal");
    config.subjects.iter().any(|pattern| weir_subject::matches(pattern.as_bytes(), subject.as_bytes()))
}
