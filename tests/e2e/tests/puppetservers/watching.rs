//! Both sides watch: what a busy active signs, revokes and cleans is on the spare at once, and stays there
//! when the active dies.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pefo_testkit::child::Child;
use pefo_testkit::puppetserver::{Agent, agent_available};
use pefo_testkit::{skip, wait};

use super::look::{counter, crl_if_newer, hex, next_second_after, rows, starts_of};
use super::{B, CLEAN_LIMIT, CRL_LIMIT, DISTANCE, Pair};
use crate::watch::{contents, tail};

const FLEET: usize = 200;
/// Of these so many are cleaned, and so many more revoked.
const CLEANED: usize = 10;
const REVOKED: usize = 40;
/// How long the spare may be behind before the test gives up; usual are some ten milliseconds.
const FOLLOW_LIMIT: Duration = Duration::from_secs(120);

/// A pair whose two sides watch, and a site that grows.
pub(super) struct Watched<'a> {
    pair: &'a mut Pair,
    a: Child,
    b: Child,
    fleet: Vec<Agent>,
    /// B's starts and its counter when the watch began.
    began_with: (String, u64),
}

impl Pair {
    pub(super) fn both_sides_watch(&mut self) -> Watched<'_> {
        let (a, b) = (self.active.watch(), self.passive.watch());
        let agents = self.a.directory().join("agents");
        let first = Agent::new(&agents, "fleet000.pefo.test");
        let others =
            (1..FLEET).map(|number| first.sharing_its_key(&format!("fleet{number:03}.pefo.test")));
        let mut fleet: Vec<Agent> = others.collect();
        fleet.insert(0, first);
        let began_with = (starts_of(&self.b), counter(&self.b.cadir()));
        Watched {
            pair: self,
            a,
            b,
            fleet,
            began_with,
        }
    }
}

impl Watched<'_> {
    pub(super) fn what_a_busy_active_does_is_done_on_the_spare(&self) {
        let (a, b) = (&self.pair.a, &self.pair.b);
        let begin = Instant::now();
        let (early, late) = self.fleet.split_at(FLEET / 2);
        a.submit_and_sign_each(early);
        // A certificate outlives its file: those to be cleaned are fetched while there is one.
        for agent in self.tried() {
            wait::until("B to have a certificate", FOLLOW_LIMIT, || {
                b.state_of(agent.certname()).as_deref() == Some("signed")
            });
            b.fetch(agent);
            let answer = b.ask(agent);
            assert!(answer.is_accepted(), "{}: {answer:?}", agent.certname());
        }
        a.clean_all(self.cleaned());
        let is_there = |agent: &Agent| signed(&a.cadir(), agent).exists();
        let took = wait::until("A to forget what it cleaned", CLEAN_LIMIT, || {
            !self.cleaned().iter().any(is_there)
        });
        self.pair
            .tell("A's files of what it cleaned were gone", took);
        a.submit_and_sign_each(late);
        a.revoke_each(self.revoked());
        self.pair
            .tell("A signed, cleaned and revoked", begin.elapsed());
        let took = self.in_step();
        self.pair.tell("B was in step after that", took);
        self.tell_latencies();

        // Both CA services say the same of every name, but for what is B's own.
        let (on_a, mut on_b) = (a.states(), b.states());
        assert!(!on_a.contains_key(B));
        on_b.remove(B).unwrap();
        assert_eq!(on_a, on_b);
        let counted = |state: &str| {
            let of_fleet = self.fleet.iter().filter_map(|one| on_b.get(one.certname()));
            of_fleet.filter(|value| value["state"] == state).count()
        };
        assert_eq!(
            (counted("signed"), counted("revoked")),
            (FLEET - CLEANED - REVOKED, REVOKED)
        );
        assert_eq!(
            counter(&b.cadir()),
            self.began_with.1,
            "B's counter stays in B's block"
        );
        for master in [&self.pair.active, &self.pair.passive] {
            master.pefo(["check"]).exits(0);
        }
    }

    pub(super) fn the_spare_accepts_who_is_signed_and_refuses_who_is_revoked(&self) {
        for agent in self.tried() {
            if self.live().iter().any(|live| is_same(live, agent)) {
                let answer = self.pair.b.ask(agent);
                assert!(answer.is_accepted(), "{}: {answer:?}", agent.certname());
            } else {
                self.pair.b.wait_until_refused(agent, CRL_LIMIT);
            }
        }
        assert_eq!(
            starts_of(&self.pair.b),
            self.began_with.0,
            "B was neither started again nor reloaded"
        );
    }

    pub(super) fn an_agent_with_the_old_crl_is_sent_the_new_one(&self) {
        let (a, b) = (&self.pair.a, &self.pair.b);
        let node = &self.live()[0];
        let agents_crl = b.directory().join("agents/watched-crl.pem");
        let old = b.crl();
        fs::write(&agents_crl, &old).unwrap();
        assert_eq!(crl_if_newer(b, &agents_crl).0, 304);
        assert!(b.ask(node).is_accepted());
        next_second_after(&agents_crl);

        a.revoke(node.certname());
        let took = b.wait_until_refused(node, CRL_LIMIT);
        self.pair.tell("B refused what A had revoked", took);
        let (code, crl) = crl_if_newer(b, &agents_crl);
        assert_eq!(code, 200, "B's answer to If-Modified-Since of the old CRL");
        assert_ne!(crl.trim(), old.trim());
        assert_eq!(crl.trim(), a.crl().trim(), "both hand out the same CRL");
        self.in_step();
        let crls = [a, b].map(|server| server.cadir().join("ca_crl.pem"));
        self.pair
            .tell("the revocation crossed", between(&crls[0], &crls[1]));
    }

    pub(super) fn puppets_own_agent_works_until_its_certificate_is_revoked(&self) {
        if skip::need(agent_available()).is_none() {
            return;
        }
        let (a, b) = (&self.pair.a, &self.pair.b);
        let node = &self.live()[1];
        let noticed = "from the test kit";
        let run = self.pair.timed("the agent's run", || b.run_agent(node));
        assert!(run.stdout.contains(noticed), "{run:?}");
        // It has the CRL of its first run, by which it is not revoked: the server refuses it.
        a.revoke(node.certname());
        b.wait_until_refused(node, CRL_LIMIT);
        let run = self.pair.timed("the agent's run", || b.run_agent(node));
        assert!(!run.stdout.contains(noticed), "{run:?}");
        // A reset can overtake the alert.
        let is_ended_by_server = ["alert", "reset"].map(|why| run.stderr.contains(why));
        assert!(is_ended_by_server.contains(&true), "{run:?}");
    }

    pub(super) fn the_crl_of_the_infrastructure_follows_too(&mut self) {
        let begin = Instant::now();
        let (a, b) = (&mut self.pair.a, &mut self.pair.b);
        std::thread::scope(|scope| {
            for server in [a, b] {
                server.enable_infra_crl();
                scope.spawn(|| server.reload());
            }
        });
        self.pair.tell("both were reloaded", begin.elapsed());
        let (a, b) = (&self.pair.a, &self.pair.b);
        let [compiler, node] = [&self.live()[2], &self.live()[3]];
        for agent in [compiler, node] {
            b.fetch(agent);
        }
        let names = File::options()
            .append(true)
            .open(a.cadir().join("infra_inventory.txt"));
        writeln!(names.unwrap(), "{}", compiler.certname()).unwrap();
        // A's server finds the serial to the name.
        let serial = hex(&compiler.identity().serial()).to_string();
        wait::until("the compiler's serial", CRL_LIMIT, || {
            let serials = fs::read_to_string(a.cadir().join("infra_serials"));
            serials.is_ok_and(|text| text.lines().any(|line| line == serial))
        });
        self.in_step();

        let agents_crl = b.directory().join("agents/infra-crl.pem");
        let old = b.crl();
        fs::write(&agents_crl, &old).unwrap();
        next_second_after(&agents_crl);
        a.revoke(node.certname());
        b.wait_until_refused(node, CRL_LIMIT);
        self.in_step();
        assert_eq!(
            crl_if_newer(b, &agents_crl).0,
            304,
            "agents need not hear of a node that none of them asks"
        );
        a.revoke(compiler.certname());
        b.wait_until_refused(compiler, CRL_LIMIT);
        self.in_step();
        let (code, crl) = crl_if_newer(b, &agents_crl);
        assert_eq!(code, 200);
        assert_ne!(crl.trim(), old.trim());
        assert_eq!(crl.trim(), a.crl().trim(), "both hand out the same CRL");
        let full = fs::read_to_string(b.cadir().join("ca_crl.pem")).unwrap();
        assert_ne!(crl.trim(), full.trim());
        let crls = [a, b].map(|server| server.cadir().join("infra_crl.pem"));
        self.pair
            .tell("that revocation crossed", between(&crls[0], &crls[1]));
    }

    pub(super) fn active_dies_and_the_spare_signs_what_waited(mut self) {
        let crossing = self.pair.a.agent("crossing.pefo.test");
        let took = wait::until("the request to cross", FOLLOW_LIMIT, || {
            self.pair.b.state_of(crossing.certname()).as_deref() == Some("requested")
        });
        self.pair.tell("B had the request", took);
        self.in_step();
        self.pair.a.kill();
        self.a.kill();

        let (on_a, next) = (rows(&self.pair.a.cadir()), counter(&self.pair.b.cadir()));
        self.pair.b.sign(&crossing);
        let serial = hex(&crossing.identity().serial());
        assert_eq!(serial, next, "the next of B's own block");
        assert!(on_a.iter().all(|(issued, _)| *issued != serial));
        // Neither comes near the other's, whoever reigned meanwhile.
        let near =
            |issued: u64, name: &str| !name.contains(B) && issued.abs_diff(serial) < DISTANCE;
        let near: Vec<_> = on_a
            .iter()
            .filter(|(issued, name)| near(*issued, name))
            .collect();
        assert!(
            near.iter().all(|(_, name)| name.contains("switched0")),
            "{near:?}"
        );
        let answer = self.pair.b.ask(&crossing);
        assert!(answer.is_accepted(), "{answer:?}");
        let request = format!("requests/{}.pem", crossing.certname());
        assert!(!self.pair.b.cadir().join(request).exists());
        assert!(self.b.ended().is_none(), "B's watch goes on without A");
    }

    pub(super) fn pair(&mut self) -> &mut Pair {
        self.pair
    }

    fn cleaned(&self) -> &[Agent] {
        &self.fleet[..CLEANED]
    }

    fn revoked(&self) -> &[Agent] {
        &self.fleet[CLEANED..CLEANED + REVOKED]
    }

    pub(super) fn live(&self) -> &[Agent] {
        &self.fleet[CLEANED + REVOKED..]
    }

    /// Some of each kind.
    fn tried(&self) -> impl Iterator<Item = &Agent> {
        let kinds = [self.cleaned(), self.revoked(), self.live()];
        kinds.into_iter().flat_map(|kind| kind.iter().take(3))
    }

    /// Waits until B's CA is A's, but for what is B's own: its counter and its certificate.
    fn in_step(&self) -> Duration {
        let (a, b) = (self.pair.a.cadir(), self.pair.b.cadir());
        let is_same = || {
            let (on_a, on_b) = (without_own(&a), without_own(&b));
            on_a.is_some() && on_a == on_b
        };
        let begin = Instant::now();
        if wait::within(FOLLOW_LIMIT, || is_same().then_some(())).is_none() {
            panic!(
                "B does not follow\n--- A\n{}\n--- B\n{}",
                tail(&self.pair.active.watch_log()),
                tail(&self.pair.passive.watch_log())
            );
        }
        begin.elapsed()
    }

    /// From a certificate's rename on A to that on B, over all that are still there.
    fn tell_latencies(&self) {
        let (a, b) = (self.pair.a.cadir(), self.pair.b.cadir());
        let standing = [self.revoked(), self.live()].concat();
        let mut all: Vec<Duration> = standing
            .iter()
            .map(|agent| between(&signed(&a, agent), &signed(&b, agent)))
            .collect();
        all.sort();
        for (which, at) in [
            ("least", 0),
            ("median", all.len() / 2),
            ("nine of ten", all.len() * 9 / 10),
            ("most", all.len() - 1),
        ] {
            let what = format!("signed on A, then on B, {} of them, {which}", all.len());
            self.pair.tell(&what, all[at]);
        }
    }
}

fn is_same(one: &Agent, other: &Agent) -> bool {
    one.certname() == other.certname()
}

fn signed(cadir: &Path, agent: &Agent) -> PathBuf {
    cadir.join(format!("signed/{}.pem", agent.certname()))
}

/// The CA's files without B's certificate, its row and the counter; `None` while they change.
fn without_own(cadir: &Path) -> Option<Vec<(PathBuf, Vec<u8>)>> {
    let own_row = format!("/CN={B}\n");
    let mut files = contents(cadir)?;
    files.remove(Path::new(&format!("signed/{B}.pem")));
    let inventory = String::from_utf8(files.remove(Path::new("inventory.txt"))?).ok()?;
    let others: String = inventory
        .split_inclusive('\n')
        .filter(|row| !row.ends_with(&own_row))
        .collect();
    files.insert(PathBuf::from("inventory.txt"), others.into_bytes());
    Some(files.into_iter().collect())
}

/// How long after one file the other got its name: a rename is the last that sets a file's ctime.
fn between(one: &Path, other: &Path) -> Duration {
    let renamed = |path: &Path| {
        let meta = fs::metadata(path).unwrap();
        Duration::new(
            meta.ctime().try_into().unwrap(),
            meta.ctime_nsec().try_into().unwrap(),
        )
    };
    renamed(other).saturating_sub(renamed(one))
}
