//! A tree that is kept on the far host, and two trees that it is made to be in turn.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use pefo_core::cancel::Cancel;
use pefo_core::clock::{Clock, SystemClock};
use pefo_core::disk::Disk;
use pefo_core::lock::Lock;
use pefo_core::progress::Silent;
use pefo_core::{ErrorKind, Result};
use pefo_testkit::skip::Skip;
use pefo_testkit::wait;
use pefo_transport::delta::Seed;
use pefo_transport::tree::{DeleteGuard, TreeLimits};
use pefo_transport::{
    Synced, TreeConnection, TreeOptions, TreeReceiver, TreeReceiverOptions, TreeSource,
};

use crate::world::{LONG, Run, World, example, in_time, noise, run};

/// What a tree holds: modes, mtimes and content by path; directories have a mode alone.
pub(crate) type Shown = BTreeMap<String, (u32, Option<(i64, i64, Vec<u8>)>)>;

pub(crate) struct Mirror {
    pub(crate) world: World,
    /// Where the copy and its state are.
    pub(crate) home: PathBuf,
}

impl Mirror {
    pub(crate) fn new() -> Result<Self, Skip> {
        let world = World::new()?;
        let home = world.path("home");
        std::fs::create_dir(&home).unwrap();
        let mirror = Self { world, home };
        mirror.world.receiver(&format!(
            "{} serve {} {}",
            example("tree_mirror").display(),
            mirror.dest().display(),
            mirror.state().display()
        ));
        Ok(mirror)
    }

    pub(crate) fn dest(&self) -> PathBuf {
        self.home.join("dest")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    pub(crate) fn source(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    /// Two trees that differ in every way that trees can, either way round.
    pub(crate) fn two_sources(&self) -> [PathBuf; 2] {
        let [one, two] = ["one", "two"].map(|name| self.source(name));
        let long = noise(1, 1_200_000);
        let mut other = long.clone();
        other[600_000] ^= 1;
        for (path, content) in [
            ("replaced", b"old".as_slice()),
            ("long", &long),
            ("gone", b"1"),
            ("gone-dir/a/b", b"2"),
            ("was-file", b"3"),
            ("was-dir/x", b"4"),
            ("adjusted", b"5"),
            ("moved", b"moved content"),
            ("untouched", b"6"),
            ("whole", &noise(2, 60_000)),
        ] {
            write_in(&one, path, content);
        }
        for (path, content) in [
            ("replaced", b"new".as_slice()),
            ("long", &other),
            ("new/file", b"1"),
            ("new/other", b"22"),
            ("was-file/inside", b"3"),
            ("was-dir", b"4"),
            ("adjusted", b"5"),
            ("moved-here", b"moved content"),
            ("untouched", b"6"),
            ("whole", &noise(3, 60_000)),
        ] {
            write_in(&two, path, content);
        }
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(two.join("adjusted"), private).unwrap();
        [one, two]
    }

    /// The program that makes the copy as `source` is.
    pub(crate) fn push(&self, source: &Path) -> Command {
        let [host, port, user, identity, host_key] = self.world.far_end();
        let mut command = Command::new(example("tree_mirror"));
        command.arg("push").arg(source).args([
            "--state",
            &format!("{}.state", source.display()),
            "--host",
            &host,
            "--port",
            &port,
            "--user",
            &user,
            "--identity",
            &identity,
            "--host-key",
            &host_key,
        ]);
        command
    }

    pub(crate) fn run(&self, source: &Path) -> Run {
        run(&mut self.push(source))
    }

    /// Runs it to its end. A receiver whose line has gone holds the lock until it sees that; nobody
    /// clears anything up.
    #[track_caller]
    pub(crate) fn goes_on(&self, source: &Path) -> Run {
        let run = wait::within(LONG, || {
            let run = self.run(source);
            (!run.err.contains("another run holds")).then_some(run)
        });
        in_time(run).goes_through()
    }

    /// One session over the line with one comparison, in this process.
    pub(crate) fn sync(&self, source: &Path) -> Result<Synced> {
        let mut source = TreeSource::new(source);
        let scan = source.scan(&SystemClock, &Cancel::new()).unwrap();
        let mut line = TreeConnection::open(&self.world.target(), TreeOptions::new("test"))?;
        let synced = line.sync(&source, scan, &Silent)?;
        line.close()?;
        Ok(synced)
    }

    /// The same without ssh, at a receiver in this process whose clock shows something else.
    pub(crate) fn sync_here(&self, source: &mut TreeSource, clock: &dyn Clock) -> Result<Synced> {
        let scan = source.scan(clock, &Cancel::new()).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            let receiving = scope.spawn(move || {
                let (mut input, mut output) = (theirs.try_clone().unwrap(), theirs);
                let seed = Seed([7; 16]);
                self.tree_receiver()
                    .serve(&mut input, &mut output, &Disk::new(), clock, seed)
            });
            let synced =
                TreeConnection::over(ours, TreeOptions::new("test")).and_then(|mut line| {
                    let synced = line.sync(source, scan, &Silent)?;
                    line.close()?;
                    Ok(synced)
                });
            drop(receiving.join().unwrap());
            synced
        })
    }

    /// As [`Mirror::goes_on`], without ssh.
    #[track_caller]
    pub(crate) fn goes_on_here(&self, source: &Path) {
        let mut source = TreeSource::new(source);
        let synced = wait::within(LONG, || match self.sync_here(&mut source, &SystemClock) {
            Err(error) if error.kind() == ErrorKind::Locked => None,
            other => Some(other),
        });
        assert!(in_time(synced).unwrap().is_complete());
    }

    fn tree_receiver(&self) -> TreeReceiver {
        TreeReceiver::new(
            TreeReceiverOptions::new(self.dest(), self.state(), "test")
                .guard(DeleteGuard::default().max_percent(100))
                .limits(TreeLimits::default().free_bytes(0)),
        )
    }

    /// Begins a session that asks for nothing: what a crash interrupted is ended by it.
    #[track_caller]
    pub(crate) fn recover(&self) {
        use pefo_transport::frame::{Frame, PREAMBLE, encode};
        use pefo_transport::message::Protocols;
        use pefo_transport::tree::message::Open;
        let mut said = PREAMBLE.to_vec();
        let open = Open {
            protocol: Protocols::OURS,
            tool: "test".into(),
            capabilities: vec![],
        };
        encode(&Frame::Open(open), &mut said).unwrap();
        encode(&Frame::Bye, &mut said).unwrap();
        let served = wait::within(LONG, || {
            let served = self.tree_receiver().serve(
                &mut said.as_slice(),
                &mut Vec::new(),
                &Disk::new(),
                &SystemClock,
                Seed([7; 16]),
            );
            let locked = matches!(&served, Err(error) if error.kind() == ErrorKind::Locked);
            (!locked).then_some(served)
        });
        in_time(served).unwrap();
    }

    /// Waits until no session keeps the tree any more: without its line each ends by itself, and a
    /// killed one's lock goes with it.
    #[track_caller]
    pub(crate) fn is_let_go(&self) {
        let lock = self.state().join("lock");
        if self.state().is_dir() {
            wait::until("the lock", LONG, || Lock::take(&lock).is_ok());
        }
    }

    /// Files that wait beside the tree, with their sizes.
    pub(crate) fn waiting(&self) -> BTreeMap<String, u64> {
        let below = ["stage", "parts"].map(|name| self.state().join(name));
        below
            .iter()
            .flat_map(|root| show(root))
            .filter_map(|(path, (_, file))| Some((path, file?.2.len() as u64)))
            .collect()
    }

    /// Waits until so much of a long file has arrived.
    #[track_caller]
    pub(crate) fn arrived(&self, bytes: u64) {
        wait::until("the beginning of a file", LONG, || {
            let entries = std::fs::read_dir(self.state().join("parts"));
            let sizes = entries.into_iter().flatten().flatten();
            sizes
                .filter_map(|entry| entry.metadata().ok())
                .any(|meta| meta.len() >= bytes)
        });
    }

    /// The copy is as the source, and nothing waits beside it.
    #[track_caller]
    pub(crate) fn is_as(&self, source: &Path) {
        // It tidies up once it has answered.
        self.is_let_go();
        assert!(
            show(&self.dest()) == show(source),
            "the copy is not as its source: {:?} and {:?}",
            show(&self.dest()).keys(),
            show(source).keys()
        );
        assert_eq!(self.waiting(), BTreeMap::new());
        let mut left: Vec<_> = std::fs::read_dir(self.state())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| {
                !["digests", "lock", "parts", "signatures", "stage"].contains(&name.as_str())
            })
            .collect();
        left.sort_unstable();
        assert_eq!(left, [""; 0]);
    }
}

pub(crate) fn write_in(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let temp = path.with_extension("new");
    std::fs::write(&temp, content).unwrap();
    std::fs::rename(temp, &path).unwrap();
    set_mtime(&path, 1_700_000_000 + content.len() as u64, 5);
}

pub(crate) fn set_mtime(path: &Path, seconds: u64, nanoseconds: u32) {
    let then = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(then).unwrap();
}

pub(crate) fn show(root: &Path) -> Shown {
    let mut shown = Shown::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let name = name.to_owned();
            let mode = meta.mode() & 0o7777;
            if meta.is_dir() {
                shown.insert(name, (mode, None));
                left.push(path);
            } else {
                let content = std::fs::read(&path).unwrap();
                let file = (meta.mtime(), meta.mtime_nsec(), content);
                shown.insert(name, (mode, Some(file)));
            }
        }
    }
    shown
}
