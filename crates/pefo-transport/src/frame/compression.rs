//! Data frames made shorter by zstd (RFC 8878), each frame by itself.
//!
//! Each payload is a zstd frame of its own, so that nothing of one hangs on another and the most that
//! [`expand`] gives is known beforehand. Data that does not shrink is sent as it is, and after a few
//! such payloads in a row most of the next ones are not tried: sealed files and keys never shrink.
//!
//! Without the feature `zstd` nothing is shortened and the capability is not offered.

use super::FrameError;
#[cfg(feature = "zstd")]
use super::MAX_PAYLOAD_BYTES;

/// Whether this build can compress.
pub const AVAILABLE: bool = cfg!(feature = "zstd");

/// A payload shrinks where at least this part of it is gone: one in thirty-two.
#[cfg(feature = "zstd")]
const WORTH_SHIFT: u32 = 5;
/// Payloads shorter than this are not tried.
#[cfg(feature = "zstd")]
const SHORTEST: usize = 64;
/// The most payloads passed over after some that did not shrink.
#[cfg(feature = "zstd")]
const LONGEST_PAUSE: u32 = 64;

/// Shortens payloads, and learns where that is in vain.
#[derive(Default)]
pub struct Compressor {
    #[cfg(feature = "zstd")]
    inner: Option<Inner>,
}

#[cfg(feature = "zstd")]
struct Inner {
    zstd: zstd::bulk::Compressor<'static>,
    out: Vec<u8>,
    /// How many payloads are passed over next time one does not shrink.
    pause: u32,
    /// How many are still to be passed over.
    paused: u32,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    /// At zstd's `level`; 0 never compresses. Where zstd cannot be set up nothing is shortened.
    #[cfg(feature = "zstd")]
    pub fn new(level: i32) -> Self {
        let zstd = (level != 0).then(|| zstd::bulk::Compressor::new(level));
        Self {
            inner: zstd.and_then(Result::ok).map(|zstd| Inner {
                zstd,
                out: Vec::new(),
                pause: 1,
                paused: 0,
            }),
        }
    }

    /// Never compresses: this build cannot.
    #[cfg(not(feature = "zstd"))]
    pub fn new(_level: i32) -> Self {
        Self::default()
    }

    /// The payload compressed, where it was tried and became shorter by a thirty-second or more.
    #[cfg(feature = "zstd")]
    pub fn shorten(&mut self, payload: &[u8]) -> Option<&[u8]> {
        let inner = self.inner.as_mut()?;
        if payload.len() < SHORTEST {
            return None;
        }
        if inner.paused > 0 {
            inner.paused -= 1;
            return None;
        }
        inner.out.clear();
        inner.out.reserve(payload.len());
        let room = payload.len() - (payload.len() >> WORTH_SHIFT);
        // It stops where the room ends: what does not shrink costs no copy.
        inner.out.resize(room, 0);
        match inner.zstd.compress_to_buffer(payload, &mut inner.out[..]) {
            Ok(length) => {
                inner.pause = 1;
                inner.out.get(..length)
            }
            Err(_) => {
                inner.paused = inner.pause;
                inner.pause = (inner.pause * 2).min(LONGEST_PAUSE);
                None
            }
        }
    }

    /// Nothing: this build cannot compress.
    #[cfg(not(feature = "zstd"))]
    pub fn shorten(&mut self, _payload: &[u8]) -> Option<&[u8]> {
        None
    }
}

/// What a compressed payload holds: 1 to [`MAX_PAYLOAD_BYTES`](super::MAX_PAYLOAD_BYTES) bytes.
///
/// # Errors
/// Where it is no zstd frame, or holds nothing or too much.
#[cfg(feature = "zstd")]
pub(super) fn expand(payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let bad = |why: &str| FrameError::Body {
        frame: "data",
        why: why.to_owned(),
    };
    // A zstd frame says how much it holds; one that does not might ask for any amount of memory.
    let announced = match zstd::zstd_safe::get_frame_content_size(payload) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        _ => return Err(bad("it is no zstd frame that tells its size")),
    };
    if !(1..=MAX_PAYLOAD_BYTES).contains(&announced) {
        return Err(bad("what it holds is empty or too long"));
    }
    let bytes = zstd::bulk::decompress(payload, announced)
        .map_err(|error| bad(&format!("zstd: {error}")))?;
    if bytes.len() != announced {
        return Err(bad("it holds less than it says"));
    }
    Ok(bytes)
}

/// Never called: the capability is not offered.
#[cfg(not(feature = "zstd"))]
pub(super) fn expand(_payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    Err(FrameError::Body {
        frame: "data",
        why: "this build cannot expand it".to_owned(),
    })
}

#[cfg(all(test, feature = "zstd"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_shortened_expands_to_what_it_was(byte in any::<u8>(), length in 64_usize..5000, tail in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut payload = vec![byte; length];
            payload.extend(tail);
            let mut compressor = Compressor::new(3);
            let shorter = compressor.shorten(&payload).unwrap();
            prop_assert!(shorter.len() < payload.len());
            prop_assert_eq!(expand(shorter).unwrap(), payload);
        }

        #[test]
        fn any_bytes_expand_within_the_cap_or_are_refused(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(bytes) = expand(&payload) {
                prop_assert!((1..=MAX_PAYLOAD_BYTES).contains(&bytes.len()));
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_passed_over_more_and_more() {
        let mut noise = vec![0; 4096];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let mut compressor = Compressor::new(1);
        let tried = (0..300)
            .filter(|_| {
                let before = compressor.inner.as_ref().unwrap().paused;
                assert!(compressor.shorten(&noise).is_none());
                before == 0
            })
            .count();
        assert!((3..12).contains(&tried), "{tried}");
        // Data that shrinks again is noticed at the next try.
        let zeros = vec![0; 4096];
        assert!((0..65).any(|_| compressor.shorten(&zeros).is_some()));
    }

    #[test]
    fn a_bomb_is_refused_by_its_announced_size() {
        let bomb = zstd::bulk::compress(&vec![0; MAX_PAYLOAD_BYTES + 1], 1).unwrap();
        assert!(bomb.len() < 1000);
        assert!(expand(&bomb).unwrap_err().to_string().contains("too long"));
        let whole = zstd::bulk::compress(&vec![0; MAX_PAYLOAD_BYTES], 1).unwrap();
        assert_eq!(expand(&whole).unwrap().len(), MAX_PAYLOAD_BYTES);
        assert!(expand(&whole[..whole.len() - 1]).is_err());
    }
}
