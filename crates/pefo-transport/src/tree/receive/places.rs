//! Whether a tree can be kept where it is to be: a rename must lead there from where files arrive.

use std::path::{Path, PathBuf};

use pefo_core::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::TreeReceiverOptions;

/// The state directory must be on the tree's file system, by the same mount, and not in the tree.
pub(super) fn check(options: &TreeReceiverOptions) -> Result<()> {
    let config = |message: String| Err(Error::new(ErrorKind::Config, message));
    let state = real(&options.state)?;
    if state.starts_with(&options.dest) {
        return config(format!(
            "{} lies in the tree that it is to keep",
            state.display()
        ));
    }
    let beside = match options.dest.parent() {
        _ if options.dest.is_dir() => options.dest.as_path(),
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (tree, state_mount) = (Mount::of(beside)?, Mount::of(&state)?);
    if tree.device != state_mount.device {
        return config(format!(
            "{} and {} are not on one file system",
            state.display(),
            options.dest.display()
        ));
    }
    if tree != state_mount {
        return config(format!(
            "{} and {} are on one file system, but under two mounts, and nothing can be renamed from one to the other",
            state.display(),
            options.dest.display()
        ));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: (u32, u32),
    /// 0 where the kernel does not tell.
    id: u64,
}

impl Mount {
    fn of(path: &Path) -> Result<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), wanted)
            .map_err(|error| Error::io("examine", path, error.into()))?;
        let told = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        Ok(Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            id: if told { stat.stx_mnt_id } else { 0 },
        })
    }
}

fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .map_err(|error| Error::io("find", path, error))
}
