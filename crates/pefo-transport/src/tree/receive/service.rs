//! One session's loop: a request, the work, the answer.

use std::io::{Read, Write};

use pefo_core::clock::Clock;
use pefo_core::disk::Disk;
use pefo_core::{ErrorKind, Result};

use super::keeper::{Change, Keeper};
use super::{TreeReceiverOptions, TreeServed};
use crate::delta::Seed;
use crate::exchange::{Turn, out_of_turn};
use crate::frame::Frame;
use crate::message::{Capabilities, Protocols, Refuse};
use crate::session::Side;
use crate::tree::entry::{self, Entry};
use crate::tree::message::{Differs, EntriesHead, Open, Opened};
use crate::tree::session::TreeSession;
use crate::wire::{self, Duplex, FrameTime, Wire};

pub(super) struct Service<'a> {
    line: Line<'a>,
    options: &'a TreeReceiverOptions,
    disk: &'a Disk,
    clock: &'a dyn Clock,
    seed: Seed,
    served: TreeServed,
}

/// The frames, and whose turn it is.
pub(super) struct Line<'a> {
    wire: Wire<'a, Duplex<'a>>,
    session: TreeSession,
}

impl Turn for Line<'_> {
    fn say(&mut self, frame: &Frame) -> Result<()> {
        self.session.step(Side::Receiver, frame)?;
        self.wire.queue(frame)
    }

    fn hear(&mut self) -> Result<Frame> {
        self.wire.flush()?;
        self.next()?
            .ok_or_else(|| wire::cut("in the middle of a change"))
    }
}

impl Line<'_> {
    fn next(&mut self) -> Result<Option<Frame>> {
        let frame = self.wire.receive()?;
        if let Some(frame) = &frame {
            self.session.step(Side::Sender, frame)?;
        }
        Ok(frame)
    }

    fn answer(&mut self, frame: &Frame) -> Result<()> {
        self.say(frame)?;
        self.wire.flush()
    }
}

impl<'a> Service<'a> {
    pub(super) fn new(
        input: &'a mut dyn Read,
        output: &'a mut dyn Write,
        options: &'a TreeReceiverOptions,
        disk: &'a Disk,
        clock: &'a dyn Clock,
        seed: Seed,
    ) -> Self {
        let frame_time = FrameTime {
            clock,
            limit: options.limits.frame_time,
        };
        let mut wire = Wire::new(Duplex { input, output }, Some(frame_time));
        // A tree session's own frames are there from the first one on.
        wire.agree(
            Capabilities {
                tree: true,
                ..Capabilities::NONE
            },
            0,
        );
        Self {
            line: Line {
                wire,
                session: TreeSession::new(),
            },
            options,
            disk,
            clock,
            seed,
            served: TreeServed::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<TreeServed> {
        match self.converse() {
            Ok(()) => Ok(self.served),
            Err(error) => {
                tracing::warn!(%error, "session refused");
                // A peer that is gone cannot be told, and that is no news.
                let refuse = Frame::Refuse(Refuse::of(&error));
                let told = self
                    .line
                    .wire
                    .queue(&refuse)
                    .and_then(|()| self.line.wire.flush());
                drop(told);
                Err(error)
            }
        }
    }

    fn converse(&mut self) -> Result<()> {
        self.line.wire.flush()?;
        self.line.wire.meet()?;
        let can = match self.line.next()? {
            Some(Frame::Open(open)) => self.greet(&open)?,
            _ => return Err(wire::cut("before it was introduced")),
        };
        let mut keeper = Keeper::open(self.options, self.disk, self.clock, self.seed, can)?;
        let ended = self.serve(&mut keeper);
        keeper.close();
        ended
    }

    fn greet(&mut self, open: &Open) -> Result<Capabilities> {
        let agreed = Capabilities::TREE.agree(&open.capabilities);
        let protocol = Protocols::OURS.common(open.protocol);
        self.line.answer(&Frame::Opened(Opened {
            protocol: protocol.unwrap_or(Protocols::OURS.max),
            tool: self.options.tool.clone(),
            capabilities: Capabilities::TREE.words(),
        }))?;
        self.line.wire.agree(agreed, 0);
        Ok(agreed)
    }

    fn serve(&mut self, keeper: &mut Keeper<'_>) -> Result<()> {
        keeper.look_ahead()?;
        loop {
            match self.line.next()? {
                None => return Ok(()),
                Some(Frame::Bye) => {
                    self.served.goodbye = true;
                    return Ok(());
                }
                Some(Frame::Ping) => self.line.answer(&Frame::Ok)?,
                Some(Frame::Summary(theirs)) => {
                    let differs = keeper.compare(&theirs)?;
                    self.line.answer(&Frame::Differs(differs.clone()))?;
                    if differs.is_nowhere() {
                        self.served.unchanged += 1;
                        keeper.tidy();
                        continue;
                    }
                    match self.line.hear()? {
                        Frame::Entries(head) => {
                            self.change(keeper, head, Some((differs, theirs.bucket_bits)))?;
                        }
                        other => return Err(out_of_turn(&other)),
                    }
                }
                Some(Frame::Entries(head)) => self.change(keeper, head, None)?,
                Some(other) => return Err(out_of_turn(&other)),
            }
        }
    }

    /// Takes one change: entries, what they need, the commit.
    fn change(
        &mut self,
        keeper: &mut Keeper<'_>,
        head: EntriesHead,
        differs: Option<(Differs, u8)>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        while self.line.session.awaits_entries() {
            match self.line.hear()? {
                Frame::Data(some) => bytes.extend_from_slice(&some),
                other => return Err(out_of_turn(&other)),
            }
        }
        let entries = entry::parse(&bytes, head.entries)?;
        drop(bytes);
        let files = files_of(&entries);
        self.line.session.listed(files.iter().copied());
        let change = Change {
            entries,
            files,
            eager: head.eager,
            differs,
        };
        let taken = keeper.take(&mut self.line, &change);
        match taken {
            Ok(committed) => {
                self.served.commits += 1;
                self.line.answer(&Frame::Committed(committed))?;
                keeper.tidy_after_change();
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                keeper.abandon()?;
                self.line.answer(&Frame::Ok)
            }
            Err(error) => Err(error),
        }
    }
}

/// The places of files in a list.
fn files_of(entries: &[Entry]) -> Vec<u32> {
    (0_u32..)
        .zip(entries)
        .filter(|(_, entry)| {
            entry
                .node
                .as_ref()
                .is_some_and(|node| node.file().is_some())
        })
        .map(|(index, _)| index)
        .collect()
}
