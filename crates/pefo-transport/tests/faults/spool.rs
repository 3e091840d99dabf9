//! A spool on the far host, and generations that are sent to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use pefo_core::clock::Timestamp;
use pefo_core::disk::{Beneath, Disk, is_temp_name};
use pefo_core::generation::spool;
use pefo_core::generation::{DataSet, Gate, Position, Site};
use pefo_core::keys::{SigningKey, system_random};
use pefo_core::lock::Lock;
use pefo_core::reign::{Epoch, Role, Station};
use pefo_core::sealing::UnsealingKey;
use pefo_core::{Certname, RelPath};
use pefo_testkit::skip::Skip;
use pefo_testkit::wait;

use crate::mirror::{show, write_in};
use crate::world::{LONG, Run, World, example, in_time, noise, run, scratch};

const SITE: &str = "0123456789abcdef0123456789abcdef";

pub(crate) struct Spool {
    pub(crate) world: World,
    /// Where the spool is.
    pub(crate) home: PathBuf,
    site: Site,
    key: SigningKey,
    station: Station,
}

impl Spool {
    pub(crate) fn new() -> Result<Self, Skip> {
        let world = World::new()?;
        let home = world.path("spool");
        for dir in [&home, &world.path("acks"), &world.path("files")] {
            std::fs::create_dir(dir).unwrap();
        }
        let (disk, site) = (Disk::new(), Site::new(SITE).unwrap());
        let key = SigningKey::create(&disk, &world.path("key"), &system_random()).unwrap();
        let now = Timestamp::from_unix_seconds(1_763_800_000).unwrap();
        let certname = Certname::new("a.lab").unwrap();
        let station = Station::found(&site, &certname, &key, now).unwrap();
        station.store(&disk, &world.path("active.json")).unwrap();
        Station::new(Role::Passive, station.current.as_bytes(), None)
            .unwrap()
            .store(&disk, &world.path("passive.json"))
            .unwrap();
        world.receiver(&format!(
            "{} {} {} {} {SITE} b.lab {}",
            example("receive_once").display(),
            home.display(),
            world.path("passive.json").display(),
            world.path("acks").display(),
            key.public()
        ));
        Ok(Self {
            world,
            home,
            site,
            key,
            station,
        })
    }

    /// The files of generation `sequence`: one that every second one changes, one that none does.
    pub(crate) fn write(&self, sequence: u64, bytes: usize) {
        let files = self.world.path("files");
        write_in(&files, "large", &noise(sequence, bytes));
        write_in(&files, "dir/steady", b"the same in all");
        write_in(&files, "dir/often", &noise(sequence / 2, 100));
        write_in(&files, "number", sequence.to_string().as_bytes());
    }

    /// The program that sends what is written now.
    pub(crate) fn push(&self, sequence: u64) -> Command {
        let mut command = Command::new(example("push_once"));
        command
            .args([SITE, "a.lab"])
            .arg(self.world.path("active.json"))
            .arg(self.world.path("key"))
            .arg(sequence.to_string())
            .arg(self.world.path("files"))
            .args(self.world.far_end());
        command
    }

    pub(crate) fn run(&self, sequence: u64) -> Run {
        run(&mut self.push(sequence))
    }

    /// Runs it to its end, once the last one's receiver has let go.
    #[track_caller]
    pub(crate) fn goes_on(&self, sequence: u64) -> Run {
        let run = wait::within(LONG, || {
            let run = self.run(sequence);
            (!run.err.contains("another session is sending")).then_some(run)
        });
        in_time(run).goes_through()
    }

    fn spooled(&self) -> PathBuf {
        spool::dataset_dir(&self.home, &DataSet::Files)
    }

    /// Waits until no session writes here any more.
    #[track_caller]
    pub(crate) fn is_let_go(&self) {
        let dir = self.spooled();
        if dir.is_dir() {
            let lock = dir.join(".pefo-lock");
            wait::until("the lock", LONG, || Lock::take(&lock).is_ok());
        }
    }

    /// What is being received, and was not shown.
    pub(crate) fn begun(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.spooled());
        let names = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path());
        names
            .filter(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                is_temp_name(name) || spool::parse_partial(name).is_some()
            })
            .collect()
    }

    /// Waits until so much of a file has arrived.
    #[track_caller]
    pub(crate) fn arrived(&self, bytes: usize) {
        wait::until("the beginning of a file", LONG, || {
            let bytes_of = |path: &Path| -> u64 {
                let files = walkdir::WalkDir::new(path).into_iter().flatten();
                let lengths = files.filter_map(|file| Some(file.metadata().ok()?.len()));
                lengths.sum()
            };
            let arrived: u64 = self.begun().iter().map(|path| bytes_of(path)).sum();
            arrived >= bytes as u64
        });
    }

    /// Which generations stand.
    pub(crate) fn standing(&self) -> Vec<u64> {
        let Ok(dir) = Beneath::open(&self.spooled()) else {
            return vec![];
        };
        let standing = spool::list(&dir).unwrap();
        standing.iter().map(|(at, _)| at.sequence).collect()
    }

    /// Root's own check of all that stands, each against the files it was made of.
    #[track_caller]
    pub(crate) fn verify(&self) {
        let (keys, unsealing) = ([self.key.public()], UnsealingKey::ephemeral());
        let reign = self.station.reign(&self.site, &keys).unwrap();
        let gate = Gate {
            site: &self.site,
            dataset: &DataSet::Files,
            keys: &keys,
            reign: &reign,
            accepted: None,
            unsealing: &unsealing,
        };
        let dir = Beneath::open(&self.spooled()).unwrap();
        for (at, form) in spool::list(&dir).unwrap() {
            let store = scratch();
            gate.take(&dir, at, form, store.path(), &Disk::new())
                .unwrap_or_else(|error| panic!("{at}: {error}"));
        }
    }

    /// What the generation holds is what is written now.
    #[track_caller]
    pub(crate) fn holds_what_is_written(&self, sequence: u64) {
        let position = Position {
            epoch: Epoch(1),
            sequence,
        };
        let data = self.spooled().join(position.to_string()).join(spool::DATA);
        let content = |root: &Path| -> Vec<(String, Vec<u8>)> {
            let shown = show(root).into_iter();
            shown
                .filter_map(|(path, (_, file))| Some((path, file?.2)))
                .collect()
        };
        assert!(
            content(&data) == content(&self.world.path("files")),
            "generation {sequence} is not what was sent"
        );
    }

    /// What the far host's owner does: all generations but the newest go.
    pub(crate) fn retire(&self) {
        let standing = self.standing();
        for sequence in standing.iter().rev().skip(1) {
            let position = Position {
                epoch: Epoch(1),
                sequence: *sequence,
            };
            let name = RelPath::new(position.to_string()).unwrap();
            std::fs::remove_dir_all(name.in_dir(&self.spooled())).unwrap();
        }
    }
}
