//! A newer session of the same peer takes a stale one's place, and no other does.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use pefo_core::clock::SystemClock;
use pefo_core::disk::Disk;
use pefo_core::generation::DataSet;
use pefo_core::generation::spool::Form;
use pefo_core::progress::Silent;
use pefo_core::{Certname, ErrorKind, Result};
use pefo_testkit::line::{Direction, Line};
use pefo_testkit::wait;
use pefo_transport::receive::{IdleLimited, Succession};
use pefo_transport::{Connection, Purpose, ReceiverOptions, Served, serve};

use crate::pair::{Pair, at};
use crate::resume::{item, noise};

const LONG: Duration = Duration::from_secs(60);

/// A receiver behind a TCP port, one session a connection, as sshd would start it.
struct Port {
    number: u16,
    ended: Receiver<Result<Served>>,
}

/// What stands for a session's own random bytes, and how it is succeeded.
fn options(pair: &Pair, session: u8, succession: &Succession) -> ReceiverOptions {
    pair.options()
        .secret([session; 32])
        .succession(succession.clone())
}

fn succession(quiet: u64, patience: u64) -> Succession {
    Succession::new(Arc::new(SystemClock))
        .quiet(Duration::from_millis(quiet))
        .patience(Duration::from_millis(patience))
}

impl Port {
    /// Serves for as long as the test runs; sessions end with their connections.
    fn open(pair: &Pair, quiet: u64, patience: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let (told, ended) = channel();
        let bare = pair.options();
        std::thread::spawn(move || {
            for (session, stream) in (1..).zip(listener.incoming()) {
                let succession = succession(quiet, patience);
                let options = bare
                    .clone()
                    .secret([session; 32])
                    .succession(succession.clone());
                let told: Sender<_> = told.clone();
                let stream = stream.unwrap();
                std::thread::spawn(move || {
                    let line = |stream: &TcpStream| {
                        IdleLimited::new(stream.try_clone().unwrap(), LONG)
                            .succession(succession.clone())
                    };
                    let (mut input, mut output) = (line(&stream), line(&stream));
                    let (disk, clock) = (Disk::new(), SystemClock);
                    let served = serve(&mut input, &mut output, &options, &disk, &clock);
                    drop(told.send(served));
                });
            }
        });
        Self { number, ended }
    }

    fn connect(&self, port: u16, pair: &Pair) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        Connection::over(stream, &pair.me(), &Purpose::of(&DataSet::Ca)).unwrap()
    }
}

#[test]
fn a_session_whose_line_died_without_a_word_gives_way_and_what_it_had_is_taken_up() {
    let pair = Pair::new();
    let port = Port::open(&pair, 300, 20_000);
    let line = Line::to(("127.0.0.1", port.number));
    line.set_rate(Some(2_000_000));
    let outgoing = pair.full_of(1, vec![item("long", noise(1, 4_000_000))]);
    std::thread::scope(|scope| {
        let mut first = port.connect(line.port(), &pair);
        let sent = &outgoing;
        let stale = scope.spawn(move || first.push(sent, &Silent));
        wait::until("the first half", LONG, || {
            line.passed(Direction::Forward) > 1_500_000
        });
        line.set_stalled(true);

        let mut second = port.connect(port.number, &pair);
        let pushed = second.push(&outgoing, &Silent).unwrap();
        assert!(pushed.bytes_saved > 500_000, "{pushed:?}");
        second.close().unwrap();
        let ended = port.ended.recv_timeout(LONG).unwrap().unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::Locked, "{ended}");
        assert!(ended.to_string().contains("newer session"), "{ended}");
        assert_eq!(
            port.ended
                .recv_timeout(LONG)
                .unwrap()
                .unwrap()
                .published
                .len(),
            1
        );
        line.cut();
        stale.join().unwrap().unwrap_err();
    });
    pair.take(at(1), Form::Full, None).unwrap();
    assert_eq!((pair.partials().len(), pair.temps()), (0, 0));
}

#[test]
fn an_idle_session_that_holds_a_data_set_gives_way_and_its_sender_is_told() {
    let pair = Pair::new();
    let port = Port::open(&pair, 200, 20_000);
    let mut idle = port.connect(port.number, &pair);
    idle.push(&pair.full(1, &[("a", "1")]), &Silent).unwrap();
    let mut newer = port.connect(port.number, &pair);
    newer.push(&pair.full(2, &[("a", "2")]), &Silent).unwrap();
    let error = idle
        .push(&pair.full(3, &[("a", "3")]), &Silent)
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
    newer.push(&pair.full(3, &[("a", "3")]), &Silent).unwrap();
    assert_eq!(pair.standing(), [1, 2, 3]);
}

#[test]
fn a_session_to_which_bytes_come_keeps_its_place() {
    let pair = Pair::new();
    let port = Port::open(&pair, 1_000, 2_500);
    let line = Line::to(("127.0.0.1", port.number));
    line.set_rate(Some(100_000));
    let outgoing = pair.full_of(1, vec![item("long", noise(1, 2_000_000))]);
    let mut first = port.connect(line.port(), &pair);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| first.push(&outgoing, &Silent));
        wait::until("it to receive", LONG, || !pair.partials().is_empty());
        let begun = Instant::now();
        let mut newer = port.connect(port.number, &pair);
        let error = newer.push(&pair.full(2, &[("a", "2")]), &Silent);
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        assert!(error.to_string().contains("another session"), "{error}");
        assert!(begun.elapsed() >= Duration::from_millis(2_500));
        line.set_rate(None);
        slow.join().unwrap().unwrap();
    });
    assert_eq!(pair.standing(), [1]);
}

#[test]
fn a_session_of_another_purpose_or_master_is_told_at_once() {
    let pair = Pair::new();
    let port = Port::open(&pair, 100, 60_000);
    let mut holder = port.connect(port.number, &pair);
    holder.push(&pair.full(1, &[("a", "1")]), &Silent).unwrap();
    let mut other = pair.me();
    other.certname = Certname::new("c.lab").unwrap();
    for (me, purpose) in [(pair.me(), "db"), (other, "ca")] {
        let stream = TcpStream::connect(("127.0.0.1", port.number)).unwrap();
        let mut newer = Connection::over(stream, &me, &purpose.parse().unwrap()).unwrap();
        let begun = Instant::now();
        let error = newer.push(&pair.full(2, &[("a", "2")]), &Silent);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Locked);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    holder.push(&pair.full(2, &[("a", "2")]), &Silent).unwrap();
}

#[test]
fn a_claim_that_is_over_or_malformed_ends_no_session() {
    let pair = Pair::new();
    let port = Port::open(&pair, 50, 60_000);
    let mut holder = port.connect(port.number, &pair);
    holder.push(&pair.full(1, &[("a", "1")]), &Silent).unwrap();
    let claim = pair.ca().join(".pefo-claim");
    let own = std::fs::read_to_string(&claim).unwrap();
    assert!(own.contains("\"until\":null"), "{own}");
    let id = |json: &str| json.split('"').nth(5).unwrap().to_owned();
    let stale = own
        .replace(&id(&own), "000000000000")
        .replace("null", "1000000000");
    for planted in [stale.as_str(), "{", ""] {
        std::fs::write(&claim, planted).unwrap();
        // Silence for several times as long as it takes to be superseded.
        let silence = port.ended.recv_timeout(Duration::from_millis(300));
        assert!(silence.is_err(), "{planted}: {silence:?}");
    }
    // One that is not over does: so the silence above was long enough.
    std::fs::write(&claim, stale.replace("1000000000", "9000000000")).unwrap();
    let ended = port.ended.recv_timeout(LONG).unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Locked);
}

#[test]
fn a_symlink_in_the_claims_place_is_replaced_and_not_followed() {
    let pair = Pair::new();
    let outside = pair.dir.path().join("outside");
    std::fs::write(&outside, "x").unwrap();
    std::fs::create_dir_all(pair.ca()).unwrap();
    std::os::unix::fs::symlink(&outside, pair.ca().join(".pefo-claim")).unwrap();
    let succession = succession(100, 100);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let options = options(&pair, 1, &succession);
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            let (mut input, mut output) = (theirs.try_clone().unwrap(), theirs);
            serve(
                &mut input,
                &mut output,
                &options,
                &Disk::new(),
                &SystemClock,
            )
        });
        let mut connection = pair.connect(ours).unwrap();
        connection
            .push(&pair.full(1, &[("a", "1")]), &Silent)
            .unwrap();
        connection.close().unwrap();
        served.join().unwrap().unwrap();
    });
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "x");
    assert!(
        pair.ca()
            .join(".pefo-claim")
            .symlink_metadata()
            .unwrap()
            .is_file()
    );
}
