//! Answers to clients whose account has no JetStream. Each server gives them to its own clients.

use weir_jsapi::response::{self, kind};
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{ApiError, errors};

use super::{Answer, Request, is_cluster_only, required_api_level};
use crate::context::Context;

/// In an account that may not use JetStream.
pub(super) fn in_account(
    context: &Context,
    parsed: &ApiRequest<'_>,
    request: &Request,
) -> Result<Answer, ApiError> {
    if is_cluster_only(parsed) && context.cluster.is_none() {
        return Err(errors::CLUSTER_REQUIRED.error());
    }
    if is_for_the_system(parsed) {
        return Ok(None);
    }
    required_api_level(request)?;
    if matches!(parsed, ApiRequest::ConsumerUnpin { .. }) {
        // The one request whose body nats-server looks at first.
        let parsed = match request.body.is_empty() {
            true => Err("unexpected end of JSON input".to_owned()),
            false => weir_jsapi::json::parse_lenient(&request.body).map(drop),
        };
        parsed.map_err(|error| errors::INVALID_JSON.with(error))?;
    }
    Err(errors::NOT_ENABLED_FOR_ACCOUNT.error())
}

/// In the system account, which never has JetStream.
pub(super) fn in_system_account(parsed: Option<&ApiRequest<'_>>, request: &Request) -> Option<Vec<u8>> {
    if parsed.is_some_and(is_for_the_system) || request.subject.starts_with("$JS.API.ACCOUNT.") {
        return None;
    }
    let error = errors::NOT_ENABLED_FOR_ACCOUNT.error();
    Some(match parsed {
        Some(ApiRequest::AccountInfo) => match required_api_level(request) {
            Ok(()) => response::failure(kind::ACCOUNT_INFO, error),
            Err(error) => response::failure(kind::ACCOUNT_INFO, error),
        },
        _ => response::failure(kind::SYSTEM_RESPONSE, error),
    })
}

/// What the meta leader answers to the system account.
fn is_for_the_system(parsed: &ApiRequest<'_>) -> bool {
    matches!(
        parsed,
        ApiRequest::MetaLeaderStepDown
            | ApiRequest::MetaRescue
            | ApiRequest::ServerRemove
            | ApiRequest::ServerEvacuate
            | ApiRequest::AccountPurge(_)
            | ApiRequest::AccountStreamMove { .. }
            | ApiRequest::AccountStreamCancelMove { .. }
    )
}
