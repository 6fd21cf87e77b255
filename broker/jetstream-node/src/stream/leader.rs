//! What a server does while it leads a stream: it subscribes to the stream's subjects, its acknowledgements and its
//! API, takes messages in, and delivers them. All of it ends with the leadership.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use weir_hub::{Account, InternalSubscription, OutboundMessage};
use weir_jetstream::{Outcome, PublishOutcome, StopReason, StreamCommand};
use weir_jsapi::{
    ApiError, ClusterInfo, ConsumerInfo, PeerInfo, StreamConfig, StreamInfo, StreamSourceInfo, Time, errors,
    response,
};
use weir_stdx::time::UnixNanos;

use super::delivery::{Deliveries, DeliveryTask};
use super::ingest::Ingest;
use super::input::Input;
use super::replica::StreamReplica;
use super::room::Room;
use super::sourcing::Sourcing;
use crate::api::{self, Role};
use crate::clock;
use crate::context::Context;
use crate::patient::PatientMutex;
use crate::replicator::ProposeError;
use crate::requester::Requester;

/// Acknowledgements and pull requests that wait for the delivery task. More are dropped: clients ask again, and
/// messages without acknowledgement are delivered again.
const INPUTS_MAX: usize = 65_536;
/// The queue group of direct gets, as nats-server's: mirrors share them with their origin.
const DIRECT_GET_GROUP: &str = "_sys_";

pub(crate) struct StreamLeader {
    pub(crate) context: Arc<Context>,
    replica: Weak<StreamReplica>,
    pub(crate) account: Arc<Account>,
    name: Arc<str>,
    term: u64,
    since: UnixNanos,
    pub(crate) deliveries: PatientMutex<Deliveries>,
    ingest: Arc<Ingest>,
    /// What the account leaves to this stream.
    pub(crate) room: Arc<Room>,
    inputs: mpsc::Sender<Input>,
    /// Wakes the delivery task to look at the assignment again.
    pub(crate) reassigned: Notify,
    /// The task for the stream's schedules runs.
    schedules: AtomicBool,
    subscriptions: Mutex<Subscriptions>,
    sourcing: Mutex<Sourcing>,
    /// A mirror that answers direct gets for its origin, once it has caught up.
    mirror_direct: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Default)]
struct Subscriptions {
    /// The stream's subjects, with the configuration they belong to.
    subjects: Vec<(String, InternalSubscription)>,
    direct_get: Vec<InternalSubscription>,
    /// Those of a mirror's origin.
    mirror_direct: Vec<InternalSubscription>,
    /// Acknowledgements, flow control and API.
    services: Vec<InternalSubscription>,
}

impl StreamLeader {
    /// Begins to serve the stream. Its log is applied up to this term.
    pub(crate) fn start(context: Arc<Context>, replica: Weak<StreamReplica>, term: u64) -> Option<Arc<Self>> {
        let strong = replica.upgrade()?;
        let assignment = strong.assignment();
        let account = context.account(&assignment.account);
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        let leader = Arc::new(Self {
            context: Arc::clone(&context),
            room: Room::new(assignment.config.storage, replica.clone()),
            replica,
            account,
            name: Arc::from(assignment.name()),
            term,
            since: clock::now(),
            deliveries: PatientMutex::new(Deliveries::default()),
            ingest: Ingest::new(&context),
            inputs: inputs.clone(),
            reassigned: Notify::new(),
            schedules: AtomicBool::new(false),
            subscriptions: Mutex::new(Subscriptions::default()),
            sourcing: Mutex::default(),
            mirror_direct: AtomicBool::new(false),
            tasks: Mutex::new(Vec::new()),
        });
        let ingest = Arc::clone(&leader.ingest);
        leader.spawn(ingest.run(Arc::clone(&leader), Arc::clone(&strong.replicated)));
        leader.continue_fast_batches(&strong);
        let task = DeliveryTask::new(Arc::clone(&leader), Arc::clone(&strong.replicated), inputs.clone());
        leader.spawn(task.run(receiver));
        leader.spawn(super::membership::follow_assignment(Arc::clone(&leader)));
        leader.room.update(context.room_of(&assignment, &BTreeMap::new()));
        context.space.change();
        leader.subscribe_subjects(&leader.config());
        leader.subscribe_services(&inputs);
        leader.announce(&strong);
        Some(leader)
    }

    /// Tells who leads a replicated stream and its consumers now.
    fn announce(&self, replica: &StreamReplica) {
        let Some(info) = self.cluster_info().filter(|_| replica.assignment().is_replicated()) else { return };
        let names: Vec<String> = {
            let state = replica.replicated.lock();
            state.machine().consumers().map(|(name, _)| name.to_string()).collect()
        };
        self.context.leader_elected(&self.account, &self.name, "", &info);
        for name in names {
            self.context.leader_elected(&self.account, &self.name, &name, &info);
        }
    }

    /// Ends the service: nothing is taken in or delivered any more, waiting clients are told.
    pub(crate) fn stop(&self, reason: StopReason) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        *self.subscriptions.lock() = Subscriptions::default();
        *self.sourcing.lock() = Sourcing::default();
        let effects = self.deliveries.lock().stop(reason);
        super::delivery::send_statuses(&self.account, &effects);
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(task).abort_handle();
        self.tasks.lock().push(handle);
    }

    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn replica(&self) -> Option<Arc<StreamReplica>> {
        self.replica.upgrade()
    }

    /// For requests in the stream's account.
    pub(crate) fn requester(&self) -> Option<Arc<Requester>> {
        self.context.accounts.get(self.account.name()).map(|account| Arc::clone(&account.requester))
    }

    /// The configuration as applied.
    pub(crate) fn config(&self) -> Arc<StreamConfig> {
        self.replica()
            .map_or_else(Arc::default, |replica| Arc::clone(replica.replicated.lock().machine().config()))
    }

    pub(crate) fn assignment_changed(&self) {
        self.reassigned.notify_one();
    }

    /// Puts a command into the stream's log and waits until it is applied here.
    pub(crate) async fn propose(&self, command: &StreamCommand) -> Result<Outcome, ProposeError> {
        let Some(replica) = self.replica() else {
            return Err(ProposeError::Unknown("the replica was closed".to_owned()));
        };
        if let Some(shortage) = self.context.journal.shortage().filter(|shortage| shortage.is_waiting) {
            return Err(ProposeError::Failed(format!("no room on the disk: {}", shortage.reason)));
        }
        replica.replicated.propose_wait(command.encode()).await
    }

    /// Subscribes to the subjects of a configuration; those that stay are left alone.
    pub(crate) fn subscribe_subjects(self: &Arc<Self>, config: &Arc<StreamConfig>) {
        self.sourcing.lock().configure(self, config);
        let mut subscriptions = self.subscriptions.lock();
        self.ingest.configure(config);
        if config.allow_msg_schedules && !self.schedules.swap(true, Ordering::AcqRel) {
            self.start_scheduler();
        }
        self.subscribe_direct_get(config, &mut subscriptions);
        subscriptions.subjects.retain(|(subject, _)| config.subjects.contains(subject));
        for subject in &config.subjects {
            if subscriptions.subjects.iter().any(|(known, _)| known == subject) {
                continue;
            }
            let ingest = Arc::clone(&self.ingest);
            let room = Arc::clone(&self.room);
            let name = Arc::clone(&self.name);
            // Not the context: what a hub holds outlives a node that was dropped.
            let (exceeded, space) = (Arc::clone(&self.context.exceeded), Arc::clone(&self.context.space));
            let storage = config.storage;
            let subscription = self.account.subscribe_internal(
                subject,
                None,
                Arc::new(move |message| {
                    if let Some(trace) = message.trace {
                        trace.stored(&name, message.subject, false, "");
                        if trace.is_only() {
                            return;
                        }
                    }
                    let refusal = room
                        .refusal(message.subject.len(), message.headers.len(), message.payload.len())
                        .inspect(|error| {
                            exceeded.tell(message.account.name(), storage, error, space.is_full());
                        })
                        .or_else(|| ingest.accept(message).err().map(|error| error.error()));
                    if let (Some(error), Some(reply)) = (refusal, message.reply) {
                        refuse(message.account, &name, reply, &error);
                    }
                }),
            );
            subscriptions.subjects.push((subject.clone(), subscription));
        }
    }

    /// Schedules cannot be switched off again.
    fn start_scheduler(self: &Arc<Self>) {
        if let Some(replica) = self.replica() {
            self.spawn(super::scheduler::run(Arc::clone(self), Arc::clone(&replica.replicated)));
        }
    }

    /// Tells the clients of fast batches where they are: what was on its way to another leader may be lost.
    fn continue_fast_batches(&self, replica: &StreamReplica) {
        let replies = replica.replicated.lock().machine().fast_batch_replies();
        for (reply, answer) in replies {
            let mut body = bytes::BytesMut::new();
            let domain = self.context.domain.as_deref();
            weir_jetstream::write_flow_reply(&mut body, &self.name, domain, &answer);
            self.account.publish(&reply, None, b"", &body);
        }
    }

    /// Acknowledgements come last: their interest says that the stream is served (`is_served`), so all else is there by then.
    fn subscribe_services(self: &Arc<Self>, inputs: &mpsc::Sender<Input>) {
        let name = &self.name;
        let mut services = Vec::new();
        for subject in [
            format!("$JS.API.STREAM.*.{name}"),
            format!("$JS.API.STREAM.*.*.{name}"),
            format!("$JS.API.CONSUMER.*.{name}"),
            format!("$JS.API.CONSUMER.*.{name}.>"),
            format!("$JS.API.CONSUMER.DURABLE.CREATE.{name}.*"),
            format!("$JS.API.CONSUMER.LEADER.STEPDOWN.{name}.*"),
            format!("$JS.API.CONSUMER.PEER.*.{name}.*"),
        ] {
            services.push(self.subscribe_api(&subject));
        }
        services.push(self.subscribe_input(
            &format!("$JS.API.CONSUMER.MSG.NEXT.{name}.*"),
            inputs,
            Input::next,
        ));
        let scope = weir_jetstream::subject_scope(self.context.domain.as_deref(), self.account.name());
        for subject in [format!("$JS.FC.{scope}{name}.*.*"), format!("$JS.FC.{name}.*.*")] {
            services.push(self.subscribe_input(&subject, inputs, Input::flow_control));
        }
        services.push(self.subscribe_internal_info());
        for subject in [format!("$JS.ACK.{scope}{name}.>"), format!("$JS.ACK.{name}.>")] {
            services.push(self.subscribe_input(&subject, inputs, Input::ack));
        }
        self.subscriptions.lock().services = services;
    }

    /// Other servers ask here for the stream's info.
    fn subscribe_internal_info(self: &Arc<Self>) -> InternalSubscription {
        let leader = Arc::downgrade(self);
        let subject = format!("{}{}", api::stream_list::INTERNAL_INFO_PREFIX, self.name);
        self.account.subscribe_internal(
            &subject,
            None,
            Arc::new(move |message| {
                let (Some(leader), Some(reply)) = (leader.upgrade(), message.reply) else { return };
                let reply = reply.to_vec();
                tokio::spawn(async move {
                    let body = response::success(response::kind::STREAM_INFO, leader.info());
                    leader.account.publish(&reply, None, b"", &body);
                });
            }),
        )
    }

    /// Direct gets are a service only where the configuration allows them: elsewhere nobody answers, at once.
    fn subscribe_direct_get(self: &Arc<Self>, config: &StreamConfig, subscriptions: &mut Subscriptions) {
        if !config.allow_direct {
            subscriptions.direct_get.clear();
        } else if subscriptions.direct_get.is_empty() {
            subscriptions.direct_get = self.direct_gets_of(&self.name);
        }
        let is_mirror_direct = config.mirror.is_some() && config.mirror_direct;
        self.mirror_direct.store(is_mirror_direct, Ordering::Relaxed);
        if !is_mirror_direct {
            subscriptions.mirror_direct.clear();
        }
    }

    fn direct_gets_of(self: &Arc<Self>, stream: &str) -> Vec<InternalSubscription> {
        let handler = api::direct_get::handler(self);
        let subscribe = |rest: &str| {
            let subject = format!("$JS.API.DIRECT.GET.{stream}{rest}");
            self.account.subscribe_internal(&subject, Some(DIRECT_GET_GROUP), Arc::clone(&handler))
        };
        ["", ".>"].map(subscribe).into_iter().collect()
    }

    /// A mirror that has caught up answers direct gets for its origin from now on, where its configuration says so.
    pub(crate) fn serve_mirror_direct(self: &Arc<Self>) {
        if !self.mirror_direct.load(Ordering::Relaxed) || !self.subscriptions.lock().mirror_direct.is_empty()
        {
            return;
        }
        let config = self.config();
        let Some(mirror) = config.mirror.as_ref().filter(|_| config.mirror_direct) else { return };
        let subscribed = self.direct_gets_of(&mirror.name);
        self.subscriptions.lock().mirror_direct = subscribed;
    }

    fn subscribe_input(
        &self,
        subject: &str,
        inputs: &mpsc::Sender<Input>,
        read: fn(&weir_hub::Inbound<'_>) -> Option<Input>,
    ) -> InternalSubscription {
        let inputs = inputs.clone();
        self.account.subscribe_internal(
            subject,
            None,
            Arc::new(move |message| {
                if let Some(input) = read(message) {
                    // A full queue drops: see INPUTS_MAX.
                    let _ = inputs.try_send(input);
                }
            }),
        )
    }

    fn subscribe_api(&self, subject: &str) -> InternalSubscription {
        self.account.subscribe_internal(subject, None, api::handler(&self.context, Role::Stream))
    }

    /// STREAM.INFO as this leader knows it.
    pub(crate) fn info(&self) -> StreamInfo {
        let Some(replica) = self.replica() else { return StreamInfo::default() };
        let mut info = replica.replicated.lock().machine().info(clock::now());
        self.complete(&mut info);
        info
    }

    /// In STREAM.INFO and /jsz even a single server names itself as the leader, unlike in all other replies.
    pub(crate) fn name_leader(&self, info: &mut StreamInfo) {
        info.cluster.get_or_insert_with(|| ClusterInfo {
            leader: self.context.server_name.clone(),
            ..ClusterInfo::default()
        });
    }

    /// Adds to an info what only the leader knows.
    pub(crate) fn complete(&self, info: &mut StreamInfo) {
        info.domain = self.context.domain.as_deref().unwrap_or_default().to_owned();
        info.cluster = self.cluster_info();
        (info.mirror, info.sources) = self.origins(&info.config);
    }

    /// How the stream is getting on with its mirror's origin and its sources.
    fn origins(&self, config: &StreamConfig) -> (Option<StreamSourceInfo>, Vec<StreamSourceInfo>) {
        if config.mirror.is_none() && config.sources.is_empty() {
            return (None, Vec::new());
        }
        let Some(replica) = self.replica() else { return (None, Vec::new()) };
        let position = |index_name: &str| {
            let state = replica.replicated.lock();
            state.machine().source_position(index_name).map_or(0, |position| position.seq)
        };
        self.sourcing.lock().infos(config, &position)
    }

    /// Whether somebody listens on the deliver subject of this push consumer.
    pub(crate) fn is_bound(&self, consumer: &str) -> bool {
        self.deliveries.lock().is_bound(consumer)
    }

    /// CONSUMER.UNPIN: lets another client of the group be pinned.
    pub(crate) async fn unpin(&self, consumer: &str, group: &str) -> Result<(), ApiError> {
        let unpinned = self.deliveries.lock().unpin(consumer, group);
        match unpinned.or_else(|| self.has_priority_group(consumer, group)) {
            None => return Err(errors::CONSUMER_NOT_FOUND.error()),
            Some(false) => return Err(errors::CONSUMER_INVALID_PRIORITY_GROUP.error()),
            Some(true) => {}
        }
        let _ = self.inputs.send(Input::Wake { consumer: consumer.to_owned() }).await;
        Ok(())
    }

    /// Whether a consumer has a group, also one that was answered for and is not delivered for yet: nobody is pinned
    /// in it then.
    fn has_priority_group(&self, consumer: &str, group: &str) -> Option<bool> {
        let replica = self.replica()?;
        let state = replica.replicated.lock();
        let config = &state.machine().consumer(consumer)?.config;
        Some(config.priority_groups.iter().any(|known| known == group))
    }

    /// CONSUMER.RESET: sends a consumer to a sequence, or with 0 back to what is not acknowledged; gives the sequence.
    pub(crate) async fn reset_consumer(&self, consumer: &str, seq: u64) -> Result<u64, ApiError> {
        let (answer, outcome) = oneshot::channel();
        let _ = self.inputs.send(Input::Reset { consumer: consumer.to_owned(), seq, answer }).await;
        match outcome.await {
            Ok(Ok(seq)) => Ok(seq),
            Ok(Err(reason)) => Err(errors::CONSUMER_INVALID_RESET.with(reason)),
            Err(_) => Err(errors::CONSUMER_INVALID_RESET.with("consumer closed")),
        }
    }

    /// CONSUMER.INFO as this leader knows it.
    pub(crate) fn consumer_info(&self, name: &str) -> Option<ConsumerInfo> {
        let replica = self.replica()?;
        let mut deliveries = self.deliveries.lock();
        let state = replica.replicated.lock();
        let mut info = deliveries.info(name, clock::now(), state.machine(), &self.account)?;
        drop(state);
        info.cluster = self.cluster_info();
        if replica.assignment().is_replicated() && info.ack_floor.consumer_seq == 0 {
            // Before the first acknowledgement, as nats-server.
            info.ack_floor.stream_seq = 0;
        }
        Some(info)
    }

    /// Messages that wait for the log.
    pub(crate) fn waiting_messages(&self) -> usize {
        self.ingest.waiting()
    }

    /// Acknowledgements and pull requests that wait for the delivery task.
    pub(crate) fn waiting_inputs(&self) -> usize {
        INPUTS_MAX.saturating_sub(self.inputs.capacity())
    }

    /// Who holds the stream; none on a single server.
    pub(crate) fn cluster_info(&self) -> Option<ClusterInfo> {
        let cluster = self.context.cluster.as_ref()?;
        let replica = self.replica()?;
        let assignment = replica.assignment();
        let status = replica.replicated.status();
        let mut replicas: Vec<PeerInfo> =
            status.replicas.iter().map(|peer| self.context.peer_info(peer.peer, &status.replicas)).collect();
        replicas.sort_by(|one, other| one.name.cmp(&other.name));
        Some(ClusterInfo {
            name: cluster.name.clone(),
            raft_group: if assignment.is_replicated() {
                format!("S-{}", assignment.group)
            } else {
                String::new()
            },
            leader: self.context.server_name.clone(),
            leader_since: Some(Time::from_unix_nanos(i64::try_from(self.since.0).unwrap_or(i64::MAX))),
            traffic_account: String::new(),
            replicas,
            ..ClusterInfo::default()
        })
    }
}

/// Tells a publisher that too much is under way already (429, as nats-server).
fn refuse(account: &Arc<Account>, stream: &str, reply: &[u8], error: &ApiError) {
    let mut body = bytes::BytesMut::new();
    let is_full = *error == errors::STREAM_TOO_MANY_REQUESTS.error();
    let outcome = PublishOutcome::Rejected(error.clone());
    weir_jetstream::write_pub_ack(&mut body, stream, None, &outcome);
    account.publish_batch([OutboundMessage {
        subject: reply,
        headers: if is_full { b"NATS/1.0 429 Too Many Requests\r\n\r\n" } else { b"" },
        payload: &body,
        ..OutboundMessage::default()
    }]);
}
