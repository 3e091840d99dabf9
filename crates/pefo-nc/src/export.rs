//! The export gate: what the classifier answered must be whole, and not suddenly less.
//!
//! A tree that parses is whole ([`crate::model::Tree`]). This gate compares it with the last good
//! export: a filtered view (a token with fewer rights), a restored database or a mass deletion shows
//! as fewer groups, a missing stock group or vanished configuration data, and stops here, before it
//! becomes a generation. Each rule can be accepted by name.

use std::collections::{HashMap, HashSet};

use pefo_core::clock::Timestamp;
use pefo_core::{Certname, Error, Result};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::accept::Acceptances;
use crate::canonical::TreeDigest;
use crate::envelope::Envelope;
use crate::model::{Group, GroupId, STOCK_GROUPS, Tree};

/// Fewer groups than the last good export had, beyond [`ExportPolicy::max_shrink_percent`].
pub const SHRINK: &str = "nc-shrink";
/// A group that every installation brings was in the last good export and is gone.
pub const STOCK_GROUP_GONE: &str = "nc-stock-group-gone";
/// The last good export had configuration data, and no group has any now.
pub const CONFIG_DATA_GONE: &str = "nc-config-data-gone";
/// The last good export came from another master.
pub const OTHER_SOURCE: &str = "nc-export-other-source";

/// What the gate lets pass.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExportPolicy {
    /// How many per cent of the last good export's groups may be gone; 20 by default.
    pub max_shrink_percent: u8,
    /// Rules the operator accepts for this run.
    pub accept: Acceptances,
}

impl Default for ExportPolicy {
    fn default() -> Self {
        Self {
            max_shrink_percent: 20,
            accept: Acceptances::none(),
        }
    }
}

impl ExportPolicy {
    /// Sets how many per cent of the groups may be gone.
    #[must_use]
    pub fn max_shrink_percent(mut self, percent: u8) -> Self {
        self.max_shrink_percent = percent;
        self
    }

    /// Sets what the operator accepts.
    #[must_use]
    pub fn accept(mut self, accept: Acceptances) -> Self {
        self.accept = accept;
        self
    }
}

/// An export that passed the gate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Export {
    /// The export.
    pub envelope: Envelope,
    /// Its bytes, ready to be published with mode 0600: parameters may hold secrets.
    pub bytes: Vec<u8>,
    /// Whether it means the same as the last good export.
    pub unchanged: bool,
    /// The refusals the operator overruled.
    pub accepted: Vec<String>,
}

/// What the gate compares with: the last good export, as far as it counts here.
#[derive(Debug, Clone)]
pub struct Previous {
    source: Certname,
    count: usize,
    digest: TreeDigest,
    /// Id, name and environment of the stock groups.
    stock: Vec<(GroupId, String, String)>,
    has_config_data: bool,
}

impl Previous {
    /// Of an export.
    pub fn of(envelope: &Envelope) -> Self {
        let groups = envelope.tree.groups();
        let stock = groups.iter().filter(|group| group.is_stock());
        Self {
            source: envelope.source.clone(),
            count: groups.len(),
            digest: envelope.digest,
            stock: stock
                .map(|group| {
                    let (name, environment) = (group.name(), group.environment());
                    (group.id(), name.to_owned(), environment.to_owned())
                })
                .collect(),
            has_config_data: groups.iter().any(Group::has_config_data),
        }
    }

    /// Reads it from the bytes of an export that this host made itself: the groups are looked over, not checked.
    ///
    /// # Errors
    /// `Invalid` where they are no export.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Exported {
            source: Certname,
            digest: TreeDigest,
            groups: Vec<Glanced>,
        }
        #[derive(Deserialize)]
        struct Glanced {
            id: String,
            name: String,
            environment: String,
            #[serde(default)]
            config_data: Option<HashMap<String, IgnoredAny>>,
        }
        let invalid = |error: serde_json::Error| {
            Error::invalid(format!("the last good export is damaged: {error}")).with_source(error)
        };
        let exported: Exported = serde_json::from_slice(bytes).map_err(invalid)?;
        let has_data = |group: &Glanced| {
            group
                .config_data
                .as_ref()
                .is_some_and(|data| !data.is_empty())
        };
        let mut previous = Self {
            source: exported.source,
            count: exported.groups.len(),
            digest: exported.digest,
            stock: Vec::new(),
            has_config_data: exported.groups.iter().any(has_data),
        };
        for group in exported.groups {
            if STOCK_GROUPS.contains(&group.name.as_str()) {
                previous
                    .stock
                    .push((group.id.parse()?, group.name, group.environment));
            }
        }
        Ok(previous)
    }
}

/// Passes `tree` through the export gate and puts it into an envelope.
///
/// # Errors
/// A refusal by [`SHRINK`], [`STOCK_GROUP_GONE`], [`CONFIG_DATA_GONE`] or [`OTHER_SOURCE`], unless it
/// is accepted.
pub fn export(
    source: Certname,
    time: Timestamp,
    tree: Tree,
    previous: Option<&Previous>,
    policy: &ExportPolicy,
) -> Result<Export> {
    let mut accepted = Vec::new();
    if let Some(previous) = previous {
        for refusal in refusals(&source, &tree, previous, policy) {
            policy.accept.gate(refusal, &mut accepted)?;
        }
    }
    let envelope = Envelope::new(source, time, tree);
    let unchanged = previous.is_some_and(|previous| previous.digest == envelope.digest);
    let bytes = envelope.to_bytes()?;
    Ok(Export {
        envelope,
        bytes,
        unchanged,
        accepted,
    })
}

fn refusals(
    source: &Certname,
    tree: &Tree,
    previous: &Previous,
    policy: &ExportPolicy,
) -> Vec<Error> {
    let mut refusals = Vec::new();
    if previous.source != *source {
        let message = format!(
            "the last good export came from {}, this one from {source}",
            previous.source
        );
        refusals.push(
            Error::refused(OTHER_SOURCE, message)
                .hint("after a change of roles accept nc-export-other-source once; otherwise check [site] certname"),
        );
    }
    let (before, now) = (previous.count, tree.len());
    let gone = before.saturating_sub(now);
    if gone * 100 > before * usize::from(policy.max_shrink_percent) {
        let message = format!(
            "{gone} of the {before} groups of the last good export are gone, more than {} %",
            policy.max_shrink_percent
        );
        refusals.push(
            Error::refused(SHRINK, message)
                .hint("check that the certificate or token sees all groups; accept nc-shrink where they were deleted on purpose"),
        );
    }
    let names: HashSet<(&str, &str)> = tree
        .groups()
        .iter()
        .map(|group| (group.name(), group.environment()))
        .collect();
    let is_there = |(id, name, environment): &&(GroupId, String, String)| {
        tree.get(*id).is_some() || names.contains(&(name.as_str(), environment.as_str()))
    };
    let missing: Vec<&str> = previous
        .stock
        .iter()
        .filter(|group| !is_there(group))
        .map(|(_, name, _)| name.as_str())
        .collect();
    if !missing.is_empty() {
        let message = format!(
            "groups every installation has are gone: {}",
            missing.join(", ")
        );
        refusals.push(
            Error::refused(STOCK_GROUP_GONE, message)
                .hint("check that the certificate or token sees all groups; accept nc-stock-group-gone where an upgrade removed them"),
        );
    }
    if previous.has_config_data && !tree.groups().iter().any(Group::has_config_data) {
        refusals.push(
            Error::refused(CONFIG_DATA_GONE, "the last good export had configuration data, this one has none")
                .hint("check classifier_hiera_data / config data in the console's settings: where it is off, the classifier leaves it out silently"),
        );
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, group};
    use serde_json::{Value, json};

    fn name(text: &str) -> Certname {
        Certname::new(text).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds).unwrap()
    }

    fn of_size(groups: u32) -> Tree {
        let mut values = vec![group(0, 0, "All Nodes")];
        values.extend((1..groups).map(|n| group(n, 0, &format!("g{n}"))));
        Tree::from_value(Value::Array(values)).unwrap()
    }

    fn against(previous: Tree, tree: Tree, policy: &ExportPolicy) -> Result<Export> {
        let previous = Envelope::new(name("a.lab"), at(0), previous);
        let summary = Previous::of(&previous);
        // What is read from its bytes is the same.
        let read = Previous::read(&previous.to_bytes()?)?;
        assert_eq!(format!("{read:?}"), format!("{summary:?}"));
        export(name("a.lab"), at(1), tree, Some(&summary), policy)
    }

    #[test]
    fn a_first_export_and_an_unchanged_one_pass() {
        let tree = Tree::from_json(testing::MASTER1).unwrap();
        let first = export(
            name("a.lab"),
            at(0),
            tree.clone(),
            None,
            &ExportPolicy::default(),
        )
        .unwrap();
        assert!(!first.unchanged);
        assert_eq!(Envelope::parse(&first.bytes).unwrap(), first.envelope);
        let second = export(
            name("a.lab"),
            at(1),
            testing::disguised(&tree, 3),
            Some(&Previous::of(&first.envelope)),
            &ExportPolicy::default(),
        );
        assert!(second.unwrap().unchanged);
    }

    #[test]
    fn shrinkage_is_refused_beyond_the_limit_and_only_there() {
        let default = ExportPolicy::default();
        assert!(against(of_size(100), of_size(80), &default).is_ok());
        let error = against(of_size(100), of_size(79), &default).unwrap_err();
        assert_eq!(error.rule(), Some(SHRINK));
        assert!(
            error.to_string().starts_with("21 of the 100 groups"),
            "{error}"
        );
        assert!(
            against(
                of_size(100),
                of_size(79),
                &ExportPolicy::default().max_shrink_percent(21)
            )
            .is_ok()
        );
        assert!(against(of_size(2), of_size(100), &default).is_ok());
        let accepted = against(
            of_size(100),
            of_size(1),
            &ExportPolicy::default().accept(Acceptances::of([SHRINK])),
        )
        .unwrap();
        assert_eq!(accepted.accepted.len(), 1);
    }

    #[test]
    fn a_stock_group_that_is_gone_is_refused_even_below_the_limit() {
        let whole = Tree::from_json(testing::MASTER1).unwrap();
        let without = |name: &str| {
            let groups: Vec<Group> = whole
                .groups()
                .iter()
                .filter(|group| group.name() != name)
                .cloned()
                .collect();
            Tree::from_groups(groups).unwrap()
        };
        let error = against(
            whole.clone(),
            without("PE Console"),
            &ExportPolicy::default(),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "groups every installation has are gone: PE Console [nc-stock-group-gone]"
        );
        let accept = ExportPolicy::default().accept(Acceptances::of([STOCK_GROUP_GONE]));
        assert!(against(whole.clone(), without("PE Console"), &accept).is_ok());
        // Accepting one rule does not accept another.
        let accept = ExportPolicy::default().accept(Acceptances::of([SHRINK]));
        assert_eq!(
            against(whole.clone(), without("PE Console"), &accept)
                .unwrap_err()
                .rule(),
            Some(STOCK_GROUP_GONE)
        );
    }

    #[test]
    fn configuration_data_that_vanishes_everywhere_is_refused() {
        let with = testing::tree_with(json!({"config_data": {"a": {"k": 1}}}));
        let without = testing::tree_with(json!({}));
        let error = against(with.clone(), without.clone(), &ExportPolicy::default()).unwrap_err();
        assert_eq!(error.rule(), Some(CONFIG_DATA_GONE));
        assert!(against(without, with, &ExportPolicy::default()).is_ok());
    }

    #[test]
    fn another_masters_export_is_no_measure() {
        let previous = Envelope::new(name("b.lab"), at(0), of_size(3));
        let error = export(
            name("a.lab"),
            at(1),
            of_size(3),
            Some(&Previous::of(&previous)),
            &ExportPolicy::default(),
        )
        .unwrap_err();
        assert_eq!(error.rule(), Some(OTHER_SOURCE));
    }
}
