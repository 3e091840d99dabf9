//! A source, a copy of it, and a line between them.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use pefo_core::cancel::Cancel;
use pefo_core::clock::SystemClock;
use pefo_core::disk::Disk;
use pefo_core::progress::Silent;
use pefo_core::{RelPath, Result};
use pefo_transport::delta::Seed;
use pefo_transport::frame::{Frame, PREAMBLE, decode_agreed};
use pefo_transport::message::Capabilities;
use pefo_transport::tree::{DeleteGuard, Scan, TreeLimits, TreeServed};
use pefo_transport::{
    Synced, TreeConnection, TreeOptions, TreeReceiver, TreeReceiverOptions, TreeSource,
};

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) options: TreeReceiverOptions,
    pub(crate) sending: TreeOptions,
}

/// What a tree holds: modes, mtimes and content by path; directories have a mode alone.
pub(crate) type Shown = BTreeMap<String, (u32, Option<(i64, i64, Vec<u8>)>)>;

pub(crate) fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

/// In memory where there is such a place: what a disk would lose is the recorder's business.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = scratch();
        std::fs::create_dir(dir.path().join("source")).unwrap();
        let options =
            TreeReceiverOptions::new(dir.path().join("dest"), dir.path().join("state"), "test")
                .guard(DeleteGuard::default().max_percent(100))
                .limits(TreeLimits::default().free_bytes(0))
                .lock_wait(Duration::from_millis(50));
        Self {
            dir,
            options,
            sending: TreeOptions::new("test"),
        }
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub(crate) fn dest(&self) -> PathBuf {
        self.dir.path().join("dest")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Writes a file of the source, with directories on its way; an old mtime, so that it is settled.
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        write_in(&self.source(), path, content);
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.source().join(path);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }

    pub(crate) fn tree_source(&self) -> TreeSource {
        TreeSource::new(self.source()).cached(self.dir.path().join("source.digests"))
    }

    pub(crate) fn scan(&self, source: &mut TreeSource) -> Scan {
        source.scan(&SystemClock, &Cancel::new()).unwrap()
    }

    pub(crate) fn receiver(&self) -> TreeReceiver {
        TreeReceiver::new(self.options.clone())
    }

    /// A session over a socket pair: the receiver in a thread, `talk` on the other side.
    pub(crate) fn session<T>(
        &self,
        disk: &Disk,
        talk: impl FnOnce(UnixStream) -> T,
    ) -> (T, Result<TreeServed>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let receiver = self.receiver();
        std::thread::scope(|scope| {
            let receiver = scope.spawn(move || {
                let mut input = theirs.try_clone().unwrap();
                let mut output = theirs;
                let seed = Seed([7; 16]);
                receiver.serve(&mut input, &mut output, disk, &SystemClock, seed)
            });
            let said = talk(ours);
            (said, receiver.join().unwrap())
        })
    }

    /// One session with one comparison, over `stream`.
    pub(crate) fn sync_over(&self, stream: impl Read + Write + Send + 'static) -> Result<Synced> {
        let mut source = self.tree_source();
        let scan = self.scan(&mut source);
        let mut line = TreeConnection::over(stream, self.sending.clone())?;
        let synced = line.sync(&source, scan, &Silent)?;
        source.keep(&Disk::new())?;
        line.close()?;
        Ok(synced)
    }

    pub(crate) fn try_sync(&self) -> Result<Synced> {
        let (synced, served) = self.session(&Disk::new(), |stream| self.sync_over(stream));
        if synced.is_ok() {
            assert!(served.unwrap().goodbye);
        }
        synced
    }

    pub(crate) fn sync(&self) -> Synced {
        self.try_sync().unwrap()
    }

    /// Asserts that the copy is as the source.
    pub(crate) fn same(&self) {
        assert_eq!(show(&self.dest()), show(&self.source()));
    }

    /// What waits beside the tree: file names below `stage` and `parts`.
    pub(crate) fn waiting(&self) -> Vec<String> {
        ["stage", "parts"]
            .iter()
            .flat_map(|name| show(&self.state().join(name)))
            .filter(|(_, (_, file))| file.is_some())
            .map(|(path, _)| path)
            .collect()
    }

    /// All bytes that a sender says in one sync.
    pub(crate) fn record(&self) -> Vec<u8> {
        let said = Arc::new(Mutex::new(Vec::new()));
        let (synced, served) = self.session(&Disk::new(), |stream| {
            self.sync_over(Recording {
                inner: stream,
                said: said.clone(),
            })
        });
        synced.unwrap();
        served.unwrap();
        said.lock().unwrap().clone()
    }

    /// Plays a sender that says these bytes and ends; gives the receiver's frames and outcome.
    pub(crate) fn recite(&self, said: &[u8], disk: &Disk) -> (Vec<Frame>, Result<TreeServed>) {
        let mut output = Vec::new();
        let served = self.receiver().serve(
            &mut Cursor::new(said),
            &mut output,
            disk,
            &SystemClock,
            Seed([7; 16]),
        );
        (frames(&output), served)
    }
}

/// The frames behind a preamble.
pub(crate) fn frames(output: &[u8]) -> Vec<Frame> {
    let mut rest = output.strip_prefix(PREAMBLE.as_slice()).unwrap();
    let mut frames = Vec::new();
    while let Some((frame, used)) = decode_agreed(rest, Capabilities::TREE).unwrap() {
        frames.push(frame);
        rest = &rest[used..];
    }
    frames
}

pub(crate) fn write_in(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Replaced, as programs do that take care; the copy must never share a file with the source.
    let temp = path.with_extension("new");
    std::fs::write(&temp, content).unwrap();
    std::fs::rename(temp, &path).unwrap();
    age(&path, content.len() as u64);
}

/// Long ago, and another time for each `at`.
pub(crate) fn age(path: &Path, at: u64) {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + at);
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(then).unwrap();
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn show(root: &Path) -> Shown {
    let mut shown = Shown::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let mode = meta.mode() & 0o7777;
            if meta.is_dir() {
                shown.insert(name, (mode, None));
                left.push(path);
            } else if meta.is_file() {
                let content = std::fs::read(&path).unwrap();
                shown.insert(
                    name,
                    (mode, Some((meta.mtime(), meta.mtime_nsec(), content))),
                );
            }
        }
    }
    shown
}

/// Bytes that do not shrink, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

struct Recording<S> {
    inner: S,
    said: Arc<Mutex<Vec<u8>>>,
}

impl<S: Read> Read for Recording<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl<S: Write> Write for Recording<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.said.lock().unwrap().extend_from_slice(&bytes[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// A line that ends when so many bytes were said.
pub(crate) struct Cutting<S> {
    pub(crate) inner: S,
    pub(crate) left: usize,
}

impl<S: Read> Read for Cutting<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        self.inner.read(buffer)
    }
}

impl<S: Write> Write for Cutting<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        let count = bytes.len().min(self.left);
        self.left -= count;
        self.inner.write(&bytes[..count])
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
