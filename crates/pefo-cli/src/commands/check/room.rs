//! Room on the disks: for the next generations, for those that are kept, and that they can be written to at all.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pefo_core::generation::DataSet;
use pefo_core::generation::verify::stored;
use pefo_core::{Error, Result};
use rustix::fs::StatVfsMountFlags;

use super::point::{Number, Point, bad};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Health;
use crate::pipeline;

/// The receiver takes nothing where less is free, in bytes.
const LEAST_BYTES: u64 = 64 << 20;
/// Files that should be possible at least.
const LEAST_FILES: u64 = 10_000;

/// A file system that pefo writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Volume {
    /// A directory on it.
    path: PathBuf,
    /// What of pefo's lies there.
    what: Vec<&'static str>,
    is_read_only: bool,
    free_bytes: u64,
    /// Files that can still be made; `None` where the file system has no limit.
    free_files: Option<u64>,
}

/// What the newest generations come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Need {
    /// Bytes of the newest full generation of every data set.
    newest_bytes: u64,
    /// Files of those.
    newest_files: u64,
    /// Bytes that retention will take besides what is kept already.
    kept_bytes: u64,
}

/// Every file system that pefo writes to has room.
pub(super) fn room(host: &Host) -> Point {
    let mut point = Point::new("room");
    let need = need(host);
    let site = &host.config.site;
    let mut places = vec![
        ("state", site.state_dir.clone()),
        ("spool", site.spool_dir.clone()),
    ];
    if let Ok(layout) = pipeline::ca::layout(host, &Change::default()) {
        places.push(("ca", layout.cadir().to_owned()));
    }
    let mut volumes: BTreeMap<u64, Volume> = BTreeMap::new();
    for (what, path) in places {
        match Volume::of(what, &path) {
            Ok((device, volume)) => {
                let known = volumes.entry(device).or_insert_with(|| Volume {
                    what: Vec::new(),
                    ..volume.clone()
                });
                known.what.push(what);
                // A mount can be read-only where another one of the same device is not.
                known.is_read_only |= volume.is_read_only;
                point.number(Number {
                    label: format!("{what}_free"),
                    value: volume.free_bytes,
                    unit: "B",
                    ranges: Some((format!("{}:", wanted(need)), format!("{}:", least(need)))),
                });
            }
            Err(error) => point.fault(Health::Critical, error.hint("run 'pefo init'")),
        }
    }
    for volume in volumes.values() {
        judge(&mut point, volume, need);
    }
    point
}

impl Volume {
    fn of(what: &'static str, path: &Path) -> Result<(u64, Self)> {
        let meta = std::fs::metadata(path).map_err(|error| Error::io("examine", path, error))?;
        let stat = rustix::fs::statvfs(path)
            .map_err(|error| Error::io("examine the file system of", path, error.into()))?;
        let volume = Self {
            path: path.to_owned(),
            what: vec![what],
            is_read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            // Some file systems make inodes as they need them, and tell 0 of 0.
            free_files: (stat.f_files > 0).then_some(stat.f_favail),
        };
        Ok((meta.dev(), volume))
    }
}

/// What must be free for the next generation to arrive.
fn least(need: Need) -> u64 {
    need.newest_bytes.max(LEAST_BYTES)
}

/// What should be: two generations, for one may stand beside the one that replaces it, and what retention takes.
fn wanted(need: Need) -> u64 {
    let two = need.newest_bytes.saturating_mul(2);
    two.max(need.kept_bytes).max(LEAST_BYTES)
}

fn judge(point: &mut Point, volume: &Volume, need: Need) {
    let place = format!("{} ({})", volume.path.display(), volume.what.join(", "));
    if volume.is_read_only {
        point.fault(
            Health::Critical,
            bad(
                format!("{place} is on a read-only file system"),
                format!("'findmnt --target {}' shows which; mount it rw, or look in the kernel's log why it is not", volume.path.display()),
            ),
        );
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let short = |wanted: u64| {
        bad(
            format!(
                "{place} has {} MiB free; the newest generations need {} MiB",
                mebibytes(volume.free_bytes),
                mebibytes(wanted)
            ),
            "make room there, or keep fewer generations ([retention] generations) and previous databases ([database] keep_previous)",
        )
    };
    if volume.free_bytes < least(need) {
        point.fault(Health::Critical, short(least(need)));
    } else if volume.free_bytes < wanted(need) {
        point.fault(Health::Warning, short(wanted(need)));
    }
    let files = need.newest_files.saturating_mul(2).max(LEAST_FILES);
    if volume.free_files.is_some_and(|free| free < files) {
        point.fault(
            Health::Warning,
            bad(
                format!(
                    "{place} has room for {} more files; two generations are {files}",
                    volume.free_files.unwrap_or_default()
                ),
                "remove files there: 'df -i' shows it",
            ),
        );
    }
    point.say(format!(
        "{place} has {} MiB free",
        mebibytes(volume.free_bytes)
    ));
}

/// By what was received, else by what is kept to be sent.
fn need(host: &Host) -> Need {
    let mut need = Need::default();
    for dataset in host.datasets() {
        let Ok(Some(manifest)) = pipeline::received::newest_full(host, &dataset) else {
            continue;
        };
        let bytes = manifest.stored_bytes();
        need.newest_bytes = need.newest_bytes.saturating_add(bytes);
        let files = u64::try_from(manifest.files.len()).unwrap_or(u64::MAX);
        need.newest_files = need.newest_files.saturating_add(files);
        // A generation of the CA is links to what another has; what is sealed is new each time.
        if dataset != DataSet::Ca {
            let here = stored(&host.store(&dataset)).map_or(0, |stored| stored.len());
            let more = host.config.retention.generations.saturating_sub(here);
            let more = u64::try_from(more).unwrap_or(u64::MAX);
            need.kept_bytes = need.kept_bytes.saturating_add(bytes.saturating_mul(more));
        }
    }
    need
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(volume: Volume, need: Need) -> Vec<(Health, String)> {
        let mut point = Point::new("room");
        judge(&mut point, &volume, need);
        point.faults()
    }

    fn volume(free_bytes: u64) -> Volume {
        Volume {
            path: "/var/lib/pefo".into(),
            what: vec!["state", "spool"],
            is_read_only: false,
            free_bytes,
            free_files: None,
        }
    }

    #[test]
    fn one_generation_must_fit_and_two_should() {
        let need = Need {
            newest_bytes: 1 << 30,
            ..Need::default()
        };
        assert_eq!(judged(volume(2 << 30), need), []);
        let told = judged(volume((2 << 30) - 1), need);
        insta::assert_snapshot!(told[0].1, @"/var/lib/pefo (state, spool) has 2048 MiB free; the newest generations need 2048 MiB");
        assert_eq!(told[0].0, Health::Warning);
        assert_eq!(judged(volume(1 << 29), need)[0].0, Health::Critical);
        // Also where nothing was received yet, the receiver wants its own.
        assert_eq!(
            judged(volume(1 << 20), Need::default())[0].0,
            Health::Critical
        );
    }

    #[test]
    fn what_retention_will_take_is_counted() {
        let need = Need {
            newest_bytes: 1 << 30,
            kept_bytes: 4 << 30,
            ..Need::default()
        };
        assert_eq!(judged(volume(3 << 30), need)[0].0, Health::Warning);
        assert_eq!(judged(volume(4 << 30), need), []);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_critical_however_much_is_free() {
        let read_only = Volume {
            is_read_only: true,
            ..volume(1 << 40)
        };
        assert_eq!(judged(read_only, Need::default())[0].0, Health::Critical);
        let no_inodes = Volume {
            free_files: Some(100),
            ..volume(1 << 40)
        };
        assert_eq!(judged(no_inodes, Need::default())[0].0, Health::Warning);
    }
}
