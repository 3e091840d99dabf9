//! The classifier, the databases and PuppetDB: that they can be reached with the rights that are needed.

use pefo_core::generation::{Accepted, DataSet};
use pefo_core::reign::Role;
use pefo_core::{Error, ErrorKind, Result};
use pefo_db::Readiness;
use pefo_nc::puppetdb::ExportedResources;

use super::point::{Point, bad};
use crate::code::manager::Manager;
use crate::code::read;
use crate::host::Host;
use crate::outcome::Health;
use crate::pipeline;
use crate::pipeline::db::Stage;
use crate::reigns::aftermath;

/// A point for each of them that is configured.
pub(super) fn points(host: &Host, role: Option<Role>) -> Vec<Point> {
    let config = &host.config;
    let mut points = Vec::new();
    if config.classifier.is_some() {
        points.push(Point::of("classifier", Health::Critical, classifier(host)));
    }
    if config.files.is_some() {
        points.push(Point::of("files", Health::Warning, files(host, role)));
    }
    if config.database.is_some() {
        points.push(database(host, role));
    }
    if config.code.is_some() {
        points.push(Point::of("code", Health::Warning, code(host)));
    }
    if let Some(settings) = &config.puppetdb {
        let exported = aftermath::count_exported(settings);
        let told = |exported: ExportedResources| {
            format!("{}: {} exported resources", settings.url, exported.total())
        };
        points.push(Point::of("puppetdb", Health::Warning, exported.map(told)));
    }
    points
}

/// Whether this host is let in and may read. Who may import cannot be asked without importing; on the spare it is
/// the same right (node_groups:edit_rules and those beside it), which 'pefo nc diff' does not need.
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

fn database(host: &Host, role: Option<Role>) -> Point {
    let mut point = Point::new("database");
    let ready = match pipeline::db::readiness(host) {
        Ok(ready) => ready,
        Err(error) => {
            point.fault(Health::Critical, error);
            return point;
        }
    };
    let rights = match role {
        Some(Role::Passive) => ready.check_for_restore(),
        _ => ready.check_for_dump(),
    };
    if let Err(error) = rights {
        point.fault(Health::Critical, error);
    }
    point.found(Health::Critical, there(host, role));
    point.say(format!(
        "PostgreSQL {}, as {}{}",
        ready.server_major(),
        ready.role,
        if ready.is_superuser {
            ", a superuser"
        } else {
            ""
        }
    ));
    if role == Some(Role::Passive) {
        let names = host
            .config
            .database
            .iter()
            .flat_map(|database| &database.names);
        for name in names {
            received(host, &mut point, &ready, name);
        }
    }
    point
}

/// The configured databases are there.
fn there(host: &Host, role: Option<Role>) -> Result<String> {
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
    if role == Some(Role::Active) && !missing.is_empty() {
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

/// What was received last would pass the gates of a restore: roles, extensions, rights, room, versions.
fn received(host: &Host, point: &mut Point, ready: &Readiness, name: &str) {
    let received = match pipeline::db::received_fits(host, name) {
        Ok(None) => return,
        Ok(Some(received)) => received,
        // Another check asks just now.
        Err(error) if error.kind() == ErrorKind::Locked => return,
        Err(error) => return point.fault(Health::Warning, error.context(format!("db:{name}"))),
    };
    let here = ready.server_major();
    if here > received.server_major {
        let message = format!(
            "db:{name}: dumps come from PostgreSQL {}, this server is {here}: after a failover they would not load there",
            received.server_major
        );
        point.fault(
            Health::Warning,
            bad(message, "upgrade PostgreSQL on the active too; the spare first, then the active, is the right order"),
        );
    }
    match received.refused {
        Some(error) => point.fault(Health::Critical, error.context(format!("db:{name}"))),
        None => point.say(format!("db:{name} can be restored")),
    }
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
