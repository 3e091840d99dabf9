//! Carrying a plan out.
//!
//! First, what is about to be replaced is kept, durably. Then every new file is written beside its target and
//! synced, and only then each is renamed into its place: a crash leaves the old file or the new one, whole, and
//! a later run does what is left. All goes through directory handles that follow no symlink, since a directory
//! may belong to a service's account. A directory is made under another name, owner and mode included, and
//! then renamed: none ever stands half made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::bundle::Bundle;
use super::path::HostPath;
use super::plan::{FilesPlan, Made, Step};
use crate::disk::{Attributes, Beneath, Disk, Rooted};
use crate::error::{Error, Result};

/// Where what is replaced is kept.
#[derive(Debug, Clone, Copy)]
pub struct Backup<'a> {
    /// A directory that is root's own.
    pub dir: &'a Path,
    /// What this run's copies are called, as a single name.
    pub name: &'a str,
    /// The largest file that is kept, in bytes.
    pub max_bytes: u64,
}

/// Temp files of ours, told from those of others in the same directories.
const TEMP: &str = ".pefo-files-";

/// Does what `plan` says with the contents of `bundle`; gives where what was replaced is kept, where anything
/// was. `root` stands for `/`.
///
/// # Errors
/// `Io`, `Refused` (`files-symlink`) where a directory was replaced by a symlink meanwhile. Each file is then
/// the old one or the new one; run it again.
pub fn apply(
    disk: &Disk,
    root: &Path,
    plan: &FilesPlan,
    bundle: &Bundle,
    backup: &Backup<'_>,
) -> Result<Option<PathBuf>> {
    let rooted = Rooted::open(disk, root)?;
    clear(&rooted, plan).map_err(named)?;
    if plan.is_empty() {
        return Ok(None);
    }
    let kept = keep(disk, root, &plan.steps, backup).map_err(named)?;
    let written = make(&rooted, &plan.directories).and_then(|()| write(&rooted, plan, bundle));
    if let Err(error) = written {
        // Best effort: the run that failed says why; the next one clears what stays.
        drop(clear(&rooted, plan));
        return Err(named(error));
    }
    Ok(kept)
}

/// By the rule's name here.
fn named(error: Error) -> Error {
    match error.rule() {
        Some("spool-symlink") => Error::refused("files-symlink", error.message().to_owned())
            .hint("a directory was replaced by a symlink meanwhile; find out by whom"),
        _ => error,
    }
}

/// Removes what a killed run left beside the files.
fn clear(rooted: &Rooted, plan: &FilesPlan) -> Result<()> {
    const MAX_ENTRIES: usize = 1_000_000;
    let beneath = rooted.reading()?;
    for dir in &plan.around {
        let Ok(entries) = beneath
            .dir(dir.relative())
            .and_then(|dir| dir.entries(MAX_ENTRIES))
        else {
            // It does not exist here, or nothing is written in it.
            continue;
        };
        for (name, _) in entries {
            if name.as_str().starts_with(TEMP) && name.as_str().ends_with(".tmp") {
                rooted.remove_tree(dir.join(name.as_str())?.relative())?;
            }
        }
    }
    Ok(())
}

/// Copies what is about to be replaced.
fn keep(disk: &Disk, root: &Path, steps: &[Step], backup: &Backup<'_>) -> Result<Option<PathBuf>> {
    let replaced: Vec<&Step> = steps
        .iter()
        .filter(|step| step.replaces.is_some())
        .collect();
    if replaced.is_empty() {
        return Ok(None);
    }
    let private = Attributes::mode(0o700);
    // Durable with the sync of the whole file system below.
    disk.create_dir_all_unsynced(backup.dir, &private)?;
    disk.remove_temps(backup.dir)?;
    let part = backup.dir.join(format!(".pefo-{}.tmp", backup.name));
    disk.create_dir_unsynced(&part, &private)?;
    let beneath = Beneath::open(root)?;
    for step in replaced {
        let path = step.path.relative();
        let content = beneath.read(path, backup.max_bytes)?;
        let copy = path.in_dir(&part);
        if let Some(parent) = copy.parent() {
            disk.create_dir_all_unsynced(parent, &private)?;
        }
        // Owner and mode as they were: it can be put back by a mere copy.
        let attributes = Attributes::of(&step.path.below(root))?;
        let mut file = disk.create(&copy, &attributes)?;
        file.write(&content)?;
        file.finish()?;
    }
    let target = backup.dir.join(backup.name);
    disk.sync_filesystem(&part)?;
    disk.rename(&part, &target)?;
    Ok(Some(target))
}

/// Makes directories, each whole at once.
fn make(rooted: &Rooted, directories: &[Made]) -> Result<()> {
    for made in directories {
        let temp = temp_beside(&made.path, "dir")?;
        rooted.create_dir(temp.relative(), 0o700)?;
        let (uid, gid) = made.ids;
        let attributes = Attributes::mode(made.mode).owner(uid, gid);
        rooted.set_attributes(temp.relative(), &attributes)?;
        rooted.sync_dir(Some(temp.relative()))?;
        rooted.rename(temp.relative(), rooted, made.path.relative())?;
    }
    Ok(())
}

/// Writes every file beside its target, then renames them.
fn write(rooted: &Rooted, plan: &FilesPlan, bundle: &Bundle) -> Result<()> {
    let mut files = bundle.files();
    let mut temps = Vec::with_capacity(plan.steps.len());
    for (number, step) in plan.steps.iter().enumerate() {
        // Both are in the index's order.
        let found = files.find(|(file, _)| file.path == step.path);
        let Some((_, content)) = found else {
            return Err(Error::invalid(format!(
                "{} is not in the bundle",
                step.path
            )));
        };
        let temp = temp_beside(&step.path, &number.to_string())?;
        let (uid, gid) = step.ids;
        let attributes = Attributes::mode(step.mode).owner(uid, gid);
        let mut file = rooted.create(temp.relative(), &attributes)?;
        file.write(content)?;
        file.finish_durable()?;
        temps.push(temp);
    }
    for (temp, step) in temps.iter().zip(&plan.steps) {
        rooted.rename(temp.relative(), rooted, step.path.relative())?;
    }
    let named = plan.steps.iter().map(|step| &step.path);
    let named = named.chain(plan.directories.iter().map(|made| &made.path));
    let holders: BTreeSet<Option<HostPath>> = named.map(HostPath::parent).collect();
    let mut holders = holders.iter();
    holders.try_for_each(|holder| rooted.sync_dir(holder.as_ref().map(HostPath::relative)))
}

fn temp_beside(path: &HostPath, what: &str) -> Result<HostPath> {
    let name = format!("{TEMP}{what}.tmp");
    match path.parent() {
        Some(parent) => parent.join(&name),
        None => HostPath::new(format!("/{name}")),
    }
}
