//! Content made smaller before it is sealed: once it is, nothing makes it smaller.
//!
//! zstd at its fastest level, and only for what is sealed as a file: the line packs all else. Whoever sees
//! the sealed bytes learns how well the content packs, and nothing more. It guarantees: what is unpacked is
//! never longer than was announced, and takes a bounded window of memory, whatever the bytes.

use std::io::Read;

use crate::error::Result;

/// Whether this build can.
pub(crate) const AVAILABLE: bool = cfg!(feature = "zstd");

/// The packed form of all that `plain` gives.
#[cfg(feature = "zstd")]
pub(crate) fn pack<'a>(plain: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    const LEVEL: i32 = 1;
    let packed = zstd::stream::read::Encoder::new(plain, LEVEL);
    Ok(Box::new(packed.map_err(failed)?))
}

/// What `packed` held, at most `bytes` and one more, by which the caller sees that it is too long.
#[cfg(feature = "zstd")]
pub(crate) fn unpack<'a>(packed: impl Read + 'a, bytes: u64) -> Result<Box<dyn Read + 'a>> {
    /// 8 MiB; the level that packs uses less.
    const WINDOW_LOG: u32 = 23;
    let mut plain = zstd::stream::read::Decoder::new(packed).map_err(failed)?;
    plain.window_log_max(WINDOW_LOG).map_err(failed)?;
    Ok(Box::new(plain.take(bytes.saturating_add(1))))
}

#[cfg(feature = "zstd")]
fn failed(error: std::io::Error) -> crate::error::Error {
    crate::error::Error::invalid(format!("zstd: {error}")).with_source(error)
}

#[cfg(not(feature = "zstd"))]
pub(crate) fn pack<'a>(_: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    Err(missing())
}

#[cfg(not(feature = "zstd"))]
pub(crate) fn unpack<'a>(_: impl Read + 'a, _: u64) -> Result<Box<dyn Read + 'a>> {
    Err(missing())
}

#[cfg(not(feature = "zstd"))]
fn missing() -> crate::error::Error {
    let message = "the content is packed, and this program was built without zstd";
    crate::error::Error::new(crate::error::ErrorKind::Protocol, message)
}
