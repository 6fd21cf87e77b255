//! DIRECT.GET: a stored message as a message of its own, not as JSON. Served by the stream's leader.

use std::sync::Arc;

use super::Request;
use crate::stream::leader::StreamLeader;

pub(crate) fn get(leader: &Arc<StreamLeader>, last_by_subject: Option<&str>, request: &Request) {
    let Some(replica) = leader.replica() else { return };
    let reply = {
        let state = replica.replicated.lock();
        match last_by_subject {
            Some(subject) => state.machine().direct_get_last(subject),
            None => state.machine().direct_get(&request.body),
        }
    };
    request.account.publish(&request.reply, None, &reply.headers, &reply.payload);
}
