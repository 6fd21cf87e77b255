//! CONSUMER.CREATE and CONSUMER.DURABLE.CREATE, at the stream's leader: create, update, or find it there already. The
//! machine judges the request; here it is put into the log and answered.

use std::sync::Arc;

use weir_jetstream::config::with_server_metadata;
use weir_jetstream::stream::{PreparedConsumer, identify_consumer};
use weir_jetstream::{Outcome, StreamCommand};
use weir_jsapi::request::CreateConsumerRequest;
use weir_jsapi::response::kind;
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{ApiError, errors, response};

use super::{Answer, Request, consumer_sourcing, propose_failed};
use crate::clock;
use crate::stream::leader::StreamLeader;

/// Letters of a name that the server makes up, as nats-server.
const RANDOM_NAME_LEN: usize = 8;

pub(crate) async fn create(
    leader: &Arc<StreamLeader>,
    subject: &ApiRequest<'_>,
    request: &Request,
) -> Result<Answer, ApiError> {
    let mut asked: CreateConsumerRequest = request.decode()?;
    let adapted = consumer_sourcing::adapt(leader, subject, &mut asked, request)?;
    let subject = &adapted.subject(leader.name(), *subject);
    let Some(replica) = leader.replica() else { return Ok(None) };
    let is_sourcing = asked.config.sourcing;
    let replicas = match asked.config.num_replicas {
        0 => leader.config().num_replicas,
        replicas => replicas,
    };
    let limits = leader.context.consumer_limits(leader.account.name(), replicas)?;
    let fallback_name = leader.context.random_text(RANDOM_NAME_LEN);
    let prepared = {
        let state = replica.replicated.lock();
        state.machine().prepare_consumer(subject, asked, &fallback_name, &limits, clock::now())?
    };
    let PreparedConsumer { name, command } = prepared;
    if let Some(StreamCommand::UpdateConsumer { config, .. }) = &command
        && moves_bound_consumer(leader, &name, &config.deliver_subject)
    {
        return Err(errors::CONSUMER_NAME_EXIST.error());
    }
    let is_new = matches!(command, Some(StreamCommand::CreateConsumer { .. }));
    if let Some(command) = command
        && let Outcome::Refused(error) =
            leader.propose(&command).await.map_err(|error| propose_failed(&error))?
    {
        return Err(error);
    }
    if is_new {
        if let Some(info) = leader.cluster_info().filter(|_| replica.assignment().is_replicated()) {
            leader.context.leader_elected(&leader.account, leader.name(), &name, &info);
        }
        leader.context.consumer_action(&leader.account, leader.name(), &name, "create");
    }
    if !is_new && is_sourcing {
        // What the other stream was sent and did not take over comes again.
        leader.reset_consumer(&name, 0).await?;
    }
    let mut info = leader.consumer_info(&name).ok_or_else(|| errors::CONSUMER_NOT_FOUND.error())?;
    if let Some(config) = &mut info.config {
        with_server_metadata(&mut config.metadata);
    }
    let pause_until = info.config.as_ref().and_then(|config| config.pause_until);
    if pause_until.is_some() && info.paused {
        super::consumer_pause::advise(leader, &name, pause_until);
    }
    let body = response::success(kind::CONSUMER_CREATE, info);
    match adapted.headers() {
        Some(headers) => {
            request.account.publish(&request.reply, None, headers.as_bytes(), &body);
            Ok(None)
        }
        None => Ok(Some(body)),
    }
}

/// What is judged of a request to create a consumer before its stream is looked for; nothing of other requests.
pub(crate) fn check_request(subject: &ApiRequest<'_>, request: &Request) -> Result<(), ApiError> {
    if !matches!(subject, ApiRequest::ConsumerCreate { .. } | ApiRequest::ConsumerDurableCreate { .. }) {
        return Ok(());
    }
    let mut asked: CreateConsumerRequest = request.decode()?;
    super::required_api_level(request)?;
    identify_consumer(subject, &mut asked).map(drop)
}

/// A push consumer that somebody listens to keeps its deliver subject.
fn moves_bound_consumer(leader: &StreamLeader, name: &str, deliver_subject: &str) -> bool {
    let Some(replica) = leader.replica() else { return false };
    let current =
        replica.replicated.lock().machine().consumer(name).map(|consumer| Arc::clone(&consumer.config));
    current.is_some_and(|current| current.deliver_subject != deliver_subject) && leader.is_bound(name)
}
