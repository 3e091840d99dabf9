//! What is done with the server, in the account that it lets in.
//!
//! PE's PostgreSQL lets its superuser in by peer authentication only. So a stage is a process of its own, as
//! `run_as` where that is set: pefo starts itself again, hands the stage in on standard input and takes the
//! answer from standard output. Told to stop, a stage takes back what it began.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pefo_core::cancel::Cancel;
use pefo_core::clock::SystemClock;
use pefo_core::launch::{DirectLauncher, Invocation, Launcher};
use pefo_core::progress::Silent;
use pefo_core::{Error, ErrorKind, Result};
use pefo_db::{
    CommitMark, DatabaseName, DumpManifest, DumpOptions, Prepared, Readiness, RestoreOptions,
    RestorePlan, RestoreReport, Server, ServerFacts, ServerTls, Tools,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::settings;
use crate::config::Database;
use crate::host::Host;
use crate::launcher::{AccountLauncher, TiedLauncher};
use crate::pipeline::block_on;
use crate::products;

/// A dump and what may be overruled about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dumped {
    /// The database.
    pub name: String,
    /// The dump.
    pub dir: PathBuf,
    /// Rules overruled.
    pub accept: Vec<String>,
    /// Whether the live database may be this already.
    pub stands: Stands,
}

/// What is known of whether a dump stands in the live database's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stands {
    /// The live database has to be compared.
    Unknown,
    /// This very dump was restored last: where a table is only counted, its count tells that it stands.
    WasRestored,
    /// Another one was restored last: comparing would be in vain.
    Differs,
}

/// One thing to do with the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum Stage {
    /// All databases.
    List,
    /// Whether the server and its programs would do at all.
    Readiness,
    /// Dump into a new directory.
    Dump {
        /// The database.
        name: String,
        /// The directory.
        dir: PathBuf,
        /// Rules overruled.
        accept: Vec<String>,
    },
    /// Whether nothing was committed since a dump.
    IsUnchanged {
        /// The database.
        name: String,
        /// Of that dump.
        mark: CommitMark,
    },
    /// Show what a restore would do.
    Plan(Dumped),
    /// Restore into a shadow, and compare it; nothing where the live database holds that already.
    Prepare(Dumped),
    /// Put a shadow in the live database's place.
    SwapIn(Prepared),
    /// Whether that was done.
    IsSwappedIn(Prepared),
    /// Take it out again.
    SwapBack(Prepared),
    /// Drop it.
    Discard(Prepared),
    /// The databases kept of one, the newest first.
    Kept {
        /// The database.
        name: String,
    },
    /// Bring the newest of them back.
    Rollback {
        /// The database.
        name: String,
    },
    /// Restore into scratch, compare, drop.
    Drill(Dumped),
    /// Compare the live database with a dump's manifest.
    Verify {
        /// The database.
        name: String,
        /// The dump.
        dir: PathBuf,
    },
}

/// A stage and the server it is for, as it crosses to the other account.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
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

/// Does one thing with the server, in a process of its own: as `run_as` where that is set.
///
/// # Errors
/// What the server, its tools or a gate say.
pub fn perform(host: &Host, stage: Stage) -> Result<Value> {
    let mut settings = settings(host)?.clone();
    settings.product_version = settings.product_version.or_else(product_version);
    let launcher: Arc<dyn Launcher> = match &settings.run_as {
        Some(account) => Arc::new(AccountLauncher::new(account, Arc::clone(&host.launcher))),
        None => Arc::clone(&host.launcher),
    };
    let program = std::env::current_exe()
        .map_err(|error| Error::new(ErrorKind::Io, "find this program").with_source(error))?;
    let request = serde_json::to_vec(&Request { settings, stage })
        .map_err(|error| Error::invalid(format!("write the stage: {error}")))?;
    let invocation = Invocation::new(program)
        .arg("db")
        .arg("stage")
        .stdin(request);
    let finished = launcher.run(&invocation)?;
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

/// The version of the product on this host. PuppetDB and open source Puppet keep none in a place of their own,
/// and an agent's version says nothing of a database's schema.
fn product_version() -> Option<String> {
    products::enterprise().map(|version| format!("pe {version}"))
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

/// What preparing came to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Preparation {
    /// The live database holds exactly this.
    Unchanged(Box<RestoreReport>),
    /// A shadow stands.
    Ready(Box<Prepared>),
}

fn serve(request: Request) -> Result<Value> {
    let Request { settings, stage } = request;
    let server = server(&settings);
    let launcher = TiedLauncher::new(Arc::new(DirectLauncher::default()))?;
    let mut tools = Tools::new(Arc::new(launcher));
    if let Some(dir) = &settings.bin_dir {
        tools = tools.bin_dir(dir);
    }
    let cancel = Cancel::new();
    let tools = tools.cancel(cancel.clone());
    block_on(async {
        let mut work = std::pin::pin!(carry_out(stage, &settings, &server, &tools));
        tokio::select! {
            outcome = &mut work => outcome,
            told = told_to_stop() => {
                told?;
                // What was begun is taken back, which takes a moment; a swap that has begun is ended.
                cancel.cancel();
                work.await
            }
        }
    })
}

/// Returns once somebody wants this to end: at the terminal, by kill, or by the death of who started it.
async fn told_to_stop() -> Result<()> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Error::new(ErrorKind::Io, "listen for signals").with_source(error))
    };
    let mut terminated = listen(SignalKind::terminate())?;
    let mut interrupted = listen(SignalKind::interrupt())?;
    let mut hung_up = listen(SignalKind::hangup())?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        _ = hung_up.recv() => {}
    }
    Ok(())
}

fn server(settings: &Database) -> Server {
    let server = if settings.host.starts_with('/') {
        Server::on_socket(settings.host.clone(), settings.user.clone())
    } else {
        Server::on_tcp(settings.host.clone(), settings.user.clone())
    };
    let mut server = server.port(settings.port);
    if let Some(passfile) = &settings.passfile {
        server = server.passfile(passfile);
    }
    if let Some(tls) = &settings.tls {
        server = server.tls(ServerTls::new(&tls.ca_cert, &tls.cert, &tls.key));
    }
    server
}

async fn carry_out(
    stage: Stage,
    settings: &Database,
    server: &Server,
    tools: &Tools,
) -> Result<Value> {
    let jobs = u32::from(settings.jobs);
    match stage {
        Stage::List => value(pefo_db::list(server).await?),
        Stage::Readiness => value(Readiness::gather(server, tools).await?),
        Stage::Dump { name, dir, accept } => {
            let name = DatabaseName::new(name)?;
            let options = DumpOptions::default()
                .jobs(jobs)
                .exact_up_to(settings.exact_up_to.bytes());
            let options = accept.into_iter().fold(options, DumpOptions::accept);
            let options = match &settings.product_version {
                Some(version) => options.product_version(version),
                None => options,
            };
            pefo_db::dump(server, tools, &name, &dir, &options, &SystemClock, &Silent).await?;
            Ok(Value::Null)
        }
        Stage::IsUnchanged { name, mark } => {
            let name = DatabaseName::new(name)?;
            value(pefo_db::is_unchanged_since(server, &name, &mark).await?)
        }
        Stage::Plan(dumped) => {
            let (plan, _) = plan(settings, server, tools, &dumped).await?;
            Ok(json!({ "steps": plan.steps(), "notes": plan.notes, "plan": plan }))
        }
        Stage::Prepare(dumped) => {
            let (plan, options) = plan(settings, server, tools, &dumped).await?;
            let (clock, dir) = (&SystemClock, &dumped.dir);
            let unchanged =
                pefo_db::unchanged(server, tools, &plan, &options, clock, &Silent).await?;
            value(match unchanged {
                Some(report) => Preparation::Unchanged(Box::new(report)),
                None => {
                    let ready = pefo_db::prepare(server, tools, &plan, dir, clock, &Silent).await?;
                    Preparation::Ready(Box::new(ready))
                }
            })
        }
        Stage::SwapIn(prepared) => {
            value(pefo_db::swap_in(server, prepared, &SystemClock, &Silent).await?)
        }
        Stage::IsSwappedIn(prepared) => value(pefo_db::is_swapped_in(server, &prepared).await?),
        Stage::SwapBack(prepared) => {
            value(pefo_db::swap_back(server, &prepared, &SystemClock).await?)
        }
        Stage::Discard(prepared) => value(pefo_db::discard(server, &prepared).await?),
        Stage::Kept { name } => value(pefo_db::kept(server, &DatabaseName::new(name)?).await?),
        Stage::Rollback { name } => {
            value(pefo_db::rollback(server, &DatabaseName::new(name)?, &SystemClock).await?)
        }
        Stage::Drill(dumped) => {
            let (plan, _) = plan(settings, server, tools, &dumped).await?;
            let (clock, dir) = (&SystemClock, &dumped.dir);
            value(pefo_db::drill(server, tools, &plan, dir, clock, &Silent).await?)
        }
        Stage::Verify { name, dir } => {
            let (name, manifest) = (DatabaseName::new(name)?, DumpManifest::read(&dir)?);
            value(pefo_db::verify(server, &name, &manifest, &Silent).await?)
        }
    }
}

async fn plan(
    settings: &Database,
    server: &Server,
    tools: &Tools,
    dumped: &Dumped,
) -> Result<(RestorePlan, RestoreOptions)> {
    let (name, manifest) = (
        DatabaseName::new(dumped.name.clone())?,
        DumpManifest::read(&dumped.dir)?,
    );
    let options = RestoreOptions::default()
        .jobs(u32::from(settings.jobs))
        .keep_previous(settings.keep_previous)
        .was_restored(dumped.stands == Stands::WasRestored)
        .even_if_unchanged(dumped.stands == Stands::Differs);
    let options = match &settings.product_version {
        Some(version) => options.product_version(version),
        None => options,
    };
    let options = dumped
        .accept
        .iter()
        .cloned()
        .fold(options, RestoreOptions::accept);
    let facts = ServerFacts::gather(server, tools, &manifest, &name).await?;
    let plan = pefo_db::plan_restore(&manifest, &facts, &name, &options)?;
    Ok((plan, options))
}

/// A stage's answer as what it is.
///
/// # Errors
/// `Invalid` where it is something else.
pub(super) fn answered<T: DeserializeOwned>(answer: Value) -> Result<T> {
    serde_json::from_value(answer)
        .map_err(|error| Error::invalid(format!("read the stage's answer: {error}")))
}

fn value(answer: impl Serialize) -> Result<Value> {
    serde_json::to_value(answer)
        .map_err(|error| Error::invalid(format!("write the stage's answer: {error}")))
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
