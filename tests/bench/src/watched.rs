//! A CA of many certificates on two masters, `pefo ca watch` running on both; and the original's pipeline
//! beside it: rsync to the spool, then copy, chown, rsync into the CA and an archive.

#![expect(
    clippy::disallowed_methods,
    reason = "the playground is no data of pefo's"
)]

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask};
use pefo_core::clock::{Clock as _, SystemClock};
use pefo_core::{Error, ErrorKind, Result};
use pefo_testkit::ca::{CaOptions, Keys, TestCa};
use pefo_testkit::child::Child;
use pefo_testkit::masters::{self, Master, built_binary};
use pefo_testkit::wait;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::memory::status_kib;
use crate::process::{self, milliseconds};
use crate::row::Halt;
use crate::rsync::{Durability, Rsync};
use crate::world::{Place, World};

/// No event may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Both masters.
pub(crate) struct Watched<'a> {
    world: &'a World,
    place: &'a Place,
    a: Master,
    b: Master,
    pub(crate) ca: TestCa,
    watches: Option<(Child, Child)>,
    rsync: Rsync,
    archives: usize,
}

impl<'a> Watched<'a> {
    /// A CA of so many certificates, seeded on the passive; the first `revoked` of them are revoked.
    pub(crate) fn seeded(
        world: &'a World,
        place: &'a Place,
        certificates: u64,
        revoked: u64,
        keys: Keys,
        flags: &[&'static str],
    ) -> Result<Self, Halt> {
        let ssh = world.ssh()?;
        // Only the peer's key is used here: each master has an sshd of its own.
        ssh.admit("/bin/false");
        let mut a = Master::prepare(&built_binary(), "puppet-a.lab")?;
        let mut b = Master::prepare(&built_binary(), "puppet-b.lab")?;
        for master in [&mut a, &mut b] {
            let cadir = master.cadir();
            master.use_cadir(&cadir, "owner = \"root\"\ngroup = \"root\"");
        }
        let options = CaOptions::default().keys(keys);
        let mut ca = TestCa::create(&a.cadir(), options).map_err(test_ca)?;
        ca.fill(certificates, |number| {
            format!("node{number:06}.example.com")
        })
        .map_err(test_ca)?;
        if revoked > 0 {
            ca.revoke_serials(2..2 + revoked).map_err(test_ca)?;
        }
        masters::pair(&a, &b);
        a.pefo(["ca", "push", "--seed"]).exits(0);
        b.pefo(["ca", "apply"]).exits(0);
        let rsync = Rsync::new(ssh, ssh.port(), flags, Durability::None, place.path())?;
        let watched = Self {
            world,
            place,
            a,
            b,
            ca,
            watches: None,
            rsync,
            archives: 0,
        };
        place.fresh("peer-spool")?;
        std::fs::create_dir_all(place.path().join("peer-live")).map_err(failed(place.path()))?;
        Ok(watched)
    }

    /// Starts both watches and waits until they follow.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.watches = Some((self.a.watch(), self.b.watch()));
        let name = "first.example.com";
        self.ca.sign(name).map_err(test_ca)?;
        let path = self.certificate(name);
        wait::within(LIMIT, || path.exists().then_some(()))
            .ok_or_else(|| self.in_vain("the first event"))?;
        self.quiet()
    }

    /// Waits until neither watch does anything: what they do at their start is no part of an event.
    fn quiet(&self) -> Result<()> {
        let used = || {
            let (a, b) = self.watches.as_ref()?;
            Some(ticks(a.id())? + ticks(b.id())?)
        };
        let end = Instant::now() + LIMIT;
        let mut before = used();
        while Instant::now() < end {
            SystemClock.wait(Duration::from_secs(2));
            let now = used();
            if now == before {
                return Ok(());
            }
            before = now;
        }
        Err(self.in_vain("quiet"))
    }

    /// What `pefo` with these arguments takes on the passive, in milliseconds; it must succeed.
    pub(crate) fn on_passive(&self, arguments: &[&str]) -> Result<f64> {
        let mut command = self.b.command();
        Ok(process::run(command.args(arguments), self.place.path())?.milliseconds())
    }

    /// What the passive remembers between two verifications is forgotten.
    pub(crate) fn forget(&self) -> Result<()> {
        let path = self.b.state().join("work/ca-digests");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Every content hashed and compared by rsync, as root and without a line: milliseconds.
    pub(crate) fn rsync_compares(&self) -> Result<f64> {
        let mut command = Command::new("rsync");
        command.args(["-anc", "--delete"]);
        command.arg(format!("{}/", self.ca.dir().join("signed").display()));
        command.arg(format!("{}/", self.b.cadir().join("signed").display()));
        Ok(process::run(&mut command, self.place.path())?.milliseconds())
    }

    /// OpenSSL's way to check every certificate: milliseconds.
    pub(crate) fn openssl_verifies(&self) -> Result<f64> {
        let script = format!(
            "find '{0}/signed' -name '*.pem' | xargs -n 2000 openssl verify -CAfile '{0}/ca_crt.pem' > /dev/null",
            self.b.cadir().display()
        );
        let mut command = Command::new("sh");
        Ok(process::run(command.args(["-c", &script]), self.place.path())?.milliseconds())
    }

    /// A certificate's place on the passive.
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.b.cadir().join(format!("signed/{name}.pem"))
    }

    /// The CA of the passive.
    pub(crate) fn standby(&self) -> PathBuf {
        self.b.cadir()
    }

    /// Where the passive says what it has applied.
    pub(crate) fn acks(&self) -> PathBuf {
        self.b.state().join("public/acks")
    }

    /// What the two watches take when nothing happens, in MiB; and what processor time in `over`.
    pub(crate) fn idle(&self, over: Duration) -> Option<([u64; 2], f64)> {
        let (a, b) = self.watches.as_ref()?;
        let before = ticks(a.id())? + ticks(b.id())?;
        SystemClock.wait(over);
        let used = ticks(a.id())? + ticks(b.id())? - before;
        // The kernel counts in hundredths of a second (USER_HZ).
        let percent = used as f64 / 100.0 / over.as_secs_f64() * 100.0;
        Some(([resident_mib(a.id())?, resident_mib(b.id())?], percent))
    }

    /// The largest peak of the two watches, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let (a, b) = match &self.watches {
            Some((a, b)) => (a.id(), b.id()),
            None => return 0,
        };
        let peak = |id| status_kib(id, "VmHWM:").unwrap_or_default();
        peak(a).max(peak(b))
    }

    /// The original's way for whatever has changed: what it takes in milliseconds.
    pub(crate) fn original(&mut self) -> Result<f64> {
        let path = self.place.path().to_owned();
        let (spool, live) = (path.join("peer-spool"), path.join("peer-live"));
        self.archives += 1;
        let archive = path.join(format!("peer-archive-{}", self.archives));
        let mut took = self.rsync.run(self.ca.dir(), &spool, &path)?;
        let steps: [&[&str]; 3] = [
            &["cp", "-a", &text(&spool), &text(&archive)],
            &["chown", "-R", "0:0", &text(&archive)],
            &[
                "rsync",
                "-au",
                &format!("{}/", archive.display()),
                &format!("{}/", live.display()),
            ],
        ];
        for step in steps {
            let mut command = Command::new(step[0]);
            took += process::run(command.args(&step[1..]), &path)?.milliseconds();
        }
        Ok(took)
    }

    /// The name of the original's way.
    pub(crate) fn original_name(&self) -> String {
        format!("{}, cp -a, chown -R, rsync -au", self.rsync.name())
    }

    pub(crate) fn in_vain(&self, what: &str) -> Error {
        let said = |log: String| log.lines().rev().take(5).collect::<Vec<_>>().join("; ");
        let message = format!(
            "waited in vain for {what}; the active said: {}; the passive: {}",
            said(self.a.watch_log()),
            said(self.b.watch_log())
        );
        Error::new(ErrorKind::Child, message)
    }

    pub(crate) fn settle(&self) -> Result<()> {
        self.world.settle()
    }
}

/// Waits for names in one directory, and sees to it that they are durable.
pub(crate) struct Names {
    inotify: Inotify,
    dir: PathBuf,
}

impl Names {
    /// From now on.
    pub(crate) fn watch(dir: &Path) -> Result<Self> {
        let inotify = Inotify::init().map_err(failed(dir))?;
        inotify
            .watches()
            .add(dir, WatchMask::MOVED_TO)
            .map_err(failed(dir))?;
        Ok(Self {
            inotify,
            dir: dir.to_owned(),
        })
    }

    /// Waits until each of `names` was renamed into the directory and its name is durable; the time of that.
    pub(crate) fn durable(&mut self, mut names: BTreeSet<String>) -> Result<Option<Instant>> {
        let end = Instant::now() + LIMIT;
        let mut buffer = [0; 64 * 1024];
        while !names.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = Timespec::try_from(left).unwrap_or_default();
            let mut fds = [PollFd::from_borrowed_fd(
                self.inotify.as_fd(),
                PollFlags::IN,
            )];
            rustix::event::poll(&mut fds, Some(&timeout))
                .map_err(|error| failed(&self.dir)(error.into()))?;
            match self.inotify.read_events(&mut buffer) {
                Ok(events) => {
                    for event in events {
                        let name = event.name.and_then(|name| name.to_str());
                        name.map(|name| names.remove(name));
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&self.dir)(error)),
            }
        }
        // The name is seen before its fsync has ended: ours ends no earlier.
        let directory = File::open(&self.dir).map_err(failed(&self.dir))?;
        directory.sync_all().map_err(failed(&self.dir))?;
        Ok(Some(Instant::now()))
    }
}

/// From then to now, in milliseconds.
pub(crate) fn since(begin: Instant, end: Instant) -> f64 {
    milliseconds(end.saturating_duration_since(begin))
}

pub(crate) fn test_ca(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::invalid(format!("the test CA: {error}"))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::io("use", &path, error)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn resident_mib(id: u32) -> Option<u64> {
    status_kib(id, "VmRSS:").map(|kib| kib.div_ceil(1024))
}

/// User and system time (proc_pid_stat(5), fields 14 and 15).
fn ticks(id: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    let field = |at: usize| fields.split_whitespace().nth(at)?.parse::<u64>().ok();
    Some(field(11)? + field(12)?)
}
