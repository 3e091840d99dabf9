//! How a receiver wants one file, where it has a part of it or an older one already; what root has
//! answered.

use pefo_core::request::{Answer, Nonce};
use serde::{Deserialize, Serialize};

use crate::delta;

/// Precedes Need, for each file that is not wanted simply whole; ascending by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The file's place in the list, from 0.
    pub index: u32,
    /// How many of its first bytes the receiver has; 0 where it wants a delta.
    pub from: u64,
    /// Bytes of the signature that follows in Data frames; 0 where it wants the rest of the file as it
    /// is.
    pub signature_bytes: u64,
}

impl Ask {
    /// The most bytes of all signatures of one turn: the sender holds them in memory until it has
    /// answered.
    pub const MAX_SIGNATURE_BYTES: u64 = 16 << 20;
    /// The most files of one turn asked for in such a way.
    pub const MAX_ASKS: usize = 65_536;
    /// A signature's bytes without any block.
    pub(crate) const LEAST_SIGNATURE_BYTES: u64 = delta::signature::EMPTY_BYTES;
}

/// Asks what root has answered to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerQuery {
    /// The request's nonce.
    pub nonce: Nonce,
}

/// The answer follows in Data frames; there is none yet where it has no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerHead {
    /// Bytes of the signed answer.
    pub bytes: u64,
}

impl AnswerHead {
    /// The largest signed answer.
    pub const MAX_BYTES: u64 = Answer::MAX_BYTES;
}
