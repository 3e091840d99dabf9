//! Progress, handed in: the library reports, the command line draws.

/// Receives progress; every method has an empty default, so a caller implements what it shows.
pub trait Progress: Send + Sync {
    /// A stage began, with how many items and bytes it will handle where that is known.
    fn begin(&self, _stage: &str, _items: Option<u64>, _bytes: Option<u64>) {}
    /// Work was done since the last call.
    fn advance(&self, _items: u64, _bytes: u64) {}
    /// The stage ended.
    fn end(&self) {}
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
