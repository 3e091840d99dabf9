//! A report in a few lines, for a terminal or a mail.

use super::data::{ReportData, Told};
use super::plot::Course;
use super::words::{moment, name, span};

/// The lines.
pub(super) fn summary(data: &ReportData) -> String {
    let mut text = format!(
        "{}: {}, {} in epoch {}; told of {} to {} UTC\n",
        data.certname,
        data.health.word(),
        data.role,
        data.epoch,
        moment(data.from),
        moment(data.until),
    );
    let mut line = |name: &str, what: String| text.push_str(&format!("  {name:<20} {what}\n"));
    for amiss in &data.amiss {
        line("amiss", amiss.what.clone());
    }
    for told in &data.datasets {
        line(&name(told), lag(told));
        for amiss in &told.amiss {
            line("", amiss.what.clone());
        }
    }
    let failed = data.runs.iter().filter(|run| !run.outcome.is_success());
    let failed = failed.count();
    let runs = data.runs.len();
    line(
        "runs",
        format!("{runs}, of which {failed} did not end well"),
    );
    for refusal in &data.refusals {
        let of = refusal
            .dataset
            .as_ref()
            .map(|dataset| format!("{dataset}, "));
        let (times, last) = (refusal.times, moment(refusal.last));
        let of = of.unwrap_or_default();
        line(
            &refusal.rule,
            format!("refused {of}{times} times, last {last}: {}", refusal.reason),
        );
    }
    let drills = data.drills.first().map(|last| {
        format!(
            "{}, last {} {}, RTO {:.2} s, RPO {}",
            data.drills.len(),
            moment(last.began),
            last.outcome.word(),
            last.rto_ms as f64 / 1e3,
            last.rpo_seconds.map_or_else(|| "unknown".to_owned(), span),
        )
    });
    line("drills", drills.unwrap_or_else(|| "none".to_owned()));
    text
}

/// How its lag was, in one line.
fn lag(told: &Told) -> String {
    let now = told.lag_seconds.map_or_else(
        || "lag unknown".to_owned(),
        |seconds| format!("lag {}", span(seconds)),
    );
    match Course::of(&told.lag) {
        Some(course) => format!("{now}; {}", course.told()),
        None => format!("{now}; no history yet"),
    }
}
