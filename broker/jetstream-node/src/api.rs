//! The JetStream API: which server answers a request, and how the answer goes out. Each request's work is in a file
//! of its own. The meta leader answers for what concerns all streams and for streams that do not exist, a stream's
//! leader for the stream; who does not answer is silent, since the one who does will.

pub(crate) mod account;
pub(crate) mod consumer_create;
pub(crate) mod consumer_pause;
pub(crate) mod consumer_read;
pub(crate) mod consumer_reset;
pub(crate) mod consumer_sourcing;
pub(crate) mod consumer_unpin;
pub(crate) mod consumer_write;
pub(crate) mod direct_get;
pub(crate) mod leader;
pub(crate) mod message;
mod peer;
mod refusal;
mod rescue;
pub(crate) mod server;
mod server_evacuate;
pub(crate) mod stream_change;
pub(crate) mod stream_create;
pub(crate) mod stream_delete;
pub(crate) mod stream_info;
pub(crate) mod stream_list;
mod stream_move;
pub(crate) mod stream_peer;
pub(crate) mod stream_purge;
pub(crate) mod stream_restore;
pub(crate) mod stream_snapshot;
mod unsupported;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use weir_hub::{Account, Inbound, InternalHandler, Origin};
use weir_jsapi::request::StreamConfigRequest;
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{ApiError, errors, response};

use crate::context::Context;

/// The subject whose interest says that somebody answers an account's requests.
pub(crate) const INFO_SUBJECT: &str = "$JS.API.INFO";
/// What the meta leader answers in each account. Pull requests and direct gets are not among it: only a stream's
/// leader takes those.
pub(crate) const SUBJECTS: [&str; 16] = [
    // With those that are taken and not answered, as in nats-server.
    "$JS.API.*",
    "$JS.API.STREAM.>",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.DURABLE.>",
    "$JS.API.CONSUMER.NAMES.>",
    "$JS.API.CONSUMER.LIST.>",
    "$JS.API.CONSUMER.INFO.>",
    "$JS.API.CONSUMER.DELETE.>",
    "$JS.API.CONSUMER.PAUSE.>",
    "$JS.API.CONSUMER.UNPIN.>",
    "$JS.API.CONSUMER.RESET.>",
    "$JS.API.CONSUMER.LEADER.>",
    "$JS.API.CONSUMER.PEER.>",
    "$JS.API.ACCOUNT.>",
    "$JS.API.META.>",
    "$JS.API.SERVER.>",
];
/// What every server answers in the system account.
pub(crate) const RESCUE_SUBJECT: &str = "$JS.API.META.RESCUE";
/// What the meta leader answers in the system account.
pub(crate) const SYSTEM_SUBJECTS: [&str; 3] = ["$JS.API.META.>", "$JS.API.SERVER.>", "$JS.API.ACCOUNT.>"];

/// Their advisories tell who asked.
const BACKUP_SUBJECTS: [&[u8]; 2] = [b"$JS.API.STREAM.SNAPSHOT.", b"$JS.API.STREAM.RESTORE."];

/// Who asked, for the audit; `None` inside for somebody unknown.
pub(crate) struct Asker(pub(crate) Option<Box<RawValue>>);

/// A request as it came.
pub(crate) struct Request {
    pub(crate) account: Arc<Account>,
    pub(crate) subject: String,
    /// Empty when no answer is wanted.
    pub(crate) reply: Bytes,
    pub(crate) headers: Bytes,
    pub(crate) body: Bytes,
    /// Unknown fields are refused.
    strict: bool,
    /// Present when somebody listens to audits, and for requests that have advisories of their own.
    pub(crate) asker: Option<Asker>,
}

/// What a request gets: a JSON body, or nothing from this server.
pub(crate) type Answer = Option<Vec<u8>>;

impl Request {
    /// Copies a message; `None` for one whose subject is no text.
    fn from_message(context: &Context, role: Role, message: &Inbound<'_>) -> Option<Self> {
        let tells_who_asks = message.account.has_interest(weir_jsapi::advisory::API_AUDIT.as_bytes())
            || BACKUP_SUBJECTS.iter().any(|subject| message.subject.starts_with(subject));
        let asker = tells_who_asks.then(|| asker(context, role, message));
        Some(Self {
            account: Arc::clone(message.account),
            subject: std::str::from_utf8(message.subject).ok()?.to_owned(),
            reply: Bytes::copy_from_slice(message.reply.unwrap_or_default()),
            headers: Bytes::copy_from_slice(message.headers),
            body: Bytes::copy_from_slice(message.payload),
            strict: context.strict,
            asker,
        })
    }

    /// Whether the body says nothing: no bytes, or a JSON object without fields, as nats-server takes it.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty()
            || serde_json::from_slice::<Option<serde_json::Map<_, _>>>(&self.body)
                .is_ok_and(|fields| fields.is_none_or(|fields| fields.is_empty()))
    }

    /// Reads the body as JSON, as strictly as this server is configured to be.
    pub(crate) fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.leniently(weir_jsapi::request::decode(&self.body), weir_jsapi::json::decode_lenient)
    }

    /// Reads a body with a stream's configuration.
    pub(crate) fn decode_stream_config(&self) -> Result<StreamConfigRequest, ApiError> {
        self.leniently(StreamConfigRequest::decode(&self.body), StreamConfigRequest::decode_lenient)
    }

    fn leniently<T>(
        &self,
        strict: Result<T, String>,
        lenient: fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, ApiError> {
        let result = strict.or_else(|error| {
            tracing::warn!("Invalid JetStream request '{} > {}': {error}", self.account.name(), self.subject);
            if self.strict { Err(error) } else { lenient(&self.body) }
        });
        result.map_err(|error| errors::INVALID_JSON.with(error))
    }

    /// Answers before the work is done, as the rest of it comes in other messages.
    fn respond_early(&self, context: &Context, body: &[u8]) {
        context.count_request(self.account.name(), false);
        context.audit(self, body);
        self.respond(body);
    }

    fn respond(&self, body: &[u8]) {
        if !self.reply.is_empty() {
            self.account.publish(&self.reply, None, b"", body);
        }
    }
}

fn asker(context: &Context, role: Role, message: &Inbound<'_>) -> Asker {
    // The system account's own requests pass no import that would tell of their sender.
    let info = match role {
        Role::Meta | Role::Stream | Role::Refusal => context.hub.who_asks(message),
        Role::System | Role::Rescue => b"{}".to_vec(),
        Role::SystemRefusal if message.subject == INFO_SUBJECT.as_bytes() => b"{}".to_vec(),
        Role::SystemRefusal => return Asker(None),
    };
    let text = String::from_utf8(info).ok();
    Asker(text.and_then(|text| RawValue::from_string(text).ok()))
}

/// Which of this server's roles a request reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The meta leader's subscriptions.
    Meta,
    /// Those of a stream's leader.
    Stream,
    /// The meta leader's subscriptions in the system account.
    System,
    /// Those of a server in an account without JetStream.
    Refusal,
    /// Those of a server in the system account.
    SystemRefusal,
    /// That of a server in the system account for what every server answers.
    Rescue,
}

/// What the API's subscriptions run. Weak: the hub may keep a handler for a while after its subscription ended.
pub(crate) fn handler(context: &Arc<Context>, role: Role) -> InternalHandler {
    let context = Arc::downgrade(context);
    Arc::new(move |message| {
        let Some(context) = context.upgrade() else { return };
        // A refusal is for clients of this server; others get it from theirs.
        let is_foreign = matches!(role, Role::Refusal | Role::SystemRefusal)
            && !matches!(message.origin, Origin::Client { .. });
        if is_foreign {
            return;
        }
        if let Some(request) = Request::from_message(&context, role, message) {
            dispatch(&context, role, request);
        }
    })
}

/// Works on a request in a task of its own.
fn dispatch(context: &Arc<Context>, role: Role, request: Request) {
    if !context.api_load.enter() {
        return;
    }
    let context = Arc::clone(context);
    tokio::spawn(async move {
        if let Some((body, failed)) = answer(&context, role, &request).await {
            context.count_request(request.account.name(), failed);
            // In this order: who waits for the response asks again, and audits are to come in order.
            context.audit(&request, &body);
            request.respond(&body);
        }
        context.leave_api();
    });
}

/// The answer, and whether it is an error.
async fn answer(context: &Arc<Context>, role: Role, request: &Request) -> Option<(Vec<u8>, bool)> {
    let parsed = weir_jsapi::subject::parse(&request.subject);
    if role == Role::Rescue {
        return rescue::answer(context, request).map(|body| (body, true));
    }
    if role == Role::SystemRefusal {
        return refusal::in_system_account(parsed.as_ref(), request).map(|body| (body, true));
    }
    let parsed = parsed?;
    let result = match role {
        Role::Meta => at_meta_leader(context, &parsed, request).await,
        Role::Stream => at_stream_leader(context, &parsed, request).await,
        Role::System => server::answer(context, &parsed, request).await,
        Role::Refusal | Role::SystemRefusal | Role::Rescue => refusal::in_account(context, &parsed, request),
    };
    match result {
        Ok(answer) => answer.map(|body| (body, false)),
        Err(error) => Some((response::failure(parsed.response_kind(), error), true)),
    }
}

async fn at_meta_leader(
    context: &Arc<Context>,
    parsed: &ApiRequest<'_>,
    request: &Request,
) -> Result<Answer, ApiError> {
    if is_cluster_only(parsed) && context.cluster.is_none() {
        return Err(errors::CLUSTER_REQUIRED.error());
    }
    // A stream that exists is its leader's business.
    if let Some(stream) = stream_of(parsed)
        && !is_placed_by_meta(parsed)
    {
        if let Some(assignment) = context.assignment(request.account.name(), stream) {
            return match context.offline_reason(&request.account, &assignment) {
                Some(reason) => unsupported::answer(parsed, request, &reason).await,
                None => Ok(None),
            };
        }
        if matches!(parsed, ApiRequest::ConsumerReset { .. }) {
            return Ok(None);
        }
        consumer_create::check_request(parsed, request)?;
        required_api_level(request)?;
        if matches!(parsed, ApiRequest::ConsumerPeerRemove { .. } | ApiRequest::ConsumerPeerEvacuate { .. }) {
            peer::named(parsed, request)?;
        }
        if matches!(parsed, ApiRequest::StreamSnapshot(_)) && request.is_empty() {
            return Err(errors::BAD_REQUEST.error());
        }
        return Err(errors::STREAM_NOT_FOUND.error());
    }
    required_api_level(request)?;
    match parsed {
        ApiRequest::AccountInfo => account::info(context, request).await,
        ApiRequest::StreamCreate(name) => stream_create::create(context, name, request).await,
        ApiRequest::StreamUpdate(name) => stream_change::update(context, name, request).await,
        ApiRequest::StreamDelete(name) => stream_delete::delete(context, name, request).await,
        ApiRequest::StreamRestore(name) => stream_restore::start(context, name, request).await,
        ApiRequest::StreamPeerRemove(name) | ApiRequest::StreamPeerEvacuate(name) => {
            stream_peer::remove(context, parsed, name, request).await
        }
        ApiRequest::StreamNames => stream_list::names(context, request),
        ApiRequest::StreamList => stream_list::list(context, request).await,
        ApiRequest::AccountStreamMove { account, stream }
        | ApiRequest::AccountStreamCancelMove { account, stream }
            if *account == request.account.name() =>
        {
            stream_move::answer(context, parsed, account, stream, request).await
        }
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
    let is_no_api_request = matches!(parsed, ApiRequest::DirectGet { .. } | ApiRequest::ConsumerNext { .. });
    if is_no_api_request || is_placed_by_meta(parsed) {
        return Ok(None);
    }
    // Refused by the meta leader.
    if is_cluster_only(parsed) && context.cluster.is_none() {
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
        ApiRequest::ConsumerUnpin { name, .. } => consumer_unpin::unpin(&leader, name, request).await,
        ApiRequest::ConsumerReset { name, .. } => consumer_reset::reset(&leader, name, request).await,
        ApiRequest::StreamCancelMove(_) => Err(errors::STREAM_RECONFIGURE_NOT_IN_PROGRESS.error()),
        ApiRequest::ConsumerLeaderStepDown { name, .. } => leader::consumer_step_down(&leader, name),
        ApiRequest::StreamSnapshot(_) => stream_snapshot::start(&leader, request),
        ApiRequest::ConsumerPeerRemove { name, .. } | ApiRequest::ConsumerPeerEvacuate { name, .. } => {
            peer::of_consumer(&leader, parsed, name, request)
        }
        _ => Ok(None),
    }
}

/// Requests about a stream that the meta leader decides, also where the stream exists.
fn is_placed_by_meta(parsed: &ApiRequest<'_>) -> bool {
    matches!(
        parsed,
        ApiRequest::StreamCreate(_)
            | ApiRequest::StreamUpdate(_)
            | ApiRequest::StreamDelete(_)
            | ApiRequest::StreamRestore(_)
            | ApiRequest::StreamPeerRemove(_)
            | ApiRequest::StreamPeerEvacuate(_)
    )
}

/// Requests that a server on its own refuses before it looks at anything else.
fn is_cluster_only(parsed: &ApiRequest<'_>) -> bool {
    matches!(
        parsed,
        ApiRequest::StreamPeerRemove(_)
            | ApiRequest::StreamPeerEvacuate(_)
            | ApiRequest::StreamCancelMove(_)
            | ApiRequest::StreamLeaderStepDown(_)
            | ApiRequest::ConsumerPeerRemove { .. }
            | ApiRequest::ConsumerPeerEvacuate { .. }
            | ApiRequest::ConsumerLeaderStepDown { .. }
    )
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
        | ApiRequest::StreamPeerEvacuate(stream)
        | ApiRequest::StreamCancelMove(stream)
        | ApiRequest::ConsumerPeerRemove { stream, .. }
        | ApiRequest::ConsumerPeerEvacuate { stream, .. }
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
        | ApiRequest::MetaRescue
        | ApiRequest::ServerRemove
        | ApiRequest::ServerEvacuate
        | ApiRequest::AccountPurge(_)
        | ApiRequest::AccountStreamMove { .. }
        | ApiRequest::AccountStreamCancelMove { .. } => None,
    }
}

/// `Nats-Required-Api-Level` above ours, or no number, is refused (2.15: error 10185).
pub(crate) fn required_api_level(request: &Request) -> Result<(), ApiError> {
    if crate::stream::input::asks_newer_api(&request.headers) {
        return Err(errors::REQUIRED_API_LEVEL.error());
    }
    Ok(())
}

/// Reads a JSON object; any other body is the default, as in nats-server.
pub(crate) fn decode_optional<T: serde::de::DeserializeOwned + Default>(
    request: &Request,
) -> Result<T, ApiError> {
    match request.body.trim_ascii_start().first() {
        Some(b'{' | b'[') => request.decode(),
        _ => Ok(T::default()),
    }
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
