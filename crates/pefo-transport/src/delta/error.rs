//! What can be wrong with a signature, a delta, or the files they are about.

use std::io;

use pefo_core::digest::Digest;
use pefo_core::{Error, ErrorKind};

use super::layout::{MAX_BLOCK_BYTES, MIN_BLOCK_BYTES};

/// Why a signature or a delta could not be made, read or applied; the source of the public error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// The first bytes are others.
    #[error("these bytes are no {0}")]
    Magic(&'static str),
    /// Another version of the format.
    #[error("{what} format {found} is not known, only 1 is")]
    Version {
        /// Signature or delta.
        what: &'static str,
        /// The version found.
        found: u8,
    },
    /// The bytes end too early.
    #[error("the {0} is cut short")]
    Cut(&'static str),
    /// The bytes are not as the format says.
    #[error("the {what} is malformed: {why}")]
    Malformed {
        /// Signature or delta.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// A block size beyond the caps.
    #[error("a block size of {0} bytes is not within {MIN_BLOCK_BYTES} to {MAX_BLOCK_BYTES}")]
    BlockSize(u64),
    /// A size beyond a cap.
    #[error("{what} has {bytes} bytes, over the {max} allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The cap.
        max: u64,
    },
    /// The base is not the file that the signature was taken of.
    #[error("the base has {found} bytes, the delta was made for one of {expected}")]
    BaseSize {
        /// As the delta says.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// A file is not as long as was announced.
    #[error("{what} changed while it was read: {announced} bytes were announced, {found} found")]
    Changed {
        /// Which file.
        what: &'static str,
        /// The size announced.
        announced: u64,
        /// The size found, or a lower bound of it.
        found: u64,
    },
    /// The result is not the file that the delta was made of.
    #[error("the file put together is {found:?}, not {expected:?}")]
    Digest {
        /// The digest wanted.
        expected: Digest,
        /// The digest of what came out.
        found: Digest,
    },
    /// The instructions are not those that were written.
    #[error("the {0} was altered on its way: its seal does not fit")]
    Seal(&'static str),
    /// Reading or writing failed.
    #[error("{action}: {source}")]
    Io {
        /// What was done, such as "read the base".
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl DeltaError {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// A read of exactly so many bytes of `what` failed.
    pub(super) fn read(what: &'static str, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::Cut(what),
            _ => Self::Io { action, source },
        }
    }
}

impl From<DeltaError> for Error {
    fn from(error: DeltaError) -> Self {
        let message = error.to_string();
        match error {
            DeltaError::Io { source, .. } => Self::new(ErrorKind::Io, message).with_source(source),
            DeltaError::Version { .. } => Self::invalid(message)
                .hint("upgrade pefo on the host that runs the older version")
                .with_source(error),
            DeltaError::Changed { .. } => Self::invalid(message)
                .retryable(true)
                .hint("something writes to the file; try again once it is at rest")
                .with_source(error),
            // The base was changed or the delta damaged: the whole file can still be sent.
            DeltaError::BaseSize { .. }
            | DeltaError::Digest { .. }
            | DeltaError::Seal(_)
            | DeltaError::Cut(_) => Self::invalid(message)
                .retryable(true)
                .hint("nothing was replaced; the file can be sent whole")
                .with_source(error),
            error => Self::invalid(message).with_source(error),
        }
    }
}
