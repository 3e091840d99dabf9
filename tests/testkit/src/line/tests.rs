//! What a line does to a conversation.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::{Direction, Line};
use crate::wait;

const LONG: Duration = Duration::from_secs(30);

/// A server that sends back what it gets, and reports how many bytes each connection brought.
fn echo() -> (u16, Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (report, reports) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), report) = (stream, report.clone()) else {
                return;
            };
            std::thread::spawn(move || {
                let (mut buffer, mut total, mut answers) = ([0; 8192], 0, true);
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    total += count as u64;
                    // A line that was cut takes no answer; what had arrived still counts.
                    answers = answers && stream.write_all(&buffer[..count]).is_ok();
                }
                // A test that does not ask has dropped the receiver.
                let _ = report.send(total);
            });
        }
    });
    (port, reports)
}

fn connect(line: &Line) -> TcpStream {
    let stream = TcpStream::connect(line.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Writes from a thread of its own, so that the answer may be read meanwhile; then half-closes.
fn send(stream: &TcpStream, bytes: Vec<u8>) {
    let mut stream = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        if stream.write_all(&bytes).is_ok() {
            drop(stream.shutdown(Shutdown::Write));
        }
    });
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

/// Reads to the end, whether it is an end of file or a reset.
fn drain(stream: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) => {
                assert_ne!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock,
                    "the line hangs"
                );
                return all;
            }
        }
    }
}

#[test]
fn bytes_and_half_closes_pass_unchanged_and_are_counted() {
    let (port, reports) = echo();
    let line = Line::to(("127.0.0.1", port));
    let mut stream = connect(&line);
    let sent = pattern(3_000_000);
    send(&stream, sent.clone());
    assert!(drain(&mut stream) == sent, "the echo differs");
    assert_eq!(reports.recv_timeout(LONG).unwrap(), 3_000_000);
    assert_eq!(
        (
            line.passed(Direction::Forward),
            line.passed(Direction::Back)
        ),
        (3_000_000, 3_000_000)
    );
    wait::until("the connection to be forgotten", LONG, || {
        line.connections() == (1, 0)
    });
}

#[test]
fn a_question_and_its_answer_are_two_turns_however_long_they_are() {
    let (port, _reports) = echo();
    let line = Line::to(("127.0.0.1", port));
    assert_eq!(line.turns(), 0);
    let mut stream = connect(&line);
    for asked in 1..=3 {
        stream.write_all(b"?").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(line.turns(), 2 * asked);
    }
    // What is said while nothing comes back is one turn, in however many pieces.
    line.set_stalled(true);
    for _ in 0..3 {
        stream.write_all(b"???").unwrap();
    }
    line.set_stalled(false);
    stream.read_exact(&mut [0; 9]).unwrap();
    assert!(line.turns() >= 8);
}

#[test]
fn a_cut_ends_what_is_open_and_turns_new_ones_away_until_it_is_mended() {
    let (port, reports) = echo();
    let line = Line::to(("127.0.0.1", port));
    let mut stream = connect(&line);
    stream.write_all(b"before").unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    line.cut();
    assert_eq!(drain(&mut stream), b"");
    assert_eq!(reports.recv_timeout(LONG).unwrap(), 6);
    assert_eq!(
        drain(&mut connect(&line)),
        b"",
        "a new connection got through"
    );
    line.mend();
    let mut stream = connect(&line);
    send(&stream, b"after".to_vec());
    assert_eq!(drain(&mut stream), b"after");
}

#[test]
fn a_cut_after_n_bytes_delivers_exactly_n_in_that_direction() {
    for (bytes, chunk) in [
        (1, 10_000),
        (65_536, 200_000),
        (100_001, 300_000),
        (10_000, 10_000),
    ] {
        let (port, reports) = echo();
        let line = Line::to(("127.0.0.1", port));
        line.cut_after(Direction::Forward, bytes);
        let mut stream = connect(&line);
        send(&stream, pattern(chunk));
        drain(&mut stream);
        assert_eq!(reports.recv_timeout(LONG).unwrap(), bytes);
        assert_eq!(line.passed(Direction::Forward), bytes);
        assert!(line.is_cut());
    }
}

#[test]
fn a_cut_on_the_way_back_gives_the_client_exactly_n_bytes() {
    let (port, _reports) = echo();
    let line = Line::to(("127.0.0.1", port));
    line.cut_after(Direction::Back, 777);
    let mut stream = connect(&line);
    let sent = pattern(50_000);
    send(&stream, sent.clone());
    assert_eq!(drain(&mut stream), &sent[..777]);
}

#[test]
fn a_break_after_n_bytes_lets_the_client_connect_again() {
    let (port, reports) = echo();
    let line = Line::to(("127.0.0.1", port));
    line.break_after(Direction::Forward, 5);
    let mut stream = connect(&line);
    send(&stream, pattern(1000));
    drain(&mut stream);
    assert_eq!(reports.recv_timeout(LONG).unwrap(), 5);
    let mut stream = connect(&line);
    send(&stream, b"again".to_vec());
    assert_eq!(drain(&mut stream), b"again");
    assert_eq!(line.connections().0, 2);
}

#[test]
fn a_rate_holds_each_direction_to_it() {
    let (port, _reports) = echo();
    let line = Line::to(("127.0.0.1", port));
    line.set_rate(Some(200_000));
    let mut stream = connect(&line);
    let begin = Instant::now();
    send(&stream, pattern(100_000));
    assert_eq!(drain(&mut stream).len(), 100_000);
    // 100 kB at 200 kB/s take half a second, less one burst of 20 ms a direction.
    let took = begin.elapsed();
    assert!(
        took > Duration::from_millis(440),
        "{took:?}: faster than the line"
    );
    line.set_rate(None);
    let mut stream = connect(&line);
    let begin = Instant::now();
    send(&stream, pattern(4_000_000));
    assert_eq!(drain(&mut stream).len(), 4_000_000);
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "the limit was not lifted: it would take 20 s"
    );
}

#[test]
fn latency_delays_each_way_without_holding_up_what_follows() {
    let (port, _reports) = echo();
    let line = Line::to(("127.0.0.1", port));
    let one_way = Duration::from_millis(150);
    line.set_latency(one_way);
    let mut stream = connect(&line);
    let begin = Instant::now();
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    assert!(begin.elapsed() >= one_way * 2, "{:?}", begin.elapsed());
    // 6 MB are 96 pieces; one after the other they would take 14 seconds.
    let begin = Instant::now();
    send(&stream, pattern(6_000_000));
    assert_eq!(drain(&mut stream).len(), 6_000_000);
    let took = begin.elapsed();
    assert!(
        took >= one_way * 2 && took < Duration::from_secs(12),
        "{took:?}"
    );
}

#[test]
fn a_stalled_line_holds_without_an_end_and_then_goes_on() {
    let (port, _reports) = echo();
    let line = Line::to(("127.0.0.1", port));
    let mut stream = connect(&line);
    line.set_stalled(true);
    stream.write_all(b"held").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let error = stream.read(&mut [0; 4]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(line.passed(Direction::Forward), 0);
    line.set_stalled(false);
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"held");
}

#[test]
fn a_server_that_is_down_shows_as_a_connection_that_ends() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let line = Line::to(("127.0.0.1", port));
    assert_eq!(drain(&mut connect(&line)), b"");
}

#[test]
fn a_drop_ends_connections_and_threads_even_of_a_stalled_line() {
    let (port, reports) = echo();
    let line = Line::to(("127.0.0.1", port));
    line.set_latency(Duration::from_secs(3600));
    let mut late = connect(&line);
    late.write_all(b"late").unwrap();
    line.set_stalled(true);
    let mut stalled = connect(&line);
    send(&stalled, pattern(1_000_000));
    wait::until("both connections", LONG, || line.connections().1 == 2);
    let begin = Instant::now();
    drop(line);
    assert!(begin.elapsed() < LONG);
    drain(&mut late);
    drain(&mut stalled);
    assert_eq!(
        (
            reports.recv_timeout(LONG).unwrap(),
            reports.recv_timeout(LONG).unwrap()
        ),
        (0, 0)
    );
}
