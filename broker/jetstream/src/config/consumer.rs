//! Consumer configurations: defaults, rules, and what an update may change.

use std::num::IntErrorKind;

use weir_jsapi::{
    AckPolicy, ApiError, ConsumerConfig, DeliverPolicy, PriorityPolicy, RetentionPolicy, StreamConfig, errors,
};
use weir_subject::{has_wildcards, is_subset, is_valid_subject};

use super::{is_valid_name, stream};

const NAME_BYTES_MAX: usize = 255;
const DESCRIPTION_BYTES_MAX: usize = 4 * 1024;
const METADATA_BYTES_MAX: usize = 128 * 1024;
const ACK_WAIT_DEFAULT: i64 = 30_000_000_000;
const MAX_ACK_PENDING_DEFAULT: i64 = 1000;
const MAX_WAITING_DEFAULT: i64 = 512;
const INACTIVE_THRESHOLD_DEFAULT: i64 = 5_000_000_000;
const HEARTBEAT_MIN: i64 = 100_000_000;
const MAX_EXPIRES_MIN: i64 = 1_000_000;
/// How long a client stays pinned without a new request.
const PRIORITY_TIMEOUT_DEFAULT: i64 = 120_000_000_000;
/// The one heartbeat that consumers acknowledged by flow control may have.
const FLOW_CONTROL_HEARTBEAT: i64 = 1_000_000_000;
const GROUP_NAME_BYTES_MAX: usize = 16;

/// What the server and the account impose on consumers; 0 and below are unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConsumerLimitsInForce {
    pub max_ack_pending: i64,
    pub account_max_ack_pending: i64,
    pub max_request_batch: i64,
    pub account_max_consumers: i64,
    /// Applies where neither the stream nor the account sets a limit.
    pub default_max_consumers: i64,
    /// Part of a cluster: more than one replica is possible.
    pub clustered: bool,
}

impl ConsumerLimitsInForce {
    /// How many consumers a stream may have whose own limit is `max_consumers`; `None`: any number.
    pub fn consumers_of(&self, max_consumers: i64) -> Option<usize> {
        let positive = |limit: i64| (limit > 0).then_some(limit);
        let limits = [positive(max_consumers), positive(self.account_max_consumers)];
        let limit = limits.into_iter().flatten().min().or(positive(self.default_max_consumers))?;
        usize::try_from(limit).ok()
    }
}

fn invalid(text: impl std::fmt::Display) -> ApiError {
    errors::STREAM_INVALID_CONFIG.with(text)
}

/// Completes a configuration as received and judges it against its stream's.
pub fn normalise_consumer(
    mut config: ConsumerConfig,
    stream: &StreamConfig,
    limits: &ConsumerLimitsInForce,
    pedantic: bool,
) -> Result<ConsumerConfig, ApiError> {
    // As asked for: also a value that is corrected below says that the feature is known.
    let level = required_level(&config);
    set_defaults(&mut config, stream, limits, pedantic)?;
    check_identity(&config, stream, limits)?;
    check_acks(&config)?;
    if config.is_push() {
        check_push(&config, stream)?
    } else {
        check_pull(&config, stream, limits)?
    }
    check_limits(&config, stream, limits)?;
    if config.direct {
        if !config.is_push() {
            return Err(errors::CONSUMER_DIRECT_REQUIRES_PUSH.error());
        }
        if !config.durable.is_empty() {
            return Err(errors::CONSUMER_DIRECT_REQUIRES_EPHEMERAL.error());
        }
    }
    check_filters(&config)?;
    check_start(&config)?;
    check_sampling(&config)?;
    if config.flow_control && config.idle_heartbeat == 0 {
        return Err(errors::CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS.error());
    }
    if !config.durable.is_empty() && !config.name.is_empty() && config.name != config.durable {
        return Err(errors::CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH.error());
    }
    let metadata: usize = config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata > METADATA_BYTES_MAX {
        return Err(errors::CONSUMER_METADATA_LENGTH.with(format!("{}KB", METADATA_BYTES_MAX / 1024)));
    }
    check_priority(&config)?;
    if stream.placement.as_ref().is_some_and(|placement| !placement.preferred.is_empty()) {
        return Err(invalid("preferred server not permitted in placement"));
    }
    if config.durable.is_empty() && config.inactive_threshold == 0 {
        config.inactive_threshold = INACTIVE_THRESHOLD_DEFAULT;
    }
    if !config.durable.is_empty() {
        config.name.clone_from(&config.durable);
    }
    stream::set_metadata(&mut config.metadata, level);
    Ok(config)
}

/// Notes the level of the API that the configuration needs.
pub(crate) fn set_metadata(config: &mut ConsumerConfig) {
    let level = required_level(config);
    stream::set_metadata(&mut config.metadata, level);
}

/// Pauses and priority groups came with level 1, acknowledgement by flow control with level 4.
fn required_level(config: &ConsumerConfig) -> u32 {
    let has_groups = config.priority_policy != PriorityPolicy::None
        || config.priority_timeout != 0
        || !config.priority_groups.is_empty();
    match config.ack_policy {
        AckPolicy::FlowControl => 4,
        _ => u32::from(config.pause_until.is_some() || has_groups),
    }
}

fn set_defaults(
    config: &mut ConsumerConfig,
    stream: &StreamConfig,
    limits: &ConsumerLimitsInForce,
    pedantic: bool,
) -> Result<(), ApiError> {
    correct_negatives(config, pedantic)?;
    if !config.is_push() && config.max_waiting == 0 {
        config.max_waiting = MAX_WAITING_DEFAULT;
    }
    if config.ack_wait == 0 && matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::All) {
        config.ack_wait = ACK_WAIT_DEFAULT;
    }
    if let Some(&first) = config.backoff.first() {
        if pedantic && config.ack_wait != first {
            return Err(errors::PEDANTIC.with("first backoff value has to equal batch AckWait"));
        }
        config.ack_wait = first;
    }
    if config.max_ack_pending == 0 {
        if pedantic && stream.consumer_limits.max_ack_pending > 0 {
            let text = "max_ack_pending must be set if it's configured in stream limits";
            return Err(errors::PEDANTIC.with(text));
        }
        config.max_ack_pending = stream.consumer_limits.max_ack_pending;
    }
    if config.inactive_threshold == 0 {
        if pedantic && stream.consumer_limits.inactive_threshold > 0 {
            let text = "inactive_threshold must be set if it's configured in stream limits";
            return Err(errors::PEDANTIC.with(text));
        }
        config.inactive_threshold = stream.consumer_limits.inactive_threshold;
    }
    if config.max_ack_pending == 0 && config.ack_policy != AckPolicy::None {
        let limits = [limits.max_ack_pending, limits.account_max_ack_pending];
        config.max_ack_pending =
            limits.into_iter().filter(|limit| *limit > 0).fold(MAX_ACK_PENDING_DEFAULT, i64::min);
    }
    if !config.is_push() && config.max_batch == 0 && limits.max_request_batch > 0 {
        if pedantic {
            let text = "max_request_batch must be set if it's JetStream limits are set";
            return Err(errors::PEDANTIC.with(text));
        }
        config.max_batch = limits.max_request_batch;
    }
    if config.priority_policy == PriorityPolicy::PinnedClient && config.priority_timeout == 0 {
        config.priority_timeout = PRIORITY_TIMEOUT_DEFAULT;
    }
    if config.ack_policy == AckPolicy::FlowControl && !pedantic {
        config.flow_control = true;
        config.idle_heartbeat = FLOW_CONTROL_HEARTBEAT;
    }
    Ok(())
}

/// Values below what means "unset" are corrected, or refused when pedantic.
fn correct_negatives(config: &mut ConsumerConfig, pedantic: bool) -> Result<(), ApiError> {
    let refuse = |text: &str| if pedantic { Err(errors::PEDANTIC.with(text)) } else { Ok(()) };
    if config.max_deliver < -1 {
        refuse("max_deliver must be set to -1")?;
    }
    if config.max_deliver == 0 || config.max_deliver < -1 {
        config.max_deliver = -1;
    }
    if config.max_ack_pending < -1 {
        refuse("max_ack_pending must be set to -1")?;
        config.max_ack_pending = -1;
    }
    let not_negative: [(&str, &mut i64); 7] = [
        ("max_waiting", &mut config.max_waiting),
        ("max_batch", &mut config.max_batch),
        ("max_expires", &mut config.max_expires),
        ("max_bytes", &mut config.max_bytes),
        ("idle_heartbeat", &mut config.idle_heartbeat),
        ("inactive_threshold", &mut config.inactive_threshold),
        ("priority_timeout", &mut config.priority_timeout),
    ];
    for (name, value) in not_negative {
        if *value < 0 {
            refuse(&format!("{name} must not be negative"))?;
            *value = 0;
        }
    }
    Ok(())
}

fn check_identity(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    limits: &ConsumerLimitsInForce,
) -> Result<(), ApiError> {
    const FORBIDDEN: &str = r"can not contain '.', '*', '>', '\', '/'";
    if !config.name.is_empty() && !is_valid_name(&config.name) {
        return Err(invalid(format!("consumer name {FORBIDDEN}")));
    }
    if !config.durable.is_empty() && !is_valid_name(&config.durable) {
        return Err(invalid(format!("consumer durable name {FORBIDDEN}")));
    }
    if config.name.len() > NAME_BYTES_MAX || config.durable.len() > NAME_BYTES_MAX {
        return Err(errors::CONSUMER_NAME_TOO_LONG.with(NAME_BYTES_MAX));
    }
    if config.num_replicas > 1 && !limits.clustered {
        return Err(errors::STREAM_REPLICAS_NOT_SUPPORTED.error());
    }
    if config.num_replicas > stream.num_replicas {
        return Err(errors::CONSUMER_REPLICAS_EXCEEDS_STREAM.error());
    }
    if config.num_replicas < 0 {
        return Err(errors::REPLICAS_COUNT_CANNOT_BE_NEGATIVE.error());
    }
    if stream.retention != RetentionPolicy::Limits
        && config.num_replicas != 0
        && config.num_replicas != stream.num_replicas
    {
        return Err(errors::CONSUMER_REPLICAS_SHOULD_MATCH_STREAM.error());
    }
    if config.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(errors::CONSUMER_DESCRIPTION_TOO_LONG.with(DESCRIPTION_BYTES_MAX));
    }
    Ok(())
}

fn check_acks(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.backoff.iter().any(|&wait| wait < 0) {
        return Err(errors::CONSUMER_BACK_OFF_NEGATIVE.error());
    }
    if config.ack_wait < 0 {
        return Err(errors::CONSUMER_ACK_WAIT_NEGATIVE.error());
    }
    if config.ack_policy == AckPolicy::FlowControl {
        check_flow_control_acks(config)?;
    }
    let steps = i64::try_from(config.backoff.len()).unwrap_or(i64::MAX);
    if steps > 0 && config.max_deliver != -1 && steps > config.max_deliver {
        return Err(errors::CONSUMER_MAX_DELIVER_BACKOFF.error());
    }
    Ok(())
}

/// Acknowledgement by flow control leaves nothing that could be delivered again.
fn check_flow_control_acks(config: &ConsumerConfig) -> Result<(), ApiError> {
    if !config.is_push() {
        return Err(errors::CONSUMER_ACK_FC_REQUIRES_PUSH.error());
    }
    if !config.flow_control {
        return Err(errors::CONSUMER_ACK_FC_REQUIRES_FC.error());
    }
    if config.idle_heartbeat != FLOW_CONTROL_HEARTBEAT {
        return Err(invalid("flow control ack policy heartbeat needs to be 1s"));
    }
    if config.max_ack_pending <= 0 {
        return Err(errors::CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING.error());
    }
    if config.ack_wait != 0 || !config.backoff.is_empty() {
        return Err(errors::CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT.error());
    }
    if config.max_deliver > 0 {
        return Err(errors::CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER.error());
    }
    Ok(())
}

fn check_push(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let subject = config.deliver_subject.as_bytes();
    if has_wildcards(subject) {
        return Err(errors::CONSUMER_DELIVER_TO_WILDCARDS.error());
    }
    if !is_valid_subject(subject) {
        return Err(errors::CONSUMER_INVALID_DELIVER_SUBJECT.error());
    }
    if stream::captures(stream, &config.deliver_subject) {
        return Err(errors::CONSUMER_DELIVER_CYCLE.error());
    }
    if config.max_waiting != 0 {
        return Err(errors::CONSUMER_PUSH_MAX_WAITING.error());
    }
    if config.max_ack_pending > 0 && config.ack_policy == AckPolicy::None {
        return Err(errors::CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED.error());
    }
    if config.idle_heartbeat > 0 && config.idle_heartbeat < HEARTBEAT_MIN {
        return Err(errors::CONSUMER_SMALL_HEARTBEAT.error());
    }
    Ok(())
}

fn check_pull(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    limits: &ConsumerLimitsInForce,
) -> Result<(), ApiError> {
    if config.ack_policy == AckPolicy::None && stream.retention == RetentionPolicy::WorkQueue {
        return Err(errors::CONSUMER_PULL_REQUIRES_ACK.error());
    }
    if config.rate_limit_bps > 0 {
        return Err(errors::CONSUMER_PULL_WITH_RATE_LIMIT.error());
    }
    if config.idle_heartbeat > 0 {
        return Err(errors::CONSUMER_HB_REQUIRES_PUSH.error());
    }
    if config.flow_control {
        return Err(errors::CONSUMER_FC_REQUIRES_PUSH.error());
    }
    if config.max_expires != 0 && config.max_expires < MAX_EXPIRES_MIN {
        return Err(errors::CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL.error());
    }
    if limits.max_request_batch > 0 && config.max_batch > limits.max_request_batch {
        return Err(errors::CONSUMER_MAX_REQUEST_BATCH_EXCEEDED.with(limits.max_request_batch));
    }
    Ok(())
}

fn check_limits(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    limits: &ConsumerLimitsInForce,
) -> Result<(), ApiError> {
    let limits = [limits.max_ack_pending, limits.account_max_ack_pending];
    for limit in limits.into_iter().chain([stream.consumer_limits.max_ack_pending]) {
        if limit > 0 && config.max_ack_pending > limit {
            return Err(errors::CONSUMER_MAX_PENDING_ACK_EXCESS.with(limit));
        }
    }
    let threshold = stream.consumer_limits.inactive_threshold;
    if threshold > 0 && config.inactive_threshold > threshold {
        let text = super::go_duration(u64::try_from(threshold).unwrap_or(0));
        return Err(errors::CONSUMER_INACTIVE_THRESHOLD_EXCESS.with(text));
    }
    Ok(())
}

fn check_filters(config: &ConsumerConfig) -> Result<(), ApiError> {
    if !config.filter_subject.is_empty() && !config.filter_subjects.is_empty() {
        return Err(errors::CONSUMER_DUPLICATE_FILTER_SUBJECTS.error());
    }
    if !config.filter_subject.is_empty() && !is_valid_subject(config.filter_subject.as_bytes()) {
        return Err(invalid("invalid subject"));
    }
    if config.filter_subjects.iter().any(String::is_empty) {
        return Err(errors::CONSUMER_EMPTY_FILTER.error());
    }
    for (index, filter) in config.filter_subjects.iter().enumerate() {
        if !is_valid_subject(filter.as_bytes()) {
            return Err(invalid("invalid subject"));
        }
        let overlapped = config.filter_subjects.iter().enumerate().any(|(other_index, other)| {
            other_index != index && is_subset(filter.as_bytes(), other.as_bytes())
        });
        if overlapped {
            return Err(errors::CONSUMER_OVERLAPPING_SUBJECT_FILTERS.error());
        }
    }
    Ok(())
}

/// The deliver policy and the start it needs or must not have.
fn check_start(config: &ConsumerConfig) -> Result<(), ApiError> {
    let policy = match config.deliver_policy {
        DeliverPolicy::All => "all",
        DeliverPolicy::Last => "last",
        DeliverPolicy::New => "new",
        DeliverPolicy::LastPerSubject => "last per subject",
        DeliverPolicy::ByStartSequence => "by start sequence",
        DeliverPolicy::ByStartTime => "by start time",
    };
    let also_set = |start: &str| {
        let text =
            format!("consumer delivery policy is deliver {policy}, but optional start {start} is also set");
        Err(errors::CONSUMER_INVALID_POLICY.with(text))
    };
    let not_set = |what: &str| {
        let text = format!("consumer delivery policy is deliver {policy}, but optional {what} is not set");
        Err(errors::CONSUMER_INVALID_POLICY.with(text))
    };
    match config.deliver_policy {
        DeliverPolicy::ByStartSequence if config.opt_start_seq == 0 => not_set("start sequence"),
        DeliverPolicy::ByStartSequence if config.opt_start_time.is_some() => also_set("time"),
        DeliverPolicy::ByStartTime if config.opt_start_time.is_none() => not_set("start time"),
        DeliverPolicy::ByStartTime if config.opt_start_seq != 0 => also_set("start sequence"),
        DeliverPolicy::ByStartSequence | DeliverPolicy::ByStartTime => Ok(()),
        _ if config.opt_start_seq > 0 => also_set("sequence"),
        _ if config.opt_start_time.is_some() => also_set("time"),
        DeliverPolicy::LastPerSubject if config.filters().next().is_none() => not_set("filter subject"),
        _ => Ok(()),
    }
}

fn check_sampling(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.sample_freq.is_empty() {
        return Ok(());
    }
    let text = config.sample_freq.strip_suffix('%').unwrap_or(&config.sample_freq);
    let reason = match text.parse::<i64>() {
        Ok(0..) => return Ok(()),
        Ok(_) => "<nil>".to_owned(),
        Err(error) => {
            let range = matches!(error.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
            let what = if range { "value out of range" } else { "invalid syntax" };
            format!("strconv.Atoi: parsing {text:?}: {what}")
        }
    };
    Err(errors::CONSUMER_INVALID_SAMPLING.with(reason))
}

fn check_priority(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.priority_policy == PriorityPolicy::None {
        if !config.priority_groups.is_empty() {
            return Err(errors::CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE.error());
        }
        if config.priority_timeout > 0 {
            return Err(errors::CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE.error());
        }
        return Ok(());
    }
    if config.is_push() {
        return Err(errors::CONSUMER_PUSH_WITH_PRIORITY_GROUP.error());
    }
    if config.priority_groups.is_empty() {
        return Err(errors::CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP.error());
    }
    for group in &config.priority_groups {
        if group.is_empty() {
            return Err(errors::CONSUMER_EMPTY_GROUP_NAME.error());
        }
        if !is_valid_group(group) {
            return Err(errors::CONSUMER_INVALID_GROUP_NAME.error());
        }
    }
    Ok(())
}

/// Names of priority groups: up to 16 letters, digits, `_`, `/`, `=` or `-`.
pub fn is_valid_group(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'=' | b'-');
    !name.is_empty() && name.len() <= GROUP_NAME_BYTES_MAX && name.bytes().all(is_allowed)
}

/// Judges a change from one normalised configuration to another.
pub fn check_consumer_update(current: &ConsumerConfig, new: &ConsumerConfig) -> Result<(), ApiError> {
    let fixed = [
        ("deliver policy can not be updated", current.deliver_policy != new.deliver_policy),
        ("storage type can not be updated", current.mem_storage != new.mem_storage),
        ("direct can not be updated", current.direct != new.direct),
        ("sourcing can not be updated", current.sourcing != new.sourcing),
        ("start sequence can not be updated", current.opt_start_seq != new.opt_start_seq),
        ("start time can not be updated", current.opt_start_time != new.opt_start_time),
        ("ack policy can not be updated", current.ack_policy != new.ack_policy),
        ("replay policy can not be updated", current.replay_policy != new.replay_policy),
        ("heart beats can not be updated", current.idle_heartbeat != new.idle_heartbeat),
        ("flow control can not be updated", current.flow_control != new.flow_control),
    ];
    if let Some((text, _)) = fixed.iter().find(|(_, changed)| *changed) {
        return Err(errors::CONSUMER_CREATE.with(text));
    }
    if current.is_push() != new.is_push() {
        let text = if current.is_push() {
            "can not update push consumer to pull based"
        } else {
            "can not update pull consumer to push based"
        };
        return Err(errors::CONSUMER_CREATE.with(text));
    }
    if current.max_waiting != new.max_waiting {
        return Err(errors::CONSUMER_CREATE.with("max waiting can not be updated"));
    }
    Ok(())
}
