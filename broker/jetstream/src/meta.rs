//! The machine of the meta group: which streams exist in which account, where their replicas are, who the members are.

mod codec;
mod limits;
mod placement;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_jsapi::{ApiError, StreamConfig, errors};
use weir_stdx::time::UnixNanos;

use crate::config::{
    check_sourcing_at_creation, check_stream_update, keep_required_level, normalise_stream, required_level,
    subjects_overlap,
};

pub use limits::AccountLimitsInForce;
pub use placement::{PlacementError, rank_peers};

/// The group that replicates the meta state itself.
pub const META_GROUP: u64 = 1;
/// Ids below are kept for groups that are not streams.
const FIRST_STREAM_GROUP: u64 = 16;

/// A server that can hold replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaPeer {
    pub id: u64,
    pub name: String,
    /// `host:port` of its gRPC server.
    pub endpoint: String,
}

/// What keeps a stream's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamLog {
    /// One server alone.
    #[default]
    Local,
    /// A Raft group, begun by all its first peers.
    Group,
    /// A Raft group that grew out of the log of this peer, which kept the stream alone before.
    GroupFrom(u64),
}

/// A stream and where it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAssignment {
    pub account: String,
    pub config: Arc<StreamConfig>,
    /// Its Raft group or journal group; never used again after the stream's deletion.
    pub group: u64,
    /// The first is asked to lead at the start.
    pub peers: Vec<u64>,
    pub created: UnixNanos,
    /// Once a group, always a group, even of one.
    pub log: StreamLog,
    /// Is being filled from a backup: nobody is served, and whoever asks is told that there is no such stream.
    pub restoring: bool,
}

impl StreamAssignment {
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Kept by a Raft group rather than by one server alone.
    pub fn is_replicated(&self) -> bool {
        self.log != StreamLog::Local
    }
}

/// One entry of the meta group's log. Configurations are normalised before they are proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaCommand {
    CreateStream {
        account: String,
        config: Box<StreamConfig>,
        peers: Vec<u64>,
        created: UnixNanos,
    },
    UpdateStream {
        account: String,
        config: Box<StreamConfig>,
    },
    DeleteStream {
        account: String,
        name: String,
    },
    /// Changes where a stream's replicas are.
    MoveStream {
        account: String,
        name: String,
        peers: Vec<u64>,
    },
    /// A stream that is to be filled from a backup: its name is taken, and it is not there.
    RestoreStream {
        account: String,
        config: Box<StreamConfig>,
        peers: Vec<u64>,
        created: UnixNanos,
    },
    /// The stream of this group is filled and now there, or is given up.
    EndRestore {
        account: String,
        name: String,
        group: u64,
        keep: bool,
    },
    /// Adds a member or changes its name or endpoint.
    PeerAdded(MetaPeer),
    PeerRemoved {
        id: u64,
    },
}

/// What a meta command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaOutcome {
    Created(Arc<StreamAssignment>),
    /// The stream exists with the very same configuration.
    Existed(Arc<StreamAssignment>),
    Updated(Arc<StreamAssignment>),
    Deleted(Arc<StreamAssignment>),
    Done,
    Refused(ApiError),
    /// The peer cannot go: these streams ("account > name") have replicas there.
    PeerInUse(Vec<String>),
}

/// See the module.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MetaMachine {
    streams: BTreeMap<String, BTreeMap<String, Arc<StreamAssignment>>>,
    peers: BTreeMap<u64, MetaPeer>,
    /// Ids that left for good. They never come back: their stores may lack what was committed since.
    removed: BTreeSet<u64>,
    next_group: u64,
}

impl MetaMachine {
    /// A stream by account and name.
    pub fn stream(&self, account: &str, name: &str) -> Option<&Arc<StreamAssignment>> {
        self.taken(account, name).filter(|stream| !stream.restoring)
    }

    /// What has a name, also while it is being restored.
    fn taken(&self, account: &str, name: &str) -> Option<&Arc<StreamAssignment>> {
        self.streams.get(account)?.get(name)
    }

    /// An account's streams, by name.
    pub fn streams_of(&self, account: &str) -> impl Iterator<Item = &Arc<StreamAssignment>> {
        self.all_of(account).filter(|stream| !stream.restoring)
    }

    /// Also those that are being restored.
    fn all_of(&self, account: &str) -> impl Iterator<Item = &Arc<StreamAssignment>> {
        self.streams.get(account).into_iter().flat_map(BTreeMap::values)
    }

    /// The group that the next stream gets; none from there on was ever used.
    pub fn next_group(&self) -> u64 {
        self.next_group.max(FIRST_STREAM_GROUP)
    }

    /// Gives no group below this one any more: those were given to streams whose creation is lost.
    pub fn skip_groups(&mut self, next_group: u64) {
        self.next_group = self.next_group.max(next_group);
    }

    /// Every stream, also those that are being restored.
    pub fn streams(&self) -> impl Iterator<Item = &Arc<StreamAssignment>> {
        self.streams.values().flat_map(BTreeMap::values)
    }

    pub fn peers(&self) -> impl ExactSizeIterator<Item = &MetaPeer> {
        self.peers.values()
    }

    pub fn peer(&self, id: u64) -> Option<&MetaPeer> {
        self.peers.get(&id)
    }

    /// Whether this id left for good.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// "account > name" of every stream with a replica on this peer.
    pub fn streams_on(&self, peer: u64) -> Vec<String> {
        let held = self.streams().filter(|stream| stream.peers.contains(&peer));
        held.map(|stream| format!("{} > {}", stream.account, stream.name())).collect()
    }

    /// How many streams have a replica on this peer.
    pub fn replicas_on(&self, peer: u64) -> usize {
        self.streams().filter(|stream| stream.peers.contains(&peer)).count()
    }

    /// Judges STREAM.CREATE before it is proposed: the normalised configuration, or the refusal. A stream that exists
    /// with the same configuration passes.
    pub fn check_create(
        &self,
        account: &str,
        config: StreamConfig,
        limits: &AccountLimitsInForce,
        pedantic: bool,
    ) -> Result<StreamConfig, ApiError> {
        let refuse = |text: &str| Err(errors::STREAM_INVALID_CONFIG.with(text));
        if config.name.contains(['/', '\\']) {
            return Err(errors::STREAM_NAME_CONTAINS_PATH_SEPARATORS.error());
        }
        if config.sealed {
            return refuse("stream configuration for create can not be sealed");
        }
        if config.mirror_direct && config.mirror.is_none() {
            return refuse("stream has no mirror but does have mirror direct");
        }
        // A server on its own looks at the account first, as nats-server.
        if !limits.stream.clustered {
            self.check_new_in_account(account, &config, limits)?;
        }
        let mut config = self.normalise(account, config, limits, pedantic)?;
        if let Some(existing) = self.taken(account, &config.name) {
            keep_required_level(&mut config.metadata, required_level(&existing.config.metadata));
            if *existing.config == config && !existing.restoring {
                return Ok(config);
            }
            return Err(errors::STREAM_NAME_EXIST.error());
        }
        check_sourcing_at_creation(&config)?;
        self.check_overlap(account, &config)?;
        self.check_new_in_account(account, &config, limits)?;
        Ok(config)
    }

    /// Judges STREAM.RESTORE before anything is sent, and again with what the backup says that it holds (`bytes`).
    pub fn check_restore(
        &self,
        account: &str,
        config: StreamConfig,
        limits: &AccountLimitsInForce,
        bytes: i64,
    ) -> Result<StreamConfig, ApiError> {
        if config.name.contains(['/', '\\']) {
            return Err(errors::STREAM_NAME_CONTAINS_PATH_SEPARATORS.error());
        }
        // Of a newer server's backup: such a stream is offline from the next start on.
        let level = required_level(&config.metadata);
        let mut config = self.normalise(account, config, limits, false)?;
        keep_required_level(&mut config.metadata, level);
        check_sourcing_at_creation(&config)?;
        let filled = StreamConfig { max_bytes: config.max_bytes.max(bytes), ..config.clone() };
        self.check_new_in_account(account, if bytes > 0 { &filled } else { &config }, limits)?;
        if self.taken(account, &config.name).is_some() {
            return Err(errors::STREAM_NAME_EXIST_RESTORE_FAILED.error());
        }
        Ok(config)
    }

    /// Judges STREAM.UPDATE of the stream `name` before it is proposed.
    pub fn check_update(
        &self,
        account: &str,
        name: &str,
        config: StreamConfig,
        limits: &AccountLimitsInForce,
        pedantic: bool,
    ) -> Result<StreamConfig, ApiError> {
        let config = self.normalise(account, config, limits, pedantic)?;
        if config.name != name {
            return Err(errors::STREAM_MISMATCH.error());
        }
        let current = self.stream(account, &config.name).ok_or_else(|| errors::STREAM_NOT_FOUND.error())?;
        let config = check_stream_update(&current.config, config)?;
        self.check_overlap(account, &config)?;
        self.check_changed_in_account(account, &current.config, &config, limits)?;
        Ok(config)
    }

    fn normalise(
        &self,
        account: &str,
        config: StreamConfig,
        limits: &AccountLimitsInForce,
        pedantic: bool,
    ) -> Result<StreamConfig, ApiError> {
        let others = |name: &str| self.stream(account, name).map(|stream| Arc::clone(&stream.config));
        normalise_stream(config, &limits.stream, pedantic, &others)
    }

    fn check_overlap(&self, account: &str, config: &StreamConfig) -> Result<(), ApiError> {
        let overlapped = self.all_of(account).any(|other| {
            other.config.name != config.name && subjects_overlap(&other.config.subjects, &config.subjects)
        });
        if overlapped { Err(errors::STREAM_SUBJECT_OVERLAP.error()) } else { Ok(()) }
    }

    /// Carries out one entry; the same on every member.
    pub fn apply(&mut self, command: MetaCommand) -> MetaOutcome {
        match command {
            MetaCommand::CreateStream { account, config, peers, created } => {
                self.create(account, *config, peers, created, false)
            }
            MetaCommand::RestoreStream { account, config, peers, created } => {
                self.create(account, *config, peers, created, true)
            }
            MetaCommand::EndRestore { account, name, group, keep } => {
                self.end_restore(&account, &name, group, keep)
            }
            MetaCommand::UpdateStream { account, config } => self.update(&account, *config),
            MetaCommand::DeleteStream { account, name } => self.delete(&account, &name),
            MetaCommand::MoveStream { account, name, peers } => self.change(&account, &name, |stream| {
                let log = match (stream.log, stream.peers.first()) {
                    (StreamLog::Local, Some(peer)) if peers != stream.peers => StreamLog::GroupFrom(*peer),
                    (log, _) => log,
                };
                StreamAssignment { peers, log, ..stream }
            }),
            MetaCommand::PeerAdded(peer) => {
                if !self.removed.contains(&peer.id) {
                    self.peers.insert(peer.id, peer);
                }
                MetaOutcome::Done
            }
            MetaCommand::PeerRemoved { id } => {
                let held = self.streams_on(id);
                if !held.is_empty() {
                    return MetaOutcome::PeerInUse(held);
                }
                self.peers.remove(&id);
                self.removed.insert(id);
                MetaOutcome::Done
            }
        }
    }

    fn create(
        &mut self,
        account: String,
        config: StreamConfig,
        peers: Vec<u64>,
        created: UnixNanos,
        restoring: bool,
    ) -> MetaOutcome {
        if let Some(existing) = self.taken(&account, &config.name) {
            if restoring {
                return MetaOutcome::Refused(errors::STREAM_NAME_EXIST_RESTORE_FAILED.error());
            }
            if *existing.config == config && !existing.restoring {
                return MetaOutcome::Existed(Arc::clone(existing));
            }
            return MetaOutcome::Refused(errors::STREAM_NAME_EXIST.error());
        }
        if let Err(error) = self.check_overlap(&account, &config) {
            return MetaOutcome::Refused(error);
        }
        if peers.iter().any(|peer| self.removed.contains(peer)) {
            return MetaOutcome::Refused(PlacementError.into());
        }
        let group = self.next_group.max(FIRST_STREAM_GROUP);
        self.next_group = group + 1;
        let name = config.name.clone();
        let log = if config.num_replicas > 1 { StreamLog::Group } else { StreamLog::Local };
        let assignment = Arc::new(StreamAssignment {
            log,
            account: account.clone(),
            config: Arc::new(config),
            group,
            peers,
            created,
            restoring,
        });
        self.streams.entry(account).or_default().insert(name, Arc::clone(&assignment));
        MetaOutcome::Created(assignment)
    }

    fn update(&mut self, account: &str, config: StreamConfig) -> MetaOutcome {
        if let Err(error) = self.check_overlap(account, &config) {
            return MetaOutcome::Refused(error);
        }
        let name = config.name.clone();
        self.change(account, &name, |stream| {
            let log = match (stream.log, stream.peers.first()) {
                (StreamLog::Local, Some(peer)) if config.num_replicas > 1 => StreamLog::GroupFrom(*peer),
                (log, _) => log,
            };
            StreamAssignment { config: Arc::new(config), log, ..stream }
        })
    }

    fn end_restore(&mut self, account: &str, name: &str, group: u64, keep: bool) -> MetaOutcome {
        let found = self.taken(account, name);
        if found.is_none_or(|stream| stream.group != group || !stream.restoring) {
            return MetaOutcome::Refused(errors::STREAM_NOT_FOUND.error());
        }
        if keep {
            return self.change(account, name, |stream| StreamAssignment { restoring: false, ..stream });
        }
        self.delete(account, name)
    }

    fn change(
        &mut self,
        account: &str,
        name: &str,
        change: impl FnOnce(StreamAssignment) -> StreamAssignment,
    ) -> MetaOutcome {
        let Some(slot) = self.streams.get_mut(account).and_then(|streams| streams.get_mut(name)) else {
            return MetaOutcome::Refused(errors::STREAM_NOT_FOUND.error());
        };
        *slot = Arc::new(change((**slot).clone()));
        MetaOutcome::Updated(Arc::clone(slot))
    }

    fn delete(&mut self, account: &str, name: &str) -> MetaOutcome {
        let Some(streams) = self.streams.get_mut(account) else {
            return MetaOutcome::Refused(errors::STREAM_NOT_FOUND.error());
        };
        let Some(stream) = streams.remove(name) else {
            return MetaOutcome::Refused(errors::STREAM_NOT_FOUND.error());
        };
        if streams.is_empty() {
            self.streams.remove(account);
        }
        MetaOutcome::Deleted(stream)
    }
}

#[cfg(test)]
mod tests;
