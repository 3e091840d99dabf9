//! The table that people read: a line a row, columns as wide as they must be.

use crate::row::{Measured, Row, Unit};
use crate::terminal::{amount, ratio};

const HEAD: [&str; 7] = [
    "row",
    "work",
    "pefo",
    "peer",
    "ratio [min–max]",
    "wanted",
    "memory",
];

/// What became of a row.
pub(crate) enum Outcome {
    /// It has numbers.
    Measured(Measured),
    /// It has none: `skipped` or `failed`, and why.
    Without(String),
}

/// The table of `rows` and what became of them, and below it the peers and the notes.
pub(crate) fn render(rows: &[(&Row, Outcome)]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(|(row, outcome)| line(row, outcome)));
    let widths: [usize; HEAD.len()] = std::array::from_fn(|column| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or_default()
    });
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    for (row, outcome) in rows {
        text.push_str(&remark(row, outcome));
    }
    text
}

fn line(row: &Row, outcome: &Outcome) -> [String; HEAD.len()] {
    let (name, what) = (row.name.to_owned(), row.what.to_owned());
    let none = || "–".to_owned();
    let Outcome::Measured(measured) = outcome else {
        return [
            name,
            what,
            none(),
            none(),
            none(),
            wanted(row, None),
            none(),
        ];
    };
    let summary = measured.summary;
    [
        name,
        what,
        amount(row.unit, summary.pefo),
        amount(row.unit, summary.peer),
        format!(
            "{} [{}–{}]",
            ratio(summary.ratio),
            ratio(summary.ratio_min),
            ratio(summary.ratio_max)
        ),
        wanted(row, Some(summary.ratio)),
        measured
            .memory_mib
            .map_or_else(none, |mib| format!("{mib} MiB")),
    ]
}

/// The ratio wanted, and whether it is reached.
fn wanted(row: &Row, reached: Option<f64>) -> String {
    match (row.wanted, reached) {
        (None, _) => "–".to_owned(),
        (Some(wanted), None) => format!("≤ {wanted}"),
        (Some(wanted), Some(ratio)) if ratio <= wanted => format!("≤ {wanted} yes"),
        (Some(wanted), Some(_)) => format!("≤ {wanted} NO"),
    }
}

fn remark(row: &Row, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Measured(measured) => {
            let p99 = measured
                .p99
                .map(|value| format!("; p99 of pefo {}", amount(row.unit, value)));
            let publish = measured
                .publish
                .map(|value| format!("; one publish {}", amount(Unit::Milliseconds, value)));
            let note = measured.note.as_ref().map(|note| format!("; {note}"));
            format!(
                "{}: {} pairs against {}{}{}\n",
                row.name,
                measured.summary.pairs,
                measured.peer_name,
                p99.unwrap_or_default() + &publish.unwrap_or_default(),
                note.unwrap_or_default()
            )
        }
        Outcome::Without(why) => format!("{}: {why}\n", row.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Pair;
    use crate::row::Unit;

    fn row(wanted: Option<f64>) -> Row {
        Row {
            name: "tree_x",
            what: "some work",
            unit: Unit::Milliseconds,
            wanted,
            pairs: 1,
            run: |_, _| unreachable!("nothing is run here"),
        }
    }

    #[test]
    fn a_row_tells_its_numbers_what_was_wanted_and_its_peer() {
        let pair = Pair {
            pefo: 10.0,
            peer: 40.0,
        };
        let measured = Measured::of(&[pair], "peer 1.0")
            .unwrap()
            .memory_kib(2_049)
            .note(Some("on a slow disk"));
        let (good, bad) = (row(Some(0.3)), row(Some(0.2)));
        let text = render(&[
            (&good, Outcome::Measured(measured.clone())),
            (&bad, Outcome::Measured(measured)),
            (&bad, Outcome::Without("failed: a file differs".to_owned())),
        ]);
        let line = "tree_x  some work  10.0 ms  40.0 ms  0.25 [0.25–0.25]  ≤ 0.3 yes  3 MiB\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("≤ 0.2 NO"), "{text}");
        assert!(
            text.contains("tree_x: 1 pairs against peer 1.0; on a slow disk\n"),
            "{text}"
        );
        assert!(text.ends_with("tree_x: failed: a file differs\n"), "{text}");
    }
}
