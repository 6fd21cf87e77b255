//! What a server does while it leads the meta state: it answers the part of the API that no stream's leader answers,
//! and keeps the members' names and addresses in the meta state.

use std::sync::Arc;
use std::time::Duration;

use weir_jetstream::meta::{MetaCommand, MetaPeer};

use crate::context::Context;
use crate::replicated::Role;

/// How often the members' records are compared with what is known of them.
const INTERVAL: Duration = Duration::from_secs(2);

/// Follows the leadership until aborted.
pub(crate) async fn run(context: Arc<Context>) {
    let mut role = context.meta.role();
    loop {
        let leads = matches!(*role.borrow_and_update(), Role::Leader { .. });
        if context.lead_api(leads) && leads {
            context.meta_leader_elected();
        }
        if context.meta.is_leader() {
            record_members(&context).await;
            crate::api::stream_restore::give_up_abandoned(&context).await;
        }
        if let Ok(Err(_)) = tokio::time::timeout(INTERVAL, role.changed()).await {
            return;
        }
    }
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
