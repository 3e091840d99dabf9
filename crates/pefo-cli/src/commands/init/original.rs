//! What the original module left behind: crons, incron files, scripts' keys, in the same spool.
//!
//! Its crons would go on copying certificates the old way, revocations rolled back. They are found by
//! what they call, and disarmed by renaming, so that `mv` undoes it.

use std::path::{Path, PathBuf};

use pefo_core::disk::read_capped;
use pefo_core::{Error, Result};

use crate::arguments::InitOptions;
use crate::host::Host;

/// The original's scripts, as crons and incron files name them.
const SCRIPTS: [&str; 7] = [
    "nc_dump.sh",
    "sync_nc_dumps.sh",
    "restore_nc.sh",
    "db_dump",
    "sync_dbs.sh",
    "restore_dbs.sh",
    "update_passive_ca.sh",
];
/// Where they are looked for.
const PLACES: [&str; 4] = [
    "/etc/cron.d",
    "/var/spool/cron",
    "/var/spool/cron/crontabs",
    "/etc/incron.d",
];
const RETIRED: &str = ".retired-by-pefo";

/// The original's files that are still armed.
pub(in crate::commands) fn leftovers(host: &Host) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let spool = &host.config.site.spool_dir;
    for place in PLACES
        .iter()
        .map(PathBuf::from)
        .chain([spool.join("incron.d"), spool.join("cron.d")])
    {
        let Ok(entries) = std::fs::read_dir(&place) else {
            continue;
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if !path.to_string_lossy().ends_with(RETIRED) && calls_the_original(&path) {
                found.push(path);
            }
        }
    }
    for name in [".ssh/authorized_keys", ".ssh/pe_failover_id_rsa"] {
        let path = spool.join(name);
        if path.exists() {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn calls_the_original(path: &Path) -> bool {
    let Ok(bytes) = read_capped(path, 1 << 20) else {
        return false;
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'));
    lines.any(|line| {
        line.contains("pe_failover")
            && (line.contains("sync_certs.sh")
                || SCRIPTS.iter().any(|script| line.contains(script)))
    })
}

/// Refuses where the original is still armed, or disarms it where that was asked for.
pub(super) fn disarm(host: &Host, options: &InitOptions) -> Result<()> {
    let found = leftovers(host);
    if found.is_empty() {
        return Ok(());
    }
    let names = found
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if !options.retire_original {
        return Err(Error::refused(
            "original-module-armed",
            format!("the original pe_failover module is still at work here: {names}"),
        )
        .hint(format!(
            "add --retire-original: the files get the ending {RETIRED} and can be renamed back"
        )));
    }
    if options.dry_run.dry_run {
        return Ok(());
    }
    for path in found {
        let mut retired = path.clone().into_os_string();
        retired.push(RETIRED);
        host.disk.rename(&path, Path::new(&retired))?;
    }
    Ok(())
}
