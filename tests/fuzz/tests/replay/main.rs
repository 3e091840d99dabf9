//! Replays the corpus of every fuzz target, and mutations of it that are the same each time.
//!
//! `PEFO_FUZZ_MUTATIONS` sets how many there are of each input. No input may take more memory than its
//! target's share, whatever it announces: the allocator of this program counts.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests fail where their world does, say which input did it, and may be told how many to try"
)]

mod mutation;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use pefo_fuzz::{TARGETS, Target, seeds};

use mutation::Mutations;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory is counted for the whole program: one target at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Of each input in the corpus.
const MUTATIONS: usize = 800;

fn corpus_of(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = corpus_of(target);
    let entries = std::fs::read_dir(&dir);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    assert!(!inputs.is_empty(), "{} is empty", dir.display());
    inputs.sort();
    inputs
}

/// Runs one input; where it fails, it is kept, so that it can become a part of the corpus.
fn run(target: &Target, input: &[u8], what: &str) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let share = target.memory_bytes + target.memory_factor * input.len();
    if outcome.is_ok() && taken <= share {
        return;
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-failed", target.name));
    std::fs::write(&kept, input).unwrap();
    eprintln!("{}: {what} fails; kept in {}", target.name, kept.display());
    match outcome {
        Err(panic) => resume_unwind(panic),
        Ok(()) => panic!("it took {taken} bytes of memory, over {share}"),
    }
}

fn replay(name: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let wanted = std::env::var("PEFO_FUZZ_MUTATIONS");
    let wanted = wanted.map_or(MUTATIONS, |number| number.parse().unwrap());
    let inputs = inputs(name);
    for (file, input) in &inputs {
        run(target, input, file);
    }
    let all: Vec<&[u8]> = inputs.iter().map(|(_, input)| &input[..]).collect();
    for (file, input) in &inputs {
        let mut mutations = Mutations::of(&format!("{name}/{file}"), input, &all);
        for number in 0..wanted {
            run(
                target,
                &mutations.next(),
                &format!("{file}, mutation {number}"),
            );
        }
    }
}

#[test]
fn frames_hold() {
    replay("frame");
}

#[test]
fn patches_hold() {
    replay("patch");
}

#[test]
fn signatures_hold() {
    replay("signature");
}

#[test]
fn deltas_hold() {
    replay("delta");
}

#[test]
fn manifests_hold() {
    replay("manifest");
}

#[test]
fn batches_hold() {
    replay("batch");
}

#[test]
fn documents_hold() {
    replay("document");
}

#[test]
fn pairing_lines_hold() {
    replay("pairing");
}

#[test]
fn the_corpus_has_every_seed_as_it_is_made_now() {
    for seed in seeds::all().unwrap() {
        let path = corpus_of(seed.target).join(seed.name);
        let there = std::fs::read(&path).unwrap_or_default();
        assert!(
            there == seed.bytes,
            "{} is not as it is made now: cargo run -p pefo-fuzz --example seed_corpus",
            path.display()
        );
    }
}

#[test]
fn every_target_has_its_program() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let mut there: Vec<_> = std::fs::read_dir(programs)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned())
        .collect();
    there.sort();
    let mut names = TARGETS.map(|target| target.name);
    names.sort_unstable();
    assert_eq!(there, names);
}
