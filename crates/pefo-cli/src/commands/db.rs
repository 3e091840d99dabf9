//! `pefo db dump`, `list`, `drill` and `verify`, and the stage that runs in the database's account.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use pefo_core::generation::DataSet;
use pefo_core::reign::Role;
use pefo_core::{Error, Result};
use pefo_db::DumpManifest;
use serde_json::{Value, json};

use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::{Health, Report};
use crate::pipeline;
use crate::pipeline::db::{
    Stage, answer, current_dump, keep_dump, perform, read_request, settings,
};
use crate::pipeline::scratch::Scratch;

/// Dumps databases on the active; the dump stays on this host.
pub(super) fn dump(host: &Host, names: &[String], force: bool, change: &Change) -> Result<Report> {
    host.require(Role::Active)?;
    let mut reports = Vec::new();
    for dataset in super::databases(host, names)? {
        let DataSet::Database(name) = &dataset else {
            continue;
        };
        let report = dump_one(host, name, force, change).unwrap_or_else(Report::failed);
        reports.push(report.about(dataset));
    }
    Ok(super::one_or_all(reports))
}

fn dump_one(host: &Host, name: &str, force: bool, change: &Change) -> Result<Report> {
    let dataset = DataSet::Database(name.to_owned());
    if change.dry_run {
        let databases = perform(host, Stage::List)?;
        let found = databases
            .as_array()
            .into_iter()
            .flatten()
            .any(|database| database.get("name") == Some(&json!(name)));
        return if found {
            Ok(Report::ok(json!({}), format!("{dataset}: would dump\n")))
        } else {
            Err(Error::new(
                pefo_core::ErrorKind::NotFound,
                format!("database {name:?} does not exist"),
            )
            .hint("'pefo db list' shows those that do"))
        };
    }
    let _lock = host.lock(&format!("push-{}", dataset.dir_name()))?;
    let current = match force {
        false => current_dump(host, name)?,
        true => None,
    };
    if let Some((dir, manifest)) = current {
        let text = format!(
            "{dataset}: unchanged; nothing was committed since the dump in {}\n",
            dir.display()
        );
        return Ok(Report::unchanged(dumped(&dir, &manifest), text));
    }
    let scratch = Scratch::new(host, &dataset)?;
    let (dir, manifest) = keep_dump(host, name, scratch.path(), &change.accept)?;
    let text = format!(
        "{dataset}: dumped {} tables with {} rows to {}\n",
        manifest.state.tables(),
        manifest.state.rows(),
        dir.display()
    );
    Ok(Report::ok(dumped(&dir, &manifest), text))
}

fn dumped(dir: &Path, manifest: &DumpManifest) -> Value {
    json!({
        "dir": dir,
        "tables": manifest.state.tables(),
        "rows": manifest.state.rows(),
        "wal": manifest.wal_lsn.to_string(),
    })
}

/// Restores the newest dumps into scratch.
pub(super) fn drill(
    host: &Host,
    command: &str,
    datasets: &[DataSet],
    change: &Change,
) -> Result<Report> {
    let mut reports = Vec::new();
    for dataset in datasets {
        let DataSet::Database(name) = dataset else {
            continue;
        };
        reports.push(super::recorded(
            host,
            command,
            Some(dataset),
            change,
            || pipeline::db::drill(host, name, change),
        ));
    }
    Ok(super::one_or_all(reports))
}

/// Compares the live databases with their newest manifests: one answer for the monitoring, the worst.
pub(super) fn verify(host: &Host, names: &[String]) -> Report {
    let datasets = match super::databases(host, names) {
        Ok(datasets) => datasets,
        Err(error) => return Report::unknown(error),
    };
    let (mut text, mut details, mut errors) = (String::new(), Vec::new(), Vec::new());
    let (mut health, mut differing) = (Health::Ok, 0);
    for dataset in &datasets {
        let DataSet::Database(name) = dataset else {
            continue;
        };
        match pipeline::db::verify(host, name) {
            Ok(compared) => {
                if !compared.verified.differences.is_empty() {
                    health = health.max(Health::Critical);
                    differing += 1;
                }
                text.push_str(&compared.to_string());
                details.push(json!(compared));
            }
            Err(error) => {
                health = health.max(Health::Unknown);
                text.push_str(&format!("{dataset}: {error}\n"));
                errors.push(error.context(dataset));
            }
        }
    }
    let head = format!(
        "PEFO {}: {} of {} databases compared, {differing} differ | 'differing'={differing}\n",
        health.word(),
        details.len(),
        datasets.len()
    );
    let any = !details.is_empty();
    Report::asked(json!({ "databases": details }), head + &text, errors, any).health(health)
}

/// The server's databases, those that stand in no configuration marked.
pub(super) fn list(host: &Host) -> Result<Report> {
    let configured = &settings(host)?.names;
    let mut databases = perform(host, Stage::List)?;
    let mut text = String::new();
    for database in databases.as_array_mut().into_iter().flatten() {
        let field = |name: &str| database.get(name).cloned().unwrap_or(Value::Null);
        let name = field("name").as_str().unwrap_or_default().to_owned();
        let is_configured = configured.contains(&name);
        let mark = match (
            is_configured,
            field("purpose") == json!("ordinary"),
            field("is_template") == json!(true),
        ) {
            (true, _, _) => "kept in step",
            (false, true, false) if name != "postgres" => "NOT in the configuration",
            _ => "",
        };
        text.push_str(&format!(
            "{name:<40} {:>14} bytes  {mark}\n",
            field("size_bytes").to_string()
        ));
        if let Some(database) = database.as_object_mut() {
            database.insert("configured".to_owned(), json!(is_configured));
        }
    }
    for name in configured {
        let exists = databases
            .as_array()
            .into_iter()
            .flatten()
            .any(|database| database.get("name") == Some(&json!(name)));
        if !exists {
            text.push_str(&format!("{name:<40} is configured and does not exist\n"));
        }
    }
    Ok(Report::ok(databases, text))
}

/// Answers one stage on standard output. It is told to stop when the pefo that started it dies: that one
/// held the lock, and the next run must not wait for a restore that nobody wants any more.
pub(super) fn stage() -> ExitCode {
    use rustix::process::{Signal, set_parent_process_death_signal};
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        tracing::warn!(%error, "this stage will outlive a pefo that is killed");
    }
    let answer = match read_request() {
        Ok(request) => answer(&request),
        Err(_) => return ExitCode::FAILURE,
    };
    match std::io::stdout().lock().write_all(&answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Becomes a program that gets SIGTERM when the process `parent`, which started it, dies; pg_dump and
/// pg_restore then cancel their queries and end.
pub(super) fn tied(parent: i32, command: &[OsString]) -> ExitCode {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt as _;
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::FAILURE;
    };
    let program = Path::new(program);
    let failed = match set_parent_process_death_signal(Some(Signal::TERM)) {
        Err(error) => format!("tie {} to its stage: {error}", program.display()),
        // It died before we asked.
        Ok(()) if getppid().map(|pid| pid.as_raw_pid()) != Some(parent) => {
            format!("run {}: its stage is gone", program.display())
        }
        Ok(()) => {
            let error = std::process::Command::new(program).args(arguments).exec();
            format!("{}: {error}", program.display())
        }
    };
    drop(writeln!(std::io::stderr().lock(), "{failed}"));
    // What a shell says of a program that it cannot run.
    ExitCode::from(127)
}
