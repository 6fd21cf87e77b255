//! Several nodes in one process on loopback, each with a real journal in a folder of its own.

use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use weir_stdx::rng::SeededRng;
use weir_storage::disk::sim::{CrashExplorer, SimDisk, SlowDisk};
use weir_storage::{GroupId, Journal, JournalOptions};

use super::counter::{Counter, State};
use super::links::Links;
use crate::{Group, GroupOptions, NodeConfig, PeerId, PeerInfo, ProposeError, Proposed, RaftNode, Resolver};

pub(crate) const GROUP: GroupId = GroupId(5);
/// So that a power cut finds something that is not synced.
const SYNC_TIME: Duration = Duration::from_millis(2);
/// No condition takes longer on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Endpoints = Arc<Mutex<HashMap<u64, String>>>;

pub(crate) struct Running {
    pub(crate) node: RaftNode,
    pub(crate) group: Group,
    pub(crate) machine: Arc<Counter>,
}

#[derive(Default)]
struct Store {
    folder: Option<tempfile::TempDir>,
    /// The machine's last checkpoint: what survives its restart.
    checkpoint: State,
    /// In place of the folder, for the journal: a disk whose power can be cut.
    disk: Option<SimDisk>,
}

pub(crate) struct Cluster {
    endpoints: Endpoints,
    stores: BTreeMap<u64, Store>,
    pub(crate) running: BTreeMap<u64, Running>,
    pub(crate) options: GroupOptions,
    secret: Option<String>,
    links: Option<Links>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            endpoints: Arc::default(),
            stores: BTreeMap::new(),
            running: BTreeMap::new(),
            // Quick, but not so quick that a busy machine elects for nothing.
            options: GroupOptions {
                heartbeat: Duration::from_millis(100),
                election_min: Duration::from_millis(1000),
                election_max: Duration::from_millis(1600),
                quiet_after: Some(Duration::from_millis(200)),
                ..GroupOptions::default()
            },
            secret: Some("a secret".to_owned()),
            links: None,
        }
    }

    /// As `of`, with links that can be cut.
    pub(crate) async fn linked(size: u64) -> Self {
        let mut cluster = Self::new();
        cluster.links = Some(Links::new(Arc::clone(&cluster.endpoints)));
        cluster.form(size).await;
        cluster
    }

    pub(crate) fn links(&self) -> &Links {
        self.links.as_ref().expect("a linked cluster")
    }

    /// A cluster of nodes 1 to `size`, initialised by node 1.
    pub(crate) async fn of(size: u64) -> Self {
        let mut cluster = Self::new();
        cluster.form(size).await;
        cluster
    }

    pub(crate) async fn form(&mut self, size: u64) {
        for peer in 1..=size {
            self.start(peer).await;
        }
        let members = (1..=size).map(PeerId).collect();
        let first = self.node(1).group.clone();
        first.initialize(members).await.expect("initialising");
    }

    pub(crate) fn node(&self, peer: u64) -> &Running {
        &self.running[&peer]
    }

    /// Starts a node, new or from what it left behind.
    pub(crate) async fn start(&mut self, peer: u64) {
        let store = self.stores.entry(peer).or_default();
        let folder = store.folder.get_or_insert_with(|| tempfile::tempdir().expect("a folder"));
        let options = JournalOptions { file_size_bytes: 512 * 1024, ..JournalOptions::default() };
        let (journal, recovery) = match &store.disk {
            Some(disk) => {
                let disk = Arc::new(SlowDisk::new(disk.clone(), SYNC_TIME));
                Journal::open_on(disk, Path::new("/journal"), options).expect("the journal opens")
            }
            None => {
                let journal = folder.path().join("journal");
                std::fs::create_dir_all(&journal).expect("a folder");
                Journal::open(&journal, options).expect("the journal opens")
            }
        };
        assert!(recovery.damages.is_empty() && recovery.unreadable.is_empty(), "{recovery:?}");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = listener.local_addr().expect("its address").to_string();
        self.endpoints.lock().insert(peer, endpoint.clone());
        let endpoints = Arc::clone(&self.endpoints);
        let links = self.links.clone();
        let resolver: Resolver = Arc::new(move |to| match &links {
            Some(links) => Some(links.address(peer, to.0)),
            None => endpoints.lock().get(&to.0).cloned(),
        });
        let config = NodeConfig {
            peer: PeerId(peer),
            name: format!("n{peer}"),
            listener,
            secret: self.secret.clone(),
            spool_dir: folder.path().join("spool"),
            spool_vault: None,
            admin: None,
        };
        let node = RaftNode::start(config, Arc::new(journal), resolver).await.expect("a node");
        let machine = Arc::new(Counter::with_state(store.checkpoint.clone()));
        let opened = node.open_group(GROUP, machine.clone(), self.options.clone()).await;
        let group = opened.expect("the group opens");
        for other in 1..=9 {
            let info = PeerInfo { name: format!("n{other}"), endpoint: "127.0.0.1:1".to_owned() };
            if other != peer {
                node.set_peer(PeerId(other), info);
            }
        }
        let running = Running { node, group, machine };
        self.running.insert(peer, running);
    }

    /// Stops a node; its journal and its last checkpoint remain.
    pub(crate) async fn stop(&mut self, peer: u64) {
        let running = self.running.remove(&peer).expect("it runs");
        running.node.shutdown().await;
    }

    /// A cluster whose journals are on disks that lose power.
    pub(crate) async fn on_disks(size: u64) -> Self {
        let mut cluster = Self::new();
        for peer in 1..=size {
            let disk = Some(SimDisk::recording());
            cluster.stores.insert(peer, Store { disk, ..Store::default() });
        }
        cluster.form(size).await;
        cluster
    }

    /// The disk of a node's journal, of a cluster `on_disks`.
    pub(crate) fn disk(&self, peer: u64) -> SimDisk {
        self.stores[&peer].disk.clone().expect("a cluster on disks")
    }

    /// Where a node keeps a snapshot while it receives it.
    pub(crate) fn spool(&self, peer: u64) -> std::path::PathBuf {
        let folder = self.stores[&peer].folder.as_ref().expect("it was started");
        folder.path().join("spool")
    }

    /// Cuts the power of all nodes; each keeps what its disk may have kept.
    pub(crate) async fn cut_power(&mut self, rng: &mut SeededRng) {
        let disks = self.stores.values().filter_map(|store| store.disk.as_ref());
        let records = disks.map(SimDisk::record).collect::<Vec<_>>();
        for peer in self.running.keys().copied().collect::<Vec<_>>() {
            self.stop(peer).await;
        }
        for (store, record) in self.stores.values_mut().zip(records) {
            let mut explorer = CrashExplorer::new(record);
            while explorer.step() {}
            store.disk = Some(explorer.crash(rng).fork_recording());
        }
    }

    /// Forgets everything a stopped node had.
    pub(crate) fn wipe(&mut self, peer: u64) {
        self.stores.remove(&peer);
    }

    /// Keeps a node's state as a checkpoint, and lets the log be cut there.
    pub(crate) async fn checkpoint(&mut self, peer: u64) -> u64 {
        let running = &self.running[&peer];
        let state = running.machine.state();
        let index = state.applied.map_or(0, |at| at.index);
        self.stores.entry(peer).or_default().checkpoint = state;
        running.group.compact(index).await.expect("compacting");
        index
    }

    pub(crate) fn leader_now(&self) -> Option<u64> {
        let leads = |(peer, running): (&u64, &Running)| running.group.status().is_leader.then_some(*peer);
        self.running.iter().find_map(leads)
    }

    pub(crate) async fn leader(&self) -> u64 {
        wait_for("a leader", || self.leader_now()).await
    }

    /// Lets the leader reach one of the others only until another one leads, then all of them again.
    pub(crate) async fn replace_leader_that_reaches_one(&self) {
        let old = self.leader().await;
        let others: Vec<u64> = self.running.keys().copied().filter(|peer| *peer != old).collect();
        for other in &others[1..] {
            self.links().set(old, *other, false);
        }
        let leads = |peer: &u64| self.node(*peer).group.status().is_leader;
        wait_for("another leader", || others.iter().copied().find(leads)).await;
        for other in &others[1..] {
            self.links().set(old, *other, true);
        }
    }

    /// Proposes until it is committed, whoever leads.
    pub(crate) async fn propose(&self, payload: impl Into<Bytes>) -> Proposed {
        let payload = payload.into();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            match self.node(leader).group.propose(payload.clone()).await {
                Ok(proposed) => return proposed,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Proposes `count` payloads to a leader, many at once; all must be committed.
    pub(crate) async fn propose_many(&self, count: usize) {
        let leader = self.leader().await;
        let group = self.node(leader).group.clone();
        let mut waiting = Vec::new();
        for number in 0..count {
            let payload = Bytes::from(format!("{number}-{}", "x".repeat(100)));
            loop {
                group.ready().await;
                let mut proposal = Box::pin(group.propose(payload.clone()));
                match futures::poll!(&mut proposal) {
                    std::task::Poll::Ready(Err(ProposeError::Backpressure)) => {}
                    std::task::Poll::Ready(result) => {
                        result.expect("a proposal to a leader");
                        break;
                    }
                    std::task::Poll::Pending => {
                        waiting.push(proposal);
                        break;
                    }
                }
            }
        }
        for proposal in waiting {
            proposal.await.expect("a proposal to a leader");
        }
    }

    /// Waits until all running nodes have applied the same payloads, at least `count`.
    pub(crate) async fn agree(&self, count: usize) {
        let agreed = || {
            let mut states = self.running.values().map(|running| running.machine.state());
            let first = states.next()?;
            let same = states.all(|state| state.payloads == first.payloads);
            (same && first.payloads.len() >= count).then_some(())
        };
        let waiting = tokio::time::timeout(PATIENCE, wait_for("all nodes to agree", agreed));
        if waiting.await.is_err() {
            for (peer, running) in &self.running {
                let payloads = running.machine.payloads();
                println!("{peer}: {payloads} payloads, {:#?}", running.group.status());
            }
            panic!("the nodes do not agree");
        }
    }
}

/// Looks until there is an answer.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE * 2;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
