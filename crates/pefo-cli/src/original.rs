//! Lines as the original module's scripts wrote them, for whose alerts match them:
//! `PE_FAILOVER: <script> ---> [STATUS] …`.
//!
//! A command's outcome, what is logged, and each change in how a watch goes. On standard error with
//! `--log-format pe_failover`, and in the system's log where `[log] syslog` names its socket.

use std::fmt;

use pefo_core::run::Outcome;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::host::Host;
use crate::syslog;

/// What such lines say in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It went well.
    Success,
    /// Some of it, or another run is at it.
    Warning,
    /// It did not.
    Failure,
}

impl Status {
    /// Of what ended so.
    pub const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok | Outcome::Unchanged => Self::Success,
            Outcome::Partial | Outcome::Locked => Self::Warning,
            _ => Self::Failure,
        }
    }

    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Warning => "WARNING",
            Self::Failure => "FAILURE",
        }
    }
}

/// What changes in how a watch goes is logged under this target.
const COURSE: &str = "pefo::course";

/// One line, without its end. What was read from elsewhere makes no second one.
pub fn line(script: &str, status: Status, what: &str) -> String {
    let what = what.replace(['\n', '\r'], " ");
    format!("PE_FAILOVER: {script} ---> [{}] {what}", status.word())
}

/// Tells how a watch goes from now on: to the log, and to the system's.
pub fn tell(host: &Host, script: &str, status: Status, what: &str) {
    let word = status.word();
    tracing::info!(target: COURSE, script, status = word, "{what}");
    syslog::send(host, status, &line(script, status, what));
}

/// Logs such lines to standard error: what is at least as grave as `level`, and how watches go.
///
/// # Errors
/// Where this process logs already.
pub fn log(script: &'static str, level: LevelFilter) -> Result<(), TryInitError> {
    let mut targets = Targets::new().with_default(level);
    if level != LevelFilter::OFF {
        targets = targets.with_target(COURSE, level.max(LevelFilter::INFO));
    }
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines { script })
        .with_writer(std::io::stderr)
        .with_filter(targets);
    tracing_subscriber::registry().with(lines).try_init()
}

/// Events as such lines.
struct Lines {
    script: &'static str,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let status = match *event.metadata().level() {
            Level::ERROR => Status::Failure.word(),
            Level::WARN => Status::Warning.word(),
            _ => "INFO",
        };
        let status = said.status.as_deref().unwrap_or(status);
        let script = said.script.as_deref().unwrap_or(self.script);
        let what = format!("{}{}", said.message, said.others).replace(['\n', '\r'], " ");
        writeln!(writer, "PE_FAILOVER: {script} ---> [{status}] {what}")
    }
}

/// What an event holds.
#[derive(Default)]
struct Said {
    message: String,
    script: Option<String>,
    status: Option<String>,
    others: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.others.push_str(&format!(" {name}={value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "script" => self.script = Some(value.to_owned()),
            "status" => self.status = Some(value.to_owned()),
            name => self.others.push_str(&format!(" {name}={value}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn whatever_is_said_is_one_line(what in "(?s).{0,40}") {
            let line = line("sync_certs.sh", Status::Failure, &what);
            proptest::prop_assert!(line.starts_with("PE_FAILOVER: sync_certs.sh ---> [FAILURE] "));
            proptest::prop_assert!(!line.contains(['\n', '\r']));
        }
    }
}
