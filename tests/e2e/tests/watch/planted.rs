//! Whoever has taken over the transfer account plants what he likes in the spool: none of it changes
//! anything, each is refused by name, and what the active sends next arrives.

use std::path::Path;

use pefo_core::generation::Position;
use pefo_core::keys::{SigningKey, system_random};

use super::forged::{Forger, begin_reign, plant};
use super::{Watched, accepted, batches, spooled};
use crate::evidence::{generations, tree};
use crate::spool::{TAMPERINGS, as_transfer};

fn running() -> Option<Watched> {
    let mut watched = Watched::seeded()?;
    watched.pair.ca.sign("first.lab").unwrap();
    watched.in_step();
    Some(watched)
}

/// Has B look at what `planting` puts into its spool, wait for how it is refused, and compare.
#[track_caller]
fn refused(watched: &mut Watched, what: &str, answer: &str, planting: impl FnOnce(&Watched)) {
    let before = tree(&watched.pair.b.cadir());
    let said = watched.pair.b.watch_log().len();
    planting(watched);
    watched.until(what, || watched.pair.b.watch_log()[said..].contains(answer));
    assert!(
        tree(&watched.pair.b.cadir()) == before,
        "{what}: the CA changed"
    );
    watched.both_live();
}

fn next(watched: &Watched) -> Position {
    let position = accepted(&watched.pair.b).position;
    Position {
        sequence: position.sequence + 1,
        ..position
    }
}

#[test]
fn a_batch_that_no_peer_signed_is_refused_and_the_next_honest_one_is_applied() {
    let Some(mut watched) = running() else { return };
    let stranger = SigningKey::ephemeral(&system_random()).unwrap();
    let file = Forger::of(&watched.pair)
        .signed_by(stranger)
        .batch(&[("requests/x.lab.pem", b"x")]);
    refused(&mut watched, "a stranger", "[signer-unknown]", |watched| {
        plant(&watched.pair, next(watched), &file);
    });
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    watched.both_live();
}

#[test]
fn an_old_batch_put_back_changes_nothing_under_whatever_name() {
    let Some(mut watched) = running() else { return };
    watched.pair.ca.sign("old.lab").unwrap();
    watched.in_step();
    let old = std::fs::read(batches(&watched.pair.b).pop().unwrap()).unwrap();
    let its_own = accepted(&watched.pair.b).position;
    watched.pair.ca.clean("old.lab").unwrap();
    watched.in_step();
    // Under its own name, and under one of an older reign, nobody looks at it.
    let older = "00000000-000000009999".parse().unwrap();
    for position in [its_own, older] {
        plant(&watched.pair, position, &old);
    }
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    // Under a new one it is refused, and stops what comes after it only for as long as it lies there.
    for ahead in ["00000001-000000888888", "00000077-000000000001"] {
        refused(&mut watched, ahead, "[generation-name]", |watched| {
            plant(&watched.pair, ahead.parse().unwrap(), &old);
        });
        let planted = spooled(&watched.pair.b).join(format!("{ahead}.batch"));
        as_transfer(&format!("rm {}", planted.display()));
        watched.pair.ca.sign(&format!("{ahead}.lab")).unwrap();
        watched.in_step();
    }
    watched.both_live();
}

#[test]
fn a_batch_of_a_reign_that_has_ended_is_refused_before_and_after_the_new_one_has_sent_anything() {
    let Some(mut watched) = running() else { return };
    let old = Forger::of(&watched.pair).batch(&[("requests/x.lab.pem", b"x")]);
    let position = next(&watched);
    watched.kill_a();
    watched.kill_b();
    begin_reign(&watched.pair, 2);
    watched.start_b();
    refused(
        &mut watched,
        "an ended reign",
        "epoch 1 has ended",
        |watched| {
            plant(&watched.pair, position, &old);
        },
    );
    let planted = spooled(&watched.pair.b).join(format!("{position}.batch"));
    as_transfer(&format!("rm {}", planted.display()));
    watched.start_a();
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    assert_eq!(next(&watched).epoch.0, 2);
    // It is older now than what was accepted: nobody looks at it.
    plant(&watched.pair, position, &old);
    watched.pair.ca.sign("node2.lab").unwrap();
    watched.in_step();
    watched.both_live();
}

#[test]
fn names_that_are_taken_before_the_active_uses_them_hold_nothing_up_for_long() {
    let Some(mut watched) = running() else { return };
    watched.while_b_is_held(|pair| {
        let last = accepted(&pair.b).position;
        for ahead in 1..5 {
            let position = Position {
                sequence: last.sequence + ahead,
                ..last
            };
            plant(pair, position, b"taken");
        }
        pair.ca.sign("node1.lab").unwrap();
    });
    watched.in_step();
    watched.pair.ca.revoke("node1.lab").unwrap();
    watched.in_step();
    watched.both_live();
}

#[test]
fn what_looks_like_a_newer_generation_and_is_none_is_over_when_it_is_gone() {
    let Some(mut watched) = running() else { return };
    let dir = spooled(&watched.pair.b).join("00000009-000000000001");
    let dir = dir.display().to_string();
    // Whole before it stands there: root may look at any moment.
    let made = |what: &str| format!("mkdir {dir}-part; {what}; mv {dir}-part {dir}");
    let manifest = format!("{dir}-part/manifest");
    for (round, (script, answer)) in [
        (made("true"), "manifest: No such file"),
        (made(&format!("truncate -s 1T {manifest}")), "larger than"),
        (
            made(&format!("ln -s /etc/shadow {manifest}")),
            "[spool-symlink]",
        ),
        (made(&format!("mkfifo {manifest}")), "not a regular file"),
    ]
    .into_iter()
    .enumerate()
    {
        refused(&mut watched, &script, answer, |_| as_transfer(&script));
        as_transfer(&format!("rm -r {dir}"));
        watched.pair.ca.sign(&format!("node{round}.lab")).unwrap();
        watched.in_step();
    }
    watched.both_live();
}

#[test]
fn what_the_account_does_to_a_full_generation_is_refused_and_the_next_one_heals_it() {
    let Some(mut watched) = running() else { return };
    watched.kill_a();
    for (round, (what, script, answer)) in TAMPERINGS.into_iter().enumerate() {
        let said = watched.pair.b.watch_log().len();
        let before = tree(&watched.pair.b.cadir());
        let name = format!("node{round}.lab");
        watched.while_b_is_held(|pair| {
            pair.ca.sign(&name).unwrap();
            pair.a.pefo(["ca", "push"]).exits(0);
            let newest = generations(&pair.b, "ca").pop().unwrap();
            as_transfer(&format!("set -e; set -- {}; {script}", newest.display()));
        });
        watched.until(what, || watched.pair.b.watch_log()[said..].contains(answer));
        assert!(tree(&watched.pair.b.cadir()) == before, "{what}");
        watched.until("B to ask for it again", || {
            super::ack(&watched.pair.b).is_some_and(|ack| ack.reconcile.is_some())
        });
        watched.pair.a.pefo(["ca", "push"]).exits(0);
        watched.in_step();
    }
    watched.start_a();
    watched.pair.ca.revoke("node1.lab").unwrap();
    watched.in_step();
    watched.both_live();
}

/// The most that a process has held, in MiB.
fn peak(watch: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(watch.to_string()).join("status"));
    let status = status.unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

#[test]
fn a_million_tiny_files_are_refused_as_too_many_and_are_over_when_they_are_gone() {
    let Some(mut watched) = running() else { return };
    let watch = watched.b.as_ref().unwrap().id();
    let before = peak(watch);
    let dir = spooled(&watched.pair.b).display().to_string();
    let planting = format!("cd {dir} && seq -f 'tiny-%.0f' 1000000 | xargs touch");
    refused(&mut watched, "a million files", "[spool-entries]", |_| {
        as_transfer(&planting);
    });
    let run = watched.pair.b.pefo(["ca", "diff"]).exits(3);
    assert!(run.refused_by("spool-entries"), "{}", run.stderr);
    as_transfer(&format!("cd {dir} && find . -name 'tiny-*' -delete"));
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    watched.both_live();
    let grown = peak(watch) - before;
    assert!(grown < 64, "it grew by {grown} MiB");
}

#[test]
fn a_huge_file_that_nobody_signed_is_not_read_into_memory() {
    let Some(mut watched) = running() else { return };
    let watch = watched.b.as_ref().unwrap().id();
    let before = peak(watch);
    // Within what a batch may have, were it signed; its manifest is announced short, long, and beyond.
    for (round, announced) in [50_000_u64, 60 << 20, 300 << 20, u64::MAX]
        .into_iter()
        .enumerate()
    {
        let said = watched.pair.b.watch_log().len();
        let position = next(&watched);
        let mut file = announced.to_le_bytes().to_vec();
        file.extend([b'x'; 1000]);
        plant(&watched.pair, position, &file);
        let path = spooled(&watched.pair.b).join(format!("{position}.batch"));
        as_transfer(&format!("truncate -s 319M {}", path.display()));
        watched.until("the refusal", || {
            watched.pair.b.watch_log()[said..].contains("what was received is not applied whole")
        });
        watched.pair.ca.sign(&format!("node{round}.lab")).unwrap();
        watched.in_step();
        let grown = peak(watch) - before;
        assert!(
            grown < 160,
            "{announced} bytes were announced: it grew by {grown} MiB"
        );
    }
    watched.both_live();
}
