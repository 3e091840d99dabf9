//! The one place that prints, and how numbers look to people.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark tells what it found"
)]

use pefo_core::Error;

use crate::numbers::Pair;
use crate::row::Unit;

/// The result, on standard output.
pub(crate) fn tell(text: &str) {
    println!("{text}");
}

/// What is going on, on standard error.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// A round that has ended.
pub(crate) fn progress(what: &str, unit: Unit, pair: Pair) {
    say(&format!(
        "  {what}: pefo {}, peer {}, ratio {}",
        amount(unit, pair.pefo),
        amount(unit, pair.peer),
        ratio(pair.ratio())
    ));
}

/// An error and what to do about it.
pub(crate) fn error(context: &str, error: &Error) {
    say(&format!("{context}: {error}"));
    if let Some(hint) = error.hint_text() {
        say(&format!("hint: {hint}"));
    }
}

/// A value with a unit that suits its size.
pub(crate) fn amount(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Milliseconds if value < 1_000.0 => format!("{} ms", figures(value)),
        Unit::Milliseconds => format!("{} s", figures(value / 1_000.0)),
        Unit::Bytes if value < 1e3 => format!("{value:.0} B"),
        Unit::Bytes if value < 1e6 => format!("{} kB", figures(value / 1e3)),
        Unit::Bytes => format!("{} MB", figures(value / 1e6)),
    }
}

/// A ratio: lower is better.
pub(crate) fn ratio(value: f64) -> String {
    figures(value)
}

/// Three significant figures, whole numbers in full.
fn figures(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_in_a_unit_that_suits_their_size() {
        assert_eq!(amount(Unit::Milliseconds, 7.126), "7.13 ms");
        assert_eq!(amount(Unit::Milliseconds, 812.4), "812 ms");
        assert_eq!(amount(Unit::Milliseconds, 12_345.0), "12.3 s");
        assert_eq!(amount(Unit::Bytes, 17.0), "17 B");
        assert_eq!(amount(Unit::Bytes, 1_234.0), "1.23 kB");
        assert_eq!(amount(Unit::Bytes, 400_000_000.0), "400 MB");
        assert_eq!(ratio(0.0172), "0.0172");
    }
}
