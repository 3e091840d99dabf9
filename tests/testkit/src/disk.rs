//! Small disks: one that fills up, and one that turns read-only while files on it are open.
//!
//! A tmpfs of a given size, or an ext4 file system in a sparse file, mounted on a directory of the
//! test's own and gone on drop. [`SmallDisk::turn_read_only`] does what ext4 does by itself when its
//! device fails: from that moment nothing can be written, whoever has what open; what was not made
//! durable before is lost.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::skip::{self, Skip};
use crate::wait;

/// Readers that have not noticed yet that nobody talks to them keep a disk busy.
const BUSY_LIMIT: Duration = Duration::from_secs(30);

/// A file system on a directory, unmounted on drop.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    image: Option<PathBuf>,
}

impl SmallDisk {
    /// A tmpfs with `kib` KiB, and so many inodes where that is given, on a directory that exists.
    ///
    /// # Errors
    /// A skip, where this process is not root or may not mount.
    pub fn in_memory(at: &Path, kib: u32, inodes: Option<u32>) -> Result<Self, Skip> {
        let inodes = inodes.map_or_else(String::new, |count| format!(",nr_inodes={count}"));
        let options = format!("size={kib}k,mode=755{inodes}");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], at)?;
        Ok(Self {
            at: at.to_owned(),
            image: None,
        })
    }

    /// An ext4 file system with `mib` MiB on a directory that exists; its image lies beside that.
    ///
    /// # Errors
    /// A skip, where this process is not root, there is no `mkfs.ext4`, or no loop device to be had.
    ///
    /// # Panics
    /// Where the image can not be made.
    pub fn ext4(at: &Path, mib: u64) -> Result<Self, Skip> {
        let mkfs = Path::new("/usr/sbin/mkfs.ext4");
        skip::require_path(mkfs, "needs-mkfs-ext4", "e2fsprogs")?;
        let image = at.with_extension("img");
        let size = format!("{mib}M");
        run(Command::new("truncate").args(["-s", &size]).arg(&image));
        run(Command::new(mkfs)
            .args(["-q", "-m", "0", "-O", "^has_journal"])
            .arg(&image));
        let disk = Self {
            at: at.to_owned(),
            image: Some(image),
        };
        disk.mount_image()?;
        Ok(disk)
    }

    fn mount_image(&self) -> Result<(), Skip> {
        let Some(image) = &self.image else {
            panic!("{} is no ext4", self.at.display())
        };
        let image = image.to_string_lossy();
        mount(&["-t", "ext4", "-o", "loop", &image], &self.at)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Takes all space that is left, with a file of this name; removing it gives the space back.
    ///
    /// # Panics
    /// Where that fails for another reason than that the disk is full.
    #[expect(
        clippy::disallowed_methods,
        reason = "the file is there to be in the way"
    )]
    pub fn fill(&self, name: &str) {
        use std::io::Write as _;
        let piece = vec![0x55; 64 * 1024];
        let path = self.at.join(name);
        let mut file = match std::fs::File::create(&path) {
            Ok(file) => file,
            Err(error) => panic!("create {}: {error}", path.display()),
        };
        loop {
            match file.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return,
                Err(error) => panic!("fill {}: {error}", path.display()),
            }
        }
    }

    /// Lets nothing be written any more, whoever has what open; an ext4 only.
    ///
    /// # Panics
    /// Where the kernel does not do it.
    pub fn turn_read_only(&self) {
        run(Command::new("mount")
            .args(["-o", "remount,abort"])
            .arg(&self.at));
    }

    /// Takes the disk away and brings it back, writable, with what was durable; an ext4 only.
    ///
    /// # Panics
    /// Where somebody keeps it busy.
    pub fn repair(&self) {
        wait::until("the disk to be let go", BUSY_LIMIT, || {
            let output = Command::new("umount").arg(&self.at).output();
            output.is_ok_and(|output| output.status.success())
        });
        if let Err(skip) = self.mount_image() {
            panic!("{skip}");
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(&self.at).status();
        assert!(
            std::thread::panicking() || done.is_ok_and(|status| status.success()),
            "umount {}",
            self.at.display()
        );
    }
}

fn mount(arguments: &[&str], at: &Path) -> Result<(), Skip> {
    skip::require_root("mounting a small disk")?;
    let output = match Command::new("mount").args(arguments).arg(at).output() {
        Ok(output) => output,
        Err(error) => return Err(Skip::new("needs-mount", format!("run mount: {error}"))),
    };
    skip::require(
        output.status.success(),
        "needs-mount",
        format!("a small disk can not be mounted here: {}", said(&output)),
    )
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

fn run(command: &mut Command) {
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{command:?}: {}", said(&output)),
        Err(error) => panic!("{command:?}: {error}"),
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "what is written here is there to be refused"
)]
mod tests {
    use std::fs;
    use std::io::{ErrorKind, Write as _};

    use super::*;

    #[test]
    fn a_disk_in_memory_fills_up_and_has_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("disk");
        fs::create_dir(&at).unwrap();
        let Some(disk) = skip::need(SmallDisk::in_memory(&at, 256, None)) else {
            return;
        };
        disk.fill("filler");
        let error = fs::write(at.join("file"), [1; 5000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        fs::remove_file(at.join("filler")).unwrap();
        fs::write(at.join("file"), [1; 5000]).unwrap();
        drop(disk);
        assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_turns_read_only_under_open_files_and_keeps_what_was_durable() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("disk");
        fs::create_dir(&at).unwrap();
        let Some(disk) = skip::need(SmallDisk::ext4(&at, 8)) else {
            return;
        };
        let mut open = fs::File::create(at.join("open")).unwrap();
        open.write_all(b"durable").unwrap();
        open.sync_all().unwrap();
        fs::File::open(&at).unwrap().sync_all().unwrap();
        disk.turn_read_only();
        let error = fs::write(at.join("other"), "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
        assert!(open.write_all(b"more").is_err());
        drop(open);
        disk.repair();
        assert_eq!(fs::read(at.join("open")).unwrap(), b"durable");
        fs::write(at.join("other"), "x").unwrap();
    }
}
