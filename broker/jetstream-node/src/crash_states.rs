//! Power cuts and damage under the whole stack that keeps streams: journal, meta state, stream machines, stores,
//! trash, opened as the server opens them, on a disk in memory that records every operation. A seeded workload runs
//! once; then the server starts again on every state that a crash could have left at any point of the record.
//! Not here: clients, Raft and the network.

mod coverage;
mod damage;
mod explore;
mod server;
mod workload;

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use coverage::Coverage;

/// States that a plain test run tries.
const STATES_BY_DEFAULT: u64 = 10_000;
const THREADS: u64 = 2;

/// `CRASH_STATES` asks for more states; `CRASH_SEED` starts at another seed, and repeats a failure.
#[test]
fn no_crash_loses_acked_messages_or_invents_or_reorders_any() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
    };
    let (wanted, first_seed) = (number("CRASH_STATES", STATES_BY_DEFAULT), number("CRASH_SEED", 1));
    let (next_seed, states) = (AtomicU64::new(first_seed), AtomicU64::new(0));
    let coverage = Mutex::new(Coverage::default());
    let work = || {
        while states.load(Ordering::Relaxed) < wanted {
            let seed = next_seed.fetch_add(1, Ordering::Relaxed);
            let (tried, covered) = explore::explore(seed)
                .unwrap_or_else(|reason| panic!("CRASH_SEED={seed} repeats this: {reason}"));
            *coverage.lock() += covered;
            let total = states.fetch_add(tried, Ordering::Relaxed) + tried;
            if wanted > STATES_BY_DEFAULT {
                println!("seed {seed}: {tried} states, {total} of {wanted}");
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let (states, seeds) = (states.into_inner(), next_seed.into_inner() - first_seed);
    println!("{states} crash states of {seeds} seeds from {first_seed}: nothing lost, invented or refused");
    assert!(states >= wanted, "only {states} states were tried");
    let (coverage, rewritten) = (coverage.into_inner(), weir_storage::probe::segments_rewritten());
    println!("{coverage:?}, segments rewritten: {rewritten}");
    let missing = coverage.missing();
    assert!(
        missing.is_empty() && rewritten > 0,
        "the workloads never came to: {missing:?}, {rewritten} segments rewritten"
    );
}
