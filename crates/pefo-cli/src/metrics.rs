//! What this host knows, as Prometheus reads it: the text format, version 0.0.4, for node_exporter's textfile
//! collector (`[metrics] textfile`) or on standard output (`pefo status --metrics`).
//!
//! The file is replaced as a whole. A lag grows although nobody writes the file: rules count from the times in it
//! (`time() - pefo_caught_up_timestamp_seconds`), which hold whoever wrote it, and when. `docs/status.md` names them.

use std::fmt::Write as _;

use pefo_core::Result;
use pefo_core::clock::Timestamp;
use pefo_core::disk::Attributes;
use pefo_core::reign::Role;

use crate::host::Host;
use crate::outcome::Health;
use crate::overview::{Overview, Row, Space};

/// Writes the file where one is configured.
///
/// # Errors
/// `Io`.
pub fn write(host: &Host, overview: &Overview) -> Result<()> {
    publish(host, || text(overview))
}

/// Writes that nothing can be told, where a file is configured.
///
/// # Errors
/// `Io`.
pub fn write_down(host: &Host) -> Result<()> {
    publish(host, || {
        let mut text = Text::default();
        text.up(false);
        text.0
    })
}

fn publish(host: &Host, text: impl FnOnce() -> String) -> Result<()> {
    let Some(path) = &host.config.metrics.textfile else {
        return Ok(());
    };
    // Made anew by the next run: nothing is lost with the power.
    let attributes = Attributes::mode(0o644);
    host.disk
        .publish_cache(path, text().as_bytes(), &attributes)
}

/// All of it.
pub fn text(overview: &Overview) -> String {
    let mut text = Text::default();
    text.up(true);
    text.host(overview);
    text.spaces(&overview.spaces);
    text.rows(&overview.rows);
    text.0
}

/// A label: its name, and its value as it is.
type Label<'a> = (&'a str, &'a str);

#[derive(Default)]
struct Text(String);

impl Text {
    /// One gauge with all its samples; nothing where there are none.
    fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<Label<'l>>, Option<f64>)>,
    ) {
        let mut is_first = true;
        for (labels, value) in samples {
            let Some(value) = value else { continue };
            if std::mem::take(&mut is_first) {
                // A String takes whatever is written.
                let _ = writeln!(
                    self.0,
                    "# HELP pefo_{name} {help}\n# TYPE pefo_{name} gauge"
                );
            }
            let labels: Vec<String> = labels
                .into_iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            let labels = match labels.is_empty() {
                true => String::new(),
                false => format!("{{{}}}", labels.join(",")),
            };
            let _ = writeln!(self.0, "pefo_{name}{labels} {value}");
        }
    }

    fn one(&mut self, name: &str, help: &str, value: f64) {
        self.gauge(name, help, [(Vec::new(), Some(value))]);
    }

    fn up(&mut self, is_up: bool) {
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        self.gauge(
            "build_info",
            "Which pefo wrote this.",
            [(version, Some(1.0))],
        );
        self.one("up", "Whether this host's state can be read.", flag(is_up));
    }

    fn host(&mut self, overview: &Overview) {
        let standing = &overview.standing;
        let roles = [Role::Active, Role::Passive];
        let names = roles.map(|role| role.to_string());
        self.gauge(
            "role",
            "Which role this host has.",
            roles.iter().zip(&names).map(|(role, name)| {
                let labels = vec![("role", name.as_str())];
                (labels, Some(flag(*role == overview.role)))
            }),
        );
        self.one(
            "epoch",
            "The epoch of the reign that this host knows of.",
            float(overview.reign.epoch.0),
        );
        self.one(
            "health",
            "How this host does, as a monitoring plugin's exit code: 0 ok, 1 warning, 2 critical, 3 unknown.",
            health(overview.health()),
        );
        self.one(
            "gathered_timestamp_seconds",
            "When this was gathered.",
            seconds(overview.now),
        );
        self.one(
            "fenced",
            "Whether this host's reign has ended, or is claimed by another.",
            flag(standing.fenced.is_some()),
        );
        self.one(
            "changing",
            "Whether a change of this host's role has begun and is not ended.",
            flag(overview.changing.is_some()),
        );
        self.one(
            "paused",
            "Whether this host rests by the operator's word.",
            flag(standing.paused.is_some()),
        );
        self.one(
            "unfinished",
            "How many things were begun and are not ended.",
            count(standing.unfinished.len()),
        );
        let unwatched = overview.problems.iter().any(|it| it.kind == "watch");
        self.one(
            "watch_missing",
            "Whether the CA was watched and is not any more.",
            flag(unwatched),
        );
    }

    fn spaces(&mut self, spaces: &[Space]) {
        let mut gauge = |name: &str, help: &str, of: &dyn Fn(&Space) -> Option<f64>| {
            let sample = |space: &Space| (vec![("directory", space.name)], of(space));
            let samples: Vec<_> = spaces.iter().map(sample).collect();
            self.gauge(name, help, samples);
        };
        gauge(
            "disk_used_bytes",
            "What lies in the directory, of the state in its store of generations, as far as it was looked at.",
            &|space| space.used.map(|used| float(used.bytes)),
        );
        gauge(
            "disk_used_is_whole",
            "Whether all of the directory was looked at.",
            &|space| space.used.map(|used| flag(used.is_whole)),
        );
        gauge(
            "disk_free_bytes",
            "What is free on the directory's file system.",
            &|space| space.room.map(|room| float(room.free_bytes)),
        );
        gauge(
            "disk_free_inodes",
            "How many more files the directory's file system can hold.",
            &|space| space.room.map(|room| float(room.free_files)),
        );
    }

    fn rows(&mut self, rows: &[Row]) {
        let datasets: Vec<String> = rows.iter().map(|row| row.dataset.to_string()).collect();
        let mut gauge = |name: &str, help: &str, of: &dyn Fn(&Row) -> Option<f64>| {
            let samples: Vec<_> = rows
                .iter()
                .zip(&datasets)
                .map(|(row, dataset)| {
                    let mut labels = vec![("dataset", dataset.as_str())];
                    labels.extend(row.peer.as_ref().map(|peer| ("peer", peer.as_str())));
                    (labels, of(row))
                })
                .collect();
            self.gauge(name, help, samples);
        };
        gauge(
            "dataset_health",
            "How the data set does, as a monitoring plugin's exit code.",
            &|row| Some(health(row.health)),
        );
        gauge(
            "caught_up_timestamp_seconds",
            "When the passive last proved that it had applied everything.",
            &|row| row.caught_up.map(seconds),
        );
        gauge(
            "lag_seconds",
            "How long ago that was when this was gathered.",
            &|row| row.lag.map(|lag| lag.as_secs_f64()),
        );
        gauge(
            "lag_warn_seconds",
            "From when on a lag is a warning.",
            &|row| Some(row.limits.warn.as_secs_f64()),
        );
        gauge(
            "lag_critical_seconds",
            "From when on a lag is critical.",
            &|row| Some(row.limits.critical.as_secs_f64()),
        );
        gauge(
            "last_success_timestamp_seconds",
            "When a run about the data set ended well last.",
            &|row| row.last_success.map(seconds),
        );
        gauge(
            "last_failure_timestamp_seconds",
            "When a run about the data set failed last.",
            &|row| row.last_failure.as_ref().map(|(at, _)| seconds(*at)),
        );
        gauge(
            "failing",
            "Whether the newest run about the data set failed.",
            &|row| Some(flag(row.failing_since.is_some())),
        );
        gauge(
            "run_duration_seconds",
            "How long the last run took that ended well.",
            &|row| row.last_duration.map(|took| took.as_secs_f64()),
        );
        gauge(
            "generation_bytes",
            "How large the newest full generation is.",
            &|row| row.generation_bytes.map(float),
        );
        gauge(
            "refusals",
            "How many rules hold something back now.",
            &|row| Some(count(row.refused.len())),
        );
        gauge(
            "clock_skew_seconds",
            "How far the peer's clock is ahead of this host's, at least; 0 where nothing tells that they differ.",
            #[expect(clippy::cast_precision_loss, reason = "clocks are not that far apart")]
            &|row| Some(row.skew_seconds.unwrap_or(0) as f64),
        );
        gauge(
            "next_due_timestamp_seconds",
            "When the data set is scheduled next.",
            &|row| row.next_due.map(seconds),
        );
    }
}

/// A label's value, as the text format has it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn health(health: Health) -> f64 {
    f64::from(health.code())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows no other numbers"
)]
fn float(value: u64) -> f64 {
    value as f64
}

fn count(value: usize) -> f64 {
    float(u64::try_from(value).unwrap_or(u64::MAX))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 are exact for millions of years"
)]
fn seconds(time: Timestamp) -> f64 {
    time.unix_seconds() as f64
}

#[cfg(test)]
mod tests;
