//! What has changed in a file crosses, not the file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use pefo_core::disk::{Disk, Hook, Operation};
use pefo_core::generation::outgoing::{Item, Outgoing};
use pefo_core::generation::spool::Form;
use pefo_core::progress::Silent;
use pefo_transport::{Connection, Purpose, Pushed};

use crate::pair::{Pair, at, rel};
use crate::resume::{item, noise};

const LONG: usize = 3_000_000;

/// The same with one byte changed at each place.
fn edited(mut bytes: Vec<u8>, places: &[usize]) -> Vec<u8> {
    for place in places {
        bytes[*place] ^= 1;
    }
    bytes
}

fn one(pair: &Pair, sequence: u64, path: &str, bytes: Vec<u8>) -> Outgoing {
    pair.full_of(sequence, vec![item(path, bytes)])
}

fn pushes(pair: &Pair, outgoing: &Outgoing) -> Pushed {
    let pushed = pair.push(outgoing).unwrap();
    pair.take(outgoing.position(), Form::Full, None).unwrap();
    assert_eq!((pair.partials().len(), pair.temps()), (0, 0));
    pushed
}

/// Bytes of content that crossed.
fn crossed(pushed: &Pushed, outgoing: &Outgoing) -> u64 {
    pushed.bytes_sent - outgoing.document.len() as u64
}

#[test]
fn a_changed_file_costs_what_changed() {
    let pair = Pair::new();
    let old = noise(1, LONG);
    pushes(&pair, &one(&pair, 1, "dump", old.clone()));
    let mut new = edited(old, &[10, 1_500_000]);
    new.extend_from_slice(b"and more at its end");
    new.drain(700_000..700_100);
    let new = one(&pair, 2, "dump", new);
    let pushed = pushes(&pair, &new);
    assert!(crossed(&pushed, &new) < 10_000, "{pushed:?}");
    assert!(pushed.bytes_saved > LONG as u64 - 10_000);
    assert_eq!((pushed.files_sent, pushed.files_reused), (1, 0));
}

#[test]
fn short_files_just_above_the_threshold_are_deltas_and_below_it_whole() {
    let pair = Pair::new();
    for (sequence, bytes, delta) in [(1, 65_536, true), (3, 65_535, false)] {
        let old = noise(1, bytes);
        pushes(&pair, &one(&pair, sequence, "a", old.clone()));
        let new = one(&pair, sequence + 1, "a", edited(old, &[3]));
        let pushed = pushes(&pair, &new);
        assert_eq!(pushed.bytes_saved > 0, delta, "{pushed:?}");
    }
}

#[test]
fn a_file_that_moved_and_changed_is_compared_by_its_name_and_size() {
    let pair = Pair::new();
    let old = noise(1, LONG);
    let files = vec![
        item("2025/dump", old.clone()),
        // The same name, but less like it.
        item("2024/dump", noise(2, LONG + 900_000)),
    ];
    pushes(&pair, &pair.full_of(1, files));
    let new = one(&pair, 2, "2026/dump", edited(old.clone(), &[5]));
    assert!(crossed(&pushes(&pair, &new), &new) < 10_000);
    let new = one(&pair, 3, "2026/table", edited(old, &[5, 6]));
    assert_eq!(pushes(&pair, &new).bytes_saved, 0, "another name");
}

#[test]
fn sealed_files_are_never_compared() {
    let pair = Pair::new();
    let sealed = |bytes: &[u8]| {
        Item::sealed(rel("dump"), 0o600, bytes, &[pair.unsealing.recipient()]).unwrap()
    };
    let old = noise(1, LONG);
    pushes(&pair, &pair.full_of(1, vec![sealed(&old)]));
    let new = pair.full_of(2, vec![sealed(&edited(old.clone(), &[3]))]);
    assert_eq!(pushes(&pair, &new).bytes_saved, 0);
    // Nor is a file that is no longer sealed compared with a sealed one, or the other way round.
    let new = one(&pair, 3, "dump", old.clone());
    assert_eq!(pushes(&pair, &new).bytes_saved, 0);
    let new = pair.full_of(4, vec![sealed(&edited(old, &[3]))]);
    assert_eq!(pushes(&pair, &new).bytes_saved, 0);
}

#[test]
fn after_an_ack_that_wants_a_reconcile_nothing_here_is_compared_with() {
    let pair = Pair::new();
    let old = noise(1, LONG);
    pushes(&pair, &one(&pair, 1, "dump", old.clone()));
    pair.write_ack(None, None, Some("digest"));
    let new = one(&pair, 2, "dump", edited(old, &[3]));
    assert_eq!(pushes(&pair, &new).bytes_saved, 0);
}

#[test]
fn without_random_bytes_no_delta_is_asked_for() {
    let mut pair = Pair::new();
    let old = noise(1, LONG);
    pushes(&pair, &one(&pair, 1, "dump", old.clone()));
    pair.secret = None;
    let new = one(&pair, 2, "dump", edited(old, &[3]));
    assert_eq!(pushes(&pair, &new).bytes_saved, 0);
}

#[test]
fn an_older_file_that_is_not_what_it_was_is_compared_as_it_is() {
    let pair = Pair::new();
    let old = noise(1, LONG);
    pushes(&pair, &one(&pair, 1, "dump", old.clone()));
    let base = pair.ca().join("00000001-000000000001/data/dump");
    std::fs::write(&base, edited(old.clone(), &[2_000_000])).unwrap();
    let new = one(&pair, 2, "dump", edited(old.clone(), &[3]));
    assert!(crossed(&pushes(&pair, &new), &new) < 10_000);
    // One that was cut is not compared at all.
    let base = pair.ca().join("00000001-000000000002/data/dump");
    std::fs::write(&base, &old[..LONG / 2]).unwrap();
    let new = one(&pair, 3, "dump", edited(old, &[4]));
    assert_eq!(pushes(&pair, &new).bytes_saved, 0);
}

/// Changes a file at the moment when a delta begins to be put together.
struct Meddler {
    base: PathBuf,
    bytes: Mutex<Option<Vec<u8>>>,
}

impl Hook for Meddler {
    fn before(&self, operation: Operation<'_>) -> std::io::Result<()> {
        if let Operation::CreateFile(path) = operation
            && path.extension().is_some_and(|ending| ending == "next")
            && let Some(bytes) = self.bytes.lock().unwrap().take()
        {
            std::fs::write(&self.base, bytes)?;
        }
        Ok(())
    }
}

#[test]
fn a_delta_that_does_not_fit_is_found_out_and_then_the_file_is_sent_whole() {
    let pair = Pair::new();
    let old = noise(1, LONG);
    pushes(&pair, &one(&pair, 1, "dump", old.clone()));
    let new = pair.full_of(
        2,
        vec![
            item("dump", edited(old.clone(), &[3])),
            item("next", noise(9, 1_000)),
        ],
    );
    let meddler = Meddler {
        base: pair.ca().join("00000001-000000000001/data/dump"),
        bytes: Mutex::new(Some(edited(old, &[2_000_000]))),
    };
    let (pushed, served) = pair.session(&Disk::with_hook(Arc::new(meddler)), |stream| {
        pair.connect(stream).unwrap().push(&new, &Silent)
    });
    served.unwrap_err();
    let error = pushed.unwrap_err();
    assert_eq!(error.rule(), Some("transfer-again"));
    assert!(error.is_retryable());
    assert!(error.to_string().contains("dump could not"), "{error}");
    // The file behind it had arrived.
    let pushed = pushes(&pair, &new);
    assert_eq!(crossed(&pushed, &new), LONG as u64);
    assert_eq!(pushed.bytes_saved, 0);
    // And for the next generation's content that is forgotten.
    let later = one(&pair, 3, "dump", edited(noise(1, LONG), &[3, 4]));
    assert!(crossed(&pushes(&pair, &later), &later) < 10_000);
}

#[test]
fn a_delta_that_was_cut_goes_on_and_neither_what_crossed_nor_what_is_unchanged_crosses_again() {
    let pair = Pair::new();
    let old = noise(1, LONG);
    pushes(&pair, &one(&pair, 1, "dump", old.clone()));
    // Half of it is new, at its beginning.
    let new = [noise(2, LONG / 2), old[LONG / 2..].to_vec()].concat();
    let new = one(&pair, 2, "dump", new);
    drop(pair.cut(&new, 1_000_000));
    assert_eq!(pair.partials().len(), 1);
    let pushed = pushes(&pair, &new);
    let crossed = crossed(&pushed, &new);
    assert!((300_000..900_000).contains(&crossed), "{pushed:?}");
}

#[test]
fn many_sessions_may_be_cut_in_one_delta_and_it_ends() {
    let pair = Pair::new();
    pushes(&pair, &one(&pair, 1, "dump", noise(1, LONG)));
    let new = one(&pair, 2, "dump", noise(2, LONG));
    let mut sessions = 0;
    while !pair.standing().contains(&2) {
        drop(pair.cut(&new, 800_000));
        sessions += 1;
        assert!(sessions < 12, "it goes on");
    }
    assert!(sessions > 3);
    pair.take(at(2), Form::Full, None).unwrap();
}

#[test]
fn what_is_sent_is_compressed_where_that_helps() {
    let pair = Pair::new();
    let text = "certificate revocation list\n".repeat(100_000).into_bytes();
    let sent = |level, sequence| {
        let (traffic, served) = pair.session(&Disk::new(), |stream| {
            let me = pair.me().compression(level);
            let purpose: Purpose = "ca".parse().unwrap();
            let mut connection = Connection::over(stream, &me, &purpose).unwrap();
            let mut text = text.clone();
            text.extend(noise(sequence, 100));
            connection
                .push(&one(&pair, sequence, "text", text), &Silent)
                .unwrap();
            let traffic = connection.traffic();
            connection.close().unwrap();
            traffic
        });
        served.unwrap();
        pair.clear_spool();
        traffic
    };
    let (plain, short) = (sent(0, 1), sent(1, 2));
    assert_eq!(plain.shortened, 0);
    assert!(plain.sent > text.len() as u64);
    assert!(short.sent < plain.sent / 20, "{short:?}");
}
