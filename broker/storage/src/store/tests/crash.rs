//! Power cuts at every operation of a file store whose owner keeps a log of all changes.

use weir_stdx::rng::SeededRng;

use super::model::{Change, Model, apply, check, open, random_change};
use crate::MessageStore;
use crate::disk::sim::{CrashExplorer, SimDisk};

struct Run {
    disk: SimDisk,
    changes: Vec<Change>,
}

/// Makes changes and checkpoints; every checkpoint that returned is marked with the changes it covers.
fn run(seed: u64, changes: usize) -> Run {
    let mut rng = SeededRng::new(seed);
    let disk = SimDisk::recording();
    let (mut store, _) = open(&disk, None).unwrap();
    let (mut model, mut log) = (Model::default(), Vec::new());
    for _ in 0..changes {
        let change = random_change(&model, &mut rng);
        model.apply(&change);
        apply(&mut store, &change).unwrap();
        log.push(change);
        if rng.chance(1, 30) {
            store.checkpoint(log.len() as u64, b"extra").unwrap();
            disk.mark(log.len() as u64);
        }
    }
    Run { disk, changes: log }
}

#[test]
pub(super) fn a_crash_leaves_a_checkpoint_from_which_the_log_rebuilds_everything() {
    let mut states = 0;
    for seed in 0..5 {
        let Run { disk, changes } = run(seed, 220);
        let mut explorer = CrashExplorer::new(disk.record());
        let mut rng = SeededRng::new(seed ^ 0xBEEF);
        let mut step = 0;
        while explorer.step() {
            step += 1;
            let crashed = explorer.crash(&mut rng);
            let (mut store, opened) =
                open(&crashed, None).unwrap_or_else(|e| panic!("seed {seed} step {step}: refused: {e}"));
            let applied = usize::try_from(opened.applied_index).unwrap();
            assert!(opened.applied_index >= explorer.last_mark(), "seed {seed} step {step}: went back");
            assert!(opened.report.fell_back.is_none() && opened.report.damaged_segments.is_empty());
            let mut model = Model::default();
            changes[..applied].iter().for_each(|change| {
                model.apply(change);
            });
            assert_eq!(store.state().messages, model.messages.len() as u64, "seed {seed} step {step}");
            // The log goes on behind the checkpoint, then comes the next one.
            let replayed = (applied + 40).min(changes.len());
            for change in &changes[applied..replayed] {
                model.apply(change);
                apply(&mut store, change).unwrap();
            }
            store.checkpoint(replayed as u64, b"").unwrap();
            check(&store, &model, &mut rng)
                .unwrap_or_else(|e| panic!("seed {seed} step {step} replayed: {e}"));
            drop(store);
            let (store, _) = open(&crashed, None).unwrap();
            check(&store, &model, &mut rng)
                .unwrap_or_else(|e| panic!("seed {seed} step {step} reopened: {e}"));
            states += 1;
        }
    }
    assert!(states > 400, "only {states} states were tried");
}
