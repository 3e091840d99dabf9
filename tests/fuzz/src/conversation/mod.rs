//! Frames, and conversations made of them.

mod count;

use pefo_core::Error;
use pefo_transport::frame::{self, Frame, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use pefo_transport::message::Capabilities;
use pefo_transport::session::{Session, Side};
use pefo_transport::tree::entry::{self, Entry};
use pefo_transport::tree::session::TreeSession;

use count::Count;

/// What defaults may add to a body that left them out, in bytes.
const ADDED_BYTES: usize = 64;
/// A Data frame whose payload is compressed has this flag.
const FLAG_ZSTD: u8 = 1;

/// Input: frames, one after the other, as both sides say them.
///
/// Each frame ends where its header says, within the cap; before that there is none, and what follows
/// makes no difference. Encoded again it is the same frame, and the very same bytes where its body is
/// neither JSON nor compressed. A refusal stays one whatever follows, and can be shown on a terminal.
/// What was not agreed in the greetings is refused.
///
/// The frames are said to the automaton of a session of generations, or of a tree, by the side that may
/// say them; never may both. What the automaton lets pass is counted once more: never more bytes than
/// were announced, never a file that was not asked for or a delta without a signature, and Publish and
/// Commit only when all is there. Entries of a tree are read, and are what they are written as again.
pub fn frame(data: &[u8]) {
    converse(data);
}

/// Tells how many frames the automata let pass, and how many bytes were left when the input ended.
fn converse(data: &[u8]) -> (usize, usize) {
    let mut rest = data;
    let mut talk = Talk::new();
    let mut passed = 0;
    loop {
        match frame::decode_agreed(rest, talk.agreed) {
            Ok(Some((frame, used))) => {
                assert!(used <= rest.len() && used <= HEADER_BYTES + MAX_PAYLOAD_BYTES);
                let (bytes, after) = rest.split_at(used);
                assert_boundaries(bytes, &frame, talk.agreed);
                assert_encodes(bytes, &frame, talk.agreed);
                passed += usize::from(talk.say(&frame));
                rest = after;
            }
            Ok(None) => {
                let announced = rest.first_chunk().map(|length| u32::from_le_bytes(*length));
                let announced = announced.filter(|_| rest.len() >= HEADER_BYTES);
                let needed = HEADER_BYTES + announced.unwrap_or(0) as usize;
                assert!(rest.len() < needed && needed <= HEADER_BYTES + MAX_PAYLOAD_BYTES);
                return (passed, rest.len());
            }
            Err(error) => {
                assert!(frame::decode_agreed(&[rest, &[0]].concat(), talk.agreed).is_err());
                assert_can_be_shown(&Error::from(error));
                return (passed, rest.len());
            }
        }
    }
}

fn assert_boundaries(bytes: &[u8], frame: &Frame, agreed: Capabilities) {
    let alone = frame::decode_agreed(bytes, agreed);
    assert!(matches!(alone, Ok(Some((again, used))) if again == *frame && used == bytes.len()));
    for cut in [0, HEADER_BYTES - 1, bytes.len() - 1] {
        assert!(matches!(
            frame::decode_agreed(&bytes[..cut], agreed),
            Ok(None)
        ));
    }
    // The base of the protocol is the same whatever was agreed.
    match frame::decode(bytes) {
        Ok(Some((base, _))) => assert_eq!(base, *frame),
        Ok(None) => panic!("a frame that was whole is not"),
        Err(_) => assert!(agreed != Capabilities::NONE),
    }
}

fn assert_encodes(bytes: &[u8], frame: &Frame, agreed: Capabilities) {
    let mut encoded = vec![1, 2, 3];
    if frame::encode(frame, &mut encoded).is_err() {
        assert_eq!(encoded, [1, 2, 3], "a frame that does not fit left bytes");
        assert!(bytes.len() + ADDED_BYTES > MAX_PAYLOAD_BYTES);
        return;
    }
    let encoded = &encoded[3..];
    let again = frame::decode_agreed(encoded, agreed);
    assert!(matches!(again, Ok(Some((again, used))) if again == *frame && used == encoded.len()));
    if !is_json(frame) && bytes[5] & FLAG_ZSTD == 0 {
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
            | Frame::AnswerQuery(_)
            | Frame::Answer(_)
            | Frame::Open(_)
            | Frame::Opened(_)
            | Frame::Entries(_)
            | Frame::Commit(_)
            | Frame::Committed(_)
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

/// Who may say it, ever; `None` where either may, at different times.
const fn speaker(frame: &Frame) -> Option<Side> {
    match frame {
        Frame::Data(_) => None,
        Frame::Hello(_)
        | Frame::Bye
        | Frame::Offer(_)
        | Frame::File(_)
        | Frame::Publish
        | Frame::Acks(_)
        | Frame::Heartbeat(_)
        | Frame::Ping
        | Frame::Delta(_)
        | Frame::End
        | Frame::Abandon
        | Frame::Skip(_)
        | Frame::Request(_)
        | Frame::AnswerQuery(_)
        | Frame::Notice(_)
        | Frame::Open(_)
        | Frame::Summary(_)
        | Frame::Entries(_)
        | Frame::Commit(_) => Some(Side::Sender),
        Frame::Welcome(_)
        | Frame::Refuse(_)
        | Frame::Ok
        | Frame::Need(_)
        | Frame::Published(_)
        | Frame::AckSet(_)
        | Frame::Ask(_)
        | Frame::Answer(_)
        | Frame::Opened(_)
        | Frame::Differs(_)
        | Frame::Committed(_) => Some(Side::Receiver),
    }
}

/// A session of either kind.
#[derive(Clone)]
enum Automaton {
    Generations(Session),
    Tree(TreeSession),
}

impl Automaton {
    fn step(&mut self, side: Side, frame: &Frame) -> bool {
        match self {
            Self::Generations(session) => session.step(side, frame).is_ok(),
            Self::Tree(session) => session.step(side, frame).is_ok(),
        }
    }

    fn has_ended(&self) -> bool {
        match self {
            Self::Generations(session) => session.has_ended(),
            Self::Tree(session) => session.has_ended(),
        }
    }

    fn may_abandon(&self) -> bool {
        match self {
            Self::Generations(session) => session.may_abandon(),
            Self::Tree(session) => session.may_abandon(),
        }
    }
}

/// A conversation, and what was let pass of it.
struct Talk {
    session: Option<Automaton>,
    agreed: Capabilities,
    /// What the sender has named in its greeting.
    named: Capabilities,
    count: Count,
}

impl Talk {
    fn new() -> Self {
        // A receiver of trees knows their frames from the first one on.
        let mut agreed = Capabilities::NONE;
        agreed.tree = true;
        Self {
            session: None,
            agreed,
            named: Capabilities::NONE,
            count: Count::default(),
        }
    }

    /// Tells whether it was let pass.
    fn say(&mut self, frame: &Frame) -> bool {
        let session = self.session.get_or_insert_with(|| match frame {
            Frame::Open(_) => Automaton::Tree(TreeSession::new()),
            _ => Automaton::Generations(Session::new()),
        });
        let before = session.clone();
        let taken = [Side::Sender, Side::Receiver].map(|side| {
            let mut said = session.clone();
            let taken = said.step(side, frame);
            assert!(taken || said.has_ended());
            assert!(!taken || speaker(frame).is_none_or(|speaker| speaker == side));
            taken.then_some(said)
        });
        match taken {
            [Some(_), Some(_)] => panic!("both sides may say {}", frame.name()),
            [Some(said), None] | [None, Some(said)] => *session = said,
            // What comes next may be the beginning of another conversation.
            [None, None] => {
                *self = Self::new();
                return false;
            }
        }
        if *frame == Frame::Abandon {
            assert!(before.may_abandon());
        }
        self.greet(frame);
        self.count.count(frame, self.agreed);
        self.list(&before);
        if self.session.as_ref().is_some_and(Automaton::has_ended) {
            *self = Self::new();
        }
        true
    }

    /// Agrees on what both have named.
    fn greet(&mut self, frame: &Frame) {
        match (frame, &mut self.session) {
            (Frame::Hello(hello), _) => {
                self.named = Capabilities::OURS.agree(&hello.capabilities);
                self.agreed = Capabilities::NONE;
            }
            (Frame::Open(open), _) => self.named = Capabilities::TREE.agree(&open.capabilities),
            (Frame::Welcome(welcome), Some(Automaton::Generations(session))) => {
                self.agreed = self.named.agree(&welcome.capabilities);
                session.agree(self.agreed);
            }
            (Frame::Opened(opened), _) => self.agreed = self.named.agree(&opened.capabilities),
            _ => {}
        }
    }

    /// Reads the entries of a tree as soon as they are all here.
    fn list(&mut self, before: &Automaton) {
        let Some(Automaton::Tree(session)) = &mut self.session else {
            return;
        };
        let Automaton::Tree(before) = before else {
            return;
        };
        if let Some(bytes) = self.count.listed()
            && (before.awaits_entries() || bytes.is_empty())
        {
            assert!(!session.awaits_entries());
            match read_entries(&bytes, self.count.entries()) {
                Some(files) => {
                    session.listed(files.iter().copied());
                    self.count.files(files);
                }
                None => *self = Self::new(),
            }
        }
    }
}

/// The places of files among entries, where the bytes are entries.
fn read_entries(bytes: &[u8], count: u32) -> Option<Vec<u32>> {
    let entries = entry::parse(bytes, count).ok()?;
    assert_eq!(entries.len() as u64, u64::from(count));
    assert!(entries.windows(2).all(|pair| pair[0].path < pair[1].path));
    assert!(entry::parse(bytes, count + 1).is_err());
    assert!(count == 0 || entry::parse(bytes, count - 1).is_err());
    let mut written = Vec::new();
    for Entry { path, node } in &entries {
        entry::write(path, node.as_ref(), &mut written);
    }
    assert!(written == bytes, "entries have two spellings");
    if let Some(Entry { path, node }) = entries.last() {
        // The last one twice.
        entry::write(path, node.as_ref(), &mut written);
        assert!(entry::parse(&written, count + 1).is_err());
    }
    let is_file = |entry: &Entry| {
        entry
            .node
            .as_ref()
            .is_some_and(|node| node.file().is_some())
    };
    let places = (0_u32..).zip(&entries);
    Some(
        places
            .filter(|(_, entry)| is_file(entry))
            .map(|(place, _)| place)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_whole_conversations() {
        let mut passed = Vec::new();
        for seed in crate::seeds::all().unwrap() {
            let (count, left) = converse(&seed.bytes);
            if seed.target == "frame" && left == 0 {
                passed.push((seed.name, count));
            }
        }
        let expected = [
            ("asked-push", 19),
            ("requests", 10),
            ("compressed", 4),
            ("tree", 21),
            ("full-push", 13),
            ("already", 6),
            ("batch-push", 8),
            ("acks-and-heartbeat", 7),
            ("refused", 3),
        ];
        assert_eq!(passed, expected);
    }
}
