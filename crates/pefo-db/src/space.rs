//! Room: whether the disks that a restore or a dump writes to have enough of it.
//!
//! Only disks of this host can be looked at. What is not known is said so and stops nobody.
//!
//! A restore needs the database's size on the active once more, since the live one and those kept stay.
//! A fresh copy has no dead rows and is no larger; the sorting of its last indexes takes what those save.
//! Besides, the load writes as much again to the write-ahead log, of which PostgreSQL keeps about
//! `max_wal_size` until the next checkpoint. Databases that the restore drops first give theirs back.
//!
//! A dump is the tables' values as text, indexes left out. Nothing tells how long that is: PostgreSQL
//! packs long values, adds 28 bytes to each row, and dead rows are in no dump. So the tables' own size is
//! taken, long values included, as what a dump needs. Where less is free, that is logged. Where less than
//! a tenth is, the dump is refused: it fits only if nine tenths of the tables are dead rows, and a disk
//! that it fills may be the one that PostgreSQL writes to.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pefo_core::disk::{free_bytes, read_capped};
use pefo_core::{Error, Result};

use crate::mark::system_identifier;
use crate::server::{Host, Server, Session, get};

/// A dump is refused where less than this part of the tables' size is free.
const SHORTEST_TEXT: u64 = 10;
/// `pg_control` has a fixed size.
const CONTROL_FILE_BYTES: u64 = 64 << 10;

/// A directory, and the room on its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Volume {
    /// The directory.
    pub path: PathBuf,
    /// Its file system's device number; equal for all directories of one.
    pub device: u64,
    /// Bytes free for an ordinary account.
    pub free_bytes: u64,
}

impl Volume {
    /// The file system of a directory.
    ///
    /// # Errors
    /// `Io`, where there is no such directory or we may not reach it.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|error| Error::io("examine", path, error))?;
        Ok(Self {
            path: path.to_owned(),
            device: meta.dev(),
            free_bytes: free_bytes(path)?,
        })
    }
}

/// What is known of the room on a server's disks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Space {
    /// The server's disks are this host's.
    Known(Disks),
    /// It is not known, for this reason.
    Unknown(String),
}

/// The disks of a server on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disks {
    /// By tablespace: those that a restore may write to.
    pub tablespaces: BTreeMap<String, Volume>,
    /// The write-ahead log's.
    pub wal: Volume,
    /// About how much of the write-ahead log is kept until the next checkpoint (`max_wal_size`), in bytes.
    pub max_wal_bytes: u64,
}

impl Space {
    /// Of the session's server, for these `tablespaces`, some of which it may not have.
    pub(crate) async fn gather(
        session: &Session,
        server: &Server,
        tablespaces: &BTreeSet<&str>,
    ) -> Result<Self> {
        let row = session.row("ask where the data is", PLACES, &[]).await?;
        let (data, max_wal): (Option<String>, i64) = (get(&row, 0)?, get(&row, 1)?);
        let Some(data) = data.map(PathBuf::from) else {
            let why = "the server tells its data directory only to superusers and members of pg_read_all_settings";
            return Ok(Self::Unknown(why.to_owned()));
        };
        // Both masters may well have a directory of that name: over TCP it must be proven to be this one.
        let is_here = match &server.host {
            Host::Socket(_) => true,
            Host::Tcp(_) => {
                let identifier = system_identifier(session).await?;
                identifier.is_some() && identifier == control_file_identifier(&data)
            }
        };
        if !is_here {
            let why = format!(
                "the server's data directory {} is not on this host, or cannot be read",
                data.display()
            );
            return Ok(Self::Unknown(why));
        }
        let names: Vec<&str> = tablespaces.iter().copied().collect();
        let mut places = BTreeMap::new();
        for row in session
            .rows("ask where the tablespaces are", LOCATIONS, &[&names])
            .await?
        {
            let location: String = get(&row, 1)?;
            let path = if location.is_empty() {
                data.clone()
            } else {
                data.join(location)
            };
            places.insert(get(&row, 0)?, path);
        }
        let max_wal_bytes = u64::try_from(max_wal).unwrap_or_default();
        Ok(match Disks::look(&data, places, max_wal_bytes) {
            Ok(disks) => Self::Known(disks),
            Err(error) => Self::Unknown(error.to_string()),
        })
    }
}

impl Disks {
    fn look(data: &Path, places: BTreeMap<String, PathBuf>, max_wal_bytes: u64) -> Result<Self> {
        let volumes = places
            .into_iter()
            .map(|(name, path)| Ok((name, Volume::of(&path)?)));
        let wal = data.join("pg_wal");
        Ok(Self {
            tablespaces: volumes.collect::<Result<_>>()?,
            // A link to another disk is followed. Where we may not look into the data directory, it
            // stands for it.
            wal: Volume::of(&wal).or_else(|_| Volume::of(data))?,
            max_wal_bytes,
        })
    }

    /// What is short where so many bytes go to each tablespace and `wal_bytes` to the write-ahead log,
    /// one file system a text.
    pub(crate) fn shortages(&self, bytes: &BTreeMap<&str, u64>, wal_bytes: u64) -> Vec<String> {
        let mut wanted: BTreeMap<u64, (&Volume, u64)> = BTreeMap::new();
        let tablespaces = bytes
            .iter()
            .filter_map(|(name, bytes)| Some((self.tablespaces.get(*name)?, *bytes)));
        for (volume, bytes) in tablespaces.chain([(&self.wal, wal_bytes)]) {
            let (_, sum) = wanted.entry(volume.device).or_insert((volume, 0));
            *sum = sum.saturating_add(bytes);
        }
        wanted
            .into_values()
            .filter(|(volume, wanted)| volume.free_bytes < *wanted)
            .map(|(volume, wanted)| {
                format!(
                    "{} has {} bytes free, about {wanted} are needed",
                    volume.path.display(),
                    volume.free_bytes
                )
            })
            .collect()
    }
}

/// Which cluster's data directory this is, as its control file says; `None` where there is none to read.
fn control_file_identifier(data: &Path) -> Option<String> {
    let bytes = read_capped(&data.join("global/pg_control"), CONTROL_FILE_BYTES).ok()?;
    // The first field of `ControlFileData`, since 7.1; SQL prints it signed.
    let identifier = bytes.first_chunk::<8>()?;
    Some(i64::from_ne_bytes(*identifier).to_string())
}

/// Refuses a dump of the session's database into `parent` where that has hardly room for a part of it,
/// unless the operator `accepts` that.
///
/// # Errors
/// The refusal `db-dump-space`.
pub(crate) async fn check_for_dump(session: &Session, parent: &Path, accepts: bool) -> Result<()> {
    // Where pg_dump runs as another account, we may not be let in; pg_dump then tells.
    let Ok(volume) = Volume::of(parent) else {
        tracing::debug!(parent = %parent.display(), "room for the dump is not known");
        return Ok(());
    };
    let row = session.row("ask for the size", TABLES_SIZE, &[]).await?;
    let tables = u64::try_from(get::<i64>(&row, 0)?).unwrap_or_default();
    if volume.free_bytes >= tables {
        return Ok(());
    }
    let message = format!(
        "{} has {} bytes free, and the tables to dump have {tables}",
        parent.display(),
        volume.free_bytes
    );
    if volume.free_bytes >= tables / SHORTEST_TEXT || accepts {
        tracing::warn!("a dump may not fit: {message}");
        return Ok(());
    }
    Err(Error::refused("db-dump-space", message).hint(format!(
        "a dump is plain text: make room for it in {}",
        parent.display()
    )))
}

const PLACES: &str = "\
select (select s.setting from pg_catalog.pg_settings s where s.name = 'data_directory'), \
       (select s.setting::int8 * 1048576 from pg_catalog.pg_settings s where s.name = 'max_wal_size')";

const LOCATIONS: &str = "\
select t.spcname::text, pg_catalog.pg_tablespace_location(t.oid) \
from pg_catalog.pg_tablespace t where t.spcname::text = any($1::text[])";

/// Tables with what is stored out of line, and large objects; neither their indexes nor materialized
/// views, of which a dump has none.
const TABLES_SIZE: &str = "\
select (coalesce(sum(pg_catalog.pg_table_size(c.oid)), 0) + pg_catalog.pg_relation_size('pg_catalog.pg_largeobject'))::int8 \
from pg_catalog.pg_class c where c.relkind = 'r' and c.oid >= 16384 and c.relpersistence <> 't'";

#[cfg(test)]
mod tests;
