//! A staged backup becomes a stream: the whole backup is read and judged first; then a stream is made that has the name
//! and is not there for anybody, its log takes the backup in, and only then it is there. What fails on the way leaves
//! nothing behind. The meta leader does this, with the stream led on the same server until it is there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt};
use tokio::sync::mpsc;
use weir_backup::{BackupError, BackupReader, MessageLimits, MessageRecord};
use weir_hub::Account;
use weir_jetstream::config::{
    ConsumerLimitsInForce, keep_required_level, normalise_consumer, required_level,
};
use weir_jetstream::meta::{MetaCommand, MetaOutcome, StreamAssignment};
use weir_jetstream::{OriginRecord, Outcome, PublishRecord, RestoreBatch, StreamCommand};
use weir_jsapi::{ApiError, StreamConfig, StreamInfo, StreamState, errors};
use weir_stdx::time::UnixNanos;

use super::consumers;
use super::staging::{Staged, Staging, Summary};
use crate::api::stream_create::{LEADER_POLL, LEADER_TIMEOUT, wait_for_leader};
use crate::clock;
use crate::context::Context;
use crate::placement::place;
use crate::stream::replica::StreamReplica;

/// Bytes of messages in one entry of the log.
const BATCH_BYTES: usize = 512 << 10;
/// Messages in one.
const BATCH_RECORDS: usize = 4096;
/// Entries on their way into the log.
const IN_FLIGHT_MAX: usize = 4;
/// Entries read ahead of them.
const READ_AHEAD: usize = 2;
/// How long giving up may be tried.
const GIVE_UP_PAUSE: Duration = Duration::from_millis(200);
const GIVE_UP_ATTEMPTS: usize = 25;

/// Why a stream was not restored: nats-server's own error, or a text for `restore failed: ...`.
#[derive(Debug)]
pub(crate) enum Failure {
    Api(ApiError),
    Text(String),
}

impl Failure {
    pub(crate) fn into_error(self) -> ApiError {
        match self {
            Self::Api(error) => error,
            Self::Text(text) => errors::STREAM_RESTORE.with(text),
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        Self::Text(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Text(error.to_string())
    }
}

/// What a stream is restored from.
pub(crate) struct Restore {
    pub(crate) context: Arc<Context>,
    pub(crate) account: Arc<Account>,
    /// Judged once already.
    pub(crate) config: StreamConfig,
    pub(crate) staging: Arc<Staging>,
}

impl Restore {
    /// The restored stream as its leader knows it.
    pub(crate) async fn run(self) -> Result<StreamInfo, Failure> {
        let limits = MessageLimits {
            max_payload: i64::try_from(self.context.hub.limits().max_payload).unwrap_or(i64::MAX),
            max_msg_size: i64::from(self.config.max_msg_size),
        };
        let (staging, storage) = (Arc::clone(&self.staging), self.config.storage);
        let summary = tokio::task::spawn_blocking(move || staging.summary(limits, storage))
            .await
            .map_err(|error| Failure::Text(error.to_string()))??;
        let config = self.judge(&summary)?;
        let assignment = self.begin(config).await?;
        let result = self.fill(&assignment, limits).await;
        match result {
            Ok(()) => self.finish(&assignment).await,
            Err(failure) => {
                self.give_up(&assignment).await;
                Err(failure)
            }
        }
    }

    /// Whether there is room for what the backup holds.
    fn judge(&self, summary: &Summary) -> Result<StreamConfig, Failure> {
        let account = self.account.name();
        let limits = self.context.stream_limits(account, &self.config).map_err(Failure::Api)?;
        let bytes = summary.state.bytes.max(summary.bytes);
        let too_much = || {
            Failure::Api(match self.config.storage {
                weir_jsapi::StorageType::File => errors::STORAGE_RESOURCES_EXCEEDED.error(),
                weir_jsapi::StorageType::Memory => errors::MEMORY_RESOURCES_EXCEEDED.error(),
            })
        };
        let bytes = i64::try_from(bytes).map_err(|_| too_much())?;
        if summary.state.first_seq < self.config.first_seq {
            let text = "invalid stream state: first sequence is below the stream's first_seq";
            return Err(Failure::Text(text.to_owned()));
        }
        let config =
            self.context.meta.lock().machine().check_restore(account, self.config.clone(), &limits, bytes);
        let config = config.map_err(Failure::Api)?;
        if self.context.has_room_for(account, &config, bytes) { Ok(config) } else { Err(too_much()) }
    }

    /// Makes the stream that nobody sees.
    async fn begin(&self, config: StreamConfig) -> Result<Arc<StreamAssignment>, Failure> {
        let own = self.context.peer_id.0;
        let mut peers = place(&self.context, &config, &[]).map_err(Failure::Api)?;
        if !peers.contains(&own) {
            peers = place(&self.context, &config, &[own]).map_err(Failure::Api)?;
        }
        // The first one leads.
        peers.sort_by_key(|peer| *peer != own);
        let command = MetaCommand::RestoreStream {
            account: self.account.name().to_owned(),
            config: Box::new(config),
            peers,
            created: clock::now(),
        };
        let outcome = self.context.meta.propose_wait(command.encode()).await;
        match outcome.map_err(|error| Failure::Text(error.to_string()))? {
            MetaOutcome::Created(assignment) => Ok(assignment),
            MetaOutcome::Refused(error) if error.is(errors::STREAM_NAME_EXIST_RESTORE_FAILED) => {
                Err(Failure::Api(error))
            }
            MetaOutcome::Refused(error) => Err(Failure::Text(format!("error adding stream: {error}"))),
            _ => Err(Failure::Text("error adding stream: unexpected outcome".to_owned())),
        }
    }

    async fn fill(&self, assignment: &StreamAssignment, limits: MessageLimits) -> Result<(), Failure> {
        let replica = self.led_replica(assignment).await?;
        let consumer_limits = self
            .context
            .consumer_limits(self.account.name(), assignment.config.num_replicas)
            .map_err(Failure::Api)?;
        let feed = Feed {
            staging: Arc::clone(&self.staging),
            limits,
            consumer_limits,
            config: Arc::clone(&assignment.config),
            created: assignment.created,
        };
        let (sender, mut commands) = mpsc::channel(READ_AHEAD);
        let reader = tokio::task::spawn_blocking(move || feed.read(&sender));
        let mut on_their_way = FuturesOrdered::new();
        while let Some((what, command)) = commands.recv().await {
            if on_their_way.len() >= IN_FLIGHT_MAX
                && let Some(applied) = on_their_way.next().await
            {
                check(applied)?;
            }
            let replicated = Arc::clone(&replica.replicated);
            on_their_way.push_back(async move { (what, replicated.propose_wait(command).await) });
        }
        while let Some(applied) = on_their_way.next().await {
            check(applied)?;
        }
        reader.await.map_err(|error| Failure::Text(error.to_string()))?
    }

    /// Waits until this server leads the new stream's log.
    async fn led_replica(&self, assignment: &StreamAssignment) -> Result<Arc<StreamReplica>, Failure> {
        let deadline = tokio::time::Instant::now() + LEADER_TIMEOUT;
        loop {
            let replica = self.context.replicas.read().get(&assignment.group).cloned();
            if let Some(replica) = replica.filter(|replica| replica.replicated.is_leader()) {
                return Ok(replica);
            }
            if let Some(reason) = self.context.open_failure(assignment.group) {
                return Err(Failure::Text(format!("error adding stream: {reason}")));
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Failure::Api(errors::CLUSTER_NOT_AVAIL.error()));
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }

    /// Shows the stream to everybody.
    async fn finish(&self, assignment: &Arc<StreamAssignment>) -> Result<StreamInfo, Failure> {
        let outcome = self.context.meta.propose_wait(end(assignment, true)).await;
        match outcome {
            Ok(MetaOutcome::Updated(assignment)) => {
                let info = wait_for_leader(&self.context, &self.account, &assignment).await;
                let info = info.map_err(Failure::Api)?;
                self.context.stream_action(&self.account, assignment.name(), "create");
                Ok(info)
            }
            Ok(_) => Err(Failure::Text("the restore was given up".to_owned())),
            Err(error) => {
                self.give_up(assignment).await;
                Err(Failure::Text(error.to_string()))
            }
        }
    }

    /// Takes the stream away again. Where that fails because another server leads now, that one does it.
    async fn give_up(&self, assignment: &StreamAssignment) {
        for _ in 0..GIVE_UP_ATTEMPTS {
            match self.context.meta.propose_wait(end(assignment, false)).await {
                Ok(_) => return,
                Err(error) => tracing::debug!("giving up the restore of {}: {error}", assignment.name()),
            }
            tokio::time::sleep(GIVE_UP_PAUSE).await;
        }
    }
}

/// The command that ends the restore of a stream.
pub(crate) fn end(assignment: &StreamAssignment, keep: bool) -> Bytes {
    let command = MetaCommand::EndRestore {
        account: assignment.account.clone(),
        name: assignment.name().to_owned(),
        group: assignment.group,
        keep,
    };
    command.encode()
}

type Applied = (String, Result<Outcome, crate::replicator::ProposeError>);

/// `what` names a consumer; it is empty for messages.
fn check((what, applied): Applied) -> Result<(), Failure> {
    match applied {
        Ok(Outcome::Refused(error)) if what.is_empty() => Err(Failure::Api(error)),
        Ok(Outcome::Refused(error)) => Err(not_added(&what, &error)),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Text(error.to_string())),
    }
}

fn not_added(consumer: &str, error: &ApiError) -> Failure {
    Failure::Text(format!("failed to add consumer {consumer:?}: {error}"))
}

/// Reads a backup a second time, as entries of the stream's log.
struct Feed {
    staging: Arc<Staging>,
    limits: MessageLimits,
    consumer_limits: ConsumerLimitsInForce,
    config: Arc<StreamConfig>,
    created: UnixNanos,
}

type Commands = mpsc::Sender<(String, Bytes)>;

impl Feed {
    /// Runs on a thread that may block. Nobody listening any more ends it early.
    fn read(self, commands: &Commands) -> Result<(), Failure> {
        let mut reader = self.staging.open()?;
        let state = reader.state().clone();
        let first = RestoreBatch { records: Vec::new(), up_to: state.first_seq.saturating_sub(1) };
        let send =
            |what: String, command: &StreamCommand| commands.blocking_send((what, command.encode())).is_ok();
        if !send(String::new(), &StreamCommand::Restore(first)) {
            return Ok(());
        }
        while let Some(consumer) = reader.next_consumer()? {
            let (name, command) = self.consumer(consumer)?;
            if !send(name, &command) {
                return Ok(());
            }
        }
        self.messages(&mut reader, &state, |batch| send(String::new(), &StreamCommand::Restore(batch)))
    }

    fn consumer(
        &self,
        (name, mut record): (String, weir_backup::ConsumerRecord),
    ) -> Result<(String, StreamCommand), Failure> {
        name.clone_into(&mut record.config.name);
        if !record.config.durable.is_empty() {
            record.config.name.clone_from(&record.config.durable);
        }
        // Of a newer server's backup: with such a consumer its stream is offline from the next start on.
        let level = required_level(&record.config.metadata);
        let is_name = weir_jetstream::config::is_valid_name(&name);
        let config = if is_name && record.config.name == name {
            normalise_consumer(record.config, &self.config, &self.consumer_limits, false)
        } else {
            Err(errors::CONSUMER_BAD_DURABLE_NAME.error())
        };
        let mut config = config.map_err(|error| not_added(&name, &error))?;
        keep_required_level(&mut config.metadata, level);
        let state = consumers::to_state(&config, &record.state);
        let command = StreamCommand::RestoreConsumer {
            name: name.clone(),
            config: Box::new(config),
            created: self.created,
            state: Box::new(state),
        };
        Ok((name, command))
    }

    fn messages(
        &self,
        reader: &mut BackupReader<Staged>,
        state: &StreamState,
        mut send: impl FnMut(RestoreBatch) -> bool,
    ) -> Result<(), Failure> {
        let mut batch = RestoreBatch::default();
        let mut bytes = 0;
        while let Some(message) = reader.next_message(self.limits)? {
            bytes += message.subject.len() + message.headers.len() + message.payload.len();
            batch.records.push(to_record(message));
            if bytes >= BATCH_BYTES || batch.records.len() >= BATCH_RECORDS {
                bytes = 0;
                if !send(std::mem::take(&mut batch)) {
                    return Ok(());
                }
            }
        }
        batch.up_to = state.last_seq;
        send(batch);
        Ok(())
    }
}

fn to_record(message: MessageRecord) -> OriginRecord {
    let MessageRecord { seq, timestamp, subject, headers, payload } = message;
    OriginRecord { seq, record: PublishRecord { subject, headers, payload, timestamp: UnixNanos(timestamp) } }
}
