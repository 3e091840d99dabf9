//! Something came into the spool: a generation, a heartbeat, a request; or this host's own station changed.
//!
//! The spool is the transfer account's, and so is what inotify tells of it: a hint, no more. Directories
//! that are not there yet are waited for.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use pefo_core::clock::Clock;
use pefo_core::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::ROUND;

/// What a directory of the spool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Generations,
    Heartbeats,
    Requests,
    /// What peers say of who reigns.
    Reigns,
    /// None of the spool's: role, reign and pause of this host.
    Station,
}

/// What came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Came {
    pub(super) generations: bool,
    pub(super) heartbeats: bool,
    pub(super) requests: bool,
}

impl Came {
    /// Anything may have come.
    pub(super) const ANYTHING: Self = Self {
        generations: true,
        heartbeats: true,
        requests: true,
    };

    fn note(&mut self, kind: Kind) {
        match kind {
            Kind::Generations => self.generations = true,
            Kind::Heartbeats => self.heartbeats = true,
            Kind::Requests => self.requests = true,
            // Whoever waits looks at it by itself.
            Kind::Reigns | Kind::Station => {}
        }
    }
}

/// Waits for what comes into some directories of the spool.
pub(super) struct Arrivals {
    inotify: Inotify,
    spool: PathBuf,
    wanted: Vec<(Kind, PathBuf)>,
    watched: Vec<(WatchDescriptor, PathBuf, Option<Kind>)>,
}

impl Arrivals {
    /// Into these directories below the spool.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn start(spool: &Path, wanted: Vec<(Kind, PathBuf)>) -> Result<Self> {
        let inotify = Inotify::init().map_err(|error| Error::io("watch", spool, error))?;
        let mut arrivals = Self {
            inotify,
            spool: spool.to_owned(),
            wanted,
            watched: Vec::new(),
        };
        arrivals.watch_what_stands()?;
        Ok(arrivals)
    }

    /// Waits until something came; when `timeout` is over, anything may have.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<Came> {
        Ok(self.within(timeout)?.unwrap_or(Came::ANYTHING))
    }

    /// As [`Arrivals::wait`], unless `goes_on`, which is asked at least every [`ROUND`], says no.
    ///
    /// # Errors
    /// `Io`, and what `goes_on` says.
    pub(super) fn wait_unless(
        &mut self,
        timeout: Duration,
        clock: &dyn Clock,
        goes_on: &dyn Fn() -> Result<()>,
    ) -> Result<Came> {
        let until = clock.monotonic() + timeout;
        loop {
            goes_on()?;
            let left = until.saturating_sub(clock.monotonic());
            if left.is_zero() {
                return Ok(Came::ANYTHING);
            }
            if let Some(came) = self.within(left.min(ROUND))? {
                return Ok(came);
            }
        }
    }

    /// What came within this time.
    fn within(&mut self, timeout: Duration) -> Result<Option<Came>> {
        let failed = |error| Error::io("watch", &self.spool, error);
        let timeout =
            Timespec::try_from(timeout).map_err(|error| failed(std::io::Error::other(error)))?;
        let mut fds = [PollFd::from_borrowed_fd(
            self.inotify.as_fd(),
            PollFlags::IN,
        )];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) => Ok(None),
            Ok(_) | Err(rustix::io::Errno::INTR) => self.collect().map(Some),
            Err(error) => Err(failed(error.into())),
        }
    }

    fn collect(&mut self) -> Result<Came> {
        let mut buffer = [0; 16 * 1024];
        let mut is_changed = false;
        let mut came = Came::default();
        loop {
            match self.inotify.read_events(&mut buffer) {
                Ok(events) => {
                    for event in events {
                        let watched = self
                            .watched
                            .iter()
                            .find(|(watched, ..)| *watched == event.wd);
                        match watched {
                            Some((_, _, Some(kind))) => came.note(*kind),
                            _ => is_changed = true,
                        }
                        if event.mask.contains(EventMask::IGNORED) {
                            self.watched.retain(|(watched, ..)| *watched != event.wd);
                            is_changed = true;
                        }
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Error::io("watch", &self.spool, error)),
            }
        }
        if is_changed {
            self.watch_what_stands()?;
            came = Came::ANYTHING;
        }
        Ok(came)
    }

    /// Every wanted directory, and those above it in which it may appear.
    fn watch_what_stands(&mut self) -> Result<()> {
        let wanted = self.wanted.clone();
        for (kind, path) in &wanted {
            let above: Vec<&Path> = path.ancestors().skip(1).collect();
            let above = above
                .into_iter()
                .take_while(|dir| dir.starts_with(&self.spool));
            let above: Vec<PathBuf> = above.map(Path::to_owned).collect();
            for dir in above.into_iter().rev() {
                self.watch(&dir, WatchMask::CREATE | WatchMask::MOVED_TO, None)?;
            }
            self.watch(path, WatchMask::MOVED_TO, Some(*kind))?;
        }
        Ok(())
    }

    fn watch(&mut self, dir: &Path, mask: WatchMask, kind: Option<Kind>) -> Result<()> {
        // Of other events above them only those of directories count, and only by their being there.
        let mask = mask | WatchMask::ONLYDIR | WatchMask::DONT_FOLLOW;
        match self.inotify.watches().add(dir, mask) {
            // The same one for the same directory; another one where it was put in the place of the first.
            Ok(descriptor) => {
                let stood = self.watched.iter().position(|(_, path, _)| path == dir);
                let stood = stood.map(|at| self.watched.swap_remove(at).0);
                if let Some(stood) = stood.filter(|stood| *stood != descriptor) {
                    // It fails where the directory is gone, and the watch with it.
                    drop(self.inotify.watches().remove(stood));
                }
                self.watched.push((descriptor, dir.to_owned(), kind));
            }
            // Not there yet, or no directory: who may write there decides that, and it may be one soon.
            Err(error) if is_of_the_spool(&error) => {}
            Err(error) => return Err(Error::io("watch", dir, error)),
        }
        Ok(())
    }
}

/// Whether it comes from what the transfer account put there.
fn is_of_the_spool(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let theirs = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::ACCESS];
    theirs
        .map(|it| Some(it.raw_os_error()))
        .contains(&error.raw_os_error())
}
