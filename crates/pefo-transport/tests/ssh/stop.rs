//! Stop is heard wherever a session waits, and shows nothing.
//!
//! Each of these would wait for many seconds if it was not heard; the limit here is what a busy machine
//! needs at most.

use std::time::{Duration, Instant};

use pefo_core::cancel::Cancel;
use pefo_core::clock::SystemClock;
use pefo_core::progress::Silent;
use pefo_core::{Error, ErrorKind, Result};
use pefo_testkit::line::Direction;
use pefo_testkit::wait;
use pefo_transport::{Link, LinkOptions};

use crate::world::world;

const SOON: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(60);

/// Works in a thread, says stop when `ready`, and tells how it ended and how soon.
fn stopped<T: Send>(
    cancel: &Cancel,
    work: impl FnOnce() -> Result<T> + Send,
    ready: impl FnOnce(),
) -> (Error, Duration) {
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        ready();
        let said = Instant::now();
        cancel.cancel();
        let error = working.join().unwrap().err().unwrap();
        (error, said.elapsed())
    })
}

#[test]
fn a_push_on_a_slow_line_ends_and_the_next_one_goes_on_where_it_was() {
    let world = world!();
    world.force(&world.receiver());
    let (line, target) = world.line();
    line.set_rate(Some(500_000));
    let outgoing = world.outgoing(1, 30_000_000);
    let cancel = Cancel::new();
    let options = LinkOptions::new().cancel(cancel.clone());
    let (error, took) = stopped(
        &cancel,
        || world.open_with(&target, &options)?.push(&outgoing, &Silent),
        || {
            wait::until("the receiver to begin", LONG, || {
                !world.names().0.is_empty() && line.passed(Direction::Forward) > 1_000_000
            });
        },
    );
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(!error.is_retryable());
    assert!(took < SOON, "it took {took:?}");
    // What is under way on the line may arrive at once; nothing of it shows.
    line.set_rate(None);
    assert_eq!(world.names().1, Vec::<String>::new());

    // And it stands in nobody's way.
    let clock = std::sync::Arc::new(SystemClock);
    let pushed = Link::new(|| world.open(&target), clock)
        .give_up_after(LONG)
        .with(|connection| connection.push(&outgoing, &Silent))
        .unwrap();
    assert!(pushed.bytes_saved > 500_000, "{pushed:?}");
    assert_eq!(world.names().0, Vec::<String>::new());
    world.verify(&outgoing);
}

#[test]
fn a_handshake_that_gets_no_answer_ends() {
    let world = world!();
    let (line, target) = world.line();
    line.set_stalled(true);
    let cancel = Cancel::new();
    let options = LinkOptions::new().cancel(cancel.clone());
    let (error, took) = stopped(
        &cancel,
        || world.open_with(&target, &options),
        || {
            wait::until("the connection", LONG, || line.connections().0 == 1);
        },
    );
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(took < SOON, "it took {took:?}");
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for() {
    let world = world!();
    world.force("exec cat >/dev/null");
    let cancel = Cancel::new();
    let options = LinkOptions::new().cancel(cancel.clone());
    let (error, took) = stopped(
        &cancel,
        || world.open_with(&world.target(), &options),
        || {
            wait::until("the login", LONG, || {
                world.sshd.log().contains("Accepted publickey")
            });
        },
    );
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(took < SOON, "it took {took:?}");
}

#[test]
fn a_session_that_is_not_begun_yet_is_not_begun() {
    let world = world!();
    let (line, target) = world.line();
    let cancel = Cancel::new();
    cancel.cancel();
    let options = LinkOptions::new().cancel(cancel);
    let error = world.open_with(&target, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert_eq!(line.connections().0, 0);
}

#[test]
fn an_idle_session_ends_without_waiting_for_a_line_that_is_dead() {
    let world = world!();
    world.force(&world.receiver());
    let (line, target) = world.line();
    let cancel = Cancel::new();
    let options = LinkOptions::new().cancel(cancel.clone());
    let connection = world.open_with(&target, &options).unwrap();
    line.set_stalled(true);
    cancel.cancel();
    let said = Instant::now();
    connection.close().unwrap();
    let took = said.elapsed();
    assert!(took < SOON, "it took {took:?}");
}
