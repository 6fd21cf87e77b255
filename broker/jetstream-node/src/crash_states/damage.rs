//! One damaged file at a time, of every kind: a flipped bit, a cut, two blocks swapped. The server starts, says what
//! it cannot read, serves the rest, and nothing it serves is wrong; the offline check sees at least as much, and after
//! a repair it sees nothing any more, nothing is lost that could be read, and the server serves it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use weir_jetstream::meta::META_GROUP;
use weir_jetstream::{Lookup, Store};
use weir_stdx::rng::SeededRng;
use weir_storage::disk::Disk;
use weir_storage::disk::sim::SimDisk;

use super::server::{Server, encryption_of, root, store_options};
use super::workload::Workload;
use crate::offline::{self, RepairMode};

const CASES: u64 = 1_000;
const CASES_PER_SEED: u64 = 100;
const BLOCK_BYTES: usize = 4096;
const THREADS: usize = 2;
/// One case of so many is repaired as well.
const REPAIRED_OF: u64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Bit,
    Cut,
    Swap,
}

/// What a run met.
#[derive(Default)]
struct Tally {
    met: BTreeMap<(String, Kind), u64>,
    noticed: u64,
    repaired: u64,
    /// Repairs that left something.
    left: u64,
}

/// `CORRUPTION_SEED` starts at another seed, and repeats a failure; `CORRUPTION_CASES` asks for more cases.
#[test]
fn damage_to_any_file_is_noticed_and_nothing_wrong_is_served() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
    };
    let (first, cases) = (number("CORRUPTION_SEED", 1), number("CORRUPTION_CASES", CASES));
    let (next, tally) = (AtomicU64::new(first), Mutex::new(Tally::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + cases / CASES_PER_SEED {
                return;
            }
            run(seed, &tally);
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let Tally { met, noticed, repaired, left } = tally.into_inner();
    println!(
        "{cases} cases, {noticed} of them touched what is live, {repaired} repaired, {left} not wholly: {met:?}"
    );
    for kind in
        ["journal", "segment", "checkpoint", "index", "subjects", "memory", "meta", "identity", "mode"]
    {
        assert!(met.keys().any(|(met, _)| met == kind), "no {kind} was damaged: {met:?}");
    }
    assert!(noticed > cases / 20, "only {noticed} cases mattered");
    assert!(left * 20 < repaired, "{left} of {repaired} stores were not wholly repaired");
}

/// The cases of one seed.
fn run(seed: u64, tally: &Mutex<Tally>) {
    let workload = Workload::run(seed, 70).unwrap();
    let disk = workload.stop();
    assert_eq!(judge(&workload, &disk, &disk.fork()), Ok(false), "seed {seed}, without damage");
    let sound = check(&disk).unwrap();
    assert!(!sound.is_damaged() && !sound.is_refused(), "seed {seed}, without damage: {sound}");
    let mut rng = SeededRng::new(seed ^ 0xDA_3A6E);
    for number in 0..CASES_PER_SEED {
        let (path, kind, at, damaged) = damage(&disk, &mut rng);
        let judged = judge(&workload, &disk, &damaged.fork())
            .and_then(|reported| look(&damaged, reported).map(|()| reported));
        let is_repaired = number % REPAIRED_OF == 0;
        let mended = match judged {
            Ok(reported) if is_repaired => mend(&workload, &damaged).map(|whole| (reported, whole)),
            judged => judged.map(|reported| (reported, true)),
        };
        let (reported, whole) = mended.unwrap_or_else(|reason| {
            let path = path.display();
            panic!("CORRUPTION_SEED={seed} case {number}, {kind:?} at {at} of {path}: {reason}")
        });
        let mut tally = tally.lock();
        *tally.met.entry((kind_of(&path), kind)).or_insert(0) += 1;
        tally.noticed += u64::from(reported);
        tally.repaired += u64::from(is_repaired);
        tally.left += u64::from(!whole);
    }
}

/// A kind of file first, then one of that kind: there are few of some.
fn damage(disk: &SimDisk, rng: &mut SeededRng) -> (PathBuf, Kind, usize, SimDisk) {
    let damaged = disk.fork();
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in disk.paths() {
        if !path.starts_with("/store/trash") && disk.content(&path).is_some_and(|bytes| !bytes.is_empty()) {
            kinds.entry(kind_of(&path)).or_default().push(path);
        }
    }
    let pick = |rng: &mut SeededRng, count: usize| usize::try_from(rng.below(count as u64)).unwrap();
    let paths = kinds.values().nth(pick(rng, kinds.len())).unwrap();
    let path = paths[pick(rng, paths.len())].clone();
    let mut content = disk.content(&path).unwrap();
    let at = pick(rng, content.len());
    let kind = [Kind::Bit, Kind::Cut, Kind::Swap][pick(rng, 3)];
    match kind {
        Kind::Bit => {
            content[at] ^= 1 << pick(rng, 8);
        }
        Kind::Cut => content.truncate(at),
        Kind::Swap if content.len() >= 2 * BLOCK_BYTES => {
            let other = pick(rng, content.len() / BLOCK_BYTES);
            swap(&mut content, at / BLOCK_BYTES, other);
        }
        Kind::Swap => {
            // A file of one block gets another file's.
            let all = disk.paths();
            let from = disk.content(&all[pick(rng, all.len())]).unwrap();
            let count = from.len().min(content.len());
            content[..count].copy_from_slice(&from[..count]);
        }
    }
    damaged.set_content(&path, content);
    (path, kind, at, damaged)
}

fn swap(content: &mut [u8], one: usize, other: usize) {
    let blocks = content.len() / BLOCK_BYTES;
    let (low, high) = (one.min(other).min(blocks - 1), one.max(other).min(blocks - 1));
    if low < high {
        let (head, tail) = content.split_at_mut(high * BLOCK_BYTES);
        head[low * BLOCK_BYTES..(low + 1) * BLOCK_BYTES].swap_with_slice(&mut tail[..BLOCK_BYTES]);
    }
}

fn kind_of(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap().trim_end_matches("-copy");
    if path.starts_with("/store/meta") {
        return "meta".to_owned();
    }
    name.rsplit('.').next().unwrap().to_owned()
}

/// Starts on the damaged disk; true when something was reported.
fn judge(workload: &Workload, good: &SimDisk, damaged: &SimDisk) -> Result<bool, String> {
    let expected = Server::start(good)?;
    let server = Server::start(damaged).map_err(|reason| format!("refused: {reason}"))?;
    let mut reported = false;
    for group in std::iter::once(META_GROUP).chain(expected.streams.keys().copied()) {
        let (applied, whole) = (server.applied(group), expected.applied(group));
        let stopped = server.failure(group);
        if group != META_GROUP && !server.streams.contains_key(&group) {
            // The meta state stopped before the stream's creation: its files are still there.
            if server.failure(META_GROUP).is_none() {
                return Err(format!("stream of group {group} is gone, and nothing was said"));
            }
            reported = true;
            continue;
        }
        if stopped.is_none() && applied != whole {
            return Err(format!(
                "group {group} ends at {applied} instead of {whole}, and nothing was said: {:?}",
                server.recovery
            ));
        }
        reported |= stopped.is_some();
        if group == META_GROUP {
            workload.same(&server, group)?;
        } else {
            reported |= same_but_unreadable(workload, &server, group)?;
        }
    }
    Ok(reported)
}

fn check(disk: &SimDisk) -> Result<offline::CheckReport, String> {
    let encryption = encryption_of(disk);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    offline::check(&disk, root(), &store_options(), encryption.as_ref()).map_err(|error| error.to_string())
}

/// Checks the damaged store; what the server reports the check must find, and it changes nothing.
fn look(damaged: &SimDisk, reported: bool) -> Result<(), String> {
    let before = contents(damaged);
    let report = check(damaged)?;
    if contents(damaged) != before {
        return Err("the check changed the store".to_owned());
    }
    if reported && !report.is_damaged() {
        return Err(format!("the check finds nothing: {report}"));
    }
    Ok(())
}

fn contents(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.paths().into_iter().filter_map(|path| Some((path.clone(), disk.content(&path)?))).collect()
}

/// Repairs the store; afterwards all that could be read is there, and nothing else.
fn mend(workload: &Workload, damaged: &SimDisk) -> Result<bool, String> {
    let before = Server::start(&damaged.fork())?;
    let encryption = encryption_of(damaged);
    let disk: Arc<dyn Disk> = Arc::new(damaged.clone());
    let tried = offline::repair(&disk, root(), &store_options(), encryption.as_ref(), RepairMode::Try)
        .map_err(|error| error.to_string())?;
    let report = offline::repair(&disk, root(), &store_options(), encryption.as_ref(), RepairMode::Change)
        .map_err(|error| error.to_string())?;
    if (tried.is_sound(), &tried.done.len()) != (report.is_sound(), &report.done.len()) {
        return Err(format!("tried: {tried}\ndone: {report}"));
    }
    if !report.is_sound() && report.left.is_empty() {
        return Err(format!("not repaired, and no reason given: {report}\n\n{}", report.before));
    }
    let after = Server::start(damaged).map_err(|reason| format!("refused after the repair: {reason}"))?;
    for (group, stream) in &before.streams {
        if !after.streams.contains_key(group) {
            return Err(format!("stream of group {group} is gone after the repair: {report}"));
        }
        let (had, has) = (before.messages(*group)?, after.messages(*group)?);
        // What lies behind the end of a damaged log may have removed messages that were still there before it.
        let stopped = before.failure(*group).is_some();
        if let Some(seq) = had.keys().find(|seq| !has.contains_key(*seq)).filter(|_| !stopped) {
            return Err(format!(
                "{}: message {seq} is gone after the repair: {report}",
                stream.assignment.name()
            ));
        }
        workload.never_wrong(*group, &has)?;
        if report.is_sound() && after.failure(*group).is_some() {
            return Err(format!(
                "group {group} stops after the repair: {:?}\n{report}",
                after.failure(*group)
            ));
        }
    }
    Ok(report.is_sound())
}

/// Compares a stream with what it was at the same entry; messages may be unreadable, if a check names them.
fn same_but_unreadable(workload: &Workload, server: &Server, group: u64) -> Result<bool, String> {
    let state = server.streams[&group].state.lock();
    let store = state.machine().store();
    let mut named = Vec::new();
    let mut from = 1;
    while let Some(part) = store.part(from) {
        named.extend(part.damaged().map_err(|error| error.to_string())?);
        from = part.last().max(from) + 1;
    }
    let counters = store.state();
    let mut unreadable = Vec::new();
    for seq in counters.first_seq..=counters.last_seq {
        match store.get(seq).map_err(|error| error.to_string())? {
            Lookup::Unreadable if named.contains(&seq) => unreadable.push(seq),
            Lookup::Unreadable => return Err(format!("message {seq} is unreadable, which no check finds")),
            Lookup::Found(_) | Lookup::Missing => {}
        }
    }
    drop(state);
    if unreadable.is_empty() && !half_applied(server, group) {
        workload.same(server, group).map(|()| !named.is_empty())
    } else {
        workload.same_messages(server, group, &unreadable)?;
        Ok(true)
    }
}

/// Whether the stream stopped within an entry, which needed a message that cannot be read.
fn half_applied(server: &Server, group: u64) -> bool {
    server.failure(group).is_some_and(|reason| reason.contains("applying log entry"))
}
