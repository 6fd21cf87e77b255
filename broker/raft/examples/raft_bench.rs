//! Measures groups of three nodes in one process, over loopback and real journals: throughput and
//! latency at several loads, time to a new leader, and what idle groups cost.
//! Usage: `raft_bench [groups] [folder]`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use weir_raft::{
    Committed, Group, GroupId, GroupOptions, Leadership, LogPosition, Machine, MachineError, NodeConfig,
    PeerId, RaftNode, Resolver, Response, SnapshotSource,
};
use weir_storage::{Journal, JournalOptions};

const NODES: u64 = 3;

#[derive(Default)]
struct Sink(Mutex<Option<LogPosition>>);

impl Machine for Sink {
    fn applied(&self) -> Option<LogPosition> {
        *self.0.lock()
    }

    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Response>, MachineError> {
        *self.0.lock() = entries.last().map(Committed::position);
        Ok(entries.iter().map(|_| None).collect())
    }

    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, MachineError> {
        Ok(Box::new(Empty(self.applied().ok_or("nothing applied")?)))
    }

    fn install(&self, position: LogPosition, _: &mut dyn Read) -> Result<(), MachineError> {
        *self.0.lock() = Some(position);
        Ok(())
    }

    fn leadership(&self, _: Leadership) {}
}

struct Empty(LogPosition);

impl SnapshotSource for Empty {
    fn position(&self) -> LogPosition {
        self.0
    }

    fn write_to(self: Box<Self>, _: &mut dyn Write) -> std::io::Result<()> {
        Ok(())
    }
}

/// Seconds of processor time this process has used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    let ticks = |index: usize| fields.get(index).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

struct Bench {
    nodes: Vec<RaftNode>,
    journals: Vec<Journal>,
}

impl Bench {
    async fn start(folder: PathBuf) -> Self {
        let endpoints: Arc<Mutex<HashMap<u64, String>>> = Arc::default();
        let mut bench = Self { nodes: Vec::new(), journals: Vec::new() };
        for peer in 1..=NODES {
            let folder = folder.join(peer.to_string());
            std::fs::create_dir_all(folder.join("journal")).expect("a folder");
            let opened = Journal::open(&folder.join("journal"), JournalOptions::default());
            let (journal, _) = opened.expect("a journal");
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            endpoints.lock().insert(peer, address);
            let known = Arc::clone(&endpoints);
            let resolver: Resolver = Arc::new(move |peer| known.lock().get(&peer.0).cloned());
            let config = NodeConfig {
                peer: PeerId(peer),
                name: format!("n{peer}"),
                listener,
                secret: None,
                spool_dir: folder.join("spool"),
                spool_vault: None,
                admin: None,
            };
            let node = RaftNode::start(config, Arc::new(journal.clone()), resolver).await;
            bench.nodes.push(node.expect("a node"));
            bench.journals.push(journal);
        }
        bench
    }

    async fn group(&self, id: u64) -> Vec<Group> {
        let mut groups = Vec::new();
        for node in &self.nodes {
            let options = GroupOptions { max_proposals: 8192, ..GroupOptions::default() };
            let opened = node.open_group(GroupId(id), Arc::new(Sink::default()), options).await;
            groups.push(opened.expect("a group"));
        }
        let first = usize::try_from(id % NODES).expect("small");
        for peer in 1..=NODES {
            for node in &self.nodes {
                let info = node.peer_info(PeerId(peer)).expect("a peer");
                node.set_peer(PeerId(peer), info);
            }
        }
        groups[first].initialize((1..=NODES).map(PeerId).collect()).await.expect("initialising");
        groups
    }
}

async fn leader(groups: &[Group]) -> Group {
    loop {
        if let Some(group) = groups.iter().find(|group| group.status().is_leader) {
            return group.clone();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Keeps `in_flight` proposals under way for a while.
async fn load(group: &Group, in_flight: usize, bytes: usize, bench: &Bench) {
    let payload = Bytes::from(vec![7; bytes]);
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let fsyncs = || bench.journals.iter().map(|journal| journal.stats().fsyncs).sum::<u64>();
    let fsyncs_before = fsyncs();
    let mut waiting = FuturesUnordered::new();
    let mut latencies = Vec::new();
    let propose = || {
        let (asked, proposal) = (Instant::now(), group.propose(payload.clone()));
        async move {
            proposal.await.expect("a proposal");
            asked.elapsed()
        }
    };
    while started.elapsed() < Duration::from_secs(4) {
        while waiting.len() < in_flight {
            waiting.push(propose());
        }
        latencies.extend(waiting.next().await);
    }
    while let Some(latency) = waiting.next().await {
        latencies.push(latency);
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort();
    let count = latencies.len();
    let at = |part: f64| latencies[((count - 1) as f64 * part) as usize];
    println!(
        "{bytes:>7} B x {in_flight:>5} in flight: {:>8.0}/s, {:>6.1} MB/s, p50 {:?}, p99 {:?}, {:.1} us CPU each, {} fsyncs",
        count as f64 / seconds,
        (count * bytes) as f64 / seconds / 1e6,
        at(0.5),
        at(0.99),
        (cpu_seconds() - cpu) * 1e6 / count as f64,
        fsyncs() - fsyncs_before,
    );
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let idle = arguments.next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(100);
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let bench = Bench::start(folder).await;
    let groups = bench.group(1).await;
    let group = leader(&groups).await;
    for (in_flight, bytes) in [(1, 128), (64, 128), (1000, 128), (8000, 128), (64, 64 * 1024), (8, 1 << 20)] {
        load(&group, in_flight, bytes, &bench).await;
    }
    let cpu = cpu_seconds();
    for id in 2..2 + idle {
        let groups = bench.group(id).await;
        leader(&groups).await;
    }
    println!("{idle} more groups opened and led: {:.2} s of CPU", cpu_seconds() - cpu);
    let (started, cpu) = (Instant::now(), cpu_seconds());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (cpu_seconds() - cpu) / started.elapsed().as_secs_f64() * 100.0;
    println!("idle: {share:.1} % of a core for {NODES} replicas of {idle} groups");
}
