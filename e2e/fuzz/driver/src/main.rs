//! One fuzzer for all targets; FUZZ_TARGET says which. Not the targets: those are in weir-fuzz.
#![no_main]

use cap::Cap;
use std::alloc::System;
use std::sync::LazyLock;

/// What an input may make of memory, and what may stay of all inputs of a run: an allocation beyond it ends the run.
/// libFuzzer's own memory does not count.
const MAX_BYTES: usize = 32 * 1024 * 1024;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, MAX_BYTES);

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    weir_fuzz::target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
