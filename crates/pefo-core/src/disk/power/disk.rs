//! The disk of the model: what is on it for sure, what may be, and what a power loss makes of that.
//!
//! Files and directories are told apart by inode number, so that a directory keeps its names and a
//! file its bytes when they are renamed. An open handle on each one ever seen keeps its number from
//! being used again.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Loss, Order};

type Inode = u64;
type Names = BTreeMap<OsString, Node>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(Inode),
    Directory(Inode),
}

/// A file's bytes and mode as its last fsync left them; before the first one it is empty.
#[derive(Debug, Clone)]
struct SavedFile {
    _handle: Arc<File>,
    bytes: Arc<[u8]>,
    mode: u32,
}

/// A directory's names and mode as its last fsync left them.
#[derive(Debug, Clone)]
struct SavedDirectory {
    _handle: Arc<File>,
    names: Names,
    mode: u32,
}

/// Names that one operation changed and no fsync has made durable yet.
#[derive(Debug, Clone)]
struct Change(Vec<(Inode, OsString, Option<Node>)>);

/// What was made durable until now, and what was not.
#[derive(Debug, Clone, Default)]
pub(super) struct Durable {
    files: HashMap<Inode, SavedFile>,
    directories: HashMap<Inode, SavedDirectory>,
    pending: Vec<Change>,
}

impl Durable {
    /// syncfs: all that stands below `root`.
    pub(super) fn sync_all(&mut self, root: &Path) -> io::Result<()> {
        for entry in walkdir::WalkDir::new(root) {
            let entry = entry?;
            if entry.file_type().is_dir() {
                self.sync_dir(entry.path())?;
            } else if entry.file_type().is_file() {
                self.sync_file(entry.path())?;
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// fsync of a directory: its mode, and the names in it, not what they name.
    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        let mut names = Names::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if let Some(node) = self.meet(&entry.path())? {
                names.insert(entry.file_name(), node);
            }
        }
        let meta = dir.symlink_metadata()?;
        let saved = SavedDirectory {
            _handle: Arc::new(File::open(dir)?),
            names,
            mode: mode(&meta),
        };
        self.directories.insert(meta.ino(), saved);
        for Change(names) in &mut self.pending {
            names.retain(|(dir, _, _)| *dir != meta.ino());
        }
        self.pending.retain(|Change(names)| !names.is_empty());
        Ok(())
    }

    /// fsync of a file: its bytes and mode, not its name.
    pub(super) fn sync_file(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let meta = file.metadata()?;
        let saved = SavedFile {
            _handle: Arc::new(file),
            bytes: bytes.into(),
            mode: mode(&meta),
        };
        self.files.insert(meta.ino(), saved);
        Ok(())
    }

    /// A name has come.
    pub(super) fn named(&mut self, path: &Path) -> io::Result<()> {
        let node = self.meet(path)?;
        self.pending.push(Change(vec![entry(path, node)?]));
        Ok(())
    }

    /// A name has gone.
    pub(super) fn unnamed(&mut self, path: &Path) -> io::Result<()> {
        self.pending.push(Change(vec![entry(path, None)?]));
        Ok(())
    }

    /// A name has become another one.
    pub(super) fn renamed(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.meet(to)?;
        let (gone, come) = (entry(from, None)?, entry(to, node)?);
        // One change, until the fsync of one of two directories makes its half durable.
        self.pending.push(Change(vec![gone, come]));
        Ok(())
    }

    /// What stands at `path`: neither its bytes nor its names are durable where it is new. Symlinks and
    /// whatever else there may be are not followed any further.
    fn meet(&mut self, path: &Path) -> io::Result<Option<Node>> {
        let meta = path.symlink_metadata()?;
        let inode = meta.ino();
        if meta.is_dir() {
            if let Entry::Vacant(entry) = self.directories.entry(inode) {
                entry.insert(SavedDirectory {
                    _handle: Arc::new(File::open(path)?),
                    names: Names::new(),
                    mode: mode(&meta),
                });
            }
            return Ok(Some(Node::Directory(inode)));
        }
        if !meta.is_file() {
            return Ok(None);
        }
        if let Entry::Vacant(entry) = self.files.entry(inode) {
            entry.insert(SavedFile {
                _handle: Arc::new(File::open(path)?),
                bytes: Arc::default(),
                mode: mode(&meta),
            });
        }
        Ok(Some(Node::File(inode)))
    }

    /// All there is to know about the disk at this moment.
    pub(super) fn moment(&self, root: &Path) -> io::Result<Moment> {
        Ok(Moment {
            root: root.symlink_metadata()?.ino(),
            disk: self.clone(),
        })
    }
}

fn mode(meta: &Metadata) -> u32 {
    meta.permissions().mode() & 0o7777
}

fn entry(path: &Path, node: Option<Node>) -> io::Result<(Inode, OsString, Option<Node>)> {
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => Ok((dir.symlink_metadata()?.ino(), name.to_owned(), node)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// A disk at one moment, before it is decided what of the pending changes it keeps.
#[derive(Debug)]
pub(super) struct Moment {
    root: Inode,
    disk: Durable,
}

impl Moment {
    /// All the ways in which power may be lost.
    pub(super) fn losses(&self, order: Order) -> Vec<Loss> {
        let pending = self.disk.pending.len();
        let mut losses = vec![Loss::Everything, Loss::BytesOnly];
        // Of one change there are no others that could be kept or lost without it.
        if pending > 1 {
            match order {
                Order::Any => {
                    losses.extend((0..pending).map(Loss::AllButTheName));
                    losses.extend((0..pending).map(Loss::OnlyTheName));
                }
                Order::Kept => losses.extend((1..pending).map(Loss::TheNamesFrom)),
            }
        }
        losses
    }

    /// What is left.
    pub(super) fn image(&self, loss: Loss) -> Image {
        let kept = |nth: usize| match loss {
            Loss::Everything => false,
            Loss::BytesOnly => true,
            Loss::AllButTheName(only) => nth == only,
            Loss::OnlyTheName(lost) => nth != lost,
            Loss::TheNamesFrom(lost) => nth < lost,
        };
        let mut names: HashMap<Inode, Names> = HashMap::new();
        let changes = self.disk.pending.iter().enumerate();
        for (dir, name, node) in changes
            .filter(|(nth, _)| kept(*nth))
            .flat_map(|(_, Change(names))| names)
        {
            let names = names.entry(*dir).or_insert_with(|| self.durable(*dir));
            match node {
                Some(node) => names.insert(name.clone(), *node),
                None => names.remove(name),
            };
        }
        let mut image = Image::default();
        self.gather(&names, &mut vec![self.root], Path::new(""), &mut image);
        image
    }

    fn durable(&self, dir: Inode) -> Names {
        let saved = self.disk.directories.get(&dir);
        saved.map(|saved| saved.names.clone()).unwrap_or_default()
    }

    /// Adds what stands in the last directory of `way`, whose path is `at`.
    fn gather(
        &self,
        changed: &HashMap<Inode, Names>,
        way: &mut Vec<Inode>,
        at: &Path,
        image: &mut Image,
    ) {
        let Some(dir) = way.last() else { return };
        let names = match changed.get(dir) {
            Some(names) => names.clone(),
            None => self.durable(*dir),
        };
        for (name, node) in names {
            let path = at.join(name);
            match node {
                Node::File(inode) => {
                    if let Some(SavedFile { bytes, mode, .. }) = self.disk.files.get(&inode) {
                        image.0.insert(path, Thing::File(bytes.clone(), *mode));
                    }
                }
                // Renames that are half kept may put a directory below itself.
                Node::Directory(inode) if !way.contains(&inode) => {
                    let mode = self.disk.directories.get(&inode).map(|saved| saved.mode);
                    image
                        .0
                        .insert(path.clone(), Thing::Directory(mode.unwrap_or(0o700)));
                    way.push(inode);
                    self.gather(changed, way, &path, image);
                    way.pop();
                }
                Node::Directory(_) => {}
            }
        }
    }
}

/// A directory's whole content, by path; a directory comes before what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Image(BTreeMap<PathBuf, Thing>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Thing {
    Directory(u32),
    File(Arc<[u8]>, u32),
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, thing) in &self.0 {
            match thing {
                Thing::Directory(mode) => write!(f, "{}/ {mode:o}; ", path.display())?,
                Thing::File(bytes, mode) => {
                    write!(f, "{} {mode:o} {} bytes; ", path.display(), bytes.len())?;
                }
            }
        }
        Ok(())
    }
}

impl Image {
    /// Writes it into an empty directory.
    #[expect(
        clippy::disallowed_methods,
        reason = "rebuilds a disk's content for a test"
    )]
    pub(super) fn write(&self, into: &Path) -> io::Result<()> {
        for (path, thing) in &self.0 {
            let target = into.join(path);
            let mode = match thing {
                Thing::Directory(mode) => {
                    std::fs::create_dir(&target)?;
                    mode
                }
                Thing::File(bytes, mode) => {
                    std::fs::write(&target, bytes)?;
                    mode
                }
            };
            std::fs::set_permissions(&target, Permissions::from_mode(*mode))?;
        }
        Ok(())
    }
}
