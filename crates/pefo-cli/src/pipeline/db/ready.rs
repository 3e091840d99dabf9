//! Whether dumps and restores would go well, asked without making any: what `pefo check` tells.

use std::path::Path;

use pefo_core::disk::{Attributes, read_capped};
use pefo_core::generation::verify::stored_dir;
use pefo_core::generation::{Accepted, DataSet, spool};
use pefo_core::{Error, Result};
use pefo_db::{DumpManifest, Readiness};

use super::stage::{Dumped, Stage, Stands, answered, perform};
use super::stage_dir;
use crate::host::Host;

/// The longest manifest of a dump that is looked at, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// What was received of a database last.
#[derive(Debug)]
pub struct Received {
    /// The major version of the server that it was dumped from.
    pub server_major: u32,
    /// Why it would not be restored.
    pub refused: Option<Error>,
}

/// What the configured server and the programs for it are.
///
/// # Errors
/// `Unreachable` or `Denied` by the server, `NotFound` for a program.
pub fn readiness(host: &Host) -> Result<Readiness> {
    answered(perform(host, Stage::Readiness)?)
}

/// Whether the dump that this host accepted last would pass the gates of a restore; nothing where none was
/// accepted. Its tables are not read, so that monitoring may ask often.
///
/// # Errors
/// `Locked` where somebody else asks, `Io`; what the server says.
pub fn received_fits(host: &Host, name: &str) -> Result<Option<Received>> {
    let dataset = DataSet::Database(name.to_owned());
    let Some(accepted) = Accepted::load(&host.record_path("accepted", &dataset))? else {
        return Ok(None);
    };
    let _lock = host.lock(&format!("check-{}", dataset.dir_name()))?;
    let data = stored_dir(&host.store(&dataset), accepted.position).join(spool::DATA);
    let manifest = DumpManifest::read(&data)?;
    let work = host
        .state("work")
        .join(format!("check-{}", dataset.dir_name()));
    host.disk.remove_tree(&work)?;
    let asked = lend_manifest(host, &data, &work).and_then(|()| {
        perform(
            host,
            Stage::Plan(Dumped {
                name: name.to_owned(),
                dir: work.clone(),
                accept: Vec::new(),
                stands: Stands::Unknown,
            }),
        )
    });
    host.disk.remove_tree(&work)?;
    let refused = match asked {
        Ok(_) => None,
        Err(error) if error.is_refusal() => Some(error),
        Err(error) => return Err(error),
    };
    Ok(Some(Received {
        server_major: manifest.server_major(),
        refused,
    }))
}

/// Puts a dump's manifest, alone, where the database's account may read it.
fn lend_manifest(host: &Host, data: &Path, work: &Path) -> Result<()> {
    let bytes = read_capped(&data.join(DumpManifest::FILE_NAME), MAX_BYTES)?;
    let attributes = match stage_dir(host, work, 0o750, false)? {
        Some(gid) => Attributes::mode(0o640).owner(0, gid),
        None => Attributes::mode(0o600),
    };
    let path = work.join(DumpManifest::FILE_NAME);
    host.disk.publish(&path, &bytes, &attributes)
}
