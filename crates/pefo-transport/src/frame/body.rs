//! Payloads: from a type and bytes to a frame and back.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Frame, FrameError, encode_data, kind, put};
use crate::message::{AcksQuery, Ask, FileHead, HelloHead, Need, Protocols, Wanted};
use crate::tree::message::{Differs, Summary};

const NEED_ALREADY: u8 = 0;
const NEED_FILES: u8 = 1;

pub(super) fn decode(kind: u8, payload: &[u8]) -> Result<Frame, FrameError> {
    Ok(match kind {
        kind::HELLO => {
            // Read what every version can read first: a newer hello need not parse here to be told
            // what is wrong with it.
            let head: HelloHead = json("hello", payload)?;
            meet(&head.tool, head.protocol)?;
            Frame::Hello(json("hello", payload)?)
        }
        kind::WELCOME => Frame::Welcome(json("welcome", payload)?),
        kind::REFUSE => Frame::Refuse(json("refuse", payload)?),
        kind::BYE => empty("bye", payload, Frame::Bye)?,
        kind::OK => empty("ok", payload, Frame::Ok)?,
        kind::PING => empty("ping", payload, Frame::Ping)?,
        kind::OFFER => Frame::Offer(json("offer", payload)?),
        kind::DATA if payload.is_empty() => return Err(malformed("data", "it is empty")),
        kind::DATA => Frame::Data(payload.to_vec()),
        kind::NEED => Frame::Need(need(payload)?),
        kind::FILE => Frame::File(file("file", payload)?),
        kind::PUBLISH => empty("publish", payload, Frame::Publish)?,
        kind::PUBLISHED => Frame::Published(json("published", payload)?),
        kind::ASK => Frame::Ask(ask(payload)?),
        kind::DELTA => Frame::Delta(file("delta", payload)?),
        kind::END => empty("end", payload, Frame::End)?,
        kind::ABANDON => empty("abandon", payload, Frame::Abandon)?,
        kind::SKIP => match payload.try_into() {
            Ok(index) => Frame::Skip(u32::from_le_bytes(index)),
            Err(_) => return Err(malformed("skip", "it is not 4 bytes long")),
        },
        kind::ACKS => {
            let query: AcksQuery = json("acks", payload)?;
            if query.datasets.len() > AcksQuery::MAX {
                return Err(malformed("acks", "too many data sets"));
            }
            Frame::Acks(query)
        }
        kind::ACK_SET => Frame::AckSet(json("ack set", payload)?),
        kind::HEARTBEAT => Frame::Heartbeat(payload.to_vec()),
        kind::REQUEST => Frame::Request(payload.to_vec()),
        kind::ANSWER_QUERY => Frame::AnswerQuery(json("answer query", payload)?),
        kind::ANSWER => Frame::Answer(json("answer", payload)?),
        kind::NOTICE => Frame::Notice(payload.to_vec()),
        kind::OPEN => {
            let head: HelloHead = json("open", payload)?;
            meet(&head.tool, head.protocol)?;
            Frame::Open(json("open", payload)?)
        }
        kind::OPENED => Frame::Opened(json("opened", payload)?),
        kind::SUMMARY => {
            Frame::Summary(Summary::from_bytes(payload).map_err(|why| malformed("summary", why))?)
        }
        kind::DIFFERS => {
            Frame::Differs(Differs::from_bytes(payload).map_err(|why| malformed("differs", why))?)
        }
        kind::ENTRIES => Frame::Entries(json("entries", payload)?),
        kind::COMMIT => Frame::Commit(json("commit", payload)?),
        kind::COMMITTED => Frame::Committed(json("committed", payload)?),
        other => return Err(FrameError::UnknownType(other)),
    })
}

fn meet(tool: &str, theirs: Protocols) -> Result<(), FrameError> {
    match Protocols::OURS.common(theirs) {
        Some(_) => Ok(()),
        None => Err(FrameError::Version {
            tool: tool.to_owned(),
            theirs,
        }),
    }
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

fn file(frame: &'static str, payload: &[u8]) -> Result<FileHead, FrameError> {
    let parts = payload
        .split_first_chunk::<4>()
        .and_then(|(index, size)| Some((*index, size.try_into().ok()?)));
    match parts {
        Some((index, size)) => Ok(FileHead {
            index: u32::from_le_bytes(index),
            size: u64::from_le_bytes(size),
        }),
        None => Err(malformed(frame, "it is not 12 bytes long")),
    }
}

fn ask(payload: &[u8]) -> Result<Ask, FrameError> {
    let parts = payload.split_first_chunk::<4>().and_then(|(index, rest)| {
        let (from, signature) = rest.split_first_chunk::<8>()?;
        Some((*index, *from, signature.try_into().ok()?))
    });
    match parts {
        Some((index, from, signature)) => Ok(Ask {
            index: u32::from_le_bytes(index),
            from: u64::from_le_bytes(from),
            signature_bytes: u64::from_le_bytes(signature),
        }),
        None => Err(malformed("ask", "it is not 20 bytes long")),
    }
}

pub(super) fn encode(frame: &Frame, out: &mut Vec<u8>) -> Result<(), FrameError> {
    match frame {
        Frame::Hello(hello) => encode_json(kind::HELLO, "hello", hello, out),
        Frame::Welcome(welcome) => encode_json(kind::WELCOME, "welcome", welcome, out),
        Frame::Refuse(refuse) => encode_json(kind::REFUSE, "refuse", refuse, out),
        Frame::Bye => put(kind::BYE, 0, &[], out),
        Frame::Ok => put(kind::OK, 0, &[], out),
        Frame::Ping => put(kind::PING, 0, &[], out),
        Frame::Offer(offer) => encode_json(kind::OFFER, "offer", offer, out),
        Frame::Data(bytes) => encode_data(bytes, out),
        Frame::Need(Need::Already) => put(kind::NEED, 0, &[NEED_ALREADY], out),
        Frame::Need(Need::Files(wanted)) => {
            let mut payload = vec![NEED_FILES];
            payload.extend_from_slice(wanted.bits());
            put(kind::NEED, 0, &payload, out)
        }
        Frame::File(head) => put(kind::FILE, 0, &head_bytes(*head), out),
        Frame::Delta(head) => put(kind::DELTA, 0, &head_bytes(*head), out),
        Frame::Publish => put(kind::PUBLISH, 0, &[], out),
        Frame::Published(published) => encode_json(kind::PUBLISHED, "published", published, out),
        Frame::Ask(ask) => {
            let mut payload = ask.index.to_le_bytes().to_vec();
            payload.extend_from_slice(&ask.from.to_le_bytes());
            payload.extend_from_slice(&ask.signature_bytes.to_le_bytes());
            put(kind::ASK, 0, &payload, out)
        }
        Frame::End => put(kind::END, 0, &[], out),
        Frame::Abandon => put(kind::ABANDON, 0, &[], out),
        Frame::Skip(index) => put(kind::SKIP, 0, &index.to_le_bytes(), out),
        Frame::Acks(query) => encode_json(kind::ACKS, "acks", query, out),
        Frame::AckSet(set) => encode_json(kind::ACK_SET, "ack set", set, out),
        Frame::Heartbeat(document) => put(kind::HEARTBEAT, 0, document, out),
        Frame::Request(document) => put(kind::REQUEST, 0, document, out),
        Frame::AnswerQuery(query) => encode_json(kind::ANSWER_QUERY, "answer query", query, out),
        Frame::Answer(head) => encode_json(kind::ANSWER, "answer", head, out),
        Frame::Notice(document) => put(kind::NOTICE, 0, document, out),
        Frame::Open(open) => encode_json(kind::OPEN, "open", open, out),
        Frame::Opened(opened) => encode_json(kind::OPENED, "opened", opened, out),
        Frame::Summary(summary) => put(kind::SUMMARY, 0, &summary.to_bytes(), out),
        Frame::Differs(differs) => put(kind::DIFFERS, 0, differs.bits(), out),
        Frame::Entries(head) => encode_json(kind::ENTRIES, "entries", head, out),
        Frame::Commit(commit) => encode_json(kind::COMMIT, "commit", commit, out),
        Frame::Committed(committed) => encode_json(kind::COMMITTED, "committed", committed, out),
    }
}

fn head_bytes(head: FileHead) -> Vec<u8> {
    let mut payload = head.index.to_le_bytes().to_vec();
    payload.extend_from_slice(&head.size.to_le_bytes());
    payload
}

fn encode_json<T: Serialize>(
    kind: u8,
    frame: &'static str,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let payload = serde_json::to_vec(value).map_err(|error| malformed(frame, error))?;
    put(kind, 0, &payload, out)
}
