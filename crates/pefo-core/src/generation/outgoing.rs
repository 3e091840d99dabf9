//! Making generations on the active, and keeping them until they are delivered.

mod kept;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::{Content, FileEntry, Manifest, Step};
use super::names::{DataSet, Position, Site};
use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::digest::{Digest, Hasher, StateHash};
use crate::disk::{Attributes, Disk};
use crate::document::{self, Domain, Kind};
use crate::error::{Error, Result};
use crate::keys::SigningKey;
use crate::packing;
use crate::path::RelPath;
use crate::record;
use crate::reign::Epoch;
use crate::sealing::{Recipient, seal, seal_stream};

pub use kept::drop_kept;

/// On whose behalf generations are made.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// The pair.
    pub site: &'a Site,
    /// This master.
    pub certname: &'a Certname,
    /// Its signing key: the reign's holder.
    pub key: &'a SigningKey,
    /// The reign.
    pub epoch: Epoch,
    /// This pefo, such as `pefo 0.1.0`.
    pub tool: &'a str,
}

/// Where a file's stored bytes are until they are sent.
#[derive(Debug, Clone)]
pub enum Stored {
    /// In memory.
    Bytes(Vec<u8>),
    /// In a file of root's that nobody changes.
    File(PathBuf),
}

/// One file of a generation to be.
#[derive(Debug, Clone)]
pub struct Item {
    entry: FileEntry,
    plain: Digest,
    stored: Stored,
}

impl Item {
    /// A file that anybody may read.
    pub fn open(path: RelPath, mode: u32, bytes: Vec<u8>) -> Self {
        let plain = Digest::of(&bytes);
        let entry = FileEntry {
            path,
            size: bytes.len() as u64,
            mode,
            blake3: plain,
            sealed: false,
            unpacked_size: None,
        };
        Self {
            entry,
            plain,
            stored: Stored::Bytes(bytes),
        }
    }

    /// A secret in memory, sealed.
    ///
    /// # Errors
    /// `Invalid`, where there is no usable recipient.
    pub fn sealed(
        path: RelPath,
        mode: u32,
        plain: &[u8],
        recipients: &[Recipient],
    ) -> Result<Self> {
        let bytes = seal(recipients, plain)?;
        let entry = FileEntry {
            path,
            size: bytes.len() as u64,
            mode,
            blake3: Digest::of(&bytes),
            sealed: true,
            unpacked_size: None,
        };
        Ok(Self {
            entry,
            plain: Digest::of(plain),
            stored: Stored::Bytes(bytes),
        })
    }

    /// A secret in a file, packed and sealed into the new file `into`.
    ///
    /// # Errors
    /// `Io`, or as [`Item::sealed`].
    pub fn sealed_file(
        disk: &Disk,
        path: RelPath,
        mode: u32,
        plain: &Path,
        into: &Path,
        recipients: &[Recipient],
    ) -> Result<Self> {
        let source = File::open(plain).map_err(|error| Error::io("open", plain, error))?;
        let mut source = Hashing {
            inner: source,
            hasher: Hasher::default(),
        };
        let mut file = disk.create(into, &Attributes::mode(0o600))?;
        let mut sink = Hashing {
            inner: DiskWriter(&mut file),
            hasher: Hasher::default(),
        };
        let sealing = if packing::AVAILABLE {
            packing::pack(&mut source).and_then(|packed| seal_stream(recipients, packed, &mut sink))
        } else {
            seal_stream(recipients, &mut source, &mut sink)
        };
        sealing.map_err(|error| error.context(plain.display()))?;
        let stored = sink.hasher;
        file.finish()?;
        let entry = FileEntry {
            path,
            size: stored.len(),
            mode,
            blake3: stored.digest(),
            sealed: true,
            unpacked_size: packing::AVAILABLE.then(|| source.hasher.len()),
        };
        Ok(Self {
            entry,
            plain: source.hasher.digest(),
            stored: Stored::File(into.to_owned()),
        })
    }
}

/// Hashes what passes.
pub(super) struct Hashing<T> {
    pub(super) inner: T,
    pub(super) hasher: Hasher,
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl<T: std::io::Write> std::io::Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

struct DiskWriter<'a>(&'a mut crate::disk::NewFile);

impl std::io::Write for DiskWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A generation ready to be sent.
#[derive(Debug)]
pub struct Outgoing {
    /// What it says.
    pub manifest: Manifest,
    /// The manifest as signed and stored.
    pub document: Vec<u8>,
    /// Its files, or a batch's payload.
    pub payload: Payload,
}

/// A file that is read from anywhere in it on.
pub trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// Where a generation's bytes come from while it is sent.
#[derive(Debug)]
pub enum Payload {
    /// A full generation's files, by path.
    Files(BTreeMap<RelPath, Stored>),
    /// A full generation's files, as they stand below a directory.
    Standing(PathBuf),
    /// A batch's payload.
    Batch(Vec<u8>),
}

impl Payload {
    /// Opens one file of a full generation.
    ///
    /// # Errors
    /// `NotFound` where it has no such file, `Io` where it cannot be opened.
    pub fn open(&self, path: &RelPath) -> Result<Box<dyn ReadSeek + '_>> {
        let open = |file: &Path| -> Result<Box<dyn ReadSeek + '_>> {
            let open = File::open(file).map_err(|error| Error::io("open", file, error))?;
            Ok(Box::new(open))
        };
        let stored = match self {
            Self::Files(files) => files.get(path),
            Self::Standing(root) => return open(&path.in_dir(root)),
            Self::Batch(_) => None,
        };
        match stored {
            Some(Stored::Bytes(bytes)) => Ok(Box::new(Cursor::new(bytes.as_slice()))),
            Some(Stored::File(file)) => open(file),
            None => Err(Error::new(
                crate::ErrorKind::NotFound,
                format!("the generation has no file {path}"),
            )),
        }
    }
}

/// What a generation says of itself besides its bytes.
#[derive(Debug, Clone)]
pub struct Description {
    /// Versions of the products it was read from.
    pub products: BTreeMap<String, String>,
    /// When it was made.
    pub time: Timestamp,
    /// What it means.
    pub summary: serde_json::Value,
}

/// The state of a set of items: what [`Content::Full`] carries, known before a generation is made.
pub fn state_of(items: &[Item]) -> Digest {
    StateHash::of(
        items
            .iter()
            .map(|item| (&item.entry.path, item.entry.mode, &item.plain)),
    )
    .digest()
}

impl Outgoing {
    /// A full generation of `items`.
    ///
    /// # Errors
    /// `Invalid`, where two items have one path or a limit is passed.
    pub fn full(
        author: Author<'_>,
        dataset: DataSet,
        sequence: u64,
        mut items: Vec<Item>,
        description: Description,
    ) -> Result<Self> {
        items.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
        let state = state_of(&items);
        let files = items.iter().map(|item| item.entry.clone()).collect();
        let manifest = manifest(
            author,
            dataset,
            sequence,
            Content::Full { state },
            files,
            description,
        );
        let payload = Payload::Files(
            items
                .into_iter()
                .map(|item| (item.entry.path, item.stored))
                .collect(),
        );
        Self::signed(author, manifest, payload)
    }

    /// A full generation of files that anybody may read, sent from where they stand below `root`; where one
    /// is another by then, the peer refuses it.
    ///
    /// # Errors
    /// `Invalid`, where two files have one path, one is sealed or a limit is passed.
    pub fn standing(
        author: Author<'_>,
        dataset: DataSet,
        sequence: u64,
        root: PathBuf,
        mut files: Vec<FileEntry>,
        description: Description,
    ) -> Result<Self> {
        if let Some(sealed) = files.iter().find(|file| file.sealed) {
            return Err(Error::invalid(format!("{} is sealed", sealed.path)));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let entries = files.iter();
        let state =
            StateHash::of(entries.map(|file| (&file.path, file.mode, &file.blake3))).digest();
        let content = Content::Full { state };
        let manifest = manifest(author, dataset, sequence, content, files, description);
        Self::signed(author, manifest, Payload::Standing(root))
    }

    /// A batch from one state to the next; `bytes` are those of all steps, one after the other, and
    /// are sealed where there are recipients.
    ///
    /// # Errors
    /// `Invalid`, where a limit is passed or sealing fails.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the format")]
    pub fn batch(
        author: Author<'_>,
        dataset: DataSet,
        sequence: u64,
        (from, to): (Digest, Digest),
        steps: Vec<Step>,
        bytes: Vec<u8>,
        recipients: &[Recipient],
        description: Description,
    ) -> Result<Self> {
        let sealed = !recipients.is_empty();
        let payload = if sealed {
            seal(recipients, &bytes)?
        } else {
            bytes
        };
        let content = Content::Batch {
            from,
            to,
            sealed,
            payload: Digest::of(&payload),
            payload_size: payload.len() as u64,
            steps,
        };
        let manifest = manifest(author, dataset, sequence, content, Vec::new(), description);
        Self::signed(author, manifest, Payload::Batch(payload))
    }

    fn signed(author: Author<'_>, manifest: Manifest, payload: Payload) -> Result<Self> {
        manifest.validate()?;
        let domain = Domain {
            kind: Kind::Manifest,
            site: author.site,
            dataset: Some(&manifest.dataset),
        };
        let document = document::sign(&manifest, domain, author.key)?;
        Ok(Self {
            manifest,
            document,
            payload,
        })
    }

    /// Where it stands in its data set's order.
    pub fn position(&self) -> Position {
        self.manifest.position()
    }
}

fn manifest(
    author: Author<'_>,
    dataset: DataSet,
    sequence: u64,
    content: Content,
    files: Vec<FileEntry>,
    description: Description,
) -> Manifest {
    Manifest {
        format: 1,
        site: author.site.clone(),
        dataset,
        epoch: author.epoch,
        holder: author.key.public().id(),
        sequence,
        source: author.certname.clone(),
        tool: author.tool.to_owned(),
        products: description.products,
        time: description.time,
        content,
        files,
        summary: description.summary,
    }
}

/// The active's ledger of one data set: the last position it gave out, and the state sent with it.
/// Stored before anything is sent, so that no position is ever used twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// The last position given out.
    pub position: Position,
    /// The state it carries.
    pub state: Digest,
}

impl Sent {
    /// Reads the ledger; `None` where nothing was ever sent.
    ///
    /// # Errors
    /// `Io`, or `Invalid` where it is malformed.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        record::load(path)
    }

    /// The next position in `epoch`.
    pub fn next(last: Option<&Self>, epoch: Epoch) -> Position {
        let sequence = match last {
            Some(sent) if sent.position.epoch == epoch => sent.position.sequence + 1,
            _ => 1,
        };
        Position { epoch, sequence }
    }

    /// Stores the ledger.
    ///
    /// # Errors
    /// `Io`.
    pub fn store(&self, disk: &Disk, path: &Path) -> Result<()> {
        record::store(disk, path, self, 0o600)
    }
}
