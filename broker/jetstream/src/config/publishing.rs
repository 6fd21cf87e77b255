//! The rules of what a stream's configuration asks of publishes: roll-ups, counters, schedules, batches, how they are
//! made durable. In nats-server's words.

use weir_jsapi::{ApiError, DiscardPolicy, PersistMode, RetentionPolicy, StorageType, StreamConfig};

use super::stream::invalid;

pub(super) fn check_rollup(config: &StreamConfig) -> Result<(), ApiError> {
    if config.deny_purge && config.allow_rollup_hdrs {
        return Err(invalid("roll-ups require the purge permission"));
    }
    Ok(())
}

/// A counter's value is in its subject's last message: nothing may remove that but another one.
pub(super) fn check_counter(config: &StreamConfig) -> Result<(), ApiError> {
    if !config.allow_msg_counter {
        return Ok(());
    }
    if config.discard == DiscardPolicy::New {
        return Err(invalid("counter stream cannot use discard new"));
    }
    if config.allow_msg_ttl {
        return Err(invalid("counter stream cannot use message TTLs"));
    }
    if config.allow_msg_schedules {
        return Err(invalid("counter stream cannot use message schedules"));
    }
    if config.retention != RetentionPolicy::Limits {
        return Err(invalid("counter stream can only use limits retention"));
    }
    Ok(())
}

/// Schedules need roll-ups.
pub(super) fn check_schedules(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if !config.allow_msg_schedules {
        return Ok(());
    }
    if config.discard == DiscardPolicy::New {
        return Err(invalid("message scheduling cannot use discard new"));
    }
    if !config.allow_rollup_hdrs {
        if pedantic {
            return Err(invalid("message scheduling cannot be set if roll-ups are disabled"));
        }
        config.allow_rollup_hdrs = true;
        config.deny_purge = false;
    }
    Ok(())
}

pub(super) fn check_persist_mode(config: &StreamConfig) -> Result<(), ApiError> {
    if config.persist_mode != PersistMode::Async {
        return Ok(());
    }
    if config.storage != StorageType::File {
        return Err(invalid("async persist mode is only supported on file storage"));
    }
    if config.num_replicas > 1 {
        return Err(invalid("async persist mode is not supported on replicated streams"));
    }
    if config.allow_atomic {
        return Err(invalid("async persist mode is not supported with atomic batch publish"));
    }
    Ok(())
}

/// What an update may not change.
pub(super) fn check_update(current: &StreamConfig, new: &StreamConfig) -> Result<(), ApiError> {
    if new.allow_msg_counter != current.allow_msg_counter {
        return Err(invalid("stream configuration update can not change message counter setting"));
    }
    if current.allow_msg_schedules && !new.allow_msg_schedules {
        return Err(invalid("message schedules can not be disabled"));
    }
    if new.persist_mode != current.persist_mode {
        return Err(invalid("stream configuration update can not change persist mode"));
    }
    Ok(())
}

/// The API level that the features in use came with.
pub(super) fn required_level(config: &StreamConfig) -> u32 {
    if config.allow_batched {
        4
    } else if config.allow_msg_counter
        || config.allow_atomic
        || config.allow_msg_schedules
        || config.persist_mode == PersistMode::Async
    {
        2
    } else {
        u32::from(config.allow_msg_ttl || config.subject_delete_marker_ttl > 0)
    }
}
