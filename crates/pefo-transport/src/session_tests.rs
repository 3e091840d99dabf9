use std::collections::BTreeMap;

use pefo_core::Certname;
use pefo_core::generation::{DataSet, Position, Site};
use pefo_core::reign::{Epoch, Role};
use proptest::prelude::*;

use super::*;
use crate::message::{
    AckSet, AcksQuery, FileHead, Hello, Protocols, Published, Purpose, Refuse, Wanted, Welcome,
};
use Side::{Receiver, Sender};

fn hello() -> Frame {
    Frame::Hello(Hello {
        protocol: Protocols::OURS,
        tool: String::new(),
        site: Site::new("0123456789abcdef0123456789abcdef").unwrap(),
        certname: Certname::new("a.lab").unwrap(),
        role: Role::Active,
        purpose: Purpose::acks(),
        reign: String::new(),
        capabilities: vec![],
    })
}

fn welcome() -> Frame {
    Frame::Welcome(Welcome {
        protocol: 1,
        tool: String::new(),
        site: Site::new("0123456789abcdef0123456789abcdef").unwrap(),
        certname: Certname::new("b.lab").unwrap(),
        role: Role::Passive,
        reign: String::new(),
        capabilities: vec![],
        time: None,
    })
}

pub(crate) fn refuse() -> Frame {
    Frame::Refuse(Refuse {
        kind: "io".into(),
        rule: None,
        message: String::new(),
        hint: None,
    })
}

pub(crate) fn position() -> Position {
    Position {
        epoch: Epoch(1),
        sequence: 1,
    }
}

pub(crate) fn offer(form: Shape, document_bytes: u64, files: u32, payload_bytes: u64) -> Frame {
    Frame::Offer(Offer {
        dataset: DataSet::Ca,
        position: position(),
        form,
        document_bytes,
        files,
        payload_bytes,
    })
}

pub(crate) fn data(bytes: usize) -> Frame {
    Frame::Data(vec![0; bytes])
}

pub(crate) fn need(files: u32, indices: &[u32]) -> Frame {
    let mut wanted = Wanted::none(files);
    indices.iter().for_each(|index| wanted.want(*index));
    Frame::Need(Need::Files(wanted))
}

pub(crate) fn file(index: u32, size: u64) -> Frame {
    Frame::File(FileHead { index, size })
}

pub(crate) fn published() -> Frame {
    Frame::Published(Published {
        position: position(),
        already: false,
    })
}

/// Walks a greeted session through `steps`; the error names the step that was refused.
pub(crate) fn walk(steps: &[(Side, Frame)]) -> Result<Session, String> {
    walk_agreed(Capabilities::NONE, steps)
}

/// The same where something was agreed.
pub(crate) fn walk_agreed(
    agreed: Capabilities,
    steps: &[(Side, Frame)],
) -> Result<Session, String> {
    let mut session = Session::new();
    session.agree(agreed);
    for (side, frame) in [(Sender, hello()), (Receiver, welcome())]
        .iter()
        .chain(steps)
    {
        session
            .step(*side, frame)
            .map_err(|error| error.to_string())?;
    }
    Ok(session)
}

#[test]
fn whole_pushes_lead_back_to_idle() {
    let full = [
        (Sender, offer(Shape::Full, 5, 3, 7)),
        (Sender, data(2)),
        (Sender, data(3)),
        (Receiver, need(3, &[0, 2])),
        (Sender, file(0, 0)),
        (Sender, file(2, 7)),
        (Sender, data(7)),
        (Sender, Frame::Publish),
        (Receiver, published()),
    ];
    assert!(walk(&full).unwrap().is_idle());
    let batch = [
        (Sender, offer(Shape::Batch, 5, 0, 4)),
        (Sender, data(5)),
        (Sender, data(4)),
        (Sender, Frame::Publish),
        (Receiver, published()),
    ];
    assert!(walk(&batch).unwrap().is_idle());
    let already = [
        (Sender, offer(Shape::Full, 5, 3, 7)),
        (Sender, data(5)),
        (Receiver, Frame::Need(Need::Already)),
    ];
    assert!(walk(&already).unwrap().is_idle());
    let nothing_needed = [
        (Sender, offer(Shape::Full, 5, 3, 7)),
        (Sender, data(5)),
        (Receiver, need(3, &[])),
        (Sender, Frame::Publish),
        (Receiver, published()),
    ];
    assert!(walk(&nothing_needed).unwrap().is_idle());
    let others = [
        (Sender, Frame::Acks(AcksQuery { datasets: vec![] })),
        (
            Receiver,
            Frame::AckSet(AckSet {
                documents: BTreeMap::new(),
            }),
        ),
        (Sender, Frame::Heartbeat(vec![])),
        (Receiver, Frame::Ok),
        (Sender, Frame::Bye),
    ];
    assert!(walk(&others).unwrap().has_ended());
}

#[test]
fn what_was_not_announced_or_not_asked_for_is_refused() {
    let full = |rest: &[(Side, Frame)]| {
        let mut steps = vec![
            (Sender, offer(Shape::Full, 5, 3, 7)),
            (Sender, data(5)),
            (Receiver, need(3, &[0, 2])),
        ];
        steps.extend_from_slice(rest);
        walk(&steps).unwrap_err()
    };
    insta::assert_snapshot!(full(&[(Sender, data(1))]), @"the sender sent data while the session was between files");
    insta::assert_snapshot!(full(&[(Sender, file(1, 1))]), @"the sender sent file while the session was between files: it is not the next file that was asked for");
    insta::assert_snapshot!(full(&[(Sender, file(0, 1)), (Sender, data(2))]), @"the sender sent data while the session was receiving a file: there are more bytes than were announced");
    insta::assert_snapshot!(full(&[(Sender, file(0, 1)), (Sender, file(2, 1))]), @"the sender sent file while the session was receiving a file");
    insta::assert_snapshot!(full(&[(Sender, file(0, 0)), (Sender, file(0, 0))]), @"the sender sent file while the session was between files: it is not the next file that was asked for");
    insta::assert_snapshot!(full(&[(Sender, file(0, 0)), (Sender, Frame::Publish)]), @"the sender sent publish while the session was between files");
    insta::assert_snapshot!(full(&[(Receiver, need(3, &[1]))]), @"the receiver sent need while the session was between files");
    insta::assert_snapshot!(full(&[(Receiver, published())]), @"the receiver sent published while the session was between files");
    let start = |steps: &[(Side, Frame)]| walk(steps).unwrap_err();
    insta::assert_snapshot!(start(&[(Sender, hello())]), @"the sender sent hello while the session was idle");
    insta::assert_snapshot!(start(&[(Sender, offer(Shape::Full, 0, 0, 0))]), @"the sender sent offer while the session was idle: the manifest's length is out of range");
    insta::assert_snapshot!(start(&[(Sender, offer(Shape::Full, 65 << 20, 0, 0))]), @"the sender sent offer while the session was idle: the manifest's length is out of range");
    insta::assert_snapshot!(start(&[(Sender, offer(Shape::Full, 1, u32::MAX, 0))]), @"the sender sent offer while the session was idle: there are too many files");
    insta::assert_snapshot!(start(&[(Sender, offer(Shape::Batch, 1, 0, 1 << 40))]), @"the sender sent offer while the session was idle: the batch has files or too long a payload");
    insta::assert_snapshot!(start(&[(Sender, offer(Shape::Full, 5, 3, 7)), (Sender, data(6))]), @"the sender sent data while the session was receiving a manifest: there are more bytes than were announced");
    insta::assert_snapshot!(start(&[(Sender, offer(Shape::Full, 5, 3, 7)), (Sender, data(5)), (Receiver, need(9, &[0]))]), @"the receiver sent need while the session was deciding what is needed: it is not of the list's length");
    insta::assert_snapshot!(start(&[(Sender, Frame::Bye), (Sender, Frame::Publish)]), @"the sender sent publish while the session was ended");
}

#[test]
fn a_refusal_may_come_at_any_time_and_ends_the_session() {
    let steps = [
        (Sender, offer(Shape::Full, 5, 3, 7)),
        (Sender, data(5)),
        (Receiver, need(3, &[0, 2])),
        (Sender, file(0, 5)),
        (Sender, data(5)),
    ];
    for length in 0..=steps.len() {
        let mut session = walk(steps.get(..length).unwrap()).unwrap();
        session.step(Receiver, &refuse()).unwrap();
        assert!(session.has_ended());
        assert!(session.step(Receiver, &refuse()).is_err());
    }
    assert!(walk(&[(Sender, refuse())]).is_err());
}

proptest! {
    /// However the steps fall: no panic, an error ends the session, and a published generation had
    /// every file that was asked for.
    #[test]
    fn no_order_of_frames_publishes_what_did_not_arrive(choices in prop::collection::vec(0_usize..12, 0..40)) {
        let frames = [
            (Sender, offer(Shape::Full, 1, 2, 2)), (Sender, data(1)), (Receiver, need(2, &[0, 1])),
            (Sender, file(0, 1)), (Sender, file(1, 1)), (Sender, Frame::Publish), (Receiver, published()),
            (Sender, Frame::Bye), (Receiver, refuse()), (Sender, offer(Shape::Batch, 1, 0, 1)),
            (Receiver, Frame::Need(Need::Already)), (Sender, Frame::Heartbeat(vec![])),
        ];
        let mut session = walk(&[]).unwrap();
        let mut bytes = 0;
        let mut expected = 0;
        for choice in choices {
            let (side, frame) = &frames[choice];
            match session.step(*side, frame) {
                Err(_) => {
                    prop_assert!(session.has_ended());
                    break;
                }
                Ok(()) => match frame {
                    Frame::Offer(offer) => {
                        bytes = 0;
                        expected = 1 + offer.payload_bytes;
                    }
                    Frame::Data(_) => bytes += 1,
                    Frame::Published(_) => prop_assert_eq!(bytes, expected),
                    _ => {}
                },
            }
        }
    }
}
