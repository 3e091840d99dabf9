//! A session against a model that counts for itself, along any legal way of frames.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::EAGER_BATCH_BYTES;
use super::super::tests::{data, file, need, offer, published, refuse, walk_agreed};
use super::tests::{SIGNATURE_BYTES, Steps, answer, delta, query, rest, signed};
use super::*;
use crate::message::{Capabilities, Shape};
use Side::{Receiver, Sender};

/// What was announced and has not arrived, kept apart from the automaton.
#[derive(Debug, Default)]
pub(crate) struct Model {
    sender: u64,
    receiver: u64,
    delta: Option<u64>,
    wanted: BTreeSet<u32>,
    signed: BTreeSet<u32>,
}

impl Model {
    /// These files were announced by the sender of its own accord.
    pub(crate) fn unasked(&mut self, files: &[u32]) {
        self.wanted = files.iter().copied().collect();
    }

    pub(crate) fn announce(&mut self, bytes: u64) {
        self.nothing_is_missing();
        *self = Self {
            sender: bytes,
            ..Self::default()
        };
    }

    pub(crate) fn nothing_is_missing(&self) {
        assert_eq!((self.sender, self.receiver, self.delta), (0, 0, None));
        assert!(self.wanted.is_empty(), "{:?} never came", self.wanted);
    }

    fn is_next(&mut self, index: u32) {
        assert_eq!((self.sender, self.delta), (0, None));
        assert_eq!(self.wanted.pop_first(), Some(index));
    }

    /// The automaton has let this pass; panics where more comes than was announced.
    pub(crate) fn hear(&mut self, side: Side, frame: &Frame) {
        match (side, frame) {
            (Receiver, Frame::Ask(ask)) => {
                assert_eq!(self.receiver, 0);
                self.receiver = ask.signature_bytes;
                if ask.signature_bytes > 0 {
                    self.signed.insert(ask.index);
                }
            }
            (Receiver, Frame::Need(Need::Files(wanted))) => {
                assert_eq!((self.sender, self.receiver), (0, 0));
                self.wanted = wanted.indices().collect();
                assert!(self.wanted.is_superset(&self.signed));
            }
            (Receiver, Frame::Answer(head)) => self.receiver = head.bytes,
            (Sender, Frame::File(head)) => {
                self.is_next(head.index);
                self.sender = head.size;
            }
            (Sender, Frame::Delta(head)) => {
                self.is_next(head.index);
                assert!(self.signed.contains(&head.index));
                self.delta = Some(head.size * 2 + 1024);
            }
            (Sender, Frame::Skip(index)) => self.is_next(*index),
            (Sender, Frame::End) => assert!(self.delta.take().is_some()),
            (side, Frame::Data(bytes)) => {
                let left = match (side, &mut self.delta) {
                    (Sender, Some(delta)) => delta,
                    (Sender, None) => &mut self.sender,
                    (Receiver, _) => &mut self.receiver,
                };
                *left = left
                    .checked_sub(bytes.len() as u64)
                    .expect("no more than was announced");
            }
            (Sender, Frame::Publish | Frame::Commit(_)) => self.nothing_is_missing(),
            (Sender, Frame::Abandon) => *self = Self::default(),
            _ => {}
        }
    }
}

/// What both sides may say while files cross, in and out of turn.
pub(crate) fn crossing() -> Steps {
    let mut steps = vec![
        (Receiver, rest(0, 2)),
        (Receiver, rest(1, 2)),
        (Receiver, signed(0, SIGNATURE_BYTES)),
        (Receiver, signed(1, SIGNATURE_BYTES)),
        (Receiver, need(2, &[])),
        (Receiver, need(2, &[1])),
        (Receiver, need(2, &[0, 1])),
        (Receiver, Frame::Ok),
        (Sender, Frame::End),
        (Sender, Frame::Abandon),
        (Receiver, data(1)),
        (Receiver, data(20)),
        (Receiver, data(SIGNATURE_BYTES as usize)),
        (Sender, data(1)),
        (Sender, data(2)),
        (Sender, data(1025)),
    ];
    for index in [0, 1] {
        for size in [0, 1, 3] {
            steps.push((Sender, file(index, size)));
            steps.push((Sender, delta(index, size)));
        }
        steps.push((Sender, Frame::Skip(index)));
    }
    steps
}

fn alphabet() -> Steps {
    let mut steps = crossing();
    steps.extend([
        (Sender, offer(Shape::Full, 3, 2, 4)),
        (Sender, offer(Shape::Full, 1, 0, 0)),
        (Sender, offer(Shape::Batch, 2, 0, 3)),
        (Sender, offer(Shape::Batch, 2, 0, EAGER_BATCH_BYTES + 1)),
        (Receiver, Frame::Need(Need::Already)),
        (Receiver, need(1, &[0])),
        (Receiver, need(0, &[])),
        (Sender, Frame::Publish),
        (Receiver, published()),
        (Sender, Frame::Ping),
        (Sender, Frame::Request(vec![])),
        (Sender, Frame::Notice(vec![])),
        (Sender, query()),
        (Receiver, answer(0)),
        (Receiver, answer(21)),
    ]);
    steps
}

proptest! {
    /// Whatever legal way a session goes: no more is received than was announced, nothing is published
    /// that did not arrive, a refusal ends it from everywhere, and so does what is not legal.
    #[test]
    fn no_sequence_of_frames_lets_more_be_received_than_was_announced(choices in prop::collection::vec(any::<prop::sample::Index>(), 0..60), ask in any::<bool>()) {
        let agreed = Capabilities { ask, ..Capabilities::OURS };
        let (alphabet, mut model) = (alphabet(), Model::default());
        let mut session = walk_agreed(agreed, &[]).unwrap();
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
                Frame::Offer(offer) if offer.form == Shape::Batch && !offer.is_asked(agreed) => {
                    model.announce(offer.document_bytes + offer.payload_bytes);
                }
                Frame::Offer(offer) => model.announce(offer.document_bytes),
                frame => model.hear(side, frame),
            }
            if session.is_idle() {
                model.nothing_is_missing();
            }
        }
    }

    #[test]
    fn an_honest_delta_is_never_longer_than_one_may_be(base in prop::collection::vec(0_u8..3, 0..3000), more in prop::collection::vec(0_u8..3, 0..3000), cut in any::<prop::sample::Index>(), block in prop_oneof![Just(64_u32), Just(65), Just(700)]) {
        use crate::delta::{self, Seed, SignatureOptions, signature};
        let (head, tail) = base.split_at(cut.index(base.len() + 1));
        let new = [tail, &more, head].concat();
        let options = SignatureOptions::new(Seed([9; 16])).block_bytes(block);
        let (mut signed, mut made) = (Vec::new(), Vec::new());
        signature::write(base.as_slice(), base.len() as u64, &options, &mut signed).unwrap();
        delta::diff(&signature::parse(&signed).unwrap(), new.as_slice(), new.len() as u64, &mut made).unwrap();
        prop_assert!(made.len() as u64 <= most_delta_bytes(new.len() as u64));
    }
}
