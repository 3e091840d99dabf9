//! Bytes to frames and back, without I/O.
//!
//! Each side first sends [`PREAMBLE`]. Then come frames: a header of eight bytes, little-endian
//! (`u32` payload length, `u8` type, `u8` flags, `u16` channel), and the payload. [`decode`] takes any
//! bytes at all and gives a frame, asks for more, or refuses; it never allocates more than a payload
//! may be long. Types, flags and channels that no capability has opened are refused, so that adding
//! one later can't be misread by this version.

use pefo_core::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{
    AckSet, AcksQuery, FileHead, Hello, HelloHead, Need, Offer, Protocols, Published, Refuse,
    Wanted, Welcome,
};

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
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const WELCOME: u8 = 2;
    pub(super) const REFUSE: u8 = 3;
    pub(super) const BYE: u8 = 4;
    pub(super) const OK: u8 = 5;
    pub(super) const OFFER: u8 = 16;
    pub(super) const DATA: u8 = 17;
    pub(super) const NEED: u8 = 18;
    pub(super) const FILE: u8 = 19;
    pub(super) const PUBLISH: u8 = 20;
    pub(super) const PUBLISHED: u8 = 21;
    pub(super) const ACKS: u8 = 32;
    pub(super) const ACK_SET: u8 = 33;
    pub(super) const HEARTBEAT: u8 = 34;
}

const NEED_ALREADY: u8 = 0;
const NEED_FILES: u8 = 1;

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
    /// Flags or channel are set that no capability has opened.
    #[error("frame type {kind} has flags {flags:#04x} on channel {channel}, which were not agreed")]
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

/// The frame at the beginning of `bytes` and how many bytes it takes; `None` where more bytes are
/// needed.
///
/// # Errors
/// Where no further bytes can make a frame of it.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>, FrameError> {
    let Some((length, kind)) = header(bytes)? else {
        return Ok(None);
    };
    let end = HEADER_BYTES + length;
    match bytes.get(HEADER_BYTES..end) {
        None => Ok(None),
        Some(payload) => Ok(Some((body(kind, payload)?, end))),
    }
}

/// Payload length and type, as soon as the header is there.
fn header(bytes: &[u8]) -> Result<Option<(usize, u8)>, FrameError> {
    let Some(&[a, b, c, d, kind, flags, e, f]) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes([a, b, c, d]);
    let channel = u16::from_le_bytes([e, f]);
    let length = match usize::try_from(length) {
        Ok(length) if length <= MAX_PAYLOAD_BYTES => length,
        _ => return Err(FrameError::TooLong(length.into())),
    };
    if flags != 0 || channel != 0 {
        return Err(FrameError::NotAgreed {
            kind,
            flags,
            channel,
        });
    }
    match kind {
        kind::HELLO..=kind::OK | kind::OFFER..=kind::PUBLISHED | kind::ACKS..=kind::HEARTBEAT => {
            Ok(Some((length, kind)))
        }
        _ => Err(FrameError::UnknownType(kind)),
    }
}

fn body(kind: u8, payload: &[u8]) -> Result<Frame, FrameError> {
    Ok(match kind {
        kind::HELLO => {
            // Read what every version can read first: a newer hello need not parse here to be told
            // what is wrong with it.
            let head: HelloHead = json("hello", payload)?;
            if Protocols::OURS.common(head.protocol).is_none() {
                return Err(FrameError::Version {
                    tool: head.tool,
                    theirs: head.protocol,
                });
            }
            Frame::Hello(json("hello", payload)?)
        }
        kind::WELCOME => Frame::Welcome(json("welcome", payload)?),
        kind::REFUSE => Frame::Refuse(json("refuse", payload)?),
        kind::BYE => empty("bye", payload, Frame::Bye)?,
        kind::OK => empty("ok", payload, Frame::Ok)?,
        kind::OFFER => Frame::Offer(json("offer", payload)?),
        kind::DATA if payload.is_empty() => return Err(malformed("data", "it is empty")),
        kind::DATA => Frame::Data(payload.to_vec()),
        kind::NEED => Frame::Need(need(payload)?),
        kind::FILE => Frame::File(file(payload)?),
        kind::PUBLISH => empty("publish", payload, Frame::Publish)?,
        kind::PUBLISHED => Frame::Published(json("published", payload)?),
        kind::ACKS => {
            let query: AcksQuery = json("acks", payload)?;
            if query.datasets.len() > AcksQuery::MAX {
                return Err(malformed("acks", "too many data sets"));
            }
            Frame::Acks(query)
        }
        kind::ACK_SET => Frame::AckSet(json("ack set", payload)?),
        kind::HEARTBEAT => Frame::Heartbeat(payload.to_vec()),
        other => return Err(FrameError::UnknownType(other)),
    })
}

fn malformed(frame: &'static str, why: impl ToString) -> FrameError {
    FrameError::Body {
        frame,
        why: why.to_string(),
    }
}

fn json<T: DeserializeOwned>(frame: &'static str, payload: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(|error| malformed(frame, error))
}

fn empty(frame: &'static str, payload: &[u8], value: Frame) -> Result<Frame, FrameError> {
    if payload.is_empty() {
        Ok(value)
    } else {
        Err(malformed(frame, "it is not empty"))
    }
}

fn need(payload: &[u8]) -> Result<Need, FrameError> {
    match payload.split_first() {
        Some((&NEED_ALREADY, [])) => Ok(Need::Already),
        Some((&NEED_FILES, bits)) => Ok(Need::Files(Wanted::from_bits(bits.to_vec()))),
        _ => Err(malformed("need", "it is neither 'already' nor a list")),
    }
}

fn file(payload: &[u8]) -> Result<FileHead, FrameError> {
    let parts = payload
        .split_first_chunk::<4>()
        .and_then(|(index, size)| Some((*index, size.try_into().ok()?)));
    match parts {
        Some((index, size)) => Ok(FileHead {
            index: u32::from_le_bytes(index),
            size: u64::from_le_bytes(size),
        }),
        None => Err(malformed("file", "it is not 12 bytes long")),
    }
}

/// Appends a frame's bytes to `out`.
///
/// # Errors
/// Where the frame's body would be over the cap, or a Data frame empty; `out` is then as it was.
pub fn encode(frame: &Frame, out: &mut Vec<u8>) -> Result<(), FrameError> {
    match frame {
        Frame::Hello(hello) => encode_json(kind::HELLO, "hello", hello, out),
        Frame::Welcome(welcome) => encode_json(kind::WELCOME, "welcome", welcome, out),
        Frame::Refuse(refuse) => encode_json(kind::REFUSE, "refuse", refuse, out),
        Frame::Bye => put(kind::BYE, &[], out),
        Frame::Ok => put(kind::OK, &[], out),
        Frame::Offer(offer) => encode_json(kind::OFFER, "offer", offer, out),
        Frame::Data(bytes) if bytes.is_empty() => Err(malformed("data", "it is empty")),
        Frame::Data(bytes) => put(kind::DATA, bytes, out),
        Frame::Need(Need::Already) => put(kind::NEED, &[NEED_ALREADY], out),
        Frame::Need(Need::Files(wanted)) => {
            let mut payload = vec![NEED_FILES];
            payload.extend_from_slice(wanted.bits());
            put(kind::NEED, &payload, out)
        }
        Frame::File(FileHead { index, size }) => {
            let mut payload = index.to_le_bytes().to_vec();
            payload.extend_from_slice(&size.to_le_bytes());
            put(kind::FILE, &payload, out)
        }
        Frame::Publish => put(kind::PUBLISH, &[], out),
        Frame::Published(published) => encode_json(kind::PUBLISHED, "published", published, out),
        Frame::Acks(query) => encode_json(kind::ACKS, "acks", query, out),
        Frame::AckSet(set) => encode_json(kind::ACK_SET, "ack set", set, out),
        Frame::Heartbeat(document) => put(kind::HEARTBEAT, document, out),
    }
}

fn encode_json<T: Serialize>(
    kind: u8,
    frame: &'static str,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let payload = serde_json::to_vec(value).map_err(|error| malformed(frame, error))?;
    put(kind, &payload, out)
}

fn put(kind: u8, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MAX_PAYLOAD_BYTES => length,
        _ => return Err(FrameError::TooLong(payload.len() as u64)),
    };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[kind, 0, 0, 0]);
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
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
