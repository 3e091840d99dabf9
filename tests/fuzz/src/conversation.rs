//! Frames, and conversations made of them.

use std::collections::VecDeque;

use pefo_core::Error;
use pefo_transport::frame::{self, Frame, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use pefo_transport::message::{Need, Offer, Shape};
use pefo_transport::session::{Session, Side};

/// What defaults may add to a body that left them out, in bytes.
const ADDED_BYTES: usize = 64;

/// Input: frames, one after the other, as both sides say them.
///
/// Each frame ends where its header says, within the cap; before that there is none, and what follows
/// makes no difference. Encoded again it is the same frame, and the very same bytes where its body is not JSON.
/// A refusal stays one whatever follows, and can be shown on a terminal.
///
/// The frames are said to the automaton, each by the side it belongs to; the other side must not say
/// it. What the automaton lets pass is counted once more: never more bytes than were announced, never a
/// file that was not asked for, and Publish only when all is there.
pub fn frame(data: &[u8]) {
    let mut rest = data;
    let mut talk = Talk::default();
    loop {
        match frame::decode(rest) {
            Ok(Some((frame, used))) => {
                assert!(used <= rest.len() && used <= HEADER_BYTES + MAX_PAYLOAD_BYTES);
                let (bytes, after) = rest.split_at(used);
                assert_boundaries(bytes, &frame);
                assert_encodes(bytes, &frame);
                talk.say(&frame);
                rest = after;
            }
            Ok(None) => {
                let announced = rest.first_chunk().map(|length| u32::from_le_bytes(*length));
                let announced = announced.filter(|_| rest.len() >= HEADER_BYTES);
                let needed = HEADER_BYTES + announced.unwrap_or(0) as usize;
                assert!(rest.len() < needed && needed <= HEADER_BYTES + MAX_PAYLOAD_BYTES);
                return;
            }
            Err(error) => {
                assert!(frame::decode(&[rest, &[0]].concat()).is_err());
                return assert_can_be_shown(&Error::from(error));
            }
        }
    }
}

fn assert_boundaries(bytes: &[u8], frame: &Frame) {
    let alone = frame::decode(bytes);
    assert!(matches!(alone, Ok(Some((again, used))) if again == *frame && used == bytes.len()));
    for cut in [0, HEADER_BYTES - 1, bytes.len() - 1] {
        assert!(matches!(frame::decode(&bytes[..cut]), Ok(None)));
    }
}

fn assert_encodes(bytes: &[u8], frame: &Frame) {
    let mut encoded = vec![1, 2, 3];
    if frame::encode(frame, &mut encoded).is_err() {
        assert_eq!(encoded, [1, 2, 3], "a frame that does not fit left bytes");
        assert!(bytes.len() + ADDED_BYTES > MAX_PAYLOAD_BYTES);
        return;
    }
    let encoded = &encoded[3..];
    let again = frame::decode(encoded);
    assert!(matches!(again, Ok(Some((again, used))) if again == *frame && used == encoded.len()));
    if !is_json(frame) {
        assert!(encoded == bytes, "{} has two spellings", frame.name());
    }
    if let Frame::Refuse(refuse) = frame {
        assert_can_be_shown(&refuse.clone().into_error("b.lab"));
    }
}

const fn is_json(frame: &Frame) -> bool {
    matches!(
        frame,
        Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Refuse(_)
            | Frame::Offer(_)
            | Frame::Published(_)
            | Frame::Acks(_)
            | Frame::AckSet(_)
    )
}

fn assert_can_be_shown(error: &Error) {
    let texts = [
        Some(error.to_string()),
        error.hint_text().map(str::to_owned),
    ];
    for text in texts.iter().flatten() {
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.chars().count() <= 5000, "a text without an end");
    }
}

const fn speaker(frame: &Frame) -> (Side, Side) {
    match frame {
        Frame::Hello(_)
        | Frame::Bye
        | Frame::Offer(_)
        | Frame::Data(_)
        | Frame::File(_)
        | Frame::Publish
        | Frame::Acks(_)
        | Frame::Heartbeat(_) => (Side::Sender, Side::Receiver),
        Frame::Welcome(_)
        | Frame::Refuse(_)
        | Frame::Ok
        | Frame::Need(_)
        | Frame::Published(_)
        | Frame::AckSet(_) => (Side::Receiver, Side::Sender),
    }
}

/// A conversation, and what was let pass of the generation that is being sent.
#[derive(Default)]
struct Talk {
    session: Session,
    sent: Option<Sent>,
}

struct Sent {
    offer: Offer,
    document_bytes: u64,
    /// Files asked for and not sent yet.
    wanted: VecDeque<u32>,
    /// Bytes of the current file, or of the payload, that are to come.
    left: u64,
}

impl Talk {
    fn say(&mut self, frame: &Frame) {
        let (side, other) = speaker(frame);
        let mut wrong = self.session.clone();
        assert!(wrong.step(other, frame).is_err() && wrong.has_ended());
        if self.session.step(side, frame).is_ok() {
            return self.count(frame);
        }
        assert!(self.session.has_ended());
        assert!(self.session.step(side, frame).is_err());
        // What comes next may be the beginning of another conversation.
        *self = Self::default();
    }

    fn count(&mut self, frame: &Frame) {
        match (frame, &mut self.sent) {
            (Frame::Offer(offer), sent) => {
                *sent = Some(Sent {
                    offer: offer.clone(),
                    document_bytes: offer.document_bytes,
                    wanted: VecDeque::new(),
                    left: if offer.form == Shape::Batch {
                        offer.payload_bytes
                    } else {
                        0
                    },
                });
            }
            (Frame::Data(bytes), Some(sent)) => {
                let left = if sent.document_bytes > 0 {
                    &mut sent.document_bytes
                } else {
                    &mut sent.left
                };
                let Some(less) = left.checked_sub(bytes.len() as u64) else {
                    panic!("more bytes were let pass than were announced");
                };
                *left = less;
                assert_eq!(self.session.awaits_document(), sent.document_bytes > 0);
            }
            (Frame::Need(Need::Files(wanted)), Some(sent)) => {
                assert_eq!(sent.document_bytes, 0);
                sent.wanted = wanted.indices().collect();
                assert!(sent.wanted.iter().all(|index| *index < sent.offer.files));
            }
            (Frame::File(head), Some(sent)) => {
                assert_eq!(sent.left, 0, "the file before is not whole");
                assert_eq!(sent.wanted.pop_front(), Some(head.index));
                sent.left = head.size;
            }
            (Frame::Publish, Some(sent)) => {
                assert_eq!((sent.document_bytes, sent.left), (0, 0));
                assert!(sent.wanted.is_empty(), "files are missing");
            }
            (Frame::Data(_) | Frame::Need(_) | Frame::File(_) | Frame::Publish, None) => {
                panic!("nothing was offered");
            }
            _ => {}
        }
    }
}
