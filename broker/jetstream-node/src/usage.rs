//! How much accounts and this server store, looked at again and again, and told to the streams that take messages in.
//! Whether a message fits is `stream::room`'s business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_jetstream::meta::StreamAssignment;
use weir_jsapi::{AccountLimits, StorageType, StreamConfig};

use crate::api::stream_list;
use crate::context::Context;
use crate::stream::room::RoomUpdate;

/// How old a figure may be.
const INTERVAL: Duration = Duration::from_millis(250);
/// How old a figure may be where nothing seems to have changed, and that of a stream without a replica here.
const UNCHANGED_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of one replica, by group.
type Bytes = BTreeMap<u64, i64>;

/// Runs until aborted.
pub(crate) async fn run(context: Arc<Context>) {
    let mut elsewhere = Bytes::new();
    let mut looked = Instant::now();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let is_old = looked.elapsed() >= UNCHANGED_INTERVAL;
        if is_old {
            if context.cluster.is_some() {
                elsewhere = ask_elsewhere(&context).await;
            }
            looked = Instant::now();
        }
        if context.space.take_change() || context.space.is_full() || is_old {
            refresh(&context, &elsewhere);
        }
    }
}

/// Tells every stream led here how much room there is.
pub(crate) fn refresh(context: &Context, elsewhere: &Bytes) {
    let mut bytes = elsewhere.clone();
    let (mut memory, mut file) = (0_i64, 0_i64);
    let replicas = context.all_replicas();
    for replica in &replicas {
        let assignment = replica.assignment();
        let Some(held) = replica.bytes() else { continue };
        bytes.insert(assignment.group, held);
        match assignment.config.storage {
            StorageType::Memory => memory = memory.saturating_add(held),
            StorageType::File => file = file.saturating_add(held),
        }
    }
    let room = context.room();
    let is_full = |storage: StorageType| {
        let (used, max) = match storage {
            StorageType::Memory => (memory, room.max_memory),
            StorageType::File => (file, room.max_file),
        };
        u64::try_from(used).unwrap_or(0) > max
    };
    for replica in replicas {
        let Some(leader) = replica.leader() else { continue };
        let assignment = replica.assignment();
        let mut update = context.room_of(&assignment, &bytes);
        update.server_is_full = is_full(assignment.config.storage)
            || (context.space.is_full() && crate::space::needs_disk(&assignment));
        leader.room.update(update);
    }
}

impl Context {
    /// What is left to a stream, as far as these figures know.
    pub(crate) fn room_of(&self, assignment: &StreamAssignment, bytes: &Bytes) -> RoomUpdate {
        self.room_in(&assignment.account, &assignment.config, assignment.group, bytes)
    }

    /// What is left to the stream of this group in an account.
    fn room_in(&self, account: &str, config: &StreamConfig, group: u64, bytes: &Bytes) -> RoomUpdate {
        let copies = config.num_replicas.max(1);
        let own = bytes.get(&group).copied().unwrap_or(0);
        let is_on_disk = config.storage == StorageType::File || copies > 1;
        let server_is_full = is_on_disk && self.space.is_full();
        let free = RoomUpdate { limit: -1, others: 0, own, copies, server_is_full };
        let Some(served) = self.accounts.get(account) else { return free };
        let share = served.share();
        let Some((_, limits)) = share.select(config.num_replicas) else { return free };
        let limit = limit_for(limits, config.storage);
        if limit < 0 {
            return free;
        }
        let is_tiered = share.is_tiered();
        let meta = self.meta.lock();
        let others = meta.machine().streams_of(account).filter(|other| {
            other.group != group
                && other.config.storage == config.storage
                && (!is_tiered || other.config.num_replicas.max(1) == copies)
        });
        let others = others.fold(0_i64, |sum, other| {
            let held = bytes.get(&other.group).copied().unwrap_or(0);
            sum.saturating_add(held.saturating_mul(other.config.num_replicas.max(1)))
        });
        // Limits of a tier are meant for one replica.
        let limit = if is_tiered { limit.saturating_mul(copies) } else { limit };
        RoomUpdate { limit, others, ..free }
    }
}

impl Context {
    /// Whether an account, and this server, have room for so many bytes in one more stream, as far as this server knows.
    pub(crate) fn has_room_for(&self, account: &str, config: &StreamConfig, bytes: i64) -> bool {
        let mut held = Bytes::new();
        let mut total = 0_i64;
        for replica in self.all_replicas() {
            let assignment = replica.assignment();
            let bytes = replica.bytes().unwrap_or(0);
            held.insert(assignment.group, bytes);
            if assignment.config.storage == config.storage {
                total = total.saturating_add(bytes);
            }
        }
        let server = self.room();
        let server_max = match config.storage {
            StorageType::Memory => server.max_memory,
            StorageType::File => server.max_file,
        };
        if u64::try_from(total.saturating_add(bytes)).is_ok_and(|total| total > server_max) {
            return false;
        }
        let room = self.room_in(account, config, 0, &held);
        room.limit < 0 || room.others.saturating_add(bytes.saturating_mul(room.copies)) <= room.limit
    }
}

fn limit_for(limits: &AccountLimits, storage: StorageType) -> i64 {
    match storage {
        StorageType::Memory => limits.max_memory,
        StorageType::File => limits.max_storage,
    }
}

/// Bytes of streams without a replica here, of accounts whose bytes are limited.
async fn ask_elsewhere(context: &Arc<Context>) -> Bytes {
    let own = context.peer_id.0;
    let mut found = Bytes::new();
    for served in context.accounts.served() {
        let share = served.share();
        if share.0.values().all(|limits| limits.max_memory < 0 && limits.max_storage < 0) {
            continue;
        }
        let streams: Vec<_> = {
            let meta = context.meta.lock();
            let elsewhere = meta
                .machine()
                .streams_of(served.account.name())
                .filter(|stream| !stream.peers.contains(&own));
            elsewhere.map(|stream| (stream.group, stream.name().to_owned())).collect()
        };
        for (group, name) in streams {
            let info = stream_list::stream_info(context, &served.account, &name, INTERVAL).await;
            if let Some(info) = info {
                found.insert(group, i64::try_from(info.state.bytes).unwrap_or(i64::MAX));
            }
        }
    }
    found
}
