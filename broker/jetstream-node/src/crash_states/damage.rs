//! One damaged file at a time, of every kind: a flipped bit, a cut, two blocks swapped. The server starts, says what
//! it cannot read, serves the rest, and nothing it serves is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use weir_jetstream::meta::META_GROUP;
use weir_jetstream::{Lookup, Store};
use weir_stdx::rng::SeededRng;
use weir_storage::disk::sim::SimDisk;

use super::server::Server;
use super::workload::Workload;

const CASES: u64 = 1_000;
const CASES_PER_SEED: u64 = 100;
const BLOCK_BYTES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Bit,
    Cut,
    Swap,
}

/// `CORRUPTION_SEED` starts at another seed, and repeats a failure.
#[test]
fn damage_to_any_file_is_noticed_and_nothing_wrong_is_served() {
    let first = std::env::var("CORRUPTION_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut met = BTreeMap::new();
    let mut noticed = 0;
    for seed in first..first + CASES / CASES_PER_SEED {
        let workload = Workload::run(seed, 70).unwrap();
        let disk = workload.stop();
        assert_eq!(judge(&workload, &disk, &disk.fork()), Ok(false), "seed {seed}, without damage");
        let mut rng = SeededRng::new(seed ^ 0xDA_3A6E);
        for number in 0..CASES_PER_SEED {
            let (path, kind, at, damaged) = damage(&disk, &mut rng);
            *met.entry((kind_of(&path), kind)).or_insert(0_u64) += 1;
            match judge(&workload, &disk, &damaged) {
                Ok(reported) => noticed += u64::from(reported),
                Err(reason) => panic!(
                    "CORRUPTION_SEED={seed} case {number}, {kind:?} at {at} of {}: {reason}",
                    path.display()
                ),
            }
        }
    }
    println!("{CASES} cases, {noticed} of them touched what is live: {met:?}");
    for kind in
        ["journal", "segment", "checkpoint", "index", "subjects", "memory", "meta", "identity", "mode"]
    {
        assert!(met.keys().any(|(met, _)| met == kind), "no {kind} was damaged: {met:?}");
    }
    assert!(noticed > CASES / 20, "only {noticed} cases mattered");
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
