//! Two masters that know each other, set up without ssh: their directories, keys and records, and the
//! hooks by which a test stops one of them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pefo_ca::SerialBlock;
use pefo_cli::config::Config;
use pefo_cli::host::Host;
use pefo_cli::outcome::Report;
use pefo_cli::pipeline::watch;
use pefo_core::clock::{FixedClock, Timestamp};
use pefo_core::disk::fault::StopAt;
use pefo_core::disk::{Disk, Hook, Operation};
use pefo_core::generation::Site;
use pefo_core::keys::{SigningKey, system_random};
use pefo_core::launch::{Finished, Invocation, Launcher};
use pefo_core::pairing::Introduction;
use pefo_core::reign::{Role, Station};
use pefo_core::sealing::UnsealingKey;
use pefo_core::{Certname, Result, record};
use pefo_testkit::ca::{CaOptions, Keys, TestCa};
use tempfile::TempDir;
use time::OffsetDateTime;

/// When every history begins: older than any file that it writes.
pub(crate) const BEGINS: i64 = 1_577_880_000;

pub(crate) const ACTIVE: &str = "puppet-a.test";
pub(crate) const PASSIVE: &str = "puppet-b.test";
/// Named in the active's configuration: its certificate never crosses.
pub(crate) const EXCLUDED: &str = "excluded.test";

const STATE_DIRS: [&str; 13] = [
    "state",
    "state/keys",
    "state/public",
    "state/public/peers",
    "state/public/acks",
    "state/sent",
    "state/accepted",
    "state/store",
    "state/locks",
    "state/runs",
    "spool",
    "spool/generations",
    "spool/heartbeats",
];

pub(crate) fn moment(hours: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(BEGINS + hours * 3600).unwrap()
}

pub(crate) fn timestamp(hours: i64) -> Timestamp {
    Timestamp::from_unix_seconds(BEGINS + hours * 3600).unwrap()
}

/// A new directory in memory, where there is such a place.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new();
    if memory.is_dir() {
        builder.tempdir_in(memory).unwrap()
    } else {
        builder.tempdir().unwrap()
    }
}

/// A directory's whole content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree(BTreeMap<PathBuf, Thing>);

/// Mode, and a file's content.
type Thing = (u32, Option<Arc<[u8]>>);

impl Tree {
    pub(crate) fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.gather(root, Path::new(""));
        tree
    }

    fn gather(&mut self, root: &Path, at: &Path) {
        for entry in std::fs::read_dir(root.join(at)).unwrap() {
            let entry = entry.unwrap();
            let path = at.join(entry.file_name());
            let meta = entry.metadata().unwrap();
            let mode = meta.permissions().mode() & 0o7777;
            if meta.is_dir() {
                self.0.insert(path.clone(), (mode, None));
                self.gather(root, &path);
            } else {
                let bytes = std::fs::read(root.join(&path)).unwrap();
                self.0.insert(path, (mode, Some(bytes.into())));
            }
        }
    }

    /// Writes it over what is there.
    pub(crate) fn write(&self, root: &Path) {
        std::fs::create_dir_all(root).unwrap();
        for (path, (mode, content)) in &self.0 {
            let target = root.join(path);
            match content {
                None => std::fs::create_dir_all(&target).unwrap(),
                Some(bytes) => std::fs::write(&target, bytes).unwrap(),
            }
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(*mode)).unwrap();
        }
    }

    /// Makes a directory what this is.
    pub(crate) fn replace(&self, root: &Path) {
        std::fs::remove_dir_all(root).unwrap();
        self.write(root);
    }

    /// Makes a directory what this is, file by file, as a backup is put back under a running server.
    pub(crate) fn put_back(&self, root: &Path) {
        for path in Self::read(root).0.keys().rev() {
            let target = root.join(path);
            if !self.0.contains_key(path) && target.is_file() {
                std::fs::remove_file(target).unwrap();
            }
        }
        for (path, (_, content)) in &self.0 {
            let target = root.join(path);
            let Some(bytes) = content else { continue };
            if std::fs::read(&target).ok().as_deref() != Some(bytes) {
                let temp = target.with_extension("back");
                std::fs::write(&temp, bytes).unwrap();
                std::fs::rename(temp, target).unwrap();
            }
        }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, &Arc<[u8]>)> {
        let files = self.0.iter();
        files.filter_map(|(path, (_, bytes))| Some((path.as_path(), bytes.as_ref()?)))
    }
}

/// A hook that is set and taken off while the host lives on.
#[derive(Default)]
pub(crate) struct Switch(Mutex<Option<Arc<dyn Hook>>>);

impl Switch {
    pub(crate) fn set(&self, hook: Option<Arc<dyn Hook>>) {
        *self.inner() = hook;
    }

    fn inner(&self) -> MutexGuard<'_, Option<Arc<dyn Hook>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hook for Switch {
    fn before(&self, operation: Operation<'_>) -> std::io::Result<()> {
        let hook = self.inner().clone();
        hook.map_or(Ok(()), |hook| hook.before(operation))
    }

    fn after(&self, operation: Operation<'_>) {
        if let Some(hook) = self.inner().clone() {
            hook.after(operation);
        }
    }
}

/// Does what the child of a watch does, in this process; it may be killed at an operation.
struct InProcess {
    config: Config,
    disk: Disk,
    switch: Arc<Switch>,
    clock: Arc<FixedClock>,
    stop: Arc<Mutex<Option<usize>>>,
}

impl Launcher for InProcess {
    fn run(&self, invocation: &Invocation) -> Result<Finished> {
        let line = invocation.line();
        assert!(line.ends_with(" --json ca compare"), "{line}");
        let host = Host {
            config: self.config.clone(),
            config_path: PathBuf::from("/nonexistent"),
            disk: self.disk.clone(),
            clock: self.clock.clone(),
            launcher: Arc::new(pefo_core::launch::DirectLauncher::default()),
        };
        let stop = self.stop.lock().unwrap().take();
        let stop = stop.map(|at| Arc::new(StopAt::new(at)));
        if let Some(stop) = &stop {
            self.switch.set(Some(stop.clone()));
        }
        let report = watch::compare(&host).unwrap_or_else(Report::failed);
        if let Some(stop) = stop {
            self.switch.set(None);
            if stop.has_stopped() {
                return Ok(Finished::new(None, "", "killed"));
            }
        }
        let code = i32::from(report.code());
        let answer = report.json("ca compare").to_string();
        Ok(Finished::new(Some(code), answer, ""))
    }
}

/// One master.
pub(crate) struct Side {
    pub(crate) root: PathBuf,
    pub(crate) host: Host,
    pub(crate) switch: Arc<Switch>,
    pub(crate) clock: Arc<FixedClock>,
    /// At which of its operations the next child is killed.
    pub(crate) child_stop: Arc<Mutex<Option<usize>>>,
}

impl Side {
    fn at(root: &Path, certname: &str, ca: &str) -> Self {
        let text = format!(
            "[site]\ncertname = {certname:?}\nstate_dir = {:?}\nspool_dir = {:?}\n[ca]\ncadir = {:?}\n{ca}",
            root.join("state"),
            root.join("spool"),
            root.join("ca"),
        );
        let config = Config::parse(&text).unwrap();
        let switch = Arc::new(Switch::default());
        let clock = Arc::new(FixedClock::new(timestamp(0)));
        let disk = Disk::with_hook(switch.clone());
        let child_stop = Arc::new(Mutex::new(None));
        let launcher = InProcess {
            config: config.clone(),
            disk: disk.clone(),
            switch: switch.clone(),
            clock: clock.clone(),
            stop: child_stop.clone(),
        };
        let host = Host {
            config,
            config_path: root.join("pefo.toml"),
            disk,
            clock: clock.clone(),
            launcher: Arc::new(launcher),
        };
        Self {
            root: root.to_owned(),
            host,
            switch,
            clock,
            child_stop,
        }
    }

    pub(crate) fn cadir(&self) -> PathBuf {
        self.root.join("ca")
    }
}

/// Both masters, below one directory.
pub(crate) struct Pair {
    pub(crate) a: Side,
    pub(crate) b: Side,
    root: TempDir,
}

/// How a pair is set up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setup {
    /// The passive has a block of serials of its own; it only mirrors where not.
    pub(crate) has_block: bool,
    /// The CRL is long enough to cross as a difference.
    pub(crate) has_long_crl: bool,
}

/// What all histories begin with: a CA and its copy, and two masters that were paired.
struct Template {
    ca: Mutex<TestCa>,
    tree: Tree,
}

fn template(has_long_crl: bool) -> &'static Template {
    static TEMPLATES: [OnceLock<Template>; 2] = [OnceLock::new(), OnceLock::new()];
    TEMPLATES[usize::from(has_long_crl)].get_or_init(|| {
        let root = scratch();
        let pair = Pair::sides(root.path());
        let options = CaOptions::default()
            .now(moment(0))
            .keys(Keys::Ecdsa)
            .server(ACTIVE);
        let mut ca = TestCa::create(&pair.0.cadir(), options).unwrap();
        ca.sign(PASSIVE).unwrap();
        if has_long_crl {
            // Too wide for the counter, which they must not raise.
            ca.revoke_serials((0..300).map(|nth| (1 << 40) + nth))
                .unwrap();
        }
        Tree::read(&pair.0.cadir()).write(&pair.1.cadir());
        std::fs::remove_file(pair.1.cadir().join("root_key.pem")).unwrap();
        std::fs::create_dir(pair.1.root.join("ssl")).unwrap();
        introduce(&pair);
        Template {
            ca: Mutex::new(ca),
            tree: Tree::read(root.path()),
        }
    })
}

/// Writes what `pefo init` does on both, the ssh keys aside.
fn introduce((a, b): &(Side, Side)) {
    let disk = Disk::new();
    let site = Site::new("0123456789abcdef0123456789abcdef").unwrap();
    for side in [a, b] {
        for dir in STATE_DIRS {
            std::fs::create_dir_all(side.root.join(dir)).unwrap();
        }
    }
    let introduction = |side: &Side, role: Role| {
        let state = |path: &str| side.host.state(path);
        let key = SigningKey::create(&disk, &state("keys/signing.key"), &system_random());
        let sealing = UnsealingKey::create(&disk, &state("keys/sealing.key")).unwrap();
        let key = key.unwrap();
        let introduction = Introduction {
            format: 1,
            site: site.clone(),
            certname: side.host.config.site.certname.clone(),
            role,
            signing: key.public(),
            sealing: sealing.recipient(),
            ssh_key: "ssh-ed25519 AAAA".to_owned(),
            host_keys: vec!["ssh-ed25519 AAAA".to_owned()],
            host: "localhost".to_owned(),
            port: 22,
            user: "pe-transfer".to_owned(),
            ca_fingerprint: None,
            reign: None,
        };
        (key, introduction)
    };
    let (key, of_a) = introduction(a, Role::Active);
    let (_, of_b) = introduction(b, Role::Passive);
    let station = Station::found(&site, &of_a.certname, &key, timestamp(0)).unwrap();
    station.store(&disk, &a.host.station_path()).unwrap();
    Station::new(Role::Passive, station.current.as_bytes(), None)
        .and_then(|station| station.store(&disk, &b.host.station_path()))
        .unwrap();
    for (side, me, peer) in [(a, &of_a, &of_b), (b, &of_b, &of_a)] {
        let public = side.host.state("public");
        record::store(&disk, &public.join("self.json"), me, 0o644).unwrap();
        let path = public.join(format!("peers/{}.json", peer.certname));
        record::store(&disk, &path, peer, 0o644).unwrap();
    }
}

impl Pair {
    fn sides(root: &Path) -> (Side, Side) {
        let (a, b) = (root.join("a"), root.join("b"));
        let excludes = format!("exclude_certs = [{EXCLUDED:?}]\n");
        let ssldir = format!("ssldir = {:?}\n", b.join("ssl"));
        let a = Side::at(&a, ACTIVE, &excludes);
        (a, Side::at(&b, PASSIVE, &ssldir))
    }

    /// A pair whose passive has nothing of the active's yet but the CA that it was seeded with.
    pub(crate) fn new(setup: Setup) -> (Self, TestCa) {
        let template = template(setup.has_long_crl);
        let root = scratch();
        template.tree.write(root.path());
        let (a, b) = Self::sides(root.path());
        let ca = template.ca.lock().unwrap().twin(&a.cadir()).unwrap();
        if setup.has_block {
            let block = block();
            let path = b.host.state("accepted/ca-serial-block.json");
            record::store(&Disk::new(), &path, &block, 0o600).unwrap();
            let text = format!("{:04X}", block.first());
            std::fs::write(b.cadir().join("serial"), text).unwrap();
        }
        (Self { a, b, root }, ca)
    }

    /// A directory for copies.
    pub(crate) fn aside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

/// The passive's block.
pub(crate) fn block() -> SerialBlock {
    SerialBlock::above(16).unwrap()
}

pub(crate) fn certname(name: &str) -> Certname {
    Certname::new(name).unwrap()
}
