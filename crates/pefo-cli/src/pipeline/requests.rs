//! What the active asks of this host's root: read in the spool, answered below `public/answers`.
//!
//! Runs at the end of every apply. Each request is answered once, by a signed document that fits no
//! other request; what is not signed by a paired peer is left where it is and gets no word. One that
//! cannot be answered now, since another run holds the data set, waits for the next run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pefo_core::disk::{Attributes, Beneath, read_capped};
use pefo_core::generation::batch::SourceState;
use pefo_core::generation::verify::stored_dir;
use pefo_core::generation::{Accepted, DataSet, Manifest, Position, spool};
use pefo_core::keys::SigningKey;
use pefo_core::lock::Lock;
use pefo_core::pairing::Introduction;
use pefo_core::record;
use pefo_core::reign::{Reign, Role};
use pefo_core::request::{Answer, Brought, Items, Nonce, Outcome, Request, Subject};
use pefo_core::{Digest, Error, ErrorKind, RelPath, Result};
use serde::{Deserialize, Serialize};

use super::apply::Passive;
use super::received::{reopen_batches, way_to};
use super::{ack, ca, code};
use crate::host::Host;
use crate::reigns::handover;

/// How many answers stay whose request is gone: the active may not have fetched them yet.
const KEPT_ANSWERS: usize = 16;

/// Answers what waits in the spool, and says which requests that were. On the active nothing waits. `holds`
/// is the data set whose lock the caller has.
///
/// # Errors
/// `Io`, or `Config` where this host is not set up. What is wrong with one request is its answer, or
/// keeps it waiting.
pub fn answer_pending(host: &Host, holds: Option<&DataSet>) -> Result<Vec<Nonce>> {
    let (station, reign) = host.station()?;
    if station.role != Role::Passive {
        return Ok(Vec::new());
    }
    let _lock = match host.lock("requests") {
        // The run that holds it answers them.
        Err(error) if error.kind() == ErrorKind::Locked => return Ok(Vec::new()),
        lock => lock?,
    };
    let root = Root {
        host,
        holds,
        me: host.introduction()?,
        key: host.signing_key()?,
        reign,
    };
    let spool_dir = Beneath::open(&host.config.site.spool_dir)?;
    let (mut answered, mut standing) = (Vec::new(), BTreeSet::new());
    for peer in host.peers()? {
        let (dir, nonces) = match waiting(&spool_dir, &peer) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%error, peer = %peer.certname, "requests cannot be read");
                continue;
            }
        };
        let mut asked = Vec::new();
        for nonce in nonces {
            standing.insert(nonce.clone());
            if spool::answer_path(&host.answers(), &nonce).exists() {
                continue;
            }
            match root.read(&peer, &dir, &nonce) {
                Ok(request) => asked.push(request),
                Err(error) => {
                    tracing::warn!(%error, %nonce, peer = %peer.certname, "a request waits on");
                }
            }
        }
        // The steps of a handover are not to be taken after what took them back.
        asked.sort_by_key(|(request, _)| request.time);
        for (request, document) in asked {
            match root.answer(&peer, &request, &document) {
                Ok(()) => answered.push(request.nonce),
                Err(Unanswered::Waits(error)) => {
                    let nonce = &request.nonce;
                    tracing::warn!(%error, %nonce, peer = %peer.certname, "a request waits on");
                }
                Err(Unanswered::Failed(error)) => return Err(error),
            }
        }
    }
    prune(host, &standing)?;
    drop(root);
    // What follows once the reign was handed over is nothing that the peer waits for.
    handover::go_on(host, holds)?;
    Ok(answered)
}

/// A peer's requests, as many as there may be; `None` where it never sent one.
fn waiting(spool_dir: &Beneath, peer: &Introduction) -> Result<Option<(Beneath, Vec<Nonce>)>> {
    let path = spool::requests_dir(Path::new(""), &peer.certname);
    let dir = match spool_dir.dir(&RelPath::new(path.to_string_lossy())?) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => return Ok(None),
        dir => dir?,
    };
    let mut nonces = spool::list_requests(&dir)?;
    nonces.truncate(spool::MAX_REQUESTS);
    Ok(Some((dir, nonces)))
}

/// Why a request has no answer.
enum Unanswered {
    /// It cannot be answered now.
    Waits(Error),
    /// The answer could not be published.
    Failed(Error),
}

struct Root<'a> {
    host: &'a Host,
    holds: Option<&'a DataSet>,
    me: Introduction,
    key: SigningKey,
    reign: Reign,
}

impl Root<'_> {
    fn answer(
        &self,
        peer: &Introduction,
        request: &Request,
        document: &[u8],
    ) -> Result<(), Unanswered> {
        let outcome = match self.act(peer, request) {
            Ok(outcome) => outcome,
            Err(error) if error.kind() == ErrorKind::Locked => {
                return Err(Unanswered::Waits(error));
            }
            Err(error) => Outcome::refused(&error),
        };
        self.publish(request, document, outcome)
            .map_err(Unanswered::Failed)
    }

    /// The request, as this peer signed it.
    fn read(
        &self,
        peer: &Introduction,
        dir: &Beneath,
        nonce: &Nonce,
    ) -> Result<(Request, Vec<u8>)> {
        let document = dir.read(&RelPath::new(nonce.as_str())?, Request::MAX_BYTES)?;
        let request = Request::check(&document, &self.me.site, &[peer.signing])?;
        if request.nonce != *nonce || request.certname != peer.certname {
            return Err(Error::refused(
                "request-record",
                format!(
                    "request {} of {} lies under another's name",
                    request.nonce, request.certname
                ),
            ));
        }
        Ok((request, document))
    }

    fn act(&self, peer: &Introduction, request: &Request) -> Result<Outcome> {
        // One that was asked under a reign that has ended is told so, or it would wait for ever.
        self.reign.admit(request.epoch, &request.holder)?;
        match &request.subject {
            Subject::Verify { dataset } => self.verify(dataset).map(Outcome::Items),
            Subject::Reconcile { dataset } => {
                let _lock = self.lock(dataset)?;
                reconcile(self.host, dataset, peer, &self.me).map(|()| Outcome::Done)
            }
            Subject::Bring { dataset } => self.bring(dataset).map(Outcome::Brought),
            Subject::Switchover(step) => {
                handover::take(self.host, step, request, self.holds).map(|()| Outcome::Done)
            }
        }
    }

    /// What this host has that the generations it accepted do not; of code, what is deployed here now.
    fn bring(&self, dataset: &DataSet) -> Result<Brought> {
        // Code is looked at, whoever deploys it meanwhile.
        let _lock = match dataset {
            DataSet::Code => None,
            dataset => self.lock(dataset)?,
        };
        let Some(accepted) = Accepted::load(&self.host.record_path("accepted", dataset))? else {
            return Err(self.nothing_accepted(dataset));
        };
        let files = match dataset {
            DataSet::Ca => {
                let held = Passive::open(self.host)?.held(dataset, &accepted)?;
                ca::beyond(self.host, &held.state)?
            }
            DataSet::Code => code::brought(self.host)?,
            _ => {
                let message = format!("{dataset} is not brought from one master to the other");
                return Err(Error::refused("dataset-unknown", message));
            }
        };
        let brought = Brought {
            dataset: dataset.clone(),
            position: accepted.position,
            files,
        };
        brought.fits()?;
        Ok(brought)
    }

    fn nothing_accepted(&self, dataset: &DataSet) -> Error {
        let message = format!("{} has accepted nothing of {dataset}", self.me.certname);
        Error::refused("nothing-accepted", message).hint("push, apply there, then ask again")
    }

    /// What root holds of the newest accepted generation, as it reads now. A file that is gone is left
    /// out, one that was changed has another digest: the state then tells, and the items tell where.
    fn verify(&self, dataset: &DataSet) -> Result<Items> {
        let _lock = self.lock(dataset)?;
        let Some(accepted) = Accepted::load(&self.host.record_path("accepted", dataset))? else {
            return Err(self.nothing_accepted(dataset));
        };
        let (state, items) = self.held(dataset, accepted.position)?;
        Ok(Items::of(dataset.clone(), accepted.position, state, items))
    }

    fn lock(&self, dataset: &DataSet) -> Result<Option<Lock>> {
        if self.holds == Some(dataset) {
            return Ok(None);
        }
        let name = format!("apply-{}", dataset.dir_name());
        self.host.lock(&name).map(Some)
    }

    /// State and items of what root's store has, up to `position`.
    fn held(
        &self,
        dataset: &DataSet,
        position: Position,
    ) -> Result<(Digest, BTreeMap<RelPath, Digest>)> {
        let store = self.host.store(dataset);
        let passive = Passive::open(self.host)?;
        let gate = passive.gate(dataset, None);
        let (base, after) = way_to(&store, position)?;
        let dir = stored_dir(&store, base);
        let document = read_capped(&dir.join(spool::MANIFEST), Manifest::MAX_BYTES)?;
        let manifest = Manifest::check(&document, gate.site, dataset, gate.keys)?;
        let batches = reopen_batches(&gate, &store, after, &manifest)?;
        let data = dir.join(spool::DATA);
        let mut state = SourceState::default();
        for file in manifest.files {
            let path = file.path.in_dir(&data);
            let digest = match File::open(&path).and_then(Digest::of_reader) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                read => read.map_err(|error| Error::io("read", &path, error))?.0,
            };
            state.put(file.path, file.mode, digest);
        }
        for batch in &batches {
            for (step, _) in batch.steps()? {
                state.take(step);
            }
        }
        let digest = |path: &RelPath| Some((path.clone(), state.get(path)?.1));
        let items = state.paths().filter_map(digest).collect();
        Ok((state.digest(), items))
    }

    fn publish(&self, request: &Request, document: &[u8], outcome: Outcome) -> Result<()> {
        let Host { disk, clock, .. } = self.host;
        let certname = self.me.certname.clone();
        let answer = Answer::to(request, document, certname, clock.now(), outcome);
        let bytes = answer.sign(request, &self.key)?;
        let answers = self.host.answers();
        disk.create_dir(&answers, &Attributes::mode(0o755))?;
        let path = spool::answer_path(&answers, &request.nonce);
        disk.publish(&path, &bytes, &Attributes::mode(0o644))
    }
}

/// A full generation was asked for, and wanted until one newer than this was accepted.
#[derive(Debug, Serialize, Deserialize)]
struct Wish {
    accepted: Option<Position>,
    why: String,
}

fn wish_path(host: &Host, dataset: &DataSet) -> PathBuf {
    host.state("accepted")
        .join(format!("{}.wish.json", dataset.dir_name()))
}

/// Why a peer asked for a full generation that has not come since.
///
/// # Errors
/// `Io`, or `Invalid` where the record is malformed.
pub(super) fn wished(
    host: &Host,
    dataset: &DataSet,
    accepted: Option<Position>,
) -> Result<Option<String>> {
    let wish: Option<Wish> = record::load(&wish_path(host, dataset))?;
    Ok(wish
        .filter(|wish| accepted <= wish.accepted)
        .map(|wish| wish.why))
}

/// Publishes an ack that wants a full generation; all that follow want it too, until one has come.
fn reconcile(host: &Host, dataset: &DataSet, peer: &Introduction, me: &Introduction) -> Result<()> {
    if !host.datasets().contains(dataset) {
        return Err(Error::refused(
            "dataset-unknown",
            format!("{} is not set up to apply {dataset}", me.certname),
        )
        .hint("name it in its configuration"));
    }
    let accepted = Accepted::load(&host.record_path("accepted", dataset))?;
    let wish = Wish {
        accepted: accepted.map(|accepted| accepted.position),
        why: format!("asked for by {}", peer.certname),
    };
    host.store_json(&wish_path(host, dataset), &wish, 0o600)?;
    // What the ack before said of the newest generation still holds.
    let refused = ack::own(host, dataset)?
        .map(|ack| ack.refused)
        .unwrap_or_default();
    ack::publish(host, dataset, Some(wish.why), refused).map(drop)
}

/// Removes the oldest answers to requests that are gone from the spool.
fn prune(host: &Host, standing: &BTreeSet<Nonce>) -> Result<()> {
    let answers = host.answers();
    if !answers.is_dir() {
        return Ok(());
    }
    host.disk.remove_temps(&answers)?;
    let mut gone: Vec<(SystemTime, PathBuf)> = Vec::new();
    let fail = |error| Error::io("list", &answers, error);
    for entry in std::fs::read_dir(&answers).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let nonce = name
            .to_str()
            .and_then(|name| name.strip_suffix(spool::ANSWER_SUFFIX))
            .and_then(|name| Nonce::new(name).ok());
        if nonce.is_some_and(|nonce| !standing.contains(&nonce)) {
            let meta = entry.metadata().map_err(fail)?;
            gone.push((meta.modified().map_err(fail)?, entry.path()));
        }
    }
    gone.sort();
    let surplus = gone.len().saturating_sub(KEPT_ANSWERS);
    gone.into_iter()
        .take(surplus)
        .try_for_each(|(_, path)| host.disk.remove_file(&path))
}
