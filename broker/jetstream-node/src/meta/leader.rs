//! What a server does while it leads the meta state: it answers the part of the API that no stream's leader answers,
//! and keeps the members' names and addresses in the meta state.

use std::sync::Arc;
use std::time::Duration;

use weir_hub::InternalSubscription;
use weir_jetstream::meta::{MetaCommand, MetaPeer};

use crate::api::{self, Role as ApiRole};
use crate::context::Context;
use crate::replicated::Role;

/// The subjects it answers. Pull requests and direct gets are not among them: only a stream's leader takes those.
const SUBJECTS: [&str; 12] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.>",
    "$JS.API.META.>",
    "$JS.API.SERVER.>",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.DURABLE.>",
    "$JS.API.CONSUMER.NAMES.>",
    "$JS.API.CONSUMER.LIST.>",
    "$JS.API.CONSUMER.INFO.>",
    "$JS.API.CONSUMER.DELETE.>",
    "$JS.API.CONSUMER.PAUSE.>",
    "$JS.API.CONSUMER.LEADER.>",
];
/// How often the members' records are compared with what is known of them.
const INTERVAL: Duration = Duration::from_secs(2);

/// The subscriptions of a server that leads already when it starts: it answers before anybody can ask.
pub(crate) fn subscribe_if_leader(context: &Arc<Context>) -> Vec<InternalSubscription> {
    if context.meta.is_leader() { subscribe(context) } else { Vec::new() }
}

/// Follows the leadership until aborted.
pub(crate) async fn run(context: Arc<Context>, mut subscriptions: Vec<InternalSubscription>) {
    let mut role = context.meta.role();
    loop {
        match *role.borrow_and_update() {
            Role::Leader { .. } if subscriptions.is_empty() => {
                subscriptions = subscribe(&context);
                tracing::debug!("This server leads the JetStream meta group");
            }
            Role::Leader { .. } => {}
            Role::Follower => subscriptions.clear(),
        }
        if context.meta.is_leader() {
            record_members(&context).await;
        }
        if let Ok(Err(_)) = tokio::time::timeout(INTERVAL, role.changed()).await {
            return;
        }
    }
}

fn subscribe(context: &Arc<Context>) -> Vec<InternalSubscription> {
    let mut subscriptions = Vec::new();
    for name in &context.accounts {
        let account = context.account(name);
        for subject in SUBJECTS {
            let handler = api::handler(context, ApiRole::Meta);
            subscriptions.push(account.subscribe_internal(subject, None, handler));
        }
    }
    subscriptions
}

/// Every voter has a record with its name and address.
pub(crate) async fn record_members(context: &Arc<Context>) {
    let Some(cluster) = &context.cluster else { return };
    for peer in context.meta.status().members {
        let info = if peer == context.peer_id {
            Some((context.server_name.clone(), cluster.grpc_advertise.clone()))
        } else {
            cluster.raft.peer_info(peer).map(|info| (info.name, info.endpoint))
        };
        let Some((name, endpoint)) = info else { continue };
        let member = MetaPeer { id: peer.0, name, endpoint };
        let known = context.meta.lock().machine().peer(peer.0) == Some(&member);
        if known {
            continue;
        }
        if let Err(error) = context.meta.propose_wait(MetaCommand::PeerAdded(member).encode()).await {
            tracing::debug!("recording a member of the meta group: {error}");
            return;
        }
    }
}
