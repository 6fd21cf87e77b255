//! STREAM.NAMES and STREAM.LIST. Names come from the meta state; infos are asked of each stream's leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use weir_hub::Account;
use weir_jsapi::request::StreamNamesRequest;
use weir_jsapi::response::{StreamList, StreamNames, kind};
use weir_jsapi::{ApiError, StreamInfo, response};

use super::{Answer, Request, decode_optional, page};
use crate::context::Context;

/// Names in one page, as nats-server.
const NAMES_LIMIT: usize = 1024;
/// Infos in one page, as nats-server.
const LIST_LIMIT: usize = 256;
/// Where a stream's leader tells other servers of the stream; `STREAM.INFO` is for clients, and counted.
pub(crate) const INTERNAL_INFO_PREFIX: &str = "$JSC.STREAM.INFO.";
/// How long a stream's leader has to answer.
const INFO_TIMEOUT: Duration = Duration::from_secs(2);
/// Leaders asked at the same time.
const INFO_CONCURRENCY: usize = 64;

pub(crate) fn names(context: &Arc<Context>, request: &Request) -> Result<Answer, ApiError> {
    let query: StreamNamesRequest = decode_optional(request)?;
    let all = matching(context, request.account.name(), &query.subject);
    let (streams, page) = page(all, query.offset, NAMES_LIMIT);
    Ok(Some(response::success(kind::STREAM_NAMES, StreamNames { page, streams })))
}

pub(crate) async fn list(context: &Arc<Context>, request: &Request) -> Result<Answer, ApiError> {
    let query: StreamNamesRequest = decode_optional(request)?;
    let all = matching(context, request.account.name(), &query.subject);
    let (names, page) = page(all, query.offset, LIST_LIMIT);
    let offline = offline_of(context, &request.account, &names);
    let asked = names.iter().filter(|name| !offline.contains_key(*name)).cloned().collect();
    let (streams, without_answer) = infos_of(context, &request.account, asked).await;
    let is_missing = |name: &String| offline.contains_key(name) || without_answer.contains(name);
    let missing = names.into_iter().filter(is_missing).collect();
    Ok(Some(response::success(kind::STREAM_LIST, StreamList { page, streams, missing, offline })))
}

/// Those of the streams that are offline since they need a newer server, and why.
fn offline_of(context: &Context, account: &Arc<Account>, names: &[String]) -> BTreeMap<String, String> {
    let reason = |name: &String| {
        let assignment = context.assignment(account.name(), name)?;
        Some((name.clone(), context.offline_reason(account, &assignment)?.text.to_string()))
    };
    names.iter().filter_map(reason).collect()
}

/// Names of the account's streams, in order, whose subjects overlap `subject` when it is given.
fn matching(context: &Context, account: &str, subject: &str) -> Vec<String> {
    let meta = context.meta.lock();
    meta.machine()
        .streams_of(account)
        .filter(|assignment| {
            subject.is_empty()
                || assignment
                    .config
                    .subjects
                    .iter()
                    .any(|own| weir_subject::overlaps(own.as_bytes(), subject.as_bytes()))
        })
        .map(|assignment| assignment.name().to_owned())
        .collect()
}

/// Infos of an account's streams.
pub(crate) struct Gathered {
    /// How many streams there are.
    pub(crate) assigned: usize,
    /// Of those whose leader answered.
    pub(crate) found: Vec<StreamInfo>,
}

pub(crate) async fn gather(context: &Arc<Context>, account: &Arc<Account>, subject: &str) -> Gathered {
    let names = matching(context, account.name(), subject);
    let assigned = names.len();
    let offline = offline_of(context, account, &names);
    let asked = names.into_iter().filter(|name| !offline.contains_key(name)).collect();
    let (found, _) = infos_of(context, account, asked).await;
    Gathered { assigned, found }
}

async fn infos_of(
    context: &Arc<Context>,
    account: &Arc<Account>,
    names: Vec<String>,
) -> (Vec<StreamInfo>, Vec<String>) {
    let mut found = Vec::with_capacity(names.len());
    let mut missing = Vec::new();
    let mut answers = futures::stream::iter(names)
        .map(|name| async {
            let info = stream_info(context, account, &name, INFO_TIMEOUT).await;
            (name, info)
        })
        .buffered(INFO_CONCURRENCY);
    while let Some((name, info)) = answers.next().await {
        match info {
            Some(info) => found.push(info),
            None => missing.push(name),
        }
    }
    (found, missing)
}

/// A stream's info from its leader, wherever that is, with its configuration as it is stored. On a single server it has no `cluster`.
pub(crate) async fn stream_info(
    context: &Arc<Context>,
    account: &Arc<Account>,
    name: &str,
    timeout: Duration,
) -> Option<StreamInfo> {
    if let Some(leader) = context.replica(account.name(), name).and_then(|replica| replica.leader()) {
        return Some(leader.info());
    }
    let served = context.accounts.get(account.name())?;
    let subject = format!("{INTERNAL_INFO_PREFIX}{name}");
    let body = served.requester.request(&subject, b"", b"", timeout).await.ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&body).ok()?;
    if answer.get("error").is_some() {
        return None;
    }
    let mut info: StreamInfo = serde_json::from_value(answer).ok()?;
    weir_jetstream::config::without_server_metadata(&mut info.config.metadata);
    if context.cluster.is_none() {
        info.cluster = None;
    }
    Some(info)
}
