//! Which files of a cadir matter to a standby, how they are read, and when one is torn.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use pefo_core::disk::{is_temp_name, read_capped};
use pefo_core::{Certname, Error, RelPath, Result};

use super::{FileEntry, Problem};
use crate::exclude::Exclusions;
use crate::malformed::Malformed;
use crate::watch::is_server_temp_name;
use crate::{pem, serial};

/// The longest file of a cadir that is read, in bytes: a CRL of a large site takes megabytes.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// The same of a certificate, which takes some kilobytes.
pub(crate) const MAX_CERT_BYTES: u64 = 1 << 20;

/// What is read first: what was written before it is covered by what is read after it.
pub(crate) const FIRST: [&str; 6] = [
    "ca_crl.pem",
    "ca_crt.pem",
    "ca_pub.pem",
    "infra_crl.pem",
    "infra_inventory.txt",
    "infra_serials",
];
pub(crate) const INVENTORY: &str = "inventory.txt";
/// What is read last, in this order: the serial covers all the rest.
pub(crate) const LAST: [&str; 2] = [INVENTORY, "serial"];

/// What stands at a path.
pub(crate) enum Loaded {
    Absent,
    NotAFile(Malformed),
    /// Its metadata are of before it was read: a change meanwhile shows as a difference afterwards.
    File(std::fs::Metadata, FileEntry),
}

/// What stands at a path of the cadir, unread; `Ok(Err(_))` where it is nothing to read.
pub(crate) fn examine(
    dir: &Path,
    path: &RelPath,
) -> Result<Result<std::fs::Metadata, Option<Malformed>>> {
    let full = path.in_dir(dir);
    let meta = match std::fs::symlink_metadata(&full) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Err(None)),
        Err(error) => return Err(Error::io("examine", &full, error)),
    };
    let refused = if !meta.is_file() {
        Some("is no regular file")
    } else if meta.len() > limit(path) {
        Some("is far too large")
    } else {
        None
    };
    Ok(match refused {
        Some(reason) => Err(Some(Malformed::new("not-a-file", reason))),
        None => Ok(meta),
    })
}

/// The largest file that is read there.
fn limit(path: &RelPath) -> u64 {
    match path.parent() {
        Some(_) => MAX_CERT_BYTES,
        None => MAX_FILE_BYTES,
    }
}

/// Reads what stands at a path of the cadir.
pub(crate) fn load(dir: &Path, path: &RelPath) -> Result<Loaded> {
    match examine(dir, path)? {
        Ok(meta) => read(dir, path, meta),
        Err(None) => Ok(Loaded::Absent),
        Err(Some(error)) => Ok(Loaded::NotAFile(error)),
    }
}

/// Reads a file that was examined.
pub(crate) fn read(dir: &Path, path: &RelPath, meta: std::fs::Metadata) -> Result<Loaded> {
    match read_capped(&path.in_dir(dir), limit(path)) {
        Ok(bytes) => {
            let mode = meta.mode() & 0o7777;
            let bytes = bytes.into();
            Ok(Loaded::File(meta, FileEntry { bytes, mode }))
        }
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(Loaded::Absent),
        Err(error) => Err(error),
    }
}

/// Whether a file looks like one that is just being written in place.
pub(crate) fn is_torn(path: &RelPath, bytes: &[u8]) -> bool {
    match path.as_str() {
        "serial" => serial::parse_file(bytes).is_err(),
        INVENTORY => !bytes.is_empty() && !bytes.ends_with(b"\n"),
        name if name.ends_with(".pem") => pem::blocks(bytes).is_err(),
        _ => false,
    }
}

/// A directory of certnames.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The acceptable ones, sorted.
    pub(crate) named: Vec<(Certname, RelPath)>,
    pub(crate) excluded: Vec<Certname>,
    pub(crate) problems: Vec<Problem>,
}

/// The certname of a file of signed/ or requests/; why it is none.
pub(crate) fn certname_of(name: &str) -> Result<Certname, String> {
    match name.strip_suffix(".pem") {
        None => Err("does not end in .pem".to_owned()),
        Some(stem) => Certname::new(stem).map_err(|error| error.to_string()),
    }
}

/// The names of signed/ or requests/; `Ok(Err(_))` where that is no directory, with the reason where it
/// is something else.
pub(crate) fn names(
    cadir: &Path,
    sub: &str,
    exclude: &Exclusions,
) -> Result<Result<Names, Option<Problem>>> {
    let problem = |path: &str, rule, message: String| Problem {
        path: path.to_owned(),
        error: Malformed::new(rule, message),
    };
    let dir = cadir.join(sub);
    match std::fs::symlink_metadata(&dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            let error = problem(sub, "not-a-file", "is no directory".to_owned());
            return Ok(Err(Some(error)));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Err(None)),
        Err(error) => return Err(Error::io("examine", &dir, error)),
    }
    let mut names = Names::default();
    // Sorted here: walkdir takes each path apart again for each comparison.
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(&dir).min_depth(1).max_depth(1) {
        let entry = entry.map_err(|error| Error::io("list", &dir, error.into()))?;
        found.push(entry.file_name().to_owned());
    }
    found.sort_unstable();
    for name in found {
        let name = name.to_string_lossy();
        if is_server_temp_name(&name) || is_temp_name(&name) {
            continue;
        }
        match certname_of(&name) {
            Ok(certname) if exclude.contains(&certname) => names.excluded.push(certname),
            Ok(certname) => {
                let path = RelPath::new(format!("{sub}/{certname}.pem"))?;
                names.named.push((certname, path));
            }
            Err(reason) => {
                let shown = format!("{sub}/{}", name.escape_debug());
                let problem = problem(&shown, "name-refused", reason);
                names.problems.push(problem);
            }
        }
    }
    Ok(Ok(names))
}
