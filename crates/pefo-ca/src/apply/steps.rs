//! The steps of a plan, on disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use pefo_core::clock::Timestamp;
use pefo_core::disk::{Attributes, Disk, read_capped};
use pefo_core::{Error, Result};

use crate::layout::CaLayout;
use crate::plan::Action;
use crate::serial;
use crate::snapshot::MAX_FILE_BYTES;

/// Makes the directories of a CA where they are missing and clears what a killed run left in them.
pub(super) fn tidy(disk: &Disk, layout: &CaLayout) -> Result<()> {
    for sub in ["", "signed", "requests"] {
        let dir = layout.cadir().join(sub);
        let (uid, gid) = layout.owner();
        disk.create_dir(&dir, &Attributes::mode(0o750).owner(uid, gid))?;
        disk.remove_temps(&dir)?;
    }
    Ok(())
}

/// How many actions from the first on are of one kind: files put or removed in one subdirectory. They may
/// share their syncs, since it is the order between kinds that counts.
pub(super) fn alike(actions: &[Action]) -> usize {
    let kind = |action: &Action| match action {
        Action::Put { path, .. } => Some((true, path.parent()?)),
        Action::Remove { path, .. } => Some((false, path.parent()?)),
        Action::Serial { .. } | Action::Inventory { .. } => None,
    };
    let Some(first) = actions.first().and_then(kind) else {
        return actions.len().min(1);
    };
    let same = |action: &&Action| kind(action).as_ref() == Some(&first);
    actions.iter().take_while(same).count()
}

/// Carries out actions of one kind.
pub(super) fn perform(
    disk: &Disk,
    layout: &CaLayout,
    actions: &[Action],
    now: Timestamp,
) -> Result<()> {
    match actions {
        [Action::Serial { to, expects, .. }] => {
            set_counter(disk, layout, *to, expects.as_ref(), now)
        }
        [
            Action::Inventory {
                expects_bytes,
                keeps_bytes,
                rows,
            },
        ] => add_rows(disk, layout, (*expects_bytes, *keeps_bytes), rows, now),
        [Action::Remove { .. }, ..] => remove_all(disk, layout, actions),
        _ => put_all(disk, layout, actions, now),
    }
}

fn set_counter(
    disk: &Disk,
    layout: &CaLayout,
    to: u32,
    expects: Option<&Arc<[u8]>>,
    now: Timestamp,
) -> Result<()> {
    let path = layout.cadir().join("serial");
    expect(&path, expects)?;
    let text = serial::format_file(to).map_err(|error| error.in_file(&path))?;
    disk.publish(
        &path,
        text.as_bytes(),
        &layout.attributes(&path, 0o644).mtime(now.into()),
    )
}

/// Appends in place, after a torn tail was cut off.
fn add_rows(
    disk: &Disk,
    layout: &CaLayout,
    (expects_bytes, keeps_bytes): (Option<u64>, u64),
    rows: &[String],
    now: Timestamp,
) -> Result<()> {
    let path = layout.cadir().join("inventory.txt");
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let length = match std::fs::symlink_metadata(&path) {
        Ok(meta) => Some(meta.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("examine", &path, error)),
    };
    if length != expects_bytes {
        return Err(moved(&path));
    }
    if length.is_none() {
        return disk.publish(
            &path,
            text.as_bytes(),
            &layout.attributes(&path, 0o640).mtime(now.into()),
        );
    }
    if length != Some(keeps_bytes) {
        disk.truncate(&path, keeps_bytes)?;
    }
    if text.is_empty() {
        Ok(())
    } else {
        disk.append(&path, keeps_bytes, text.as_bytes())
    }
}

fn put_all(disk: &Disk, layout: &CaLayout, actions: &[Action], now: Timestamp) -> Result<()> {
    let mut files = Vec::with_capacity(actions.len());
    for action in actions {
        if let Action::Put {
            path,
            bytes,
            mode,
            expects,
            ..
        } = action
        {
            let path = path.in_dir(layout.cadir());
            expect(&path, expects.as_ref())?;
            let attributes = layout.attributes(&path, *mode).mtime(now.into());
            files.push((path, &**bytes, attributes));
        }
    }
    disk.publish_all(&files)
}

fn remove_all(disk: &Disk, layout: &CaLayout, actions: &[Action]) -> Result<()> {
    let mut dirs = BTreeSet::new();
    for action in actions {
        if let Action::Remove { path, expects, .. } = action {
            let path = path.in_dir(layout.cadir());
            expect(&path, Some(expects))?;
            disk.remove_file_unsynced(&path)?;
            dirs.extend(path.parent().map(Path::to_owned));
        }
    }
    dirs.iter().try_for_each(|dir| disk.sync_dir(dir))
}

/// The file is what the plan saw.
fn expect(path: &Path, expected: Option<&Arc<[u8]>>) -> Result<()> {
    if current(path)?.as_deref() == expected.map(|bytes| &**bytes) {
        Ok(())
    } else {
        Err(moved(path))
    }
}

pub(super) fn current(path: &Path) -> Result<Option<Vec<u8>>> {
    match read_capped(path, MAX_FILE_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn moved(path: &Path) -> Error {
    Error::refused(
        "ca-moved",
        format!("{} changed since the plan was made", path.display()),
    )
    .hint("Somebody else writes to this CA; run it again.")
    .retryable(true)
}
