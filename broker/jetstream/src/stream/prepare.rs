//! From a consumer request to the command that carries it out: names, defaults, rules of the stream. Done by the
//! leader before it proposes; `apply` checks again what may have changed meanwhile.

use weir_jsapi::request::{ConsumerAction, CreateConsumerRequest};
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{AckPolicy, ApiError, ConsumerConfig, DeliverPolicy, RetentionPolicy, Time, errors};
use weir_stdx::time::UnixNanos;
use weir_subject::overlaps;

use super::StreamMachine;
use crate::command::StreamCommand;
use crate::config::{
    ConsumerLimitsInForce, check_consumer_update, normalise_consumer, set_consumer_metadata,
};
use crate::store::Store;

/// A consumer request that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedConsumer {
    pub name: String,
    /// What to propose; `None` when the consumer exists just so already.
    pub command: Option<StreamCommand>,
}

/// Makes the request and the subject it came under agree; gives the name, if it has one. Whether there is such a stream
/// is not asked.
pub fn identify_consumer(
    subject: &ApiRequest<'_>,
    request: &mut CreateConsumerRequest,
) -> Result<Option<String>, ApiError> {
    let of_stream = match subject {
        ApiRequest::ConsumerDurableCreate { stream, .. } | ApiRequest::ConsumerCreate { stream, .. } => {
            stream
        }
        _ => request.stream_name.as_str(),
    };
    if request.stream_name != of_stream {
        return Err(errors::STREAM_MISMATCH.error());
    }
    let config = &mut request.config;
    let asked = match subject {
        ApiRequest::ConsumerDurableCreate { name, .. }
        | ApiRequest::ConsumerCreate { name: Some(name), .. } => name,
        _ => config.name.as_str(),
    };
    if asked.contains(['/', '\\']) {
        return Err(errors::CONSUMER_NAME_CONTAINS_PATH_SEPARATORS.error());
    }
    match subject {
        ApiRequest::ConsumerDurableCreate { name, .. } => {
            if config.durable.is_empty() {
                return Err(errors::CONSUMER_DURABLE_NAME_NOT_SET.error());
            }
            if config.durable != *name {
                return Err(errors::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT.error());
            }
            (*name).clone_into(&mut config.name);
        }
        ApiRequest::ConsumerCreate { name: Some(name), filter, .. } => {
            if !config.durable.is_empty() && config.durable != *name {
                return Err(errors::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT.error());
            }
            (*name).clone_into(&mut config.name);
            if let Some(filter) = filter {
                if !config.filter_subjects.is_empty() {
                    return Err(errors::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED.error());
                }
                if config.filter_subject != *filter {
                    return Err(errors::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH.error());
                }
            }
        }
        _ if !config.durable.is_empty() => {
            return Err(errors::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME.error());
        }
        _ => {}
    }
    let name = if config.durable.is_empty() { &config.name } else { &config.durable };
    Ok((!name.is_empty()).then(|| name.clone()))
}

impl<S: Store> StreamMachine<S> {
    /// Judges CONSUMER.CREATE and CONSUMER.DURABLE.CREATE. `fallback_name` names an ephemeral that brings no name.
    pub fn prepare_consumer(
        &self,
        subject: &ApiRequest<'_>,
        mut request: CreateConsumerRequest,
        fallback_name: &str,
        limits: &ConsumerLimitsInForce,
        now: UnixNanos,
    ) -> Result<PreparedConsumer, ApiError> {
        let name = identify_consumer(subject, &mut request)?.unwrap_or_else(|| fallback_name.to_owned());
        let config = normalise_consumer(request.config, &self.config, limits, request.pedantic)?;
        let Some(existing) = self.consumers.get(name.as_str()) else {
            if request.action == ConsumerAction::Update {
                return Err(errors::CONSUMER_DOES_NOT_EXIST.error());
            }
            self.check_consumer_count(&config, limits)?;
            self.check_new_consumer(&config)?;
            let config = Box::new(config);
            let command = StreamCommand::CreateConsumer { name: name.clone(), config, created: now };
            return Ok(PreparedConsumer { name, command: Some(command) });
        };
        // A pause is changed by CONSUMER.PAUSE only.
        let pause_until = existing.config.pause_until;
        let mut config = ConsumerConfig { pause_until, ..config };
        set_consumer_metadata(&mut config);
        if *existing.config == config {
            return Ok(PreparedConsumer { name, command: None });
        }
        if request.action == ConsumerAction::Create {
            return Err(errors::CONSUMER_ALREADY_EXISTS.error());
        }
        self.check_work_queue(&config, Some(&name))?;
        check_consumer_update(&existing.config, &config)?;
        let command = StreamCommand::UpdateConsumer { name: name.clone(), config: Box::new(config) };
        Ok(PreparedConsumer { name, command: Some(command) })
    }

    /// CONSUMER.PAUSE: holds a consumer until the given time, or lets it go on. `None`: it is so already.
    pub fn prepare_pause(&self, name: &str, until: Option<Time>) -> Result<Option<StreamCommand>, ApiError> {
        let consumer = self.consumers.get(name).ok_or_else(|| errors::CONSUMER_NOT_FOUND.error())?;
        let mut config = (*consumer.config).clone();
        config.pause_until = until.filter(|until| !until.is_zero());
        set_consumer_metadata(&mut config);
        if config == *consumer.config {
            return Ok(None);
        }
        Ok(Some(StreamCommand::UpdateConsumer { name: name.to_owned(), config: Box::new(config) }))
    }

    fn check_consumer_count(
        &self,
        config: &ConsumerConfig,
        limits: &ConsumerLimitsInForce,
    ) -> Result<(), ApiError> {
        let counted = self.consumers.values().filter(|consumer| !consumer.config.direct).count();
        let is_full = limits.consumers_of(self.config.max_consumers).is_some_and(|limit| counted >= limit);
        if is_full && !config.direct { Err(errors::MAXIMUM_CONSUMERS_LIMIT.error()) } else { Ok(()) }
    }

    /// The stream's own rules for one more consumer.
    pub(super) fn check_new_consumer(&self, config: &ConsumerConfig) -> Result<(), ApiError> {
        if is_internal(config) {
            return Ok(());
        }
        let counted = self.consumers.values().filter(|consumer| !is_internal(&consumer.config)).count();
        if usize::try_from(self.config.max_consumers).is_ok_and(|limit| limit > 0 && counted >= limit) {
            return Err(errors::MAXIMUM_CONSUMERS_LIMIT.error());
        }
        self.check_work_queue(config, None)
    }

    /// Each message of a work queue belongs to exactly one consumer.
    fn check_work_queue(&self, config: &ConsumerConfig, own_name: Option<&str>) -> Result<(), ApiError> {
        if self.config.retention != RetentionPolicy::WorkQueue || is_internal(config) {
            return Ok(());
        }
        if !matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::FlowControl) {
            return Err(errors::CONSUMER_WQ_REQUIRES_EXPLICIT_ACK.error());
        }
        if config.deliver_policy != DeliverPolicy::All {
            return Err(errors::CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL.error());
        }
        let others = || {
            let others = self.consumers.iter().filter(|(name, _)| own_name != Some(name));
            others.map(|(_, other)| other).filter(|other| !is_internal(&other.config))
        };
        if others().next().is_none() {
            return Ok(());
        }
        if config.filters().next().is_none() {
            return Err(errors::CONSUMER_WQ_MULTIPLE_UNFILTERED.error());
        }
        let shares = others().any(|other| {
            other.filter.is_all()
                || config.filters().any(|filter| {
                    other.filter.patterns().iter().any(|pattern| overlaps(pattern, filter.as_bytes()))
                })
        });
        if shares { Err(errors::CONSUMER_WQ_CONSUMER_NOT_UNIQUE.error()) } else { Ok(()) }
    }
}

/// Consumers of other streams that source this one: they count to no limit and take nothing from others.
fn is_internal(config: &ConsumerConfig) -> bool {
    config.direct || config.sourcing
}
