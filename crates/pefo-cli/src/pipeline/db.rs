//! Databases: what pefo-db's dump sends, and how its restore is reached from a verified generation.
//!
//! PE's PostgreSQL lets its superuser in by peer authentication only. With `run_as` the stage that
//! talks to the server runs as that account: pefo starts itself again through setpriv, hands the stage
//! in on standard input and takes the answer from standard output. Root's own files stay root's: the
//! stage writes a dump into a directory made for it, and reads a restore from root's copy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pefo_core::clock::SystemClock;
use pefo_core::disk::{Attributes, Disk};
use pefo_core::generation::Verified;
use pefo_core::generation::outgoing::{Description, Item};
use pefo_core::launch::{DirectLauncher, Invocation, Launcher as _};
use pefo_core::progress::Silent;
use pefo_core::sealing::Recipient;
use pefo_core::{Digest, Error, ErrorKind, RelPath, Result};
use pefo_db::{
    DatabaseName, DumpManifest, DumpOptions, RestoreOptions, Server, ServerFacts, ServerTls, Tools,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::apply::Applied;
use super::block_on;
use super::push::Collected;
use crate::arguments::Change;
use crate::config::Database;
use crate::host::Host;
use crate::launcher::{AccountLauncher, TiedLauncher, account};

/// One thing to do with the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum Stage {
    /// All databases.
    List,
    /// Dump into a new directory.
    Dump {
        /// The database.
        name: String,
        /// The directory.
        dir: PathBuf,
    },
    /// Show what a restore would do.
    Plan {
        /// The database.
        name: String,
        /// The dump.
        dir: PathBuf,
        /// Rules overruled.
        accept: Vec<String>,
    },
    /// Restore.
    Restore {
        /// The database.
        name: String,
        /// The dump.
        dir: PathBuf,
        /// Rules overruled.
        accept: Vec<String>,
    },
}

/// A stage and the server it is for, as it crosses to the other account.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    settings: Database,
    stage: Stage,
}

/// What a stage answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done(Value),
    Failed {
        kind: String,
        message: String,
        rule: Option<String>,
        hint: Option<String>,
    },
}

/// The configured server.
///
/// # Errors
/// `Config` where there is none.
pub fn settings(host: &Host) -> Result<&Database> {
    host.config.database.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Config, "no database is configured")
            .hint("add a [database] section; 'pefo config example' shows one")
    })
}

/// Does one thing with the server, as `run_as` where that is set.
///
/// # Errors
/// What the server, its tools or a gate say.
pub fn perform(host: &Host, stage: Stage) -> Result<Value> {
    let settings = settings(host)?.clone();
    let Some(run_as) = settings.run_as.clone() else {
        return serve(Request { settings, stage });
    };
    let program = std::env::current_exe()
        .map_err(|error| Error::new(ErrorKind::Io, "find this program").with_source(error))?;
    let request = serde_json::to_vec(&Request { settings, stage })
        .map_err(|error| Error::invalid(format!("write the stage: {error}")))?;
    let invocation = Invocation::new(program)
        .arg("db")
        .arg("stage")
        .stdin(request);
    let finished = AccountLauncher::new(run_as, Arc::clone(&host.launcher)).run(&invocation)?;
    let answer: Answer = match serde_json::from_slice(&finished.stdout) {
        Ok(answer) => answer,
        Err(error) => {
            finished.success(&invocation)?;
            return Err(Error::new(
                ErrorKind::Child,
                format!("the database stage answered nonsense: {error}"),
            ));
        }
    };
    match answer {
        Answer::Done(value) => Ok(value),
        Answer::Failed {
            kind,
            message,
            rule,
            hint,
        } => {
            let error = match rule {
                Some(rule) => Error::refused(rule, message),
                None => Error::new(
                    ErrorKind::from_name(&kind).unwrap_or(ErrorKind::Child),
                    message,
                ),
            };
            Err(match hint {
                Some(hint) => error.hint(hint),
                None => error,
            })
        }
    }
}

/// Answers one stage: standard input to standard output, in the other account.
pub fn answer(request: &[u8]) -> Vec<u8> {
    let outcome = serde_json::from_slice::<Request>(request)
        .map_err(|error| Error::invalid(format!("read the stage: {error}")))
        .and_then(serve);
    let answer = match outcome {
        Ok(value) => Answer::Done(value),
        Err(error) => Answer::Failed {
            kind: error.kind().name().to_owned(),
            message: error.message().to_owned(),
            rule: error.rule().map(str::to_owned),
            hint: error.hint_text().map(str::to_owned),
        },
    };
    serde_json::to_vec(&answer).unwrap_or_default()
}

fn serve(request: Request) -> Result<Value> {
    let Request { settings, stage } = request;
    let mut server = if settings.host.starts_with('/') {
        Server::on_socket(settings.host.clone(), settings.user.clone())
    } else {
        Server::on_tcp(settings.host.clone(), settings.user.clone())
    };
    server = server.port(settings.port);
    if let Some(passfile) = &settings.passfile {
        server = server.passfile(passfile);
    }
    if let Some(tls) = &settings.tls {
        server = server.tls(ServerTls::new(&tls.ca_cert, &tls.cert, &tls.key));
    }
    let launcher = TiedLauncher::new(Arc::new(DirectLauncher::default()))?;
    let mut tools = Tools::new(Arc::new(launcher));
    if let Some(dir) = &settings.bin_dir {
        tools = tools.bin_dir(dir);
    }
    let value = block_on(async {
        let options = |accept: Vec<String>| {
            let options = RestoreOptions::default()
                .jobs(u32::from(settings.jobs))
                .keep_previous(settings.keep_previous);
            accept.into_iter().fold(options, RestoreOptions::accept)
        };
        match stage {
            Stage::List => Ok(serde_json::to_value(pefo_db::list(&server).await?)),
            Stage::Dump { name, dir } => {
                let dump = DumpOptions::default().jobs(u32::from(settings.jobs));
                let manifest = pefo_db::dump(
                    &server,
                    &tools,
                    &DatabaseName::new(name)?,
                    &dir,
                    &dump,
                    &SystemClock,
                    &Silent,
                )
                .await?;
                Ok(Ok(
                    json!({ "tables": manifest.state.tables(), "rows": manifest.state.rows() }),
                ))
            }
            Stage::Plan { name, dir, accept } => {
                let (name, manifest) = (DatabaseName::new(name)?, DumpManifest::read(&dir)?);
                let facts = ServerFacts::gather(&server, &tools, &manifest, &name).await?;
                let plan = pefo_db::plan_restore(&manifest, &facts, &name, &options(accept))?;
                Ok(Ok(json!({ "steps": plan.steps(), "plan": plan })))
            }
            Stage::Restore { name, dir, accept } => {
                let name = DatabaseName::new(name)?;
                let report = pefo_db::restore(
                    &server,
                    &tools,
                    &name,
                    &dir,
                    &options(accept),
                    &SystemClock,
                    &Silent,
                )
                .await?;
                Ok(serde_json::to_value(report))
            }
        }
    })?;
    value.map_err(|error| Error::invalid(format!("write the stage's answer: {error}")))
}

/// A directory that the database's account may write (or read, where `readable` only).
fn stage_dir(host: &Host, path: &Path, mode: u32, owns: bool) -> Result<Option<u32>> {
    let Some(run_as) = &settings(host)?.run_as else {
        host.disk.create_dir(path, &Attributes::mode(0o700))?;
        return Ok(None);
    };
    let account = account(&*host.launcher, run_as)?.ok_or_else(|| {
        Error::new(
            ErrorKind::Config,
            format!("database.run_as = {run_as:?}: there is no such account on this host"),
        )
    })?;
    let owner = if owns { account.uid } else { 0 };
    host.disk
        .create_dir(path, &Attributes::mode(mode).owner(owner, account.gid))?;
    Ok(Some(account.gid))
}

/// Dumps a database into `dir` below `scratch` and gives its manifest.
///
/// # Errors
/// What the server or pg_dump says.
pub fn dump(host: &Host, name: &str, scratch: &Path) -> Result<(PathBuf, DumpManifest)> {
    let parent = scratch.join("dump");
    stage_dir(host, &parent, 0o700, true)?;
    let dir = parent.join("files");
    perform(
        host,
        Stage::Dump {
            name: name.to_owned(),
            dir: dir.clone(),
        },
    )?;
    let manifest = DumpManifest::read(&dir)?;
    Ok((dir, manifest))
}

/// A database's dump as a generation's items, sealed.
///
/// # Errors
/// As [`dump`].
pub fn collect(
    host: &Host,
    name: &str,
    scratch: &Path,
    recipients: &[Recipient],
) -> Result<Collected> {
    let (dir, manifest) = dump(host, name, scratch)?;
    let sealed = scratch.join("sealed");
    host.disk.create_dir(&sealed, &Attributes::mode(0o700))?;
    let mut items = Vec::new();
    for (index, file) in files(&dir)?.into_iter().enumerate() {
        let into = sealed.join(index.to_string());
        items.push(Item::sealed_file(
            &host.disk,
            file.clone(),
            0o600,
            &file.in_dir(&dir),
            &into,
            recipients,
        )?);
    }
    let (tables, rows) = (manifest.state.tables(), manifest.state.rows());
    let state = serde_json::to_vec(&manifest.state)
        .map_err(|error| Error::invalid(format!("write the state: {error}")))?;
    let products = BTreeMap::from([(
        "postgresql".to_owned(),
        manifest.server_version_num.to_string(),
    )]);
    Ok(Collected {
        meaning: Digest::of(&state),
        items,
        description: Description {
            products,
            time: host.clock.now(),
            summary: json!({ "tables": tables, "rows": rows, "size_bytes": manifest.size_bytes }),
        },
        text: format!("{tables} tables, {rows} rows"),
    })
}

/// The regular files below a dump's directory, sorted; anything else in it is refused.
fn files(dir: &Path) -> Result<Vec<RelPath>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| Error::io("list", dir, error))? {
        let entry = entry.map_err(|error| Error::io("list", dir, error))?;
        let kind = entry
            .file_type()
            .map_err(|error| Error::io("examine", &entry.path(), error))?;
        if !kind.is_file() {
            return Err(Error::refused(
                "db-dump-entry",
                format!("{} is no regular file", entry.path().display()),
            ));
        }
        files.push(RelPath::below(dir, &entry.path())?);
    }
    files.sort();
    Ok(files)
}

/// Restores a verified generation, or shows the plan.
///
/// # Errors
/// What the server, pg_restore or a gate says; the live database is then what it was.
pub fn apply(
    host: &Host,
    name: &str,
    verified: &Verified,
    change: &Change,
    show_only: bool,
) -> Result<Applied> {
    let scratch = host.state("work").join(format!(
        "restore-{}",
        verified.manifest().dataset.dir_name()
    ));
    host.disk.remove_tree(&scratch)?;
    let outcome = restore_from(host, name, verified, change, show_only, &scratch);
    let cleared = host.disk.remove_tree(&scratch);
    let applied = outcome?;
    cleared?;
    Ok(applied)
}

fn restore_from(
    host: &Host,
    name: &str,
    verified: &Verified,
    change: &Change,
    show_only: bool,
    scratch: &Path,
) -> Result<Applied> {
    let source = verified.files()?;
    let dir = match stage_dir(host, scratch, 0o750, false)? {
        // The account may read this copy, and change nothing in it.
        Some(gid) => {
            lend(&host.disk, source, scratch, gid)?;
            scratch
        }
        None => source,
    };
    let (name, dir, accept) = (name.to_owned(), dir.to_owned(), change.accept.clone());
    if show_only {
        let details = perform(host, Stage::Plan { name, dir, accept })?;
        let steps = details
            .get("steps")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let text = steps
            .filter_map(Value::as_str)
            .map(|step| format!("{step}\n"))
            .collect();
        return Ok(Applied {
            details,
            text,
            errors: Vec::new(),
            changed: true,
        });
    }
    let details = perform(host, Stage::Restore { name, dir, accept })?;
    let field = |name: &str| details.get(name).cloned().unwrap_or_default();
    let changed = field("outcome") != json!("unchanged");
    let unreachable = details
        .pointer("/swap/unreachable_ms")
        .map(|ms| format!(", unreachable for {ms} ms"))
        .unwrap_or_default();
    let text = format!(
        "restored {} tables with {} rows{unreachable}\n",
        field("tables"),
        field("rows")
    );
    Ok(Applied {
        details,
        text,
        errors: Vec::new(),
        changed,
    })
}

/// Copies a dump for the database's account to read.
fn lend(disk: &Disk, from: &Path, to: &Path, gid: u32) -> Result<()> {
    for file in files(from)? {
        let bytes_from = file.in_dir(from);
        let mut source = std::fs::File::open(&bytes_from)
            .map_err(|error| Error::io("open", &bytes_from, error))?;
        let mut copy = disk.create(&file.in_dir(to), &Attributes::mode(0o640).owner(0, gid))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            use std::io::Read as _;
            let count = source
                .read(&mut buffer)
                .map_err(|error| Error::io("read", &bytes_from, error))?;
            if count == 0 {
                break;
            }
            copy.write(buffer.get(..count).unwrap_or_default())?;
        }
        copy.finish()?;
    }
    Ok(())
}

/// The request on standard input, at most 1 MiB.
///
/// # Errors
/// `Io`.
pub fn read_request() -> Result<Vec<u8>> {
    let path = Path::new("/dev/stdin");
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(1 << 20)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read", path, error))?;
    Ok(bytes)
}

/// A dump that stays on this host, replacing the one before.
///
/// # Errors
/// `Io`, or as [`dump`].
pub fn keep_dump(host: &Host, name: &str, scratch: &Path) -> Result<(PathBuf, DumpManifest)> {
    let (dir, manifest) = dump(host, name, scratch)?;
    let kept = host
        .state("exports")
        .join(pefo_core::generation::DataSet::Database(name.to_owned()).dir_name());
    let part = host.state("exports").join(".pefo-dump.tmp");
    host.disk.remove_tree(&part)?;
    host.disk
        .create_dir_unsynced(&part, &Attributes::mode(0o700))?;
    lend(&host.disk, &dir, &part, 0)?;
    host.disk.sync_filesystem(&part)?;
    host.disk.remove_tree(&kept)?;
    host.disk.rename(&part, &kept)?;
    Ok((kept, manifest))
}
