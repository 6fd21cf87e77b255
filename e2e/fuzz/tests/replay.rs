//! Every known input through its target: the seeds, and what once broke something.

use std::path::{Path, PathBuf};

#[test]
fn known_inputs_break_nothing() {
    let mut count = 0;
    for (name, target) in weir_fuzz::TARGETS {
        let inputs = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name));
        assert!(!inputs.is_empty(), "{name} has no seeds");
        for input in inputs {
            let data = std::fs::read(&input).expect("readable");
            // Also cut short, as the fuzzer would.
            for end in [data.len(), data.len() / 2, data.len() / 3] {
                target(&data[..end]);
            }
            count += 1;
        }
    }
    assert!(count > weir_fuzz::TARGETS.len());
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}
