//! What spool and state take, and what room is left. The spool is the transfer account's: whatever lies there,
//! looking at it costs no more than a thousand entries.

use std::path::{Path, PathBuf};

use pefo_core::disk::{Beneath, Room, Usage, room};

use super::Problem;
use crate::config::Size;
use crate::host::Host;
use crate::outcome::Health;

/// So many files and directories are looked at.
const MAX_ENTRIES: usize = 1024;
/// A file system with fewer free inodes than one in so many is a warning, and with a tenth of that critical.
const INODES: u64 = 20;

/// A directory of this host's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// `spool` or `state`.
    pub name: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// What it takes, as far as it was looked at; of the state, what is kept of generations.
    pub used: Option<Usage>,
    /// What its file system has.
    pub room: Option<Room>,
    /// What is amiss.
    pub problem: Option<Problem>,
}

/// Spool and state.
pub(super) fn of(host: &Host) -> Vec<Space> {
    let site = &host.config.site;
    let mut spaces = vec![
        space(host, "spool", &site.spool_dir, &site.spool_dir),
        space(host, "state", &site.state_dir, &host.state("store")),
    ];
    let [spool, state] = &mut spaces[..] else {
        return spaces;
    };
    // One full file system is one problem.
    if spool.room.is_some() && spool.room == state.room {
        state.problem = None;
    }
    spaces
}

fn space(host: &Host, name: &'static str, path: &Path, measured: &Path) -> Space {
    let used = Beneath::open(measured).and_then(|dir| dir.usage(MAX_ENTRIES));
    let room = room(path);
    let problem = match &room {
        Ok(room) => short(host, name, path, room),
        Err(error) => Some(Problem {
            kind: "disk",
            health: Health::Critical,
            what: format!("the {name} cannot be looked at: {error}"),
            hint: "'pefo check' tells what it should be; 'pefo init' makes what is missing"
                .to_owned(),
        }),
    };
    Space {
        name,
        path: path.to_owned(),
        used: used.ok(),
        room: room.ok(),
        problem,
    }
}

fn short(host: &Host, name: &str, path: &Path, room: &Room) -> Option<Problem> {
    let status = &host.config.status;
    let (free, inodes) = (Size::of(room.free_bytes), room.free_files);
    let of_bytes = if free < status.critical_free {
        Health::Critical
    } else if free < status.warn_free {
        Health::Warning
    } else {
        Health::Ok
    };
    // A file system without a fixed number of inodes says that it has none.
    let of_inodes = if room.files == 0 || inodes >= room.files / INODES {
        Health::Ok
    } else if inodes >= room.files / INODES / 10 {
        Health::Warning
    } else {
        Health::Critical
    };
    let health = of_bytes.max(of_inodes);
    if health == Health::Ok {
        return None;
    }
    let left = if of_bytes >= of_inodes {
        format!("{} MiB are free", free.bytes() >> 20)
    } else {
        format!("{inodes} inodes are free")
    };
    Some(Problem {
        kind: "disk",
        health,
        what: format!("{left} where the {name} is, {}", path.display()),
        hint: "make room there, or keep fewer generations ([retention] generations); nothing is lost meanwhile, but nothing new is taken"
            .to_owned(),
    })
}
