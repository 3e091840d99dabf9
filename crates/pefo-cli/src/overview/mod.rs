//! What this host knows of itself and its peers, from local state only: it is told at once, whatever the peer
//! does. [`Overview`] is a value; status, metrics, health, hooks and reports are told from it.
//!
//! | module | what it is for |
//! |---|---|
//! | [`row`] | one data set, on the active with one peer |
//! | [`course`] | what the run records tell of a data set |
//! | [`limits`] | from when on a lag is a warning, and from when on critical |
//! | [`space`] | what spool and state take, and what room is left |
//! | [`standing`] | what keeps this host from doing its part |
//!
//! It is made of a handful of small files, however many certificates and runs there are.

pub mod course;
pub mod limits;
pub mod row;
pub mod space;
pub mod standing;

use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::lock::Lock;
use pefo_core::reign::{Changing, Reign, Role};
use pefo_core::run::Runs;
use pefo_core::{Certname, Result};

use crate::health;
use crate::host::Host;
use crate::outcome::Health;
use course::Course;
use row::Gathering;

pub use limits::Limits;
pub use row::Row;
pub use space::Space;
pub use standing::Standing;

/// What this host knows of itself and its peers.
#[derive(Debug)]
#[non_exhaustive]
pub struct Overview {
    /// This host.
    pub certname: Certname,
    /// Its role.
    pub role: Role,
    /// Who reigns, as this host knows it.
    pub reign: Reign,
    /// The paired peers.
    pub peers: Vec<Certname>,
    /// The change of role that has begun.
    pub changing: Option<Changing>,
    /// What keeps this host from doing its part.
    pub standing: Standing,
    /// Each data set; on the active once for each peer.
    pub rows: Vec<Row>,
    /// Spool and state.
    pub spaces: Vec<Space>,
    /// What is amiss with this host besides what is said of rows, spaces and standing.
    pub problems: Vec<Problem>,
    /// When this was gathered, by this host's clock.
    pub now: Timestamp,
}

/// Something that is amiss, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// A short word that stays the same: `lag`, `failing`, `refused`, `silent`, `unproved`, `skew`, `watch`, `disk`, `health`.
    pub kind: &'static str,
    /// How bad it is.
    pub health: Health,
    /// What is amiss.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Overview {
    /// Reads this host's state.
    ///
    /// # Errors
    /// `Config` where this host is not set up, `Io`, `Invalid` where a record is damaged.
    pub fn gather(host: &Host) -> Result<Self> {
        let (station, reign) = host.station()?;
        let peers = host.peers()?;
        let runs = Runs::list(&host.state("runs"))?;
        let now = host.clock.now();
        let gathering = Gathering {
            host,
            role: station.role,
            reign: &reign,
            now,
        };
        let mut rows = Vec::new();
        let mut problems = Vec::new();
        let standing = standing::of(host, &station)?;
        problems.extend(health::problem(host)?);
        for dataset in host.datasets() {
            let course = Course::of(&runs, &dataset, station.role);
            if dataset == DataSet::Ca && standing.health() == Health::Ok {
                problems.extend(unwatched(host, station.role, &course));
            }
            match station.role {
                Role::Passive => rows.push(gathering.passive(&dataset, &course)?),
                Role::Active => {
                    for peer in &peers {
                        rows.push(gathering.active(&dataset, peer, &course)?);
                    }
                }
            }
        }
        Ok(Self {
            certname: host.config.site.certname.clone(),
            role: station.role,
            reign,
            peers: peers.into_iter().map(|peer| peer.certname).collect(),
            changing: station.changing,
            standing,
            rows,
            spaces: space::of(host),
            problems,
            now,
        })
    }

    /// How this host does: the worst of all there is to say.
    pub fn health(&self) -> Health {
        let rows = self.rows.iter().map(|row| row.health).max();
        let others = self.problems().map(|problem| problem.health).max();
        rows.unwrap_or(Health::Unknown)
            .max(self.standing.health())
            .max(others.unwrap_or(Health::Ok))
    }

    /// All that is amiss, besides the standing.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let rows = self.rows.iter().flat_map(|row| &row.problems);
        let spaces = self
            .spaces
            .iter()
            .filter_map(|space| space.problem.as_ref());
        rows.chain(spaces).chain(&self.problems)
    }
}

/// Whether a watch of this host has the lock of the CA's push or apply just now.
pub fn is_watched(host: &Host, command: &str) -> bool {
    let role = match command {
        "push" => Role::Active,
        _ => Role::Passive,
    };
    let path = host.state("locks").join(format!("{command}-ca.lock"));
    Lock::is_held(&path) == Some(true)
        && Runs::list(&host.state("runs"))
            .is_ok_and(|runs| Course::of(&runs, &DataSet::Ca, role).is_watched)
}

/// A watch that did the CA's part when it was last heard of, and does not run: nothing would tell of it before the
/// lag does, and on an idle active nothing at all.
fn unwatched(host: &Host, role: Role, course: &Course) -> Option<Problem> {
    let (lock, once) = match role {
        Role::Active => ("push-ca", "pefo ca push"),
        Role::Passive => ("apply-ca", "pefo ca apply"),
    };
    let path = host.state("locks").join(format!("{lock}.lock"));
    let runs = course.is_watched && Lock::is_held(&path) == Some(false);
    runs.then(|| Problem {
        kind: "watch",
        health: Health::Warning,
        what: "the CA was watched and is not any more".to_owned(),
        hint: format!(
            "start 'pefo run' or 'pefo ca watch' again, as a service; where it is not to run any more, one '{once}' ends this"
        ),
    })
}

#[cfg(test)]
pub(crate) mod tests;
