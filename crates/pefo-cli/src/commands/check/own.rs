//! What is root's own on this host: its reign, its keys, whatever else is secret, and no script of the original's.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use pefo_core::{Error, Result};

use super::super::init::armed_originals;
use super::point::{Point, bad};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Health;
use crate::pipeline;

/// Role and reign, and that the reign is in force.
pub(super) fn reign(host: &Host) -> Point {
    let in_force = host.station().and_then(|(station, _)| {
        let reign = host.require(station.role)?;
        Ok(format!("{} in epoch {}", station.role, reign.epoch))
    });
    Point::of("reign", Health::Critical, in_force)
}

/// Root's own: keys closed to everybody else.
pub(super) fn state(host: &Host) -> Point {
    let closed = || {
        for path in ["keys", "keys/signing.key", "keys/sealing.key", "keys/ssh"] {
            let path = host.state(path);
            let meta = std::fs::metadata(&path).map_err(|error| {
                Error::io("examine", &path, error).hint("run it as root, after 'pefo init'")
            })?;
            if meta.uid() != 0 || meta.mode() & 0o077 != 0 {
                return Err(bad(
                    format!("{} is open to others ({})", path.display(), shown(&meta)),
                    "chown root and chmod go-rwx it; if others may have read it, pair again with new keys",
                ));
            }
        }
        Ok(format!(
            "{} is root's own",
            host.config.site.state_dir.display()
        ))
    };
    Point::of("state", Health::Critical, closed())
}

fn shown(meta: &Metadata) -> String {
    format!("owner {}, mode {:o}", meta.uid(), meta.mode() & 0o7777)
}

/// The original module's scripts are not armed.
pub(super) fn original(host: &Host) -> Point {
    let found = armed_originals(host);
    let outcome = if found.is_empty() {
        Ok("no script of the original module is armed".to_owned())
    } else {
        let found: Vec<String> = found
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Err(bad(
            format!("the original module is still at work: {}", found.join(", ")),
            "run 'pefo init … --retire-original'; it renames, so that it can be undone",
        ))
    };
    Point::of("original", Health::Critical, outcome)
}

/// Whom a file is closed to.
#[derive(Debug, Clone, Copy)]
enum Closed {
    /// Nobody but the owner reads or writes it.
    ToAll,
    /// Who is neither the owner nor of its group does neither: as Puppet keeps its keys.
    ToOthers,
}

/// The configuration is root's to write, and what is secret is nobody else's to read.
pub(super) fn permissions(host: &Host) -> Point {
    let mut point = Point::new("permissions");
    if let Err(error) = written_by_root(&host.config_path) {
        point.fault(Health::Critical, error);
    }
    let secrets = secrets(host);
    for (path, closed) in &secrets {
        if let Err(error) = closed_to(path, *closed) {
            point.fault(Health::Critical, error);
        }
    }
    if let Ok(layout) = pipeline::ca::layout(host, &Change::default())
        && let Ok(key) = layout.key_path()
    {
        point.found(Health::Critical, ca_key(&key, layout.owner().0));
    }
    point.say(format!(
        "{} is root's to write, {} configured secrets are closed",
        host.config_path.display(),
        secrets.len()
    ));
    point
}

/// The files that the configuration names and that are secret.
fn secrets(host: &Host) -> Vec<(&Path, Closed)> {
    let config = &host.config;
    let (classifier, database) = (config.classifier.as_ref(), config.database.as_ref());
    let of_all = [
        classifier.and_then(|classifier| classifier.token_file.as_deref()),
        // libpq takes no other.
        database.and_then(|database| database.passfile.as_deref()),
    ];
    let of_others = [
        classifier.and_then(|classifier| classifier.key.as_deref()),
        config
            .puppetdb
            .as_ref()
            .and_then(|puppetdb| puppetdb.key.as_deref()),
        database.and_then(|database| Some(database.tls.as_ref()?.key.as_path())),
    ];
    let of_all = of_all
        .into_iter()
        .flatten()
        .map(|path| (path, Closed::ToAll));
    let of_others = of_others.into_iter().flatten();
    of_all
        .chain(of_others.map(|path| (path, Closed::ToOthers)))
        .collect()
}

fn examine(path: &Path) -> Result<Metadata> {
    std::fs::metadata(path).map_err(|error| {
        Error::io("examine", path, error)
            .hint("the configuration names it: put it there, or mend the path")
    })
}

/// Whoever writes the configuration has root run programs.
fn written_by_root(path: &Path) -> Result<()> {
    let writable = |path: &Path, meta: &Metadata| {
        // In a sticky directory nobody renames another's file.
        let is_sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
        if meta.uid() == 0 && (meta.mode() & 0o022 == 0 || is_sticky) {
            return Ok(());
        }
        let message = format!(
            "{} can be written by others than root ({})",
            path.display(),
            shown(meta)
        );
        let hint = format!(
            "chown root: {path} && chmod go-w {path}",
            path = path.display()
        );
        Err(bad(message, hint))
    };
    writable(path, &examine(path)?)?;
    match path.parent() {
        Some(parent) => writable(parent, &examine(parent)?),
        None => Ok(()),
    }
}

fn closed_to(path: &Path, closed: Closed) -> Result<()> {
    let meta = examine(path)?;
    let open = match closed {
        Closed::ToAll => 0o077,
        Closed::ToOthers => 0o007,
    };
    if meta.mode() & open == 0 {
        return Ok(());
    }
    let (who, change) = match closed {
        Closed::ToAll => ("others", "go-rwx"),
        Closed::ToOthers => ("everybody", "o-rwx"),
    };
    let message = format!("{} is open to {who} ({})", path.display(), shown(&meta));
    Err(bad(
        message,
        format!(
            "chmod {change} {}; if others may have read it, make a new one",
            path.display()
        ),
    ))
}

/// Who has the CA's key signs what they like.
fn ca_key(path: &Path, owner: u32) -> Result<String> {
    let meta = examine(path)?;
    if meta.mode() & 0o027 != 0 || ![0, owner].contains(&meta.uid()) {
        let message = format!(
            "the CA's key {} is open to others ({})",
            path.display(),
            shown(&meta)
        );
        return Err(bad(
            message,
            format!(
                "chmod 640 {path} and chown it to the CA's account; if others may have read it, the CA is no secret any more: set up a new one",
                path = path.display()
            ),
        ));
    }
    Ok(format!("{} is closed", path.display()))
}

#[cfg(test)]
mod tests {
    use pefo_core::disk::{Attributes, Disk};

    use super::*;

    fn file(mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        Disk::new()
            .publish(&path, b"secret", &Attributes::mode(mode))
            .unwrap();
        (dir, path)
    }

    fn set(path: &Path, mode: u32) {
        Disk::new()
            .set_attributes(path, &Attributes::mode(mode))
            .unwrap();
    }

    #[test]
    fn a_secret_is_open_where_those_may_read_it_that_should_not() {
        for (mode, closed, fits) in [
            (0o600, Closed::ToAll, true),
            (0o640, Closed::ToAll, false),
            (0o640, Closed::ToOthers, true),
            (0o644, Closed::ToOthers, false),
            (0o602, Closed::ToOthers, false),
        ] {
            let (_dir, path) = file(mode);
            assert_eq!(
                closed_to(&path, closed).is_ok(),
                fits,
                "{mode:o} {closed:?}"
            );
        }
        let gone = closed_to(Path::new("/nonexistent/token"), Closed::ToAll).unwrap_err();
        assert!(gone.hint_text().is_some());
    }

    #[test]
    fn the_cas_key_may_be_its_groups_to_read_and_nobody_elses() {
        let owner = rustix::process::geteuid().as_raw();
        for (mode, fits) in [(0o600, true), (0o640, true), (0o660, false), (0o644, false)] {
            let (_dir, path) = file(mode);
            assert_eq!(ca_key(&path, owner).is_ok(), fits, "{mode:o}");
        }
    }

    #[test]
    fn a_configuration_that_others_can_write_is_told_with_what_to_type() {
        if !rustix::process::geteuid().is_root() {
            return pefo_testkit::skip::announce(&pefo_testkit::skip::Skip::new(
                "needs-root",
                "root's own files need root",
            ));
        }
        let (_dir, path) = file(0o644);
        assert!(written_by_root(&path).is_ok());
        let (dir, path) = file(0o664);
        let error = written_by_root(&path).unwrap_err();
        assert!(error.hint_text().unwrap().contains("chmod go-w"));
        set(&path, 0o644);
        set(dir.path(), 0o777);
        assert!(written_by_root(&path).is_err(), "it could be replaced");
        set(dir.path(), 0o1777);
        assert!(written_by_root(&path).is_ok());
    }
}
