//! Room on the disk, and what follows when there is none: streams that write to it take no messages, those that others
//! can lead are handed over, the trash is emptied, and somebody is told. What could not be written is kept by the
//! journal and the stores, which go on by themselves once there is room (`weir_storage`). With it the sign
//! by which `usage` hears that what is stored has changed; the limits of accounts and of the configuration are its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_jetstream::meta::StreamAssignment;
use weir_jsapi::StorageType;

use crate::clock;
use crate::context::Context;
use crate::replicated::Replicated;
use crate::stream::replica::StreamReplica;

/// How often the journal is asked.
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two attempts to write what there was no room for.
const RETRY: Duration = Duration::from_secs(1);
/// Between two attempts to hand over what others can lead.
const HAND_OVER: Duration = Duration::from_secs(10);

/// What this server has no room for.
#[derive(Debug, Default)]
pub(crate) struct Space {
    is_full: AtomicBool,
    /// Streams that could not write, by group, with the reason.
    short: Mutex<BTreeMap<u64, String>>,
    /// What is said of it.
    reason: Mutex<Option<String>>,
    wake: Notify,
    /// What is stored, or what may be, is not what `usage` last saw.
    is_changed: AtomicBool,
}

impl Space {
    /// The disk is full: streams that write to it take no messages.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// What is stored here, or what may be, has changed. Costs one load where much changes.
    pub(crate) fn change(&self) {
        if !self.is_changed.load(Ordering::Relaxed) {
            self.is_changed.store(true, Ordering::Release);
        }
    }

    /// Whether anything has changed since the last call.
    pub(crate) fn take_change(&self) -> bool {
        self.is_changed.swap(false, Ordering::AcqRel)
    }

    /// What there is no room for, with the path.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }

    /// A stream could not write what it keeps in memory now.
    pub(crate) fn note(&self, group: u64, reason: String) {
        if self.short.lock().insert(group, reason).is_none() {
            self.is_full.store(true, Ordering::Relaxed);
            self.wake.notify_one();
        }
    }

    /// Everything of a stream was written, or it is gone.
    pub(crate) fn clear(&self, group: u64) {
        self.short.lock().remove(&group);
    }

    fn groups(&self) -> Vec<u64> {
        self.short.lock().keys().copied().collect()
    }
}

/// Whether a stream's messages need room on the disk.
pub(crate) fn needs_disk(assignment: &StreamAssignment) -> bool {
    assignment.config.storage == StorageType::File || assignment.is_replicated()
}

/// Runs until aborted.
pub(crate) async fn run(context: Arc<Context>) {
    let mut retried = tokio::time::Instant::now();
    let mut handed_over = None;
    let mut is_stopped = false;
    loop {
        let _ = tokio::time::timeout(INTERVAL, context.space.wake.notified()).await;
        if !is_stopped && let Some(reason) = context.journal.failure() {
            is_stopped = true;
            stop_all(&context, &format!("the journal has stopped: {reason}"));
        }
        if retried.elapsed() >= RETRY {
            retried = tokio::time::Instant::now();
            for group in context.space.groups() {
                retry(&context, group).await;
            }
            if context.space.is_full() {
                empty_trash(&context).await;
            }
        }
        let found = shortage(&context);
        let before = std::mem::replace(&mut *context.space.reason.lock(), found.clone());
        context.space.is_full.store(found.is_some(), Ordering::Relaxed);
        if before != found {
            context.space.change();
        }
        match (&before, &found) {
            (None, Some(reason)) => {
                became_full(&context, reason);
                empty_trash(&context).await;
            }
            (Some(_), None) => {
                handed_over = None;
                tracing::info!("There is room on the disk again: JetStream takes messages");
            }
            _ => {}
        }
        if found.is_some() && handed_over.is_none_or(|at: tokio::time::Instant| at.elapsed() >= HAND_OVER) {
            handed_over = Some(tokio::time::Instant::now());
            hand_over(&context);
        }
    }
}

fn shortage(context: &Context) -> Option<String> {
    if let Some(shortage) = context.journal.shortage() {
        return Some(shortage.reason.to_string());
    }
    context.space.short.lock().values().next().cloned()
}

fn became_full(context: &Arc<Context>, reason: &str) {
    tracing::error!(
        "JetStream out of file resources: {reason}. Messages are refused until there is room; what is stored is served"
    );
    for replica in context.all_replicas() {
        if let Some(leader) = replica.leader().filter(|_| needs_disk(&replica.assignment())) {
            leader.room.close();
        }
    }
    let groups = context.space.groups();
    let named: Vec<Arc<StreamReplica>> =
        context.all_replicas().into_iter().filter(|one| groups.contains(&one.assignment().group)).collect();
    if named.is_empty() {
        context.out_of_storage("");
    }
    for replica in named {
        context.out_of_storage(replica.assignment().name());
    }
}

/// What was deleted takes room that is wanted.
async fn empty_trash(context: &Arc<Context>) {
    let trash = context.trash.clone();
    let emptied = tokio::task::spawn_blocking(move || trash.empty(clock::now(), Duration::ZERO)).await;
    match emptied {
        Ok(Ok(gone)) if gone.is_empty() => {}
        Ok(Ok(gone)) => {
            tracing::warn!("Removed the files of {} deleted streams for good: there is no room", gone.len());
        }
        Ok(Err(error)) => tracing::warn!("Emptying the trash: {error}"),
        Err(error) => tracing::warn!("Emptying the trash: {error}"),
    }
}

/// Tries again to write what a stream keeps in memory.
async fn retry(context: &Arc<Context>, group: u64) {
    let Some(replica) = context.replicas.read().get(&group).cloned() else {
        return context.space.clear(group);
    };
    let replicated = Arc::clone(&replica.replicated);
    let retried = tokio::task::spawn_blocking(move || replicated.lock().retry()).await;
    match retried {
        Ok(Ok(None)) if replica.is_checkpoint_refused() => replica.checkpoint().await,
        Ok(Ok(None)) => context.space.clear(group),
        Ok(Ok(Some(reason))) => {
            context.space.short.lock().insert(group, reason);
        }
        Ok(Err(reason)) => {
            context.space.clear(group);
            replica.replicated.fail(reason);
        }
        Err(error) => tracing::error!("retrying to write a stream: {error}"),
    }
}

/// What others can lead they should: they may have room.
fn hand_over(context: &Arc<Context>) {
    for replica in context.all_replicas() {
        let assignment = replica.assignment();
        if !assignment.is_replicated() || !replica.is_leader() {
            continue;
        }
        let Some(log) = replica.replicated.replicator().cloned() else { continue };
        tokio::spawn(async move {
            if let Err(error) = log.step_down(None).await {
                tracing::debug!("stream {}: handing it over for want of room: {error}", assignment.name());
            }
        });
    }
}

/// Nothing that needs the journal is written any more.
fn stop_all(context: &Context, reason: &str) {
    for replica in context.all_replicas() {
        if needs_disk(&replica.assignment()) {
            stop(&replica.replicated, reason);
        }
    }
    stop(&context.meta, reason);
}

fn stop<M: crate::replicated::StateMachine>(replicated: &Replicated<M>, reason: &str) {
    if replicated.failure().is_none() {
        replicated.fail(reason.to_owned());
    }
}
