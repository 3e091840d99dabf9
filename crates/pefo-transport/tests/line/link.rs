//! A session that is stopped, kept, or measured, over a socket pair.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pefo_core::cancel::Cancel;
use pefo_core::clock::{FixedClock, SystemClock};
use pefo_core::disk::Disk;
use pefo_core::generation::DataSet;
use pefo_core::generation::outgoing::Item;
use pefo_core::progress::{Meter, Progress, Silent};
use pefo_core::{ErrorKind, Result};
use pefo_testkit::wait;
use pefo_transport::receive::IdleLimited;
use pefo_transport::{Connection, Link, LinkOptions, Purpose, Served, serve};

use crate::pair::{Pair, now, rel};

/// Says stop when so many bytes of content went out.
struct StopAfter(u64, Cancel, std::sync::atomic::AtomicU64);

impl Progress for StopAfter {
    fn advance(&self, _: u64, bytes: u64) {
        let before = self
            .2
            .fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        if before + bytes >= self.0 {
            self.1.cancel();
        }
    }
}

#[test]
fn a_push_that_is_stopped_after_any_part_leaves_nothing_and_can_be_made_again() {
    let pair = Pair::new();
    let large = |path| Item::open(rel(path), 0o600, vec![b'x'; 600_000]);
    let outgoing = pair.full_of(1, vec![large("one"), large("two")]);
    for after in [0, 1, 400_000, 600_000, 1_000_000, 1_200_000] {
        let cancel = Cancel::new();
        let progress = StopAfter(after, cancel.clone(), Default::default());
        let (pushed, served) = pair.session(&Disk::new(), |stream| {
            let options = LinkOptions::new().cancel(cancel);
            let purpose = Purpose::of(&DataSet::Ca);
            let mut connection = Connection::over_with(stream, &pair.me(), &purpose, &options)?;
            let pushed = connection.push(&outgoing, &progress);
            connection.close()?;
            pushed
        });
        let error = pushed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{after}: {error}");
        served.unwrap_err();
        assert_eq!((pair.standing(), pair.temps()), (vec![], 0), "{after}");
    }
    pair.push(&outgoing).unwrap();
    assert_eq!(pair.standing(), [1]);
}

#[test]
fn what_the_peer_has_already_is_counted_as_saved() {
    let pair = Pair::new();
    let kept = ("kept", "x".repeat(1_000));
    let one = pair.full(1, &[("a", "one"), (kept.0, &kept.1)]);
    let two = pair.full(2, &[("a", "twice"), (kept.0, &kept.1)]);
    let clock = FixedClock::new(now());
    let measured = |outgoing| {
        let meter = Meter::new(&clock);
        let (pushed, _) = pair.session(&Disk::new(), |stream| {
            pair.connect(stream)?.push(outgoing, &meter)
        });
        pushed.unwrap();
        let reading = meter.reading();
        (reading.bytes_done, reading.bytes_saved)
    };
    assert_eq!(measured(&one), (1_003, 0));
    assert_eq!(measured(&two), (5, 1_000));
    assert_eq!(measured(&two), (0, 1_005));
}

/// Opens sessions with a receiver that gives up when nothing comes for `idle`.
fn impatient(
    pair: &Pair,
    idle: Duration,
) -> (
    Link<impl FnMut() -> Result<Connection>>,
    std::sync::mpsc::Receiver<Result<Served>>,
) {
    let (ended, ends) = std::sync::mpsc::channel();
    let (options, me) = (pair.options(), pair.me());
    let dial = move || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (options, ended) = (options.clone(), ended.clone());
        std::thread::spawn(move || {
            let mut output = theirs.try_clone().unwrap();
            let mut input = IdleLimited::new(theirs, idle);
            let served = serve(
                &mut input,
                &mut output,
                &options,
                &Disk::new(),
                &SystemClock,
            );
            ended.send(served)
        });
        Connection::over(ours, &me, &Purpose::of(&DataSet::Ca))
    };
    (Link::new(dial, Arc::new(SystemClock)), ends)
}

#[test]
fn an_idle_session_that_is_kept_alive_outlives_the_receivers_patience() {
    let pair = Pair::new();
    let idle = Duration::from_secs(1);
    let (mut link, ends) = impatient(&pair, idle);
    link.with(|_| Ok(())).unwrap();
    let begun = Instant::now();
    wait::until("twice its patience", Duration::from_secs(30), || {
        link.keep_alive().unwrap();
        begun.elapsed() > 2 * idle
    });
    let outgoing = pair.full(1, &[("a", "one")]);
    link.with(|connection| connection.push(&outgoing, &Silent))
        .unwrap();
    assert!(ends.try_recv().is_err(), "the first session had ended");
    link.close().unwrap();
    assert!(ends.recv().unwrap().unwrap().goodbye);
}

#[test]
fn a_session_that_the_receiver_gave_up_is_found_out_and_replaced() {
    let pair = Pair::new();
    let (mut link, ends) = impatient(&pair, Duration::from_millis(50));
    link = link.random(|| 0);
    link.with(|_| Ok(())).unwrap();
    ends.recv().unwrap().unwrap_err();
    assert!(link.is_open());
    let outgoing = pair.full(1, &[("a", "one")]);
    link.with(|connection| connection.push(&outgoing, &Silent))
        .unwrap();
    assert_eq!(pair.standing(), [1]);
}
