//! A generation that was made and not delivered yet, kept so that the same bytes can be offered again.
//!
//! ```text
//! DIR/POSITION/document       the signed manifest
//! DIR/POSITION/data/PATH      a full generation's files, as stored
//! DIR/POSITION/payload        a batch's payload
//! ```
//!
//! Sealing gives other bytes each time, so that a sealed generation made anew cannot go on where the
//! last one was cut. What is not sealed is the same bytes again, and is not worth keeping. One generation
//! is kept for a data set, the newest; it shows by one rename, when it is whole and durable.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::{Outgoing, Payload, Stored};
use crate::disk::{Attributes, Disk, NewFile, read_capped};
use crate::error::{Error, Result};
use crate::generation::manifest::{Content, Manifest};
use crate::generation::names::{DataSet, Position, Site};
use crate::keys::PublicKey;

const DOCUMENT: &str = "document";
const DATA: &str = "data";
const PAYLOAD: &str = "payload";
const DIR: Attributes = Attributes::mode(0o700);
const FILE: Attributes = Attributes::mode(0o600);

impl Outgoing {
    /// With fewer sealed bytes than this it is cheaper to send a generation again than to keep it.
    pub const KEEP_BYTES: u64 = 1 << 20;

    /// Whether it is worth keeping until it is delivered.
    pub fn is_worth_keeping(&self) -> bool {
        let sealed = match &self.manifest.content {
            Content::Batch {
                sealed,
                payload_size,
                ..
            } => u64::from(*sealed) * payload_size,
            Content::Full { .. } => {
                let sealed = self.manifest.files.iter().filter(|file| file.sealed);
                sealed.map(|file| file.size).sum()
            }
        };
        sealed >= Self::KEEP_BYTES
    }

    /// Keeps it in `dir`, in the place of what was kept there. Files that stand on the same file system
    /// get a second name.
    ///
    /// # Errors
    /// `Io`; then nothing is kept.
    pub fn keep(&self, disk: &Disk, dir: &Path) -> Result<()> {
        disk.create_dir_all(dir, &DIR)?;
        drop_kept(disk, dir)?;
        let name = self.position().to_string();
        let temp = dir.join(format!(".pefo-{name}.tmp"));
        disk.create_dir(&temp, &DIR)?;
        write(disk, &temp.join(DOCUMENT), &self.document)?;
        match &self.payload {
            Payload::Batch(payload) => write(disk, &temp.join(PAYLOAD), payload)?,
            Payload::Files(files) => {
                let data = temp.join(DATA);
                disk.create_dir(&data, &DIR)?;
                for (path, stored) in files {
                    if let Some(parent) = path.parent() {
                        disk.create_dir_all(&parent.in_dir(&data), &DIR)?;
                    }
                    let target = path.in_dir(&data);
                    match stored {
                        Stored::Bytes(bytes) => write(disk, &target, bytes)?,
                        Stored::File(file) => link_or_copy(disk, file, &target)?,
                    }
                }
            }
            Payload::Standing(root) => {
                let data = temp.join(DATA);
                disk.create_dir(&data, &DIR)?;
                for entry in &self.manifest.files {
                    if let Some(parent) = entry.path.parent() {
                        disk.create_dir_all(&parent.in_dir(&data), &DIR)?;
                    }
                    link_or_copy(disk, &entry.path.in_dir(root), &entry.path.in_dir(&data))?;
                }
            }
        }
        disk.sync_filesystem(&temp)?;
        disk.rename(&temp, &dir.join(name))
    }

    /// What is kept in `dir`; `None` where nothing is. The digests of its files are checked by who
    /// receives them.
    ///
    /// # Errors
    /// `Invalid` or `Refused` where it is not what was put there by the holder of one of `keys`; `Io`.
    pub fn kept(
        dir: &Path,
        site: &Site,
        dataset: &DataSet,
        keys: &[PublicKey],
    ) -> Result<Option<Self>> {
        let Some(position) = positions(dir)?.pop() else {
            return Ok(None);
        };
        let dir = dir.join(position.to_string());
        let document = read_capped(&dir.join(DOCUMENT), Manifest::MAX_BYTES)?;
        let manifest = Manifest::check(&document, site, dataset, keys)?;
        let payload = match &manifest.content {
            Content::Batch { payload_size, .. } => {
                let payload = read_capped(&dir.join(PAYLOAD), *payload_size)?;
                is_whole(&dir, payload.len() as u64 == *payload_size)?;
                Payload::Batch(payload)
            }
            Content::Full { .. } => {
                for entry in &manifest.files {
                    let path = entry.path.in_dir(&dir.join(DATA));
                    let size = std::fs::symlink_metadata(&path).map(|meta| meta.len());
                    is_whole(&path, size.is_ok_and(|size| size == entry.size))?;
                }
                Payload::Standing(dir.join(DATA))
            }
        };
        is_whole(&dir, manifest.position() == position)?;
        Ok(Some(Self {
            manifest,
            document,
            payload,
        }))
    }
}

/// Removes what is kept in `dir`, and what a killed run left there.
///
/// # Errors
/// `Io`.
pub fn drop_kept(disk: &Disk, dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    disk.remove_temps(dir)?;
    for position in positions(dir)? {
        // Under a temp name first: a killed run leaves no half of it.
        let leaving = dir.join(format!(".pefo-{position}.tmp"));
        disk.rename(&dir.join(position.to_string()), &leaving)?;
        disk.remove_tree(&leaving)?;
    }
    Ok(())
}

/// The generations in `dir`, oldest first.
fn positions(dir: &Path) -> Result<Vec<Position>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| Error::io("list", dir, error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("list", dir, error))?;
        let name = entry.file_name();
        let position = name.to_str().and_then(|name| name.parse::<Position>().ok());
        found.extend(position);
    }
    found.sort();
    Ok(found)
}

fn is_whole(path: &Path, whole: bool) -> Result<()> {
    if whole {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} is not what was kept there",
        path.display()
    )))
}

fn write(disk: &Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = disk.create(path, &FILE)?;
    file.write(bytes)?;
    file.finish()
}

fn link_or_copy(disk: &Disk, from: &Path, to: &Path) -> Result<()> {
    match disk.hard_link(from, to) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::CrossesDevices) => {
            copy(from, disk.create(to, &FILE)?)
        }
        other => other,
    }
}

fn copy(from: &Path, mut to: NewFile) -> Result<()> {
    let mut source = File::open(from).map_err(|error| Error::io("open", from, error))?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = source
            .read(&mut buffer)
            .map_err(|error| Error::io("read", from, error))?;
        if count == 0 {
            return to.finish();
        }
        to.write(buffer.get(..count).unwrap_or_default())?;
    }
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
