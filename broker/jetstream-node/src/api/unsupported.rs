//! Answers for streams that are offline since they need a newer server: the meta leader gives them, in nats-server's
//! words. What nats-server leaves without an answer is left so.

use std::time::Duration;

use weir_jsapi::response::{self, ConsumerList, ConsumerNames};
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{ApiError, errors};

use super::{Answer, consumer_read, required_api_level};
use crate::unsupported::Reason;

/// nats-server gives others the time to answer first.
const DELAY: Duration = Duration::from_millis(500);

pub(super) async fn answer(
    parsed: &ApiRequest<'_>,
    request: &super::Request,
    reason: &Reason,
) -> Result<Answer, ApiError> {
    required_api_level(request)?;
    let closed = "stream closed";
    match parsed {
        ApiRequest::StreamInfo(_)
        | ApiRequest::ConsumerCreate { .. }
        | ApiRequest::ConsumerDurableCreate { .. } => Err(refusal(reason).await),
        ApiRequest::StreamPurge(_) => Err(errors::STREAM_GENERAL.with(closed)),
        ApiRequest::StreamMsgDelete(_) => Err(errors::STREAM_MSG_DELETE_FAILED.with(closed)),
        ApiRequest::StreamSnapshot(_) => Err(errors::STREAM_SNAPSHOT.with(closed)),
        ApiRequest::ConsumerInfo { name, .. } => match reason.consumers.get(*name) {
            Some(reason) => {
                tokio::time::sleep(DELAY).await;
                Err(errors::CONSUMER_OFFLINE_REASON.with(reason))
            }
            None => Err(errors::CONSUMER_NOT_FOUND.error()),
        },
        ApiRequest::ConsumerDelete { name, .. } if !reason.consumers.contains_key(*name) => {
            Err(errors::CONSUMER_NOT_FOUND.error())
        }
        ApiRequest::ConsumerNames(_) => {
            let names: Vec<String> = reason.consumers.keys().cloned().collect();
            let (consumers, page) = super::page(names, 0, consumer_read::NAMES_LIMIT);
            Ok(Some(response::success(parsed.response_kind(), ConsumerNames { page, consumers })))
        }
        ApiRequest::ConsumerList(_) => {
            let missing: Vec<String> = reason.consumers.keys().cloned().collect();
            let (missing, page) = super::page(missing, 0, consumer_read::LIST_LIMIT);
            let offline = (*reason.consumers).clone();
            let list = ConsumerList { page, missing, offline, ..ConsumerList::default() };
            Ok(Some(response::success(parsed.response_kind(), list)))
        }
        _ => Ok(None),
    }
}

/// The error of a request that an offline stream cannot take, once it is time to give it.
pub(super) async fn refusal(reason: &Reason) -> ApiError {
    tokio::time::sleep(DELAY).await;
    errors::STREAM_OFFLINE_REASON.with(&reason.text)
}
