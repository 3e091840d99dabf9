//! What the configuration, the pairing and the generation say of how CAs are compared.

use std::collections::BTreeSet;
use std::path::PathBuf;

use pefo_ca::verify::VerifyRules;
use pefo_ca::{Exclusions, PlanRules, SerialBlock};
use pefo_core::generation::Verified;
use pefo_core::record;
use pefo_core::{Certname, Digest, Result};
use serde_json::json;

use crate::arguments;
use crate::host::Host;

/// The summary's field with the certnames that the source leaves out.
pub(super) const EXCLUDED: &str = "excluded_certnames";

/// Which certnames never cross: `passives` are the masters whose own certificates stay theirs.
pub fn exclusions(host: &Host, passives: impl IntoIterator<Item = Certname>) -> Exclusions {
    let mut exclusions = Exclusions::new();
    for name in passives {
        exclusions = exclusions.with(name, "the passive's own certificate");
    }
    for name in &host.config.ca.exclude_certs {
        exclusions = exclusions.with(name.clone(), "named in [ca] exclude_certs");
    }
    exclusions
}

/// What a generation says of who is left out: the passive must not take a name that is left out for one
/// that is gone.
pub fn left_out(exclusions: &Exclusions) -> serde_json::Value {
    json!({ EXCLUDED: names(exclusions) })
}

pub(super) fn names(exclusions: &Exclusions) -> serde_json::Value {
    json!(exclusions.iter().map(|(name, _)| name).collect::<Vec<_>>())
}

/// The rules by which a generation is planned.
///
/// # Errors
/// `Io`, or `Invalid` where the manifest or a record is malformed.
pub(super) fn rules(
    host: &Host,
    verified: &Verified,
    change: &arguments::Change,
) -> Result<PlanRules> {
    let mut rules = PlanRules::new(host.clock.now())
        .max_deletes(host.config.ca.max_deletes)
        .exclude(excluded_here(host, &verified.manifest().summary)?);
    for rule in &change.accept {
        rules = rules.accept(rule);
    }
    if let Some(block) = record::load::<SerialBlock>(&block_path(host))? {
        rules = rules.block(block);
    }
    Ok(rules)
}

/// The rules by which this host is compared with a source whose newest generation says `summary`.
///
/// # Errors
/// `Io`, or `Invalid` where the summary or a record is malformed.
pub fn verify_rules(host: &Host, summary: &serde_json::Value) -> Result<VerifyRules> {
    let rules = VerifyRules::new(host.clock.now()).exclude(excluded_here(host, summary)?);
    Ok(match record::load::<SerialBlock>(&block_path(host))? {
        Some(block) => rules.block(block),
        None => rules,
    })
}

/// Whom neither side touches: this host's own, and whom the active leaves out.
fn excluded_here(host: &Host, summary: &serde_json::Value) -> Result<Exclusions> {
    let mut exclusions = exclusions(host, [host.config.site.certname.clone()]);
    let left_out = summary.get(EXCLUDED).and_then(|names| names.as_array());
    let left_out = left_out.into_iter().flatten();
    for name in left_out.filter_map(|name| name.as_str()) {
        exclusions = exclusions.with(Certname::new(name)?, "left out by the active");
    }
    Ok(exclusions)
}

/// The block of serials that this host may issue.
pub(super) fn block_path(host: &Host) -> PathBuf {
    host.state("accepted/ca-serial-block.json")
}

/// The lane in which this host chooses its serials: by its name, past those that its peers' names lead to. Paired
/// hosts never share one; two spares that are not paired with each other may, where their names fall together.
///
/// # Errors
/// `Io`, or `Config` where no peer is paired.
pub(super) fn lane(host: &Host) -> Result<u32> {
    let own = &host.config.site.certname;
    let mut names: BTreeSet<Certname> = host.peers()?.into_iter().map(|it| it.certname).collect();
    names.insert(own.clone());
    Ok(lane_of(own, &names))
}

fn lane_of(own: &Certname, names: &BTreeSet<Certname>) -> u32 {
    let mut taken = BTreeSet::new();
    for name in names {
        let digest = Digest::of(name.as_str().as_bytes()).to_string();
        let first = digest.chars().next();
        let from = first.and_then(|digit| digit.to_digit(16)).unwrap_or(0);
        let lanes = (from..from + SerialBlock::LANES).map(|lane| lane % SerialBlock::LANES);
        let free = lanes.clone().find(|lane| !taken.contains(lane));
        let lane = free.unwrap_or(from % SerialBlock::LANES);
        if name == own {
            return lane;
        }
        taken.insert(lane);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_know_each_other_have_lanes_of_their_own_and_each_finds_the_same() {
        let name = |n: usize| Certname::new(format!("puppet-{n}.lab")).unwrap();
        for n in 0..200 {
            let names: BTreeSet<_> = (n..n + 6).map(name).collect();
            let lanes: BTreeSet<_> = names.iter().map(|own| lane_of(own, &names)).collect();
            assert_eq!(lanes.len(), names.len(), "{names:?}");
            assert!(lanes.iter().all(|lane| *lane < SerialBlock::LANES));
        }
    }
}
