//! Gives an empty standby the CA, whole.
//!
//! A partial cadir makes puppetserver exit and an empty one makes it invent a new CA, so the cadir is
//! built beside its place and published by one rename, its counter already in a block of its own. The
//! signing CA must have the fingerprint pinned at pairing; a cadir of another authority is refused, or,
//! when replacing was asked for, moved aside first. puppetserver must be stopped: the caller's business.

use std::fmt;
use std::path::{Path, PathBuf};

use pefo_core::clock::Clock;
use pefo_core::disk::{Attributes, Disk, read_capped};
use pefo_core::{Error, Result};
use ring::digest::{SHA256, digest};
use serde::Serialize;

use crate::cert::CaChain;
use crate::inventory::Inventory;
use crate::layout::CaLayout;
use crate::serial::{Serial, SerialBlock, format_file};
use crate::snapshot::Snapshot;
use crate::takeover::{KnownSerials, fresh_block};
use crate::{key, malformed::Malformed};

/// The bytes of `ca_key.pem`; never shown.
pub struct SeedKey(Vec<u8>);

impl SeedKey {
    /// Takes the key's PEM, unsealed by the caller.
    pub fn new(pem: Vec<u8>) -> Self {
        Self(pem)
    }

    /// Reads the key of a live CA, for sealing it to the standby.
    ///
    /// # Errors
    /// `Refused` (`ca-key-missing`), `Io`.
    pub fn read(layout: &CaLayout) -> Result<Self> {
        Ok(Self(read_capped(&layout.key_path()?, 1 << 20)?))
    }

    /// The PEM.
    pub fn pem(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SeedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeedKey({} bytes)", self.0.len())
    }
}

/// How a CA is seeded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SeedOptions {
    /// The signing CA's fingerprint, pinned at pairing.
    pub fingerprint: String,
    /// The serials this host may issue; [`block_for`] chooses one.
    pub block: SerialBlock,
    /// Numeric user and group of every file.
    pub owner: (u32, u32),
    /// Replace a CA of another authority, which is moved aside.
    pub replace: bool,
}

impl SeedOptions {
    /// A seeding into an empty place.
    pub fn new(fingerprint: impl Into<String>, block: SerialBlock, owner: (u32, u32)) -> Self {
        Self {
            fingerprint: fingerprint.into(),
            block,
            owner,
            replace: false,
        }
    }

    /// Replaces a CA of another authority.
    #[must_use]
    pub fn replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }
}

/// What seeding did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SeedReport {
    /// False where this CA stood here already.
    pub seeded: bool,
    /// How many files were put there.
    pub files: usize,
    /// The counter.
    pub next_serial: Serial,
    /// Where the CA that was replaced is.
    pub replaced: Option<PathBuf>,
}

/// The fingerprint of the snapshot's signing CA: SHA-256 of its certificate, upper-case hexadecimal with
/// colons, as Puppet prints it.
///
/// # Errors
/// `Invalid` where there is no readable `ca_crt.pem`.
pub fn ca_fingerprint(snapshot: &Snapshot) -> Result<String> {
    let chain = snapshot
        .chain()
        .ok_or_else(|| Error::invalid(format!("ca_crt.pem {}", snapshot.chain.reason())))?;
    Ok(fingerprint_of(chain.signing().der()))
}

pub(crate) fn fingerprint_of(der: &[u8]) -> String {
    digest(&SHA256, der)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":")
}

/// Whether both are of one authority: the same key and name, whatever certificate says so.
pub fn is_same_authority(a: &Snapshot, b: &Snapshot) -> bool {
    let (Some(a), Some(b)) = (a.chain(), b.chain()) else {
        return false;
    };
    let (a, b) = (a.signing(), b.signing());
    a.public_key() == b.public_key() && a.subject == b.subject
}

/// Puts the CA's key in place where it is missing or is another's; true where it did.
///
/// # Errors
/// `Refused` (`ca-identity`) where the key is not that of the CA here; `Invalid` where there is no readable
/// `ca_crt.pem`; `Io`.
pub fn restore_key(
    disk: &Disk,
    layout: &CaLayout,
    local: &Snapshot,
    key: &SeedKey,
    clock: &dyn Clock,
) -> Result<bool> {
    if local.key_matches() == Some(true) {
        return Ok(false);
    }
    let chain = local
        .chain()
        .ok_or_else(|| Error::invalid(format!("ca_crt.pem {}", local.chain.reason())))?;
    require_key_of(key, chain)?;
    let path = layout.cadir().join("ca_key.pem");
    let attributes = layout.attributes(&path, 0o640).mtime(clock.now().into());
    disk.publish(&path, key.pem(), &attributes)?;
    Ok(true)
}

fn require_key_of(key: &SeedKey, chain: &CaChain) -> Result<()> {
    let belongs = key::belongs_to(key.pem(), chain.signing())
        .map_err(|error| error.in_file(Path::new("ca_key.pem")))?;
    if belongs {
        return Ok(());
    }
    Err(Error::refused(
        "ca-identity",
        "the key that was sent is not that of the CA's certificate",
    ))
}

/// A block of serials far above everything the source has issued or will soon; where several hosts are seeded from
/// one source, [`fresh_block`] with a lane for each.
///
/// # Errors
/// As [`fresh_block`].
pub fn block_for(source: &Snapshot) -> Result<SerialBlock> {
    fresh_block([source], &KnownSerials::default())
}

/// Publishes the CA in `staged` at `cadir`, by one rename.
///
/// # Errors
/// `Refused`: `ca-fingerprint`, `ca-identity` (the key is not the certificate's), `ca-other-authority`,
/// `ca-partial`, `serial-block`, or those of [`Snapshot::require_whole`]; `Io`. A directory that is
/// there already stays as it is on every error, unless replacing was asked for and it was moved aside.
pub fn seed(
    disk: &Disk,
    cadir: &Path,
    staged: &Snapshot,
    seed_key: &SeedKey,
    options: &SeedOptions,
    clock: &dyn Clock,
) -> Result<SeedReport> {
    staged.require_whole()?;
    let chain = staged
        .chain()
        .ok_or_else(|| Error::invalid("the staged copy has no ca_crt.pem"))?;
    let fingerprint = fingerprint_of(chain.signing().der());
    if !fingerprint.eq_ignore_ascii_case(options.fingerprint.trim()) {
        return Err(Error::refused("ca-fingerprint", format!("the CA's fingerprint is {fingerprint}, pinned is {}", options.fingerprint.trim()))
            .hint("Compare with `puppetserver ca list --all` or openssl on the active; pair again if the CA was replaced."));
    }
    require_key_of(seed_key, chain)?;
    let issued = staged
        .inventory()
        .into_iter()
        .flat_map(Inventory::serials)
        .chain(staged.serial());
    if let Some(serial) = issued
        .into_iter()
        .find(|serial| options.block.contains(*serial))
    {
        return Err(Error::refused(
            "serial-block",
            format!(
                "serial {serial} lies in this host's block, {}",
                options.block
            ),
        )
        .hint("Choose a fresh block of serials."));
    }
    let canonical = resolve(cadir)?;
    let standing = standing(&canonical, chain)?;
    let next_serial = Serial::from(options.block.first());
    let replaced = match standing {
        Standing::Same => {
            return Ok(SeedReport {
                seeded: false,
                files: 0,
                next_serial: serial_of(&canonical).unwrap_or(next_serial),
                replaced: None,
            });
        }
        Standing::Nothing => None,
        Standing::Empty => {
            disk.remove_tree(&canonical)?;
            None
        }
        Standing::Other(what) if options.replace => Some((what, aside(&canonical, clock))),
        Standing::Other(what) => {
            return Err(Error::refused("ca-other-authority", format!("{} holds another authority, {what}", canonical.display()))
                .hint("Two authorities are never merged. To give this host the active's CA, ask for replacing; the old one is kept beside it."));
        }
        Standing::Partial if options.replace => {
            Some(("a partial CA".to_owned(), aside(&canonical, clock)))
        }
        Standing::Partial => {
            return Err(Error::refused("ca-partial", format!("{} holds files, but no readable ca_crt.pem", canonical.display()))
                .hint("Look at what is there; to replace it, ask for replacing; it is kept beside the new one."));
        }
    };
    let (temp, files) = build(disk, &canonical, staged, seed_key, options, clock)?;
    let replaced = match replaced {
        Some((_, aside)) => {
            disk.rename(&canonical, &aside)?;
            Some(aside)
        }
        None => None,
    };
    disk.rename(&temp, &canonical)?;
    Ok(SeedReport {
        seeded: true,
        files,
        next_serial,
        replaced,
    })
}

/// Where the cadir really is; a missing last component is fine.
fn resolve(cadir: &Path) -> Result<PathBuf> {
    match std::fs::canonicalize(cadir) {
        Ok(path) => Ok(path),
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && std::fs::symlink_metadata(cadir).is_ok() =>
        {
            // A dangling symlink, as the packages leave it: the CA belongs where it points.
            let target =
                std::fs::read_link(cadir).map_err(|error| Error::io("read link", cadir, error))?;
            Ok(cadir.parent().unwrap_or(Path::new("/")).join(target))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(cadir.to_owned()),
        Err(error) => Err(Error::io("resolve", cadir, error)),
    }
}

enum Standing {
    Nothing,
    Empty,
    Same,
    Other(String),
    Partial,
}

/// What stands at the cadir.
fn standing(cadir: &Path, chain: &CaChain) -> Result<Standing> {
    if std::fs::symlink_metadata(cadir)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    {
        return Ok(Standing::Nothing);
    }
    let mut has_file = false;
    for entry in walkdir::WalkDir::new(cadir).min_depth(1) {
        let entry = entry.map_err(|error| Error::io("list", cadir, error.into()))?;
        has_file |= !entry.file_type().is_dir();
    }
    if !has_file {
        return Ok(Standing::Empty);
    }
    let bytes = match read_capped(&cadir.join("ca_crt.pem"), 1 << 20) {
        Ok(bytes) => bytes,
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {
            return Ok(Standing::Partial);
        }
        Err(error) => return Err(error),
    };
    let here: Result<CaChain, Malformed> = CaChain::from_pem(&bytes);
    Ok(match here {
        Ok(here)
            if here.signing().public_key() == chain.signing().public_key()
                && here.signing().subject == chain.signing().subject =>
        {
            Standing::Same
        }
        Ok(here) => Standing::Other(here.signing().subject.to_string()),
        Err(_) => Standing::Partial,
    })
}

fn serial_of(cadir: &Path) -> Option<Serial> {
    crate::serial::parse_file(&read_capped(&cadir.join("serial"), 4096).ok()?).ok()
}

fn aside(cadir: &Path, clock: &dyn Clock) -> PathBuf {
    let name = cadir.file_name().unwrap_or_default().to_string_lossy();
    let stamp = clock.now().to_string().replace(':', "");
    let mut path = cadir.with_file_name(format!("{name}.replaced-{stamp}"));
    let mut count = 1;
    while path.exists() {
        path = cadir.with_file_name(format!("{name}.replaced-{stamp}.{count}"));
        count += 1;
    }
    path
}

/// Builds the directory beside its place; everything in it is durable.
fn build(
    disk: &Disk,
    cadir: &Path,
    staged: &Snapshot,
    seed_key: &SeedKey,
    options: &SeedOptions,
    clock: &dyn Clock,
) -> Result<(PathBuf, usize)> {
    let (uid, gid) = options.owner;
    let directory = Attributes::mode(0o750).owner(uid, gid);
    let file = |mode| {
        Attributes::mode(mode)
            .owner(uid, gid)
            .mtime(clock.now().into())
    };
    let name = cadir.file_name().unwrap_or_default().to_string_lossy();
    let temp = cadir.with_file_name(format!(".pefo-seed-{name}.tmp"));
    if let Some(parent) = cadir.parent() {
        disk.create_dir_all(parent, &Attributes::mode(0o755))?;
    }
    disk.remove_tree(&temp)?;
    disk.create_dir_unsynced(&temp, &directory)?;
    for sub in ["signed", "requests"] {
        disk.create_dir_unsynced(&temp.join(sub), &directory)?;
    }
    let next =
        format_file(options.block.first()).map_err(|error| error.in_file(&temp.join("serial")))?;
    let put = |path: &Path, bytes: &[u8], mode: u32| -> Result<()> {
        let mut new = disk.create(path, &file(mode))?;
        new.write(bytes)?;
        new.finish()
    };
    put(&temp.join("ca_key.pem"), seed_key.pem(), 0o640)?;
    put(&temp.join("serial"), next.as_bytes(), 0o644)?;
    let mut files = 2;
    for (path, bytes, mode) in staged
        .files()
        .filter(|(path, _, _)| path.as_str() != "serial")
    {
        // A torn last row is nobody's; the next reconcile brings it whole.
        let whole = staged.inventory().map_or(bytes.len(), |inventory| {
            usize::try_from(inventory.whole_bytes()).unwrap_or(bytes.len())
        });
        let bytes = if path.as_str() == "inventory.txt" {
            bytes.get(..whole).unwrap_or(bytes)
        } else {
            bytes
        };
        put(&path.in_dir(&temp), bytes, mode & 0o644)?;
        files += 1;
    }
    disk.sync_filesystem(&temp)?;
    Ok((temp, files))
}
