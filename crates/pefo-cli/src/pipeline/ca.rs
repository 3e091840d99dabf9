//! The CA: what pefo-ca's snapshot sends, and how its plan is reached from a verified generation.

mod merging;
mod rehearsing;
mod rules;
mod seeding;
mod succession;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pefo_ca::snapshot::{MAX_FILE_BYTES, Outline};
use pefo_ca::source::Change;
use pefo_ca::standby::Stamps;
use pefo_ca::takeover::CrlSigner;
use pefo_ca::{
    ApplyOptions, CaLayout, DetectOptions, Exclusions, Plan, SeedKey, Snapshot, SnapshotOptions,
    Standby, ca_fingerprint, plan,
};
use pefo_core::disk::read_capped;
use pefo_core::generation::Verified;
use pefo_core::generation::outgoing::{Description, Item, state_of};
use pefo_core::pairing::Introduction;
use pefo_core::sealing::Recipient;
use pefo_core::{Error, ErrorKind, RelPath, Result};

use super::apply::Applied;
use super::push::{Collected, KeyTravels};
use super::received::Received;
use super::steps;
use crate::arguments;
use crate::host::Host;
use crate::launcher::{account, group_id};
use crate::products;

use rules::{EXCLUDED, names, rules};
use seeding::seed_from;

pub use merging::{Merged, beyond, merge, unseen};
pub use rehearsing::rehearse;
pub use rules::{exclusions, left_out, verify_rules};
pub use succession::{block_of_its_own, choose as choose_succession, has_begun, succeed};

/// The signing key, which crosses once, sealed.
pub const KEY: &str = "ca_key.pem";
/// The summary's field that lets a spare which has lost the key take it: what seeded it once does not.
const KEY_AGAIN: &str = "key_again";

/// The cadir of this host.
///
/// # Errors
/// `Refused`: `ca-missing`, `ca-in-database`, `ca-openvox-go`; `Config` where the owner is unknown.
pub fn layout(host: &Host, change: &arguments::Change) -> Result<CaLayout> {
    let mut options = DetectOptions::default();
    if let Some(cadir) = configured(host) {
        options = options.cadir(cadir);
    }
    for rule in &change.accept {
        options = options.accept(rule);
    }
    let layout = CaLayout::detect(&options)?;
    match owner(host)? {
        Some((uid, gid)) => Ok(layout.with_owner(uid, gid)),
        None => Ok(layout),
    }
}

/// Where this host's CA is, or would be.
///
/// # Errors
/// `Io` where puppet.conf cannot be read.
pub fn place(host: &Host) -> Result<PathBuf> {
    match (
        configured(host),
        layout(host, &arguments::Change::default()),
    ) {
        (Some(cadir), _) => Ok(cadir),
        (None, Ok(layout)) => Ok(layout.cadir().to_owned()),
        (None, Err(_)) => pefo_ca::layout::seed_target(std::path::Path::new("/")),
    }
}

fn configured(host: &Host) -> Option<PathBuf> {
    let cadir = &host.config.ca.cadir;
    (cadir.as_os_str() != "auto").then(|| cadir.clone())
}

/// The configured owner of the CA's files.
fn owner(host: &Host) -> Result<Option<(u32, u32)>> {
    let Some(name) = &host.config.ca.owner else {
        return Ok(None);
    };
    let missing = |what: &str, name: &str| {
        Error::new(
            ErrorKind::Config,
            format!("ca.{what} = {name:?}: there is no such {what} on this host"),
        )
    };
    let user = account(&*host.launcher, name)?.ok_or_else(|| missing("owner", name))?;
    let gid = match &host.config.ca.group {
        Some(group) => group_id(&*host.launcher, group)?.ok_or_else(|| missing("group", group))?,
        None => user.gid,
    };
    Ok(Some((user.uid, gid)))
}

/// Reads the live CA.
///
/// # Errors
/// As [`layout`] and `Snapshot::read`.
pub fn snapshot(host: &Host, layout: &CaLayout, exclusions: Exclusions) -> Result<Snapshot> {
    Snapshot::read(
        layout,
        &SnapshotOptions::default().exclude(exclusions),
        &*host.clock,
    )
}

/// The signing CA's fingerprint, where this host has a CA.
pub fn fingerprint(host: &Host) -> Option<String> {
    let layout = layout(host, &arguments::Change::default()).ok()?;
    ca_fingerprint(&snapshot(host, &layout, Exclusions::new()).ok()?).ok()
}

/// The active's CA as a generation's items; with its key, sealed, where a passive is seeded.
///
/// # Errors
/// What the snapshot refuses.
pub fn collect(
    host: &Host,
    peers: &[Introduction],
    key_travels: KeyTravels,
    recipients: &[Recipient],
) -> Result<Collected> {
    let layout = layout(host, &arguments::Change::default())?;
    let exclusions = exclusions(host, peers.iter().map(|peer| peer.certname.clone()));
    let snapshot = snapshot(host, &layout, exclusions.clone())?;
    snapshot.require_whole()?;
    let mut items: Vec<Item> = snapshot
        .files()
        .map(|(path, bytes, mode)| Item::open(path.clone(), mode, bytes.to_vec()))
        .collect();
    let meaning = state_of(&items);
    let with_key = key_travels != KeyTravels::No;
    if with_key {
        items.push(Item::sealed(
            RelPath::new(KEY)?,
            0o640,
            SeedKey::read(&layout)?.pem(),
            recipients,
        )?);
    }
    let summary = snapshot.summary();
    let text = format!(
        "{} certificates, {} revocations{}",
        summary.certificates,
        summary.revocations,
        if with_key {
            ", and the CA's key, sealed"
        } else {
            ""
        }
    );
    let mut summary = serde_json::to_value(summary)
        .map_err(|error| Error::invalid(format!("write the CA's summary: {error}")))?;
    if let Some(summary) = summary.as_object_mut() {
        summary.insert(EXCLUDED.to_owned(), names(&exclusions));
        if key_travels == KeyTravels::Again {
            summary.insert(KEY_AGAIN.to_owned(), true.into());
        }
    }
    let description = Description {
        products: products::installed(&*host.launcher),
        time: host.clock.now(),
        summary,
    };
    Ok(Collected {
        meaning,
        items,
        description,
        text,
    })
}

/// What the batches changed, differences made whole, without what was overtaken since: of a file that
/// changed a thousand times only the newest is kept.
///
/// # Errors
/// `Io`; `Refused` or `Invalid` where a batch is not of what stood before it in `files` and the batches.
pub fn changes(files: &Path, batches: &[Verified]) -> Result<Vec<Change>> {
    let mut by_path: BTreeMap<RelPath, Vec<Change>> = BTreeMap::new();
    for batch in batches {
        let more = steps::changes(batch, |path| {
            match by_path.get(path).and_then(|changes| changes.last()) {
                Some(newest) => Ok(Some(newest.bytes().to_vec())),
                None => read_capped(&path.in_dir(files), MAX_FILE_BYTES).map(Some),
            }
        })?;
        for change in more {
            let changes = by_path.entry(change.path().clone()).or_default();
            let is_whole = |change: &Change| !matches!(change, Change::Append { .. });
            if is_whole(&change) && changes.last().is_some_and(is_whole) {
                changes.pop();
            }
            changes.push(change);
        }
    }
    Ok(by_path.into_values().flatten().collect())
}

/// The permission bits that the manifests tell: root's own copy is closed to everybody else.
fn modes<'r>(
    received: &'r Received,
    changes: &'r [Change],
) -> impl Iterator<Item = (&'r RelPath, u32)> {
    let full = received.full().manifest().files.iter();
    let full = full.map(|file| (&file.path, file.mode));
    full.chain(changes.iter().filter_map(|change| match change {
        Change::Put { path, mode, .. } => Some((path, *mode)),
        _ => None,
    }))
}

/// The source's CA as a verified generation and the batches after it tell it, read beside this host's own,
/// where it has one.
///
/// # Errors
/// `Io`; `Refused` or `Invalid` where a batch is not of what stood before it.
pub fn source(received: &Received, local: Option<&Snapshot>) -> Result<Snapshot> {
    let files = received.full().files()?;
    let changes = changes(files, received.batches())?;
    let options = SnapshotOptions::default();
    let snapshot = match local {
        Some(local) => Snapshot::read_dir_beside(files, &options, &changes, local)?,
        None => Snapshot::read_dir_after(files, &options, &changes)?,
    };
    Ok(snapshot.with_modes(modes(received, &changes)))
}

/// What follows the source of `received` by batches, with which this host's CA is in step; `None` where
/// that cannot be.
///
/// # Errors
/// `Io`; as [`source`].
pub fn standby(host: &Host, received: &Received) -> Result<Option<Standby>> {
    let layout = match layout(host, &arguments::Change::default()) {
        Err(error) if error.rule() == Some("ca-missing") => return Ok(None),
        layout => layout?,
    };
    let options = SnapshotOptions::default();
    let stamps = Stamps::of(&layout);
    let local = Outline::read(&layout, &options, &*host.clock)?;
    let files = received.full().files()?;
    let changes = changes(files, received.batches())?;
    let source = Outline::read_dir_after(files, &options, &changes)?;
    let source = source.with_modes(modes(received, &changes));
    Standby::of(&layout, stamps, local, source)
}

/// Plans from what was received, and applies the plan unless it is only to be shown. A generation with the
/// CA's key seeds a host that has no CA.
///
/// # Errors
/// What the plan refuses as a whole.
pub fn apply(
    host: &Host,
    received: &Received,
    change: &arguments::Change,
    show_only: bool,
) -> Result<Applied> {
    let has_key = carries_key(received.full());
    let layout = match layout(host, change) {
        Ok(layout) => layout,
        Err(error) if error.rule() == Some("ca-missing") && has_key => {
            let source = source(received, None)?;
            return seed_from(host, received.full(), &source, (show_only, false));
        }
        Err(error) if error.rule() == Some("ca-missing") => {
            return Err(error.hint("this host has no CA yet: run 'pefo ca push --seed' on the active, then apply again"));
        }
        Err(error) => return Err(error),
    };
    let mut local = snapshot(host, &layout, Exclusions::new())?;
    let source = source(received, Some(&local))?;
    let replaces = change
        .accept
        .iter()
        .any(|rule| rule == "ca-other-authority");
    if has_key && replaces && !pefo_ca::seed::is_same_authority(&local, &source) {
        return seed_from(host, received.full(), &source, (show_only, true));
    }
    let is_again = received.full().manifest().summary.get(KEY_AGAIN).is_some();
    if has_key && is_again && !show_only && local.key_matches() != Some(true) {
        let key = SeedKey::new(read_capped(&received.full().files()?.join(KEY), 1 << 20)?);
        pefo_ca::seed::restore_key(&host.disk, &layout, &local, &key, &*host.clock)?;
        local = snapshot(host, &layout, Exclusions::new())?;
    }
    let plan = plan(&local, &source, &rules(host, received.newest(), change)?);
    if let Some(conflict) = plan.blocked_by() {
        return Err(conflict.to_error());
    }
    if !show_only {
        carry_out(host, &layout, &plan, true)?;
    }
    applied(&plan)
}

/// Brings back what `received` had and this host's CA has no more; revocations in force only where that is
/// allowed. `before` is done once it is known that it will be.
///
/// # Errors
/// What the plan refuses as a whole; what `before` says.
pub fn roll_back(
    host: &Host,
    received: &Received,
    allow_unrevoke: bool,
    change: &arguments::Change,
    before: impl FnOnce() -> Result<()>,
) -> Result<Applied> {
    let layout = layout(host, change)?;
    let local = snapshot(host, &layout, Exclusions::new())?;
    let source = source(received, Some(&local))?;
    // That the certificates are older is what was asked for.
    let rules = rules(host, received.newest(), change)?
        .accept("cert-older")
        .unrevoke(allow_unrevoke);
    let plan = plan(&local, &source, &rules);
    if let Some(conflict) = plan.blocked_by() {
        return Err(conflict.to_error());
    }
    if !change.dry_run {
        before()?;
        carry_out(host, &layout, &plan, true)?;
    }
    applied(&plan)
}

/// Applies one batch to the CA that `standby` follows; tells what was left undone. `None` where both CAs have
/// to be compared as wholes: somebody else changed this one, or the batch is about more than an event.
///
/// # Errors
/// What the plan refuses as a whole; `Refused` (`batch-step`) where the batch starts from other files.
pub fn follow(host: &Host, standby: &mut Standby, batch: &Verified) -> Result<Option<Vec<Error>>> {
    if !standby.is_current() {
        return Ok(None);
    }
    let changes = steps::changes(batch, |path| {
        Ok(standby.source_crl(path.as_str()).map(<[u8]>::to_vec))
    })?;
    let rules = rules(host, batch, &arguments::Change::default())?;
    let Some(event) = standby.plan(&changes, &rules)? else {
        return Ok(None);
    };
    if let Some(conflict) = event.plan.blocked_by() {
        return Err(conflict.to_error());
    }
    carry_out(host, standby.layout(), &event.plan, false)?;
    let undone = left_undone(&event.plan);
    standby.follow(&changes, event)?;
    Ok(Some(undone))
}

/// This host's key, as it signs for the CA in `local`.
///
/// # Errors
/// `Refused` (`ca-missing`); as [`CrlSigner::load`].
fn signer(layout: &CaLayout, local: &Snapshot) -> Result<CrlSigner> {
    let chain = local.chain().ok_or_else(|| {
        Error::refused(
            "ca-missing",
            "this host's CA has no certificate that can be read",
        )
    })?;
    CrlSigner::load(layout, chain.signing())
}

fn carry_out(host: &Host, layout: &CaLayout, plan: &Plan, tidies: bool) -> Result<()> {
    let options = ApplyOptions::default()
        .backup_dir(host.state("backups/ca"))
        .tidies(tidies);
    pefo_ca::apply(&host.disk, layout, plan, &options, &*host.clock)?;
    let Some(ssldir) = &host.config.ca.ssldir else {
        return Ok(());
    };
    // A run that was killed may have left it behind: one that compares wholes looks in any case.
    if tidies || plan.changes_crl() {
        let crl = ssldir.join("crl.pem");
        pefo_ca::apply::sync_host_crl(&host.disk, layout, &crl, &*host.clock)?;
    }
    Ok(())
}

fn applied(plan: &Plan) -> Result<Applied> {
    Ok(Applied {
        details: to_json(plan)?,
        text: plan.to_string(),
        errors: left_undone(plan),
        changed: !plan.is_empty(),
    })
}

fn left_undone(plan: &Plan) -> Vec<Error> {
    let conflicts = plan.conflicts.iter();
    conflicts.map(pefo_ca::Conflict::to_error).collect()
}

fn to_json(plan: &impl serde::Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(plan).map_err(|error| Error::invalid(format!("write the plan: {error}")))
}

fn carries_key(verified: &Verified) -> bool {
    verified
        .manifest()
        .files
        .iter()
        .any(|file| file.path.as_str() == KEY)
}
