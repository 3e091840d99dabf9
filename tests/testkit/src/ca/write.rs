//! How puppetserver puts a file in its cadir: temp beside it with the server's name, then a rename; or
//! in place, as old servers and the offline CLI do.

#![expect(
    clippy::disallowed_methods,
    reason = "plays puppetserver, which writes its own files"
)]

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::{Result, TestCa};

impl TestCa {
    /// Puts a file where set-up or the server would, mode included.
    pub(super) fn put(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let target = self.dir.join(name);
        if self.options.write_in_place {
            return write_in_place(&target, bytes, mode);
        }
        self.temps.set(self.temps.get() + 7_919);
        let temp = self.dir.join(format!("{name}{}tmp", self.temps.get()));
        write_in_place(&temp, bytes, mode)?;
        std::fs::rename(&temp, &target)?;
        Ok(())
    }

    /// Appends a row to inventory.txt.
    pub(super) fn append_inventory(&self, row: &str) -> Result<()> {
        let path = self.dir.join("inventory.txt");
        if self.options.atomic_inventory {
            let mut text = std::fs::read(&path)?;
            text.extend_from_slice(row.as_bytes());
            return self.put("inventory.txt", &text, 0o640);
        }
        let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
        file.write_all(row.as_bytes())?;
        Ok(())
    }

    /// Removes a file that may be gone already.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match std::fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn write_in_place(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    Ok(())
}

pub(super) fn make_dir(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)?;
    Ok(())
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4_usize {
            let index = (word >> (18 - 6 * place)) & 63;
            text.push(if place > chunk.len() {
                '='
            } else {
                char::from(ALPHABET[index as usize])
            });
        }
    }
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
