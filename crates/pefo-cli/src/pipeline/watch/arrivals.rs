//! Something came into the spool: a generation, a heartbeat, a request.
//!
//! The spool is the transfer account's, and so is what inotify tells of it: a hint, no more. Directories
//! that are not there yet are waited for.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use pefo_core::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec};

/// Waits for what comes into some directories of the spool.
pub(super) struct Arrivals {
    inotify: Inotify,
    spool: PathBuf,
    wanted: Vec<PathBuf>,
    watched: Vec<(WatchDescriptor, PathBuf)>,
}

impl Arrivals {
    /// Into these directories below the spool.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn start(spool: &Path, wanted: Vec<PathBuf>) -> Result<Self> {
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

    /// Waits until something came, or `timeout` is over.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<()> {
        let failed = |error| Error::io("watch", &self.spool, error);
        let timeout =
            Timespec::try_from(timeout).map_err(|error| failed(std::io::Error::other(error)))?;
        let mut fds = [PollFd::from_borrowed_fd(
            self.inotify.as_fd(),
            PollFlags::IN,
        )];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => self.collect(),
            Err(error) => Err(failed(error.into())),
        }
    }

    fn collect(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let mut is_changed = false;
        loop {
            match self.inotify.read_events(&mut buffer) {
                Ok(events) => {
                    for event in events {
                        if event.mask.contains(EventMask::IGNORED) {
                            self.watched.retain(|(watched, _)| *watched != event.wd);
                        }
                        is_changed |= event.mask.intersects(EventMask::ISDIR | EventMask::IGNORED);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Error::io("watch", &self.spool, error)),
            }
        }
        if is_changed {
            self.watch_what_stands()?;
        }
        Ok(())
    }

    /// Every wanted directory, and those above it in which it may appear.
    fn watch_what_stands(&mut self) -> Result<()> {
        let wanted = self.wanted.clone();
        for path in &wanted {
            let above: Vec<&Path> = path.ancestors().skip(1).collect();
            let above = above
                .into_iter()
                .take_while(|dir| dir.starts_with(&self.spool));
            let above: Vec<PathBuf> = above.map(Path::to_owned).collect();
            for dir in above.into_iter().rev() {
                self.watch(&dir, WatchMask::CREATE | WatchMask::MOVED_TO)?;
            }
            self.watch(path, WatchMask::MOVED_TO)?;
        }
        Ok(())
    }

    fn watch(&mut self, dir: &Path, mask: WatchMask) -> Result<()> {
        if self.watched.iter().any(|(_, watched)| watched == dir) {
            return Ok(());
        }
        let mask = mask | WatchMask::ONLYDIR | WatchMask::DONT_FOLLOW;
        match self.inotify.watches().add(dir, mask) {
            Ok(descriptor) => self.watched.push((descriptor, dir.to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("watch", dir, error)),
        }
        Ok(())
    }
}
