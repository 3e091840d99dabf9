//! The line between the two watches is cut, breaks and comes back; nobody has to do anything.

use pefo_testkit::line::{Direction, Line};

use super::Watched;
use crate::pair::{B, Pair};

/// A pair between which everything goes over a line of its own.
fn over_a_line() -> Option<(Watched, Line)> {
    let mut pair = Pair::seeded()?;
    let line = Line::to(("127.0.0.1", pair.b.sshd().port()));
    pair.a.configure(&format!(
        "\n[[peer]]\ncertname = \"{B}\"\nport = {}\n",
        line.port()
    ));
    Some((Watched::of(pair), line))
}

/// How often A's link has failed and waits to try again.
fn failures(watched: &Watched) -> usize {
    let log = watched.pair.a.watch_log();
    log.matches("the line failed").count()
}

#[test]
fn a_line_that_is_cut_in_the_middle_of_a_batch_and_for_a_while_is_used_again_once_it_is_back() {
    let Some((mut watched, line)) = over_a_line() else {
        return;
    };
    watched.in_step();
    for (round, bytes) in [(0, 100), (1, 1000), (2, 3000)] {
        line.cut_after(Direction::Forward, bytes);
        watched.pair.ca.sign(&format!("node{round}.lab")).unwrap();
        watched.until("the cut", || line.is_cut());
        let before = failures(&watched);
        watched.pair.ca.sign(&format!("while{round}.lab")).unwrap();
        watched.until("a second try", || failures(&watched) >= before + 2);
        line.mend();
        watched.in_step();
    }
    watched.both_live();
}

#[test]
fn answers_that_are_lost_on_the_way_back_bring_nothing_out_of_step() {
    let Some((mut watched, line)) = over_a_line() else {
        return;
    };
    watched.in_step();
    // The batch arrives, A never hears of it and sends it again.
    for round in 0..3 {
        let (opened, _) = line.connections();
        line.break_after(Direction::Back, 1);
        watched.pair.ca.sign(&format!("node{round}.lab")).unwrap();
        watched.until("a new session", || line.connections().0 > opened);
        watched.pair.ca.revoke(&format!("node{round}.lab")).unwrap();
        watched.in_step();
    }
    watched.both_live();
}

#[test]
fn a_restart_of_the_passives_sshd_and_the_end_of_its_sessions_are_survived() {
    let Some(mut watched) = Watched::seeded() else {
        return;
    };
    watched.in_step();
    watched.pair.b.restart_sshd();
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    watched.pair.b.sshd().kill_sessions();
    watched.pair.ca.revoke("node1.lab").unwrap();
    watched.in_step();
    watched.both_live();
}
