//! CONSUMER.CREATE and CONSUMER.DURABLE.CREATE, at the stream's leader: create, update, or find it there already.

use std::sync::Arc;

use weir_jetstream::config::{
    ConsumerLimitsInForce, check_consumer_update, is_valid_name, normalise_consumer, with_server_metadata,
};
use weir_jetstream::{Outcome, StreamCommand};
use weir_jsapi::request::{ConsumerAction, CreateConsumerRequest};
use weir_jsapi::response::kind;
use weir_jsapi::{ApiError, ConsumerConfig, errors, response};

use super::{Answer, Request, propose_failed};
use crate::clock;
use crate::stream::leader::StreamLeader;

/// Longest name of a consumer, as nats-server.
const NAME_LEN_MAX: usize = 255;
/// Letters of a name that the server makes up, as nats-server.
const RANDOM_NAME_LEN: usize = 8;

pub(crate) async fn create(
    leader: &Arc<StreamLeader>,
    name_in_subject: Option<&str>,
    filter_in_subject: Option<&str>,
    durable_request: bool,
    request: &Request,
) -> Result<Answer, ApiError> {
    let mut asked: CreateConsumerRequest =
        weir_jsapi::request::decode(&request.body).map_err(|error| errors::INVALID_JSON.with(error))?;
    if asked.stream_name != **leader.name() {
        return Err(errors::STREAM_MISMATCH.error());
    }
    check_subject(&asked.config, name_in_subject, filter_in_subject, durable_request)?;
    let stream = leader.config();
    let limits =
        ConsumerLimitsInForce { clustered: leader.context.cluster.is_some(), ..ConsumerLimitsInForce::default() };
    let name = name_of(leader, &mut asked.config, name_in_subject)?;
    let existing = existing_config(leader, &name);
    let config = normalise_consumer(asked.config, &stream, &limits, asked.pedantic)?;
    if existing.is_none() && stream.max_consumers > 0 {
        let count = leader.replica().map_or(0, |replica| replica.replicated.lock().machine().consumers().len());
        if i64::try_from(count).unwrap_or(i64::MAX) >= stream.max_consumers {
            return Err(errors::MAXIMUM_CONSUMERS_LIMIT.error());
        }
    }
    let command = match (existing, asked.action) {
        (Some(_), ConsumerAction::Create) if existing_differs(leader, &name, &config) => {
            return Err(errors::CONSUMER_ALREADY_EXISTS.error());
        }
        (None, ConsumerAction::Update) => return Err(errors::CONSUMER_DOES_NOT_EXIST.error()),
        (Some(current), _) => {
            check_consumer_update(&current, &config)?;
            StreamCommand::UpdateConsumer { name: name.clone(), config: Box::new(config) }
        }
        (None, _) => {
            StreamCommand::CreateConsumer { name: name.clone(), config: Box::new(config), created: clock::now() }
        }
    };
    match leader.propose(&command).await.map_err(|error| propose_failed(&error))? {
        Outcome::Refused(error) => return Err(error),
        Outcome::ConsumerReady { .. } | Outcome::Done => {}
        _ => return Err(errors::CONSUMER_CREATE.with("unexpected outcome")),
    }
    let mut info = leader.consumer_info(&name).ok_or_else(|| errors::CONSUMER_NOT_FOUND.error())?;
    if let Some(config) = &mut info.config {
        with_server_metadata(&mut config.metadata);
    }
    Ok(Some(response::success(kind::CONSUMER_CREATE, info)))
}

/// What the request's subject says must fit what its body says.
fn check_subject(
    config: &ConsumerConfig,
    name: Option<&str>,
    filter: Option<&str>,
    durable_request: bool,
) -> Result<(), ApiError> {
    if durable_request {
        if config.durable.is_empty() {
            return Err(errors::CONSUMER_DURABLE_NAME_NOT_SET.error());
        }
        if name != Some(config.durable.as_str()) {
            return Err(errors::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT.error());
        }
        return Ok(());
    }
    let Some(name) = name else {
        // CONSUMER.CREATE.S alone is the old way to make an ephemeral one.
        if !config.durable.is_empty() {
            return Err(errors::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME.error());
        }
        return Ok(());
    };
    let in_body = if config.name.is_empty() { &config.durable } else { &config.name };
    if name != in_body {
        return Err(errors::CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH.error());
    }
    if let Some(filter) = filter {
        if !config.filter_subjects.is_empty() {
            return Err(errors::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED.error());
        }
        if filter != config.filter_subject {
            return Err(errors::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH.error());
        }
    }
    Ok(())
}

/// The consumer's name, made up where none is given.
fn name_of(
    leader: &StreamLeader,
    config: &mut ConsumerConfig,
    in_subject: Option<&str>,
) -> Result<String, ApiError> {
    if !config.durable.is_empty() && !is_valid_name(&config.durable) {
        return Err(errors::CONSUMER_BAD_DURABLE_NAME.error());
    }
    let given = [in_subject.unwrap_or_default(), &config.durable, &config.name];
    if let Some(name) = given.into_iter().find(|name| !name.is_empty()) {
        if name.len() > NAME_LEN_MAX {
            return Err(errors::CONSUMER_NAME_TOO_LONG.with(NAME_LEN_MAX));
        }
        if name.contains(['/', '\\']) {
            return Err(errors::CONSUMER_NAME_CONTAINS_PATH_SEPARATORS.error());
        }
        return Ok(name.to_owned());
    }
    loop {
        let name = leader.context.random_text(RANDOM_NAME_LEN);
        if existing_config(leader, &name).is_none() {
            config.name.clone_from(&name);
            return Ok(name);
        }
    }
}

fn existing_config(leader: &StreamLeader, name: &str) -> Option<Arc<ConsumerConfig>> {
    let replica = leader.replica()?;
    let state = replica.replicated.lock();
    state.machine().consumer(name).map(|consumer| Arc::clone(&consumer.config))
}

fn existing_differs(leader: &StreamLeader, name: &str, config: &ConsumerConfig) -> bool {
    existing_config(leader, name).is_some_and(|current| *current != *config)
}
