//! Power cuts at every operation.

use weir_stdx::rng::SeededRng;

use super::model::{Workload, open};
use crate::disk::sim::CrashExplorer;

/// Runs a workload and reopens the journal from crash states all along its record.
fn explore(seed: u64, batches: u32, states_per_step: u32) -> u32 {
    let mut workload = Workload::new(seed);
    for _ in 0..batches {
        workload.batch();
    }
    let mut explorer = CrashExplorer::new(workload.disk.record());
    let mut rng = SeededRng::new(seed ^ 0xC0FFEE);
    let mut states = 0;
    let mut step = 0;
    while explorer.step() {
        step += 1;
        for _ in 0..states_per_step {
            let disk = explorer.crash(&mut rng);
            let (journal, recovery) =
                open(&disk).unwrap_or_else(|error| panic!("seed {seed} step {step}: refused: {error}"));
            assert!(recovery.damages.is_empty(), "seed {seed} step {step}: {:?}", recovery.damages);
            if let Err(reason) = workload.check(&journal, explorer.last_mark()) {
                panic!("seed {seed} step {step} mark {}: {reason}", explorer.last_mark());
            }
            states += 1;
        }
    }
    states
}

#[test]
pub(super) fn no_crash_loses_what_was_acknowledged_or_invents_anything() {
    let mut states = 0;
    for seed in 0..12 {
        states += explore(seed, 80, 1);
    }
    assert!(states > 3_000, "only {states} states were tried");
}

/// After a crash the journal goes on, crashes again, and so on: bytes left by torn writes of one life must
/// not come back in a later one.
#[test]
pub(super) fn crashes_in_a_row_lose_nothing() {
    for seed in 0..100 {
        let mut rng = SeededRng::new(seed);
        let mut workload = Workload::new(seed);
        for life in 0..6 {
            for _ in 0..rng.below(25) {
                workload.batch();
            }
            let mut explorer = CrashExplorer::new(workload.disk.record());
            let steps = workload.disk.record().len() as u64;
            let own_steps = steps - workload.disk.baseline() as u64;
            let stop = steps - rng.below(own_steps.min(12) + 1);
            for _ in 0..stop {
                explorer.step();
            }
            let mark = explorer.last_mark();
            let disk = explorer.crash(&mut rng);
            workload = workload
                .restart(&disk, mark)
                .unwrap_or_else(|reason| panic!("seed {seed} life {life}: {reason}"));
        }
    }
}
