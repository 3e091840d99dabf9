//! Node groups by which the two masters themselves are classified: active, passive, and either.
//!
//! The module that pefo replaces had three groups, which operators hung their own classes on; they are an opt-in step
//! after a promotion here. Which group a master is in follows from its external fact [`FACT`], which pefo writes:
//!
//! | group | below | rule |
//! |---|---|---|
//! | `pe_failover` | the root | active or passive |
//! | `pe_failover active` | `pe_failover` | the fact is `active` |
//! | `pe_failover passive` | `pe_failover` | the fact is `passive` |
//!
//! [`plan`] is pure and says what would be done; [`ensure_groups`] does it: what is missing is created, what differs
//! is corrected, and nothing but these three groups is ever written. A group is known by its id, which is the same
//! everywhere, or by its name where an operator made it. Name, parent and rule are pefo's; everything else of a
//! group that is there (environment, description, variables, configuration data, and the classes unless
//! [`FailoverOptions::clear_classes`] says otherwise) is the operator's.

use std::fmt;

use pefo_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::client::ClassifierClient;
use crate::model::{Group, GroupId, Tree};

/// The external fact that says which of the two a master is: `active` or `passive`.
pub const FACT: &str = "pe_failover_mode";
/// Two groups could be meant, or the group that is meant cannot have its name. Never overruled.
pub const AMBIGUOUS: &str = "nc-failover-ambiguous";

// Version 5 UUIDs in the namespace of URLs (RFC 9562 §5.5), of "pefo:group:" and the group's name.
/// The id of `pe_failover` where pefo makes it.
pub const PARENT_ID: GroupId = GroupId::from_u128(0xfe88_8938_385c_513a_89f0_23a5_84b0_c8e9);
/// The id of `pe_failover active` where pefo makes it.
pub const ACTIVE_ID: GroupId = GroupId::from_u128(0x47d0_f145_4450_5cdd_a728_4c05_a4b8_6e93);
/// The id of `pe_failover passive` where pefo makes it.
pub const PASSIVE_ID: GroupId = GroupId::from_u128(0xb60c_2df8_ad0f_5c93_901e_9038_53c7_4a8e);

/// How the groups are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailoverOptions {
    /// The environment of groups that are created; `production` by default.
    pub environment: String,
    /// Whether classes that the groups have are taken out; off by default.
    pub clear_classes: bool,
}

impl Default for FailoverOptions {
    fn default() -> Self {
        Self {
            environment: "production".to_owned(),
            clear_classes: false,
        }
    }
}

impl FailoverOptions {
    /// Sets the environment of groups that are created.
    #[must_use]
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        self.environment = environment.into();
        self
    }

    /// Sets whether classes that the groups have are taken out.
    #[must_use]
    pub fn clear_classes(mut self, clear: bool) -> Self {
        self.clear_classes = clear;
        self
    }
}

/// What becomes of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GroupChange {
    /// It is as it should be.
    Unchanged,
    /// It is not there.
    Create,
    /// These of its keys are corrected.
    Correct(Vec<&'static str>),
}

/// One of the three groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FailoverGroup {
    /// Its name.
    pub name: &'static str,
    /// Its id, which is another than pefo's where an operator made it.
    pub id: GroupId,
    /// What becomes of it.
    pub change: GroupChange,
    /// As it will be.
    #[serde(skip)]
    pub group: Group,
}

/// What becomes of the three groups, the parent first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FailoverPlan {
    /// The three, in the order in which they are written.
    pub groups: Vec<FailoverGroup>,
}

impl FailoverPlan {
    /// Whether all three are as they should be.
    pub fn is_empty(&self) -> bool {
        self.changes().next().is_none()
    }

    /// The groups that are created or corrected.
    pub fn changes(&self) -> impl Iterator<Item = &FailoverGroup> {
        let mut groups = self.groups.iter();
        std::iter::from_fn(move || groups.find(|group| group.change != GroupChange::Unchanged))
    }
}

impl fmt::Display for FailoverPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for FailoverGroup {
            name, id, change, ..
        } in &self.groups
        {
            match change {
                GroupChange::Unchanged => writeln!(f, "group {name:?} ({id}): unchanged")?,
                GroupChange::Create => writeln!(f, "group {name:?} ({id}): create")?,
                GroupChange::Correct(keys) => {
                    writeln!(f, "group {name:?} ({id}): correct {}", keys.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

/// What one of the groups should be.
struct Wanted {
    name: &'static str,
    id: GroupId,
    parent: GroupId,
    rule: Value,
}

fn is_mode(mode: &str) -> Value {
    json!(["=", ["fact", FACT], mode])
}

/// What has to be done to a classifier that holds `tree`.
///
/// # Errors
/// `Refused` ([`AMBIGUOUS`]).
pub fn plan(tree: &Tree, options: &FailoverOptions) -> Result<FailoverPlan> {
    let (active, passive) = (is_mode("active"), is_mode("passive"));
    let parent = Wanted {
        name: "pe_failover",
        id: PARENT_ID,
        parent: GroupId::ROOT,
        rule: json!(["or", active, passive]),
    };
    let parent = planned(tree, parent, options)?;
    let children = [
        ("pe_failover active", ACTIVE_ID, active),
        ("pe_failover passive", PASSIVE_ID, passive),
    ];
    let children = children.map(|(name, id, rule)| {
        let wanted = Wanted {
            name,
            id,
            parent: parent.id,
            rule,
        };
        planned(tree, wanted, options)
    });
    let mut groups = vec![parent];
    for child in children {
        groups.push(child?);
    }
    Ok(FailoverPlan { groups })
}

fn planned(tree: &Tree, wanted: Wanted, options: &FailoverOptions) -> Result<FailoverGroup> {
    let Some(there) = find(tree, &wanted, options)? else {
        let object = json!({
            "name": wanted.name, "id": wanted.id.to_string(), "parent": wanted.parent.to_string(),
            "environment": options.environment, "environment_trumps": false, "rule": wanted.rule,
            "description": "Kept by pefo; its classes are yours.", "variables": {}, "classes": {},
        });
        return Ok(FailoverGroup {
            name: wanted.name,
            id: wanted.id,
            change: GroupChange::Create,
            group: valid(object)?,
        });
    };
    let mut object = there.contents().into_object();
    let mut corrected = Vec::new();
    let mut set = |object: &mut Map<String, Value>, key: &'static str, value: Value| {
        if object.get(key) != Some(&value) {
            object.insert(key.to_owned(), value);
            corrected.push(key);
        }
    };
    set(&mut object, "name", wanted.name.into());
    set(&mut object, "parent", wanted.parent.to_string().into());
    set(&mut object, "rule", wanted.rule);
    if options.clear_classes {
        set(&mut object, "classes", json!({}));
    }
    // The server's own; with the serial number it can tell whether somebody else was faster.
    for key in ["last_edited", "deleted"] {
        object.shift_remove(key);
    }
    Ok(FailoverGroup {
        name: wanted.name,
        id: there.id(),
        change: if corrected.is_empty() {
            GroupChange::Unchanged
        } else {
            GroupChange::Correct(corrected)
        },
        group: valid(Value::Object(object))?,
    })
}

/// The group that is meant: by its id, else by its name.
fn find<'t>(
    tree: &'t Tree,
    wanted: &Wanted,
    options: &FailoverOptions,
) -> Result<Option<&'t Group>> {
    let ambiguous = |message: String| {
        Err(Error::refused(AMBIGUOUS, message).hint(
            "Rename or delete the group that is not the one by which the masters are told apart.",
        ))
    };
    let named = tree
        .groups()
        .iter()
        .filter(|group| group.name() == wanted.name);
    let named: Vec<&Group> = named.collect();
    if let Some(own) = tree.get(wanted.id) {
        let holder = tree.by_name(wanted.name, own.environment());
        return match holder.filter(|holder| holder.id() != own.id()) {
            Some(holder) => ambiguous(format!(
                "group {} is {:?}, and {:?} is another, {}",
                own.id(),
                own.name(),
                wanted.name,
                holder.id()
            )),
            None => Ok(Some(own)),
        };
    }
    match named.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => match tree.by_name(wanted.name, &options.environment) {
            Some(group) => Ok(Some(group)),
            None => ambiguous(format!(
                "{} groups are named {:?}, none of them in environment {:?}",
                several.len(),
                wanted.name,
                options.environment
            )),
        },
    }
}

fn valid(object: Value) -> Result<Group> {
    Group::from_value(object).map_err(|problem| {
        Error::invalid(format!("a group for the masters themselves: {problem}"))
            .with_source(problem)
    })
}

/// Creates and corrects the groups, reads them back, and has the classifier read its classes again. Returns what
/// was done; run again, nothing.
///
/// # Errors
/// Those of [`plan`]; those of the [client](crate::client), after which some of the groups may be there, and the next
/// run does the rest; `Protocol` where what is read back is not what was sent.
pub async fn ensure_groups(
    client: &ClassifierClient,
    options: &FailoverOptions,
) -> Result<FailoverPlan> {
    let plan = plan(&client.groups().await?, options)?;
    for change in plan.changes() {
        tracing::info!(name = change.name, group_id = %change.id, "writing a node group");
        match client.put_group(&change.group).await {
            // The answer was lost; what the server did is told by reading it back.
            Err(error) if error.kind() == ErrorKind::Unknown => {
                tracing::warn!(%error, "the answer was lost");
            }
            ended => {
                ended.map_err(|error| error.context(format!("write group {:?}", change.name)))?;
            }
        }
    }
    if !plan.is_empty() {
        let left = self::plan(&client.groups().await?, options)?;
        if let Some(change) = left.changes().next() {
            let message = format!(
                "group {:?} was written, and is not as it was sent",
                change.name
            );
            return Err(Error::new(ErrorKind::Protocol, message)
                .hint("run it again; if it stays so, does somebody else write to this group?")
                .retryable(true));
        }
    }
    client.update_classes(None).await.map_err(|error| {
        error.context("the groups are as they should be; have the classifier read its classes")
    })?;
    Ok(plan)
}

#[cfg(test)]
mod tests;
