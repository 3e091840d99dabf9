//! `pefo check`: proves that this host can do its part, each point by name; answers as a monitoring
//! plugin does.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use pefo_core::generation::{Accepted, DataSet};
use pefo_core::launch::Invocation;
use pefo_core::reign::Role;
use pefo_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::init::{armed_originals, authorized_keys};
use crate::arguments::Change;
use crate::code::manager::Manager;
use crate::code::read;
use crate::host::Host;
use crate::launcher::account;
use crate::outcome::{Health, Report};
use crate::pipeline;
use crate::pipeline::db::Stage;
use crate::reigns::aftermath;
use pefo_nc::puppetdb::ExportedResources;
use pefo_transport::Purpose;

/// One point.
struct Point {
    name: &'static str,
    outcome: Result<String>,
    /// How bad a failure is.
    weight: Health,
}

/// Checks everything that this host's role needs.
pub(super) fn run(host: &Host) -> Report {
    let mut points = Vec::new();
    let mut add = |name, weight, outcome| {
        points.push(Point {
            name,
            outcome,
            weight,
        })
    };
    let station = host.station();
    let role = station.as_ref().ok().map(|(station, _)| station.role);
    let in_force = station.and_then(|(station, _)| {
        let reign = host.require(station.role)?;
        Ok(format!("{} in epoch {}", station.role, reign.epoch))
    });
    add("reign", Health::Critical, in_force);
    add("state", Health::Critical, state(host));
    add("original", Health::Critical, original(host));
    add("spool", Health::Critical, spool(host));
    add("login", Health::Warning, authorized(host));
    add("sshd", Health::Warning, sshd(host));
    if role == Some(Role::Active) {
        add("peer", Health::Critical, reach(host));
    }
    add(
        "ca",
        if role == Some(Role::Active) {
            Health::Critical
        } else {
            Health::Warning
        },
        ca(host),
    );
    if host.config.classifier.is_some() {
        add("classifier", Health::Critical, classifier(host));
    }
    if host.config.files.is_some() {
        add("files", Health::Warning, files(host, role));
    }
    if host.config.database.is_some() {
        add("database", Health::Critical, database(host));
    }
    if host.config.code.is_some() {
        add("code", Health::Warning, code(host));
    }
    if let Some(settings) = &host.config.puppetdb {
        let exported = aftermath::count_exported(settings);
        let told = |exported: ExportedResources| {
            format!("{}: {} exported resources", settings.url, exported.total())
        };
        add("puppetdb", Health::Warning, exported.map(told));
    }
    let health = points
        .iter()
        .filter(|point| point.outcome.is_err())
        .map(|point| point.weight)
        .max()
        .unwrap_or(Health::Ok);
    let failed = points.iter().filter(|point| point.outcome.is_err()).count();
    let mut text = format!(
        "PEFO {}: {count} points checked, {failed} failed | 'failed'={failed} 'points'={count}\n",
        health.word(),
        count = points.len()
    );
    for point in &points {
        match &point.outcome {
            Ok(what) => text.push_str(&format!("  ok       {:<12} {what}\n", point.name)),
            Err(error) => {
                text.push_str(&format!(
                    "  {:<8} {:<12} {error}\n",
                    point.weight.word().to_lowercase(),
                    point.name
                ));
                if let Some(hint) = error.hint_text() {
                    text.push_str(&format!("           {:<12} hint: {hint}\n", ""));
                }
            }
        }
    }
    let details = points
        .iter()
        .map(|point| match &point.outcome {
            Ok(what) => json!({ "point": point.name, "ok": true, "message": what }),
            Err(error) => json!({ "point": point.name, "ok": false, "message": error.to_string(), "hint": error.hint_text() }),
        })
        .collect::<Vec<_>>();
    Report::ok(json!(details), text).health(health)
}

fn bad(message: String, hint: &'static str) -> Error {
    Error::new(ErrorKind::Config, message).hint(hint)
}

/// Root's own: keys closed to everybody else.
fn state(host: &Host) -> Result<String> {
    for path in [
        host.state("keys"),
        host.state("keys/signing.key"),
        host.state("keys/sealing.key"),
        host.state("keys/ssh"),
    ] {
        let meta = std::fs::metadata(&path).map_err(|error| {
            Error::io("examine", &path, error).hint("run it as root, after 'pefo init'")
        })?;
        if meta.uid() != 0 || meta.permissions().mode() & 0o077 != 0 {
            return Err(bad(
                format!(
                    "{} is open to others (owner {}, mode {:o})",
                    path.display(),
                    meta.uid(),
                    meta.permissions().mode() & 0o7777
                ),
                "chown root and chmod go-rwx it; if others may have read it, pair again with new keys",
            ));
        }
    }
    Ok(format!(
        "{} is root's own",
        host.config.site.state_dir.display()
    ))
}

fn original(host: &Host) -> Result<String> {
    match armed_originals(host).as_slice() {
        [] => Ok("no script of the original module is armed".to_owned()),
        found => Err(bad(
            format!(
                "the original module is still at work: {}",
                found
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            "run 'pefo init … --retire-original'; it renames, so that it can be undone",
        )),
    }
}

/// The spool belongs to the transfer account and to nobody else.
fn spool(host: &Host) -> Result<String> {
    let site = &host.config.site;
    let found = account(&*host.launcher, &site.transfer_user)?.ok_or_else(|| {
        bad(
            format!("there is no account {}", site.transfer_user),
            "run 'pefo init'",
        )
    })?;
    let meta = std::fs::metadata(&site.spool_dir)
        .map_err(|error| Error::io("examine", &site.spool_dir, error).hint("run 'pefo init'"))?;
    if meta.uid() != found.uid || meta.permissions().mode() & 0o022 != 0 {
        return Err(bad(
            format!(
                "{} is not writable by {} alone",
                site.spool_dir.display(),
                site.transfer_user
            ),
            "chown it to the transfer account and chmod go-w it",
        ));
    }
    let stat = rustix::fs::statvfs(&site.spool_dir)
        .map_err(|error| Error::io("examine", &site.spool_dir, error.into()))?;
    Ok(format!(
        "{}, {} MiB free",
        site.spool_dir.display(),
        stat.f_bavail * stat.f_frsize / (1 << 20)
    ))
}

/// Every paired peer's key stands in a file that is root's.
fn authorized(host: &Host) -> Result<String> {
    let path = authorized_keys(host)?;
    let text = String::from_utf8_lossy(&pefo_core::disk::read_capped(&path, 1 << 20)?).into_owned();
    let meta = std::fs::metadata(&path).map_err(|error| Error::io("examine", &path, error))?;
    if meta.uid() != 0 {
        return Err(bad(
            format!("{} is not root's", path.display()),
            "the transfer account could lift its own restriction: chown root",
        ));
    }
    for peer in host.peers()? {
        let line = text.lines().find(|line| line.contains(&peer.ssh_key));
        if !line.is_some_and(|line| line.starts_with("restrict,command=\"")) {
            return Err(bad(
                format!(
                    "{} does not bind {}'s key to 'pefo receive'",
                    path.display(),
                    peer.certname
                ),
                "run 'pefo init' again with the peer's line",
            ));
        }
    }
    Ok(format!("{} binds every peer's key", path.display()))
}

/// What sshd's configuration would forbid, as sshd itself tells it.
fn sshd(host: &Host) -> Result<String> {
    if host.config.site.authorized_keys.is_some() {
        return Ok(
            "the keys' file is configured; the sshd that reads it is not looked at".to_owned(),
        );
    }
    let user = &host.config.site.transfer_user;
    let invocation = Invocation::new("sshd")
        .arg("-T")
        .arg("-C")
        .arg(format!("user={user},host=localhost,addr=127.0.0.1"));
    let finished = host.launcher.run(&invocation)?.success(&invocation)?;
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    let setting = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned))
    };
    if setting("pubkeyauthentication").as_deref() == Some("no") {
        return Err(bad(
            "sshd's PubkeyAuthentication is no".to_owned(),
            "allow it for the transfer account with a Match block",
        ));
    }
    for (name, allows) in [
        ("allowusers", true),
        ("denyusers", false),
        ("allowgroups", true),
    ] {
        if let Some(value) = setting(name)
            && value.split(' ').any(|entry| entry == user) != allows
        {
            return Err(bad(
                format!("sshd's {name} ({value}) keeps {user} out"),
                "name the transfer account there",
            ));
        }
    }
    if let Some(command) = setting("forcecommand").filter(|command| command != "none") {
        return Err(bad(
            format!("sshd's ForceCommand ({command}) replaces 'pefo receive'"),
            "exempt the transfer account with a Match block",
        ));
    }
    Ok(format!("sshd lets {user} in by key"))
}

/// A real login and handshake with every peer.
fn reach(host: &Host) -> Result<String> {
    let me = host.introduction()?;
    let mut seen = Vec::new();
    for peer in host.peers()? {
        let connection = pipeline::session::connect(host, &me, &peer, &Purpose::acks())
            .map_err(|error| error.context(&peer.certname))?;
        seen.push(format!(
            "{} answers ({})",
            peer.certname,
            connection.peer().tool
        ));
        connection.close()?;
    }
    Ok(seen.join(", "))
}

fn ca(host: &Host) -> Result<String> {
    let layout = pipeline::ca::layout(host, &Change::default())?;
    let snapshot = pipeline::ca::snapshot(host, &layout, pefo_ca::Exclusions::new())?;
    snapshot.require_whole()?;
    let summary = snapshot.summary();
    Ok(format!(
        "{}: {} certificates, {} revocations",
        layout.cadir().display(),
        summary.certificates,
        summary.revocations
    ))
}

fn classifier(host: &Host) -> Result<String> {
    let client = pipeline::nc::client(host)?;
    let tree = pipeline::block_on(client.groups())?;
    Ok(format!("{}: {} groups", client.url(), tree.len()))
}

/// What is listed is there; on the passive once something was applied.
fn files(host: &Host, role: Option<Role>) -> Result<String> {
    let (preset, list) = pipeline::files::list(host)?;
    let (told, missing) = if role == Some(Role::Active) {
        let snapshot = pipeline::files::read(host)?;
        let index = snapshot.bundle.index();
        let told = format!("{} files, {} bytes", index.files.len(), index.bytes());
        (told, snapshot.missing)
    } else {
        let accepted = Accepted::load(&host.record_path("accepted", &DataSet::Files))?;
        if accepted.is_none_or(|accepted| accepted.applied.is_none()) {
            return Ok(format!("preset {}: nothing was applied yet", preset.name()));
        }
        let missing = pipeline::files::missing(&list);
        (
            format!("{} paths are listed", list.entries().len()),
            missing,
        )
    };
    if missing.is_empty() {
        return Ok(format!("preset {}: {told}", preset.name()));
    }
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    Err(bad(
        format!("wanted and not there: {}", missing.join(", ")),
        "where this site needs none of it, name it in files.exclude",
    ))
}

/// The program that deploys is there, and the directory that it deploys to.
fn code(host: &Host) -> Result<String> {
    let manager = Manager::of(host)?;
    let program = manager.ready()?;
    let dir = read::directory(host)?;
    std::fs::read_dir(&dir).map_err(|error| {
        Error::io("list", &dir, error)
            .hint("set environments in the [code] section, or run 'pefo code deploy' once")
    })?;
    let count = read::environments(host)?.len();
    Ok(format!(
        "{program}; {}: {count} environments",
        dir.display()
    ))
}

fn database(host: &Host) -> Result<String> {
    let settings = pipeline::db::settings(host)?;
    let found = pipeline::db::perform(host, Stage::List)?;
    let names: Vec<&str> = found
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|database| database.get("name")?.as_str())
        .collect();
    let missing: Vec<&String> = settings
        .names
        .iter()
        .filter(|name| !names.contains(&name.as_str()))
        .collect();
    let is_active = host.require(Role::Active).is_ok();
    if is_active && !missing.is_empty() {
        return Err(bad(
            format!("configured and not there: {missing:?}"),
            "'pefo db list' shows what the server has",
        ));
    }
    Ok(format!(
        "{} of {} configured databases are there",
        settings.names.len() - missing.len(),
        settings.names.len()
    ))
}
