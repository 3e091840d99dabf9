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

use std::collections::BTreeMap;
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
                let mut files = BTreeMap::new();
                for entry in &manifest.files {
                    let path = entry.path.in_dir(&dir.join(DATA));
                    let size = std::fs::symlink_metadata(&path).map(|meta| meta.len());
                    is_whole(&path, size.is_ok_and(|size| size == entry.size))?;
                    files.insert(entry.path.clone(), Stored::File(path));
                }
                Payload::Files(files)
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
#[expect(clippy::disallowed_methods, reason = "tests damage what is kept")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Digest;
    use crate::certname::Certname;
    use crate::clock::Timestamp;
    use crate::disk::fault::StopAt;
    use crate::disk::power::{Loss, Recorder};
    use crate::generation::outgoing::{Author, Description, Item};
    use crate::keys::{SigningKey, system_random};
    use crate::path::RelPath;
    use crate::reign::Epoch;
    use crate::sealing::UnsealingKey;

    struct World {
        dir: tempfile::TempDir,
        site: Site,
        certname: Certname,
        key: SigningKey,
        unsealing: UnsealingKey,
    }

    impl World {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
                site: Site::new("0123456789abcdef0123456789abcdef").unwrap(),
                certname: Certname::new("a.lab").unwrap(),
                key: SigningKey::ephemeral(&system_random()).unwrap(),
                unsealing: UnsealingKey::ephemeral(),
            }
        }

        fn author(&self) -> Author<'_> {
            Author {
                site: &self.site,
                certname: &self.certname,
                key: &self.key,
                epoch: Epoch(1),
                tool: "pefo test",
            }
        }

        fn kept_dir(&self) -> std::path::PathBuf {
            self.dir.path().join("outgoing/ca")
        }

        /// A sealed file in a directory of the run's own, and an open one in memory.
        fn full(&self, sequence: u64, bytes: usize) -> Outgoing {
            let plain = self.dir.path().join("plain");
            let sealed = self.dir.path().join(format!("sealed-{sequence}"));
            std::fs::write(&plain, vec![7; bytes]).unwrap();
            drop(std::fs::remove_file(&sealed));
            let recipients = [self.unsealing.recipient()];
            let path = RelPath::new("d/dump").unwrap();
            let disk = Disk::new();
            let sealed = Item::sealed_file(&disk, path, 0o600, &plain, &sealed, &recipients);
            let items = vec![
                sealed.unwrap(),
                Item::open(RelPath::new("a").unwrap(), 0o644, b"open".to_vec()),
            ];
            Outgoing::full(self.author(), DataSet::Ca, sequence, items, description()).unwrap()
        }

        fn kept(&self) -> Result<Option<Outgoing>> {
            Outgoing::kept(
                &self.kept_dir(),
                &self.site,
                &DataSet::Ca,
                &[self.key.public()],
            )
        }
    }

    fn description() -> Description {
        Description {
            products: BTreeMap::new(),
            time: Timestamp::from_unix_seconds(1_763_800_000).unwrap(),
            summary: serde_json::Value::Null,
        }
    }

    fn contents(outgoing: &Outgoing) -> Vec<Digest> {
        let files = outgoing.manifest.files.iter();
        files
            .map(|entry| {
                let file = outgoing.payload.open(&entry.path).unwrap();
                Digest::of_reader(file).unwrap().0
            })
            .collect()
    }

    fn same(kept: &Outgoing, made: &Outgoing) {
        assert_eq!(kept.document, made.document);
        assert_eq!(kept.manifest, made.manifest);
        assert_eq!(contents(kept), contents(made));
    }

    #[test]
    fn what_is_kept_is_the_same_bytes_again_and_outlives_the_runs_own_files() {
        let world = World::new();
        let disk = Disk::new();
        assert!(world.kept().unwrap().is_none());
        let first = world.full(1, 2_000_000);
        assert!(first.is_worth_keeping());
        first.keep(&disk, &world.kept_dir()).unwrap();
        same(&world.kept().unwrap().unwrap(), &first);
        let second = world.full(2, 2_000_000);
        second.keep(&disk, &world.kept_dir()).unwrap();
        let expected = contents(&second);
        std::fs::remove_file(world.dir.path().join("sealed-2")).unwrap();
        let kept = world.kept().unwrap().unwrap();
        assert_eq!(contents(&kept), expected);
        assert_eq!(std::fs::read_dir(world.kept_dir()).unwrap().count(), 1);
        drop_kept(&disk, &world.kept_dir()).unwrap();
        assert!(world.kept().unwrap().is_none());
        drop_kept(&disk, &world.kept_dir()).unwrap();
    }

    #[test]
    fn a_batch_is_kept_with_its_payload() {
        let world = World::new();
        let batch = |recipients: &[_]| {
            Outgoing::batch(
                world.author(),
                DataSet::Ca,
                3,
                (Digest::of(b"1"), Digest::of(b"2")),
                vec![crate::generation::Step::Put {
                    path: RelPath::new("a").unwrap(),
                    mode: 0o644,
                    size: 2_000_000,
                    blake3: Digest::of(&vec![1; 2_000_000]),
                }],
                vec![1; 2_000_000],
                recipients,
                description(),
            )
            .unwrap()
        };
        let sealed = batch(&[world.unsealing.recipient()]);
        assert!(sealed.is_worth_keeping());
        assert!(!batch(&[]).is_worth_keeping(), "it would be the same again");
        sealed.keep(&Disk::new(), &world.kept_dir()).unwrap();
        let kept = world.kept().unwrap().unwrap();
        let (Payload::Batch(kept), Payload::Batch(made)) = (kept.payload, sealed.payload) else {
            panic!("a batch has a payload")
        };
        assert!(kept == made);
    }

    #[test]
    fn what_is_short_or_not_sealed_is_not_worth_it() {
        let world = World::new();
        assert!(!world.full(1, 500_000).is_worth_keeping());
        let items = vec![Item::open(
            RelPath::new("a").unwrap(),
            0o644,
            vec![1; 5_000_000],
        )];
        let open = Outgoing::full(world.author(), DataSet::Ca, 1, items, description()).unwrap();
        assert!(!open.is_worth_keeping());
    }

    #[test]
    fn what_is_damaged_is_told() {
        let world = World::new();
        world
            .full(1, 10_000)
            .keep(&Disk::new(), &world.kept_dir())
            .unwrap();
        let dir = world.kept_dir().join("00000001-000000000001");
        std::fs::write(dir.join("data/a"), "cut").unwrap();
        assert!(world.kept().unwrap_err().to_string().contains("data/a"));
        std::fs::write(dir.join("data/a"), "open").unwrap();
        world.kept().unwrap().unwrap();
        let stranger = SigningKey::ephemeral(&system_random()).unwrap().public();
        let (site, ca) = (&world.site, &DataSet::Ca);
        assert!(Outgoing::kept(&world.kept_dir(), site, ca, &[stranger]).is_err());
        std::fs::write(dir.join("document"), "torn").unwrap();
        assert!(world.kept().is_err());
    }

    #[test]
    fn a_run_killed_at_any_moment_leaves_one_whole_generation_or_none() {
        let world = World::new();
        let (first, second) = (world.full(1, 10_000), world.full(2, 20_000));
        let mut seen = std::collections::BTreeSet::new();
        for operations in 0.. {
            first.keep(&Disk::new(), &world.kept_dir()).unwrap();
            let stop = Arc::new(StopAt::new(operations));
            let kept = second.keep(&Disk::with_hook(stop.clone()), &world.kept_dir());
            let found = world.kept().unwrap();
            seen.insert(found.as_ref().map(|it| it.position().sequence));
            match &found {
                Some(found) if found.position().sequence == 1 => same(found, &first),
                Some(found) => same(found, &second),
                None => {}
            }
            if !stop.has_stopped() {
                kept.unwrap();
                break;
            }
        }
        assert_eq!(seen, [None, Some(1), Some(2)].into());
    }

    #[test]
    fn what_is_kept_survives_a_power_loss() {
        let world = World::new();
        let outgoing = world.full(1, 2_000_000);
        let power = Arc::new(Recorder::over(world.dir.path()).unwrap());
        let disk = Disk::with_hook(power.clone());
        outgoing.keep(&disk, &world.kept_dir()).unwrap();
        for loss in [Loss::Everything, Loss::BytesOnly] {
            let after = tempfile::tempdir().unwrap();
            power.lose_power(after.path(), loss).unwrap();
            let dir = after.path().join("outgoing/ca");
            let keys = [world.key.public()];
            let kept = Outgoing::kept(&dir, &world.site, &DataSet::Ca, &keys);
            same(&kept.unwrap().unwrap(), &outgoing);
        }
    }
}
