//! Hints that a cadir changed, from inotify.
//!
//! An event is a hint and the disk is the truth: whoever gets one takes a snapshot. Lost events
//! (`Q_OVERFLOW`), a directory that appears or goes: all become [`Hint::Rescan`]. The server's own temp
//! files are not worth waking up for and are dropped.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use pefo_core::disk::is_temp_name;
use pefo_core::{Error, RelPath, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

/// What may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// This file was replaced or written.
    Changed(RelPath),
    /// This file was removed or renamed away.
    Gone(RelPath),
    /// Anything may have changed: reconcile in full.
    Rescan,
}

impl Hint {
    /// Whether the change ends an act of the CA, so that what was collected can be sent: a certificate in
    /// signed/, or a CRL. A serial or an inventory row alone is the middle of a signature, and a request
    /// that comes may be signed in the same moment: both wait for what ends it, or for quiet.
    pub fn closes_batch(&self) -> bool {
        let path = match self {
            Self::Rescan => return true,
            Self::Changed(path) | Self::Gone(path) => path.as_str(),
        };
        path.starts_with("signed/") || matches!(path, "ca_crl.pem" | "infra_crl.pem")
    }
}

/// Wakes a [`Watcher`] up for good, from another thread.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<OwnedFd>);

impl Stopper {
    /// Makes the watcher's [`Watcher::next`] return `None` at once, now and ever after.
    pub fn stop(&self) {
        // Writing to an eventfd fails only where its counter is full, that is, stopped long ago.
        let _full = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// Makes a [`Watcher`] that waits come back once, from another thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes [`Watcher::next`] return `None` before its time, where no hint is there.
    pub fn wake(&self) {
        // It is full where nobody has waited for long: the wake-up is there already.
        let _full = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// Watches a cadir, its signed/ and its requests/.
pub struct Watcher {
    cadir: PathBuf,
    inotify: Inotify,
    stop: Arc<OwnedFd>,
    wake: Arc<OwnedFd>,
    watches: Vec<(WatchDescriptor, &'static str)>,
    pending: VecDeque<Hint>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("cadir", &self.cadir)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// Starts watching; the first hint is [`Hint::Rescan`], since what happened before is not known.
    ///
    /// # Errors
    /// `Io` where inotify or the directory cannot be used; the limit of watches is named as such.
    pub fn start(cadir: &Path) -> Result<Self> {
        let fail = |error: io::Error| Error::io("watch", cadir, error);
        let inotify = Inotify::init().map_err(fail)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfd = || rustix::event::eventfd(0, flags).map_err(|error| fail(error.into()));
        let (stop, wake) = (eventfd()?, eventfd()?);
        let mut watcher = Self {
            cadir: cadir.to_owned(),
            inotify,
            stop: Arc::new(stop),
            wake: Arc::new(wake),
            watches: Vec::new(),
            pending: VecDeque::from([Hint::Rescan]),
        };
        watcher.watch("")?;
        watcher.watch_subdirectories()?;
        Ok(watcher)
    }

    /// A handle that ends the watch from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    /// A handle that cuts one wait short from another thread.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.wake))
    }

    /// The next hint; `None` after `timeout` without one, when stopped, or when woken.
    ///
    /// # Errors
    /// `Io`; `NotFound` where the cadir itself is gone.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Hint>> {
        let began = std::time::Instant::now();
        loop {
            if self.is_stopped() {
                return Ok(None);
            }
            if let Some(hint) = self.pending.pop_front() {
                return Ok(Some(hint));
            }
            let left = timeout.saturating_sub(began.elapsed());
            if !self.wait(left)? && left.is_zero() {
                return Ok(None);
            }
            self.collect()?;
            if self.pending.is_empty() && self.was_woken() {
                return Ok(None);
            }
        }
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        let mut fds = [PollFd::new(&*self.stop, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    fn was_woken(&self) -> bool {
        rustix::io::read(&*self.wake, &mut [0; 8]).is_ok()
    }

    fn wait(&self, timeout: Duration) -> Result<bool> {
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec {
            tv_sec: i64::from(i32::MAX),
            tv_nsec: 0,
        });
        let mut fds = [
            PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN),
            PollFd::new(&*self.stop, PollFlags::IN),
            PollFd::new(&*self.wake, PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(Error::io("watch", &self.cadir, error.into())),
        }
    }

    fn collect(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let events: Vec<_> = match self.inotify.read_events(&mut buffer) {
            Ok(events) => events
                .map(|event| {
                    (
                        event.wd.clone(),
                        event.mask,
                        event.name.map(OsStr::to_owned),
                    )
                })
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(Error::io("watch", &self.cadir, error)),
        };
        for (descriptor, mask, name) in events {
            if mask.contains(EventMask::Q_OVERFLOW) {
                self.push(Hint::Rescan);
                continue;
            }
            let Some(sub) = self
                .watches
                .iter()
                .find(|(watched, _)| *watched == descriptor)
                .map(|(_, sub)| *sub)
            else {
                continue;
            };
            if mask.intersects(
                EventMask::DELETE_SELF
                    | EventMask::MOVE_SELF
                    | EventMask::IGNORED
                    | EventMask::UNMOUNT,
            ) {
                self.watches.retain(|(watched, _)| *watched != descriptor);
                if sub.is_empty() {
                    return Err(Error::new(
                        pefo_core::ErrorKind::NotFound,
                        format!("{} was removed or replaced", self.cadir.display()),
                    )
                    .hint("Start the watch again once the CA directory is back.")
                    .retryable(true));
                }
                self.push(Hint::Rescan);
                self.watch_subdirectories()?;
            } else if mask.contains(EventMask::ISDIR) {
                if name
                    .as_deref()
                    .is_some_and(|name| name == "signed" || name == "requests")
                {
                    self.watch_subdirectories()?;
                    self.push(Hint::Rescan);
                }
            } else if !mask.contains(EventMask::CREATE)
                && let Some(path) = name.as_deref().and_then(|name| interesting(sub, name))
            {
                let is_gone = mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM);
                self.push(if is_gone {
                    Hint::Gone(path)
                } else {
                    Hint::Changed(path)
                });
            }
        }
        Ok(())
    }

    /// Adds a hint unless it waits already.
    fn push(&mut self, hint: Hint) {
        if hint == Hint::Rescan {
            // A rescan sees everything that came before it.
            self.pending.clear();
        }
        if !self.pending.contains(&hint) {
            self.pending.push_back(hint);
        }
    }

    fn watch_subdirectories(&mut self) -> Result<()> {
        for sub in ["signed", "requests"] {
            if !self.watches.iter().any(|(_, watched)| *watched == sub)
                && self.cadir.join(sub).is_dir()
            {
                self.watch(sub)?;
            }
        }
        Ok(())
    }

    fn watch(&mut self, sub: &'static str) -> Result<()> {
        let mask = WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::CLOSE_WRITE
            | WatchMask::DELETE
            | WatchMask::CREATE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let path = self.cadir.join(sub);
        match self.inotify.watches().add(&path, mask) {
            Ok(descriptor) => {
                self.watches.push((descriptor, sub));
                Ok(())
            }
            // Gone again between looking and watching.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !sub.is_empty() => Ok(()),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) => {
                Err(Error::io("watch", &path, error).hint("Raise fs.inotify.max_user_watches."))
            }
            Err(error) => Err(Error::io("watch", &path, error)),
        }
    }
}

/// Whether `name` is a temp file of puppetserver's: a name it writes, digits, `tmp`.
pub fn is_server_temp_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix("tmp") else {
        return false;
    };
    let target = stem.trim_end_matches(|character: char| character.is_ascii_digit());
    if target.len() == stem.len() {
        return false;
    }
    target == "serial"
        || target == "inventory.txt"
        || target.ends_with(".pem")
        || stem.starts_with("infra_")
}

fn interesting(sub: &str, name: &OsStr) -> Option<RelPath> {
    let name = name
        .to_str()
        .filter(|name| !is_server_temp_name(name) && !is_temp_name(name))?;
    let path = if sub.is_empty() {
        name.to_owned()
    } else {
        format!("{sub}/{name}")
    };
    RelPath::new(path).ok()
}
