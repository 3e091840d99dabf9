//! Every session is written down, whichever way it ends, and the log does not grow forever.

use pefo_core::clock::SystemClock;
use pefo_core::disk::Disk;
use pefo_core::generation::DataSet;
use pefo_core::progress::Silent;
use pefo_transport::receive::{Origin, Served, check_original_command, journal};
use pefo_transport::serve;
use serde_json::{Value, json};

use crate::pair::{Pair, now, state};

fn lines(pair: &Pair) -> Vec<Value> {
    let log = std::fs::read_to_string(pair.spool().join("receive.log")).unwrap_or_default();
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Serves one session of a peer that came from somewhere.
fn session(pair: &Pair, talk: impl FnOnce(std::os::unix::net::UnixStream)) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let origin = Origin::new(Some("192.0.2.7 50022 192.0.2.8 22"), Some("pefo receive"));
    let options = pair.options().origin(origin);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut input, mut output) = (theirs.try_clone().unwrap(), theirs);
            drop(serve(
                &mut input,
                &mut output,
                &options,
                &Disk::new(),
                &SystemClock,
            ));
        });
        talk(ours);
    });
}

#[test]
fn who_asked_for_what_and_how_it_ended_is_written_down() {
    let pair = Pair::new();
    let files = [("a", "1")];
    session(&pair, |stream| {
        let mut connection = pair.connect(stream).unwrap();
        connection.push(&pair.full(1, &files), &Silent).unwrap();
        connection
            .push(&pair.batch(2, state(&files), "b", b"2"), &Silent)
            .unwrap();
        connection.close().unwrap();
    });
    session(&pair, |stream| {
        let mut connection = pair.connect(stream).unwrap();
        connection.push(&pair.full(3, &files), &Silent).unwrap();
        connection.push(&pair.full(2, &files), &Silent).unwrap_err();
    });
    session(&pair, |stream| drop(pair.connect(stream).unwrap()));
    session(&pair, drop);
    let mut lines = lines(&pair);
    for line in &mut lines {
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
        line["time"] = json!(null);
        assert_eq!(line["from"], "192.0.2.7 50022");
        assert_eq!(line["asked"], "pefo receive");
    }
    // A line that is gone before a word may be noticed while reading or while writing.
    let last = lines.pop().unwrap();
    assert_eq!(
        (&last["peer"], &last["published"]),
        (&json!(null), &json!({}))
    );
    assert!(
        ["protocol", "unreachable"]
            .map(Value::from)
            .contains(&last["ended"]),
        "{last}"
    );
    let told = |line: &Value| {
        json!([
            line["peer"],
            line["purpose"],
            line["published"],
            line["ended"],
            line["rule"]
        ])
    };
    assert_eq!(
        lines.iter().map(told).collect::<Vec<_>>(),
        [
            json!(["a.lab", "ca", {"ca": [2, "00000001-000000000002"]}, "ok", null]),
            json!(["a.lab", "ca", {"ca": [1, "00000001-000000000003"]}, "refused", "generation-conflict"]),
            json!(["a.lab", "ca", {}, "gone", null]),
        ]
    );
}

#[test]
fn what_was_asked_instead_of_a_session_is_written_down_in_bounds() {
    let pair = Pair::new();
    let asked = format!("sh -c 'id'\n\u{1b}[2J{}", "x".repeat(100_000));
    let error = check_original_command(Some(&asked)).unwrap_err();
    let origin = Origin::new(Some("192.0.2.9 4711 192.0.2.8 22"), Some(&asked));
    let (disk, served) = (Disk::new(), Served::default());
    journal::record(
        &disk,
        &SystemClock,
        &pair.spool(),
        &origin,
        &served,
        Some(&error),
    )
    .unwrap();
    let log = std::fs::read_to_string(pair.spool().join("receive.log")).unwrap();
    assert!(log.len() < 1_500, "{}", log.len());
    let line = &lines(&pair)[0];
    assert!(
        line["asked"]
            .as_str()
            .unwrap()
            .starts_with("sh -c 'id'  [2Jxx")
    );
    assert_eq!(
        (&line["ended"], &line["rule"]),
        (&json!("refused"), &json!("forced-command"))
    );
}

#[test]
fn the_log_is_put_aside_when_it_is_long_and_a_symlink_in_its_place_is_not_followed() {
    let pair = Pair::new();
    let (disk, origin) = (Disk::new(), Origin::default());
    let mut served = Served::default();
    served.published.push((DataSet::Ca, crate::pair::at(1)));
    let clock = pefo_core::clock::FixedClock::new(now());
    let record = || journal::record(&disk, &clock, &pair.spool(), &origin, &served, None);
    let size = |name: &str| {
        let meta = std::fs::metadata(pair.spool().join(name));
        meta.map_or(0, |meta| meta.len())
    };
    let full = usize::try_from(journal::MAX_BYTES).unwrap();
    for _ in 0..2 {
        std::fs::write(pair.spool().join("receive.log"), vec![b'\n'; full - 10]).unwrap();
        record().unwrap();
        assert_eq!(size("receive.log.1"), journal::MAX_BYTES - 10);
        assert!((50..1_000).contains(&size("receive.log")));
    }
    let outside = pair.dir.path().join("outside");
    std::fs::write(&outside, "x").unwrap();
    std::fs::remove_file(pair.spool().join("receive.log")).unwrap();
    std::os::unix::fs::symlink(&outside, pair.spool().join("receive.log")).unwrap();
    assert_eq!(record().unwrap_err().rule(), Some("spool-symlink"));
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "x");
}

#[test]
fn sessions_that_end_at_once_all_find_their_place_in_the_log() {
    let pair = Pair::new();
    let (disk, served) = (Disk::new(), Served::default());
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (pair, disk, served) = (&pair, &disk, &served);
            scope.spawn(move || {
                for m in 0..20 {
                    let origin = Origin::new(Some(&format!("192.0.2.{n} {m} x 22")), None);
                    journal::record(disk, &SystemClock, &pair.spool(), &origin, served, None)
                        .unwrap();
                }
            });
        }
    });
    let mut from: Vec<_> = lines(&pair)
        .iter()
        .map(|it| it["from"].to_string())
        .collect();
    from.sort();
    from.dedup();
    assert_eq!(from.len(), 160);
}
