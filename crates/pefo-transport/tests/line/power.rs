//! Power loss on the receiver: what was answered stands, what stands is whole, and of all the fsyncs
//! that takes none can be spared.

use std::io::{Cursor, Write};
use std::path::Path;

use pefo_core::clock::SystemClock;
use pefo_core::digest::Digest;
use pefo_core::disk::Beneath;
use pefo_core::disk::power::{Findings, Order, Stage, without_each_sync};
use pefo_core::generation::spool::{self, Form};
use pefo_core::generation::{Accepted, DataSet, Outgoing};
use pefo_core::heartbeat::Heartbeat;
use pefo_core::reign::Epoch;
use pefo_core::request::{Nonce, Request, Subject};
use pefo_transport::frame::{self, Frame, PREAMBLE};
use pefo_transport::message::{Capabilities, Need};
use pefo_transport::session::EAGER_BATCH_BYTES;
use pefo_transport::{Limits, serve};

use crate::pair::{Pair, at, now, scratch, state};

const FILES: [(&str, &str); 2] = [("a", "1"), ("d/b", "22")];

/// Whether the sender will rely on what this says.
fn is_answer(frame: &Frame) -> bool {
    matches!(
        frame,
        Frame::Published(_) | Frame::Need(Need::Already) | Frame::Ok | Frame::Refuse(_)
    )
}

/// A receiver's output: notes each such answer.
struct Answers<'a> {
    stage: &'a Stage,
    said: Vec<u8>,
    heard: usize,
}

impl Write for Answers<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.said.extend_from_slice(bytes);
        while let Some((frame, used)) = frame::decode(&self.said[self.heard..]).unwrap() {
            self.heard += used;
            if is_answer(&frame) {
                self.stage.answered();
            }
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Takes out each fsync of a session that says `said` to a receiver whose spool is now as the pair's.
fn hunt(pair: &Pair, said: &[u8], as_promised: impl FnMut(&Path, usize) -> bool) -> Findings {
    hunt_after(pair, |_| (), said, as_promised)
}

/// The same, after `before` has done something to the spool that no disk has heard of.
fn hunt_after(
    pair: &Pair,
    before: impl Fn(&Path),
    said: &[u8],
    mut as_promised: impl FnMut(&Path, usize) -> bool,
) -> Findings {
    let scratch = scratch();
    without_each_sync(
        scratch.path(),
        Order::Any,
        |dir| copy_tree(&pair.spool(), &dir.join("spool")),
        |stage| {
            let mut options = pair.options();
            options.spool = stage.dir().join("spool");
            before(&options.spool);
            let mut answers = Answers {
                stage,
                said: Vec::new(),
                heard: PREAMBLE.len(),
            };
            // Some sessions are refused, which is their answer.
            drop(serve(
                &mut Cursor::new(said),
                &mut answers,
                &options,
                &stage.disk(),
                &SystemClock,
            ));
        },
        |dir, answers| as_promised(&dir.join("spool"), answers),
    )
    .unwrap()
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_tree(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// Every session begins with the fsyncs of the directories above its data set's, in case the one that made
/// them was killed. A batch may need them, which has tests of its own; a full generation never does.
const PLACES: [&str; 2] = [
    "0: SyncDir(\"/spool\")",
    "1: SyncDir(\"/spool/generations\")",
];

/// Each fsync is needed, [`PLACES`] left aside, and there are so many others.
#[track_caller]
fn assert_needed(findings: &Findings, others: usize) {
    assert!(findings.broken.is_empty(), "{:#?}", findings.broken);
    assert_eq!(findings.unnoticed, PLACES, "of {:#?}", findings.syncs);
    assert_eq!(findings.syncs.len() - PLACES.len(), others, "{findings:?}");
}

/// What a sender says that pushes this to the pair's receiver, whose spool stays as it was.
fn said(pair: &Pair, outgoing: &Outgoing) -> Vec<u8> {
    let kept = scratch();
    copy_tree(&pair.spool(), &kept.path().join("spool"));
    let said = pair.record(&[outgoing]).said.lock().unwrap().clone();
    std::fs::remove_dir_all(pair.spool()).unwrap();
    copy_tree(&kept.path().join("spool"), &pair.spool());
    said
}

/// What a sender says that pushes this for the second time.
fn said_again(pair: &Pair, outgoing: &Outgoing) -> Vec<u8> {
    pair.push(outgoing).unwrap();
    pair.record(&[outgoing]).said.lock().unwrap().clone()
}

fn said_of(pair: &Pair, frames: &[Frame]) -> Vec<u8> {
    let mut bytes = PREAMBLE.to_vec();
    for frame in frames {
        frame::encode(frame, &mut bytes).unwrap();
    }
    pair.clear_spool();
    bytes
}

/// What stands in a spool; nothing where a part of it is not what root would take.
fn whole(pair: &Pair, spool: &Path, before_batches: Digest) -> Option<Vec<u64>> {
    let Ok(dir) = Beneath::open(&spool::dataset_dir(spool, &DataSet::Ca)) else {
        return Some(vec![]);
    };
    let accepted = Accepted {
        format: 1,
        position: at(0),
        state: before_batches,
        applied: None,
    };
    let mut standing = Vec::new();
    for (position, form) in spool::list(&dir).unwrap() {
        let accepted = (form == Form::Batch).then_some(&accepted);
        pair.take_from(&dir, position, form, accepted).ok()?;
        standing.push(position.sequence);
    }
    Some(standing)
}

#[test]
fn a_full_generation_needs_one_syncfs_and_the_fsync_of_its_name() {
    let pair = Pair::new();
    pair.push(&pair.full(1, &FILES)).unwrap();
    // One file is linked to what stands there, two are sent.
    let new = pair.full(2, &[("a", "1"), ("d/b", "other"), ("e/f/g", "")]);
    let findings = hunt(&pair, &said(&pair, &new), |spool, answers| {
        let standing = whole(&pair, spool, state(&FILES));
        standing == Some(vec![1, 2]) || (answers == 0 && standing == Some(vec![1]))
    });
    assert_needed(&findings, 2);
}

#[test]
fn a_batch_into_a_new_spool_needs_each_fsync_on_its_way() {
    let pair = Pair::new();
    let batch = pair.batch(1, state(&FILES), "c", b"3");
    let said = said(&pair, &batch);
    let make = |spool: &Path| {
        std::fs::create_dir_all(spool::dataset_dir(spool, &DataSet::Ca)).unwrap();
    };
    // The directories are made by this session, or were by one that was killed.
    for before in [|_: &Path| (), make] {
        let findings = hunt_after(&pair, before, &said, |spool, answers| {
            let standing = whole(&pair, spool, state(&FILES));
            standing == Some(vec![1]) || (answers == 0 && standing == Some(vec![]))
        });
        findings.assert_each_is_needed();
        assert_eq!(findings.syncs.len(), 4, "{findings:?}");
    }
}

#[test]
fn a_batch_that_is_asked_for_needs_each_fsync_on_its_way() {
    let pair = Pair::new();
    let long = vec![b'x'; EAGER_BATCH_BYTES as usize];
    let batch = pair.batch(1, state(&FILES), "c", &long);
    let findings = hunt(&pair, &said(&pair, &batch), |spool, answers| {
        let standing = whole(&pair, spool, state(&FILES));
        standing == Some(vec![1]) || (answers == 0 && standing == Some(vec![]))
    });
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 4, "{findings:?}");
}

#[test]
fn what_stands_already_is_durable_once_that_is_answered() {
    // The session before was killed between the rename and the fsync of the directory, and had made
    // all that is above it.
    let pair = Pair::new();
    for outgoing in [
        pair.full(1, &FILES),
        pair.batch(1, state(&FILES), "c", b"3"),
    ] {
        let said = said_again(&pair, &outgoing);
        let name = std::fs::read_dir(pair.ca())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .find(|name| name != ".pefo-lock")
            .unwrap();
        std::fs::rename(pair.ca().join(&name), pair.ca().join(".part")).unwrap();
        std::fs::rename(pair.ca(), pair.spool().join(".ca")).unwrap();
        std::fs::remove_dir(pair.spool().join("generations")).unwrap();
        let show = |spool: &Path| {
            let dir = spool::dataset_dir(spool, &DataSet::Ca);
            std::fs::create_dir(dir.parent().unwrap()).unwrap();
            std::fs::rename(spool.join(".ca"), &dir).unwrap();
            std::fs::rename(dir.join(".part"), dir.join(&name)).unwrap();
        };
        let findings = hunt_after(&pair, show, &said, |spool, answers| {
            answers == 0 || whole(&pair, spool, state(&FILES)) == Some(vec![1])
        });
        findings.assert_each_is_needed();
        assert_eq!(findings.syncs.len(), 3, "{findings:?}");
        pair.clear_spool();
    }
}

#[test]
fn retention_of_a_full_generation_needs_each_of_its_fsyncs() {
    let mut pair = Pair::new();
    pair.limits = Limits::default().free_bytes(0).keep(1);
    pair.push(&pair.full(1, &FILES)).unwrap();
    pair.write_ack(Some(1), Some(1), None);
    // That what went is gone for good is not promised: the next session would remove it again.
    let findings = hunt(
        &pair,
        &said(&pair, &pair.full(2, &[("a", "2")])),
        |spool, answers| match whole(&pair, spool, state(&FILES)).as_deref() {
            Some([2] | [1, 2]) => true,
            Some([1]) => answers == 0,
            _ => false,
        },
    );
    assert_needed(&findings, 3);
}

#[test]
fn retention_of_a_batch_needs_each_of_its_fsyncs() {
    let mut pair = Pair::new();
    pair.limits = Limits::default().free_bytes(0).keep(1);
    pair.push(&pair.full(1, &FILES)).unwrap();
    pair.push(&pair.batch(2, state(&FILES), "c", b"3")).unwrap();
    pair.write_ack(Some(2), Some(2), None);
    let newer = pair.batch(3, state(&FILES), "d", b"4");
    let findings = hunt(&pair, &said(&pair, &newer), |spool, answers| {
        match whole(&pair, spool, state(&FILES)).as_deref() {
            Some([1, 3] | [1, 2, 3]) => true,
            Some([1, 2]) => answers == 0,
            _ => false,
        }
    });
    assert_needed(&findings, 2);
}

#[test]
fn a_heartbeat_needs_each_of_its_fsyncs() {
    let pair = Pair::new();
    let heartbeat = Heartbeat {
        format: 1,
        site: pair.site.clone(),
        certname: pair.a.clone(),
        epoch: Epoch(1),
        holder: pair.key_a.public().id(),
        heads: [(DataSet::Ca, at(1))].into(),
        time: now(),
    };
    let signed = heartbeat.sign(&pair.key_a).unwrap();
    let frames = [
        Frame::Hello(pair.hello()),
        Frame::Heartbeat(signed.clone()),
        Frame::Bye,
    ];
    let findings = hunt(
        &pair,
        &said_of(&pair, &frames),
        |spool, answers| match std::fs::read(spool::heartbeat_path(spool, &pair.a)) {
            Ok(stored) => stored == signed,
            Err(_) => answers == 0,
        },
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 3, "{findings:?}");
}

#[test]
fn the_note_of_a_newer_reign_needs_each_of_its_fsyncs() {
    let pair = Pair::new();
    let record = pair.reign(2, &pair.a, &pair.key_a);
    let mut hello = pair.hello();
    hello.reign = record.clone();
    let findings = hunt(
        &pair,
        &said_of(&pair, &[Frame::Hello(hello)]),
        |spool, answers| match std::fs::read_to_string(spool::noted_reign_path(spool, &pair.a)) {
            Ok(stored) => stored == record,
            Err(_) => answers == 0,
        },
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 3, "{findings:?}");
}

#[test]
fn a_request_to_root_needs_each_of_its_fsyncs() {
    let pair = Pair::new();
    let request = Request {
        format: 1,
        site: pair.site.clone(),
        certname: pair.a.clone(),
        epoch: Epoch(1),
        holder: pair.key_a.public().id(),
        nonce: Nonce::from_random([7; 16]),
        time: now(),
        subject: Subject::Verify {
            dataset: DataSet::Ca,
        },
    };
    let signed = request.sign(&pair.key_a).unwrap();
    let mut hello = pair.hello();
    hello.capabilities = Capabilities::OURS.words();
    let frames = [
        Frame::Hello(hello),
        Frame::Request(signed.clone()),
        Frame::Bye,
    ];
    let path = |spool: &Path| {
        let dir = spool::requests_dir(spool, &pair.a);
        dir.join(request.nonce.as_str())
    };
    let findings = hunt(
        &pair,
        &said_of(&pair, &frames),
        |spool, answers| match std::fs::read(path(spool)) {
            Ok(stored) => stored == signed,
            Err(_) => answers == 0,
        },
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 4, "{findings:?}");
}
