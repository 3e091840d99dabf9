//! How files cross, whatever they are files of: asked for, sent whole, from where they were cut, or
//! as a delta.
//!
//! The receiver says for each file how it wants it ([`Want`]); the sender answers in the same order.
//! Which frame is legal when is the session's business, what a file is that of [`Files`] on one side
//! and [`Sink`] on the other. Memory: the sender holds the signatures it was asked with, at most
//! [`Ask::MAX_SIGNATURE_BYTES`]; everything else streams.

mod chain;
mod data;
mod plan;

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use pefo_core::progress::Progress;
use pefo_core::{Digest, Error, ErrorKind, Result};

use crate::delta::{self, signature};
use crate::frame::{DATA_BYTES, Frame};
use crate::message::{Ask, FileHead, Need, Wanted};

pub(crate) use chain::Chain;
pub(crate) use data::{DataReader, DataWriter};
pub(crate) use plan::{Candidate, LEAST_DELTA_BYTES, Planned, plan_deltas};

/// One side's turn to speak, then to hear.
pub(crate) trait Turn {
    /// Says a frame; it may be held back until [`Turn::hear`].
    fn say(&mut self, frame: &Frame) -> Result<()>;
    /// The next frame of the other side, which was its turn to say; a refusal is an error.
    fn hear(&mut self) -> Result<Frame>;
}

/// Says bytes in Data frames.
pub(crate) fn say_data(turn: &mut impl Turn, bytes: &[u8]) -> Result<()> {
    bytes
        .chunks(DATA_BYTES)
        .try_for_each(|chunk| turn.say(&Frame::Data(chunk.to_vec())))
}

/// A frame that the session let pass and the driver did not expect.
pub(crate) fn out_of_turn(frame: &Frame) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("a {} frame came out of turn", frame.name()),
    )
}

/// The sender gave up; it waits for an Ok.
pub(crate) fn abandoned() -> Error {
    Error::new(ErrorKind::Cancelled, "the sender abandoned it")
}

/// What a receiver needs of a list of files.
#[derive(Debug)]
pub(crate) struct Needs {
    wanted: Wanted,
    asks: BTreeMap<u32, (Ask, Vec<u8>)>,
}

impl Needs {
    /// These files, whole.
    pub(crate) fn whole(files: u32, wanted: impl IntoIterator<Item = u32>) -> Self {
        let mut needs = Wanted::none(files);
        wanted.into_iter().for_each(|index| needs.want(index));
        Self {
            wanted: needs,
            asks: BTreeMap::new(),
        }
    }

    /// Hears what the receiver needs; `None` where it has all already.
    pub(crate) fn hear(turn: &mut impl Turn) -> Result<Option<Self>> {
        let mut asks = BTreeMap::new();
        loop {
            match turn.hear()? {
                Frame::Ask(ask) => {
                    let mut signature = Vec::new();
                    while (signature.len() as u64) < ask.signature_bytes {
                        match turn.hear()? {
                            Frame::Data(bytes) => signature.extend_from_slice(&bytes),
                            other => return Err(out_of_turn(&other)),
                        }
                    }
                    asks.insert(ask.index, (ask, signature));
                }
                Frame::Need(Need::Already) => return Ok(None),
                Frame::Need(Need::Files(wanted)) => return Ok(Some(Self { wanted, asks })),
                other => return Err(out_of_turn(&other)),
            }
        }
    }

    /// The files that are needed, ascending.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.wanted.indices()
    }

    /// How many files are needed.
    pub(crate) fn len(&self) -> u64 {
        self.wanted.indices().count() as u64
    }
}

/// A file that is read from somewhere in it on.
pub(crate) trait Content: Read + Seek {}
impl<T: Read + Seek> Content for T {}

/// The sender's files, by their place in the list.
pub(crate) trait Files {
    /// Opens a file and tells the size that was announced; `None` where it can no longer be had, which
    /// the receiver is then told.
    fn open(&mut self, index: u32) -> Result<Option<(Box<dyn Content + '_>, u64)>>;
    /// The digest that was announced, where it is known.
    fn digest(&self, _index: u32) -> Option<Digest> {
        None
    }
    /// A file turned out to be another than was announced; an error ends the session.
    fn changed(&mut self, index: u32) -> Result<()>;
}

/// What a sender has sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) files: u64,
    /// Bytes of content that crossed, before compression.
    pub(crate) bytes: u64,
    /// Bytes that need not cross, since the receiver had them.
    pub(crate) saved: u64,
}

/// Sends what is needed, ascending.
pub(crate) fn send(
    turn: &mut impl Turn,
    mut needs: Needs,
    files: &mut impl Files,
    progress: &dyn Progress,
) -> Result<Sent> {
    let mut sent = Sent::default();
    let indices: Vec<u32> = needs.wanted.indices().collect();
    for index in indices {
        let asked = needs.asks.remove(&index);
        let digest = files.digest(index);
        let changed = match files.open(index)? {
            None => {
                turn.say(&Frame::Skip(index))?;
                continue;
            }
            Some((mut content, size)) => match asked {
                Some((_, signature)) if !signature.is_empty() => send_delta(
                    turn,
                    index,
                    &mut content,
                    (size, digest),
                    &signature,
                    progress,
                    &mut sent,
                )?,
                asked => {
                    let from = asked.map_or(0, |(ask, _)| ask.from);
                    send_whole(turn, index, &mut content, size, from, progress, &mut sent)?
                }
            },
        };
        if changed {
            files.changed(index)?;
        } else {
            sent.files += 1;
        }
        progress.advance(1, 0);
    }
    Ok(sent)
}

/// Sends a file from `from` on; tells whether it was not as long as announced. What is missing is made
/// up by zeros, which the digest at the other end finds out.
fn send_whole(
    turn: &mut impl Turn,
    index: u32,
    content: &mut dyn Content,
    size: u64,
    from: u64,
    progress: &dyn Progress,
    sent: &mut Sent,
) -> Result<bool> {
    let mut left = size.checked_sub(from).ok_or_else(|| {
        Error::new(
            ErrorKind::Protocol,
            "the peer has more of a file than it is long",
        )
    })?;
    turn.say(&Frame::File(FileHead { index, size: left }))?;
    let mut short = from > 0 && content.seek(SeekFrom::Start(from)).is_err();
    sent.bytes += left;
    sent.saved += from;
    progress.advance(0, from);
    progress.saved(from);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(DATA_BYTES);
        let mut chunk = vec![0; most];
        short = short || content.read_exact(&mut chunk).is_err();
        turn.say(&Frame::Data(chunk))?;
        left -= most as u64;
        progress.advance(0, most as u64);
    }
    Ok(short)
}

/// Sends a file as a delta; tells whether it was not what was announced. The delta then lacks its end,
/// which the other end finds out.
fn send_delta(
    turn: &mut impl Turn,
    index: u32,
    content: &mut dyn Content,
    (size, digest): (u64, Option<Digest>),
    signature: &[u8],
    progress: &dyn Progress,
    sent: &mut Sent,
) -> Result<bool> {
    let signature = signature::parse(signature)?;
    turn.say(&Frame::Delta(FileHead { index, size }))?;
    let mut out = DataWriter::new(turn);
    let made = match digest {
        Some(digest) => delta::diff_known(&signature, content, size, digest, &mut out),
        None => delta::diff(&signature, content, size, &mut out),
    };
    let written = out.finish()?;
    turn.say(&Frame::End)?;
    sent.bytes += written;
    progress.advance(0, size);
    match made {
        Ok(made) => {
            sent.saved += made.copied_bytes;
            progress.saved(made.copied_bytes);
            Ok(false)
        }
        Err(error) => {
            tracing::debug!(%error, index, "a delta could not be made to its end");
            Ok(true)
        }
    }
}

/// How a receiver wants a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Whole,
    /// The rest of it, from this byte on.
    From(u64),
    /// A delta against what it has; the signature of that takes so many bytes.
    Delta {
        signature_bytes: u64,
    },
}

/// Where a receiver's files go.
pub(crate) trait Sink {
    /// Writes the signature of what a delta is wanted against; just as long as was announced.
    fn signature(&mut self, index: u32, out: &mut dyn std::io::Write) -> Result<()>;
    /// Bytes of a file begin; `size` of them will come.
    fn begin(&mut self, index: u32, size: u64) -> Result<()>;
    /// The next bytes of the file that was begun.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// All its bytes have come.
    fn finish(&mut self) -> Result<()>;
    /// A file of `size` bytes comes as a delta.
    fn patch(&mut self, index: u32, size: u64, delta: &mut dyn Read) -> Result<()>;
    /// A file can no longer be had.
    fn skip(&mut self, index: u32) -> Result<()>;
}

/// Says what is wanted, in ascending order of a list of `files`.
pub(crate) fn ask(
    turn: &mut impl Turn,
    files: u32,
    wants: &[(u32, Want)],
    sink: &mut impl Sink,
) -> Result<()> {
    let mut wanted = Wanted::none(files);
    for (index, want) in wants {
        wanted.want(*index);
        let (from, signature_bytes) = match want {
            Want::Whole => continue,
            Want::From(from) => (*from, 0),
            Want::Delta { signature_bytes } => (0, *signature_bytes),
        };
        turn.say(&Frame::Ask(Ask {
            index: *index,
            from,
            signature_bytes,
        }))?;
        if signature_bytes > 0 {
            let mut out = DataWriter::new(turn);
            let made = sink.signature(*index, &mut out);
            let written = out.finish()?;
            made?;
            if written != signature_bytes {
                return Err(Error::new(
                    ErrorKind::Io,
                    "a file changed while its signature was made",
                ));
            }
        }
    }
    turn.say(&Frame::Need(Need::Files(wanted)))
}

/// Takes what was asked for, in the same order.
///
/// # Errors
/// `Cancelled`, where the sender abandoned it; what the sink or the line says.
pub(crate) fn take(
    turn: &mut impl Turn,
    indices: impl IntoIterator<Item = u32>,
    sink: &mut impl Sink,
) -> Result<()> {
    for _ in indices {
        match turn.hear()? {
            Frame::File(FileHead { index, size }) => {
                sink.begin(index, size)?;
                let mut left = size;
                while left > 0 {
                    match turn.hear()? {
                        Frame::Data(bytes) => {
                            sink.write(&bytes)?;
                            left = left.saturating_sub(bytes.len() as u64);
                        }
                        Frame::Abandon => return Err(abandoned()),
                        other => return Err(out_of_turn(&other)),
                    }
                }
                sink.finish()?;
            }
            Frame::Delta(FileHead { index, size }) => {
                let mut delta = DataReader::new(turn);
                let patched = sink.patch(index, size, &mut delta);
                // To its end, whatever became of it: the next frame is another file's.
                delta.drain()?;
                patched?;
            }
            Frame::Skip(index) => sink.skip(index)?,
            Frame::Abandon => return Err(abandoned()),
            other => return Err(out_of_turn(&other)),
        }
    }
    Ok(())
}
