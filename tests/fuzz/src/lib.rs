//! Everything that comes from a peer, a spool or an operator's clipboard, as fuzz targets.
//!
//! Each target is a function of any bytes at all. Besides that nothing panics, it asserts what its
//! documentation says: that what is accepted means what the written format says, by a second reading
//! of the format in [`spec`] that shares no code with the first; that what is refused was wrong; that
//! reading and writing are each other's inverse.
//!
//! `make test` replays the corpus and mutations of it, and holds every target to its share of memory;
//! `make fuzz` runs libFuzzer on each, starting from the same corpus.

mod conversation;
mod delta;
mod documents;
mod pairing;
pub mod seeds;
pub mod spec;
pub mod world;

pub use conversation::frame;
pub use delta::{delta, patch, signature};
pub use documents::{batch, document, manifest};
pub use pairing::pairing;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Target {
    /// Its name, and that of its corpus and of its program in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// The most memory it may take at a time, in bytes, whatever the input announces.
    pub memory_bytes: usize,
    /// And so many more for each byte of input.
    pub memory_factor: usize,
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8]), memory_bytes: usize) -> Self {
        Self {
            name,
            run,
            memory_bytes,
            memory_factor: 64,
        }
    }
}

/// Every target.
pub const TARGETS: [Target; 8] = [
    Target::new("frame", frame, 8 << 20),
    Target::new("patch", patch, 4 << 20),
    Target::new("signature", signature, 16 << 20),
    Target::new("delta", delta, 16 << 20),
    Target::new("manifest", manifest, 1 << 20),
    Target::new("batch", batch, 1 << 20),
    Target::new("document", document, 1 << 20),
    Target::new("pairing", pairing, 1 << 20),
];
