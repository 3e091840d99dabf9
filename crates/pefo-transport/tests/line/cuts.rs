//! The line is cut, the disk fails, the power goes: old or new, whole, and the next push goes through.

use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};

use pefo_core::ErrorKind;
use pefo_core::clock::SystemClock;
use pefo_core::disk::fault::StopAt;
use pefo_core::disk::power::{Loss, Recorder};
use pefo_core::disk::{Disk, Hook, Operation};
use pefo_core::generation::spool::Form;
use pefo_core::progress::Silent;
use pefo_transport::{Connection, Purpose, serve};

use crate::pair::{Pair, at, scratch, state};
use crate::streams::Replay;

const FILES: [(&str, &str); 2] = [("a", "1"), ("b", "22")];

#[test]
fn a_line_cut_after_any_byte_leaves_the_old_or_the_new_whole() {
    let pair = Pair::new();
    let (full, batch) = (
        pair.full(1, &FILES),
        pair.batch(2, state(&FILES), "c", b"3"),
    );
    let recorded = pair.record(&[&full, &batch]);
    let said = recorded.said.lock().unwrap().clone();
    let mut seen = std::collections::BTreeSet::new();
    pair.clear_spool();
    for length in 0..said.len() {
        let (_, served) = pair.recite_bytes(&said[..length], &Disk::new());
        let standing = pair.standing();
        if let Ok(served) = served {
            assert!(!served.goodbye);
        }
        if seen.insert(standing.clone()) {
            // Each state reached: the next session takes it up and clears what was left.
            let (_, served) = pair.recite_bytes(&said, &Disk::new());
            // The recorded line sends files that are no longer asked for; a live one does not.
            if standing.is_empty() {
                served.unwrap();
            } else {
                pair.push(&full).unwrap();
                pair.push(&batch).unwrap();
            }
            assert_eq!(pair.standing(), [1, 2]);
            assert_eq!(pair.temps(), 0);
            pair.clear_spool();
            // What a cut session left is put back for the next length.
            drop(pair.recite_bytes(&said[..length], &Disk::new()));
        }
        if length + 1 < said.len() {
            pair.clear_spool();
        }
    }
    let seen: Vec<_> = seen.into_iter().collect();
    assert_eq!(seen, [vec![], vec![1], vec![1, 2]]);
}

#[test]
fn a_sender_whose_line_is_cut_knows_what_it_does_not_know() {
    let pair = Pair::new();
    let full = pair.full(1, &FILES);
    let recorded = pair.record(&[&full]);
    let heard = recorded.heard.lock().unwrap().clone();
    let mut kinds = Vec::new();
    for length in 0..heard.len() {
        let replay = Replay(Cursor::new(heard[..length].to_vec()));
        let error = Connection::over(replay, &pair.me(), &"ca".parse::<Purpose>().unwrap())
            .and_then(|mut connection| connection.push(&full, &Silent))
            .unwrap_err();
        assert!(error.hint_text().is_some(), "{length}: {error}");
        if length >= 8 {
            assert!(error.is_retryable(), "{length}: {error}");
        }
        if kinds.last() != Some(&error.kind()) {
            kinds.push(error.kind());
        }
    }
    // A stranger, then a cut line, and once Publish was said nobody can tell.
    assert_eq!(
        kinds,
        [
            ErrorKind::Protocol,
            ErrorKind::Unreachable,
            ErrorKind::Unknown
        ]
    );
}

#[test]
fn a_receiver_that_cannot_answer_leaves_the_old_or_the_new_whole() {
    struct Failing(usize);
    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = bytes.len().min(self.0);
            self.0 -= count;
            if count == 0 {
                Err(std::io::ErrorKind::BrokenPipe.into())
            } else {
                Ok(count)
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let pair = Pair::new();
    let full = pair.full(1, &FILES);
    let recorded = pair.record(&[&full]);
    let (said, heard) = (
        recorded.said.lock().unwrap().clone(),
        recorded.heard.lock().unwrap().len(),
    );
    for length in (0..heard).step_by(5) {
        pair.clear_spool();
        let mut output = Failing(length);
        let served = serve(
            &mut Cursor::new(&said),
            &mut output,
            &pair.options(),
            &Disk::new(),
            &SystemClock,
        );
        assert_eq!(served.unwrap_err().kind(), ErrorKind::Unreachable);
        pair.standing();
        pair.push(&full).unwrap();
        assert_eq!((pair.standing(), pair.temps()), (vec![1], 0));
    }
}

#[test]
fn a_disk_that_stops_at_any_operation_leaves_the_old_or_the_new_whole() {
    let pair = Pair::new();
    let (old, new) = (
        pair.full(1, &FILES),
        pair.full(2, &[("a", "1"), ("b", "33"), ("d/e", "")]),
    );
    pair.push(&old).unwrap();
    let said = pair.record(&[&new]).said.lock().unwrap().clone();
    let mut operations = 0;
    loop {
        pair.clear_spool();
        pair.push(&old).unwrap();
        let stop = Arc::new(StopAt::new(operations));
        let (_, served) = pair.recite_bytes(&said, &Disk::with_hook(stop.clone()));
        let standing = pair.standing();
        assert!(
            standing == [1] || standing == [1, 2],
            "{operations}: {standing:?}"
        );
        pair.push(&new).unwrap();
        assert_eq!((pair.standing(), pair.temps()), (vec![1, 2], 0));
        if !stop.has_stopped() {
            served.unwrap();
            break;
        }
        operations += 1;
    }
    assert!(operations > 10);
}

/// Lets some writes pass, then the disk is full; what frees space still works.
struct FullAfter(Mutex<usize>, std::io::ErrorKind);

impl Hook for FullAfter {
    fn before(&self, operation: Operation<'_>) -> std::io::Result<()> {
        let mut left = self.0.lock().unwrap();
        match (operation, left.checked_sub(1)) {
            (Operation::Write(_) | Operation::CreateFile(_) | Operation::CreateDir(_), None) => {
                Err(self.1.into())
            }
            (
                Operation::Write(_) | Operation::CreateFile(_) | Operation::CreateDir(_),
                Some(rest),
            ) => {
                *left = rest;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn a_full_or_read_only_disk_is_told_to_the_sender_and_the_rest_is_removed() {
    for kind in [
        std::io::ErrorKind::StorageFull,
        std::io::ErrorKind::ReadOnlyFilesystem,
    ] {
        let pair = Pair::new();
        let (full, batch) = (
            pair.full(1, &FILES),
            pair.batch(1, state(&FILES), "c", b"3"),
        );
        let mut refused = 0;
        for outgoing in [&full, &batch] {
            for writes in 0.. {
                pair.clear_spool();
                let disk = Disk::with_hook(Arc::new(FullAfter(Mutex::new(writes), kind)));
                let (pushed, served) = pair.session(&disk, |stream| {
                    let mut connection = pair.connect(stream).unwrap();
                    connection.push(outgoing, &Silent)
                });
                let Err(error) = pushed else { break };
                served.unwrap_err();
                refused += 1;
                assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                assert!(error.to_string().starts_with("b.lab: "), "{error}");
                assert!(error.hint_text().is_some(), "{error}");
                assert_eq!((pair.standing().len(), pair.temps()), (0, 0));
            }
        }
        assert!(refused > 8, "only {refused} points");
    }
}

#[test]
fn what_was_answered_as_published_survives_a_power_loss() {
    let pair = Pair::new();
    let (full, batch) = (
        pair.full(1, &FILES),
        pair.batch(2, state(&FILES), "c", b"3"),
    );
    let said = pair.record(&[&full, &batch]).said.lock().unwrap().clone();
    pair.clear_spool();
    let power = Arc::new(Recorder::over(&pair.spool()).unwrap());
    let (_, served) = pair.recite_bytes(&said, &Disk::with_hook(power.clone()));
    served.unwrap();
    let survived = [Loss::Everything, Loss::BytesOnly].map(|loss| {
        let after = scratch();
        power.lose_power(after.path(), loss).unwrap();
        (loss, after)
    });
    for (loss, after) in survived {
        pair.clear_spool();
        std::fs::remove_dir(pair.spool()).unwrap();
        std::fs::rename(after.path(), pair.spool()).unwrap();
        assert_eq!(pair.standing(), [1, 2], "{loss:?}");
        let accepted = pair.take(at(1), Form::Full, None).unwrap().accepted(None);
        pair.take(at(2), Form::Batch, Some(&accepted)).unwrap();
    }
}

#[test]
fn a_spool_that_is_missing_is_told_with_what_to_do() {
    let pair = Pair::new();
    std::fs::remove_dir(pair.spool()).unwrap();
    let error = pair.push(&pair.full(1, &FILES)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("there is no spool"), "{error}");
    assert_eq!(
        error.hint_text(),
        Some("make it for the transfer account: pefo init passive")
    );
}
