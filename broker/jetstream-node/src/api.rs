//! The JetStream API: which server answers a request, and how the answer goes out. Each request's work is in a file
//! of its own. The meta leader answers for what concerns all streams and for streams that do not exist, a stream's
//! leader for the stream; who does not answer is silent, since the one who does will.

pub(crate) mod account;
pub(crate) mod consumer_create;
pub(crate) mod consumer_pause;
pub(crate) mod consumer_read;
pub(crate) mod consumer_write;
pub(crate) mod direct_get;
pub(crate) mod leader;
pub(crate) mod message;
pub(crate) mod stream_change;
pub(crate) mod stream_create;
pub(crate) mod stream_delete;
pub(crate) mod stream_info;
pub(crate) mod stream_list;
pub(crate) mod stream_purge;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use weir_hub::{Account, Inbound, InternalHandler};
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{ApiError, errors, headers, response};

use crate::context::Context;

/// Requests worked on at the same time, as nats-server's queue; more are dropped, the client asks again.
const IN_FLIGHT_MAX: u64 = 10_000;

/// A request as it came.
pub(crate) struct Request {
    pub(crate) account: Arc<Account>,
    pub(crate) subject: String,
    pub(crate) reply: Bytes,
    pub(crate) headers: Bytes,
    pub(crate) body: Bytes,
}

/// What a request gets: a JSON body, or nothing from this server.
pub(crate) type Answer = Option<Vec<u8>>;

impl Request {
    /// Copies a message; `None` for one that asks for no answer or is no text.
    fn from_message(message: &Inbound<'_>) -> Option<Self> {
        let reply = message.reply?;
        Some(Self {
            account: Arc::clone(message.account),
            subject: std::str::from_utf8(message.subject).ok()?.to_owned(),
            reply: Bytes::copy_from_slice(reply),
            headers: Bytes::copy_from_slice(message.headers),
            body: Bytes::copy_from_slice(message.payload),
        })
    }

    /// Whether the body says nothing: no bytes, or a JSON object without fields, as nats-server takes it.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty()
            || serde_json::from_slice::<Option<serde_json::Map<_, _>>>(&self.body)
                .is_ok_and(|fields| fields.is_none_or(|fields| fields.is_empty()))
    }

    fn respond(&self, body: &[u8]) {
        self.account.publish(&self.reply, None, b"", body);
    }
}

/// Which of this server's roles a request reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The meta leader's subscriptions.
    Meta,
    /// Those of a stream's leader.
    Stream,
}

/// What the API's subscriptions run. Weak: the hub may keep a handler for a while after its subscription ended.
pub(crate) fn handler(context: &Arc<Context>, role: Role) -> InternalHandler {
    let context = Arc::downgrade(context);
    Arc::new(move |message| {
        if let (Some(context), Some(request)) = (context.upgrade(), Request::from_message(message)) {
            dispatch(&context, role, request);
        }
    })
}

/// Works on a request in a task of its own.
fn dispatch(context: &Arc<Context>, role: Role, request: Request) {
    if context.api.in_flight.fetch_add(1, Ordering::AcqRel) >= IN_FLIGHT_MAX {
        context.api.in_flight.fetch_sub(1, Ordering::AcqRel);
        tracing::warn!("JetStream API request on {} dropped: {IN_FLIGHT_MAX} are in work", request.subject);
        return;
    }
    let context = Arc::clone(context);
    tokio::spawn(async move {
        if let Some(body) = answer(&context, role, &request).await {
            context.api.total.fetch_add(1, Ordering::Relaxed);
            request.respond(&body);
        }
        context.api.in_flight.fetch_sub(1, Ordering::AcqRel);
    });
}

async fn answer(context: &Arc<Context>, role: Role, request: &Request) -> Answer {
    let parsed = weir_jsapi::subject::parse(&request.subject)?;
    let result = match role {
        Role::Meta => at_meta_leader(context, &parsed, request).await,
        Role::Stream => at_stream_leader(context, &parsed, request).await,
    };
    match result {
        Ok(answer) => answer,
        Err(error) => {
            context.api.errors.fetch_add(1, Ordering::Relaxed);
            Some(response::failure(parsed.response_kind(), error))
        }
    }
}

async fn at_meta_leader(
    context: &Arc<Context>,
    parsed: &ApiRequest<'_>,
    request: &Request,
) -> Result<Answer, ApiError> {
    // A stream that exists is its leader's business.
    if let Some(stream) = stream_of(parsed)
        && !matches!(
            parsed,
            ApiRequest::StreamCreate(_) | ApiRequest::StreamUpdate(_) | ApiRequest::StreamDelete(_)
        )
    {
        if context.assignment(request.account.name(), stream).is_some() {
            return Ok(None);
        }
        required_api_level(request)?;
        return Err(errors::STREAM_NOT_FOUND.error());
    }
    required_api_level(request)?;
    match parsed {
        ApiRequest::AccountInfo => account::info(context, request).await,
        ApiRequest::StreamCreate(name) => stream_create::create(context, name, request).await,
        ApiRequest::StreamUpdate(name) => stream_change::update(context, name, request).await,
        ApiRequest::StreamDelete(name) => stream_delete::delete(context, name, request).await,
        ApiRequest::StreamNames => stream_list::names(context, request),
        ApiRequest::StreamList => stream_list::list(context, request).await,
        ApiRequest::MetaLeaderStepDown => leader::meta_step_down(context, request).await,
        ApiRequest::ServerRemove => Err(errors::CLUSTER_UN_SUPPORT_FEATURE.error()),
        _ => Ok(None),
    }
}

async fn at_stream_leader(
    context: &Arc<Context>,
    parsed: &ApiRequest<'_>,
    request: &Request,
) -> Result<Answer, ApiError> {
    let Some(stream) = stream_of(parsed) else { return Ok(None) };
    let Some(leader) = context.replica(request.account.name(), stream).and_then(|replica| replica.leader())
    else {
        return Ok(None);
    };
    if let ApiRequest::DirectGet { last_by_subject, .. } = parsed {
        direct_get::get(&leader, *last_by_subject, request);
        return Ok(None);
    }
    if matches!(
        parsed,
        ApiRequest::StreamCreate(_)
            | ApiRequest::StreamUpdate(_)
            | ApiRequest::StreamDelete(_)
            | ApiRequest::ConsumerNext { .. }
    ) {
        return Ok(None);
    }
    required_api_level(request)?;
    match parsed {
        ApiRequest::StreamInfo(_) => stream_info::info(&leader, request),
        ApiRequest::StreamPurge(_) => stream_purge::purge(&leader, request).await,
        ApiRequest::StreamMsgGet(_) => message::get(&leader, request),
        ApiRequest::StreamMsgDelete(_) => message::delete(&leader, request).await,
        ApiRequest::StreamLeaderStepDown(_) => leader::stream_step_down(&leader, request).await,
        ApiRequest::ConsumerCreate { .. } | ApiRequest::ConsumerDurableCreate { .. } => {
            consumer_create::create(&leader, parsed, request).await
        }
        ApiRequest::ConsumerNames(_) => consumer_read::names(&leader, request),
        ApiRequest::ConsumerList(_) => consumer_read::list(&leader, request),
        ApiRequest::ConsumerInfo { name, .. } => consumer_read::info(&leader, name, request),
        ApiRequest::ConsumerDelete { name, .. } => consumer_write::delete(&leader, name, request).await,
        ApiRequest::ConsumerPause { name, .. } => consumer_pause::pause(&leader, name, request).await,
        ApiRequest::StreamPeerRemove(_) | ApiRequest::ConsumerLeaderStepDown { .. }
            if context.cluster.is_none() =>
        {
            Err(errors::CLUSTER_REQUIRED.error())
        }
        ApiRequest::StreamSnapshot(_)
        | ApiRequest::StreamRestore(_)
        | ApiRequest::StreamPeerRemove(_)
        | ApiRequest::ConsumerUnpin { .. }
        | ApiRequest::ConsumerReset { .. }
        | ApiRequest::ConsumerLeaderStepDown { .. } => Err(errors::CLUSTER_UN_SUPPORT_FEATURE.error()),
        _ => Ok(None),
    }
}

fn stream_of<'a>(parsed: &ApiRequest<'a>) -> Option<&'a str> {
    match *parsed {
        ApiRequest::StreamCreate(stream)
        | ApiRequest::StreamUpdate(stream)
        | ApiRequest::StreamInfo(stream)
        | ApiRequest::StreamDelete(stream)
        | ApiRequest::StreamPurge(stream)
        | ApiRequest::StreamMsgGet(stream)
        | ApiRequest::StreamMsgDelete(stream)
        | ApiRequest::StreamSnapshot(stream)
        | ApiRequest::StreamRestore(stream)
        | ApiRequest::StreamLeaderStepDown(stream)
        | ApiRequest::StreamPeerRemove(stream)
        | ApiRequest::ConsumerCreate { stream, .. }
        | ApiRequest::ConsumerDurableCreate { stream, .. }
        | ApiRequest::ConsumerNames(stream)
        | ApiRequest::ConsumerList(stream)
        | ApiRequest::ConsumerInfo { stream, .. }
        | ApiRequest::ConsumerDelete { stream, .. }
        | ApiRequest::ConsumerPause { stream, .. }
        | ApiRequest::ConsumerUnpin { stream, .. }
        | ApiRequest::ConsumerReset { stream, .. }
        | ApiRequest::ConsumerNext { stream, .. }
        | ApiRequest::ConsumerLeaderStepDown { stream, .. }
        | ApiRequest::DirectGet { stream, .. } => Some(stream),
        ApiRequest::AccountInfo
        | ApiRequest::StreamNames
        | ApiRequest::StreamList
        | ApiRequest::MetaLeaderStepDown
        | ApiRequest::ServerRemove => None,
    }
}

/// `Nats-Required-Api-Level` above ours, or no number, is refused (2.15: error 10185).
pub(crate) fn required_api_level(request: &Request) -> Result<(), ApiError> {
    let Some(value) = weir_jetstream::headers::get(&request.headers, headers::REQUIRED_API_LEVEL) else {
        return Ok(());
    };
    let level: Option<u32> = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
    if level.is_some_and(|level| level <= weir_jsapi::API_LEVEL) {
        return Ok(());
    }
    Err(errors::REQUIRED_API_LEVEL.error())
}

/// Reads a JSON body; an empty one is the default.
pub(crate) fn decode_optional<T: serde::de::DeserializeOwned + Default>(
    request: &Request,
) -> Result<T, ApiError> {
    if request.body.is_empty() {
        return Ok(T::default());
    }
    weir_jsapi::request::decode(&request.body).map_err(|error| errors::INVALID_JSON.with(error))
}

/// The slice of a paged list, and the page as the response prints it.
pub(crate) fn page<T>(items: Vec<T>, offset: i64, limit: usize) -> (Vec<T>, response::Paging) {
    let total = items.len();
    let offset = usize::try_from(offset).unwrap_or(0).min(total);
    let slice: Vec<T> = items.into_iter().skip(offset).take(limit).collect();
    (slice, response::Paging { total: total as u64, offset: offset as u64, limit: limit as u64 })
}

/// The API error for a proposal that came to nothing.
pub(crate) fn propose_failed(error: &crate::replicator::ProposeError) -> ApiError {
    use crate::replicator::ProposeError;
    match error {
        ProposeError::NotLeader { .. } | ProposeError::Backpressure => errors::CLUSTER_NOT_AVAIL.error(),
        ProposeError::Unknown(_) | ProposeError::Failed(_) => errors::STREAM_GENERAL.with(error),
    }
}
