//! META.RESCUE, of the system account, which every server answers for itself. It asks the meta group to go on with less
//! than a majority, which it never does here: what is wrong with the request is said as in nats-server, and the rest is
//! refused.

use serde::Serialize;
use weir_jsapi::request::MetaRescueRequest;
use weir_jsapi::response::{Response, kind};
use weir_jsapi::{ApiError, errors};

use super::{Request, required_api_level};
use crate::context::Context;

#[derive(Serialize)]
struct Rescue<'a> {
    server: &'a str,
    server_id: &'a str,
}

/// Nothing from a server on its own.
pub(super) fn answer(context: &Context, request: &Request) -> Option<Vec<u8>> {
    context.cluster.as_ref()?;
    let body = Rescue { server: &context.server_name, server_id: &context.hub.options().server_id };
    Some(Response::new(kind::META_RESCUE, Some(refusal(context, request)), body).to_json())
}

fn refusal(context: &Context, request: &Request) -> ApiError {
    if let Err(error) = required_api_level(request) {
        return error;
    }
    if request.is_empty() {
        return errors::BAD_REQUEST.error();
    }
    let asked: MetaRescueRequest = match request.decode() {
        Ok(asked) => asked,
        Err(error) => return error,
    };
    let status = context.meta.status();
    let quorum = i64::try_from(status.members.len() / 2 + 1).unwrap_or(i64::MAX);
    errors::CLUSTER_RESCUE.with(match asked.quorum_needed {
        needed if needed < 1 || needed > quorum => "raft: rescue quorum must be between 1 and current quorum",
        _ if status.leader.is_some() => "raft: leader is known",
        _ if !status.members.contains(&context.peer_id) => "raft: not a voting member",
        _ => "a majority of the servers is needed: this server never goes on with less",
    })
}
