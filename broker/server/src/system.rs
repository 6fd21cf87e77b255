//! The system account: events about connections, the server's own statistics, and the services that answer for
//! monitoring data. Not the data itself (see the monitor room), and never on a publisher's task.

mod account_services;
mod envelope;
mod events;
mod ocsp;
mod remote;
mod reply_inbox;
mod requests;
mod services;
mod subscribers;

use std::collections::HashMap;
use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tracing::warn;
use weir_hub::{Account, Hub, InternalSubscription, Observer};
use weir_monitor::Queue;
use weir_stdx::{id::IdGenerator, rng::SeededRng};

use crate::{identity::short_hash, monitoring::ServerSource};
pub(crate) use events::client_type;

use envelope::Identity;
use events::Event;
use remote::RemoteServers;
use reply_inbox::ReplyInbox;
use requests::Message;

/// Requests and events that may wait; more are dropped, and the log says so.
const QUEUE_MAX: usize = 16_384;
/// The first interval between two broadcasts of the statistics; it doubles up to the last.
const STATSZ_FIRST: Duration = Duration::from_millis(250);
const STATSZ_LAST: Duration = Duration::from_secs(10);
/// How often the number of an account's connections is told without a change.
const CONNECTIONS_HEARTBEAT: Duration = Duration::from_secs(30);
/// The shortest pause between two looks at who has to be told.
const CONNECTIONS_LOOK: Duration = Duration::from_secs(1);
/// Requests to broadcast the statistics out of turn are followed this often.
const STATSZ_SPACING: Duration = Duration::from_secs(1);

/// A command for the process, from the system account or from what watches over certificates.
pub(crate) enum Command {
    /// Read the configuration again; the answer is what went wrong.
    Reload(oneshot::Sender<Result<(), String>>),
    /// End: a certificate of ours must not be used any more.
    Stop,
}

enum Job {
    Event(Box<Event>),
    Request(Message),
}

/// The system account's services of one server.
pub(crate) struct System {
    hub: Arc<Hub>,
    source: Arc<ServerSource>,
    account: Arc<Account>,
    identity: Identity,
    sequence: AtomicU64,
    ids: Mutex<IdGenerator>,
    jobs: mpsc::Sender<Job>,
    /// Pings have a queue of their own, so that they are answered while larger requests are worked on.
    pings: mpsc::Sender<Job>,
    commands: mpsc::Sender<Command>,
    inbox: ReplyInbox,
    remote: RemoteServers,
    subscriptions: Mutex<Vec<InternalSubscription>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    last_statsz: Mutex<Option<Instant>>,
    statsz_changed: Notify,
    /// When the number of an account's connections was told last.
    told: Mutex<HashMap<String, Instant>>,
    last_complaint: Mutex<Option<Instant>>,
    this: OnceLock<Weak<Self>>,
}

impl System {
    /// Subscribes the services and begins to tell events; `commands` goes to whoever runs the process.
    pub(crate) fn start(
        hub: &Arc<Hub>,
        source: &Arc<ServerSource>,
        seed: u64,
        commands: mpsc::Sender<Command>,
    ) -> Arc<Self> {
        let (jobs, job_queue) = mpsc::channel(QUEUE_MAX);
        let (pings, ping_queue) = mpsc::channel(QUEUE_MAX);
        let mut random = SeededRng::new(seed);
        let options = hub.options();
        let system = Arc::new(Self {
            hub: Arc::clone(hub),
            source: Arc::clone(source),
            account: hub.system_account(),
            identity: Identity::of(options, source),
            sequence: AtomicU64::new(0),
            ids: Mutex::new(IdGenerator::new(&mut random)),
            jobs,
            pings,
            commands,
            inbox: ReplyInbox::new(&short_hash(&options.server_name)),
            remote: RemoteServers::default(),
            subscriptions: Mutex::new(Vec::new()),
            tasks: Mutex::new(Vec::new()),
            last_statsz: Mutex::new(None),
            statsz_changed: Notify::new(),
            told: Mutex::new(HashMap::new()),
            last_complaint: Mutex::new(None),
            this: OnceLock::new(),
        });
        // Set once, here.
        let _ = system.this.set(Arc::downgrade(&system));
        source.set_system(Arc::downgrade(&system));
        system.subscribe_services();
        for account in hub.accounts() {
            system.serve_account(&account);
        }
        hub.set_observer(Arc::clone(&system) as Arc<dyn Observer>);
        let tasks = vec![
            tokio::spawn(work(Arc::clone(&system), job_queue)),
            tokio::spawn(work(Arc::clone(&system), ping_queue)),
            tokio::spawn(Arc::clone(&system).broadcast_statsz()),
            tokio::spawn(Arc::clone(&system).beat()),
        ];
        *system.tasks.lock() = tasks;
        system
    }

    fn weak(&self) -> Weak<Self> {
        self.this.get().cloned().unwrap_or_default()
    }

    /// Queues a job; what does not fit is dropped, and what comes after the end without a word.
    fn push(&self, queue: &mpsc::Sender<Job>, job: Job) {
        if let Err(mpsc::error::TrySendError::Full(_)) = queue.try_send(job) {
            let mut last = self.last_complaint.lock();
            if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
                *last = Some(Instant::now());
                warn!("System account: requests and events are dropped, {QUEUE_MAX} wait");
            }
        }
    }

    /// What waits, under the names nats-server gives to these queues.
    pub(crate) fn queues(&self) -> Vec<Queue> {
        let queue = |name: &str, queue: &mpsc::Sender<Job>| Queue {
            name: name.to_owned(),
            pending: QUEUE_MAX.saturating_sub(queue.capacity()) as u64,
            in_progress: 0,
        };
        vec![queue("System recvQ", &self.jobs), queue("System recvQ Pings", &self.pings)]
    }

    fn next_id(&self) -> String {
        self.ids.lock().next_id()
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn publish(&self, subject: &str, headers: &[u8], body: &[u8]) {
        self.account.publish(subject.as_bytes(), None, headers, body);
    }

    /// Broadcasts the statistics at growing intervals.
    async fn broadcast_statsz(self: Arc<Self>) {
        let mut interval = STATSZ_FIRST;
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => interval = (interval * 2).min(STATSZ_LAST),
                () = self.statsz_changed.notified() => {
                    let last = *self.last_statsz.lock();
                    tokio::time::sleep_until(last.map_or_else(Instant::now, |last| last + STATSZ_SPACING)).await;
                }
            }
            self.send_own_statsz();
        }
    }

    /// What the statistics tell has changed: they are broadcast, at most once a second.
    pub(crate) fn tell_statsz(&self) {
        self.statsz_changed.notify_one();
    }

    fn send_own_statsz(&self) {
        {
            let mut last = self.last_statsz.lock();
            let spacing = STATSZ_SPACING.min(STATSZ_FIRST);
            if last.is_some_and(|last| last.elapsed() < spacing) {
                return;
            }
            *last = Some(Instant::now());
        }
        let subject = format!("$SYS.SERVER.{}.STATSZ", self.identity.id);
        let is_wanted =
            self.source.is_clustered() || self.account.count_subscribers(subject.as_bytes(), None) > 0;
        if is_wanted {
            self.send_statsz(&subject);
        }
    }

    /// Tells the number of connections of each account that has some, a while after it was told last.
    async fn beat(self: Arc<Self>) {
        loop {
            let now = Instant::now();
            let next = self.told.lock().values().min().map(|last| *last + CONNECTIONS_HEARTBEAT);
            let pause = next.map_or(CONNECTIONS_HEARTBEAT, |next| next.saturating_duration_since(now));
            tokio::time::sleep(pause.max(CONNECTIONS_LOOK)).await;
            let is_due = |last: &Instant| last.elapsed() >= CONNECTIONS_HEARTBEAT;
            let due: Vec<String> = {
                let told = self.told.lock();
                told.iter().filter(|(_, last)| is_due(last)).map(|(name, _)| name.clone()).collect()
            };
            for name in due {
                match self.hub.account(&name).filter(|account| account.connection_count() > 0) {
                    Some(account) => self.account_changed(&account),
                    None => {
                        self.told.lock().remove(&name);
                    }
                }
            }
        }
    }

    /// Tells that clients should go elsewhere.
    pub(crate) fn lame_duck(&self) {
        self.announce("LAMEDUCK");
    }

    /// Tells that the server stops, and ends the services.
    pub(crate) fn stop(&self) {
        self.announce("SHUTDOWN");
        self.subscriptions.lock().clear();
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }

    fn announce(&self, what: &str) {
        let subject = format!("$SYS.SERVER.{}.{what}", self.identity.id);
        let body = weir_monitor::compact(&self.server_info());
        self.publish(&subject, b"", body.as_bytes());
    }
}

/// Works on one queue until the services end.
async fn work(system: Arc<System>, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.recv().await {
        match job {
            Job::Event(event) => system.tell(*event),
            Job::Request(message) => system.answer(message),
        }
        // A long queue must not keep the thread from other tasks.
        tokio::task::consume_budget().await;
    }
}
