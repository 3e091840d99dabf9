//! What capabilities add to a session: asks, deltas, skips, abandoning, asked batches, requests.

use pefo_core::request::Nonce;

use super::super::EAGER_BATCH_BYTES;
use super::super::tests::{data, file, need, offer, published, walk, walk_agreed};
use super::*;
use crate::message::{AnswerHead, AnswerQuery, Capabilities, FileHead, Shape};
use crate::session::Session;
use Side::{Receiver, Sender};

pub(crate) type Steps = Vec<(Side, Frame)>;

pub(crate) const SIGNATURE_BYTES: u64 = Ask::LEAST_SIGNATURE_BYTES + 20;

pub(crate) fn rest(index: u32, from: u64) -> Frame {
    Frame::Ask(Ask {
        index,
        from,
        signature_bytes: 0,
    })
}

pub(crate) fn signed(index: u32, signature_bytes: u64) -> Frame {
    Frame::Ask(Ask {
        index,
        from: 0,
        signature_bytes,
    })
}

pub(crate) fn delta(index: u32, size: u64) -> Frame {
    Frame::Delta(FileHead { index, size })
}

pub(crate) fn query() -> Frame {
    Frame::AnswerQuery(AnswerQuery {
        nonce: Nonce::from_random([7; 16]),
    })
}

pub(crate) fn answer(bytes: u64) -> Frame {
    Frame::Answer(AnswerHead { bytes })
}

/// A full generation of three files, its manifest sent.
fn offered() -> Steps {
    vec![(Sender, offer(Shape::Full, 5, 3, 7)), (Sender, data(5))]
}

/// Two asked files, the second by a signature, and one whole.
fn asked() -> Steps {
    let mut steps = offered();
    steps.extend([
        (Receiver, rest(0, 4)),
        (Receiver, signed(2, SIGNATURE_BYTES)),
        (Receiver, data(SIGNATURE_BYTES as usize)),
        (Receiver, need(3, &[0, 1, 2])),
    ]);
    steps
}

fn then(mut steps: Steps, more: &[(Side, Frame)]) -> Result<Session, String> {
    steps.extend_from_slice(more);
    walk_agreed(Capabilities::OURS, &steps)
}

#[test]
fn parts_deltas_and_skipped_files_lead_to_a_whole_generation() {
    let publish = [(Sender, Frame::Publish), (Receiver, published())];
    let sent = [
        (Sender, file(0, 3)),
        (Sender, data(3)),
        (Sender, file(1, 2)),
        (Sender, data(2)),
        (Sender, delta(2, 9)),
        (Sender, data(40)),
        (Sender, data(2)),
        (Sender, Frame::End),
    ];
    assert!(then(asked(), &sent).unwrap().is_ready());
    assert!(
        then(asked(), &[&sent[..], &publish].concat())
            .unwrap()
            .is_idle()
    );
    // The sender may send whole what was asked for in another way, and leave out what it has no more.
    let otherwise = [
        (Sender, Frame::Skip(0)),
        (Sender, file(1, 0)),
        (Sender, file(2, 9)),
        (Sender, data(9)),
    ];
    assert!(then(asked(), &otherwise).unwrap().is_ready());
    // A delta may be of no bytes here; that it is none then, the patch finds out.
    let empty = [
        (Sender, Frame::Skip(0)),
        (Sender, Frame::Skip(1)),
        (Sender, delta(2, 0)),
        (Sender, Frame::End),
    ];
    assert!(then(asked(), &empty).unwrap().is_ready());
}

#[test]
fn asks_that_a_sender_could_not_answer_are_refused() {
    let ask = |more: &[(Side, Frame)]| then(offered(), more).unwrap_err();
    insta::assert_snapshot!(ask(&[(Receiver, rest(1, 1)), (Receiver, rest(1, 1))]), @"the receiver sent ask while the session was deciding what is needed: it is beyond the list or out of order");
    insta::assert_snapshot!(ask(&[(Receiver, rest(2, 1)), (Receiver, rest(1, 1))]), @"the receiver sent ask while the session was deciding what is needed: it is beyond the list or out of order");
    insta::assert_snapshot!(ask(&[(Receiver, rest(3, 1))]), @"the receiver sent ask while the session was deciding what is needed: it is beyond the list or out of order");
    insta::assert_snapshot!(ask(&[(Receiver, rest(0, 0))]), @"the receiver sent ask while the session was deciding what is needed: it wants neither or both of a rest and a delta");
    let both = Frame::Ask(Ask {
        index: 0,
        from: 1,
        signature_bytes: SIGNATURE_BYTES,
    });
    insta::assert_snapshot!(ask(&[(Receiver, both)]), @"the receiver sent ask while the session was deciding what is needed: it wants neither or both of a rest and a delta");
    insta::assert_snapshot!(ask(&[(Receiver, signed(0, Ask::LEAST_SIGNATURE_BYTES - 1))]), @"the receiver sent ask while the session was deciding what is needed: no signature is as short");
    insta::assert_snapshot!(ask(&[(Receiver, signed(0, Ask::MAX_SIGNATURE_BYTES + 1))]), @"the receiver sent ask while the session was deciding what is needed: its signatures are too long");
    insta::assert_snapshot!(ask(&[(Receiver, signed(0, u64::MAX))]), @"the receiver sent ask while the session was deciding what is needed: its signatures are too long");
    let first = [
        (Receiver, signed(0, SIGNATURE_BYTES)),
        (Receiver, data(SIGNATURE_BYTES as usize)),
    ];
    let second = [(Receiver, signed(1, Ask::MAX_SIGNATURE_BYTES))];
    insta::assert_snapshot!(ask(&[&first[..], &second].concat()), @"the receiver sent ask while the session was deciding what is needed: its signatures are too long");
    insta::assert_snapshot!(ask(&[(Receiver, signed(0, 60)), (Receiver, data(61))]), @"the receiver sent data while the session was receiving a signature: there are more bytes than were announced");
    insta::assert_snapshot!(ask(&[(Receiver, signed(0, 60)), (Receiver, data(59)), (Receiver, need(3, &[0]))]), @"the receiver sent need while the session was receiving a signature");
    insta::assert_snapshot!(ask(&[(Receiver, signed(0, 60)), (Sender, data(60))]), @"the sender sent data while the session was receiving a signature");
    insta::assert_snapshot!(ask(&[(Receiver, rest(0, 1)), (Receiver, need(3, &[1]))]), @"the receiver sent need while the session was deciding what is needed: it leaves out a file that was asked for");
    insta::assert_snapshot!(ask(&[(Receiver, need(3, &[0])), (Receiver, rest(0, 1))]), @"the receiver sent ask while the session was between files");
    insta::assert_snapshot!(ask(&[(Sender, rest(0, 1))]), @"the sender sent ask while the session was deciding what is needed");
}

#[test]
fn there_are_only_so_many_asks() {
    let files = u32::try_from(Ask::MAX_ASKS).unwrap() + 1;
    let mut steps = vec![(Sender, offer(Shape::Full, 5, files, 7)), (Sender, data(5))];
    steps.extend((0..files - 1).map(|index| (Receiver, rest(index, 1))));
    walk(&steps).unwrap();
    steps.push((Receiver, rest(files - 1, 1)));
    insta::assert_snapshot!(walk(&steps).unwrap_err(), @"the receiver sent ask while the session was deciding what is needed: there are too many of them");
}

#[test]
fn only_what_was_asked_for_may_be_answered_by_a_delta_and_only_in_turn() {
    let said = |more: &[(Side, Frame)]| then(asked(), more).unwrap_err();
    insta::assert_snapshot!(said(&[(Sender, delta(0, 9))]), @"the sender sent delta while the session was between files: no delta was asked for");
    insta::assert_snapshot!(said(&[(Sender, delta(2, 9))]), @"the sender sent delta while the session was between files: it is not the next file that was asked for");
    insta::assert_snapshot!(said(&[(Sender, Frame::Skip(1))]), @"the sender sent skip while the session was between files: it is not the next file that was asked for");
    insta::assert_snapshot!(said(&[(Receiver, Frame::Skip(0))]), @"the receiver sent skip while the session was between files");
    insta::assert_snapshot!(said(&[(Sender, Frame::End)]), @"the sender sent end while the session was between files");
    let until_delta = [(Sender, Frame::Skip(0)), (Sender, Frame::Skip(1))];
    let delta_and =
        |more: &[(Side, Frame)]| said(&[&until_delta[..], &[(Sender, delta(2, 9))], more].concat());
    insta::assert_snapshot!(delta_and(&[(Sender, Frame::Publish)]), @"the sender sent publish while the session was receiving a delta");
    insta::assert_snapshot!(delta_and(&[(Sender, Frame::Skip(2))]), @"the sender sent skip while the session was receiving a delta");
    insta::assert_snapshot!(delta_and(&[(Receiver, data(1))]), @"the receiver sent data while the session was receiving a delta");
    insta::assert_snapshot!(delta_and(&[(Sender, data(1042)), (Sender, data(1))]), @"the sender sent data while the session was receiving a delta: there are more bytes than were announced");
}

#[test]
fn what_is_being_sent_may_be_abandoned_at_any_moment_and_the_session_goes_on() {
    let whole: Steps = [
        asked(),
        vec![
            (Sender, file(0, 3)),
            (Sender, data(1)),
            (Sender, data(2)),
            (Sender, Frame::Skip(1)),
            (Sender, delta(2, 9)),
            (Sender, data(2)),
            (Sender, Frame::End),
        ],
    ]
    .concat();
    let first = asked().len();
    let end = [(Sender, Frame::Abandon), (Receiver, Frame::Ok)];
    for length in 0..=whole.len() {
        let steps = whole[..length].to_vec();
        let session = then(steps.clone(), &[]).unwrap();
        let abandoned = then(steps.clone(), &end);
        assert_eq!(session.may_abandon(), length >= first, "{length}");
        assert_eq!(abandoned.is_ok(), length >= first, "{length}");
        if let Ok(session) = abandoned {
            assert!(session.is_idle());
            let next = [&end[..], &offered()].concat();
            assert!(!then(steps, &next).unwrap().has_ended());
        }
    }
    assert!(!walk(&whole).unwrap().may_abandon());
    let published = [(Sender, Frame::Publish), (Sender, Frame::Abandon)];
    insta::assert_snapshot!(then(whole, &published).unwrap_err(), @"the sender sent abandon while the session was publishing");
}

#[test]
fn a_long_batch_is_asked_for_where_both_can_and_sent_in_one_go_elsewhere() {
    let long = EAGER_BATCH_BYTES + 1;
    let steps = [
        (Sender, offer(Shape::Batch, 5, 0, long)),
        (Sender, data(5)),
        (Receiver, rest(0, long - 3)),
        (Receiver, need(1, &[0])),
        (Sender, file(0, 3)),
        (Sender, data(3)),
    ];
    assert!(walk_agreed(Capabilities::OURS, &steps).unwrap().is_ready());
    insta::assert_snapshot!(walk(&steps).unwrap_err(), @"the receiver sent ask while the session was receiving a payload");
    let already = [
        steps[0].clone(),
        steps[1].clone(),
        (Receiver, Frame::Need(Need::Already)),
    ];
    assert!(walk_agreed(Capabilities::OURS, &already).unwrap().is_idle());
    let eager = [
        (Sender, offer(Shape::Batch, 5, 0, EAGER_BATCH_BYTES)),
        (Sender, data(5)),
        (Sender, data(EAGER_BATCH_BYTES as usize)),
    ];
    assert!(walk_agreed(Capabilities::OURS, &eager).unwrap().is_ready());
}

#[test]
fn pings_requests_and_notices_are_answered_before_anything_else_is_said() {
    for said in [Frame::Ping, Frame::Request(vec![1]), Frame::Notice(vec![1])] {
        let session = then(vec![], &[(Sender, said.clone()), (Receiver, Frame::Ok)]);
        assert!(session.unwrap().is_idle());
        for frame in [said.clone(), Frame::Publish, query(), data(1)] {
            then(vec![], &[(Sender, said.clone()), (Sender, frame)]).unwrap_err();
        }
        then(vec![], &[(Receiver, said.clone())]).unwrap_err();
        then(offered(), &[(Sender, said)]).unwrap_err();
    }
}

#[test]
fn an_answer_is_as_long_as_announced_and_no_longer_than_any_may_be() {
    let asked = |more: &[(Side, Frame)]| then(vec![(Sender, query())], more);
    assert!(asked(&[(Receiver, answer(0))]).unwrap().is_idle());
    let arrived = asked(&[
        (Receiver, answer(5)),
        (Receiver, data(2)),
        (Receiver, data(3)),
    ]);
    assert!(arrived.unwrap().is_idle());
    let wrong = |more: &[(Side, Frame)]| asked(more).unwrap_err();
    insta::assert_snapshot!(wrong(&[(Receiver, answer(AnswerHead::MAX_BYTES + 1))]), @"the receiver sent answer while the session was asked for an answer: it is too long");
    insta::assert_snapshot!(wrong(&[(Receiver, answer(5)), (Receiver, data(6))]), @"the receiver sent data while the session was receiving an answer: there are more bytes than were announced");
    insta::assert_snapshot!(wrong(&[(Receiver, answer(5)), (Sender, data(5))]), @"the sender sent data while the session was receiving an answer");
    insta::assert_snapshot!(wrong(&[(Receiver, Frame::Ok)]), @"the receiver sent ok while the session was asked for an answer");
    insta::assert_snapshot!(wrong(&[(Receiver, answer(0)), (Receiver, answer(0))]), @"the receiver sent answer while the session was idle");
}
