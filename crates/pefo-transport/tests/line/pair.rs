//! Two masters in one directory: A active and B its spare, with a receiver at hand.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use pefo_core::ack::Ack;
use pefo_core::clock::{SystemClock, Timestamp};
use pefo_core::digest::Digest;
use pefo_core::disk::{Beneath, Disk};
use pefo_core::document::{self, Domain, Kind};
use pefo_core::generation::outgoing::{Author, Description, Item, Outgoing, state_of};
use pefo_core::generation::spool::{self, Form};
use pefo_core::generation::{Accepted, DataSet, Gate, Position, Site, Step, Verified};
use pefo_core::keys::{SigningKey, system_random};
use pefo_core::progress::Silent;
use pefo_core::reign::{Epoch, Reign, Role, Station};
use pefo_core::sealing::UnsealingKey;
use pefo_core::{Certname, RelPath, Result};
use pefo_transport::frame::{self, Frame, PREAMBLE};
use pefo_transport::message::{Capabilities, Hello, Protocols, Refuse};
use pefo_transport::{
    Connection, Introduced, Limits, Purpose, Pushed, ReceiverOptions, Served, serve,
};

use crate::streams::{Cut, Recorded, Recording};

pub(crate) struct Pair {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) site: Site,
    pub(crate) a: Certname,
    pub(crate) b: Certname,
    pub(crate) key_a: SigningKey,
    pub(crate) key_b: SigningKey,
    pub(crate) unsealing: UnsealingKey,
    pub(crate) station_a: Station,
    pub(crate) limits: Limits,
    /// What the receiver's signatures are keyed with.
    pub(crate) secret: Option<[u8; 32]>,
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_763_800_000).unwrap()
}

pub(crate) fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

pub(crate) fn at(sequence: u64) -> Position {
    Position {
        epoch: Epoch(1),
        sequence,
    }
}

/// In memory where there is such a place: these tests make thousands of files durable, and what a
/// disk would lose is the recorder's business.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

impl Pair {
    pub(crate) fn new() -> Self {
        let site = Site::new("0123456789abcdef0123456789abcdef").unwrap();
        let (a, b) = (
            Certname::new("a.lab").unwrap(),
            Certname::new("b.lab").unwrap(),
        );
        let key = || SigningKey::ephemeral(&system_random()).unwrap();
        let (key_a, key_b) = (key(), key());
        let station_a = Station::found(&site, &a, &key_a, now()).unwrap();
        let pair = Self {
            dir: scratch(),
            limits: Limits::default().free_bytes(0),
            secret: Some([7; 32]),
            unsealing: UnsealingKey::ephemeral(),
            site,
            a,
            b,
            key_a,
            key_b,
            station_a,
        };
        for dir in [pair.spool(), pair.acks()] {
            std::fs::create_dir(dir).unwrap();
        }
        pair.set_station(Role::Passive, &pair.station_a.current);
        pair
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    pub(crate) fn acks(&self) -> PathBuf {
        self.dir.path().join("acks")
    }

    pub(crate) fn ca(&self) -> PathBuf {
        spool::dataset_dir(&self.spool(), &DataSet::Ca)
    }

    pub(crate) fn options(&self) -> ReceiverOptions {
        let options = ReceiverOptions::new(
            self.spool(),
            self.dir.path().join("station.json"),
            self.acks(),
            vec![self.key_a.public(), self.key_b.public()],
            self.site.clone(),
            self.b.clone(),
            "pefo test",
        )
        .limits(self.limits.clone());
        match self.secret {
            Some(secret) => options.secret(secret),
            None => options,
        }
    }

    pub(crate) fn me(&self) -> Introduced {
        Introduced::new(
            self.site.clone(),
            self.a.clone(),
            self.station_a.clone(),
            "pefo test",
        )
    }

    /// What B's root writes when role or reign change.
    pub(crate) fn set_station(&self, role: Role, record: &str) {
        Station::new(role, record.as_bytes(), None)
            .unwrap()
            .store(&Disk::new(), &self.dir.path().join("station.json"))
            .unwrap();
    }

    /// A signed record of a reign of `key`'s.
    pub(crate) fn reign(&self, epoch: u64, certname: &Certname, key: &SigningKey) -> String {
        let reign = Reign {
            format: 1,
            site: self.site.clone(),
            epoch: Epoch(epoch),
            holder: key.public().id(),
            certname: certname.clone(),
            since: now(),
            before: None,
        };
        let domain = Domain {
            kind: Kind::Reign,
            site: &self.site,
            dataset: None,
        };
        String::from_utf8(document::sign(&reign, domain, key).unwrap()).unwrap()
    }

    pub(crate) fn author(&self) -> Author<'_> {
        Author {
            site: &self.site,
            certname: &self.a,
            key: &self.key_a,
            epoch: Epoch(1),
            tool: "pefo test",
        }
    }

    pub(crate) fn items(files: &[(&str, &str)]) -> Vec<Item> {
        files
            .iter()
            .map(|(path, content)| Item::open(rel(path), 0o644, content.as_bytes().to_vec()))
            .collect()
    }

    pub(crate) fn full_of(&self, sequence: u64, items: Vec<Item>) -> Outgoing {
        Outgoing::full(self.author(), DataSet::Ca, sequence, items, description()).unwrap()
    }

    pub(crate) fn full(&self, sequence: u64, files: &[(&str, &str)]) -> Outgoing {
        self.full_of(sequence, Self::items(files))
    }

    /// A batch that puts one file after the state of `before`.
    pub(crate) fn batch(
        &self,
        sequence: u64,
        before: Digest,
        path: &str,
        content: &[u8],
    ) -> Outgoing {
        let step = Step::Put {
            path: rel(path),
            mode: 0o644,
            size: content.len() as u64,
            blake3: Digest::of(content),
        };
        let to = Digest::of(content);
        Outgoing::batch(
            self.author(),
            DataSet::Ca,
            sequence,
            (before, to),
            vec![step],
            content.to_vec(),
            &[self.unsealing.recipient()],
            description(),
        )
        .unwrap()
    }

    pub(crate) fn write_ack(
        &self,
        accepted: Option<u64>,
        applied: Option<u64>,
        reconcile: Option<&str>,
    ) -> Vec<u8> {
        let ack = Ack {
            format: 1,
            site: self.site.clone(),
            certname: self.b.clone(),
            dataset: DataSet::Ca,
            accepted: accepted.map(at),
            applied: applied.map(at),
            source_state: None,
            reconcile: reconcile.map(str::to_owned),
            refused: vec![],
            heartbeat: None,
            time: now(),
        };
        let signed = ack.sign(&self.key_b).unwrap();
        std::fs::write(self.acks().join("ca.ack"), &signed).unwrap();
        signed
    }

    /// A session over a socket pair: the receiver in a thread, `talk` on the other side.
    pub(crate) fn session<T>(
        &self,
        disk: &Disk,
        talk: impl FnOnce(UnixStream) -> T,
    ) -> (T, Result<Served>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let options = self.options();
        std::thread::scope(|scope| {
            let receiver = scope.spawn(move || {
                let mut input = theirs.try_clone().unwrap();
                let mut output = theirs;
                serve(&mut input, &mut output, &options, disk, &SystemClock)
            });
            let said = talk(ours);
            (said, receiver.join().unwrap())
        })
    }

    /// Plays a live sender whose line is cut after so many of its bytes.
    pub(crate) fn cut(&self, outgoing: &Outgoing, bytes: usize) -> Result<Served> {
        self.cut_on(outgoing, bytes, &Disk::new())
    }

    pub(crate) fn cut_on(&self, outgoing: &Outgoing, bytes: usize, disk: &Disk) -> Result<Served> {
        let (pushed, served) = self.session(disk, |stream| {
            let cut = Cut::after(bytes, stream);
            let mut connection = Connection::over(cut, &self.me(), &Purpose::of(&DataSet::Ca))?;
            connection.push(outgoing, &Silent)
        });
        drop(pushed);
        served
    }

    pub(crate) fn connect(&self, stream: UnixStream) -> Result<Connection> {
        Connection::over(stream, &self.me(), &Purpose::of(&DataSet::Ca))
    }

    /// Pushes one generation in a session of its own.
    pub(crate) fn push(&self, outgoing: &Outgoing) -> Result<Pushed> {
        let (pushed, served) = self.session(&Disk::new(), |stream| {
            let mut connection = self.connect(stream)?;
            let pushed = connection.push(outgoing, &Silent)?;
            connection.close()?;
            Ok(pushed)
        });
        if let Ok(pushed) = &pushed {
            let served = served.unwrap();
            assert!(served.goodbye);
            assert_eq!(served.already, u64::from(pushed.already));
        }
        pushed
    }

    /// What root's own check makes of a generation in the spool.
    pub(crate) fn take(
        &self,
        position: Position,
        form: Form,
        accepted: Option<&Accepted>,
    ) -> Result<Verified> {
        self.take_from(
            &Beneath::open(&self.ca()).unwrap(),
            position,
            form,
            accepted,
        )
    }

    /// The same, of a data set's directory anywhere.
    pub(crate) fn take_from(
        &self,
        dir: &Beneath,
        position: Position,
        form: Form,
        accepted: Option<&Accepted>,
    ) -> Result<Verified> {
        let keys = [self.key_a.public()];
        let reign = self.station_a.reign(&self.site, &keys).unwrap();
        let gate = Gate {
            site: &self.site,
            dataset: &DataSet::Ca,
            keys: &keys,
            reign: &reign,
            accepted,
            unsealing: &self.unsealing,
        };
        gate.take(
            dir,
            position,
            form,
            &self.dir.path().join("store"),
            &Disk::new(),
        )
    }

    /// What stands in the spool; everything that does passes root's check.
    pub(crate) fn standing(&self) -> Vec<u64> {
        let Ok(dir) = Beneath::open(&self.ca()) else {
            return vec![];
        };
        let standing = spool::list(&dir).unwrap();
        for (position, form) in &standing {
            if *form == Form::Full {
                self.take(*position, *form, None).unwrap();
            }
        }
        standing
            .into_iter()
            .map(|(position, _)| position.sequence)
            .collect()
    }

    /// What was begun and stays for the next session.
    pub(crate) fn partials(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.ca())
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| spool::parse_partial(name).is_some())
            .collect();
        names.sort();
        names
    }

    /// Temp names in the data set's directory.
    pub(crate) fn temps(&self) -> usize {
        std::fs::read_dir(self.ca())
            .into_iter()
            .flatten()
            .filter(|entry| {
                pefo_core::disk::is_temp_name(entry.as_ref().unwrap().file_name().to_str().unwrap())
            })
            .count()
    }

    pub(crate) fn hello(&self) -> Hello {
        Hello {
            protocol: Protocols::OURS,
            tool: "pefo test".into(),
            site: self.site.clone(),
            certname: self.a.clone(),
            role: Role::Active,
            purpose: Purpose::of(&DataSet::Ca),
            reign: self.station_a.current.clone(),
            capabilities: vec![],
        }
    }

    /// Plays a sender that says just this and ends; gives the receiver's frames and outcome.
    pub(crate) fn recite(&self, said: &[Frame]) -> (Vec<Frame>, Result<Served>) {
        let mut bytes = PREAMBLE.to_vec();
        for frame in [Frame::Hello(self.hello())].iter().chain(said) {
            frame::encode(frame, &mut bytes).unwrap();
        }
        self.recite_bytes(&bytes, &Disk::new())
    }

    /// The same, for a sender that can all that we can, uncompressed.
    pub(crate) fn recite_able(&self, said: &[Frame]) -> (Vec<Frame>, Result<Served>) {
        let mut hello = self.hello();
        hello.capabilities = Capabilities::OURS.words();
        let mut bytes = PREAMBLE.to_vec();
        for frame in [Frame::Hello(hello)].iter().chain(said) {
            frame::encode(frame, &mut bytes).unwrap();
        }
        self.recite_bytes(&bytes, &Disk::new())
    }

    pub(crate) fn recite_bytes(&self, bytes: &[u8], disk: &Disk) -> (Vec<Frame>, Result<Served>) {
        let mut output = Vec::new();
        let served = serve(
            &mut Cursor::new(bytes),
            &mut output,
            &self.options(),
            disk,
            &SystemClock,
        );
        (frames(&output), served)
    }

    /// All bytes that a sender says and hears in a session that pushes `outgoing`.
    pub(crate) fn record(&self, outgoing: &[&Outgoing]) -> Recorded {
        let recorded = Recorded::default();
        let (done, served) = self.session(&Disk::new(), |stream| {
            let stream = Recording {
                inner: stream,
                recorded: recorded.clone(),
            };
            let mut connection = Connection::over(stream, &self.me(), &Purpose::of(&DataSet::Ca))?;
            for outgoing in outgoing {
                connection.push(outgoing, &Silent)?;
            }
            connection.close()
        });
        done.unwrap();
        served.unwrap();
        recorded
    }

    pub(crate) fn clear_spool(&self) {
        std::fs::remove_dir_all(self.spool()).unwrap();
        std::fs::create_dir(self.spool()).unwrap();
    }
}

pub(crate) fn description() -> Description {
    Description {
        products: BTreeMap::new(),
        time: now(),
        summary: serde_json::json!({"certs": 1}),
    }
}

pub(crate) fn state(files: &[(&str, &str)]) -> Digest {
    state_of(&Pair::items(files))
}

/// The frames behind a preamble.
pub(crate) fn frames(output: &[u8]) -> Vec<Frame> {
    let mut rest = output
        .strip_prefix(PREAMBLE.as_slice())
        .expect("the preamble");
    let mut frames = Vec::new();
    while let Some((frame, used)) = frame::decode_agreed(rest, Capabilities::OURS).unwrap() {
        frames.push(frame);
        rest = &rest[used..];
    }
    assert!(
        rest.is_empty(),
        "the receiver stopped in the middle of a frame"
    );
    frames
}

/// The refusal at the end of what a receiver said.
pub(crate) fn refusal(frames: &[Frame]) -> Refuse {
    match frames.last() {
        Some(Frame::Refuse(refuse)) => refuse.clone(),
        other => panic!("no refusal but {other:?}"),
    }
}
