//! Reads everything a stream has on disk, again and again, so that damage is known before somebody asks for what it
//! hit. Small files are made anew from their twins; of the rest it repairs nothing, what cannot be read stays as it is.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_jetstream::{Lookup, Store};

use super::replica::StreamReplica;

/// Before the first round: the start has other things to read.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// After each file the disk rests for this many times what reading it took.
const REST: u32 = 4;
/// Ranges that are named in one line.
const NAMED_MAX: usize = 20;

/// Runs until the replica is closed.
pub(crate) async fn run(replica: Arc<StreamReplica>) {
    // What a new stream gets is as good as its disk for a while.
    let is_new = replica.replicated.lock().machine().state().messages == 0;
    tokio::time::sleep(if is_new { INTERVAL } else { FIRST_DELAY }).await;
    loop {
        small_files(&replica).await;
        if let Some(damaged) = round(&replica).await {
            replica.set_unreadable(ranges(&damaged));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Both copies of every small file: the one that is damaged must not wait for the other to be.
async fn small_files(replica: &Arc<StreamReplica>) {
    let replica = Arc::clone(replica);
    let healed = tokio::task::spawn_blocking(move || {
        let listed = || replica.replicated.lock().machine().store().small_files();
        let findings =
            listed().map(|files| files.heal(&|path| listed().is_some_and(|now| now.contains(path))));
        for finding in findings.into_iter().flatten() {
            tracing::error!(
                "Stream {}: {}: {}",
                replica.assignment().name(),
                finding.path.display(),
                finding.reason
            );
        }
    });
    if let Err(error) = healed.await {
        tracing::error!("Checking small files: {error}");
    }
}

/// The sequences that cannot be read; nothing when the round could not be finished.
async fn round(replica: &Arc<StreamReplica>) -> Option<Vec<u64>> {
    let mut damaged = Vec::new();
    let mut from = 1;
    loop {
        let began = Instant::now();
        let replica_then = Arc::clone(replica);
        let checked = tokio::task::spawn_blocking(move || {
            let part = replica_then.replicated.lock().machine().store().part(from)?;
            let last = part.last();
            Some(part.damaged().map(|found| (last, still_damaged(&replica_then, found))))
        });
        match checked.await.ok()? {
            None => return Some(damaged),
            Some(Ok((last, found))) => {
                damaged.extend(found);
                from = last.max(from).checked_add(1)?;
            }
            Some(Err(error)) => {
                tracing::error!("Stream {}: checking its files: {error}", replica.assignment().name());
                return None;
            }
        }
        tokio::time::sleep(began.elapsed() * REST).await;
    }
}

/// A message may have been removed, and its bytes erased, while they were read.
fn still_damaged(replica: &StreamReplica, found: Vec<u64>) -> Vec<u64> {
    if found.is_empty() {
        return found;
    }
    let state = replica.replicated.lock();
    let store = state.machine().store();
    found.into_iter().filter(|seq| matches!(store.get(*seq), Ok(Lookup::Unreadable))).collect()
}

fn ranges(sequences: &[u64]) -> Vec<RangeInclusive<u64>> {
    let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
    for &seq in sequences {
        match ranges.last_mut() {
            Some(range) if *range.end() + 1 == seq => *range = *range.start()..=seq,
            _ => ranges.push(seq..=seq),
        }
    }
    ranges
}

/// For people: `5, 7 to 9`.
pub(crate) fn name(ranges: &[RangeInclusive<u64>]) -> String {
    let mut names: Vec<String> = ranges
        .iter()
        .take(NAMED_MAX)
        .map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first} to {last}"),
        })
        .collect();
    if ranges.len() > NAMED_MAX {
        names.push(format!("and {} more ranges", ranges.len() - NAMED_MAX));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_named_as_ranges() {
        assert_eq!(name(&ranges(&[5, 7, 8, 9])), "5, 7 to 9");
    }
}
