//! The page.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use pefo_core::run::Outcome;

use super::data::{Amiss, DrillTold, Point, ReportData, RunTold, Series, Told};
use super::plot::{Course, Mark, Plot};
use super::words::{moment, name, seconds, span};
use crate::outcome::Health;

const STYLE: &str = include_str!("style.css");
/// Nothing is loaded and nothing runs, whatever a name may hold.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
/// What stands in these columns is not to be broken where there is room.
const SHORT: [&str; 8] = [
    "Rule", "Times", "Last", "When", "Outcome", "Began", "Command", "Took",
];
/// So many runs are told at once, the rest on demand.
const RUNS_AT_ONCE: usize = 12;
/// And no more than this.
const RUNS: usize = 300;

/// The whole page; the same for the same data.
pub fn page(data: &ReportData) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="generator" content=(data.tool);
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (data.certname) ": " (data.health.word()) ", pefo" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header(data))
                main {
                    (lags(data))
                    (refusals(data))
                    (drills(data))
                    (runs(data))
                }
                (footer(data))
            }
        }
    }
    .into_string()
}

fn header(data: &ReportData) -> Markup {
    html! {
        header {
            p.kicker { "pefo report" }
            h1 { (data.certname) }
            p.verdict {
                (health(data.health))
                span { (data.role) " in epoch " (data.epoch) }
            }
            (amiss(&data.amiss))
            dl.facts {
                div { dt { "Reigns" } dd { (data.holder) } }
                div { dt { "Since" } dd { (time(data.reigns_since)) } }
                div {
                    dt { @if data.peers.len() == 1 { "Peer" } @else { "Peers" } }
                    dd {
                        @if data.peers.is_empty() { "none" }
                        @for (nth, peer) in data.peers.iter().enumerate() {
                            @if nth > 0 { ", " }
                            (peer)
                        }
                    }
                }
                div { dt { "Told of" } dd { (time(data.from)) " to " (time(data.until)) " UTC" } }
            }
        }
    }
}

fn lags(data: &ReportData) -> Markup {
    html! {
        section aria-labelledby="lag" {
            h2 id="lag" { "Lag" }
            p.lead { "How long ago the spare last proved that it had applied everything the active had sent." }
            @if data.datasets.is_empty() { p.none { "No data set is configured, or no peer is paired." } }
            div.cards {
                @for (nth, told) in data.datasets.iter().enumerate() { (dataset(data, nth, told)) }
            }
        }
    }
}

fn dataset(data: &ReportData, nth: usize, told: &Told) -> Markup {
    let name = name(told);
    let now = told.lag_seconds.map_or_else(|| "unknown".to_owned(), span);
    let plot = Plot {
        id: format!("lag-{nth}"),
        title: format!("Lag of {name}"),
        series: &told.lag,
        mark: Mark::Line,
        from: data.from,
        until: data.until,
    };
    html! {
        article.card {
            h3 { (name) " " (health(told.health)) }
            p.figure { strong { (now) } " now" }
            p.figures {
                @match Course::of(&told.lag) {
                    Some(course) => { (course.told()) }
                    None => { "no history was recorded in this time" }
                }
            }
            @if !told.lag.points.is_empty() { (plot.markup()) }
            p.figures {
                "last success: "
                @match told.last_success {
                    Some(at) => { (time(at)) }
                    None => { "never" }
                }
            }
            (amiss(&told.amiss))
        }
    }
}

/// What is wrong, and what to do.
fn amiss(amiss: &[Amiss]) -> Markup {
    html! {
        @if !amiss.is_empty() {
            ul.amiss {
                @for amiss in amiss {
                    li {
                        p { (amiss.what) }
                        @if let Some(hint) = &amiss.hint { p.hint { (hint) } }
                    }
                }
            }
        }
    }
}

fn refusals(data: &ReportData) -> Markup {
    html! {
        section aria-labelledby="refusals" {
            h2 id="refusals" { "Refusals" }
            @if data.refusals.is_empty() {
                p.none { "Nothing was refused." }
            } @else {
                p.lead { "What a gate said no to, by rule; docs/refusals.md tells what each means and what to do." }
                table role="table" {
                    (head(&["Rule", "Data set", "Times", "Last", "Reason"]))
                    tbody role="rowgroup" {
                        @for refusal in &data.refusals {
                            tr role="row" {
                                (cell("Rule", html! { code { (refusal.rule) } }))
                                (cell("Data set", html! { @match &refusal.dataset { Some(dataset) => { (dataset) } None => { "all" } } }))
                                (cell("Times", html! { (refusal.times) }))
                                (cell("Last", time(refusal.last)))
                                (cell("Reason", html! { (refusal.reason) }))
                                }
                        }
                    }
                }
            }
        }
    }
}

fn drills(data: &ReportData) -> Markup {
    html! {
        section aria-labelledby="drills" {
            h2 id="drills" { "Drills" }
            @if data.drills.is_empty() {
                p.none { "No drill was made: " code { "pefo drill" } " on the passive proves that it could take over, and measures how long its data would take." }
            } @else {
                div.cards {
                    (measured(data, "rto", "RTO", "how long the data's part of a takeover took", |drill| Some(drill.rto_ms as f64 / 1e3)))
                    (measured(data, "rpo", "RPO", "the age of the oldest data set: no more could be lost", |drill| drill.rpo_seconds.map(|seconds| seconds as f64)))
                }
                table role="table" {
                    (head(&["When", "Outcome", "RTO", "RPO", "What failed"]))
                    tbody role="rowgroup" {
                        @for drill in &data.drills {
                            tr role="row" {
                                (cell("When", time(drill.began)))
                                (cell("Outcome", outcome(drill.outcome)))
                                (cell("RTO", html! { @if !drill.outcome.is_success() { "more than " } (took(drill.rto_ms)) }))
                                (cell("RPO", html! { @match drill.rpo_seconds { Some(rpo) => { (span(rpo)) } None => { "unknown" } } }))
                                (cell("What failed", html! { @if drill.failed.is_empty() { "nothing" } @for failed in &drill.failed { p { (failed) } } }))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn measured(
    data: &ReportData,
    id: &str,
    short: &str,
    long: &str,
    of: impl Fn(&DrillTold) -> Option<f64>,
) -> Markup {
    let points = data.drills.iter().rev().map(|drill| Point {
        at: drill.began,
        seconds: of(drill),
    });
    let series = Series {
        points: points.collect(),
        ..Series::default()
    };
    let plot = Plot {
        id: id.to_owned(),
        title: format!("{short} of each drill"),
        series: &series,
        mark: Mark::Stems,
        from: data.from,
        until: data.until,
    };
    let last = data.drills.first().and_then(of);
    html! {
        article.card {
            h3 { (short) }
            p.figure { strong { (last.map_or_else(|| "unknown".to_owned(), seconds)) } " last" }
            p.figures { (long) }
            (plot.markup())
        }
    }
}

fn runs(data: &ReportData) -> Markup {
    let failed = data
        .runs
        .iter()
        .filter(|run| !run.outcome.is_success())
        .count();
    let told = &data.runs[..data.runs.len().min(RUNS)];
    let (first, rest) = told.split_at(told.len().min(RUNS_AT_ONCE));
    html! {
        section aria-labelledby="runs" {
            h2 id="runs" { "Runs" }
            @if data.runs.is_empty() {
                p.none { "No run was recorded in this time." }
            } @else {
                p.lead {
                    (data.runs.len()) " runs, of which " (failed) " did not end well; the newest first."
                    @if data.runs.len() > RUNS { " The newest " (RUNS) " are told." }
                }
                (run_table(first))
                @if !rest.is_empty() {
                    details {
                        summary { (rest.len()) " more" }
                        (run_table(rest))
                    }
                }
            }
        }
    }
}

fn run_table(runs: &[RunTold]) -> Markup {
    html! {
        table role="table" {
            (head(&["Began", "Command", "Data set", "Outcome", "Took", "Reason"]))
            tbody role="rowgroup" {
                @for run in runs {
                    tr role="row" {
                        (cell("Began", time(run.began)))
                        (cell("Command", html! { code { (run.command) } }))
                        (cell("Data set", html! { @match &run.dataset { Some(dataset) => { (dataset) } None => { "all" } } }))
                        (cell("Outcome", outcome(run.outcome)))
                        (cell("Took", html! { (took(run.took_ms)) }))
                        (cell("Reason", html! {
                            @if let Some(error) = &run.error { (error) }
                            @if !run.overruled.is_empty() { p { "overruled: " code { (run.overruled.join(", ")) } } }
                            @if run.error.is_none() && run.overruled.is_empty() { "none" }
                        }))
                    }
                }
            }
        }
    }
}

fn footer(data: &ReportData) -> Markup {
    html! {
        footer {
            p {
                "Made by " (data.tool) " on " (data.certname) ", " (time(data.until))
                " UTC, from this host's own state: what its peers have not told it stands not here."
            }
        }
    }
}

/// On a phone each cell stands on a line of its own, and says what it is.
fn head(names: &[&str]) -> Markup {
    html! {
        thead role="rowgroup" {
            tr role="row" {
                @for name in names { th role="columnheader" scope="col" { (name) } }
            }
        }
    }
}

fn cell(name: &str, content: Markup) -> Markup {
    let is_short = SHORT.contains(&name);
    html! { td.short[is_short] role="cell" data-name=(name) { div { (content) } } }
}

fn time(at: pefo_core::clock::Timestamp) -> Markup {
    html! { time datetime=(at) { (moment(at)) } }
}

/// A word with a sign of its own, so that nobody needs the colour.
fn badge(kind: &str, sign: &str, word: &str) -> Markup {
    html! { span.badge.(kind) { span aria-hidden="true" { (sign) } " " (word) } }
}

fn health(health: Health) -> Markup {
    let (kind, sign) = match health {
        Health::Ok => ("good", "✓"),
        Health::Warning => ("doubtful", "!"),
        Health::Unknown => ("doubtful", "?"),
        Health::Critical => ("bad", "✕"),
    };
    badge(kind, sign, health.word())
}

fn outcome(outcome: Outcome) -> Markup {
    match outcome {
        Outcome::Ok | Outcome::Unchanged => badge("good", "✓", outcome.word()),
        Outcome::Partial | Outcome::Locked => badge("doubtful", "!", outcome.word()),
        _ => badge("bad", "✕", outcome.word()),
    }
}

fn took(milliseconds: u64) -> String {
    seconds(milliseconds as f64 / 1e3)
}
