//! Comparing whole CAs in a process of its own.
//!
//! Two CAs of 50,000 certificates take some hundred MiB for a second. A watch that waits for weeks should
//! not hold on to them: a child does it, and gives its memory back by ending.

use pefo_core::generation::DataSet;
use pefo_core::launch::Invocation;
use pefo_core::{Error, ErrorKind, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::Value;

use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::apply::{self, Passive};
use crate::pipeline::ca;

/// The child's part: takes what is newest and brings this host's CA in step with it.
///
/// # Errors
/// As `pefo ca apply`; `Config` where it is not run by a watch that holds the lock.
pub fn compare(host: &Host) -> Result<Report> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Error::new(ErrorKind::Io, "tie to the watch").with_source(error))?;
    // The watch has the lock. Where nobody has, it has died meanwhile.
    match host.lock("apply-ca") {
        Err(error) if error.kind() == ErrorKind::Locked => {}
        Err(error) => return Err(error),
        Ok(_lock) => {
            return Err(
                Error::new(ErrorKind::Config, "this is a part of 'pefo ca watch'")
                    .hint("run 'pefo ca apply'"),
            );
        }
    }
    let passive = Passive::open(host)?;
    let report = apply::round(&passive, &DataSet::Ca, |received| {
        ca::apply(host, received, &Change::default(), false)
    })?;
    Ok(report.about(DataSet::Ca))
}

/// What the child came to.
pub(super) struct Compared {
    /// Whether batches can be followed from there on: nothing holds the whole back.
    pub(super) can_follow: bool,
    /// What went wrong, or is left undone.
    pub(super) errors: Vec<Error>,
}

/// The watch's part: has a child do it.
///
/// # Errors
/// `Child` or `Io` where there is no child, or it says nothing.
pub(super) fn compare_in_child(host: &Host) -> Result<Compared> {
    let program = std::env::current_exe()
        .map_err(|error| Error::new(ErrorKind::Io, "find this program").with_source(error))?;
    let invocation = Invocation::new(program)
        .arg("--config")
        .arg(host.config_path.clone())
        .arg("--json")
        .arg("ca")
        .arg("compare");
    let finished = host.launcher.run(&invocation)?;
    let Ok(answer) = serde_json::from_slice::<Value>(&finished.stdout) else {
        finished.success(&invocation)?;
        return Err(Error::new(ErrorKind::Child, "the comparison said nothing"));
    };
    let text = |error: &Value, key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
    let errors = answer.get("errors").and_then(Value::as_array);
    let errors = errors.into_iter().flatten().map(|error| {
        let kind = text(error, "kind").and_then(|kind| ErrorKind::from_name(&kind));
        let message = text(error, "message").unwrap_or_default();
        let told = Error::new(kind.unwrap_or(ErrorKind::Child), message);
        match text(error, "hint") {
            Some(hint) => told.hint(hint),
            None => told,
        }
    });
    Ok(Compared {
        can_follow: answer.get("details").is_some_and(Value::is_object),
        errors: errors.collect(),
    })
}
