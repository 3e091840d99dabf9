//! Who asked for what: a line of JSON for each session, in the spool.
//!
//! The transfer account may write nowhere else, and what it says on standard error goes to the peer.
//! The log is bounded: at [`MAX_BYTES`] it becomes `receive.log.1`, in the place of the one before.

use std::collections::BTreeMap;
use std::path::Path;

use pefo_core::clock::{Clock, Timestamp};
use pefo_core::disk::{Disk, Rooted};
use pefo_core::generation::{DataSet, Position, spool};
use pefo_core::lock::Lock;
use pefo_core::{Certname, Error, Result};
use serde::Serialize;

use super::Served;
use super::partial::{PRIVATE_FILE, regular, rel};
use crate::message::{Purpose, plain};

/// How long the log becomes before it is put aside.
pub const MAX_BYTES: u64 = 1 << 20;
/// The flock of the session that puts it aside.
const LOCK: &str = ".pefo-log.lock";
/// How much of what a stranger said is written down, in characters.
const MAX_TEXT: usize = 300;

/// Where a session came from, as sshd says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// The peer's address and port: the first two words of `SSH_CONNECTION`.
    pub from: Option<String>,
    /// What was asked of sshd: `SSH_ORIGINAL_COMMAND`.
    pub asked: Option<String>,
}

impl Origin {
    /// From sshd's two variables.
    pub fn new(connection: Option<&str>, asked: Option<&str>) -> Self {
        let from = connection.map(|it| it.split(' ').take(2).collect::<Vec<_>>().join(" "));
        Self {
            from: from.map(|it| short(&it)),
            asked: asked.map(short),
        }
    }
}

fn short(text: &str) -> String {
    plain(text).chars().take(MAX_TEXT).collect()
}

#[derive(Serialize)]
struct Entry<'a> {
    time: Timestamp,
    from: Option<&'a str>,
    asked: Option<&'a str>,
    peer: Option<&'a Certname>,
    purpose: Option<&'a Purpose>,
    /// Of each data set how many generations, and the last one.
    published: BTreeMap<&'a DataSet, (u64, Position)>,
    already: u64,
    abandoned: u64,
    heartbeats: u64,
    requests: u64,
    /// `ok`, `gone` where the peer said no goodbye, or the error's kind.
    ended: &'a str,
    rule: Option<String>,
    message: Option<String>,
}

/// Writes down how a session went.
///
/// # Errors
/// `Io`, `Refused` (`spool-symlink`).
pub fn record(
    disk: &Disk,
    clock: &dyn Clock,
    spool: &Path,
    origin: &Origin,
    served: &Served,
    failed: Option<&Error>,
) -> Result<()> {
    let mut published: BTreeMap<&DataSet, (u64, Position)> = BTreeMap::new();
    for (dataset, position) in &served.published {
        let (count, last) = published.entry(dataset).or_insert((0, *position));
        (*count, *last) = (*count + 1, *position);
    }
    let entry = Entry {
        time: clock.now(),
        from: origin.from.as_deref(),
        asked: origin.asked.as_deref(),
        peer: served.peer.as_ref(),
        purpose: served.purpose.as_ref(),
        published,
        already: served.already,
        abandoned: served.abandoned,
        heartbeats: served.heartbeats,
        requests: served.requests,
        ended: match failed {
            Some(error) => error.kind().name(),
            None if served.goodbye => "ok",
            None => "gone",
        },
        rule: failed.and_then(Error::rule).map(short),
        message: failed.map(|error| short(error.message())),
    };
    let mut line = serde_json::to_vec(&entry)
        .map_err(|error| Error::invalid("write the log").with_source(error))?;
    line.push(b'\n');
    append(&Rooted::open(disk, spool)?, &line)
}

fn append(spool: &Rooted, line: &[u8]) -> Result<()> {
    let log = rel(spool::LOG)?;
    let is_full = || -> Result<bool> {
        let standing = regular(spool, &log)?;
        let bytes = standing.map_or(0, |it| it.identity.size);
        Ok(bytes > 0 && bytes + line.len() as u64 > MAX_BYTES)
    };
    // One session puts it aside; another one that comes at the same time just writes.
    if is_full()?
        && let Ok(_lock) = Lock::take(&spool.path().join(LOCK))
        && is_full()?
    {
        spool.rename(&log, spool, &rel(format!("{}.1", spool::LOG))?)?;
    }
    if regular(spool, &log)?.is_none() {
        // Made empty and then appended to, so that two that make it do not write over one another.
        match spool.create(&log, &PRIVATE_FILE) {
            Ok(file) => file.finish()?,
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(error),
        }
    }
    let mut file = spool.resume(&log, &PRIVATE_FILE)?;
    file.write(line)?;
    file.finish_durable()
}
