//! What is special in CONSUMER.CREATE when a mirror or source of another stream asks: its consumer gets a name that no
//! earlier one has, or becomes durable where messages are kept for those who did not have them; and the stream says
//! which one of its name it is.

use weir_jetstream::headers as blocks;
use weir_jetstream::sourcing::stream_identity;
use weir_jsapi::request::CreateConsumerRequest;
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{AckPolicy, ApiError, RetentionPolicy, errors, headers};

use super::Request;
use crate::stream::leader::StreamLeader;

/// Letters that make a name unlike earlier ones.
const SUFFIX_LEN: usize = 8;

/// How the request goes on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Adapted {
    /// The consumer's name, when it is not the one of the subject.
    name: Option<String>,
    is_durable: bool,
    /// The stream's identity, to be told.
    identity: Option<String>,
}

impl Adapted {
    /// The request's subject, as if it had asked for what it gets.
    pub(crate) fn subject<'a>(&'a self, stream: &'a str, asked: ApiRequest<'a>) -> ApiRequest<'a> {
        match &self.name {
            Some(name) if self.is_durable => ApiRequest::ConsumerDurableCreate { stream, name },
            Some(_) => ApiRequest::ConsumerCreate { stream, name: None, filter: None },
            None => asked,
        }
    }

    /// The headers of a good answer.
    pub(crate) fn headers(&self) -> Option<String> {
        let identity = self.identity.as_ref()?;
        Some(format!("NATS/1.0\r\n{}: {identity}\r\n\r\n", headers::STREAM_IDENTITY))
    }
}

/// Changes the request of a mirror or source to what it shall get; leaves others as they are.
pub(crate) fn adapt(
    leader: &StreamLeader,
    subject: &ApiRequest<'_>,
    asked: &mut CreateConsumerRequest,
    request: &Request,
) -> Result<Adapted, ApiError> {
    let mut adapted = Adapted::default();
    let config = &mut asked.config;
    if !config.direct && !config.sourcing {
        return Ok(adapted);
    }
    let Some(replica) = leader.replica() else { return Ok(adapted) };
    let (retention, created) = {
        let state = replica.replicated.lock();
        (state.machine().config().retention, state.machine().created())
    };
    if config.direct && config.sourcing && !config.name.is_empty() {
        check_subject(subject, config)?;
        if retention == RetentionPolicy::Limits {
            let suffix = leader.context.random_text(SUFFIX_LEN);
            config.name = format!("{}-{suffix}", config.name);
        } else {
            config.direct = false;
            config.durable.clone_from(&config.name);
            config.ack_policy = AckPolicy::FlowControl;
            config.ack_wait = 0;
            config.max_deliver = 0;
            config.inactive_threshold = 0;
            adapted.is_durable = true;
            let state = replica.replicated.lock();
            if let Some(existing) = state.machine().consumer(&config.name) {
                config.deliver_policy = existing.config.deliver_policy;
                config.opt_start_seq = existing.config.opt_start_seq;
                config.opt_start_time = existing.config.opt_start_time;
            }
        }
        adapted.name = Some(config.name.clone());
    }
    let identity = stream_identity(created);
    let expected = blocks::get_str(&request.headers, headers::STREAM_IDENTITY).unwrap_or_default();
    if !expected.is_empty() && expected != identity {
        return Err(errors::CONSUMER_STREAM_IDENTITY_MISMATCH.with(identity));
    }
    adapted.identity = Some(identity);
    Ok(adapted)
}

/// What the subject says must agree, as for every consumer.
fn check_subject(subject: &ApiRequest<'_>, config: &weir_jsapi::ConsumerConfig) -> Result<(), ApiError> {
    let ApiRequest::ConsumerCreate { name: Some(name), filter, .. } = subject else { return Ok(()) };
    if config.name != *name {
        return Err(errors::CONSUMER_NAME_EXIST.error());
    }
    match filter {
        Some(_) if !config.filter_subjects.is_empty() => {
            Err(errors::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED.error())
        }
        Some(filter) if config.filter_subject != *filter => {
            Err(errors::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH.error())
        }
        _ => Ok(()),
    }
}
