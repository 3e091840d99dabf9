//! Which frame is legal when, while files cross: the part that sessions of generations and of trees
//! have in common.
//!
//! ```text
//! Deciding ─(ask, data…)…, need(files)→ Files ─(file, data… │ delta, data…, end │ skip)…→ Ready
//! ```
//!
//! It counts: no more bytes than announced, no file that was not asked for, none twice, none left
//! out; no more signatures than a sender can hold; a delta only where a signature was given, and no
//! longer than a delta of its file can be.

use std::collections::{BTreeMap, VecDeque};

use super::Side;
use crate::frame::Frame;
use crate::message::{Ask, Need};

/// Where the crossing of files stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// The receiver says what it needs of `files` files.
    Deciding {
        files: u32,
        asked: Asked,
    },
    /// A signature is arriving.
    Signature {
        files: u32,
        asked: Asked,
        left: u64,
    },
    Files {
        queue: VecDeque<u32>,
        asked: Asked,
    },
    Content {
        queue: VecDeque<u32>,
        asked: Asked,
        left: u64,
    },
    Delta {
        queue: VecDeque<u32>,
        asked: Asked,
        left: u64,
    },
    /// All that was needed has arrived.
    Ready,
}

/// What was asked for otherwise than whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    by_index: BTreeMap<u32, Ask>,
    signature_bytes: u64,
}

type Step = Result<Exchange, Option<&'static str>>;

impl Exchange {
    pub(crate) fn new(files: u32) -> Self {
        Self::Deciding {
            files,
            asked: Asked::default(),
        }
    }

    /// The sender sends these of its own accord, whole.
    pub(crate) fn unasked(files: impl IntoIterator<Item = u32>) -> Self {
        Self::files(files.into_iter().collect(), Asked::default())
    }

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Deciding { .. } => "deciding what is needed",
            Self::Signature { .. } => "receiving a signature",
            Self::Files { .. } => "between files",
            Self::Content { .. } => "receiving a file",
            Self::Delta { .. } => "receiving a delta",
            Self::Ready => "ready to publish",
        }
    }

    /// Whether it is the sender's turn, so that it may abandon the whole.
    pub(crate) const fn is_sending(&self) -> bool {
        !matches!(self, Self::Deciding { .. } | Self::Signature { .. })
    }

    fn files(queue: VecDeque<u32>, asked: Asked) -> Self {
        if queue.is_empty() {
            Self::Ready
        } else {
            Self::Files { queue, asked }
        }
    }

    fn content(queue: VecDeque<u32>, asked: Asked, left: u64) -> Self {
        match left {
            0 => Self::files(queue, asked),
            left => Self::Content { queue, asked, left },
        }
    }

    pub(crate) fn step(self, side: Side, frame: &Frame) -> Step {
        use Side::{Receiver, Sender};
        Ok(match (self, side, frame) {
            (Self::Deciding { files, asked }, Receiver, Frame::Ask(ask)) => {
                let left = ask.signature_bytes;
                let asked = asked.with(files, ask)?;
                match left {
                    0 => Self::Deciding { files, asked },
                    left => Self::Signature { files, asked, left },
                }
            }
            (Self::Signature { files, asked, left }, Receiver, Frame::Data(bytes)) => {
                match take(left, bytes)? {
                    0 => Self::Deciding { files, asked },
                    left => Self::Signature { files, asked, left },
                }
            }
            (Self::Deciding { files, asked }, Receiver, Frame::Need(Need::Files(wanted))) => {
                if !wanted.fits(files) {
                    return Err(Some("it is not of the list's length"));
                }
                if !asked.by_index.keys().all(|index| wanted.contains(*index)) {
                    return Err(Some("it leaves out a file that was asked for"));
                }
                Self::files(wanted.indices().collect(), asked)
            }
            (Self::Files { mut queue, asked }, Sender, Frame::File(file)) => {
                next_of(&mut queue, file.index)?;
                Self::content(queue, asked, file.size)
            }
            (Self::Files { mut queue, asked }, Sender, Frame::Delta(file)) => {
                next_of(&mut queue, file.index)?;
                if !asked.wants_delta(file.index) {
                    return Err(Some("no delta was asked for"));
                }
                Self::Delta {
                    queue,
                    asked,
                    left: most_delta_bytes(file.size),
                }
            }
            (Self::Files { mut queue, asked }, Sender, Frame::Skip(index)) => {
                next_of(&mut queue, *index)?;
                Self::files(queue, asked)
            }
            (Self::Content { queue, asked, left }, Sender, Frame::Data(bytes)) => {
                Self::content(queue, asked, take(left, bytes)?)
            }
            (Self::Delta { queue, asked, left }, Sender, Frame::Data(bytes)) => Self::Delta {
                queue,
                asked,
                left: take(left, bytes)?,
            },
            (Self::Delta { queue, asked, .. }, Sender, Frame::End) => Self::files(queue, asked),
            _ => return Err(None),
        })
    }
}

impl Asked {
    fn with(mut self, files: u32, ask: &Ask) -> Result<Self, Option<&'static str>> {
        let last = self.by_index.last_key_value().map(|(index, _)| *index);
        if ask.index >= files || last.is_some_and(|last| ask.index <= last) {
            return Err(Some("it is beyond the list or out of order"));
        }
        if self.by_index.len() >= Ask::MAX_ASKS {
            return Err(Some("there are too many of them"));
        }
        if (ask.from > 0) == (ask.signature_bytes > 0) {
            return Err(Some("it wants neither or both of a rest and a delta"));
        }
        if ask.signature_bytes > 0 && ask.signature_bytes < Ask::LEAST_SIGNATURE_BYTES {
            return Err(Some("no signature is as short"));
        }
        self.signature_bytes = self.signature_bytes.saturating_add(ask.signature_bytes);
        if self.signature_bytes > Ask::MAX_SIGNATURE_BYTES {
            return Err(Some("its signatures are too long"));
        }
        self.by_index.insert(ask.index, *ask);
        Ok(self)
    }

    fn wants_delta(&self, index: u32) -> bool {
        self.by_index
            .get(&index)
            .is_some_and(|ask| ask.signature_bytes > 0)
    }
}

fn next_of(queue: &mut VecDeque<u32>, index: u32) -> Result<(), Option<&'static str>> {
    if queue.pop_front() == Some(index) {
        Ok(())
    } else {
        Err(Some("it is not the next file that was asked for"))
    }
}

/// The most bytes of a delta that makes a file of `file_bytes`. Its own length is not announced, since
/// it is not known before it is made. An honest one stays far below: a literal costs 3 bytes beyond its
/// own, a copy at most 20 for a block of 64 or more.
pub(crate) const fn most_delta_bytes(file_bytes: u64) -> u64 {
    file_bytes.saturating_mul(2).saturating_add(1024)
}

/// What is left of an announced length.
pub(crate) fn take(left: u64, bytes: &[u8]) -> Result<u64, Option<&'static str>> {
    left.checked_sub(bytes.len() as u64)
        .ok_or(Some("there are more bytes than were announced"))
}

#[cfg(test)]
#[path = "model_tests.rs"]
pub(crate) mod model_tests;
#[cfg(test)]
#[path = "exchange_tests.rs"]
pub(crate) mod tests;
