//! Bytes to frames and back, without I/O.
//!
//! Each side first sends [`PREAMBLE`]. Then come frames: a header of eight bytes, little-endian
//! (`u32` payload length, `u8` type, `u8` flags, `u16` channel), and the payload. [`decode`] takes any
//! bytes at all and gives a frame, asks for more, or refuses; it never allocates more than a payload
//! may be long, a compressed one included. Types, flags and channels that no capability has opened are
//! refused, so that adding one later can't be misread by this version.

mod body;
pub mod compression;

use pefo_core::Error;

use crate::message::{
    AckSet, AcksQuery, AnswerHead, AnswerQuery, Ask, Capabilities, FileHead, Hello, Need, Offer,
    Protocols, Published, Refuse, Welcome,
};
use crate::tree::message::{Commit, Committed, Differs, EntriesHead, Open, Opened, Summary};

/// The first bytes of each direction. Like PNG's signature it shows at once a line that is not clean
/// for bytes (line ends changed, cut at end-of-file characters), a banner, or a shell.
pub const PREAMBLE: [u8; 8] = *b"PEFO\r\n\x1a\n";
/// Bytes of a header.
pub const HEADER_BYTES: usize = 8;
/// The largest payload, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// How much of a stream a sender puts into one Data frame.
pub const DATA_BYTES: usize = 128 * 1024;

/// What one side says to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Sender: who I am.
    Hello(Hello),
    /// Receiver: who I am; go on.
    Welcome(Welcome),
    /// Receiver: no, and the session ends.
    Refuse(Refuse),
    /// Sender: the session ends.
    Bye,
    /// Receiver: done.
    Ok,
    /// Sender: a generation; its manifest follows.
    Offer(Offer),
    /// Sender: bytes of the manifest, the payload or the file that was announced.
    Data(Vec<u8>),
    /// Receiver: the files it lacks.
    Need(Need),
    /// Sender: a file; its bytes follow.
    File(FileHead),
    /// Sender: that was all; show it.
    Publish,
    /// Receiver: it stands in the spool, durably.
    Published(Published),
    /// Sender: what has been applied?
    Acks(AcksQuery),
    /// Receiver: the signed acks.
    AckSet(AckSet),
    /// Sender: a signed heartbeat.
    Heartbeat(Vec<u8>),
    /// Sender: are you there? (`ping`)
    Ping,
    /// Receiver: how it wants one file; its signature may follow. (`ask`)
    Ask(Ask),
    /// Sender: a file as a delta against what was asked with; its bytes follow, then End. (`ask`)
    Delta(FileHead),
    /// Sender: the delta ends here. (`ask`)
    End,
    /// Sender: forget what was sent of this; nothing of it stays. (`ask`)
    Abandon,
    /// Sender: this file can no longer be had; leave what stands there. (`ask`)
    Skip(u32),
    /// Sender: a signed request to the receiver's root. (`request`)
    Request(Vec<u8>),
    /// Sender: what has root answered? (`request`)
    AnswerQuery(AnswerQuery),
    /// Receiver: the answer, which follows, or that there is none yet. (`request`)
    Answer(AnswerHead),
    /// Sender: a newer reign's signed record. (`request`)
    Notice(Vec<u8>),
    /// Sender: a tree session begins. (tree)
    Open(Open),
    /// Receiver: go on. (tree)
    Opened(Opened),
    /// Sender: the digests of a whole tree. (tree)
    Summary(Summary),
    /// Receiver: where its tree is another. (tree)
    Differs(Differs),
    /// Sender: entries, which follow. (tree)
    Entries(EntriesHead),
    /// Sender: that was all; put it into the tree. (tree)
    Commit(Commit),
    /// Receiver: it stands in the tree, durably. (tree)
    Committed(Committed),
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const WELCOME: u8 = 2;
    pub(super) const REFUSE: u8 = 3;
    pub(super) const BYE: u8 = 4;
    pub(super) const OK: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const OFFER: u8 = 16;
    pub(super) const DATA: u8 = 17;
    pub(super) const NEED: u8 = 18;
    pub(super) const FILE: u8 = 19;
    pub(super) const PUBLISH: u8 = 20;
    pub(super) const PUBLISHED: u8 = 21;
    pub(super) const ASK: u8 = 22;
    pub(super) const DELTA: u8 = 23;
    pub(super) const END: u8 = 24;
    pub(super) const ABANDON: u8 = 25;
    pub(super) const SKIP: u8 = 26;
    pub(super) const ACKS: u8 = 32;
    pub(super) const ACK_SET: u8 = 33;
    pub(super) const HEARTBEAT: u8 = 34;
    pub(super) const REQUEST: u8 = 35;
    pub(super) const ANSWER_QUERY: u8 = 36;
    pub(super) const ANSWER: u8 = 37;
    pub(super) const NOTICE: u8 = 38;
    pub(super) const OPEN: u8 = 64;
    pub(super) const OPENED: u8 = 65;
    pub(super) const SUMMARY: u8 = 66;
    pub(super) const DIFFERS: u8 = 67;
    pub(super) const ENTRIES: u8 = 68;
    pub(super) const COMMIT: u8 = 69;
    pub(super) const COMMITTED: u8 = 70;
}

/// Flag of a Data frame: its payload is one zstd frame.
const FLAG_ZSTD: u8 = 1;

/// Whether the capability that a type needs, if it needs one, was agreed; `None` for unknown types.
const fn is_open(kind: u8, agreed: Capabilities) -> Option<bool> {
    Some(match kind {
        kind::HELLO..=kind::OK | kind::OFFER..=kind::PUBLISHED | kind::ACKS..=kind::HEARTBEAT => {
            true
        }
        kind::PING => agreed.ping,
        kind::ASK..=kind::SKIP => agreed.ask,
        kind::REQUEST..=kind::NOTICE => agreed.request,
        kind::OPEN..=kind::COMMITTED => agreed.tree,
        _ => return None,
    })
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is over the cap.
    #[error("a frame of {0} bytes is longer than {MAX_PAYLOAD_BYTES}")]
    TooLong(u64),
    /// The type is unknown and no capability has opened it.
    #[error("frame type {0} is unknown")]
    UnknownType(u8),
    /// The type, a flag or the channel is one that no agreed capability has opened.
    #[error("frame type {kind} with flags {flags:#04x} on channel {channel} was not agreed")]
    NotAgreed {
        /// The frame's type.
        kind: u8,
        /// Its flags.
        flags: u8,
        /// Its channel.
        channel: u16,
    },
    /// The body is not what the type says.
    #[error("the body of a {frame} frame is malformed: {why}")]
    Body {
        /// The frame's name.
        frame: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The two sides have no protocol in common.
    #[error(
        "no common protocol: {tool} speaks {theirs}, this pefo speaks {}",
        Protocols::OURS
    )]
    Version {
        /// The peer's pefo.
        tool: String,
        /// What it speaks.
        theirs: Protocols,
    },
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        let hint = match &error {
            FrameError::Version { theirs, .. } if theirs.min > Protocols::OURS.max => {
                "upgrade pefo on this host"
            }
            FrameError::Version { .. } => "upgrade pefo on the other master",
            _ => {
                "the two masters may run versions of pefo too far apart, or something else speaks on this line"
            }
        };
        Self::new(
            pefo_core::ErrorKind::Protocol,
            crate::message::plain(&error.to_string()),
        )
        .hint(hint)
        .with_source(error)
    }
}

/// [`decode_agreed`] where no capability was agreed.
///
/// # Errors
/// Where no further bytes can make a frame of it.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>, FrameError> {
    decode_agreed(bytes, Capabilities::NONE)
}

/// The frame at the beginning of `bytes` and how many bytes it takes; `None` where more bytes are
/// needed.
///
/// # Errors
/// Where no further bytes can make a frame of it.
pub fn decode_agreed(
    bytes: &[u8],
    agreed: Capabilities,
) -> Result<Option<(Frame, usize)>, FrameError> {
    let Some(header) = header(bytes, agreed)? else {
        return Ok(None);
    };
    let end = HEADER_BYTES + header.length;
    let Some(payload) = bytes.get(HEADER_BYTES..end) else {
        return Ok(None);
    };
    let frame = if header.zstd {
        Frame::Data(compression::expand(payload)?)
    } else {
        body::decode(header.kind, payload)?
    };
    Ok(Some((frame, end)))
}

struct Header {
    length: usize,
    kind: u8,
    zstd: bool,
}

/// The header, as soon as it is there.
fn header(bytes: &[u8], agreed: Capabilities) -> Result<Option<Header>, FrameError> {
    let Some(&[a, b, c, d, kind, flags, e, f]) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes([a, b, c, d]);
    let channel = u16::from_le_bytes([e, f]);
    let length = match usize::try_from(length) {
        Ok(length) if length <= MAX_PAYLOAD_BYTES => length,
        _ => return Err(FrameError::TooLong(length.into())),
    };
    let open = is_open(kind, agreed).ok_or(FrameError::UnknownType(kind))?;
    let zstd = kind == kind::DATA && flags == FLAG_ZSTD && agreed.zstd;
    if !open || (flags != 0 && !zstd) || channel != 0 {
        return Err(FrameError::NotAgreed {
            kind,
            flags,
            channel,
        });
    }
    Ok(Some(Header { length, kind, zstd }))
}

/// Appends a frame's bytes to `out`.
///
/// # Errors
/// Where the frame's body would be over the cap, or a Data frame empty; `out` is then as it was.
pub fn encode(frame: &Frame, out: &mut Vec<u8>) -> Result<(), FrameError> {
    body::encode(frame, out)
}

/// Appends a Data frame of `bytes`, compressed where that makes it shorter.
///
/// # Errors
/// As [`encode`].
pub fn encode_compressed(
    bytes: &[u8],
    compressor: &mut compression::Compressor,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    match compressor.shorten(bytes) {
        Some(shorter) => put(kind::DATA, FLAG_ZSTD, shorter, out),
        None => encode_data(bytes, out),
    }
}

/// Appends a Data frame of `bytes`.
///
/// # Errors
/// As [`encode`].
pub fn encode_data(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    if bytes.is_empty() {
        return Err(FrameError::Body {
            frame: "data",
            why: "it is empty".to_owned(),
        });
    }
    put(kind::DATA, 0, bytes, out)
}

fn put(kind: u8, flags: u8, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MAX_PAYLOAD_BYTES => length,
        _ => return Err(FrameError::TooLong(payload.len() as u64)),
    };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[kind, flags, 0, 0]);
    out.extend_from_slice(payload);
    Ok(())
}

impl Frame {
    /// The frame's name, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Welcome(_) => "welcome",
            Self::Refuse(_) => "refuse",
            Self::Bye => "bye",
            Self::Ok => "ok",
            Self::Offer(_) => "offer",
            Self::Data(_) => "data",
            Self::Need(_) => "need",
            Self::File(_) => "file",
            Self::Publish => "publish",
            Self::Published(_) => "published",
            Self::Acks(_) => "acks",
            Self::AckSet(_) => "ack set",
            Self::Heartbeat(_) => "heartbeat",
            Self::Ping => "ping",
            Self::Ask(_) => "ask",
            Self::Delta(_) => "delta",
            Self::End => "end",
            Self::Abandon => "abandon",
            Self::Skip(_) => "skip",
            Self::Request(_) => "request",
            Self::AnswerQuery(_) => "answer query",
            Self::Answer(_) => "answer",
            Self::Notice(_) => "notice",
            Self::Open(_) => "open",
            Self::Opened(_) => "opened",
            Self::Summary(_) => "summary",
            Self::Differs(_) => "differs",
            Self::Entries(_) => "entries",
            Self::Commit(_) => "commit",
            Self::Committed(_) => "committed",
        }
    }
}

#[cfg(test)]
#[path = "frame_capability_tests.rs"]
mod capability_tests;
#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
