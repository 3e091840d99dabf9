//! Databases: what pefo-db's dump sends, and how its restore is reached from a verified generation.
//!
//! Everything that talks to the server is a [`Stage`], which may run in another account ([`stage`](mod@stage));
//! root's own files stay root's: a stage writes a dump into a directory made for it, and reads a restore from
//! root's copy, lent for reading. Services are root's to stop ([`restore`](mod@restore)).

mod dump;
mod proof;
mod ready;
mod restore;
mod stage;

use std::path::Path;

use pefo_core::disk::{Attributes, Disk};
use pefo_core::generation::Verified;
use pefo_core::{Error, ErrorKind, RelPath, Result};

use crate::config::Database;
use crate::host::Host;
use crate::launcher::account;

pub use dump::{collect, current_dump, keep_dump, unchanged_since};
pub use proof::{Compared, compare, drill, try_out, verify};
pub use ready::{Received, readiness, received_fits};
pub use restore::{apply, finish_interrupted, rollback};
pub use stage::{Stage, answer, perform, read_request};

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

/// A new directory for the database's account: its own where it `owns` it, else root's, for its group to read.
/// Gives that group; nothing where pefo itself does all with the server.
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

/// A verified dump where the database's account may read it, and change nothing.
fn lent<T>(
    host: &Host,
    verified: &Verified,
    what: &str,
    read: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    let name = verified.manifest().dataset.dir_name();
    let scratch = host.state("work").join(format!("{what}-{name}"));
    host.disk.remove_tree(&scratch)?;
    let source = verified.files()?;
    let outcome = match stage_dir(host, &scratch, 0o750, false)? {
        Some(gid) => lend(&host.disk, source, &scratch, gid).and_then(|()| read(&scratch)),
        None => read(source),
    };
    let cleared = host.disk.remove_tree(&scratch);
    let outcome = outcome?;
    cleared?;
    Ok(outcome)
}

/// Lets the database's account read a dump: by a second name of each file, which costs nothing; the first
/// lies where that account cannot come. Copies where the two are on different disks.
fn lend(disk: &Disk, from: &Path, to: &Path, gid: u32) -> Result<()> {
    let readable = Attributes::mode(0o640).owner(0, gid);
    for file in files(from)? {
        let (existing, new) = (file.in_dir(from), file.in_dir(to));
        match disk.hard_link(&existing, &new) {
            Ok(()) => disk.set_attributes(&new, &readable)?,
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::CrossesDevices) => {
                copy(disk, &existing, &new, &readable)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a dump that the database's account wrote root's own, and moves it.
fn take(disk: &Disk, from: &Path, to: &Path) -> Result<()> {
    let (mine, private) = (
        Attributes::mode(0o600).owner(0, 0),
        Attributes::mode(0o700).owner(0, 0),
    );
    // The directory first: from then on the account reaches nothing in it.
    disk.set_attributes(from, &private)?;
    for file in files(from)? {
        disk.set_attributes(&file.in_dir(from), &mine)?;
    }
    match disk.rename(from, to) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::CrossesDevices) => {
            disk.create_dir_unsynced(to, &private)?;
            files(from)?
                .iter()
                .try_for_each(|file| copy(disk, &file.in_dir(from), &file.in_dir(to), &mine))
        }
        moved => moved,
    }
}

fn copy(disk: &Disk, from: &Path, to: &Path, attributes: &Attributes) -> Result<()> {
    use std::io::Read as _;
    let mut source = std::fs::File::open(from).map_err(|error| Error::io("open", from, error))?;
    let mut copy = disk.create(to, attributes)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = source
            .read(&mut buffer)
            .map_err(|error| Error::io("read", from, error))?;
        if count == 0 {
            return copy.finish();
        }
        copy.write(buffer.get(..count).unwrap_or_default())?;
    }
}
