//! The CA between two real puppetservers: a spare that never had a CA is seeded, kept in step, and
//! takes over when the active dies.
//!
//! One pair of JVMs serves all scenarios, in the order of a spare's life, because a start takes half a
//! minute. Whether a certificate still works is asked of the server, with the certificate; whether cron
//! pushes and applies or both sides watch, no server is restarted or told to reload. Timings are seen with
//! `--nocapture`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "the scenarios are functions of one test; allowed in tests"
)]

mod following;
mod look;
mod seeding;
mod switching;
mod takeover;
mod watching;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use pefo_testkit::masters::{Master, Run, built_binary};
use pefo_testkit::puppetserver::{Agent, Instance, Options};
use pefo_testkit::{place, skip};
use tempfile::TempDir;

use self::look::rows;

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
    let mut watched = pair.both_sides_watch();
    watched.what_a_busy_active_does_is_done_on_the_spare();
    watched.the_spare_accepts_who_is_signed_and_refuses_who_is_revoked();
    watched.an_agent_with_the_old_crl_is_sent_the_new_one();
    watched.puppets_own_agent_works_until_its_certificate_is_revoked();
    watched.the_crl_of_the_infrastructure_follows_too();
    watched.an_agent_of_the_shared_name_works_across_a_switchover_and_back();
    watched.active_dies_and_the_spare_signs_what_waited();
    assert_eq!(pair.own_files(), own, "the spare's own files");
    pair.spare_goes_on_alone(&nodes);
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
        let options = Options::default().alt_name(SHARED).alt_name("localhost");
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
            "{:7.2} s  {what}: {:.3} s",
            self.begin.elapsed().as_secs_f64(),
            took.as_secs_f64()
        );
    }
}
