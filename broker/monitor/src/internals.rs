//! What nats-server shows of its own inside: `/ipqueuesz`, `/raftz`, `/debug/vars`, `/stacksz` and profiles.
//! Weir shows what it has; a Go runtime's figures and profiles it has not.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};
use weir_stdx::duration::format_duration;

use crate::{
    Source,
    query::{Query, Refused},
    view::RaftGroup,
};

/// The longest profile nats-server takes.
const PROFILE_MAX: Duration = Duration::from_secs(15);

#[derive(Serialize)]
pub(crate) struct QueueLength {
    pending: u64,
    #[serde(skip_serializing_if = "crate::json::is_zero")]
    in_progress: u64,
}

/// Queues by name; without `all` those that hold something.
pub(crate) fn ipqueuesz(
    source: &dyn Source,
    query: &Query,
) -> Result<BTreeMap<String, QueueLength>, Refused> {
    let all = query.boolean("all")?;
    let filter = query.text("queues");
    let queues = source.queues().into_iter();
    let shown = queues.filter(|queue| {
        (all || queue.pending + queue.in_progress > 0)
            && filter.is_none_or(|filter| queue.name.contains(filter))
    });
    let entry = |queue: crate::view::Queue| {
        (queue.name, QueueLength { pending: queue.pending, in_progress: queue.in_progress })
    };
    Ok(shown.map(entry).collect())
}

/// Raft groups by account and name, of the system account unless another is asked for.
pub(crate) type Raftz = BTreeMap<String, BTreeMap<String, RaftGroup>>;

/// `None` on a server without any.
pub(crate) fn raftz(source: &dyn Source, query: &Query) -> Option<Raftz> {
    let groups = source.raft_groups()?;
    let system = source.server().settings.system_account;
    let account = query.text("acc").unwrap_or(&system);
    let name = query.text("group");
    let mut shown = Raftz::new();
    for group in groups {
        if group.account == account && name.is_none_or(|name| group.name == name) {
            shown.entry(group.account.clone()).or_default().insert(group.name.clone(), group);
        }
    }
    Some(shown)
}

/// `memstats` with the figures that exist without a Go runtime.
pub(crate) fn variables(source: &dyn Source) -> Value {
    let resident = source.server().memory_bytes;
    json!({
        "cmdline": source.command_line(),
        "memstats": { "Alloc": resident, "TotalAlloc": resident, "Sys": resident, "HeapAlloc": resident, "HeapSys": resident },
    })
}

#[derive(Serialize)]
pub(crate) struct Profile {
    profile: Option<String>,
    error: String,
}

/// There are no Go profiles: a request that nats-server would serve is told so.
pub(crate) fn profile(query: &Query) -> Profile {
    let duration = query.integer("duration").unwrap_or(0);
    let error = match query.text("name") {
        None => "Profile name not specified".to_owned(),
        Some("cpu") => match u64::try_from(duration).map(Duration::from_nanos) {
            Ok(wanted) if wanted > Duration::ZERO && wanted <= PROFILE_MAX => {
                "Failed to start CPU profile: not supported".to_owned()
            }
            wanted => {
                let shown = wanted.map_or_else(|_| format!("{duration}ns"), format_duration);
                format!("Duration {shown} should be between 0s and 15s")
            }
        },
        Some(name) => format!("Profile {name:?} not found"),
    };
    Profile { profile: None, error }
}
