//! This host: what lies where below the state directory, its keys, role and reign, and its peers.
//!
//! ```text
//! STATE/keys/{signing,sealing}.key, ssh, ssh.pub     root's only
//! STATE/public/station.json                          role and reign, world-readable
//! STATE/public/self.json, peers/CERTNAME.json        introductions: public keys and addresses
//! STATE/public/acks/DATASET.ack                      what this host has applied, signed
//! STATE/public/answers/NONCE.answer                  what this host has answered to a request, signed
//! STATE/sent/DATASET.json                            active: the last position given out
//! STATE/outgoing/DATASET.json, DATASET/POSITION/…    active: a generation that a peer still lacks
//! STATE/delivered/PEER/DATASET.json                  active: what each peer's spool has received
//! STATE/acks/PEER/DATASET.ack                        active: what each peer has proved to have applied
//! STATE/accepted/DATASET.json, store/DATASET/…       passive: what was accepted, and root's own copy
//! STATE/public/paused.json                           pushes and applies rest, by the operator's word
//! STATE/reign/*.json                                 changes of role, step by step, and what came of them
//! STATE/backups/…                                    passive: what an import or a file replaced
//! STATE/reports/drill-TIME.json                      passive: what each drill found
//! STATE/sizes/DATASET.json                           how large the newest full generation is
//! STATE/alarms/DATASET.json                          hooks were told that a data set does not do well
//! STATE/history/DAY.jsonl                            how each data set did, a line a minute
//! STATE/health.json                                  why the health endpoint does not answer
//! STATE/locks, runs, work, exports
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pefo_core::clock::{Clock, SystemClock, Timestamp};
use pefo_core::disk::{Attributes, Disk};
use pefo_core::generation::outgoing::Author;
use pefo_core::generation::{DataSet, Position};
use pefo_core::keys::{PublicKey, SigningKey};
use pefo_core::launch::{DirectLauncher, Launcher};
use pefo_core::lock::Lock;
use pefo_core::pairing::Introduction;
use pefo_core::record;
use pefo_core::reign::{Reign, Role, Station};
use pefo_core::sealing::UnsealingKey;
use pefo_core::{Certname, Digest, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::TOOL;
use crate::config::Config;

/// This host, its configuration and its state directory.
#[derive(Clone)]
pub struct Host {
    /// The configuration in force.
    pub config: Config,
    /// Where it was read.
    pub config_path: PathBuf,
    /// Through which everything is written.
    pub disk: Disk,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Starts programs.
    pub launcher: Arc<dyn Launcher>,
}

/// What a peer's spool has received of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The generation.
    pub position: Position,
    /// The state it carries.
    pub state: Digest,
    /// When the peer's receiver said so.
    pub time: Timestamp,
}

/// How large a full generation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NotedSize {
    position: Position,
    bytes: u64,
}

impl Host {
    /// Reads the configuration; nothing else is touched.
    ///
    /// # Errors
    /// `Config`.
    pub fn load(config_path: &Path) -> Result<Self> {
        Ok(Self {
            config: Config::load(config_path)?,
            config_path: std::path::absolute(config_path)
                .map_err(|error| Error::io("find", config_path, error))?,
            disk: Disk::new(),
            clock: Arc::new(SystemClock),
            launcher: Arc::new(DirectLauncher::default()),
        })
    }

    /// A path below the state directory.
    pub fn state(&self, path: &str) -> PathBuf {
        self.config.site.state_dir.join(path)
    }

    /// Role and reign.
    pub fn station_path(&self) -> PathBuf {
        self.state("public/station.json")
    }

    /// A record of one data set below the state directory.
    pub fn record_path(&self, kind: &str, dataset: &DataSet) -> PathBuf {
        self.state(kind)
            .join(format!("{}.json", dataset.dir_name()))
    }

    /// Root's own generations of a data set.
    pub fn store(&self, dataset: &DataSet) -> PathBuf {
        self.state("store").join(dataset.dir_name())
    }

    /// Where this host publishes what it has applied.
    pub fn own_ack(&self, dataset: &DataSet) -> PathBuf {
        self.state("public/acks")
            .join(format!("{}.ack", dataset.dir_name()))
    }

    /// Where this host publishes what it has answered.
    pub fn answers(&self) -> PathBuf {
        self.state("public/answers")
    }

    /// Where an active keeps a peer's newest ack.
    pub fn peer_ack(&self, peer: &Certname, dataset: &DataSet) -> PathBuf {
        self.state("acks")
            .join(peer.as_str())
            .join(format!("{}.ack", dataset.dir_name()))
    }

    /// Where an active keeps what a peer's spool has received.
    fn delivered_path(&self, peer: &Certname, dataset: &DataSet) -> PathBuf {
        self.state("delivered")
            .join(peer.as_str())
            .join(format!("{}.json", dataset.dir_name()))
    }

    /// What a peer's spool has received, as far as this host has noted it.
    ///
    /// # Errors
    /// `Io`, or `Invalid` where the record is malformed.
    pub fn delivered(&self, peer: &Certname, dataset: &DataSet) -> Result<Option<Delivered>> {
        record::load(&self.delivered_path(peer, dataset))
    }

    /// Notes what a peer's receiver has said it has.
    ///
    /// # Errors
    /// `Io`.
    pub fn note_delivered(
        &self,
        peer: &Certname,
        dataset: &DataSet,
        position: Position,
        state: Digest,
    ) -> Result<()> {
        let delivered = Delivered {
            position,
            state,
            time: self.clock.now(),
        };
        self.store_json(&self.delivered_path(peer, dataset), &delivered, 0o600)
    }

    /// How large the newest full generation is that was made or accepted here, in bytes, as far as it was noted.
    pub fn generation_bytes(&self, dataset: &DataSet) -> Option<u64> {
        let noted: Option<NotedSize> = record::load(&self.record_path("sizes", dataset)).ok()?;
        noted.map(|noted| noted.bytes)
    }

    /// Notes how large a full generation is. Nothing rests on it, so it need not outlive the power.
    ///
    /// # Errors
    /// `Io`.
    pub fn note_generation_bytes(
        &self,
        dataset: &DataSet,
        position: Position,
        bytes: u64,
    ) -> Result<()> {
        let path = self.record_path("sizes", dataset);
        let noted = NotedSize { position, bytes };
        if matches!(record::load::<NotedSize>(&path), Ok(Some(known)) if known == noted) {
            return Ok(());
        }
        let text = serde_json::to_vec(&noted)
            .map_err(|error| Error::invalid(format!("write {}: {error}", path.display())))?;
        self.disk
            .create_dir_all(&self.state("sizes"), &Attributes::mode(0o700))?;
        self.disk
            .publish_cache(&path, &text, &Attributes::mode(0o600))
    }

    /// Whether `pefo init` was run here.
    pub fn is_initialised(&self) -> bool {
        self.state("public/self.json").exists()
    }

    /// What this host says of itself.
    ///
    /// # Errors
    /// `Config` where `pefo init` was not run.
    pub fn introduction(&self) -> Result<Introduction> {
        let path = self.state("public/self.json");
        record::load(&path)?.ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("this host is not set up: {} does not exist", path.display()))
                .hint("run 'pefo init active' on the master that serves, then 'pefo init passive --join LINE' on the spare")
        })
    }

    /// The paired peers, with the configuration's own addresses where it gives them.
    ///
    /// # Errors
    /// `Config` where there is none.
    pub fn peers(&self) -> Result<Vec<Introduction>> {
        let dir = self.state("public/peers");
        let mut peers: Vec<Introduction> = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(|error| Error::io("list", &dir, error))? {
            let path = entry
                .map_err(|error| Error::io("list", &dir, error))?
                .path();
            if path.extension().is_some_and(|ending| ending == "json") {
                peers.extend(record::load::<Introduction>(&path)?);
            }
        }
        peers.sort_by(|a, b| a.certname.cmp(&b.certname));
        for peer in &mut peers {
            if let Some(set) = self
                .config
                .peer
                .iter()
                .find(|set| set.certname == peer.certname)
            {
                peer.host = set.host.clone().unwrap_or_else(|| peer.host.clone());
                peer.port = set.port.unwrap_or(peer.port);
                peer.user = set.user.clone().unwrap_or_else(|| peer.user.clone());
            }
        }
        if peers.is_empty() {
            return Err(Error::new(ErrorKind::Config, "no peer is paired")
                .hint("take the line that 'pefo init' printed here to the other master, and its line back"));
        }
        Ok(peers)
    }

    /// The peers' public keys.
    ///
    /// # Errors
    /// As [`Host::peers`].
    pub fn peer_keys(&self) -> Result<Vec<PublicKey>> {
        Ok(self.peers()?.into_iter().map(|peer| peer.signing).collect())
    }

    /// This host's signing key.
    ///
    /// # Errors
    /// `Io`: not root, or not set up.
    pub fn signing_key(&self) -> Result<SigningKey> {
        SigningKey::load(&self.state("keys/signing.key")).map_err(needs_root)
    }

    /// This host's unsealing key.
    ///
    /// # Errors
    /// `Io`: not root, or not set up.
    pub fn unsealing_key(&self) -> Result<UnsealingKey> {
        UnsealingKey::load(&self.state("keys/sealing.key")).map_err(needs_root)
    }

    /// Role and reign.
    ///
    /// # Errors
    /// `Config` where this host is not set up, `Refused` where the record is not what a paired key signed.
    pub fn station(&self) -> Result<(Station, Reign)> {
        let me = self.introduction()?;
        let station = Station::load(&self.station_path())?;
        let reign = station.reign(&me.site, &self.reign_keys()?)?;
        Ok((station, reign))
    }

    /// The keys that may have signed a reign: this host's and its peers'.
    ///
    /// # Errors
    /// `Config` where this host is not set up.
    pub fn reign_keys(&self) -> Result<Vec<PublicKey>> {
        let mut keys = vec![self.introduction()?.signing];
        // One that is set up and not paired yet has none.
        keys.extend(self.peer_keys().unwrap_or_default());
        Ok(keys)
    }

    /// The reign under which this host does its part, where its role is `role`.
    ///
    /// # Errors
    /// `WrongRole`, naming where the command belongs; `Fenced` where its reign has ended or its role is
    /// changing; `Refused` (`split-reign`).
    pub fn require(&self, role: Role) -> Result<Reign> {
        let (station, reign) = self.station()?;
        if station.role == role {
            return station.in_force(&reign.site, &self.reign_keys()?);
        }
        Err(Error::new(
            ErrorKind::WrongRole,
            format!(
                "this host is the {}; the command is the {role}'s",
                station.role
            ),
        )
        .hint("run it on the other master; 'pefo status' shows role and reign"))
    }

    /// Takes a lock by name, or says that another run holds it.
    ///
    /// # Errors
    /// `Locked`, or `Io`.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.state("locks").join(format!("{name}.lock"));
        Lock::take(&path).map_err(|error| match error.kind() {
            ErrorKind::Locked if matches!(name, "push-ca" | "apply-ca") => error.hint(
                "where 'pefo ca watch' runs there is nothing to do: it does the same at once; otherwise wait for the other run to end",
            ),
            _ => needs_root(error),
        })
    }

    /// On whose behalf generations are made.
    pub fn author<'a>(me: &'a Introduction, key: &'a SigningKey, reign: &Reign) -> Author<'a> {
        Author {
            site: &me.site,
            certname: &me.certname,
            key,
            epoch: reign.epoch,
            tool: TOOL,
        }
    }

    /// Stores a record as JSON, for root only.
    ///
    /// # Errors
    /// `Io`.
    pub fn store_json<T: Serialize>(&self, path: &Path, value: &T, mode: u32) -> Result<()> {
        if let Some(parent) = path.parent() {
            self.disk.create_dir_all(parent, &Attributes::mode(0o700))?;
        }
        record::store(&self.disk, path, value, mode)
    }

    /// The data sets that the configuration names.
    pub fn datasets(&self) -> Vec<DataSet> {
        self.config.datasets()
    }
}

fn needs_root(error: Error) -> Error {
    match error.io_kind() {
        Some(std::io::ErrorKind::PermissionDenied) => {
            error.hint("run it as root: it needs root's keys")
        }
        _ => error,
    }
}
