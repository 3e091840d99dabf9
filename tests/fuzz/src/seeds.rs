//! The corpus that every target starts from: real values, few and small.
//!
//! `cargo run -p pefo-fuzz --example seed_corpus` writes them below `corpus`, and a test holds what
//! stands there against them. Files of other names are inputs that once found something.

mod deltas;
pub(crate) mod documents;
mod frames;

use pefo_core::Result;

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The target it is for.
    pub target: &'static str,
    /// Its file's name.
    pub name: &'static str,
    /// The input.
    pub bytes: Vec<u8>,
}

fn seed(target: &'static str, name: &'static str, bytes: impl Into<Vec<u8>>) -> Seed {
    Seed {
        target,
        name,
        bytes: bytes.into(),
    }
}

/// All of them.
///
/// # Errors
/// Where pefo takes none of these values any more.
pub fn all() -> Result<Vec<Seed>> {
    let mut seeds = frames::seeds()?;
    seeds.extend(deltas::seeds()?);
    seeds.extend(documents::seeds()?);
    Ok(seeds)
}
