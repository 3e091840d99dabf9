//! The smallest sender: the files of one directory, as one full generation of the data set `files`.
//!
//! What an embedder needs to send to a receiver such as `receive_once`:
//!
//! ```text
//! push_once SITE CERTNAME STATION KEY SEQUENCE DIRECTORY HOST PORT USER IDENTITY HOST-KEY
//! ```
//!
//! `STATION` is this host's station file, `KEY` the signing key that holds its reign, `SEQUENCE` the
//! generation's number: greater than all that the receiver has, or that of one that was sent before.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pefo_core::clock::Timestamp;
use pefo_core::generation::outgoing::{Author, Description, Item, Outgoing};
use pefo_core::generation::{DataSet, Site};
use pefo_core::keys::SigningKey;
use pefo_core::progress::Silent;
use pefo_core::reign::Station;
use pefo_core::{Certname, Error, RelPath, Result};
use pefo_transport::{Connection, Introduced, Purpose, SshTarget};

const TOOL: &str = concat!("push_once ", env!("CARGO_PKG_VERSION"));
const USAGE: &str = "usage: push_once SITE CERTNAME STATION KEY SEQUENCE DIRECTORY HOST PORT USER IDENTITY HOST-KEY";

#[expect(clippy::print_stderr, reason = "a program's last words")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            if let Some(hint) = error.hint_text() {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or_else(|| Error::invalid(USAGE));
    let (site, certname) = (Site::new(next()?)?, Certname::new(next()?)?);
    let station = Station::load(&PathBuf::from(next()?))?;
    let key = SigningKey::load(&PathBuf::from(next()?))?;
    let number = |_| Error::invalid(USAGE);
    let sequence = next()?.parse().map_err(number)?;
    let directory = PathBuf::from(next()?);
    let target = SshTarget::new(
        next()?,
        next()?.parse().map_err(number)?,
        next()?,
        next()?,
        vec![next()?],
    );

    let author = Author {
        site: &site,
        certname: &certname,
        key: &key,
        epoch: station.reign(&site, &[key.public()])?.epoch,
        tool: TOOL,
    };
    let description = Description {
        products: Default::default(),
        // The same files under the same number are the same generation, whenever they are sent.
        time: Timestamp::from_unix_seconds(0)?,
        summary: serde_json::Value::Null,
    };
    let items = items(&directory)?;
    let outgoing = Outgoing::full(author, DataSet::Files, sequence, items, description)?;
    let me = Introduced::new(site.clone(), certname.clone(), station, TOOL);
    let mut connection = Connection::open(&target, &me, &Purpose::of(&DataSet::Files))?;
    connection.push(&outgoing, &Silent)?;
    connection.close()
}

/// Every file below a directory.
fn items(directory: &Path) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::io("list", directory, error.into()))?;
        if !entry.file_type().is_file() {
            continue;
        }
        let read = |error| Error::io("read", entry.path(), error);
        let mode = std::fs::metadata(entry.path()).map_err(read)?;
        let bytes = std::fs::read(entry.path()).map_err(read)?;
        let path = entry.path().strip_prefix(directory).ok();
        let path = path.and_then(Path::to_str).unwrap_or_default();
        let mode = mode.permissions().mode() & 0o777;
        items.push(Item::open(RelPath::new(path)?, mode, bytes));
    }
    Ok(items)
}
