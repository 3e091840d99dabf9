//! A master that pushes, an sshd, and a receiver behind it.

use std::path::PathBuf;
use std::sync::Mutex;

use pefo_core::clock::Timestamp;
use pefo_core::disk::{Beneath, Disk, is_temp_name};
use pefo_core::generation::outgoing::{Author, Description, Item, Outgoing};
use pefo_core::generation::spool::{self, Form};
use pefo_core::generation::{DataSet, Gate, Site};
use pefo_core::keys::{SigningKey, system_random};
use pefo_core::progress::Progress;
use pefo_core::reign::{Epoch, Role, Station};
use pefo_core::sealing::UnsealingKey;
use pefo_core::{Certname, RelPath, Result};
use pefo_testkit::line::Line;
use pefo_testkit::skip::Skip;
use pefo_testkit::sshd::{ClientKey, Options, Sshd};
use pefo_transport::{Connection, Introduced, LinkOptions, Purpose, SshTarget};

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) sshd: Sshd,
    client: ClientKey,
    user: String,
    site: Site,
    key: SigningKey,
    station: Station,
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_763_800_000).unwrap()
}

impl World {
    pub(crate) fn new() -> Result<Self, Skip> {
        let sshd = Sshd::start(&Options::default())?;
        let dir = tempfile::tempdir().unwrap();
        let client = ClientKey::generate(dir.path());
        let site = Site::new("0123456789abcdef0123456789abcdef").unwrap();
        let key = SigningKey::ephemeral(&system_random()).unwrap();
        let station = Station::found(&site, &Certname::new("a.lab").unwrap(), &key, now()).unwrap();
        Station::new(Role::Passive, station.current.as_bytes(), None)
            .unwrap()
            .store(&Disk::new(), &dir.path().join("station.json"))
            .unwrap();
        std::fs::create_dir(dir.path().join("spool")).unwrap();
        std::fs::create_dir(dir.path().join("acks")).unwrap();
        let id = std::process::Command::new("id")
            .arg("-un")
            .output()
            .unwrap();
        let user = String::from_utf8(id.stdout).unwrap().trim().to_owned();
        Ok(Self {
            dir,
            sshd,
            client,
            user,
            site,
            key,
            station,
        })
    }

    /// Lets the client key run `command`.
    pub(crate) fn force(&self, command: &str) {
        self.sshd.authorize(&format!(
            "restrict,command=\"{command}\" {}",
            self.client.public_line()
        ));
    }

    /// The example's command line.
    pub(crate) fn receiver(&self) -> String {
        let test = std::env::current_exe().unwrap();
        let example = test
            .parent()
            .unwrap()
            .parent()
            .unwrap()
            .join("examples/receive_once");
        assert!(
            example.is_file(),
            "no {}: run 'cargo build -p pefo-transport --examples'",
            example.display()
        );
        let at = self.dir.path().display();
        format!(
            "{} {at}/spool {at}/station.json {at}/acks {} b.lab {}",
            example.display(),
            self.site.as_str(),
            self.key.public()
        )
    }

    pub(crate) fn target(&self) -> SshTarget {
        SshTarget::new(
            "127.0.0.1",
            self.sshd.port(),
            self.user.clone(),
            self.client.path(),
            vec![self.sshd.host_public_key()],
        )
    }

    /// A line to the sshd that can be slow or fail, and the target at its near end.
    pub(crate) fn line(&self) -> (Line, SshTarget) {
        let line = Line::to(("127.0.0.1", self.sshd.port()));
        let mut target = self.target();
        target.port = line.port();
        (line, target)
    }

    pub(crate) fn open(&self, target: &SshTarget) -> Result<Connection> {
        self.open_with(target, &LinkOptions::default())
    }

    pub(crate) fn open_with(
        &self,
        target: &SshTarget,
        options: &LinkOptions,
    ) -> Result<Connection> {
        let me = Introduced::new(
            self.site.clone(),
            Certname::new("a.lab").unwrap(),
            self.station.clone(),
            "pefo test",
        );
        Connection::open_with(target, &me, &Purpose::of(&DataSet::Ca), options)
    }

    pub(crate) fn outgoing(&self, sequence: u64, bytes: usize) -> Outgoing {
        let certname = Certname::new("a.lab").unwrap();
        let author = Author {
            site: &self.site,
            certname: &certname,
            key: &self.key,
            epoch: Epoch(1),
            tool: "pefo test",
        };
        // Not compressible, not constant: a byte lost or doubled shows.
        let mut content = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        let items = vec![Item::open(RelPath::new("large").unwrap(), 0o600, content)];
        let description = Description {
            products: Default::default(),
            time: now(),
            summary: serde_json::Value::Null,
        };
        Outgoing::full(author, DataSet::Ca, sequence, items, description).unwrap()
    }

    pub(crate) fn spooled(&self) -> PathBuf {
        spool::dataset_dir(&self.dir.path().join("spool"), &DataSet::Ca)
    }

    /// The names in the data set's directory: what is being received, and all the rest but the lock.
    pub(crate) fn names(&self) -> (Vec<String>, Vec<String>) {
        let Ok(entries) = std::fs::read_dir(self.spooled()) else {
            return (vec![], vec![]);
        };
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".pefo-lock")
            .partition(|name| is_temp_name(name) || spool::parse_partial(name).is_some())
    }

    /// Root's own check.
    pub(crate) fn verify(&self, outgoing: &Outgoing) {
        let (keys, unsealing) = ([self.key.public()], UnsealingKey::ephemeral());
        let reign = self.station.reign(&self.site, &keys).unwrap();
        let gate = Gate {
            site: &self.site,
            dataset: &DataSet::Ca,
            keys: &keys,
            reign: &reign,
            accepted: None,
            unsealing: &unsealing,
        };
        let spooled = Beneath::open(&self.spooled()).unwrap();
        gate.take(
            &spooled,
            outgoing.position(),
            Form::Full,
            &self.dir.path().join("store"),
            &Disk::new(),
        )
        .unwrap();
    }
}

/// Does something, once, when the first bytes of content went out.
pub(crate) struct AtFirstBytes<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> AtFirstBytes<F> {
    pub(crate) const fn new(act: F) -> Self {
        Self(Mutex::new(Some(act)))
    }
}

impl<F: FnOnce() + Send> Progress for AtFirstBytes<F> {
    fn advance(&self, items: u64, bytes: u64) {
        if items > 0 || bytes == 0 {
            return;
        }
        let act = self.0.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
    }
}

/// A test's world, or the end of the test where this machine has no sshd.
macro_rules! world {
    () => {
        match pefo_testkit::skip::need(crate::world::World::new()) {
            Some(world) => world,
            None => return,
        }
    };
}
pub(crate) use world;
