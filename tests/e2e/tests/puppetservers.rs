//! The CA between two real puppetservers: a spare that never had a CA is seeded, kept in step, and
//! takes over when the active dies.
//!
//! One pair of JVMs serves all scenarios, in the order of a spare's life, because a start takes half a
//! minute. Whether a certificate still works is asked of the server, with the certificate; between push
//! and apply no server is restarted or told to reload. Timings are seen with `--nocapture`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "the scenarios are functions of one test; allowed in tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use pefo_testkit::masters::{self, Master, Run, built_binary};
use pefo_testkit::puppetserver::{Agent, Instance, Options, Request};
use pefo_testkit::{place, skip, wait};
use tempfile::TempDir;

const A: &str = "puppet-a.pefo.test";
const B: &str = "puppet-b.pefo.test";
/// What agents call either of them.
const SHARED: &str = "puppet.pefo.test";
/// The server's watch of its CRL is polled by the JVM; 0.3 s is usual.
const CRL_LIMIT: Duration = Duration::from_secs(30);
/// A cleaned certificate's file may go half a minute after the clean.
const CLEAN_LIMIT: Duration = Duration::from_secs(120);
/// How far apart the two counters must stand, at the least.
const DISTANCE: u64 = 65_536;

#[test]
fn a_spare_is_seeded_follows_the_active_and_takes_over() {
    let Some(mut pair) = Pair::prepared() else {
        return;
    };
    let nodes = pair.active_goes_to_work();
    pair.spare_is_seeded_whole(&nodes);
    pair.spare_starts_with_a_certificate_from_its_own_block();
    let own = pair.own_files();
    pair.revocation_reaches_the_running_spare(&nodes);
    pair.certificates_signed_later_are_accepted_on_the_spare();
    pair.cleaned_certificate_disappears_on_the_spare(&nodes);
    assert_eq!(pair.own_files(), own, "the spare's own files");
    pair.active_dies_and_the_spare_signs(&nodes);
    assert_eq!(pair.own_files(), own, "the spare's own files");
}

/// The nodes of the site.
struct Nodes {
    live: Agent,
    revoked: Agent,
    cleaned: Agent,
    pending: Agent,
}

/// Two masters, each with its puppetserver.
struct Pair {
    a: Instance,
    b: Instance,
    active: Master,
    passive: Master,
    begin: Instant,
    // Last: the instances live in it.
    _parent: TempDir,
}

impl Pair {
    /// A has a CA; B has none, and no directory for one.
    fn prepared() -> Option<Self> {
        let parent = place::directory("puppetservers");
        let options = Options::default().alt_name(SHARED);
        let a = skip::need(Instance::prepare(parent.path(), A, &options))?;
        let b = skip::need(Instance::prepare(parent.path(), B, &options))?;
        let mut active = skip::need(Master::prepare(&built_binary(), A))?;
        let mut passive = skip::need(Master::prepare(&built_binary(), B))?;
        a.setup_ca();
        for (master, instance) in [(&mut active, &a), (&mut passive, &b)] {
            let name = instance.user().name();
            master.use_cadir(
                &instance.cadir(),
                &format!("owner = \"{name}\"\ngroup = \"{name}\""),
            );
        }
        Some(Self {
            a,
            b,
            active,
            passive,
            begin: Instant::now(),
            _parent: parent,
        })
    }

    fn active_goes_to_work(&mut self) -> Nodes {
        let took = self.a.start();
        self.tell("A was up", took);
        Nodes {
            live: self.a.enrol("live.pefo.test"),
            revoked: self.a.enrol("revoked.pefo.test"),
            cleaned: self.a.enrol("cleaned.pefo.test"),
            pending: self.a.agent("pending.pefo.test"),
        }
    }

    fn spare_is_seeded_whole(&self, nodes: &Nodes) {
        masters::pair(&self.active, &self.passive);
        let (from, to) = (self.a.cadir(), self.b.cadir());
        self.timed("push --seed", || {
            self.active.pefo(["ca", "push", "--seed"]).exits(0)
        });
        assert!(!to.exists(), "B is without a CA until it applies");
        let first_seen = while_watching(&to, || {
            self.timed("apply of the seed", || {
                self.passive.pefo(["ca", "apply"]).exits(0)
            })
        });

        // By one rename: whoever looked saw nothing, and then all of it.
        assert_eq!(
            first_seen,
            Some(files_below(&to)),
            "the cadir as it was first seen, and as it is"
        );
        let user = self.b.user();
        for path in files_below(&to).into_iter().chain([PathBuf::new()]) {
            let meta = fs::symlink_metadata(to.join(&path)).unwrap();
            assert_eq!(
                (meta.uid(), meta.gid()),
                (user.uid(), user.gid()),
                "the owner of {path:?}"
            );
            // As on A, less what nobody needs.
            let expected = match path.to_str() {
                Some("serial") => 0o644,
                _ if meta.is_dir() => 0o750,
                _ => fs::metadata(from.join(&path)).unwrap().mode() & 0o644,
            };
            assert_eq!(
                meta.mode() & 0o7777,
                expected,
                "the mode of {path:?}: {:o}, expected {expected:o}",
                meta.mode()
            );
        }
        assert_eq!(
            fs::metadata(to.join("ca_key.pem")).unwrap().mode() & 0o007,
            0
        );
        // Whole: A's, but for the counter and the root's key.
        assert!(from.join("root_key.pem").exists());
        let expected: BTreeSet<PathBuf> = files_below(&from)
            .into_iter()
            .filter(|path| path != Path::new("root_key.pem"))
            .collect();
        assert_eq!(files_below(&to), expected);
        for path in expected
            .iter()
            .filter(|path| from.join(path).is_file() && path.as_path() != Path::new("serial"))
        {
            assert_eq!(
                fs::read(to.join(path)).unwrap(),
                fs::read(from.join(path)).unwrap(),
                "{path:?}"
            );
        }
        for node in [&nodes.live, &nodes.revoked, &nodes.cleaned] {
            assert!(to.join(format!("signed/{}.pem", node.certname())).is_file());
        }
        assert!(
            to.join(format!("requests/{}.pem", nodes.pending.certname()))
                .is_file()
        );
        assert!(
            counter(&to) >= counter(&from) + DISTANCE,
            "B's counter {:X}, A's {:X}",
            counter(&to),
            counter(&from)
        );
    }

    fn spare_starts_with_a_certificate_from_its_own_block(&mut self) {
        let next = counter(&self.b.cadir());
        let took = self.b.start();
        self.tell("B was up on the seeded CA", took);
        let serial = hex(&self.b.identity().serial());
        assert!(
            serial >= next,
            "B's own serial {serial:X}, its block from {next:X}"
        );
        assert!(serial >= counter(&self.a.cadir()) + DISTANCE);
        assert!(rows(&self.b.cadir()).contains(&(serial, B.to_owned())));
        // It bears both names, for whoever checks it with the CA's certificate.
        for host in [B, SHARED] {
            let status = self
                .b
                .request(&Request::get("/status/v1/simple").host(host));
            assert_eq!(status.expect_accepted("ask for the status"), "running");
        }
        // What it issued for itself is no reason for anything to be refused, on either side.
        self.sync();
        assert!(!self.a.cadir().join(format!("signed/{B}.pem")).exists());
    }

    fn revocation_reaches_the_running_spare(&mut self, nodes: &Nodes) {
        for node in [&nodes.live, &nodes.revoked, &nodes.cleaned] {
            let answer = self.b.ask(node);
            assert!(answer.is_accepted(), "{}: {answer:?}", node.certname());
        }
        let starts = starts_of(&self.b);
        let old = self.b.crl();
        self.a.revoke(nodes.revoked.certname());
        let took = self.a.wait_until_refused(&nodes.revoked, CRL_LIMIT);
        self.tell("A refused the revoked node itself", took);

        // An agent fetches the CRL from B when A has the new one already: a file that kept A's time on B
        // would never be sent to it.
        next_second_after(&self.a.cadir().join("ca_crl.pem"));
        let agents_crl = self.b.directory().join("agents/crl.pem");
        fs::write(&agents_crl, self.b.crl()).unwrap();
        assert_eq!(fs::read_to_string(&agents_crl).unwrap(), old);
        assert_eq!(crl_if_newer(&self.b, &agents_crl).0, 304);
        assert!(
            self.b.ask(&nodes.revoked).is_accepted(),
            "B cannot know yet"
        );
        next_second_after(&agents_crl);

        self.sync();
        let took = self.b.wait_until_refused(&nodes.revoked, CRL_LIMIT);
        self.tell("B refused the revoked node after the apply", took);
        let answer = self.b.ask(&nodes.live);
        assert!(answer.is_accepted(), "{answer:?}");
        let (code, crl) = crl_if_newer(&self.b, &agents_crl);
        assert_eq!(code, 200, "B's answer to If-Modified-Since of the old CRL");
        assert_ne!(crl.trim(), old.trim());
        assert_eq!(
            crl.trim(),
            self.a.crl().trim(),
            "both hand out the same CRL"
        );
        // puppetserver gives it to its own host too.
        let host_crl = self.b.ssldir().join("crl.pem");
        let took = wait::until("B to copy the CRL to its ssldir", CRL_LIMIT, || {
            fs::read_to_string(&host_crl).is_ok_and(|text| text.trim() == crl.trim())
        });
        self.tell("B copied the CRL to its ssldir", took);
        assert_eq!(
            starts_of(&self.b),
            starts,
            "B was neither started again nor reloaded"
        );
        // A revocation leaves signed/ alone; so does its copy.
        assert!(
            self.b
                .cadir()
                .join(format!("signed/{}.pem", nodes.revoked.certname()))
                .is_file()
        );
        assert_eq!(
            self.b.state_of(nodes.revoked.certname()).as_deref(),
            Some("revoked")
        );
    }

    fn certificates_signed_later_are_accepted_on_the_spare(&mut self) {
        let next = counter(&self.b.cadir());
        let later = ["later1.pefo.test", "later2.pefo.test"].map(|name| self.a.enrol(name));
        for node in &later {
            assert_eq!(self.b.state_of(node.certname()), None);
        }
        self.sync();
        for node in &later {
            assert_eq!(self.b.state_of(node.certname()).as_deref(), Some("signed"));
            let answer = self.b.ask(node);
            assert!(answer.is_accepted(), "{}: {answer:?}", node.certname());
            assert!(
                rows(&self.b.cadir())
                    .contains(&(hex(&node.identity().serial()), node.certname().to_owned()))
            );
        }
        assert_eq!(
            counter(&self.b.cadir()),
            next,
            "B's counter stays in B's block"
        );
    }

    fn cleaned_certificate_disappears_on_the_spare(&self, nodes: &Nodes) {
        let (name, file) = (nodes.cleaned.certname(), "signed/cleaned.pefo.test.pem");
        assert!(self.b.ask(&nodes.cleaned).is_accepted() && self.b.cadir().join(file).is_file());
        self.a.clean(name);
        let took = wait::until("A to forget the cleaned node", CLEAN_LIMIT, || {
            !self.a.cadir().join(file).exists()
        });
        self.tell("A's file of the cleaned node was gone", took);
        self.sync();
        assert!(!self.b.cadir().join(file).exists());
        assert_eq!(self.b.state_of(name), None);
        let took = self.b.wait_until_refused(&nodes.cleaned, CRL_LIMIT);
        self.tell("B refused the cleaned node after the apply", took);
        // What is revoked without being cleaned stays, as on A.
        let revoked = format!("signed/{}.pem", nodes.revoked.certname());
        assert!(self.a.cadir().join(&revoked).exists() && self.b.cadir().join(&revoked).exists());
        for master in [&self.active, &self.passive] {
            master.pefo(["check"]).exits(0);
        }
    }

    fn active_dies_and_the_spare_signs(&mut self, nodes: &Nodes) {
        let (on_a, next) = (rows(&self.a.cadir()), counter(&self.b.cadir()));
        self.a.kill();
        assert!(!self.a.is_running());
        assert_eq!(
            self.b.state_of(nodes.pending.certname()).as_deref(),
            Some("requested")
        );
        let begin = Instant::now();
        self.b.sign(&nodes.pending);
        self.tell("B signed what was pending on A", begin.elapsed());
        let serial = hex(&nodes.pending.identity().serial());
        assert_eq!(serial, next, "the next of B's own block");
        assert_ne!(serial, hex(&self.b.identity().serial()));
        let highest = on_a.iter().map(|(serial, _)| *serial).max().unwrap();
        assert!(
            serial >= highest + DISTANCE,
            "{serial:X} on B, {highest:X} on A"
        );
        let answer = self.b.ask(&nodes.pending);
        assert!(answer.is_accepted(), "{answer:?}");
        // No number names two certificates, and none of A's is lost.
        let on_b = rows(&self.b.cadir());
        assert!(on_b.is_superset(&on_a), "{on_a:?} on A, {on_b:?} on B");
        let names: BTreeMap<u64, &str> = on_b
            .iter()
            .map(|(serial, name)| (*serial, name.as_str()))
            .collect();
        assert_eq!(names.len(), on_b.len(), "{on_b:?}");

        // The last generation, applied once more as cron does, takes nothing of it back.
        let report = self.passive.pefo(["ca", "apply", "--json"]).exits(0).json();
        assert_eq!(report["outcome"], "unchanged", "{report}");
        assert!(self.b.ask(&nodes.pending).is_accepted());
        self.b.revoke(nodes.live.certname());
        let took = self.b.wait_until_refused(&nodes.live, CRL_LIMIT);
        self.tell("B refused what it revoked itself", took);
        let crl = fs::read(self.b.cadir().join("ca_crl.pem")).unwrap();
        let run = self.passive.pefo(["ca", "apply"]).exits(3);
        assert!(
            run.refused_by("crl-rollback"),
            "{}{}",
            run.stdout,
            run.stderr
        );
        assert_eq!(fs::read(self.b.cadir().join("ca_crl.pem")).unwrap(), crl);
        assert!(self.b.ask(&nodes.live).is_refused() && self.b.ask(&nodes.pending).is_accepted());
    }

    /// Push and apply, as cron does on either side.
    fn sync(&self) {
        self.timed("push", || self.active.pefo(["ca", "push"]).exits(0));
        self.timed("apply", || self.passive.pefo(["ca", "apply"]).exits(0));
        let again = self.passive.pefo(["ca", "apply", "--json"]).exits(0).json();
        assert_eq!(again["outcome"], "unchanged", "applied again: {again}");
    }

    /// What is B's own, each file with its content, and when and as what it was written.
    fn own_files(&self) -> Vec<(PathBuf, Vec<u8>, SystemTime, u64)> {
        let identity = self.b.identity();
        let own_row = rows(&self.b.cadir())
            .into_iter()
            .filter(|(_, name)| name == B)
            .count();
        assert_eq!(own_row, 1, "B has one certificate");
        [
            identity.certificate,
            identity.key,
            self.b.cadir().join(format!("signed/{B}.pem")),
            self.b.cadir().join("ca_key.pem"),
            self.b.puppet_conf(),
        ]
        .into_iter()
        .map(|path| {
            let meta = fs::metadata(&path).unwrap();
            (
                path.clone(),
                fs::read(&path).unwrap(),
                meta.modified().unwrap(),
                meta.ino(),
            )
        })
        .collect()
    }

    fn timed(&self, what: &str, run: impl FnOnce() -> Run) -> Run {
        let begin = Instant::now();
        let run = run();
        self.tell(what, begin.elapsed());
        run
    }

    fn tell(&self, what: &str, took: Duration) {
        eprintln!(
            "{:7.2} s  {what}: {:.2} s",
            self.begin.elapsed().as_secs_f64(),
            took.as_secs_f64()
        );
    }
}

/// Runs `work` while looking at `directory` without a pause: what was below it when it was first there.
fn while_watching(directory: &Path, work: impl FnOnce() -> Run) -> Option<BTreeSet<PathBuf>> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if directory.exists() {
                    return Some(files_below(directory));
                }
                std::thread::yield_now();
            }
            None
        });
        // Also where the work panics, or the watcher would never end.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        match result {
            Ok(_) => watcher.join().unwrap(),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Every file and directory below `directory`, by its path from there.
fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::new()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(directory.join(&at)).unwrap() {
            let entry = entry.unwrap();
            let path = at.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

/// The inventory: serial and name of each row.
fn rows(cadir: &Path) -> BTreeSet<(u64, String)> {
    let text = fs::read_to_string(cadir.join("inventory.txt")).unwrap();
    let row = |line: &str| {
        let (serial, name) = (
            line.split(' ').next().unwrap(),
            line.rsplit("/CN=").next().unwrap(),
        );
        (hex(serial.trim_start_matches("0x")), name.to_owned())
    };
    let rows: BTreeSet<_> = text.lines().map(row).collect();
    assert_eq!(
        rows.len(),
        text.lines().count(),
        "a row stands twice in the inventory:\n{text}"
    );
    rows
}

/// The next serial.
fn counter(cadir: &Path) -> u64 {
    hex(fs::read_to_string(cadir.join("serial")).unwrap().trim())
}

fn hex(digits: &str) -> u64 {
    u64::from_str_radix(digits, 16).unwrap()
}

/// How often the running JVM has started its services; a reload counts.
fn starts_of(server: &Instance) -> String {
    fs::read_to_string(server.directory().join("run/restart")).unwrap()
}

/// Waits for the second after the one in which `file` was written: HTTP's dates have no parts of one.
fn next_second_after(file: &Path) {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let written = seconds(fs::metadata(file).unwrap().modified().unwrap());
    wait::until("the next second", Duration::from_secs(10), || {
        seconds(SystemTime::now()) > written
    });
}

/// Asks for the CRL as an agent does that has `file` already: with its time as `If-Modified-Since`.
fn crl_if_newer(server: &Instance, file: &Path) -> (u16, String) {
    let (name, port) = (server.certname(), server.port());
    let output = Command::new("/usr/bin/curl")
        .args([
            "-q",
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "60",
            "--write-out",
            "\n%{http_code}",
            "--cacert",
        ])
        .arg(server.cadir().join("ca_crt.pem"))
        .args([
            "--connect-to",
            &format!("{name}:{port}:127.0.0.1:{port}"),
            "--time-cond",
        ])
        .arg(file)
        .arg(format!(
            "https://{name}:{port}/puppet-ca/v1/certificate_revocation_list/ca"
        ))
        .env_clear()
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), body.to_owned())
}
