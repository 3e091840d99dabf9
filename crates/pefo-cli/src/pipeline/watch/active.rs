//! The active's half: hint → look → batch, for every peer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pefo_ca::source::{Change, Observed};
use pefo_ca::watch::{Hint, Watcher};
use pefo_ca::{CaLayout, Exclusions, SnapshotOptions, SourceIndex};
use pefo_core::cancel::Cancel;
use pefo_core::disk::read_capped;
use pefo_core::generation::outgoing::{Description, Item, Sent};
use pefo_core::generation::{DataSet, Outgoing, Position};
use pefo_core::keys::SigningKey;
use pefo_core::pairing::Introduction;
use pefo_core::reign::{Reign, Role};
use pefo_core::{Digest, Error, Result};

use super::line::Line;
use super::outbox::{Outbox, Parcel};
use super::{Course, HEARTBEAT};
use crate::arguments;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::kept::Kept;
use crate::pipeline::{ca, steps};

/// A CA that cannot be followed is looked at again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// What ends no act of the CA waits this long for what does.
const QUIET: Duration = Duration::from_millis(50);
/// So many positions are given out for one write to the disk.
const RESERVED: u64 = 1000;
/// The files of which the next version crosses as a difference.
const CRLS: [&str; 2] = ["ca_crl.pem", "infra_crl.pem"];

/// Watches this host's CA and sends what changes to every peer.
///
/// # Errors
/// `Locked`, `WrongRole`, `Fenced`; what every peer refuses for good.
pub(super) fn run(host: &Host) -> Result<Report> {
    let reign = host.require(Role::Active)?;
    let _lock = host.lock("push-ca")?;
    let (me, key, peers) = (host.introduction()?, host.signing_key()?, host.peers()?);
    // What a push had kept is overtaken: the watch begins with what each peer has.
    Kept::of(host, &DataSet::Ca).clear();
    let mut course = Course::default();
    loop {
        let watch = Watch {
            host,
            me: &me,
            key: &key,
            reign: &reign,
            peers: &peers,
        };
        match watch.run() {
            Ok(over) => return Err(over),
            // The directory was moved or is being put back: what is there afterwards is looked at anew.
            Err(error) if error.is_retryable() => {
                course.note(host, None, Some(&error));
                tracing::warn!(%error, "the CA cannot be watched, trying again");
                host.clock.wait(AGAIN);
            }
            Err(error) => return Err(error),
        }
    }
}

struct Watch<'a> {
    host: &'a Host,
    me: &'a Introduction,
    key: &'a SigningKey,
    reign: &'a Reign,
    peers: &'a [Introduction],
}

impl Watch<'_> {
    /// Gives what ended it for good.
    fn run(&self) -> Result<Error> {
        let host = self.host;
        let layout = ca::layout(host, &arguments::Change::default())?;
        let passives = self.peers.iter().map(|peer| peer.certname.clone());
        let exclusions = ca::exclusions(host, passives);
        // Before it is read: what changes from here on is hinted at.
        let mut watcher = Watcher::start(layout.cadir())?;
        let options = SnapshotOptions::default().exclude(exclusions.clone());
        let index = SourceIndex::read(&layout, &options, &*host.clock)?;
        let mut source = Source {
            watch: self,
            crls: BTreeMap::new(),
            numbers: Numbers::open(host, self.reign)?,
            layout,
            exclusions,
            index,
        };
        source.learn_crls()?;
        tracing::info!(files = source.index.state().paths().count(), cadir = %source.layout.cadir().display(), "watching");
        let outbox = Outbox::new(self.peers.len());
        let cancel = Cancel::new();
        let begins = (source.index.state().digest(), source.numbers.next);
        std::thread::scope(|scope| {
            for (queue, peer) in self.peers.iter().enumerate() {
                let line = Line {
                    host,
                    me: self.me,
                    key: self.key,
                    reign: self.reign,
                    peer,
                    outbox: &outbox,
                    queue,
                    waker: watcher.waker(),
                    cancel: cancel.clone(),
                    begins,
                };
                scope.spawn(move || line.run());
            }
            let ended = source.follow(&mut watcher, &outbox);
            outbox.stop();
            cancel.cancel();
            ended
        })
    }
}

/// The CA as it was last looked at.
struct Source<'a> {
    watch: &'a Watch<'a>,
    layout: CaLayout,
    exclusions: Exclusions,
    index: SourceIndex,
    /// What the next CRL is told as a difference to.
    crls: BTreeMap<&'static str, Vec<u8>>,
    numbers: Numbers<'a>,
}

impl Source<'_> {
    fn follow(&mut self, watcher: &mut Watcher, outbox: &Outbox) -> Result<Error> {
        let mut hints: Vec<Hint> = Vec::new();
        loop {
            let came = watcher.next(if hints.is_empty() { HEARTBEAT } else { QUIET })?;
            let is_idle = came.is_none();
            hints.extend(came);
            drain(watcher, &mut hints)?;
            if outbox.is_over() {
                let over = || Error::new(pefo_core::ErrorKind::Cancelled, "the watch was stopped");
                return Ok(outbox.over().unwrap_or_else(over));
            }
            let closes = hints.iter().any(Hint::closes_batch);
            // What ends no act of the CA goes along with what does, or once all is quiet: a request that
            // nobody signs at once is to be there when the spare has to.
            if !closes && outbox.wanting().is_empty() && !(is_idle && !hints.is_empty()) {
                continue;
            }
            if !outbox.wait_ready() {
                continue;
            }
            drain(watcher, &mut hints)?;
            match self.look(&hints, outbox) {
                Ok(unsettled) => hints = unsettled,
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "the CA cannot be followed as it stands");
                    hints = vec![Hint::Rescan];
                    self.watch.host.clock.wait(AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks at what the hints name and sends what is different; what was torn is to be looked at again.
    fn look(&mut self, hints: &[Hint], outbox: &Outbox) -> Result<Vec<Hint>> {
        let observed = self.index.look(hints, &*self.watch.host.clock)?;
        for problem in &observed.problems {
            tracing::warn!(path = %problem.path, error = %problem.error, "does not cross");
        }
        if !observed.changes.is_empty() {
            let batch = Arc::new(self.batch(&observed)?);
            outbox.offer(&batch);
        }
        let wanting = outbox.wanting();
        if !wanting.is_empty() {
            let full = Arc::new(self.full()?);
            for peer in wanting {
                outbox.offer_full(peer, Arc::clone(&full));
            }
        }
        Ok(observed.unsettled.into_iter().map(Hint::Changed).collect())
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
        let Watch {
            host,
            me,
            key,
            reign,
            ..
        } = self.watch;
        let position = self.numbers.give_out(observed.to)?;
        let outgoing = Outgoing::batch(
            Host::author(me, key, reign),
            DataSet::Ca,
            position.sequence,
            (observed.from, observed.to),
            told,
            payload,
            &[],
            Description {
                products: BTreeMap::new(),
                time: host.clock.now(),
                summary: ca::left_out(&self.exclusions),
            },
        )?;
        Ok(Parcel {
            outgoing,
            from: Some(observed.from),
            to: observed.to,
        })
    }

    /// All of it as it was last looked at, read from where it stands when it is sent.
    fn full(&mut self) -> Result<Parcel> {
        let cadir = self.layout.cadir();
        let state = self.index.state();
        let to = state.digest();
        let mut items = Vec::new();
        for path in state.paths() {
            let Some((mode, digest)) = state.get(path) else {
                continue;
            };
            let file: PathBuf = path.in_dir(cadir);
            let meta = std::fs::symlink_metadata(&file);
            let size = meta
                .map_err(|error| Error::io("examine", &file, error).retryable(true))?
                .len();
            items.push(Item::standing(path.clone(), mode, size, digest, file));
        }
        let Watch {
            host,
            me,
            key,
            reign,
            ..
        } = self.watch;
        let position = self.numbers.give_out(to)?;
        let outgoing = Outgoing::full(
            Host::author(me, key, reign),
            DataSet::Ca,
            position.sequence,
            items,
            Description {
                products: BTreeMap::new(),
                time: host.clock.now(),
                summary: ca::left_out(&self.exclusions),
            },
        )?;
        Ok(Parcel {
            outgoing,
            from: None,
            to,
        })
    }

    fn learn_crls(&mut self) -> Result<()> {
        for name in CRLS {
            let path = self.layout.cadir().join(name);
            match read_capped(&path, pefo_ca::snapshot::MAX_FILE_BYTES) {
                Ok(bytes) => drop(self.crls.insert(name, bytes)),
                Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Takes the hints that are there.
fn drain(watcher: &mut Watcher, hints: &mut Vec<Hint>) -> Result<()> {
    while let Some(hint) = watcher.next(Duration::ZERO)? {
        hints.push(hint);
    }
    Ok(())
}

/// Positions, each given out once, whatever happens: they are taken from the disk by the thousand, before
/// the first of them is sent.
struct Numbers<'a> {
    host: &'a Host,
    path: PathBuf,
    next: Position,
    reserved: u64,
}

impl<'a> Numbers<'a> {
    fn open(host: &'a Host, reign: &Reign) -> Result<Self> {
        let path = host.record_path("sent", &DataSet::Ca);
        let next = Sent::next(Sent::load(&path)?.as_ref(), reign.epoch);
        Ok(Self {
            host,
            path,
            next,
            reserved: 0,
        })
    }

    fn give_out(&mut self, state: Digest) -> Result<Position> {
        let position = self.next;
        if position.sequence > self.reserved {
            self.reserved = position.sequence + RESERVED - 1;
            let last = Position {
                sequence: self.reserved,
                ..position
            };
            let sent = Sent {
                format: 1,
                position: last,
                state,
            };
            sent.store(&self.host.disk, &self.path)?;
        }
        self.next.sequence += 1;
        Ok(position)
    }
}
