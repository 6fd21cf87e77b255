//! Looks at the clock for a stream's schedules: what is due goes into the stream's log. Runs on the leader of a stream
//! that allows schedules, and only there.

use std::sync::Arc;
use std::time::Duration;

use weir_jetstream::{Outcome, StreamCommand};

use super::leader::StreamLeader;
use super::state::StreamState;
use crate::clock;
use crate::replicated::Replicated;

/// How long a look at the schedules is good for, however many messages come in.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The longest sleep: a clock may be set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

pub(super) async fn run(leader: Arc<StreamLeader>, replicated: Arc<Replicated<StreamState>>) {
    let mut applied = replicated.applied_watch();
    loop {
        applied.mark_unchanged();
        let now = clock::now();
        let (next, firings) = {
            let state = replicated.lock();
            let machine = state.machine();
            let next = machine.next_schedule();
            let is_due = next.is_some_and(|at| at <= now);
            (next, if is_due { machine.due_schedules(now) } else { Vec::new() })
        };
        if !firings.is_empty() {
            let command = StreamCommand::FireSchedules { now, firings };
            match leader.propose(&command).await {
                Ok(Outcome::Published { republished, .. }) => {
                    super::acks::republish(&leader.account, &republished);
                }
                Ok(_) => {}
                Err(error) => tracing::debug!("stream {}: firing schedules: {error}", leader.name()),
            }
        } else {
            let sleep = next.map_or(SLEEP_MAX, |at| Duration::from_nanos(at.0.saturating_sub(now.0)));
            tokio::select! {
                () = tokio::time::sleep(sleep.min(SLEEP_MAX)) => {}
                changed = applied.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
