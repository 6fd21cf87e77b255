//! The workload on a disk that fails: once or for good, with an I/O error or for want of room, at any operation. What
//! does not fail goes on, what was acknowledged is there after a restart, and a full disk that gets room again costs
//! nothing but the wait. A second server whose disk never fails says what every group has to be.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_jetstream::meta::META_GROUP;
use weir_stdx::rng::SeededRng;
use weir_storage::disk::sim::{CrashExplorer, Fault, SimDisk};
use weir_storage::{GroupId, JournalEntry};

use super::{Observed, Workload};
use crate::crash_states::server::Server;

const ROUNDS: u32 = 40;
/// Rounds after there is room again.
const ROUNDS_AFTER: u32 = 8;
/// States tried for each run in which the power is cut at its end.
const CRASHES: u32 = 3;
/// Runs of a plain test.
const RUNS_BY_DEFAULT: u64 = 400;
const THREADS: u64 = 2;

#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    operation: u64,
    fault: Fault,
    lasting: bool,
}

struct Failing {
    workload: Workload,
    shadow: Server,
    /// Groups that take no more.
    stopped: BTreeSet<u64>,
}

/// `FAULT_RUNS` asks for more runs, `FAULT_SEED` starts at another seed.
#[test]
fn whatever_operation_fails_acked_messages_stay_and_the_rest_goes_on() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
    };
    let (wanted, first_seed) = (number("FAULT_RUNS", RUNS_BY_DEFAULT), number("FAULT_SEED", 1));
    let (next, met, waited) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let kinds =
        [(Fault::Io, false), (Fault::Io, true), (Fault::OutOfSpace, false), (Fault::OutOfSpace, true)];
    let sites = sites(first_seed);
    let work = || loop {
        let run = next.fetch_add(1, Ordering::Relaxed);
        if run >= wanted {
            return;
        }
        let (fault, lasting) = kinds[usize::try_from(run % 4).unwrap()];
        // A plain run takes some of the sites, more runs take them all, then those of the next seed.
        let turn = run / 4;
        let (seed, operation) = if wanted / 4 < sites {
            (first_seed, turn * sites / (wanted / 4).max(1))
        } else {
            (first_seed + turn / sites, turn % sites)
        };
        let case = Case { seed, operation, fault, lasting };
        let (failed, has_waited) = try_case(case).unwrap_or_else(|reason| panic!("{case:?}: {reason}"));
        met.fetch_add(u64::from(failed), Ordering::Relaxed);
        waited.fetch_add(u64::from(has_waited), Ordering::Relaxed);
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let (met, waited) = (met.into_inner(), waited.into_inner());
    println!(
        "{wanted} runs over {sites} sites: {met} stopped something, {waited} waited for room; nothing acked was lost"
    );
    assert!(met > wanted / 4 && waited > wanted / 20, "{met} stopped something, {waited} waited");
}

/// How many operations there are that can fail.
fn sites(seed: u64) -> u64 {
    let mut run = Failing::start(seed).unwrap();
    run.disk().fail_at(u64::MAX, Fault::Io);
    (0..ROUNDS).for_each(|_| run.round().unwrap());
    run.disk().attempts()
}

/// Whether something stopped, and whether something waited for room.
fn try_case(case: Case) -> Result<(bool, bool), String> {
    let mut run = Failing::start(case.seed)?;
    if case.lasting {
        run.disk().fail_from(case.operation, case.fault);
    } else {
        run.disk().fail_at(case.operation, case.fault);
    }
    for _ in 0..ROUNDS {
        run.round()?;
    }
    run.serves()?;
    let waited = run.is_short();
    let mut has_stopped = !run.stopped.is_empty() || run.workload.server.journal.failure().is_some();
    run.disk().heal();
    if case.lasting && case.fault == Fault::OutOfSpace {
        if has_stopped {
            return Err(format!("a full disk stopped groups {:?}", run.stopped));
        }
        run.go_on_with_room()?;
        has_stopped = false;
    }
    run.starts_again(case)?;
    Ok((has_stopped, waited))
}

impl Failing {
    fn start(seed: u64) -> Result<Self, String> {
        let workload = Workload::begin(seed)?;
        let shadow = Server::start(&SimDisk::new())?;
        Ok(Self { workload, shadow, stopped: BTreeSet::new() })
    }

    fn disk(&self) -> &SimDisk {
        &self.workload.disk
    }

    /// The disk is full, as far as the server knows: clients are refused.
    fn is_short(&self) -> bool {
        let server = &self.workload.server;
        let store =
            |group: &u64| server.streams[group].state.lock().retry().is_ok_and(|short| short.is_some());
        server.journal.shortage().is_some() || server.streams.keys().any(store)
    }

    fn round(&mut self) -> Result<(), String> {
        if !self.is_short() {
            for _ in 0..=self.workload.rng.below(4) {
                self.submit_one()?;
            }
        }
        self.settle();
        let groups: Vec<u64> = self.workload.server.streams.keys().copied().collect();
        match self.workload.rng.below(16) {
            0..5 if !groups.is_empty() => {
                let group = groups[self.workload.below(groups.len())];
                self.checkpoint(group);
            }
            // Tried again later, whatever became of it.
            5 => drop(self.workload.server.checkpoint(META_GROUP)),
            6 => drop(self.workload.server.journal.pump()),
            7 => drop(self.workload.server.empty_trash(weir_stdx::time::UnixNanos(self.workload.now))),
            _ => {}
        }
        Ok(())
    }

    fn submit_one(&mut self) -> Result<(), String> {
        let workload = &mut self.workload;
        let streams = workload.server.streams.keys().copied();
        let groups: Vec<u64> = streams.filter(|group| !self.stopped.contains(group)).collect();
        let (group, command) = if groups.is_empty() || workload.rng.chance(1, 30) {
            if self.stopped.contains(&META_GROUP) {
                return Ok(());
            }
            (META_GROUP, workload.meta_command().encode())
        } else if workload.rng.chance(1, 12) {
            workload.vote();
            return Ok(());
        } else {
            let group = groups[workload.below(groups.len())];
            (group, workload.stream_command(group).encode())
        };
        workload.submit(group, command);
        let Some((group, index, payload)) = workload.flying.last().cloned() else { return Ok(()) };
        if group != META_GROUP && !self.shadow.streams.contains_key(&group) {
            return Ok(());
        }
        // What the server would be with this entry.
        let entry = JournalEntry { index, term: 0, payload: payload.clone() };
        self.shadow.journal.append(GroupId(group), vec![entry], Box::new(|_| {}));
        self.shadow.pump();
        self.shadow.apply(group, index, payload)?;
        if group == META_GROUP {
            self.shadow.reconcile()?;
        }
        let history = &mut self.workload.history;
        let new = self.shadow.streams.keys().copied().filter(|group| !history.contains_key(group));
        for group in new.chain([group]).collect::<Vec<_>>() {
            let (index, observed) = (self.shadow.applied(group), Observed::of(&self.shadow, group)?);
            history.entry(group).or_default().insert(index, observed);
        }
        Ok(())
    }

    /// Applies what has become durable, as a server does.
    fn settle(&mut self) {
        self.workload.server.pump();
        let mut held = Vec::new();
        for (group, index, payload) in std::mem::take(&mut self.workload.flying) {
            if self.workload.promised(group, u64::MAX) < index {
                held.push((group, index, payload));
                continue;
            }
            let server = &mut self.workload.server;
            let is_here = group == META_GROUP || server.streams.contains_key(&group);
            if !is_here || self.stopped.contains(&group) {
                continue;
            }
            if server.apply(group, index, payload).is_err() {
                self.stopped.insert(group);
            } else if group == META_GROUP {
                // A stream that cannot be opened is offline, and tried again with the next change.
                drop(server.reconcile());
            }
        }
        if self.workload.server.journal.failure().is_none() {
            self.workload.flying = held;
        } else {
            self.stopped.extend(self.workload.server.streams.keys());
            self.stopped.insert(META_GROUP);
        }
    }

    fn checkpoint(&mut self, group: u64) {
        let server = &self.workload.server;
        if self.stopped.contains(&group) {
            return;
        }
        let result = server.streams[&group].state.lock().checkpoint();
        match result {
            Ok(index) => server.journal.purge_to(GroupId(group), index, Box::new(|_| {})),
            Err(error) if error.is_retryable() => {}
            Err(_) => drop(self.stopped.insert(group)),
        }
    }

    /// Everything applied is served, also by what has stopped.
    fn serves(&self) -> Result<(), String> {
        let server = &self.workload.server;
        for group in server.streams.keys() {
            server.messages(*group).map_err(|reason| format!("group {group} is not served: {reason}"))?;
            if !self.stopped.contains(group) {
                self.workload.same(server, *group)?;
            }
        }
        Ok(())
    }

    fn go_on_with_room(&mut self) -> Result<(), String> {
        self.settle();
        self.workload.server.reconcile()?;
        for _ in 0..ROUNDS_AFTER {
            self.round()?;
        }
        self.settle();
        if self.is_short() || !self.stopped.is_empty() || !self.workload.flying.is_empty() {
            return Err(format!("there is room again, but {:?} stopped", self.stopped));
        }
        let groups: Vec<u64> = self.workload.server.streams.keys().copied().collect();
        groups.into_iter().try_for_each(|group| self.workload.server.checkpoint(group))?;
        self.serves()
    }

    /// After a stop and after a power cut: a failed sync may have lost anything it was to make durable.
    fn starts_again(&self, case: Case) -> Result<(), String> {
        let disk = self.disk().fork();
        let server = Server::start(&disk).map_err(|reason| format!("refused after a stop: {reason}"))?;
        self.workload.check(&server, u64::MAX).map_err(|reason| format!("after a stop: {reason}"))?;
        let mut explorer = CrashExplorer::new(self.disk().record());
        while explorer.step() {}
        let mut rng = SeededRng::new(case.seed ^ case.operation << 8);
        for _ in 0..CRASHES {
            let server = Server::start(&explorer.crash(&mut rng))
                .map_err(|reason| format!("refused after a power cut: {reason}"))?;
            self.workload
                .check(&server, u64::MAX)
                .map_err(|reason| format!("after a power cut: {reason}"))?;
        }
        Ok(())
    }
}
