//! A session that is kept over a line that fails, is slow, or is held to a limit.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use pefo_core::clock::{Clock, FixedClock, SystemClock};
use pefo_core::generation::DataSet;
use pefo_core::progress::{Meter, Silent};
use pefo_core::{ErrorKind, Result};
use pefo_testkit::line::Direction;
use pefo_transport::{Backoff, Connection, Link, LinkOptions, Pace};

use crate::world::{AtFirstBytes, now, world};

/// Waits little: the peer is up again at once, but what it was doing has to end first.
fn link<F: FnMut() -> Result<Connection>>(dial: F) -> Link<F> {
    Link::new(dial, Arc::new(SystemClock))
        .backoff(Backoff::new().base(Duration::from_millis(50)))
        .random(|| u64::MAX)
        .give_up_after(Duration::from_secs(60))
}

#[test]
fn a_line_that_breaks_in_a_push_is_opened_anew_and_the_push_goes_through() {
    let world = world!();
    world.force(&world.receiver());
    let (line, target) = world.line();
    let outgoing = world.outgoing(1, 9_000_000);
    let mut link = link(|| world.open(&target));
    link.with(|connection| connection.acks(&[DataSet::Ca]))
        .unwrap();
    line.break_after(Direction::Forward, 4_000_000);
    let pushed = link
        .with(|connection| connection.push(&outgoing, &Silent))
        .unwrap();
    assert_eq!(pushed.files_sent, 1);
    assert!(line.connections().0 >= 2);
    // It went on where the line had broken.
    assert!(pushed.bytes_saved > 1_000_000, "{pushed:?}");
    assert!(line.passed(Direction::Forward) < 12_000_000);
    world.verify(&outgoing);
}

#[test]
fn a_line_that_dies_without_a_word_is_given_up_after_the_time_allowed_and_opened_anew() {
    let world = world!();
    world.force(&world.receiver());
    let (line, target) = world.line();
    let target = target.io_timeout(Duration::from_secs(3));
    let outgoing = world.outgoing(1, 12_000_000);
    let stall = AtFirstBytes::new(|| line.set_stalled(true));
    let line = &line;
    std::thread::scope(|scope| {
        // The jitter is drawn once a try has failed: then the line is well again.
        let (failed, seen) = std::sync::mpsc::channel();
        let mut link = link(|| world.open(&target)).random(move || {
            failed.send(()).unwrap();
            u64::MAX
        });
        scope.spawn(move || {
            seen.recv().unwrap();
            line.set_stalled(false);
            // Drawn again where the old receiver still holds its lock.
            for () in seen {}
        });
        link.with(|connection| connection.push(&outgoing, &stall))
            .unwrap();
    });
    assert!(line.connections().0 >= 2);
    world.verify(&outgoing);
}

#[test]
fn what_is_refused_is_asked_once() {
    let world = world!();
    let (line, target) = world.line();
    // Nobody is authorized yet.
    let mut link = link(|| world.open(&target));
    let error = link.with(|_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(line.connections().0, 1);

    world.force(&world.receiver());
    let (old, new) = (world.outgoing(1, 10), world.outgoing(2, 10));
    link.with(|connection| connection.push(&new, &Silent))
        .unwrap();
    let asked = Cell::new(0);
    let error = link
        .with(|connection| {
            asked.set(asked.get() + 1);
            connection.push(&old, &Silent)
        })
        .unwrap_err();
    assert_eq!(error.rule(), Some("generation-old"), "{error}");
    assert_eq!(asked.get(), 1);
    assert!(!link.is_open());
    assert_eq!(line.connections().0, 2);
}

#[test]
fn keeping_alive_uses_the_session_that_is_there_and_tells_when_it_is_gone() {
    let world = world!();
    world.force(&world.receiver());
    let (line, target) = world.line();
    let mut link = link(|| world.open(&target));
    link.with(|_| Ok(())).unwrap();
    let greeted = line.passed(Direction::Back);
    for _ in 0..3 {
        link.keep_alive().unwrap();
    }
    assert!(line.passed(Direction::Back) > greeted, "nothing was asked");
    link.with(|connection| connection.acks(&[DataSet::Ca]))
        .unwrap();
    assert_eq!(line.connections().0, 1);

    line.break_now();
    let error = link.keep_alive().unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(!link.is_open());
    link.with(|connection| connection.acks(&[DataSet::Ca]))
        .unwrap();
    assert_eq!(line.connections().0, 2);
    link.close().unwrap();
}

#[test]
fn a_bandwidth_limit_holds() {
    let world = world!();
    world.force(&world.receiver());
    let clock = Arc::new(FixedClock::new(now()));
    clock.advance(Duration::from_secs(60));
    let pace = Pace::limited(1 << 20, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let mut connection = world
        .open_with(&world.target(), &LinkOptions::new().pace(pace))
        .unwrap();
    let outgoing = world.outgoing(1, 3 << 20);
    let meter = Meter::new(&*clock);
    let begun = clock.monotonic();
    connection.push(&outgoing, &meter).unwrap();
    connection.close().unwrap();
    // On the pace's own clock, which only its waiting moves on.
    let taken = (clock.monotonic() - begun).as_secs_f64();
    assert!((2.8..3.2).contains(&taken), "{taken}");
    let rate = meter.reading().bytes_per_second;
    assert!((900_000..1_300_000).contains(&rate), "{rate}");
    assert_eq!(meter.reading().bytes_done, 3 << 20);
    world.verify(&outgoing);
}

#[test]
fn wherever_the_line_breaks_while_a_session_is_opened_another_try_can_help() {
    let world = world!();
    world.force(&world.receiver());
    let (line, target) = world.line();
    world.open(&target).unwrap().close().unwrap();
    let passed = [Direction::Forward, Direction::Back].map(|to| (to, line.passed(to)));
    for (direction, all) in passed {
        for share in 0..16 {
            line.break_after(direction, all * share / 16);
            // The last of it may not be needed any more.
            let opened = world.open(&target);
            if let Err(error) = opened {
                let at = format!("{direction:?} {share}/16 of {all}");
                assert!(
                    error.is_retryable(),
                    "{at}: {} {error}",
                    error.kind().name()
                );
            }
            line.mend();
        }
    }
    world.open(&target).unwrap().close().unwrap();
}
