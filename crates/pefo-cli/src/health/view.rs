//! What this host's files say of it, kept as long as they are the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pefo_core::Result;
use pefo_core::clock::Timestamp;
use pefo_core::digest_cache::Identity;
use pefo_core::generation::DataSet;
use pefo_core::record;
use pefo_core::reign::{Epoch, Role};

use crate::host::Host;
use crate::pipeline::apply::{CaughtUp, caught_up_path};
use crate::reigns::pause;

/// The files are looked at no more often.
const LOOK: Duration = Duration::from_millis(200);

/// What a load balancer may know of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum View {
    /// It can be told.
    Known(Known),
    /// It can not be told, and why.
    Unknown(String),
}

/// Role, reign and proofs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) role: Role,
    pub(super) epoch: Epoch,
    /// What keeps it from doing its part: fenced, or its role is changing.
    pub(super) kept_from: Option<String>,
    pub(super) is_paused: bool,
    /// Of each data set, when this host last proved that it had applied everything, by its own clock.
    pub(super) proofs: Vec<(DataSet, Option<Timestamp>)>,
}

impl View {
    /// Reads it.
    pub(super) fn of(host: &Host) -> Self {
        match Known::read(host) {
            Ok(known) => Self::Known(known),
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

impl Known {
    fn read(host: &Host) -> Result<Self> {
        let (station, reign) = host.station()?;
        let proof = |dataset: DataSet| {
            let caught_up: Option<CaughtUp> = record::load(&caught_up_path(host, &dataset))?;
            Ok((dataset, caught_up.map(|caught_up| caught_up.at)))
        };
        Ok(Self {
            role: station.role,
            epoch: reign.epoch,
            kept_from: host
                .require(station.role)
                .err()
                .map(|error| error.to_string()),
            is_paused: pause::paused(host)?.is_some(),
            proofs: host
                .datasets()
                .into_iter()
                .map(proof)
                .collect::<Result<_>>()?,
        })
    }
}

/// The view as it was last read.
pub(super) struct Kept {
    view: Arc<View>,
    /// Of the files that it was read from; nothing where it could not be.
    stamps: Option<Vec<Option<Identity>>>,
    /// When they were looked at, by the clock that nobody sets.
    looked: Option<Duration>,
}

impl Kept {
    /// Nothing was read yet.
    pub(super) fn new() -> Self {
        Self {
            view: Arc::new(View::Unknown("nothing was read yet".to_owned())),
            stamps: None,
            looked: None,
        }
    }

    /// What the files say now, or said a moment ago.
    pub(super) fn view(&mut self, host: &Host) -> Arc<View> {
        let now = host.clock.monotonic();
        if self
            .looked
            .is_none_or(|looked| now.saturating_sub(looked) >= LOOK)
        {
            self.looked = Some(now);
            // Before they are read: what changes meanwhile is read again.
            let stamps = stamps(host);
            if self.stamps.as_ref() != Some(&stamps) {
                self.view = Arc::new(View::of(host));
                // What could not be read may be readable next time, with the same stamps.
                self.stamps = matches!(*self.view, View::Known(_)).then_some(stamps);
            }
        }
        Arc::clone(&self.view)
    }
}

fn stamps(host: &Host) -> Vec<Option<Identity>> {
    let proofs = host.datasets().into_iter();
    let mut paths: Vec<PathBuf> = proofs
        .map(|dataset| caught_up_path(host, &dataset))
        .collect();
    paths.extend([
        host.station_path(),
        host.state("public/self.json"),
        host.state("public/peers"),
        pause::path(host),
    ]);
    let stamp = |path: PathBuf| Some(Identity::from(&std::fs::symlink_metadata(path).ok()?));
    paths.into_iter().map(stamp).collect()
}
