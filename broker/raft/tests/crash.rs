//! Three nodes as processes of their own, killed without warning under load. What was acknowledged must
//! be on every node, once, in the same order; what was never proposed must not appear.

#[path = "crash/child.rs"]
mod child;
#[path = "crash/machine.rs"]
mod machine;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use child::CHILD_VARIABLE;

const NODES: u64 = 3;
const IN_FLIGHT: usize = 64;
/// No condition takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// In a child process this is the whole program; in a normal run it does nothing.
#[test]
fn child_process() {
    if let Ok(arguments) = std::env::var(CHILD_VARIABLE) {
        child::run(&arguments);
    }
}

enum Heard {
    Line(u64, u64, String),
    Gone(u64, u64),
}

struct Node {
    process: Child,
    stdin: ChildStdin,
    generation: u64,
    in_flight: HashSet<u64>,
}

struct Test {
    folder: tempfile::TempDir,
    ports: Vec<u16>,
    nodes: HashMap<u64, Node>,
    generation: u64,
    lines: Receiver<Heard>,
    sender: Sender<Heard>,
    leader: Option<u64>,
    next: u64,
    acked: Vec<u64>,
    random: u64,
}

impl Test {
    fn new() -> Self {
        let listeners = (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let listeners = listeners.collect::<Vec<_>>();
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let ports = listeners.iter().map(port).collect();
        let (sender, lines) = channel();
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            ports,
            nodes: HashMap::new(),
            generation: 0,
            lines,
            sender,
            leader: None,
            next: 0,
            acked: Vec::new(),
            random: 0x2545_f491_4f6c_dd1d,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn start(&mut self, peer: u64) {
        self.generation += 1;
        let generation = self.generation;
        let folder = self.folder.path().join(peer.to_string());
        let ports = self.ports.iter().map(ToString::to_string).collect::<Vec<_>>();
        let arguments = format!("{peer} {} {}", folder.display(), ports.join(" "));
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD_VARIABLE, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let stdin = process.stdin.take().expect("its input");
        let stdout = process.stdout.take().expect("its output");
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(Heard::Line(peer, generation, line)).is_err() {
                    return;
                }
            }
            // The test may have ended.
            let _ = sender.send(Heard::Gone(peer, generation));
        });
        let node = Node { process, stdin, generation, in_flight: HashSet::new() };
        self.nodes.insert(peer, node);
    }

    fn kill(&mut self, peer: u64) {
        if let Some(mut node) = self.nodes.remove(&peer) {
            node.process.kill().expect("killing a child");
            node.process.wait().expect("a dead child");
        }
        if self.leader == Some(peer) {
            self.leader = None;
        }
    }

    /// Hears of one line, if there is one soon; returns answers to `dump`.
    fn hear(&mut self, timeout: Duration) -> Option<(u64, Vec<u64>)> {
        let (peer, generation, line) = match self.lines.recv_timeout(timeout) {
            Ok(Heard::Line(peer, generation, line)) => (peer, generation, line),
            Ok(Heard::Gone(peer, generation)) => {
                let alive = self.nodes.get(&peer).map(|node| node.generation);
                assert_ne!(alive, Some(generation), "node {peer} ended by itself");
                return None;
            }
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => panic!("no sender"),
        };
        let node = self.nodes.get_mut(&peer);
        let mut node = node.filter(|node| node.generation == generation);
        let mut words = line.split(' ');
        let numbers = |words: std::str::Split<'_, char>| {
            words.map(|word| word.parse().expect("a number")).collect::<Vec<u64>>()
        };
        match words.next() {
            Some(answer @ ("ok" | "no")) => {
                for number in numbers(words) {
                    if let Some(node) = &mut node {
                        node.in_flight.remove(&number);
                    }
                    // It counts even when its node has been killed since.
                    if answer == "ok" {
                        self.acked.push(number);
                    }
                }
            }
            Some("leader") if node.is_some() => self.leader = Some(peer),
            Some("follower") if node.is_some() && self.leader == Some(peer) => self.leader = None,
            Some("dump") if node.is_some() => return Some((peer, numbers(words))),
            _ => {}
        }
        None
    }

    /// Keeps proposals in flight for a while.
    fn load(&mut self, duration: Duration) {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            if let Some(leader) = self.leader
                && let Some(node) = self.nodes.get_mut(&leader)
            {
                while node.in_flight.len() < IN_FLIGHT {
                    self.next += 1;
                    // A dying child's pipe may be closed already.
                    if writeln!(node.stdin, "propose {}", self.next).is_err() {
                        break;
                    }
                    node.in_flight.insert(self.next);
                }
            }
            self.hear(Duration::from_millis(5));
        }
    }

    /// Asks all nodes for what they have applied until they agree.
    fn agreed(&mut self) -> Vec<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for node in self.nodes.values_mut() {
                writeln!(node.stdin, "dump").expect("a living child");
            }
            let mut dumps: HashMap<u64, Vec<u64>> = HashMap::new();
            let until = Instant::now() + Duration::from_secs(5);
            while dumps.len() < self.nodes.len() && Instant::now() < until {
                dumps.extend(self.hear(Duration::from_millis(20)));
            }
            let mut all = dumps.values();
            if let Some(first) = all.next()
                && dumps.len() == self.nodes.len()
                && all.all(|dump| dump == first)
            {
                let has = first.iter().collect::<HashSet<_>>();
                if self.acked.iter().all(|number| has.contains(number)) {
                    return first.clone();
                }
            }
            let lengths = dumps.iter().map(|(peer, dump)| (*peer, dump.len()));
            let lengths = lengths.collect::<Vec<_>>();
            let missing = dumps.iter().map(|(peer, dump)| {
                let has = dump.iter().collect::<HashSet<_>>();
                let missing = self.acked.iter().filter(|number| !has.contains(number));
                (*peer, missing.count())
            });
            let missing = missing.collect::<Vec<_>>();
            assert!(Instant::now() < deadline, "lengths {lengths:?}, acked but missing {missing:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn check(&mut self) {
        let log = self.agreed();
        let distinct = log.iter().collect::<HashSet<_>>();
        assert_eq!(distinct.len(), log.len(), "something was applied twice");
        assert!(log.iter().all(|number| *number <= self.next), "something was invented");
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_nodes_are_killed() {
    if std::env::var(CHILD_VARIABLE).is_ok() {
        return;
    }
    let rounds = std::env::var("WEIR_CRASH_ROUNDS").ok().and_then(|r| r.parse().ok());
    let rounds: u64 = rounds.unwrap_or(12);
    let mut test = Test::new();
    for peer in 1..=NODES {
        test.start(peer);
    }
    let deadline = Instant::now() + PATIENCE;
    while test.leader.is_none() {
        assert!(Instant::now() < deadline, "no first leader");
        test.hear(Duration::from_millis(20));
    }
    for round in 0..rounds {
        let before = Duration::from_millis(300 + test.random(700));
        test.load(before);
        let victims = match round % 4 {
            3 => (1..=NODES).collect(),
            2 => vec![test.leader.unwrap_or(1)],
            _ => vec![1 + test.random(NODES)],
        };
        for peer in &victims {
            test.kill(*peer);
        }
        let down = Duration::from_millis(test.random(1500));
        test.load(down);
        for peer in victims {
            test.start(peer);
        }
    }
    test.load(Duration::from_secs(3));
    test.check();
    println!("{} proposed, {} acknowledged, {rounds} rounds of kills", test.next, test.acked.len());
    assert!(test.acked.len() > 100, "hardly anything was acknowledged");
    for peer in 1..=NODES {
        test.kill(peer);
    }
}
