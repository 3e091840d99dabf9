//! `kill -9` of promote, demote and switchover at every step that is written down, of either side: at no moment do
//! two reign, and the same command run again ends it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask};
use pefo_testkit::ca::TestCa;
use pefo_testkit::child::Child;
use pefo_testkit::masters::Master;
use pefo_testkit::wait;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

use crate::evidence::{contents, fails_as, refused_as};
use crate::pair::Pair;

use super::{crl, stands, status};

const LIMIT: Duration = Duration::from_secs(30);

/// What a host writes down of its role: its journals and its station. Each rename is a step.
struct Steps {
    inotify: Inotify,
    seen: usize,
}

impl Steps {
    fn of(master: &Master) -> Self {
        let inotify = Inotify::init().unwrap();
        for dir in ["reign", "public"] {
            let dir = master.state().join(dir);
            inotify.watches().add(dir, WatchMask::MOVED_TO).unwrap();
        }
        Self { inotify, seen: 0 }
    }

    /// Waits until the `number`th was taken, or `ended` says that none comes any more; tells whether it was.
    fn until(&mut self, number: usize, mut ended: impl FnMut() -> bool) -> bool {
        let mut buffer = [0; 4096];
        let tick = Timespec::try_from(Duration::from_millis(5)).unwrap();
        loop {
            let mut fds = [PollFd::new(&self.inotify, PollFlags::IN)];
            let is_over = ended();
            rustix::event::poll(&mut fds, Some(&tick)).unwrap();
            match self.inotify.read_events(&mut buffer) {
                Ok(events) => self.seen += events.count(),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            if self.seen >= number {
                return true;
            }
            if is_over {
                return false;
            }
        }
    }
}

/// Runs a command and kills it at the `number`th step; tells whether it came to that.
fn killed_at(master: &Master, arguments: &[&str], number: usize) -> bool {
    let mut steps = Steps::of(master);
    let mut command: Command = master.command();
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = Child::spawn(&mut command);
    let came = steps.until(number, || child.ended().is_some());
    child.signal(Signal::KILL);
    wait::until("its end", LIMIT, || child.ended().is_some());
    came
}

/// Whether it acts as the active: neither fenced nor about to change.
fn reigns(master: &Master) -> bool {
    let status = status(master);
    status["role"] == "active" && status["fenced"].is_null() && status["changing"].is_null()
}

/// Everything that a host has signed and revoked is the same on both.
fn same(pair: &Pair) {
    assert_eq!(crl(&pair.a.cadir()), crl(&pair.b.cadir()));
    let signed = |master: &Master| -> Vec<PathBuf> {
        contents(&master.cadir().join("signed"))
            .into_keys()
            .collect()
    };
    assert_eq!(signed(&pair.a), signed(&pair.b));
}

/// A server on the host that reigns signs and revokes.
fn lives(ca: &TestCa, master: &Master, turn: usize) {
    let mut server = ca.resumed(&master.cadir()).unwrap();
    for name in [format!("stays{turn}.lab"), format!("goes{turn}.lab")] {
        server.sign(&name).unwrap();
    }
    server.revoke(&format!("goes{turn}.lab")).unwrap();
}

#[test]
fn a_promotion_and_a_demotion_that_are_killed_at_any_step_go_on_where_they_were() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let began = Instant::now();
    let (mut promotions, mut demotions) = (0, 0);
    for turn in 1.. {
        lives(&pair.ca, &pair.a, turn);
        pair.sync();
        pair.a.stop_sshd();
        let died = killed_at(&pair.b, &["promote"], turn);
        promotions += usize::from(died);
        if died && !reigns(&pair.b) {
            // It serves as the passive that it was, or says that it is changing.
            assert_eq!(stands(&pair.b).0, "passive", "step {turn}");
        }
        if died {
            let run = pair.b.pefo(["promote"]);
            let is_done = run.code == 0 || (run.code == 6 && reigns(&pair.b));
            assert!(is_done, "step {turn}: {}{}", run.stdout, run.stderr);
        }
        assert!(reigns(&pair.b), "step {turn}");
        let leavings = pair.b.state().join("reign/promotion.json");
        assert!(!leavings.exists(), "step {turn}");
        let epoch = stands(&pair.b).1;
        assert_eq!(epoch, turn as u64 + 1, "one promotion is one reign");

        pair.a.restart_sshd();
        let demoted = killed_at(&pair.a, &["demote", "--wait", "0"], turn);
        demotions += usize::from(demoted);
        assert!(!reigns(&pair.a) || !demoted || turn == 1, "step {turn}");
        let run = pair.a.pefo(["demote", "--wait", "0"]);
        assert_eq!(run.code, 4, "step {turn}: {}{}", run.stdout, run.stderr);
        pair.b.pefo(["ca", "push"]).exits(0);
        pair.a.pefo(["demote", "--wait", "20"]).exits(0);
        pair.a.pefo(["ca", "verify"]).exits(0);
        same(&pair);
        std::mem::swap(&mut pair.a, &mut pair.b);
        if !died && !demoted {
            break;
        }
    }
    assert!(
        promotions >= 9 && demotions >= 3,
        "{promotions} promotions, {demotions} demotions"
    );
    assert!(began.elapsed() < Duration::from_secs(600));
}

#[test]
fn a_promotion_that_was_broken_off_asks_once_more_who_reigns_and_may_be_taken_back() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    fails_as(&pair.b, &["promote", "--abort"], 1, "not_found");
    // Decided on, and nothing else: the active is followed as ever, and the next one decides anew.
    pair.a.stop_sshd();
    assert!(killed_at(&pair.b, &["promote"], 1));
    pair.a.restart_sshd();
    pair.ca.sign("node1.lab").unwrap();
    pair.sync();
    refused_as(&pair.b, &["promote"], "peer-active");
    // Fenced: nothing is taken until it goes on, or is taken back.
    pair.a.stop_sshd();
    assert!(killed_at(&pair.b, &["promote"], 3));
    assert!(status(&pair.b)["changing"].is_object());
    pair.a.restart_sshd();
    fails_as(&pair.a, &["ca", "push"], 6, "fenced");
    assert!(
        reigns(&pair.a),
        "what it was told proves no end of its reign"
    );
    let error = refused_as(&pair.b, &["promote"], "peer-active");
    assert!(
        error["hint"].as_str().unwrap().contains("--abort"),
        "{error:#}"
    );
    pair.b.pefo(["promote", "--abort", "--dry-run"]).exits(0);
    assert!(status(&pair.b)["changing"].is_object());
    pair.b.pefo(["promote", "--abort"]).exits(0);
    assert_eq!(stands(&pair.b), ("passive".to_owned(), 1));
    pair.ca.sign("node2.lab").unwrap();
    pair.sync();
    // Once the CA is signed for the new reign, there is no way back.
    pair.a.stop_sshd();
    assert!(killed_at(&pair.b, &["promote"], 6));
    refused_as(&pair.b, &["promote", "--abort"], "promotion-begun");
    pair.b.pefo(["promote"]).exits(0);
    assert_eq!(stands(&pair.b), ("active".to_owned(), 2));
}

/// Runs a switchover until it is done; what was in doubt or undone on the way is told.
fn done_at_last(pair: &Pair) {
    let mut said = String::new();
    let done = wait::within(Duration::from_secs(60), || {
        let run = pair.a.pefo(["switchover", "--timeout", "3"]);
        said = run.stderr;
        // Killed at its very end, it is the passive already.
        (run.code == 0 || run.code == 6).then_some(())
    });
    let log = pair.b.watch_log();
    assert!(done.is_some(), "{said}\n{}", crate::watch::tail(&log));
}

/// All that whoever reigns has is at the other one. What was killed may have a child that lives a moment longer.
fn in_step(pair: &Pair) {
    for (master, arguments) in [(&pair.b, ["ca", "push"]), (&pair.a, ["ca", "apply"])] {
        let run = wait::within(LIMIT, || {
            let run = master.pefo(arguments);
            (run.code != 5).then_some(run)
        });
        run.unwrap_or_else(|| panic!("{arguments:?}: the lock stays"))
            .exits(0);
    }
    same(pair);
}

fn not_both_reign(pair: &Pair, turn: usize) {
    let both = reigns(&pair.a) && reigns(&pair.b);
    assert!(!both, "step {turn}: two reign");
}

/// The same pair with the other one as the active.
fn turned(pair: Pair) -> Pair {
    let Pair { a, b, ca } = pair;
    Pair { a: b, b: a, ca }
}

#[test]
fn a_switchover_that_is_killed_at_any_step_on_the_active_is_ended_by_the_next() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let mut kills = 0;
    for turn in 1.. {
        lives(&pair.ca, &pair.a, turn);
        pair.sync();
        let watch = pair.b.watch();
        let died = killed_at(&pair.a, &["switchover", "--timeout", "20"], turn);
        kills += usize::from(died);
        not_both_reign(&pair, turn);
        if died {
            done_at_last(&pair);
        }
        assert!(reigns(&pair.b) && !reigns(&pair.a), "step {turn}");
        drop(watch);
        in_step(&pair);
        pair = turned(pair);
        if !died {
            break;
        }
    }
    assert!(kills >= 7, "{kills} kills");
}

#[test]
fn a_switchover_whose_other_side_is_killed_at_any_step_is_ended_or_undone() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let mut kills = 0;
    for turn in 1.. {
        lives(&pair.ca, &pair.a, turn);
        pair.sync();
        let mut steps = Steps::of(&pair.b);
        let mut watch = pair.b.watch();
        let mut command = pair.a.command();
        command
            .args(["switchover", "--timeout", "3"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut asking = Child::spawn(&mut command);
        let died = steps.until(turn, || asking.ended().is_some());
        if died {
            watch.signal(Signal::KILL);
            wait::until("its end", LIMIT, || watch.ended().is_some());
            watch = pair.b.watch();
        }
        kills += usize::from(died);
        wait::until("the switchover's end", LIMIT, || asking.ended().is_some());
        not_both_reign(&pair, turn);
        done_at_last(&pair);
        wait::until("the new reign", LIMIT, || reigns(&pair.b));
        assert!(!reigns(&pair.a), "step {turn}");
        drop(watch);
        // What follows the commit may have been left to do, and is done by the watch or by hand.
        let run = pair.b.pefo(["promote"]);
        assert!([0, 6].contains(&run.code), "{}{}", run.stdout, run.stderr);
        assert!(!pair.b.state().join("reign/promotion.json").exists());
        in_step(&pair);
        pair = turned(pair);
        if !died {
            break;
        }
    }
    assert!(kills >= 5, "{kills} kills");
}
