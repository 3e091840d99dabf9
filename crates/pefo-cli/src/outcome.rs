//! What a command says: to people, as JSON, as a line that the original's alerts match, by exit code.

use std::io::Write as _;

use pefo_core::generation::DataSet;
use pefo_core::run::Outcome;
use pefo_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::original::{self, Status};

/// The documented exit codes.
pub mod exit {
    /// Done, or nothing to do.
    pub const OK: u8 = 0;
    /// Failed.
    pub const FAILED: u8 = 1;
    /// The command line or the configuration is wrong.
    pub const USAGE: u8 = 2;
    /// A gate said no.
    pub const REFUSED: u8 = 3;
    /// Partly done.
    pub const PARTIAL: u8 = 4;
    /// Another run holds the lock.
    pub const LOCKED: u8 = 5;
    /// Fenced, or the other role's command.
    pub const FENCED: u8 = 6;
}

/// What a monitoring plugin answers, the worst last: what is known to be wrong is not hidden by what
/// cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Health {
    /// All is well.
    Ok,
    /// Something will need attention.
    Warning,
    /// It cannot be told.
    Unknown,
    /// Something needs it now.
    Critical,
}

impl Health {
    /// The plugin's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// The word that plugins print.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The data set it was about.
    pub dataset: Option<DataSet>,
    /// For machines.
    pub details: Value,
    /// For people, on standard output.
    pub text: String,
    /// What went wrong.
    pub errors: Vec<Error>,
    /// For `check` and `status`: answers by the plugins' codes instead.
    pub health: Option<Health>,
}

impl Report {
    /// Done.
    pub fn ok(details: Value, text: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Ok,
            dataset: None,
            details,
            text: text.into(),
            errors: Vec::new(),
            health: None,
        }
    }

    /// There was nothing to do.
    pub fn unchanged(details: Value, text: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Unchanged,
            ..Self::ok(details, text)
        }
    }

    /// It ended with an error.
    pub fn failed(error: Error) -> Self {
        let outcome = outcome_of(error.kind());
        Self {
            outcome,
            errors: vec![error],
            ..Self::ok(Value::Null, "")
        }
    }

    /// Nothing can be told, and why. Monitoring shows standard output's first line and nothing else.
    pub fn unknown(error: Error) -> Self {
        Self {
            text: format!("PEFO {}: {error}\n", Health::Unknown.word()),
            ..Self::failed(error)
        }
        .health(Health::Unknown)
    }

    /// About one data set.
    #[must_use]
    pub fn about(mut self, dataset: DataSet) -> Self {
        self.dataset = Some(dataset);
        self
    }

    /// What several that were asked have answered, and why others have not; failed where none has.
    pub fn asked(details: Value, text: String, mut errors: Vec<Error>, any: bool) -> Self {
        if any || errors.is_empty() {
            return Self::ok(details, text).partial(errors);
        }
        let mut report = Self {
            details,
            text,
            ..Self::failed(errors.remove(0))
        };
        report.errors.extend(errors);
        report
    }

    /// With what went wrong; some of it was done.
    #[must_use]
    pub fn partial(mut self, errors: Vec<Error>) -> Self {
        if !errors.is_empty() {
            self.outcome = Outcome::Partial;
            self.errors.extend(errors);
        }
        self
    }

    /// With the plugins' answer.
    #[must_use]
    pub fn health(mut self, health: Health) -> Self {
        self.health = Some(health);
        self
    }

    /// Several reports as one: the same outcome where all agree, partly done where some succeeded.
    pub fn all(reports: Vec<Self>) -> Self {
        let mut text = String::new();
        let mut details = Vec::new();
        let mut errors = Vec::new();
        let outcomes: Vec<Outcome> = reports.iter().map(|report| report.outcome).collect();
        for report in reports {
            text.push_str(&report.text);
            details.push(json!({
                "dataset": report.dataset,
                "outcome": report.outcome,
                "details": report.details,
            }));
            errors.extend(report.errors);
        }
        let outcome = if outcomes
            .iter()
            .all(|outcome| *outcome == Outcome::Unchanged)
        {
            Outcome::Unchanged
        } else if outcomes.iter().all(|outcome| outcome.is_success()) {
            Outcome::Ok
        } else if outcomes
            .iter()
            .any(|outcome| outcome.is_success() || *outcome == Outcome::Partial)
        {
            Outcome::Partial
        } else {
            outcomes.first().copied().unwrap_or(Outcome::Failed)
        };
        Self {
            outcome,
            dataset: None,
            details: Value::Array(details),
            text,
            errors,
            health: None,
        }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        if let Some(health) = self.health {
            return health.code();
        }
        match self.outcome {
            Outcome::Ok | Outcome::Unchanged => exit::OK,
            Outcome::Partial => exit::PARTIAL,
            Outcome::Refused => exit::REFUSED,
            Outcome::Locked => exit::LOCKED,
            Outcome::Fenced => exit::FENCED,
            _ if self
                .errors
                .first()
                .is_some_and(|error| error.kind() == ErrorKind::Config) =>
            {
                exit::USAGE
            }
            _ => exit::FAILED,
        }
    }

    /// The one JSON object.
    pub fn json(&self, command: &str) -> Value {
        let errors: Vec<Value> = self.errors.iter().map(error_json).collect();
        json!({
            "command": command,
            "outcome": self.outcome,
            "dataset": self.dataset,
            "details": self.details,
            "errors": errors,
        })
    }

    /// Says it: JSON or text on standard output, errors and hints on standard error.
    pub fn print(&self, command: &str, as_json: bool, quiet: bool) {
        // A reader that went away (a closed pipe) is no reason to fail what was done.
        let mut out = std::io::stdout().lock();
        if as_json {
            drop(writeln!(out, "{}", self.json(command)));
        } else if !quiet || self.health.is_some() {
            drop(write!(out, "{}", self.text));
        }
        drop(out.flush());
        if !as_json {
            drop(
                std::io::stderr()
                    .lock()
                    .write_all(self.error_text(command).as_bytes()),
            );
        }
    }

    /// What people read on standard error.
    pub fn error_text(&self, command: &str) -> String {
        let mut text = String::new();
        for error in &self.errors {
            let word = match outcome_of(error.kind()) {
                Outcome::Refused => "refused",
                Outcome::Locked => "locked",
                Outcome::Fenced => "not here",
                _ => "failed",
            };
            text.push_str(&format!("pefo {command}: {word}: {error}\n"));
            if let Some(hint) = error.hint_text() {
                text.push_str(&format!("  hint: {hint}\n"));
            }
        }
        text
    }

    /// The word that the original module's lines have for how it ended.
    pub fn status(&self) -> Status {
        match self.health {
            // What a check found, not that it could be made.
            Some(Health::Critical | Health::Unknown) => Status::Failure,
            Some(Health::Warning) => Status::Warning,
            Some(Health::Ok) | None => Status::of(self.outcome),
        }
    }

    /// What ended it, or what was done, in one line.
    pub fn line(&self) -> String {
        self.errors.first().map_or_else(
            || self.text.lines().next().unwrap_or("done").to_owned(),
            |error| error.to_string().replace('\n', " "),
        )
    }

    /// The line that the original module's alerts match.
    pub fn pe_failover_line(&self, command: &str) -> String {
        let line = original::line(original_script(command), self.status(), &self.line());
        format!("{line}\n")
    }
}

/// The original's script that a command replaces.
pub fn original_script(command: &str) -> &str {
    match command {
        "nc export" => "nc_dump.sh",
        "nc push" => "sync_nc_dumps.sh",
        "nc restore" => "restore_nc.sh",
        "db dump" => "db_dump.sh",
        "db push" => "sync_dbs.sh",
        "db restore" => "restore_dbs.sh",
        "ca push" => "sync_certs.sh",
        "ca apply" => "update_passive_ca.sh",
        other => other,
    }
}

/// How a run ended that ended with an error of this kind.
pub fn outcome_of(kind: ErrorKind) -> Outcome {
    match kind {
        ErrorKind::Refused => Outcome::Refused,
        ErrorKind::Partial => Outcome::Partial,
        ErrorKind::Locked => Outcome::Locked,
        ErrorKind::Fenced | ErrorKind::WrongRole => Outcome::Fenced,
        _ => Outcome::Failed,
    }
}

/// As machines are told of an error.
pub fn error_json(error: &Error) -> Value {
    json!({
        "kind": error.kind().name(),
        "rule": error.rule(),
        "message": error.to_string(),
        "hint": error.hint_text(),
        "retryable": error.is_retryable(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        let code = |error| Report::failed(error).code();
        assert_eq!(code(Error::new(ErrorKind::Io, "x")), exit::FAILED);
        assert_eq!(code(Error::new(ErrorKind::Config, "x")), exit::USAGE);
        assert_eq!(code(Error::refused("rule", "x")), exit::REFUSED);
        assert_eq!(code(Error::new(ErrorKind::Partial, "x")), exit::PARTIAL);
        assert_eq!(code(Error::new(ErrorKind::Locked, "x")), exit::LOCKED);
        assert_eq!(code(Error::new(ErrorKind::Fenced, "x")), exit::FENCED);
        assert_eq!(code(Error::new(ErrorKind::WrongRole, "x")), exit::FENCED);
    }

    #[test]
    fn one_of_several_that_failed_is_partly_done() {
        let good = || Report::ok(Value::Null, "done\n");
        assert_eq!(Report::all(vec![good(), good()]).code(), exit::OK);
        assert_eq!(
            Report::all(vec![good(), Report::failed(Error::refused("r", "x"))]).code(),
            exit::PARTIAL
        );
        assert_eq!(
            Report::all(vec![Report::failed(Error::refused("r", "x"))]).code(),
            exit::REFUSED
        );
    }

    #[test]
    fn what_is_known_to_be_wrong_is_not_hidden_by_what_cannot_be_told() {
        let worst = [Health::Unknown, Health::Critical, Health::Warning];
        assert_eq!(worst.into_iter().max(), Some(Health::Critical));
        assert!(Health::Unknown > Health::Warning && Health::Warning > Health::Ok);
    }

    #[test]
    fn a_refusal_reads_as_people_need_it() {
        let error = Error::refused("crl-rollback", "CRL number 3 is older than 5")
            .hint("keep the newer one");
        let report = Report::failed(error).about(DataSet::Ca);
        insta::assert_snapshot!(report.error_text("ca apply"), @r"
        pefo ca apply: refused: CRL number 3 is older than 5 [crl-rollback]
          hint: keep the newer one
        ");
        insta::assert_snapshot!(report.pe_failover_line("ca apply"), @"PE_FAILOVER: update_passive_ca.sh ---> [FAILURE] CRL number 3 is older than 5 [crl-rollback]");
        insta::assert_snapshot!(report.json("ca apply"), @r#"{"command":"ca apply","outcome":"refused","dataset":"ca","details":null,"errors":[{"kind":"refused","rule":"crl-rollback","message":"CRL number 3 is older than 5 [crl-rollback]","hint":"keep the newer one","retryable":false}]}"#);
    }
}
