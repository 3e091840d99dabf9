//! `pefo ca verify`: would the spare serve the same?
//!
//! On the passive its live CA is compared with what the active has signed last and this host accepted, item
//! by item, by the CA's rules; only what is not known to be equal by digest is read. On the active, its live
//! CA is compared with what each peer's root says, signed, that it holds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pefo_ca::snapshot::{Beside, Known};
use pefo_ca::verify::{CheckOptions, Comparison, check, compare, compare_beside};
use pefo_ca::{CaLayout, SerialMode, SnapshotOptions, SourceIndex};
use pefo_core::digest_cache::DigestCache;
use pefo_core::generation::{Accepted, DataSet};
use pefo_core::pairing::Introduction;
use pefo_core::request::{Items, Outcome, Subject};
use pefo_core::{Digest, Error, ErrorKind, RelPath, Result};
use serde_json::{Value, json};

use super::apply::Passive;
use super::{ca, question};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::{Health, Report};

/// So many differing items are shown to people.
const SHOWN: usize = 20;

/// On the passive: the live CA against what was accepted last. `full` reads every file and checks every
/// signature.
///
/// # Errors
/// `NotFound` where nothing was accepted yet; `Io`; what the gate says of root's own copies.
pub fn on_passive(host: &Host, full: bool) -> Result<Report> {
    let passive = Passive::open(host)?;
    let accepted = Accepted::load(&host.record_path("accepted", &DataSet::Ca))?;
    let Some(accepted) = accepted else {
        return Err(
            Error::new(ErrorKind::NotFound, "ca: nothing was accepted yet")
                .hint("run 'pefo ca push' on the active and 'pefo ca apply' here"),
        );
    };
    let layout = ca::layout(host, &Change::default())?;
    let (comparison, problems) = if full {
        compare_all(host, &passive, &accepted, &layout)?
    } else {
        (
            compare_changed(host, &passive, &accepted, &layout)?,
            Vec::new(),
        )
    };
    let position = accepted.position;
    let defects = comparison.defects().count() + problems.len();
    let is_behind = accepted.applied != Some(position);
    let health = match (defects, is_behind) {
        (0, false) => Health::Ok,
        (0, true) => Health::Warning,
        _ => Health::Critical,
    };
    let mut text = format!(
        "PEFO {}: {defects} defects against {position} of {} | defects={defects}\n{comparison}",
        health.word(),
        comparison.same.certificates,
    );
    for problem in &problems {
        text.push_str(&format!("defect   {problem}\n"));
    }
    if is_behind {
        text.push_str("note     what was received is not applied whole: run 'pefo ca diff'\n");
    }
    let details = json!({
        "generation": position.to_string(),
        "applied": !is_behind,
        "comparison": to_value(&comparison)?,
        "signatures": full,
        "problems": problems,
    });
    Ok(Report::ok(details, text).health(health).about(DataSet::Ca))
}

fn to_value(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|error| Error::invalid(format!("write the comparison: {error}")))
}

/// By digest first.
fn compare_changed(
    host: &Host,
    passive: &Passive<'_>,
    accepted: &Accepted,
    layout: &CaLayout,
) -> Result<Comparison> {
    let held = passive.held(&DataSet::Ca, accepted)?;
    let changes = ca::changes(&held.dir, &held.batches)?;
    let rules = ca::verify_rules(host, &held.summary)?;
    let path = cache_path(host);
    let mut cache = DigestCache::load(&path);
    let known = Known {
        dir: &held.dir,
        changes: &changes,
        state: &held.state,
    };
    let options = SnapshotOptions::default();
    let sides = Beside::read(layout, known, &options, &mut cache, &*host.clock)?;
    if let Err(error) = cache.store(&host.disk, &path) {
        tracing::warn!(%error, "the next verify has to read more");
    }
    Ok(compare_beside(&sides, &rules))
}

/// Every file read, every signature checked.
fn compare_all(
    host: &Host,
    passive: &Passive<'_>,
    accepted: &Accepted,
    layout: &CaLayout,
) -> Result<(Comparison, Vec<String>)> {
    let received = passive.accepted(&DataSet::Ca, accepted)?;
    let rules = ca::verify_rules(host, &received.newest().manifest().summary)?;
    let local = ca::snapshot(host, layout, rules.exclude.clone())?;
    let source = ca::source(&received, Some(&local))?;
    let mut options = CheckOptions::new(rules.now);
    if let SerialMode::Block(block) = rules.serial {
        options = options.block(block);
    }
    let report = check(&local, &options);
    let faults = report.findings.iter().filter(|finding| finding.defect);
    let faults = faults.map(ToString::to_string).collect();
    Ok((compare(&local, &source, &rules), faults))
}

/// The digests of the live CA's files, as they were read.
fn cache_path(host: &Host) -> PathBuf {
    host.state("work").join("ca-digests")
}

/// On the active: the live CA against what each peer's root holds.
///
/// # Errors
/// What the CA refuses as a source; what a peer says is in the report.
pub fn on_active(host: &Host, timeout: Duration) -> Result<Report> {
    let peers = host.peers()?;
    let layout = ca::layout(host, &Change::default())?;
    let passives = peers.iter().map(|peer| peer.certname.clone());
    let options = SnapshotOptions::default().exclude(ca::exclusions(host, passives));
    let index = SourceIndex::read(&layout, &options, &*host.clock)?;
    let (mut text, mut details, mut errors) = (String::new(), Vec::new(), Vec::new());
    let mut health = Health::Ok;
    for peer in &peers {
        match ask(host, peer, timeout) {
            Ok(items) => {
                let differences = differences(&index, &items);
                // What crossed with the CA's key has another digest as a whole.
                let is_same = items.state == index.state().digest()
                    || (differences.is_empty() && items.left_out == 0);
                if !is_same {
                    health = health.max(Health::Critical);
                }
                text.push_str(&told(peer, &items, is_same, &differences));
                details.push(json!({
                    "peer": peer.certname,
                    "generation": items.position.to_string(),
                    "same": is_same,
                    "differences": differences,
                    "left_out": items.left_out,
                }));
            }
            Err(error) => {
                health = health.max(Health::Unknown);
                errors.push(error.context(&peer.certname));
            }
        }
    }
    let head = format!(
        "PEFO {}: {} certificates and other files compared with {} peers\n",
        health.word(),
        index.state().paths().count(),
        peers.len()
    );
    let heard = !details.is_empty();
    let report = Report::asked(json!({ "peers": details }), head + &text, errors, heard);
    Ok(report.health(health).about(DataSet::Ca))
}

fn told(
    peer: &Introduction,
    items: &Items,
    is_same: bool,
    differences: &BTreeMap<String, &'static str>,
) -> String {
    let name = &peer.certname;
    if is_same {
        return format!("{name} holds the same, as of {}\n", items.position);
    }
    let mut text = format!("{name} holds other things, as of {}:\n", items.position);
    for (path, what) in differences.iter().take(SHOWN) {
        text.push_str(&format!("  {path}: {what}\n"));
    }
    if let Some(more) = differences
        .len()
        .checked_sub(SHOWN)
        .filter(|more| *more > 0)
    {
        text.push_str(&format!("  and {more} more\n"));
    }
    if items.left_out > 0 {
        text.push_str(&format!(
            "  {} items did not fit into the answer\n",
            items.left_out
        ));
    }
    text
}

/// What differs, by path. What did not fit into the answer is not told as missing.
fn differences(index: &SourceIndex, items: &Items) -> BTreeMap<String, &'static str> {
    let mut found = BTreeMap::new();
    let last = items
        .items
        .keys()
        .next_back()
        .filter(|_| items.left_out > 0);
    for path in index.state().paths() {
        let here: Option<Digest> = index.state().get(path).map(|(_, digest)| digest);
        let is_told = last.is_none_or(|last: &RelPath| path <= last);
        match items.items.get(path) {
            None if is_told => found.insert(path.to_string(), "missing there"),
            Some(there) if Some(*there) != here => found.insert(path.to_string(), "another there"),
            _ => None,
        };
    }
    for path in items
        .items
        .keys()
        .filter(|path| index.state().get(path).is_none())
    {
        // The CA's key crosses once, sealed, and is no part of what is watched.
        if path.as_str() != ca::KEY {
            found.insert(path.to_string(), "gone here");
        }
    }
    found
}

/// Asks a peer's root what it holds, and waits for its answer.
fn ask(host: &Host, peer: &Introduction, timeout: Duration) -> Result<Items> {
    let subject = Subject::Verify {
        dataset: DataSet::Ca,
    };
    match question::ask(host, peer, subject, timeout)? {
        Outcome::Items(items) => Ok(items),
        _ => Err(question::other_answer()),
    }
}
