//! Measures group commit: appends of one small entry with a fixed number in flight.
//! `cargo run --release -p weir-storage --example journal_bench [directory] [seconds] [payload bytes]`

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_storage::{GroupId, Journal, JournalEntry, JournalOptions, SyncPolicy};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join("journal_bench");
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5);
    let payload_bytes = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(128);
    println!("{} entries of {payload_bytes} B, {seconds} s each", directory.display());
    for sync in [SyncPolicy::Always, SyncPolicy::Never] {
        for in_flight in [1, 64, 500] {
            let _ = std::fs::remove_dir_all(&directory);
            let options = JournalOptions { sync, ..JournalOptions::default() };
            let started = Instant::now();
            let (journal, _) = match Journal::open(&directory, options) {
                Ok(opened) => opened,
                Err(error) => return eprintln!("{error}"),
            };
            let opened = started.elapsed();
            // The first pass writes fresh files, the second recycled ones.
            measure(&journal, in_flight, Duration::from_secs(1), payload_bytes);
            let before = journal.stats();
            let (count, elapsed, mut latencies) =
                measure(&journal, in_flight, Duration::from_secs(seconds), payload_bytes);
            let after = journal.stats();
            latencies.sort_unstable();
            let at =
                |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or_default();
            println!(
                "{sync:?} in flight {in_flight:4}: {:8.0}/s  p50 {:8.3?} p99 {:8.3?}  {} fsyncs, {:.1} entries a batch, open {opened:.1?}",
                f64::from(count) / elapsed.as_secs_f64(),
                at(50),
                at(99),
                after.fsyncs - before.fsyncs,
                f64::from(count) / (after.batches - before.batches).max(1) as f64,
            );
        }
    }
    let _ = std::fs::remove_dir_all(&directory);
}

fn measure(
    journal: &Journal,
    in_flight: u32,
    duration: Duration,
    payload_bytes: usize,
) -> (u32, Duration, Vec<Duration>) {
    let group = GroupId(1);
    let (sender, receiver) = mpsc::channel();
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let failed = Arc::new(AtomicBool::new(false));
    let payload = Bytes::from(vec![7; payload_bytes]);
    let mut next = journal.log_range(group).last + 1;
    let started = Instant::now();
    let (mut outstanding, mut count) = (0, 0);
    while started.elapsed() < duration || outstanding > 0 {
        while outstanding < in_flight && started.elapsed() < duration {
            let (sender, latencies, failed) = (sender.clone(), Arc::clone(&latencies), Arc::clone(&failed));
            let submitted = Instant::now();
            let done = Box::new(move |result: Result<(), _>| {
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                if let Ok(mut latencies) = latencies.lock() {
                    latencies.push(submitted.elapsed());
                }
                let _ = sender.send(());
            });
            journal.append(
                group,
                vec![JournalEntry { index: next, term: 1, payload: payload.clone() }],
                done,
            );
            next += 1;
            outstanding += 1;
            if next.is_multiple_of(10_000) {
                journal.purge_to(group, next - 5_000, Box::new(|_| {}));
            }
        }
        if receiver.recv().is_err() || failed.load(Ordering::Relaxed) {
            break;
        }
        outstanding -= 1;
        count += 1;
    }
    let latencies = latencies.lock().map(|latencies| latencies.clone()).unwrap_or_default();
    (count, started.elapsed(), latencies)
}
