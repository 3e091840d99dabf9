//! What a parser says about a file it cannot take: which rule, on which line, and why.

use std::path::Path;

use pefo_core::Error;
use serde::Serialize;

/// A file, or a part of one, that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}{message} [{rule}]", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct Malformed {
    /// The rule it breaks, a stable name.
    pub rule: &'static str,
    /// Where, counted from 1, where a line can be told.
    pub line: Option<usize>,
    /// What is wrong, a lower-case fragment.
    pub message: String,
}

impl Malformed {
    /// A broken `rule`.
    pub fn new(rule: &'static str, message: impl Into<String>) -> Self {
        Self {
            rule,
            line: None,
            message: message.into(),
        }
    }

    /// Says on which line, unless a line is known already.
    #[must_use]
    pub fn at(mut self, line: usize) -> Self {
        self.line.get_or_insert(line);
        self
    }

    /// The error for the file it was read from.
    pub fn in_file(self, path: &Path) -> Error {
        let place = self
            .line
            .map(|line| format!(", line {line}"))
            .unwrap_or_default();
        Error::invalid(format!(
            "{}{place}: {} [{}]",
            path.display(),
            self.message,
            self.rule
        ))
        .with_source(self)
    }
}
