//! Random operations: every store answers as the model does.

use weir_stdx::rng::SeededRng;

use super::model::{Model, apply, check, open, random_change};
use crate::disk::sim::SimDisk;
use crate::{MemoryStore, MessageStore};

#[test]
fn the_memory_store_answers_like_the_model() {
    for seed in 0..40 {
        let mut rng = SeededRng::new(seed);
        let (mut store, mut model) = (MemoryStore::new(), Model::default());
        for step in 0..300 {
            let change = random_change(&model, &mut rng);
            assert_eq!(apply(&mut store, &change).unwrap(), model.apply(&change), "seed {seed} {change:?}");
            if step % 15 == 0 {
                check(&store, &model, &mut rng).unwrap_or_else(|e| panic!("seed {seed} step {step}: {e}"));
            }
        }
    }
}

#[test]
pub(super) fn the_file_store_answers_like_the_model_across_checkpoints_and_reopening() {
    for seed in 0..25 {
        let mut rng = SeededRng::new(seed);
        let disk = SimDisk::new();
        let (mut store, opened) = open(&disk, None).unwrap();
        assert!(opened.report.created);
        let mut model = Model::default();
        let (mut saved, mut unsaved) = (model.clone(), Vec::new());
        for step in 0..500 {
            let change = random_change(&model, &mut rng);
            assert_eq!(apply(&mut store, &change).unwrap(), model.apply(&change), "seed {seed} {change:?}");
            unsaved.push(change);
            if rng.chance(1, 60) {
                store.checkpoint(step, format!("extra {step}").as_bytes()).unwrap();
                saved = model.clone();
                unsaved.clear();
            }
            if rng.chance(1, 60) {
                let (reopened, opened) = open(&disk, None).unwrap();
                store = reopened;
                assert_eq!(opened.report.damaged_segments.len(), 0);
                check(&store, &saved, &mut rng).unwrap_or_else(|e| panic!("seed {seed} reopened: {e}"));
                // The owner replays what came after the checkpoint.
                for change in &unsaved {
                    apply(&mut store, change).unwrap();
                }
            }
            if step % 15 == 0 {
                check(&store, &model, &mut rng).unwrap_or_else(|e| panic!("seed {seed} step {step}: {e}"));
            }
        }
    }
}

#[test]
pub(super) fn snapshots_carry_the_content_between_all_kinds_of_stores() {
    for seed in 0..20 {
        let mut rng = SeededRng::new(seed);
        let (disk, other_disk) = (SimDisk::new(), SimDisk::new());
        let (mut file, _) = open(&disk, None).unwrap();
        let (mut other_file, _) = open(&other_disk, None).unwrap();
        let (mut memory, mut model) = (MemoryStore::new(), Model::default());
        for _ in 0..200 {
            let change = random_change(&model, &mut rng);
            model.apply(&change);
            apply(&mut file, &change).unwrap();
        }
        // Something that has to go.
        for _ in 0..50 {
            let change = random_change(&Model::default(), &mut rng);
            let _ = apply(&mut other_file, &change);
        }
        let mut bytes = Vec::new();
        file.snapshot_write(&mut bytes).unwrap();
        memory.snapshot_install(&mut &bytes[..]).unwrap();
        check(&memory, &model, &mut rng).unwrap();
        let mut from_memory = Vec::new();
        memory.snapshot_write(&mut from_memory).unwrap();
        other_file.snapshot_install(&mut &from_memory[..]).unwrap();
        check(&other_file, &model, &mut rng).unwrap();
        other_file.checkpoint(7, b"x").unwrap();
        drop(other_file);
        let (reopened, opened) = open(&other_disk, None).unwrap();
        assert_eq!((opened.applied_index, &opened.extra[..]), (7, b"x".as_slice()));
        check(&reopened, &model, &mut rng).unwrap();
    }
}

#[test]
pub(super) fn a_snapshot_shows_the_moment_it_was_taken() {
    let mut rng = SeededRng::new(3);
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk, None).unwrap();
    let mut model = Model::default();
    for _ in 0..150 {
        let change = random_change(&model, &mut rng);
        model.apply(&change);
        apply(&mut store, &change).unwrap();
    }
    let snapshot = store.snapshot().unwrap();
    let mut later = model.clone();
    for _ in 0..150 {
        let change = match random_change(&later, &mut rng) {
            super::model::Change::Remove(seq, _) => super::model::Change::Remove(seq, false),
            change => change,
        };
        later.apply(&change);
        apply(&mut store, &change).unwrap();
    }
    store.checkpoint(1, b"").unwrap();
    store.checkpoint(2, b"").unwrap();
    let mut bytes = Vec::new();
    snapshot.write_to(&mut bytes).unwrap();
    let mut memory = MemoryStore::new();
    memory.snapshot_install(&mut &bytes[..]).unwrap();
    check(&memory, &model, &mut rng).unwrap();
}

#[test]
fn every_damaged_or_cut_snapshot_is_refused_and_changes_nothing() {
    let mut rng = SeededRng::new(3);
    let (mut source, mut model) = (MemoryStore::new(), Model::default());
    for _ in 0..12 {
        let change = random_change(&model, &mut rng);
        model.apply(&change);
        apply(&mut source, &change).unwrap();
    }
    let mut bytes = Vec::new();
    source.snapshot_write(&mut bytes).unwrap();
    let mut target = MemoryStore::new();
    for length in 0..bytes.len() {
        assert!(target.snapshot_install(&mut &bytes[..length]).is_err());
    }
    for position in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << rng.below(8);
        assert!(target.snapshot_install(&mut &flipped[..]).is_err(), "byte {position}");
    }
    assert_eq!(target.state(), MemoryStore::new().state());
}

#[test]
fn removed_messages_give_their_space_back() {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk, None).unwrap();
    let mut rng = SeededRng::new(1);
    let mut model = Model::default();
    while model.messages.len() < 1500 {
        let change = random_change(&model, &mut rng);
        if matches!(change, super::model::Change::Append(_)) {
            model.apply(&change);
            apply(&mut store, &change).unwrap();
        }
    }
    store.checkpoint(1, b"").unwrap();
    let before = store.disk_bytes();
    let gone: Vec<u64> = model.messages.keys().copied().filter(|seq| seq % 5 != 0).collect();
    for seq in gone {
        model.messages.remove(&seq);
        store.remove(seq, false).unwrap();
    }
    for index in 2..6 {
        store.checkpoint(index, b"").unwrap();
    }
    assert!(store.disk_bytes() < before / 2, "{} of {before}", store.disk_bytes());
    check(&store, &model, &mut rng).unwrap();
    // Only what the two checkpoints need is left in the directory.
    let (_, opened) = open(&disk, None).unwrap();
    assert_eq!(opened.report.unknown_files, Vec::<String>::new());
    let on_disk: u64 = disk
        .paths()
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .map(|path| disk.content(path).unwrap().len() as u64)
        .sum();
    assert!(on_disk < before, "{on_disk} of {before}");
}
