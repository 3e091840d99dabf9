//! The one place that says `skipped: why`.
//!
//! A test that can not run here (no root, a package missing) must say so where people see it, and
//! must not pass in silence where everything was meant to run. So:
//!
//! - A skip is a value, [`Skip`]: a stable id and a reason. What starts a throwaway server returns it.
//! - [`need`] and [`unless`] announce it as one line on standard error, `skipped: why [id]`, past the
//!   capture of the test harness.
//! - With `PEFO_TEST_REQUIRE=all` in the environment, which CI sets, an announced skip panics, unless
//!   its id stands in the committed list `tests/allowed-skips.txt`.
//!
//! ```no_run
//! use pefo_testkit::{skip, sshd};
//!
//! let Some(server) = skip::need(sshd::Sshd::start(&sshd::Options::default())) else { return };
//! assert!(server.port() > 0);
//! ```

use std::fmt;
use std::io::Write as _;
use std::path::Path;

/// The committed list of skips that are no failure: an id a line, then why; `#` starts a comment.
const ALLOWED: &str = include_str!("../../allowed-skips.txt");

/// Why a test can not run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    id: &'static str,
    why: String,
}

impl Skip {
    /// A skip with a stable kebab-case `id` (what the committed list names) and a reason for people.
    pub fn new(id: &'static str, why: impl Into<String>) -> Self {
        Self {
            id,
            why: why.into(),
        }
    }

    /// The stable id.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// The reason.
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {} [{}]", self.why, self.id)
    }
}

impl std::error::Error for Skip {}

/// The value, or `None` once the skip has been announced; the test then returns.
///
/// # Panics
/// Where `PEFO_TEST_REQUIRE=all` is set and the committed list does not name the skip.
#[must_use]
pub fn need<T>(result: Result<T, Skip>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(skip) => {
            announce(&skip);
            None
        }
    }
}

/// Announces a skip unless `condition` holds, and says whether the test may go on.
///
/// # Panics
/// As [`need`].
#[must_use]
pub fn unless(condition: bool, id: &'static str, why: &str) -> bool {
    need(require(condition, id, why)).is_some()
}

/// A condition as a result, for functions that return a [`Skip`] themselves.
///
/// # Errors
/// The skip, where `condition` does not hold.
pub fn require(condition: bool, id: &'static str, why: impl Into<String>) -> Result<(), Skip> {
    if condition {
        Ok(())
    } else {
        Err(Skip::new(id, why))
    }
}

/// Requires this process to run as root.
///
/// # Errors
/// The skip `needs-root`; `what` says what needs it.
pub fn require_root(what: &str) -> Result<(), Skip> {
    require(
        rustix::process::geteuid().is_root(),
        "needs-root",
        format!("{what} needs root"),
    )
}

/// Requires a program, file or directory of another package; the skip's id is `id`.
///
/// # Errors
/// The skip, where `path` does not exist.
pub fn require_path(path: &Path, id: &'static str, package: &str) -> Result<(), Skip> {
    require(
        path.exists(),
        id,
        format!("{} is missing (package {package})", path.display()),
    )
}

/// Says on standard error that a test is skipped.
///
/// # Panics
/// As [`need`].
#[expect(
    clippy::disallowed_methods,
    reason = "CI asks by environment that nothing be skipped"
)]
pub fn announce(skip: &Skip) {
    let all = std::env::var("PEFO_TEST_REQUIRE").is_ok_and(|value| value == "all");
    if let Err(failure) = verdict(skip, all, ALLOWED) {
        panic!("{failure}");
    }
    // Not `eprintln!`: the harness would swallow that for a test that passes.
    let mut stderr = std::io::stderr().lock();
    drop(writeln!(stderr, "{skip}"));
}

fn verdict(skip: &Skip, all_required: bool, allowed: &str) -> Result<(), String> {
    if all_required && !is_allowed(skip.id, allowed) {
        return Err(format!(
            "{skip}, but PEFO_TEST_REQUIRE=all and tests/allowed-skips.txt does not name {}",
            skip.id
        ));
    }
    Ok(())
}

fn is_allowed(id: &str, list: &str) -> bool {
    list.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(id)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_a_failure_only_where_everything_is_required_and_the_list_does_not_name_it() {
        let skip = Skip::new("no-netem", "the kernel has no netem");
        let list = "# no-netem in a comment does not count\n  no-zfs  why\n";
        assert_eq!(verdict(&skip, false, list), Ok(()));
        assert!(verdict(&skip, true, list).unwrap_err().contains("no-netem"));
        assert_eq!(
            verdict(&skip, true, "no-netem the distribution's kernel lacks it"),
            Ok(())
        );
    }

    #[test]
    fn the_committed_list_gives_a_reason_for_every_id() {
        for line in ALLOWED
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            assert!(line.split_whitespace().count() > 1, "no reason in {line:?}");
        }
    }

    #[test]
    fn a_condition_that_holds_lets_the_test_go_on() {
        assert_eq!(require(true, "x", "y"), Ok(()));
        assert_eq!(need(Ok(7)), Some(7));
        assert_eq!(
            require(false, "x", "y").unwrap_err().to_string(),
            "skipped: y [x]"
        );
    }
}
