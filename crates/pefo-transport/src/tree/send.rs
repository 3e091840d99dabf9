//! The sending side of a tree session: the line to where a directory is kept.

use std::io::{Read, Write};

use pefo_core::cancel::Cancel;
use pefo_core::clock::Clock;
use pefo_core::disk::Beneath;
use pefo_core::progress::Progress;
use pefo_core::{Digest, Error, ErrorKind, RelPath, Result};

use super::entry::{self, Node};
use super::message::{Commit, Committed, Differs, EntriesHead, Open, Scope};
use super::scan::{LeftOut, Scan};
use super::session::TreeSession;
use super::source::TreeSource;
use super::summary;
use crate::exchange::{self, Content, Files, Needs, Turn, out_of_turn};
use crate::frame::Frame;
use crate::link::{LinkOptions, or_cancelled};
use crate::message::{Capabilities, Protocols, plain};
use crate::session::Side;
use crate::wire::{self, Plain, Stream, Traffic, Wire};

/// Files of a hinted change up to this size in all are sent without being asked for.
const EAGER_BYTES: u64 = 256 << 10;
/// Up to so many paths.
const EAGER_PATHS: usize = 64;

/// How a tree is sent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TreeOptions {
    /// This program, such as `pefo 0.1.0`.
    pub tool: String,
    /// zstd's level; 0 does not compress. Default 0.
    pub compression: i32,
    /// Whether what is not in the directory is removed where it is kept. Default true; the receiver's
    /// guard has the last word.
    pub delete: bool,
    /// What stops it, and how fast it may write.
    pub link: LinkOptions,
}

impl TreeOptions {
    /// With the usual settings.
    pub fn new(tool: impl Into<String>) -> Self {
        Self {
            tool: tool.into(),
            compression: 0,
            delete: true,
            link: LinkOptions::new(),
        }
    }

    /// Sets zstd's level.
    #[must_use]
    pub const fn compression(mut self, level: i32) -> Self {
        self.compression = level;
        self
    }

    /// Sets whether anything is removed.
    #[must_use]
    pub const fn delete(mut self, delete: bool) -> Self {
        self.delete = delete;
        self
    }

    /// Sets what stops it, and how fast it may write.
    #[must_use]
    pub fn link(mut self, link: LinkOptions) -> Self {
        self.link = link;
        self
    }
}

/// What a sync came to.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Synced {
    /// Whether the two trees were the same before.
    pub unchanged: bool,
    /// What the receiver's tree gained and lost.
    pub committed: Committed,
    /// What the source holds and no tree can.
    pub left_out: Vec<LeftOut>,
    /// What of the source could not be read: nothing was deleted then. As text, for people.
    pub unreadable: Vec<String>,
    /// Files that changed or vanished while they were sent.
    pub changed: Vec<RelPath>,
    /// What crossed the line, both ways.
    pub traffic: Traffic,
    /// Bytes of content that need not cross: the receiver had them, or a delta found them there.
    pub saved_bytes: u64,
}

impl Synced {
    /// Whether the receiver's tree is now as the source's was.
    pub fn is_complete(&self) -> bool {
        self.unreadable.is_empty() && self.committed.skipped == 0 && self.committed.held == 0
    }
}

/// A line to where a tree is kept.
pub struct TreeConnection {
    line: Line,
    options: TreeOptions,
    peer_tool: String,
}

impl std::fmt::Debug for TreeConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeConnection")
            .field("peer_tool", &self.peer_tool)
            .field("session", &self.line.session)
            .finish_non_exhaustive()
    }
}

struct Line {
    wire: Wire<'static, Box<dyn Stream>>,
    session: TreeSession,
    cancel: Cancel,
}

impl Turn for Line {
    fn say(&mut self, frame: &Frame) -> Result<()> {
        if matches!(frame, Frame::Data(_) | Frame::File(_)) {
            self.cancel.check()?;
        }
        self.session.step(Side::Sender, frame)?;
        self.wire
            .queue(frame)
            .or_else(|error| self.heard_instead(error))
    }

    fn hear(&mut self) -> Result<Frame> {
        self.wire
            .flush()
            .or_else(|error| self.heard_instead(error))?;
        let frame = self
            .wire
            .receive()?
            .ok_or_else(|| wire::cut("before it answered"))?;
        self.session.step(Side::Receiver, &frame)?;
        match frame {
            Frame::Refuse(refuse) => Err(refuse.into_error("the receiver")),
            frame => Ok(frame),
        }
    }
}

impl Line {
    /// A peer that refuses while we speak stops reading: what it said matters more than that our
    /// words did not get through.
    fn heard_instead(&mut self, error: Error) -> Result<()> {
        match self.wire.receive() {
            Ok(Some(Frame::Refuse(refuse))) => Err(refuse.into_error("the receiver")),
            _ => Err(error),
        }
    }

    /// Says that what was sent is to be forgotten. The answer is not waited for: whoever cancelled
    /// waits for us.
    fn abandon(&mut self) -> Result<()> {
        self.session.step(Side::Sender, &Frame::Abandon)?;
        self.wire.queue(&Frame::Abandon)?;
        self.wire.flush()
    }
}

impl TreeConnection {
    /// Connects over ssh and greets. The peer's forced command must be a [`TreeReceiver`]'s.
    ///
    /// [`TreeReceiver`]: super::receive::TreeReceiver
    ///
    /// # Errors
    /// `Unreachable`, `Denied`, `Refused` (`host-key`), `Protocol`; what the receiver refuses, in its kind.
    #[cfg(feature = "ssh")]
    pub fn open(target: &crate::ssh::SshTarget, options: TreeOptions) -> Result<Self> {
        let stream = crate::ssh::connect(target, &options.link.cancel)?;
        Self::greet(Box::new(stream), options).map_err(|error| error.context(target))
    }

    /// Greets over any stream. Time limits are the stream's business.
    ///
    /// # Errors
    /// `Protocol` where something else answers, or one of another version; `Unreachable` where the line is
    /// cut; what the receiver refuses, in its kind.
    pub fn over(stream: impl Read + Write + Send + 'static, options: TreeOptions) -> Result<Self> {
        Self::greet(Box::new(Plain(stream)), options)
    }

    fn greet(stream: Box<dyn Stream>, options: TreeOptions) -> Result<Self> {
        let ours = Capabilities::TREE.with_zstd(options.compression != 0);
        let mut line = Line {
            wire: Wire::new(options.link.pace.over(stream, &options.link.cancel), None),
            session: TreeSession::new(),
            cancel: options.link.cancel.clone(),
        };
        let base = Capabilities {
            tree: true,
            ..Capabilities::NONE
        };
        line.wire.agree(base, 0);
        line.say(&Frame::Open(Open {
            protocol: Protocols::OURS,
            tool: options.tool.clone(),
            capabilities: ours.words(),
        }))?;
        // A program that ends at once can make this fail; what it said is then still to be read.
        let sent = line.wire.flush();
        let opened = match line.wire.meet().and_then(|()| line.hear()) {
            Ok(Frame::Opened(opened)) => opened,
            Ok(other) => return Err(out_of_turn(&other)),
            Err(error) => {
                let error = or_cancelled(&options.link.cancel, sent.err().unwrap_or(error));
                return Err(wire::with_farewell(error, line.wire.stream()));
            }
        };
        line.wire
            .agree(ours.agree(&opened.capabilities), options.compression);
        Ok(Self {
            line,
            options,
            peer_tool: plain(&opened.tool),
        })
    }

    /// The receiver's program.
    pub fn peer_tool(&self) -> &str {
        &self.peer_tool
    }

    /// What has crossed so far, both ways.
    pub fn traffic(&self) -> Traffic {
        self.line.wire.traffic()
    }

    /// Makes the receiver's tree as the scanned source is.
    ///
    /// # Errors
    /// What the receiver refuses, in its kind; `Cancelled`, and then its tree is as it was and the session
    /// has ended;
    /// `Unreachable` where the line is cut before the change was committed, `Unknown` (worth a retry) where
    /// it is cut after that, before the answer. What had arrived is taken up by the next sync.
    pub fn sync(
        &mut self,
        source: &TreeSource,
        scan: Scan,
        progress: &dyn Progress,
    ) -> Result<Synced> {
        let outcome = self.compare_and_send(source, &scan, progress);
        let mut synced = self.ended(outcome, progress)?;
        synced.left_out = scan.left_out;
        Ok(synced)
    }

    fn compare_and_send(
        &mut self,
        source: &TreeSource,
        scan: &Scan,
        progress: &dyn Progress,
    ) -> Result<Synced> {
        let bits = summary::bucket_bits(scan.entries.len() as u64);
        let summary = summary::summarize(&scan.entries, bits);
        self.line.say(&Frame::Summary(summary))?;
        let differs = match self.line.hear()? {
            Frame::Differs(differs) => differs,
            other => return Err(out_of_turn(&other)),
        };
        if differs.is_nowhere() {
            return Ok(Synced {
                unchanged: true,
                unreadable: texts(&scan.unreadable),
                ..Synced::default()
            });
        }
        let listed = listed(scan, &differs, bits);
        let delete = self.options.delete && scan.is_complete();
        let mut synced = self.send(source, &listed, Scope::Buckets, delete, progress)?;
        synced.unreadable = texts(&scan.unreadable);
        Ok(synced)
    }

    /// Brings over what some paths hold now, or that they are gone: what a hint told, without a look at
    /// all the rest. At least one [`TreeConnection::sync`] must have come before it in this session, so
    /// that the rest is the same.
    ///
    /// # Errors
    /// As [`TreeConnection::sync`]; `Refused` (`tree-shape`) where the paths alone make no tree: sync.
    pub fn change(
        &mut self,
        source: &mut TreeSource,
        paths: &[RelPath],
        clock: &dyn Clock,
        progress: &dyn Progress,
    ) -> Result<Synced> {
        let mut paths = paths.to_vec();
        paths.sort_unstable();
        paths.dedup();
        let (found, scan) = source.look(&paths, clock, &self.options.link.cancel)?;
        if found.is_empty() {
            return Ok(Synced {
                unreadable: texts(&scan.unreadable),
                left_out: scan.left_out,
                ..Synced::default()
            });
        }
        let delete = self.options.delete && scan.is_complete();
        let outcome = self.send(source, &found, Scope::Paths, delete, progress);
        let mut synced = self.ended(outcome, progress)?;
        synced.unreadable = texts(&scan.unreadable);
        synced.left_out = scan.left_out;
        Ok(synced)
    }

    fn send(
        &mut self,
        source: &TreeSource,
        entries: &[(RelPath, Option<Node>)],
        scope: Scope,
        delete: bool,
        progress: &dyn Progress,
    ) -> Result<Synced> {
        let mut bytes = Vec::new();
        for (path, node) in entries {
            entry::write(path, node.as_ref(), &mut bytes);
        }
        let size = |(_, node): &(RelPath, Option<Node>)| {
            node.as_ref()
                .and_then(Node::file)
                .map_or(0, |file| file.size)
        };
        let files: Vec<u32> = (0_u32..)
            .zip(entries)
            .filter(|(_, (_, node))| node.as_ref().is_some_and(|node| node.file().is_some()))
            .map(|(index, _)| index)
            .collect();
        let content_bytes = entries.iter().map(size).fold(0, u64::saturating_add);
        let eager =
            scope == Scope::Paths && entries.len() <= EAGER_PATHS && content_bytes <= EAGER_BYTES;
        let count = u32::try_from(entries.len())
            .map_err(|_| Error::invalid("the tree has too many entries"))?;
        let line = &mut self.line;
        line.say(&Frame::Entries(EntriesHead {
            scope,
            entries: count,
            bytes: bytes.len() as u64,
            eager,
        }))?;
        exchange::say_data(line, &bytes)?;
        drop(bytes);
        line.session.listed(files.iter().copied());
        let needs = if eager {
            Needs::whole(count, files)
        } else {
            Needs::hear(line)?.ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    "the receiver has what it said it lacks",
                )
            })?
        };
        progress.begin("send", Some(needs.len()), None);
        let mut content = TreeFiles {
            beneath: Beneath::open(source.root())?,
            entries,
            changed: Vec::new(),
        };
        let sent = exchange::send(line, needs, &mut content, progress)?;
        let changed = content.changed;
        line.say(&Frame::Commit(Commit { delete }))?;
        match line.hear()? {
            Frame::Committed(committed) => Ok(Synced {
                committed,
                changed,
                saved_bytes: sent.saved,
                traffic: line.wire.traffic(),
                ..Synced::default()
            }),
            other => Err(out_of_turn(&other)),
        }
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// `Unreachable` where there is none.
    pub fn ping(&mut self) -> Result<()> {
        let answer = self.line.say(&Frame::Ping).and_then(|()| self.line.hear());
        match answer {
            Ok(Frame::Ok) => Ok(()),
            Ok(other) => Err(self.end(out_of_turn(&other))),
            Err(error) => Err(self.end(error)),
        }
    }

    /// Says goodbye and waits for nothing more: all was answered. The receiver may still be at work for
    /// the next session (it makes signatures of long files), which waits for it.
    ///
    /// # Errors
    /// `Unreachable` where the line was gone already; nothing is lost by that.
    pub fn leave(mut self) -> Result<()> {
        self.say_goodbye()
    }

    fn say_goodbye(&mut self) -> Result<()> {
        if self.line.session.has_ended() {
            return Ok(());
        }
        self.line.say(&Frame::Bye)?;
        self.line.wire.flush()
    }

    /// Says goodbye and waits until the receiver has ended.
    ///
    /// # Errors
    /// `Unreachable` where the line was gone already; nothing is lost by that.
    pub fn close(mut self) -> Result<()> {
        if self.line.session.has_ended() {
            return Ok(());
        }
        self.say_goodbye()?;
        self.line
            .wire
            .stream()
            .finish()
            .map_err(|error| wire::cut("while it was closed").with_source(error))
    }

    fn ended(&mut self, outcome: Result<Synced>, progress: &dyn Progress) -> Result<Synced> {
        progress.end();
        let error = match outcome {
            Ok(mut synced) => {
                synced.traffic = self.line.wire.traffic();
                return Ok(synced);
            }
            Err(error) => error,
        };
        let error = or_cancelled(&self.options.link.cancel, error);
        if error.kind() == ErrorKind::Cancelled && self.line.session.may_abandon() {
            // Whether the word gets through or not, nothing of it was put into the tree.
            if let Err(error) = self.line.abandon() {
                tracing::debug!(%error, "the line went before the receiver forgot what had come");
            }
        }
        let unknown = self.line.session.is_committing() && error.kind() == ErrorKind::Unreachable;
        let error = self.end(error);
        if !unknown {
            return Err(error);
        }
        Err(Error::new(
            ErrorKind::Unknown,
            format!("whether the change was committed is unknown: {error}"),
        )
        .hint("sync again: what is there already is not sent twice")
        .retryable(true)
        .with_source(error))
    }

    fn end(&mut self, error: Error) -> Error {
        self.line.session.end();
        error
    }
}

fn texts(errors: &[Error]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// All entries of the buckets that differ, in the order they cross in.
fn listed(scan: &Scan, differs: &Differs, bits: u8) -> Vec<(RelPath, Option<Node>)> {
    let mut listed: Vec<_> = scan
        .entries
        .iter()
        .filter(|(path, _)| differs.contains(summary::bucket_of(path, bits)))
        .map(|(path, node)| (path.clone(), Some(*node)))
        .collect();
    listed.sort_unstable_by(|(one, _), (two, _)| one.cmp(two));
    listed
}

/// The files of a list, below the source's root.
struct TreeFiles<'e> {
    beneath: Beneath,
    entries: &'e [(RelPath, Option<Node>)],
    changed: Vec<RelPath>,
}

impl TreeFiles<'_> {
    fn path(&self, index: u32) -> Result<(&RelPath, u64)> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.entries.get(index))
            .and_then(|(path, node)| Some((path, node.as_ref()?.file()?.size)))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    "the receiver wants a file that is none",
                )
            })
    }
}

impl Files for TreeFiles<'_> {
    fn open(&mut self, index: u32) -> Result<Option<(Box<dyn Content + '_>, u64)>> {
        let (path, size) = self.path(index)?;
        match self.beneath.file(path) {
            Ok(file) => Ok(Some((Box::new(file), size))),
            Err(error) => {
                tracing::debug!(%error, "a file vanished before it was sent");
                let path = path.clone();
                self.changed.push(path);
                Ok(None)
            }
        }
    }

    fn digest(&self, index: u32) -> Option<Digest> {
        let (_, node) = self.entries.get(usize::try_from(index).ok()?)?;
        Some(node.as_ref()?.file()?.digest)
    }

    fn changed(&mut self, index: u32) -> Result<()> {
        let path = self.path(index)?.0.clone();
        self.changed.push(path);
        Ok(())
    }
}
