//! One master's classification, rewritten for another.
//!
//! A [`CertnameMap`] is applied at once (A→B together with B→A swaps) to the JSON tree, never to its
//! text. Rewritten are:
//!
//! - pins, `["=", "name", H]` and `["=", ["trusted", "certname"], H]`, at any depth of a rule;
//! - the parameters of the product's own classes that hold its hosts ([`AUTOMATIC_PARAMETERS`]), in
//!   `classes` and in `config_data`, at any depth of their values;
//! - what [`TransformOptions::rewrite`] names, below `variables`, `classes` or `config_data`.
//!
//! There, a value is rewritten where it is a host of the map as a whole, or the host of `host:port` or
//! of `scheme://host[:port][/path]`; letter case does not matter; port, scheme and path stay. Values
//! of one array and conditions of one `and`/`or` that the map made equal are kept once.
//!
//! Everything else stays: ids, parents, names, descriptions, environments, object keys, operators,
//! path components, regular expressions, `deleted`, `last_edited`, `serial_number`. Where such a
//! place mentions a host of the map, it is reported as a [`Residual`].

mod host;
mod map;
mod place;
mod walk;

use std::fmt;

use pefo_core::Certname;
use serde::Serialize;

pub use map::CertnameMap;
pub use place::{AUTOMATIC_PARAMETERS, RewritePath};

use crate::in_parallel;
use crate::model::{Group, GroupId, Tree};

/// What is rewritten beyond the automatic places.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TransformOptions {
    /// Places named by the operator.
    pub paths: Vec<RewritePath>,
}

impl TransformOptions {
    /// Adds a place to rewrite.
    #[must_use]
    pub fn rewrite(mut self, path: RewritePath) -> Self {
        self.paths.push(path);
        self
    }
}

/// The rewritten tree, with what was and what was not rewritten.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Transformed {
    /// The tree for the other master.
    pub tree: Tree,
    /// Every value that was rewritten.
    pub rewrites: Vec<Rewrite>,
    /// Every mention of a mapped host that was left.
    pub residuals: Vec<Residual>,
}

/// One rewritten value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rewrite {
    /// The group.
    pub group: GroupId,
    /// The group's name.
    pub group_name: String,
    /// Where, as a JSON pointer (RFC 6901) into the group as it was.
    pub path: String,
    /// The value before.
    pub from: String,
    /// The value after.
    pub to: String,
    /// Whether it was dropped, because the map made it equal to another one beside it.
    pub merged: bool,
}

/// One mention of a mapped host that was left as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Residual {
    /// The group.
    pub group: GroupId,
    /// The group's name.
    pub group_name: String,
    /// Where, as a JSON pointer (RFC 6901) into the group as it was; [`RewritePath`] reads it.
    pub path: String,
    /// The value (its first 200 characters), or the object key.
    pub value: String,
    /// The mapped host it mentions.
    pub host: Certname,
    /// How it mentions it.
    pub mention: Mention,
}

/// How a value that was left mentions a mapped host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mention {
    /// As part of a longer name: `xmastera.lab`, `mastera.lab.example.com`. Most often another host.
    LongerName,
    /// In a longer text.
    InsideText,
    /// In a regular expression, plainly or escaped.
    Regex,
    /// As an object's key.
    ObjectKey,
    /// As the value or the host of a URL, in a place that is not rewritten unless it is named.
    UnlistedPlace,
}

impl fmt::Display for Mention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LongerName => "part of a longer name",
            Self::InsideText => "inside a text",
            Self::Regex => "in a regular expression",
            Self::ObjectKey => "as a key",
            Self::UnlistedPlace => "in a place that is not rewritten unless it is named",
        })
    }
}

impl fmt::Display for Residual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group_name,
            path,
            value,
            host,
            mention,
            ..
        } = self;
        write!(
            f,
            "group {group_name:?} {path}: {value:?} mentions {host} {mention}"
        )
    }
}

/// Rewrites `tree` for another master.
pub fn transform(tree: &Tree, map: &CertnameMap, options: &TransformOptions) -> Transformed {
    let parts = in_parallel::chunks(tree.groups(), |part| {
        let mut walk = walk::Walk::new(map, options);
        let groups: Vec<Group> = part.iter().map(|group| walk.group(group)).collect();
        (groups, walk.rewrites, walk.residuals)
    });
    let mut groups = Vec::with_capacity(tree.len());
    let (mut rewrites, mut residuals) = (Vec::new(), Vec::new());
    for (mut part, mut rewritten, mut left) in parts {
        groups.append(&mut part);
        rewrites.append(&mut rewritten);
        residuals.append(&mut left);
    }
    Transformed {
        tree: tree.with_values(groups),
        rewrites,
        residuals,
    }
}

#[cfg(test)]
mod tests;
