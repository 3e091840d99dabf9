//! What an import would do, as a value; no I/O.

use std::collections::HashSet;
use std::fmt;

use pefo_core::clock::Timestamp;
use pefo_core::{Certname, Error, Result};
use serde::Serialize;

use super::ids::{self, Decided, IdChange, IdPolicy, KeptGroup};
use super::{
    ROLLBACK_FOREIGN, SOURCE_NOT_MAPPED, TARGET_BROKEN, TARGET_IS_SOURCE, TARGET_STOCK_GROUP,
};
use crate::accept::Acceptances;
use crate::canonical::TreeDigest;
use crate::diff::TreeDiff;
use crate::envelope::Envelope;
use crate::model::{Group, Tree, TreeError};
use crate::transform::{CertnameMap, Residual, Rewrite, TransformOptions, transform};

/// How an export becomes the target's tree.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ImportPolicy {
    /// Which host becomes which.
    pub map: CertnameMap,
    /// What is rewritten beyond the automatic places.
    pub transform: TransformOptions,
    /// Which ids the groups have.
    pub ids: IdPolicy,
    /// Rules the operator accepts for this run.
    pub accept: Acceptances,
}

impl ImportPolicy {
    /// A policy with this map.
    pub fn with_map(map: CertnameMap) -> Self {
        Self {
            map,
            ..Self::default()
        }
    }

    /// Sets what is rewritten beyond the automatic places.
    #[must_use]
    pub fn transform(mut self, transform: TransformOptions) -> Self {
        self.transform = transform;
        self
    }

    /// Sets which ids the groups have.
    #[must_use]
    pub fn ids(mut self, ids: IdPolicy) -> Self {
        self.ids = ids;
        self
    }

    /// Sets what the operator accepts.
    #[must_use]
    pub fn accept(mut self, accept: Acceptances) -> Self {
        self.accept = accept;
        self
    }
}

/// What the target is and holds.
#[derive(Debug, Clone)]
pub struct Target {
    /// The master whose classifier it is.
    pub certname: Certname,
    /// Its groups, as [`GroupsAnswer::checked`](crate::client::GroupsAnswer::checked) gives them. A target that an import left broken can still be planned for.
    pub tree: Result<Tree, TreeError>,
    /// When they were read.
    pub seen: Timestamp,
}

/// What an import will do. Made by [`plan`] or [`plan_rollback`], carried out by
/// [`apply`](super::apply); shown by `Display` and `Serialize`.
#[derive(Debug, Clone, Serialize)]
pub struct ImportPlan {
    source: Certname,
    exported: Timestamp,
    target: Certname,
    needs_import: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest_before: Option<TreeDigest>,
    digest_after: TreeDigest,
    diff: TreeDiff,
    rewrites: Vec<Rewrite>,
    residuals: Vec<Residual>,
    id_changes: Vec<IdChange>,
    kept: Vec<KeptGroup>,
    accepted: Vec<String>,
    #[serde(skip)]
    accept: Acceptances,
    #[serde(skip)]
    rollback: Option<Envelope>,
    #[serde(skip)]
    wanted: Tree,
}

impl ImportPlan {
    /// Whether the target has to be changed at all.
    pub fn needs_import(&self) -> bool {
        self.needs_import
    }

    /// The master the export came from.
    pub fn source(&self) -> &Certname {
        &self.source
    }

    /// When the export was made.
    pub fn exported(&self) -> Timestamp {
        self.exported
    }

    /// The master it is for.
    pub fn target(&self) -> &Certname {
        &self.target
    }

    /// What changes on the target.
    pub fn diff(&self) -> &TreeDiff {
        &self.diff
    }

    /// What the certname map rewrote.
    pub fn rewrites(&self) -> &[Rewrite] {
        &self.rewrites
    }

    /// Mentions of mapped hosts that were left.
    pub fn residuals(&self) -> &[Residual] {
        &self.residuals
    }

    /// The groups of the export that take the target's ids.
    pub fn id_changes(&self) -> &[IdChange] {
        &self.id_changes
    }

    /// The target's own groups that stay as they are.
    pub fn kept(&self) -> &[KeptGroup] {
        &self.kept
    }

    /// The refusals the operator overruled.
    pub fn accepted(&self) -> &[String] {
        &self.accepted
    }

    /// What the target holds, to be kept before the import and for [`plan_rollback`]; `None` where
    /// that is broken.
    pub fn rollback(&self) -> Option<&Envelope> {
        self.rollback.as_ref()
    }

    /// The tree the target will hold.
    pub fn wanted(&self) -> &Tree {
        &self.wanted
    }

    /// Digest of what the target holds, and of what it will hold.
    pub(super) fn digests(&self) -> (Option<TreeDigest>, TreeDigest) {
        (self.digest_before, self.digest_after)
    }

    pub(super) fn accept(&self) -> &Acceptances {
        &self.accept
    }
}

/// Plans the import of an export into a target.
///
/// # Errors
/// A refusal: [`TARGET_IS_SOURCE`](super::TARGET_IS_SOURCE), or
/// [`SOURCE_NOT_MAPPED`](super::SOURCE_NOT_MAPPED), [`TARGET_BROKEN`](super::TARGET_BROKEN) or
/// [`TARGET_STOCK_GROUP`](super::TARGET_STOCK_GROUP) unless it is accepted; what an [`IdPolicy`] refuses.
pub fn plan(export: &Envelope, target: Target, policy: &ImportPolicy) -> Result<ImportPlan> {
    if export.source == target.certname {
        let message = format!(
            "the export came from {}, the very master it would be imported into",
            export.source
        );
        return Err(Error::refused(TARGET_IS_SOURCE, message)
            .hint("run it on the other master, or use nc rollback for its own copy"));
    }
    let mut accepted = Vec::new();
    if policy.map.get(&export.source).is_none() {
        let message = format!(
            "the certname map says nothing about {}, the export's source",
            export.source
        );
        let hint = format!(
            "map it in [classifier] map: \"{}\" = \"{}\"",
            export.source, target.certname
        );
        policy.accept.gate(
            Error::refused(SOURCE_NOT_MAPPED, message).hint(hint),
            &mut accepted,
        )?;
    }
    let transformed = transform(&export.tree, &policy.map, &policy.transform);
    let decided = match (&target.tree, policy.ids) {
        (_, IdPolicy::KeepSourceIds) => Decided::default(),
        (Ok(held), ids) => ids::decide(
            &transformed.tree,
            held,
            ids,
            &policy.accept,
            &mut accepted,
        )?,
        // Whether it may be replaced is asked below; which ids it had cannot be told.
        (Err(broken), _) => return Err(target_broken(&target.certname, broken)
            .hint("its ids cannot be matched: set [classifier] ids = \"keep-source-ids\" and accept nc-target-broken to replace it")),
    };
    let wanted = decided.tree.unwrap_or(transformed.tree);
    if let Ok(held) = &target.tree {
        check_stock_groups(held, &wanted, &policy.accept, &mut accepted)?;
    }
    let plan = compare(export, target, wanted, policy.accept.clone(), accepted)?;
    Ok(ImportPlan {
        rewrites: transformed.rewrites,
        residuals: transformed.residuals,
        id_changes: decided.changes,
        kept: decided.kept,
        ..plan
    })
}

/// An import replaces all groups: what the product brings and the export does not have would be gone.
fn check_stock_groups(
    held: &Tree,
    wanted: &Tree,
    accept: &Acceptances,
    accepted: &mut Vec<String>,
) -> Result<()> {
    let names: HashSet<(&str, &str)> = wanted
        .groups()
        .iter()
        .map(|group| (group.name(), group.environment()))
        .collect();
    let gone: Vec<&str> = held
        .groups()
        .iter()
        .filter(|group| group.is_stock() && wanted.get(group.id()).is_none())
        .filter(|group| !names.contains(&(group.name(), group.environment())))
        .map(Group::name)
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the import would delete groups that the target's product brings: {}",
        gone.join(", ")
    );
    let refusal = Error::refused(TARGET_STOCK_GROUP, message).hint(
        "are both masters of one version? accept nc-target-stock-group to delete them, or set [classifier] ids = \"keep-target-infrastructure\"",
    );
    accept.gate(refusal, accepted)
}

fn target_broken(target: &Certname, broken: &TreeError) -> Error {
    Error::refused(
        TARGET_BROKEN,
        format!("what {target} holds is broken: {broken}"),
    )
    .with_source(broken.clone())
}

/// Plans putting a master's own rollback copy back: nothing is transformed.
///
/// # Errors
/// A refusal: [`ROLLBACK_FOREIGN`](super::ROLLBACK_FOREIGN) where the copy is another master's, or
/// [`TARGET_BROKEN`](super::TARGET_BROKEN) unless it is accepted.
pub fn plan_rollback(copy: &Envelope, target: Target, accept: Acceptances) -> Result<ImportPlan> {
    if copy.source != target.certname {
        let message = format!(
            "the rollback copy is {}'s, this is {}",
            copy.source, target.certname
        );
        return Err(Error::refused(ROLLBACK_FOREIGN, message)
            .hint("another master's groups come in by nc restore, which rewrites them"));
    }
    compare(copy, target, copy.tree.clone(), accept, Vec::new())
}

fn compare(
    from: &Envelope,
    target: Target,
    wanted: Tree,
    accept: Acceptances,
    mut accepted: Vec<String>,
) -> Result<ImportPlan> {
    let (diff, rollback) = match target.tree {
        Ok(held) => {
            let diff = TreeDiff::between(&held, &wanted);
            (
                diff,
                Some(Envelope::new(target.certname.clone(), target.seen, held)),
            )
        }
        Err(broken) => {
            let refusal = target_broken(&target.certname, &broken).hint(
                "accept nc-target-broken to replace it; there is nothing whole to roll back to",
            );
            accept.gate(refusal, &mut accepted)?;
            (
                TreeDiff {
                    added: wanted.groups().to_vec(),
                    ..TreeDiff::default()
                },
                None,
            )
        }
    };
    Ok(ImportPlan {
        source: from.source.clone(),
        exported: from.time,
        target: target.certname,
        needs_import: !diff.is_empty(),
        digest_before: rollback.as_ref().map(|copy| copy.digest),
        digest_after: TreeDigest::of(&wanted),
        diff,
        rewrites: Vec::new(),
        residuals: Vec::new(),
        id_changes: Vec::new(),
        kept: Vec::new(),
        accepted,
        accept,
        rollback,
        wanted,
    })
}

impl fmt::Display for ImportPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            exported,
            target,
            ..
        } = self;
        write!(
            f,
            "classification of {source} as of {exported}, for {target}: "
        )?;
        if self.needs_import {
            write!(f, "{}", self.diff)?
        } else {
            f.write_str("nothing to do, it is there already")?
        }
        if !self.rewrites.is_empty() {
            write!(f, "\n{} values rewritten for {target}", self.rewrites.len())?;
        }
        if !self.id_changes.is_empty() {
            let count = self.id_changes.len();
            write!(f, "\n{count} groups have the ids of {target}")?;
        }
        if !self.kept.is_empty() {
            let names: Vec<&str> = self.kept.iter().map(|kept| kept.name.as_str()).collect();
            write!(f, "\n{target} keeps its own: {}", names.join(", "))?;
        }
        if !self.residuals.is_empty() {
            write!(f, "\n{} mentions left as they are:", self.residuals.len())?;
            self.residuals
                .iter()
                .try_for_each(|residual| write!(f, "\n    {residual}"))?;
        }
        self.accepted
            .iter()
            .try_for_each(|refusal| write!(f, "\naccepted: {refusal}"))
    }
}

#[cfg(test)]
mod tests;
