//! The active's half: hint → look → batch, for every peer.
//!
//! [`Feed`] makes generations of what a look at the CA gives; it knows neither sockets nor threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pefo_ca::snapshot::MAX_FILE_BYTES;
use pefo_ca::source::{Change, Observed};
use pefo_ca::watch::{Hint, Waker, Watcher};
use pefo_ca::{CaLayout, Exclusions, SnapshotOptions, SourceIndex};
use pefo_core::cancel::Cancel;
use pefo_core::digest_cache::Identity;
use pefo_core::disk::read_capped;
use pefo_core::generation::outgoing::{Author, Description};
use pefo_core::generation::{DataSet, FileEntry, Outgoing};
use pefo_core::keys::SigningKey;
use pefo_core::pairing::Introduction;
use pefo_core::reign::{Reign, Role};
use pefo_core::{Digest, Error, ErrorKind, Result};

use super::arrivals::{Arrivals, Kind};
use super::line::Line;
use super::notices::Notices;
use super::numbers::Numbers;
use super::outbox::{Outbox, Parcel};
use super::{Beat, Course, ROUND};
use crate::arguments;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::apply::stamps;
use crate::pipeline::kept::Kept;
use crate::pipeline::{ca, steps};
use crate::reigns::pause;

/// A CA that cannot be followed is looked at again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// What ends no act of the CA waits this long for what does.
const QUIET: Duration = Duration::from_millis(50);
/// The files of which the next version crosses as a difference.
const CRLS: [&str; 2] = ["ca_crl.pem", "infra_crl.pem"];

/// Watches this host's CA and sends what changes to every peer.
///
/// # Errors
/// `Locked`, `WrongRole`, `Fenced`; what every peer refuses for good.
pub(super) fn run(host: &Host, beat: &dyn Beat) -> Result<Report> {
    let active = Active::open(host)?;
    let _lock = host.lock("push-ca")?;
    // What a push had kept is overtaken: the watch begins with what each peer has.
    Kept::of(host, &DataSet::Ca).clear();
    let mut course = Course::of_ca(Role::Active);
    let mut has_watched = false;
    loop {
        beat.beat()?;
        let ended = watch(&active, &mut course, &mut has_watched, beat);
        match ended {
            Ok(over) => return Err(over),
            // The directory was moved or is being put back: what is there afterwards is looked at anew.
            Err(error)
                if error.is_retryable() || has_watched && error.rule() == Some("ca-missing") =>
            {
                course.note(host, None, Some(&error));
                tracing::warn!(%error, "the CA cannot be watched, trying again");
                host.clock.wait(AGAIN);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Gives what ended it for good; tells whether there was a CA to watch.
fn watch(
    active: &Active<'_>,
    course: &mut Course,
    has_watched: &mut bool,
    beat: &dyn Beat,
) -> Result<Error> {
    let layout = ca::layout(active.host, &arguments::Change::default())?;
    *has_watched = true;
    // Before it is read: what changes from here on is hinted at.
    let mut watcher = Watcher::start(layout.cadir())?;
    let mut feed = Feed::read(active, layout)?;
    tracing::info!(files = feed.index.state().paths().count(), cadir = %feed.layout.cadir().display(), "watching");
    course.goes_on(active.host);
    let outbox = Outbox::new(active.peers.len());
    let cancel = Cancel::new();
    let begins = (feed.index.state().digest(), feed.numbers.next);
    std::thread::scope(|scope| {
        for (queue, peer) in active.peers.iter().enumerate() {
            let line = Line {
                active,
                peer,
                outbox: &outbox,
                queue,
                waker: watcher.waker(),
                cancel: cancel.clone(),
                begins,
            };
            scope.spawn(move || line.run());
        }
        let (waker, stop) = (watcher.waker(), cancel.clone());
        scope.spawn(move || watch_station(active, &waker, &stop));
        let ended = follow(&mut feed, &mut watcher, &outbox, course, beat);
        outbox.stop();
        cancel.cancel();
        ended
    })
}

/// Wakes the watcher where this host's station has changed, also by what a peer has left word of.
fn watch_station(active: &Active<'_>, waker: &Waker, stop: &Cancel) {
    let mut notices = Notices::of(active.host);
    let places = vec![
        (Kind::Station, active.host.state("public")),
        notices.place(),
    ];
    let arrivals = Arrivals::start(&active.host.config.site.spool_dir, places);
    let mut arrivals = match arrivals {
        Ok(arrivals) => arrivals,
        Err(error) => {
            return tracing::warn!(%error, "a change of role shows with the next heartbeat");
        }
    };
    while !stop.is_cancelled() {
        if let Err(error) = arrivals.wait(AGAIN) {
            return tracing::warn!(%error, "a change of role shows with the next heartbeat");
        }
        notices.look();
        if active.may_go_on().is_err() {
            return waker.wake();
        }
    }
}

/// Sends what the hints lead to, until it is over.
fn follow(
    feed: &mut Feed<'_>,
    watcher: &mut Watcher,
    outbox: &Outbox,
    course: &mut Course,
    beat: &dyn Beat,
) -> Result<Error> {
    let mut hints: Vec<Hint> = Vec::new();
    loop {
        beat.beat()?;
        feed.active.may_go_on()?;
        let came = watcher.next(if hints.is_empty() { ROUND } else { QUIET })?;
        let is_quiet = came.is_none();
        hints.extend(came);
        drain(watcher, &mut hints)?;
        if outbox.is_over() {
            let over = || Error::new(ErrorKind::Cancelled, "the watch was stopped");
            return Ok(outbox.over().unwrap_or_else(over));
        }
        let closes = hints.iter().any(Hint::closes_batch);
        // What ends no act of the CA goes along with what does, or once all is quiet: a request that
        // nobody signs at once is to be there when the spare has to.
        if !closes && outbox.wanting().is_empty() && (!is_quiet || hints.is_empty()) {
            continue;
        }
        // A peer that cannot be reached is busy for as long: a change of role is not to wait for it.
        if !outbox.wait_ready(AGAIN) {
            continue;
        }
        drain(watcher, &mut hints)?;
        feed.active.may_go_on()?;
        match send(feed, &hints, outbox) {
            Ok(unsettled) => {
                course.goes_on(feed.active.host);
                hints = unsettled;
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "the CA cannot be followed as it stands");
                course.note(feed.active.host, None, Some(&error));
                hints = vec![Hint::Rescan];
                feed.active.host.clock.wait(AGAIN);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Looks at what the hints name and hands out what is different; what was torn is to be looked at again.
fn send(feed: &mut Feed<'_>, hints: &[Hint], outbox: &Outbox) -> Result<Vec<Hint>> {
    let (batch, unsettled) = feed.look(hints)?;
    if let Some(batch) = batch {
        outbox.offer(&Arc::new(batch));
    }
    let wanting = outbox.wanting();
    if !wanting.is_empty() {
        let full = Arc::new(feed.full()?);
        for peer in wanting {
            outbox.offer_full(peer, Arc::clone(&full));
        }
    }
    Ok(unsettled)
}

/// Takes the hints that are there.
fn drain(watcher: &mut Watcher, hints: &mut Vec<Hint>) -> Result<()> {
    while let Some(hint) = watcher.next(Duration::ZERO)? {
        hints.push(hint);
    }
    Ok(())
}

/// This host as the active.
pub struct Active<'a> {
    pub(super) host: &'a Host,
    pub(super) me: Introduction,
    pub(super) key: SigningKey,
    pub(super) reign: Reign,
    pub(super) peers: Vec<Introduction>,
    /// Of what it was opened from.
    stamps: [Option<Identity>; 3],
}

impl<'a> Active<'a> {
    /// Opens it.
    ///
    /// # Errors
    /// `WrongRole` on the passive; `Fenced` where its reign has ended or its role is changing; `Refused`
    /// (`paused`).
    pub fn open(host: &'a Host) -> Result<Self> {
        let stamps = stamps(host);
        pause::check(host, &arguments::Change::default())?;
        Ok(Self {
            host,
            stamps,
            reign: host.require(Role::Active)?,
            me: host.introduction()?,
            key: host.signing_key()?,
            peers: host.peers()?,
        })
    }
}

impl Active<'_> {
    /// Lets nothing pass once role, reign or peers are others than when it was opened, or somebody has paused
    /// this host.
    fn may_go_on(&self) -> Result<()> {
        if self.stamps == stamps(self.host) {
            return Ok(());
        }
        pause::check(self.host, &arguments::Change::default())?;
        let reign = self.host.require(Role::Active)?;
        if reign == self.reign && self.peers == self.host.peers()? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::WrongRole,
            "role, reign or peers of this host have changed",
        ))
    }
}

/// The CA as it was last looked at, and the generations that are made of it.
pub struct Feed<'a> {
    active: &'a Active<'a>,
    layout: CaLayout,
    exclusions: Exclusions,
    index: SourceIndex,
    /// What the next CRL is told as a difference to.
    crls: BTreeMap<&'static str, Vec<u8>>,
    numbers: Numbers<'a>,
}

impl<'a> Feed<'a> {
    /// Reads all of it.
    ///
    /// # Errors
    /// What [`SourceIndex::read`] refuses; `Io`.
    pub fn read(active: &'a Active<'a>, layout: CaLayout) -> Result<Self> {
        let host = active.host;
        let passives = active.peers.iter().map(|peer| peer.certname.clone());
        let exclusions = ca::exclusions(host, passives);
        let options = SnapshotOptions::default().exclude(exclusions.clone());
        let index = SourceIndex::read(&layout, &options, &*host.clock)?;
        let mut crls = BTreeMap::new();
        for name in CRLS {
            match read_capped(&layout.cadir().join(name), MAX_FILE_BYTES) {
                Ok(bytes) => drop(crls.insert(name, bytes)),
                Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            active,
            layout,
            exclusions,
            index,
            crls,
            numbers: Numbers::open(host, &active.reign)?,
        })
    }

    /// The state that it is in: what a peer must have for the next batch.
    pub fn state(&self) -> Digest {
        self.index.state().digest()
    }

    /// Looks at what the hints name; the batch that tells what is different, and what was torn and is to be
    /// looked at again.
    ///
    /// # Errors
    /// What [`SourceIndex::look`] refuses; `Io`.
    pub fn look(&mut self, hints: &[Hint]) -> Result<(Option<Parcel>, Vec<Hint>)> {
        let observed = self.index.look(hints, &*self.active.host.clock)?;
        for problem in &observed.problems {
            tracing::warn!(path = %problem.path, error = %problem.error, "does not cross");
        }
        let batch = if observed.changes.is_empty() {
            None
        } else {
            Some(self.batch(&observed)?)
        };
        let unsettled = observed.unsettled.into_iter().map(Hint::Changed);
        Ok((batch, unsettled.collect()))
    }

    fn batch(&mut self, observed: &Observed) -> Result<Parcel> {
        let (mut told, mut payload) = (Vec::new(), Vec::new());
        for change in &observed.changes {
            let name = CRLS
                .into_iter()
                .find(|name| *name == change.path().as_str());
            let base = name.and_then(|name| self.crls.get(name));
            let (step, bytes) = steps::shortest(change, base.map(Vec::as_slice))?;
            told.push(step);
            payload.extend(bytes);
            if let (Some(name), Change::Put { bytes, .. }) = (name, change) {
                self.crls.insert(name, bytes.clone());
            }
        }
        let position = self.numbers.give_out(observed.to)?;
        let outgoing = Outgoing::batch(
            self.author(),
            DataSet::Ca,
            position.sequence,
            (observed.from, observed.to),
            told,
            payload,
            &[],
            self.description(),
        )?;
        Ok(Parcel {
            outgoing,
            from: Some(observed.from),
            to: observed.to,
        })
    }

    /// All of it as it was last looked at, read from where it stands when it is sent.
    ///
    /// # Errors
    /// `Io`, worth a retry where a file has gone since.
    pub fn full(&mut self) -> Result<Parcel> {
        let cadir = self.layout.cadir();
        let state = self.index.state();
        let to = state.digest();
        let mut files = Vec::new();
        for path in state.paths() {
            let Some((mode, blake3)) = state.get(path) else {
                continue;
            };
            let file = path.in_dir(cadir);
            let meta = std::fs::symlink_metadata(&file);
            let moved = |error| Error::io("examine", &file, error).retryable(true);
            files.push(FileEntry {
                path: path.clone(),
                size: meta.map_err(moved)?.len(),
                mode,
                blake3,
                sealed: false,
                unpacked_size: None,
            });
        }
        let position = self.numbers.give_out(to)?;
        let outgoing = Outgoing::standing(
            self.author(),
            DataSet::Ca,
            position.sequence,
            cadir.to_owned(),
            files,
            self.description(),
        )?;
        Ok(Parcel {
            outgoing,
            from: None,
            to,
        })
    }

    fn author(&self) -> Author<'_> {
        Host::author(&self.active.me, &self.active.key, &self.active.reign)
    }

    fn description(&self) -> Description {
        Description {
            products: BTreeMap::new(),
            time: self.active.host.clock.now(),
            summary: ca::left_out(&self.exclusions),
        }
    }
}
