//! Counts once more what an automaton lets pass.

use std::collections::{BTreeMap, VecDeque};

use pefo_transport::frame::Frame;
use pefo_transport::message::{AnswerHead, Ask, Capabilities, Need, Offer, Shape};
use pefo_transport::tree::message::EntriesHead;

/// What has been announced, asked for, and said.
#[derive(Default)]
pub(super) struct Count {
    /// What Data frames belong to.
    pouring: Pouring,
    offer: Option<Offer>,
    list: Option<EntriesHead>,
    list_bytes: Vec<u8>,
    /// How many files can be asked for.
    files: u32,
    asks: BTreeMap<u32, Ask>,
    signature_bytes: u64,
    /// Files to be sent; `None` before that is known.
    queue: Option<VecDeque<u32>>,
}

/// A run of Data frames.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
enum Pouring {
    #[default]
    Nothing,
    Document(u64),
    Payload(u64),
    List(u64),
    Signature(u64),
    Content(u64),
    Answer(u64),
    /// To the next End.
    Delta,
}

impl Pouring {
    const fn left(&mut self) -> Option<&mut u64> {
        match self {
            Self::Nothing | Self::Delta => None,
            Self::Document(left)
            | Self::Payload(left)
            | Self::List(left)
            | Self::Signature(left)
            | Self::Content(left)
            | Self::Answer(left) => Some(left),
        }
    }
}

impl Count {
    /// The bytes of entries, as soon as they are all here.
    pub(super) fn listed(&mut self) -> Option<Vec<u8>> {
        if self.pouring != Pouring::List(0) {
            return None;
        }
        self.pouring = Pouring::Nothing;
        Some(std::mem::take(&mut self.list_bytes))
    }

    /// How many entries there are said to be.
    pub(super) fn entries(&self) -> u32 {
        self.list.map_or(0, |head| head.entries)
    }

    /// These of the entries are files.
    pub(super) fn files(&mut self, files: Vec<u32>) {
        let Some(head) = self.list else { return };
        self.files = head.entries;
        if head.eager {
            self.queue = Some(files.into());
        }
    }

    pub(super) fn count(&mut self, frame: &Frame, agreed: Capabilities) {
        if let Frame::Data(bytes) = frame {
            return self.pour(bytes, agreed);
        }
        let ends_early = matches!(frame, Frame::Refuse(_) | Frame::Abandon | Frame::End);
        let left = self.pouring.left().map_or(0, |left| *left);
        assert!(ends_early || (left == 0 && self.pouring != Pouring::Delta));
        let before = std::mem::take(&mut self.pouring);
        match frame {
            Frame::Offer(offer) => {
                assert!(offer.document_bytes > 0);
                *self = Self {
                    pouring: Pouring::Document(offer.document_bytes),
                    offer: Some(offer.clone()),
                    ..Self::default()
                };
            }
            Frame::Entries(head) => {
                *self = Self {
                    pouring: Pouring::List(head.bytes),
                    list: Some(*head),
                    ..Self::default()
                };
            }
            Frame::Ask(ask) => self.ask(ask),
            Frame::Need(Need::Files(wanted)) => {
                let wanted: VecDeque<u32> = wanted.indices().collect();
                assert!(self.queue.is_none(), "it was said before what is needed");
                assert!(wanted.iter().all(|index| *index < self.files));
                assert!(self.asks.keys().all(|index| wanted.contains(index)));
                self.queue = Some(wanted);
            }
            Frame::File(head) => {
                self.next_is(head.index);
                self.pouring = Pouring::Content(head.size);
            }
            Frame::Delta(head) => {
                self.next_is(head.index);
                let ask = self.asks.get(&head.index);
                assert!(ask.is_some_and(|ask| ask.signature_bytes > 0));
                self.pouring = Pouring::Delta;
            }
            Frame::End => assert_eq!(before, Pouring::Delta),
            Frame::Skip(index) => self.next_is(*index),
            Frame::Publish | Frame::Commit(_) => {
                let all = self.queue.as_ref().is_none_or(VecDeque::is_empty);
                assert!(all, "files are missing");
                let is_eager = self
                    .offer
                    .as_ref()
                    .is_some_and(|offer| offer.form == Shape::Batch && !offer.is_asked(agreed));
                assert!(is_eager || self.queue.is_some(), "nothing was decided");
            }
            Frame::Abandon => {
                assert!(self.queue.is_some() && agreed.ask || self.list.is_some());
            }
            Frame::Answer(head) => {
                assert!(head.bytes <= AnswerHead::MAX_BYTES);
                self.pouring = Pouring::Answer(head.bytes);
            }
            _ => {}
        }
    }

    fn pour(&mut self, bytes: &[u8], agreed: Capabilities) {
        if let Some(left) = self.pouring.left() {
            let Some(less) = left.checked_sub(bytes.len() as u64) else {
                panic!("more bytes were let pass than were announced");
            };
            *left = less;
        }
        match (self.pouring, &self.offer) {
            (Pouring::Nothing, _) => panic!("no bytes were announced"),
            (Pouring::List(_), _) => self.list_bytes.extend_from_slice(bytes),
            (Pouring::Document(0), Some(offer)) => match offer.form {
                Shape::Full => self.files = offer.files,
                Shape::Batch if offer.is_asked(agreed) => self.files = 1,
                Shape::Batch => self.pouring = Pouring::Payload(offer.payload_bytes),
            },
            _ => {}
        }
    }

    fn ask(&mut self, ask: &Ask) {
        assert!(self.queue.is_none() && ask.index < self.files);
        let last = self.asks.last_key_value().map(|(index, _)| *index);
        assert!(last.is_none_or(|last| last < ask.index), "out of order");
        self.signature_bytes += ask.signature_bytes;
        assert!(self.signature_bytes <= Ask::MAX_SIGNATURE_BYTES);
        self.asks.insert(ask.index, *ask);
        assert!(self.asks.len() <= Ask::MAX_ASKS);
        self.pouring = Pouring::Signature(ask.signature_bytes);
    }

    fn next_is(&mut self, index: u32) {
        let next = self.queue.as_mut().and_then(VecDeque::pop_front);
        assert_eq!(next, Some(index), "it was not its turn");
    }
}
