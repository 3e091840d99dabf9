use proptest::prelude::*;

use super::*;
use crate::message::Protocols;
use crate::session::exchange::model_tests::{Model, crossing};
use crate::session::exchange::tests::{SIGNATURE_BYTES, delta, rest, signed};
use crate::session::tests::{data, file, need, offer, refuse};
use crate::tree::message::{Commit, Committed, Differs, Open, Opened, Summary};
use Side::{Receiver, Sender};

fn open() -> Frame {
    Frame::Open(Open {
        protocol: Protocols::OURS,
        tool: String::new(),
        capabilities: vec![],
    })
}

fn opened() -> Frame {
    Frame::Opened(Opened {
        protocol: 1,
        tool: String::new(),
        capabilities: vec![],
    })
}

fn summary(bucket_bits: u8) -> Frame {
    Frame::Summary(Summary {
        entries: 2,
        bucket_bits,
        buckets: vec![[0; 16]; 1 << bucket_bits],
    })
}

fn differs(bucket_bits: u8) -> Frame {
    Frame::Differs(Differs::buckets(bucket_bits, [0]))
}

fn nowhere() -> Frame {
    Frame::Differs(Differs::nowhere())
}

fn entries(scope: Scope, entries: u32, bytes: u64, eager: bool) -> Frame {
    Frame::Entries(EntriesHead {
        scope,
        entries,
        bytes,
        eager,
    })
}

fn commit() -> Frame {
    Frame::Commit(Commit { delete: false })
}

fn committed() -> Frame {
    Frame::Committed(Committed::default())
}

/// Walks an opened session; of what is listed, entries 0 and 1 are files.
fn walk(steps: &[(Side, Frame)]) -> Result<TreeSession, String> {
    let mut session = TreeSession::new();
    for (side, frame) in [(Sender, open()), (Receiver, opened())].iter().chain(steps) {
        session
            .step(*side, frame)
            .map_err(|error| error.to_string())?;
        session.listed([0, 1]);
    }
    Ok(session)
}

#[test]
fn a_tree_is_compared_listed_filled_and_committed() {
    let end = [(Sender, commit()), (Receiver, committed())];
    let equal = [(Sender, summary(0)), (Receiver, nowhere())];
    assert!(walk(&equal).unwrap().is_idle());
    let different = [
        (Sender, summary(3)),
        (Receiver, differs(3)),
        (Sender, entries(Scope::Buckets, 3, 20, false)),
        (Sender, data(15)),
        (Sender, data(5)),
        (Receiver, rest(0, 4)),
        (Receiver, signed(1, SIGNATURE_BYTES)),
        (Receiver, data(SIGNATURE_BYTES as usize)),
        (Receiver, need(3, &[0, 1])),
        (Sender, file(0, 2)),
        (Sender, data(2)),
        (Sender, delta(1, 9)),
        (Sender, data(9)),
        (Sender, Frame::End),
    ];
    let filled = walk(&different).unwrap();
    assert!(filled.may_abandon() && !filled.is_idle());
    let committing = walk(&[&different[..], &end[..1]].concat()).unwrap();
    assert!(committing.is_committing());
    assert!(walk(&[&different[..], &end].concat()).unwrap().is_idle());
    let eager = [
        (Sender, entries(Scope::Paths, 2, 20, true)),
        (Sender, data(20)),
        (Sender, file(0, 0)),
        (Sender, Frame::Skip(1)),
    ];
    assert!(walk(&[&eager[..], &end].concat()).unwrap().is_idle());
    let nothing_needed = [
        (Sender, entries(Scope::Paths, 2, 20, false)),
        (Sender, data(20)),
        (Receiver, need(2, &[])),
    ];
    assert!(
        walk(&[&nothing_needed[..], &end].concat())
            .unwrap()
            .is_idle()
    );
    let others = [
        (Sender, Frame::Ping),
        (Receiver, Frame::Ok),
        (Sender, Frame::Bye),
    ];
    assert!(walk(&others).unwrap().has_ended());
}

#[test]
fn entries_are_awaited_until_all_have_come_and_not_longer() {
    let head = (Sender, entries(Scope::Paths, 2, 20, false));
    assert!(walk(std::slice::from_ref(&head)).unwrap().awaits_entries());
    let some = [head.clone(), (Sender, data(19))];
    assert!(walk(&some).unwrap().awaits_entries());
    let all = [head, (Sender, data(20))];
    assert!(!walk(&all).unwrap().awaits_entries());
    // Nothing goes on before whoever reads them has said which of them are files.
    let mut session = TreeSession::new();
    for (side, frame) in [(Sender, open()), (Receiver, opened())].iter().chain(&all) {
        session.step(*side, frame).unwrap();
    }
    session.step(Receiver, &need(2, &[0])).unwrap_err();
}

#[test]
fn what_is_not_of_a_tree_or_out_of_turn_is_refused() {
    use crate::message::Shape;
    let wrong = |steps: &[(Side, Frame)]| walk(steps).unwrap_err();
    insta::assert_snapshot!(wrong(&[(Sender, open())]), @"the sender sent open while the session was idle");
    insta::assert_snapshot!(wrong(&[(Sender, offer(Shape::Full, 1, 1, 1))]), @"the sender sent offer while the session was idle");
    insta::assert_snapshot!(wrong(&[(Sender, Frame::Request(vec![]))]), @"the sender sent request while the session was idle");
    insta::assert_snapshot!(wrong(&[(Sender, Frame::Heartbeat(vec![]))]), @"the sender sent heartbeat while the session was idle");
    insta::assert_snapshot!(wrong(&[(Sender, summary(3)), (Receiver, differs(4))]), @"the receiver sent differs while the session was comparing: it is of another count of buckets");
    insta::assert_snapshot!(wrong(&[(Sender, summary(3)), (Receiver, nowhere()), (Sender, entries(Scope::Buckets, 1, 9, false))]), @"the sender sent entries while the session was idle: it is not about what was asked for");
    insta::assert_snapshot!(wrong(&[(Sender, summary(3)), (Receiver, differs(3)), (Sender, entries(Scope::Paths, 1, 9, false))]), @"the sender sent entries while the session was about to list what differs: it is not about what was asked for");
    insta::assert_snapshot!(wrong(&[(Sender, summary(3)), (Receiver, differs(3)), (Sender, entries(Scope::Buckets, 1, 9, true))]), @"the sender sent entries while the session was about to list what differs: too many files would follow unasked");
    insta::assert_snapshot!(wrong(&[(Sender, entries(Scope::Paths, EntriesHead::MAX_EAGER + 1, 9, true))]), @"the sender sent entries while the session was idle: too many files would follow unasked");
    insta::assert_snapshot!(wrong(&[(Sender, entries(Scope::Paths, EntriesHead::MAX_ENTRIES + 1, 9, false))]), @"the sender sent entries while the session was idle: there are too many entries");
    insta::assert_snapshot!(wrong(&[(Sender, entries(Scope::Paths, 1, EntriesHead::MAX_BYTES + 1, false))]), @"the sender sent entries while the session was idle: there are too many entries");
    insta::assert_snapshot!(wrong(&[(Sender, entries(Scope::Paths, 2, 9, false)), (Sender, data(10))]), @"the sender sent data while the session was listing: there are more bytes than were announced");
    insta::assert_snapshot!(wrong(&[(Sender, entries(Scope::Paths, 2, 9, true)), (Sender, data(9)), (Sender, commit())]), @"the sender sent commit while the session was between files");
    insta::assert_snapshot!(wrong(&[(Sender, entries(Scope::Paths, 2, 9, true)), (Sender, data(9)), (Sender, delta(0, 1))]), @"the sender sent delta while the session was between files: no delta was asked for");
    insta::assert_snapshot!(wrong(&[(Sender, entries(Scope::Paths, 2, 9, false)), (Sender, data(9)), (Receiver, need(9, &[8]))]), @"the receiver sent need while the session was deciding what is needed: it is not of the list's length");
    insta::assert_snapshot!(wrong(&[(Sender, refuse())]), @"the sender sent refuse while the session was idle");
}

proptest! {
    /// Whatever legal way a session goes: no more is received than was announced, nothing is committed
    /// that did not arrive, a refusal ends it from everywhere, and so does what is not legal.
    #[test]
    fn no_sequence_of_frames_lets_more_be_received_than_was_announced(choices in prop::collection::vec(any::<prop::sample::Index>(), 0..60)) {
        let mut alphabet = crossing();
        alphabet.extend([
            (Sender, summary(0)), (Sender, summary(1)), (Receiver, nowhere()), (Receiver, differs(1)),
            (Sender, entries(Scope::Buckets, 2, 3, false)), (Sender, entries(Scope::Paths, 2, 3, false)),
            (Sender, entries(Scope::Paths, 2, 2, true)), (Sender, entries(Scope::Paths, 0, 0, true)),
            (Receiver, need(0, &[])), (Sender, commit()), (Receiver, committed()), (Sender, Frame::Ping),
        ]);
        let (mut session, mut model) = (walk(&[]).unwrap(), Model::default());
        for choice in choices {
            let mut refused = session.clone();
            refused.step(Receiver, &refuse()).unwrap();
            prop_assert!(refused.has_ended() && refused.step(Sender, &Frame::Bye).is_err());
            let mut legal = Vec::new();
            for (side, frame) in &alphabet {
                let mut next = session.clone();
                match next.step(*side, frame) {
                    Ok(()) => legal.push((*side, frame, next)),
                    Err(_) => prop_assert!(next.has_ended()),
                }
            }
            prop_assert!(!legal.is_empty(), "{session:?} leads nowhere");
            let (side, frame, next) = legal.swap_remove(choice.index(legal.len()));
            session = next;
            match frame {
                Frame::Entries(head) => model.announce(head.bytes),
                frame => model.hear(side, frame),
            }
            if let State::Listed { head } = session.state {
                let files = if head.entries == 0 { vec![] } else { vec![0, 1] };
                if head.eager {
                    model.unasked(&files);
                }
                session.listed(files);
            }
            if session.is_idle() {
                model.nothing_is_missing();
            }
        }
    }
}
