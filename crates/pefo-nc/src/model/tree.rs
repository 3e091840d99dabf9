//! The checked tree of all groups.
//!
//! A [`Tree`] has been proved whole: an array, not empty, every object valid, exactly one root that
//! is its own parent, unique ids, names unique within their environment, every parent there, no
//! cycle. Nothing else may be exported or imported.

use std::collections::HashMap;
use std::fmt;

use pefo_core::{Error, Result};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::rule::excerpt;
use super::{Group, GroupId, GroupProblem};
use crate::in_parallel;

/// All groups of a classifier, in the order they came, proved to be one tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    groups: Vec<Group>,
    index: HashMap<GroupId, usize>,
}

/// One thing that is wrong with what should be a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// The answer is JSON, but not an array: an error report sent with status 200, for one.
    #[error("an array of groups was expected, not {0}")]
    NotAnArray(String),
    /// There is no group at all, not even the root.
    #[error("there are no groups, not even the root")]
    Empty,
    /// An element is not a valid group.
    #[error("element {index}{} is not a valid group: {problem}", named(.name.as_deref()))]
    InvalidGroup {
        /// Its place in the array, from 0.
        index: usize,
        /// Its name, where it has one.
        name: Option<String>,
        /// What is wrong.
        problem: GroupProblem,
    },
    /// The group with the root's id is missing.
    #[error("the root group ({}) is missing", GroupId::ROOT)]
    NoRoot,
    /// The root's parent is another group.
    #[error("the root group's parent is {0}, not itself")]
    RootHasParent(GroupId),
    /// Another group is its own parent.
    #[error("group {name:?} ({id}) is a second root: it is its own parent")]
    SecondRoot {
        /// Its id.
        id: GroupId,
        /// Its name.
        name: String,
    },
    /// Two groups have one id.
    #[error("groups {first:?} and {second:?} have the same id {id}")]
    DuplicateId {
        /// The id.
        id: GroupId,
        /// The first one's name.
        first: String,
        /// The second one's name.
        second: String,
    },
    /// Two groups have one name in one environment.
    #[error("two groups are named {name:?} in environment {environment:?}: {first} and {second}")]
    DuplicateName {
        /// The name.
        name: String,
        /// The environment.
        environment: String,
        /// The first one.
        first: GroupId,
        /// The second one.
        second: GroupId,
    },
    /// A group's parent is not in the array.
    #[error("group {name:?} ({id}): its parent {parent} is missing")]
    MissingParent {
        /// The group.
        id: GroupId,
        /// Its name.
        name: String,
        /// The parent that is missing.
        parent: GroupId,
    },
    /// Groups are each other's ancestors.
    #[error("group {name:?} ({id}) is its own ancestor")]
    Cycle {
        /// One group of the cycle.
        id: GroupId,
        /// Its name.
        name: String,
    },
}

fn not_an_array(value: &Value) -> TreeError {
    TreeError {
        findings: vec![Finding::NotAnArray(excerpt(value))],
    }
}

fn named(name: Option<&str>) -> String {
    name.map(|name| format!(" ({name:?})")).unwrap_or_default()
}

/// Everything that is wrong with what should be a tree; at least one finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeError {
    findings: Vec<Finding>,
}

impl TreeError {
    /// What is wrong, in the order of the array.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        f.write_str("the groups are not one whole tree: ")?;
        for (at, finding) in self.findings.iter().take(SHOWN).enumerate() {
            write!(f, "{}{finding}", if at == 0 { "" } else { "; " })?;
        }
        match self.findings.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for TreeError {}

impl From<TreeError> for Error {
    fn from(error: TreeError) -> Self {
        Self::refused("nc-tree-invalid", error.to_string()).with_source(error)
    }
}

impl Tree {
    /// Checks the array that `GET /v1/groups` returns, as a value.
    ///
    /// # Errors
    /// [`TreeError`] with everything that is wrong.
    pub fn from_value(value: Value) -> Result<Self, TreeError> {
        let Value::Array(items) = value else {
            return Err(not_an_array(&value));
        };
        Self::of_read(items.into_iter().map(|item| {
            let name = item.get("name").and_then(Value::as_str).map(str::to_owned);
            (name, Group::from_value(item))
        }))
    }

    /// Reads the JSON text that `GET /v1/groups` returns, one group after the other: that of a classifier
    /// whose groups may be no tree.
    ///
    /// # Errors
    /// What is wrong with the JSON; within it, [`TreeError`] with everything that is wrong with the groups.
    pub fn read(bytes: &[u8]) -> serde_json::Result<Result<Self, TreeError>> {
        let items: Vec<&RawValue> = match serde_json::from_slice(bytes) {
            Ok(items) => items,
            Err(error) => {
                let value: Value = serde_json::from_slice(bytes)?;
                return match value {
                    Value::Array(_) => Err(error),
                    other => Ok(Err(not_an_array(&other))),
                };
            }
        };
        let parts = in_parallel::chunks(&items, |part| {
            let read = part.iter().map(|item| {
                let item: Value = serde_json::from_str(item.get())?;
                let name = item.get("name").and_then(Value::as_str).map(str::to_owned);
                Ok((name, Group::from_value(item)))
            });
            read.collect::<serde_json::Result<Vec<_>>>()
        });
        let mut read = Vec::with_capacity(items.len());
        for part in parts {
            read.append(&mut part?);
        }
        Ok(Self::of_read(read.into_iter()))
    }

    fn of_read(
        items: impl Iterator<Item = (Option<String>, Result<Group, GroupProblem>)>,
    ) -> Result<Self, TreeError> {
        let (mut groups, mut findings) = (Vec::with_capacity(items.size_hint().0), Vec::new());
        for (index, (name, item)) in items.enumerate() {
            match item {
                Ok(group) => groups.push(group),
                Err(problem) => findings.push(Finding::InvalidGroup {
                    index,
                    name,
                    problem,
                }),
            }
        }
        Self::check(groups, findings)
    }

    /// Checks groups that were made or changed here.
    ///
    /// # Errors
    /// [`TreeError`] with everything that is wrong.
    pub fn from_groups(groups: Vec<Group>) -> Result<Self, TreeError> {
        Self::check(groups, Vec::new())
    }

    /// Parses and checks the JSON text that `GET /v1/groups` returns.
    ///
    /// # Errors
    /// `Invalid` where it is not JSON; a refusal `nc-tree-invalid` where it is not one whole tree.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let read = Self::read(bytes).map_err(|error| {
            Error::invalid(format!("the groups are not JSON: {error}")).with_source(error)
        })?;
        Ok(read?)
    }

    fn check(groups: Vec<Group>, mut findings: Vec<Finding>) -> Result<Self, TreeError> {
        if groups.is_empty() && findings.is_empty() {
            findings.push(Finding::Empty);
        }
        let broken = !findings.is_empty();
        let mut index = HashMap::with_capacity(groups.len());
        let mut names: HashMap<(&str, &str), GroupId> = HashMap::with_capacity(groups.len());
        for (at, group) in groups.iter().enumerate() {
            if let Some(first) = index.insert(group.id(), at) {
                let first = groups[first].name().to_owned();
                findings.push(Finding::DuplicateId {
                    id: group.id(),
                    first,
                    second: group.name().to_owned(),
                });
            } else if let Some(first) =
                names.insert((group.name(), group.environment()), group.id())
            {
                findings.push(Finding::DuplicateName {
                    name: group.name().to_owned(),
                    environment: group.environment().to_owned(),
                    first,
                    second: group.id(),
                });
            }
        }
        // With elements already known to be broken, what hangs from them would only repeat it.
        if !broken {
            check_ancestry(&groups, &index, &mut findings);
        }
        if findings.is_empty() {
            Ok(Self { groups, index })
        } else {
            Err(TreeError { findings })
        }
    }

    /// The tree with each group's values changed by [`Group::with_values`]: a whole tree stays whole.
    /// `groups` are this tree's, in its order.
    pub(crate) fn with_values(&self, groups: Vec<Group>) -> Self {
        Self {
            groups,
            index: self.index.clone(),
        }
    }

    /// The groups, in the order they came.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// How many groups there are; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a tree always has its root")]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// The group with this id.
    pub fn get(&self, id: GroupId) -> Option<&Group> {
        self.index.get(&id).map(|at| &self.groups[*at])
    }

    /// The group with this name in this environment.
    pub fn by_name(&self, name: &str, environment: &str) -> Option<&Group> {
        self.groups
            .iter()
            .find(|group| group.name() == name && group.environment() == environment)
    }

    /// The groups as the compact JSON array that `POST /v1/import-hierarchy` takes.
    pub fn to_json(&self) -> Vec<u8> {
        let size: usize = self
            .groups
            .iter()
            .map(|group| group.to_json().len() + 1)
            .sum();
        let mut json = Vec::with_capacity(size + 1);
        for group in &self.groups {
            json.push(if json.is_empty() { b'[' } else { b',' });
            json.extend_from_slice(group.to_json().as_bytes());
        }
        json.push(b']');
        json
    }

    /// The groups as a JSON array.
    pub fn to_value(&self) -> Value {
        let value = |group: &Group| Value::Object(group.contents().into_object());
        Value::Array(self.groups.iter().map(value).collect())
    }

    /// The groups, taken out.
    pub fn into_groups(self) -> Vec<Group> {
        self.groups
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.groups.serialize(serializer)
    }
}

fn check_ancestry(groups: &[Group], index: &HashMap<GroupId, usize>, findings: &mut Vec<Finding>) {
    match index.get(&GroupId::ROOT) {
        Some(root) if groups[*root].parent().is_root() => {}
        Some(root) => findings.push(Finding::RootHasParent(groups[*root].parent())),
        None => findings.push(Finding::NoRoot),
    }
    // Colours: 0 not seen, otherwise the number of the walk that came by. A walk that meets its own
    // colour has gone in a circle; one that meets an older colour joins a way that was walked.
    let mut colour = vec![0_usize; groups.len()];
    for start in 0..groups.len() {
        let mut at = start;
        while colour[at] == 0 {
            colour[at] = start + 1;
            let group = &groups[at];
            if group.parent() == group.id() {
                if !group.id().is_root() {
                    findings.push(Finding::SecondRoot {
                        id: group.id(),
                        name: group.name().to_owned(),
                    });
                }
                break;
            }
            match index.get(&group.parent()) {
                Some(parent) if colour[*parent] == start + 1 => {
                    findings.push(Finding::Cycle {
                        id: group.id(),
                        name: group.name().to_owned(),
                    });
                    break;
                }
                Some(parent) => at = *parent,
                None => {
                    let (id, name, parent) = (group.id(), group.name().to_owned(), group.parent());
                    findings.push(Finding::MissingParent { id, name, parent });
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
