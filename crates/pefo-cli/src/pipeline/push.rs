//! The active's half: snapshot → generation → transfer, to every peer.

mod confirm;
mod take_up;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pefo_core::ack::Ack;
use pefo_core::generation::outgoing::{Description, Item, Sent};
use pefo_core::generation::{DataSet, Outgoing, Position};
use pefo_core::heartbeat::Heartbeat;
use pefo_core::keys::SigningKey;
use pefo_core::pairing::Introduction;
use pefo_core::progress::Silent;
use pefo_core::reign::{Reign, Role};
use pefo_core::sealing::Recipient;
use pefo_core::{Certname, Digest, Error, ErrorKind, Result};
use pefo_transport::Purpose;
use serde_json::json;

use super::kept::Kept;
use super::scratch::Scratch;
use super::session::connect;
use super::{ca, code, db, files, nc};
use crate::arguments::Change;
use crate::host::{Delivered, Host};
use crate::outcome::Report;
use crate::reigns::{ask, learn, look, pause};
use take_up::TakenUp;

/// What a data set's library collected, ready to become a generation.
pub struct Collected {
    /// Names what it means: equal digests need no new generation, whatever time stamps they carry.
    pub meaning: Digest,
    /// The files.
    pub items: Vec<Item>,
    /// Products and summary.
    pub description: Description,
    /// One line for people.
    pub text: String,
}

/// Whether the CA's private key crosses, sealed: by explicit act only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTravels {
    /// As always.
    No,
    /// To a passive that has no CA yet.
    Seed,
    /// To a passive that has lost it.
    Again,
}

/// What a push may be told besides what it sends.
#[derive(Debug, Clone, Copy)]
pub struct PushOptions {
    /// Whether the CA's private key crosses.
    pub key_travels: KeyTravels,
    /// Collect even where nothing can have changed since the last.
    pub force: bool,
    /// It is the last of this reign: this host's role is changing, and the caller is who changes it.
    pub handing_over: bool,
}

impl PushOptions {
    /// The last push of a reign.
    pub fn handing_over() -> Self {
        Self {
            handing_over: true,
            ..Self::default()
        }
    }
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            key_travels: KeyTravels::No,
            force: false,
            handing_over: false,
        }
    }
}

/// A run of one data set.
struct Push<'a> {
    host: &'a Host,
    dataset: &'a DataSet,
    me: Introduction,
    key: SigningKey,
    reign: Reign,
    key_travels: KeyTravels,
    handing_over: bool,
    /// The operator let a source that was rolled back go on.
    accepts_rollback: bool,
}

/// The rule that stops a source which is behind what its peer has accepted from it.
pub const ROLLED_BACK: &str = "source-rolled-back";

/// Collects a data set and sends it to every peer that has not got it yet.
///
/// # Errors
/// `WrongRole` on the passive, `Locked`, and what collecting says; what one peer says is told in the
/// report and keeps no other peer from being served.
pub fn run(
    host: &Host,
    dataset: &DataSet,
    change: &Change,
    options: PushOptions,
) -> Result<Report> {
    let key_travels = options.key_travels;
    if !change.dry_run && !options.handing_over {
        look(host)?;
    }
    let reign = match options.handing_over {
        // Nobody else gives anything out meanwhile.
        true => host.station()?.1,
        false => {
            let reign = host.require(Role::Active)?;
            pause::check(host, change)?;
            reign
        }
    };
    // Whoever only looks may do so beside a watch.
    let part = if change.dry_run { "show" } else { "push" };
    let _lock = host.lock(&format!("{part}-{}", dataset.dir_name()))?;
    let (me, key) = (host.introduction()?, host.signing_key()?);
    let peers = host.peers()?;
    let recipients: Vec<Recipient> = peers.iter().map(|peer| peer.sealing.clone()).collect();
    let push = Push {
        host,
        dataset,
        me,
        key,
        reign,
        key_travels,
        handing_over: options.handing_over,
        accepts_rollback: change.accept.iter().any(|rule| rule == ROLLED_BACK),
    };
    let taken_up = if change.dry_run {
        TakenUp::default()
    } else {
        push.take_up(&peers)?
    };
    if taken_up.behind.len() == peers.len() {
        let errors = taken_up.behind.into_values().collect();
        return Ok(nobody_served(
            json!({ "sent": [], "unchanged": [] }),
            errors,
        ));
    }
    let looks_first = !change.dry_run && !options.force && taken_up.is_empty();
    if let DataSet::Database(name) = dataset
        && looks_first
        && let Some(meaning) = db::unchanged_since(host, name)?
        && let Some(report) = push.confirm(&peers, meaning)?
    {
        return Ok(report);
    }
    let scratch = Scratch::new(host, dataset)?;
    let collected = match dataset {
        DataSet::Ca => ca::collect(host, &peers, key_travels, &recipients)?,
        DataSet::Classifier => nc::collect(host, change, &recipients)?,
        DataSet::Database(name) => db::collect(host, name, scratch.path(), &recipients, change)?,
        DataSet::Files => files::collect(host, change, &recipients)?,
        DataSet::Code => code::collect(host, &recipients)?,
    };
    if change.dry_run {
        let names: Vec<&Certname> = peers.iter().map(|peer| &peer.certname).collect();
        let text = format!(
            "{dataset}: would send {} to {}\n",
            collected.text,
            join(&names)
        );
        return Ok(Report::ok(
            json!({ "summary": collected.description.summary, "peers": names }),
            text,
        ));
    }
    push.send(&peers, collected, taken_up)
}

/// No peer was served: the first error says how it ended.
fn nobody_served(details: serde_json::Value, errors: Vec<Error>) -> Report {
    let mut errors = errors.into_iter();
    let first = errors
        .next()
        .unwrap_or_else(|| Error::new(ErrorKind::Config, "no peer is paired"));
    let mut report = Report::failed(first);
    report.details = details;
    report.errors.extend(errors);
    report
}

fn join(names: &[&Certname]) -> String {
    names
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

impl Push<'_> {
    fn send(
        &self,
        peers: &[Introduction],
        collected: Collected,
        taken_up: TakenUp,
    ) -> Result<Report> {
        let Collected {
            meaning,
            items,
            description,
            text,
        } = collected;
        let summary = description.summary.clone();
        let ledger = self.host.record_path("sent", self.dataset);
        let last = Sent::load(&ledger)?;
        let position = self.position(peers, last.as_ref())?;
        let outgoing = Outgoing::full(
            Host::author(&self.me, &self.key, &self.reign),
            self.dataset.clone(),
            position.sequence,
            items,
            description,
        )?;
        let given_out = Mutex::new(false);
        let (mut sent, mut unchanged, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let TakenUp {
            sent: again,
            behind,
        } = taken_up;
        let served = peers
            .iter()
            .filter(|peer| !behind.contains_key(&peer.certname));
        // All at once: one that is down, or slow, delays no other.
        let served = ask::each(served.cloned().collect(), |peer| {
            let served = self.serve(peer, meaning, &outgoing, &given_out);
            served.map_err(|error| learn::why(self.host, peer, error))
        });
        errors.extend(behind.into_values());
        for (peer, served) in served {
            match served {
                Ok(true) => sent.push(peer.certname),
                Ok(false) => unchanged.push(peer.certname),
                Err(error) => errors.push(error.context(&peer.certname)),
            }
        }
        let given_out = *given_out.lock().unwrap_or_else(PoisonError::into_inner);
        if !errors.is_empty() && !self.handing_over {
            // One of them may have said that this host's reign has ended: that counts before all else.
            self.host.require(Role::Active)?;
        }
        if errors.is_empty() {
            Kept::of(self.host, self.dataset).clear();
        }
        if given_out {
            let bytes = outgoing.manifest.stored_bytes();
            self.host
                .note_generation_bytes(self.dataset, position, bytes)?;
        }
        let details = json!({
            "generation": given_out.then(|| position.to_string()),
            "summary": summary,
            "sent": sent,
            "unchanged": unchanged,
            "taken_up": again,
        });
        if sent.is_empty() && unchanged.is_empty() {
            return Ok(nobody_served(details, errors));
        }
        let report = if sent.is_empty() && !again.is_empty() {
            let names = join(&again.iter().collect::<Vec<_>>());
            let text = format!(
                "{}: brought what {names} still lacked; {text}\n",
                self.dataset
            );
            Report::ok(details, text)
        } else if sent.is_empty() {
            Report::unchanged(details, format!("{}: unchanged; {text}\n", self.dataset))
        } else {
            Report::ok(
                details,
                format!(
                    "{}: sent {text} to {} as {position}\n",
                    self.dataset,
                    join(&sent.iter().collect::<Vec<_>>())
                ),
            )
        };
        Ok(report.partial(errors))
    }

    /// The next position: after the last one given out, which no peer may be ahead of. A peer that is
    /// ahead shows that this host was restored from an older state.
    fn position(&self, peers: &[Introduction], last: Option<&Sent>) -> Result<Position> {
        let mut next = Sent::next(last, self.reign.epoch);
        for peer in peers {
            let Some(ack) = super::ack::known(self.host, peer, self.dataset)? else {
                continue;
            };
            let Some(accepted) = ack.accepted.filter(|accepted| *accepted >= next) else {
                continue;
            };
            if !self.accepts_rollback || accepted.epoch != self.reign.epoch {
                return Err(rolled_back(&peer.certname, accepted, next));
            }
            next = Position {
                epoch: accepted.epoch,
                sequence: accepted.sequence + 1,
            };
        }
        Ok(next)
    }

    /// Brings one peer up to date; tells whether something was sent.
    fn serve(
        &self,
        peer: &Introduction,
        meaning: Digest,
        outgoing: &Outgoing,
        given_out: &Mutex<bool>,
    ) -> Result<bool> {
        let mut connection = connect(self.host, &self.me, peer, &Purpose::of(self.dataset))?;
        let ack = super::ack::fetch(self.host, &self.me, peer, self.dataset, &mut connection)?;
        // The ack is fresh: a peer that turns out to be ahead is remembered, and the next run may go on.
        if let Some(accepted) = ack
            .as_ref()
            .and_then(|ack| ack.accepted)
            .filter(|accepted| *accepted >= outgoing.position())
        {
            return Err(rolled_back(&peer.certname, accepted, outgoing.position()));
        }
        let delivered = self.host.delivered(&peer.certname, self.dataset)?;
        let needed = self.needs(delivered.as_ref(), ack.as_ref(), meaning);
        if needed {
            self.give_out(meaning, outgoing, given_out)?;
            connection.push(outgoing, &Silent)?;
            self.host
                .note_delivered(&peer.certname, self.dataset, outgoing.position(), meaning)?;
        }
        let heartbeat = heartbeat(self.host, &self.me, &self.key, &self.reign, peer)?;
        connection.heartbeat(&heartbeat)?;
        connection.close()?;
        Ok(needed)
    }

    /// On disk before it is on the wire, for the first peer that is served: a position is never used twice.
    fn give_out(
        &self,
        meaning: Digest,
        outgoing: &Outgoing,
        given_out: &Mutex<bool>,
    ) -> Result<()> {
        let mut given_out = given_out.lock().unwrap_or_else(PoisonError::into_inner);
        if *given_out {
            return Ok(());
        }
        let sent = Sent {
            format: 1,
            position: outgoing.position(),
            state: outgoing.manifest.state(),
        };
        sent.store(
            &self.host.disk,
            &self.host.record_path("sent", self.dataset),
        )?;
        *given_out = true;
        Kept::of(self.host, self.dataset).keep(outgoing, meaning);
        Ok(())
    }

    /// Whether a peer lacks what `meaning` names, or asks for it again.
    fn needs(&self, delivered: Option<&Delivered>, ack: Option<&Ack>, meaning: Digest) -> bool {
        let has_it = delivered.is_some_and(|delivered| {
            delivered.state == meaning && delivered.position.epoch == self.reign.epoch
        });
        let wants_full = ack.is_some_and(|ack| ack.reconcile.is_some());
        self.key_travels != KeyTravels::No || wants_full || !has_it
    }
}

/// A signed heartbeat for a peer: the newest generation of each data set that it has received.
///
/// # Errors
/// `Io`, or `Invalid` where it cannot be written.
pub fn heartbeat(
    host: &Host,
    me: &Introduction,
    key: &SigningKey,
    reign: &Reign,
    peer: &Introduction,
) -> Result<Vec<u8>> {
    let mut heads: BTreeMap<DataSet, Position> = BTreeMap::new();
    for dataset in host.datasets() {
        if let Some(delivered) = host.delivered(&peer.certname, &dataset)? {
            heads.insert(dataset, delivered.position);
        }
    }
    Heartbeat {
        format: 1,
        site: me.site.clone(),
        certname: me.certname.clone(),
        epoch: reign.epoch,
        holder: reign.holder.clone(),
        heads,
        time: host.clock.now(),
    }
    .sign(key)
}

/// This host is behind what its peer has accepted from it.
pub fn rolled_back(peer: &Certname, accepted: Position, next: Position) -> Error {
    Error::refused(ROLLED_BACK, format!("{peer} has accepted {accepted} from this host, which would send {next} next"))
        .hint("this host was restored from an older state; compare the two masters first, then push with --accept source-rolled-back")
}
