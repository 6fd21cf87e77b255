//! The machine of one stream: what its log's commands do to messages, dedupe table and consumers. Deterministic: every
//! replica that applies the same commands has the same content.

mod atomic;
mod checkpoint;
mod consumers;
mod counter;
mod dedupe;
mod direct;
mod fast;
mod info;
mod interest;
mod limits;
mod prepare;
mod publish;
mod read;
mod removal_log;
mod republish;
mod restored;
mod schedule;
mod sourced;
mod ttl;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use weir_jsapi::{ConsumerConfig, RetentionPolicy, StoreCompression, StreamConfig};
use weir_stdx::time::UnixNanos;

use crate::command::{FastLimits, FastRecord, Outcome, StreamCommand};
use crate::consumer::ConsumerState;
use crate::store::{Filter, Store, StoreFailure};
use dedupe::Dedupe;
pub use direct::{DirectGet, DirectReply};
pub(crate) use fast::meet_api_level;
pub use fast::{is_fast_reply, starts_fast_batch};
pub use info::SUBJECTS_PAGE;
pub(crate) use info::time;
pub use prepare::{PreparedConsumer, identify_consumer};
pub use publish::Origin;
pub(crate) use publish::{COMMIT, check_size};
pub use removal_log::RemovalLog;
pub use sourced::SourcePosition;

/// A consumer as the stream's replicas know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    pub config: Arc<ConsumerConfig>,
    pub created: UnixNanos,
    pub filter: Filter,
    pub state: ConsumerState,
}

/// One stream over a store.
#[derive(Debug)]
pub struct StreamMachine<S> {
    config: Arc<StreamConfig>,
    created: UnixNanos,
    store: S,
    dedupe: Dedupe,
    consumers: BTreeMap<Arc<str>, Consumer>,
    removals: RemovalLog,
    interest: interest::Interest,
    lifetimes: ttl::Lifetimes,
    schedules: schedule::Schedules,
    fast: fast::FastBatches,
    sources: sourced::SourcePositions,
    republisher: Option<republish::Republisher>,
    /// Of the latest publish; message times never go back.
    last_timestamp: UnixNanos,
    /// Of the latest message, if it had one, for `Nats-Expected-Last-Msg-Id`.
    last_msg_id: Option<Bytes>,
}

impl<S: Store> StreamMachine<S> {
    /// A new stream on an empty store. `config` is normalised.
    pub fn new(config: StreamConfig, created: UnixNanos, mut store: S) -> Result<Self, StoreFailure> {
        if config.first_seq > 1 && store.state().last_seq == 0 {
            store.skip_to(config.first_seq - 1)?;
        }
        store.set_compression(config.compression == StoreCompression::S2);
        Ok(Self {
            dedupe: Dedupe::default(),
            republisher: republish::Republisher::of(&config),
            config: Arc::new(config),
            created,
            store,
            consumers: BTreeMap::new(),
            removals: RemovalLog::default(),
            interest: interest::Interest::default(),
            lifetimes: ttl::Lifetimes::default(),
            schedules: schedule::Schedules::default(),
            fast: fast::FastBatches::default(),
            sources: sourced::SourcePositions::default(),
            last_timestamp: UnixNanos::ZERO,
            last_msg_id: None,
        })
    }

    pub fn config(&self) -> &Arc<StreamConfig> {
        &self.config
    }

    pub fn created(&self) -> UnixNanos {
        self.created
    }

    pub fn store(&self) -> &S {
        &self.store
    }

    /// For checkpoints and snapshots; content is changed by commands only.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    pub fn consumers(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Consumer)> {
        self.consumers.iter()
    }

    pub fn consumer(&self, name: &str) -> Option<&Consumer> {
        self.consumers.get(name)
    }

    /// Messages removed lately, for whoever counts pending messages.
    pub fn removals(&self) -> &RemovalLog {
        &self.removals
    }

    /// Carries out one command. An error means this replica's store is broken, not that the command was refused.
    pub fn apply(&mut self, command: StreamCommand) -> Result<Outcome, StoreFailure> {
        match command {
            StreamCommand::Publish(records) => {
                let mut outcomes = Vec::with_capacity(records.len());
                let mut republished = Vec::new();
                for record in records {
                    outcomes.push(self.publish(record, Origin::Client, &mut republished)?);
                }
                Ok(Outcome::Published { outcomes, republished })
            }
            StreamCommand::PublishAtomic { batch, records } => {
                let mut republished = Vec::new();
                let outcomes = vec![self.publish_atomic(batch, records, &mut republished)?];
                Ok(Outcome::Published { outcomes, republished })
            }
            StreamCommand::PublishFast { limits, records } => self.publish_mixed(limits, records),
            StreamCommand::FireSchedules { now, firings } => self.fire(now, firings),
            StreamCommand::DeleteMessage { seq, erase } => self.delete_message(seq, erase),
            StreamCommand::Purge(purge) => self.purge(&purge),
            StreamCommand::Expire { now } => self.expire(now),
            StreamCommand::UpdateConfig(config) => self.update_config(*config),
            StreamCommand::CreateConsumer { name, config, created } => {
                Ok(self.create_consumer(name, *config, created))
            }
            StreamCommand::UpdateConsumer { name, config } => self.update_consumer(&name, *config),
            StreamCommand::DeleteConsumer { name } => self.delete_consumer(&name),
            StreamCommand::ConsumerDeltas(deltas) => {
                for delta in deltas {
                    self.consumer_delta(&delta.name, &delta.events)?;
                }
                Ok(Outcome::Done)
            }
            StreamCommand::Mirror(batch) => self.apply_mirror(batch),
            StreamCommand::Source(batch) => self.apply_source(batch),
            StreamCommand::Restore(batch) => self.apply_restore(batch),
            StreamCommand::RestoreConsumer { name, config, created, state } => {
                Ok(self.restore_consumer(name, *config, created, *state))
            }
        }
    }

    /// Single messages and those of fast batches, in the order they came.
    fn publish_mixed(
        &mut self,
        limits: FastLimits,
        records: Vec<FastRecord>,
    ) -> Result<Outcome, StoreFailure> {
        let mut outcomes = Vec::with_capacity(records.len());
        let mut republished = Vec::new();
        for FastRecord { record, reply } in records {
            outcomes.push(if reply.is_empty() {
                self.publish(record, Origin::Client, &mut republished)?
            } else {
                self.publish_fast(record, reply, limits, &mut republished)?
            });
        }
        Ok(Outcome::Published { outcomes, republished })
    }

    fn update_config(&mut self, config: StreamConfig) -> Result<Outcome, StoreFailure> {
        let to_interest = config.retention == RetentionPolicy::Interest
            && self.config.retention != RetentionPolicy::Interest;
        self.republisher = republish::Republisher::of(&config);
        let to_schedules = config.allow_msg_schedules && !self.config.allow_msg_schedules;
        self.store.set_compression(config.compression == StoreCompression::S2);
        let before = std::mem::replace(&mut self.config, Arc::new(config));
        self.adopt_sources(&before);
        if !self.config.allow_batched {
            self.fast.clear();
        }
        if to_schedules {
            self.find_schedules()?;
        }
        if to_interest {
            self.remove_unneeded(1, &Filter::default())?;
        }
        self.enforce_all_limits()?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests;
