//! From the schedule that stands on disk to the one that is wanted: first what is to be done, as a value that can be
//! shown, then doing it. Files that pefo has not written are not touched.

use std::path::{Path, PathBuf};

use pefo_core::disk::{Attributes, Disk, read_capped};
use pefo_core::{Error, Result};
use similar::TextDiff;

use super::file::{CRON_DIR, File, UNIT_DIR, is_ours, line, may_be_ours};

/// The rule by which somebody else's file is left alone.
pub const FOREIGN: &str = "schedule-foreign";
const MAX_BYTES: u64 = 1 << 20;

/// What is to be done to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Below the root directory.
    pub path: PathBuf,
    /// What stands there now.
    pub before: Option<String>,
    /// What is to stand there; nothing where it is removed.
    pub after: Option<String>,
}

/// What is to be done, removals first: two schedules are never armed at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// In order.
    pub steps: Vec<Step>,
}

impl Change {
    /// What leads from the files below `root` to those that are wanted.
    ///
    /// # Errors
    /// `Refused` (`schedule-foreign`) where a file that pefo has not written stands in the place of a wanted one,
    /// unless `may_replace`; `Io`.
    pub fn towards(root: &Path, wanted: &[File], may_replace: bool) -> Result<Self> {
        let mut steps = Vec::new();
        for path in ours(root)? {
            let before = read(root, &path)?.and_then(Found::text);
            if before.as_deref().is_some_and(is_ours) && wanted.iter().all(|it| it.path != path) {
                steps.push(Step {
                    path,
                    before,
                    after: None,
                });
            }
        }
        for File { path, text } in wanted {
            let before = match read(root, path)? {
                None => None,
                Some(Found::File(before)) if before == *text => continue,
                Some(Found::File(before)) if is_ours(&before) || may_replace => Some(before),
                Some(Found::Other) if may_replace => None,
                Some(_) => return Err(foreign(&root.join(path))),
            };
            steps.push(Step {
                path: path.clone(),
                before,
                after: Some(text.clone()),
            });
        }
        Ok(Self { steps })
    }

    /// Whether all is as it is wanted.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The units that go away, by name.
    pub fn removed_units(&self) -> Vec<String> {
        let gone = self.steps.iter().filter(|step| step.after.is_none());
        gone.filter_map(|step| unit(&step.path)).collect()
    }

    /// Whether this unit is new, or another than before.
    pub fn touches(&self, name: &str) -> bool {
        self.steps
            .iter()
            .any(|step| unit(&step.path).as_deref() == Some(name))
    }

    /// Removes what is to go.
    ///
    /// # Errors
    /// `Io`; what was not removed yet is found by the next run.
    pub fn remove(&self, disk: &Disk, root: &Path) -> Result<()> {
        let gone = self.steps.iter().filter(|step| step.after.is_none());
        gone.map(|step| root.join(&step.path))
            .try_for_each(|path| disk.remove_file(&path))
    }

    /// Writes what is to stand: all of it is on disk before the first file appears.
    ///
    /// # Errors
    /// `Io`; each file is then the old or the new one, and the next run goes on.
    pub fn write(&self, disk: &Disk, root: &Path) -> Result<()> {
        let mut files = Vec::new();
        for step in &self.steps {
            if let Some(text) = &step.after {
                let path = root.join(&step.path);
                if let Some(parent) = path.parent() {
                    disk.create_dir_all(parent, &Attributes::mode(0o755))?;
                }
                files.push((path, text.as_bytes(), Attributes::mode(0o644)));
            }
        }
        disk.publish_all(&files)
    }

    /// For people: what changes in each file.
    pub fn diff(&self, root: &Path) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let path = root.join(&step.path).display().to_string();
            let name = |content: &Option<String>| match content {
                Some(_) => path.clone(),
                None => "/dev/null".to_owned(),
            };
            let old = step.before.clone().unwrap_or_default();
            let new = step.after.clone().unwrap_or_default();
            let diff = TextDiff::from_lines(&old, &new);
            let (from, to) = (name(&step.before), name(&step.after));
            text.push_str(&diff.unified_diff().header(&from, &to).to_string());
        }
        text
    }
}

/// What stands at a path.
enum Found {
    /// A file, with its text; what is no text is not ours.
    File(String),
    /// Something else, such as the link of a masked unit.
    Other,
}

impl Found {
    fn text(self) -> Option<String> {
        match self {
            Self::File(text) => Some(text),
            Self::Other => None,
        }
    }
}

fn read(root: &Path, path: &Path) -> Result<Option<Found>> {
    let path = root.join(path);
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("examine", &path, error)),
        Ok(meta) if meta.is_file() && meta.len() <= MAX_BYTES => {
            let text = String::from_utf8(read_capped(&path, MAX_BYTES)?);
            Ok(Some(text.map_or(Found::Other, Found::File)))
        }
        Ok(_) => Ok(Some(Found::Other)),
    }
}

/// Where files of ours may stand.
fn ours(root: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = vec![PathBuf::from(CRON_DIR).join("pefo")];
    let dir = root.join(UNIT_DIR);
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(paths),
        Err(error) => return Err(Error::io("list", &dir, error)),
    };
    for entry in entries {
        let name = entry
            .map_err(|error| Error::io("list", &dir, error))?
            .file_name();
        if may_be_ours(&name) {
            paths.push(Path::new(UNIT_DIR).join(name));
        }
    }
    paths.sort();
    Ok(paths)
}

fn unit(path: &Path) -> Option<String> {
    let name = path.strip_prefix(UNIT_DIR).ok()?;
    line(name).ok().map(str::to_owned)
}

fn foreign(path: &Path) -> Error {
    let message = format!("{} was not written by pefo", path.display());
    Error::refused(FOREIGN, message).hint(format!(
        "look at it and move it away, or replace it with --accept {FOREIGN}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::file::HEADER;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: format!("{HEADER}\n{text}\n"),
        }
    }

    fn carried_out(root: &Path, wanted: &[File]) -> Change {
        let change = Change::towards(root, wanted, false).unwrap();
        let disk = Disk::new();
        change.remove(&disk, root).unwrap();
        change.write(&disk, root).unwrap();
        change
    }

    const WATCH: &str = "etc/systemd/system/pefo-watch.service";
    const TIMER: &str = "etc/systemd/system/pefo-ca-push.timer";

    #[test]
    fn what_is_wanted_is_written_once_and_what_no_longer_is_goes() {
        let root = tempfile::tempdir().unwrap();
        let (root, disk) = (root.path(), Disk::new());
        let timers = [file("etc/cron.d/pefo", "x")];
        assert_eq!(carried_out(root, &timers).steps.len(), 1);
        assert!(carried_out(root, &timers).is_empty());
        let units = [file(WATCH, "one"), file(TIMER, "two")];
        let change = carried_out(root, &units);
        assert_eq!(change.steps[0].path, Path::new("etc/cron.d/pefo"));
        assert!(!root.join("etc/cron.d/pefo").exists());
        // What stands beside ours is another's.
        for name in ["pefonic.service", "pefo-drop.conf", "pefo-own.service"] {
            let path = root.join("etc/systemd/system").join(name);
            disk.publish(&path, b"[Unit]\n", &Attributes::mode(0o644))
                .unwrap();
        }
        let change = carried_out(root, &units[..1]);
        assert_eq!(change.removed_units(), ["pefo-ca-push.timer"]);
        carried_out(root, &[]);
        let left = std::fs::read_dir(root.join("etc/systemd/system")).unwrap();
        assert_eq!(left.count(), 3);
    }

    #[test]
    fn a_file_that_pefo_has_not_written_is_replaced_only_where_that_is_said() {
        let root = tempfile::tempdir().unwrap();
        let (root, disk) = (root.path(), Disk::new());
        let path = root.join(WATCH);
        disk.create_dir_all(path.parent().unwrap(), &Attributes::mode(0o755))
            .unwrap();
        disk.publish(&path, b"[Service]\n", &Attributes::mode(0o644))
            .unwrap();
        let wanted = [file(WATCH, "x")];
        let error = Change::towards(root, &wanted, false).unwrap_err();
        assert_eq!(error.rule(), Some(FOREIGN));
        assert!(Change::towards(root, &[], false).unwrap().is_empty());
        let change = Change::towards(root, &wanted, true).unwrap();
        let diff = change.diff(Path::new("/"));
        insta::assert_snapshot!(diff, @r"
        --- /etc/systemd/system/pefo-watch.service
        +++ /etc/systemd/system/pefo-watch.service
        @@ -1 +1,2 @@
        -[Service]
        +# written by pefo
        +x
        ");
        change.write(&disk, root).unwrap();
        assert!(is_ours(&std::fs::read_to_string(&path).unwrap()));
    }
}
