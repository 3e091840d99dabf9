//! What two trees differ in, group by group and field by field.
//!
//! The comparison is that of [`crate::canonical`]: an empty diff and equal digests are one thing.
//! A diff holds the values on both sides, so [`TreeDiff::apply`] can carry one tree to the other; its
//! `Display` is for people and cuts long values, its `Serialize` has them whole.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use pefo_core::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::canonical::{canonical_value, counts};
use crate::model::{Contents, Group, GroupId, Tree, shorten};

/// How one tree differs from another.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TreeDiff {
    /// Groups that only the new tree has, in its order.
    pub added: Vec<Group>,
    /// Groups that only the old tree has, in its order.
    pub removed: Vec<Group>,
    /// Groups that both have, with different content, by id.
    pub changed: Vec<GroupChange>,
}

/// One group that both trees have.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GroupChange {
    /// Its id.
    pub id: GroupId,
    /// Its name in the old tree.
    pub name: String,
    /// Its environment in the old tree.
    pub environment: String,
    /// The fields that differ, sorted.
    pub fields: Vec<FieldChange>,
}

/// One field of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FieldChange {
    /// Which.
    pub field: Field,
    /// Its value in the old tree, where it has one there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Its value in the new tree, where it has one there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// A field of a group, as fine as it can be told apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Field {
    /// `name`, `parent`, `environment`, `environment_trumps`, `description`, `rule`, or a key this
    /// crate does not know.
    Key(String),
    /// A class as a whole: added or removed, with all its parameters.
    Class(String),
    /// One parameter of a class that both have.
    Parameter(String, String),
    /// One class of the configuration data, as a whole.
    ConfigData(String),
    /// One key of the configuration data of a class that both have.
    ConfigDataKey(String, String),
    /// One variable.
    Variable(String),
}

impl TreeDiff {
    /// What leads from `old` to `new`.
    pub fn between(old: &Tree, new: &Tree) -> Self {
        let only_in = |one: &Tree, other: &Tree| {
            one.groups()
                .iter()
                .filter(|group| other.get(group.id()).is_none())
                .cloned()
                .collect::<Vec<_>>()
        };
        let mut changed: Vec<GroupChange> = old
            .groups()
            .iter()
            .filter_map(|group| Some((group, new.get(group.id())?)))
            .filter(|(before, after)| before.meaning() != after.meaning())
            .filter_map(|(before, after)| GroupChange::between(before, after))
            .collect();
        changed.sort_by_key(|change| change.id);
        Self {
            added: only_in(new, old),
            removed: only_in(old, new),
            changed,
        }
    }

    /// Whether the trees mean the same.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// One line: how many groups were added, removed and changed.
    pub fn summary(&self) -> String {
        format!(
            "{} added, {} removed, {} changed",
            self.added.len(),
            self.removed.len(),
            self.changed.len()
        )
    }

    /// Carries `old` to the new tree: equal to it, though groups and keys may stand in another order.
    ///
    /// # Errors
    /// `Invalid` where a changed group is not in `old`; a refusal `nc-tree-invalid` where the result
    /// is not one whole tree. Neither happens to the tree the diff was made from.
    pub fn apply(&self, old: &Tree) -> Result<Tree> {
        let removed: BTreeSet<GroupId> = self.removed.iter().map(Group::id).collect();
        let mut changes: HashMap<GroupId, &GroupChange> = self
            .changed
            .iter()
            .map(|change| (change.id, change))
            .collect();
        let mut groups = Vec::with_capacity(old.len() + self.added.len());
        for group in old
            .groups()
            .iter()
            .filter(|group| !removed.contains(&group.id()))
        {
            match changes.remove(&group.id()) {
                Some(change) => groups.push(change.apply(group)?),
                None => groups.push(group.clone()),
            }
        }
        if let Some(id) = changes.keys().next() {
            return Err(Error::invalid(format!(
                "the diff changes group {id}, which is not there"
            )));
        }
        groups.extend(self.added.iter().cloned());
        Ok(Tree::from_groups(groups)?)
    }
}

impl GroupChange {
    fn between(before: &Group, after: &Group) -> Option<Self> {
        let (mut old, mut new) = (fields(&before.contents()), fields(&after.contents()));
        let names: BTreeSet<Field> = old.keys().chain(new.keys()).cloned().collect();
        let mut changes = Vec::new();
        for field in names {
            let (before, after) = (old.remove(&field), new.remove(&field));
            if before.as_ref().map(canonical_value) != after.as_ref().map(canonical_value) {
                changes.push(FieldChange {
                    field,
                    before,
                    after,
                });
            }
        }
        let fields = fold_whole_classes(changes);
        (!fields.is_empty()).then(|| Self {
            id: before.id(),
            name: before.name().to_owned(),
            environment: before.environment().to_owned(),
            fields,
        })
    }

    fn apply(&self, group: &Group) -> Result<Group> {
        let mut object = group.contents().into_object();
        for FieldChange { field, after, .. } in &self.fields {
            let after = after.as_ref();
            match field {
                Field::Key(key) => set(&mut object, key, after),
                Field::Class(class) => within(&mut object, "classes", |all| set(all, class, after)),
                Field::ConfigData(class) => {
                    within(&mut object, "config_data", |all| set(all, class, after))
                }
                Field::Variable(name) => {
                    within(&mut object, "variables", |all| set(all, name, after))
                }
                Field::Parameter(class, name) => {
                    within(&mut object, "classes", |all| {
                        within(all, class, |one| set(one, name, after))
                    });
                }
                Field::ConfigDataKey(class, name) => {
                    within(&mut object, "config_data", |all| {
                        within(all, class, |one| set(one, name, after))
                    });
                }
            }
        }
        Group::from_object(&object).map_err(|problem| {
            Error::invalid(format!("group {:?} as changed: {problem}", self.name))
                .with_source(problem)
        })
    }
}

fn set(object: &mut Map<String, Value>, key: &str, value: Option<&Value>) {
    match value {
        Some(value) => drop(object.insert(key.to_owned(), value.clone())),
        None => drop(object.shift_remove(key)),
    }
}

/// Changes the object at `key`, which is made where there is none.
fn within(
    object: &mut Map<String, Value>,
    key: &str,
    change: impl FnOnce(&mut Map<String, Value>),
) {
    let mut inner = match object.get_mut(key) {
        Some(Value::Object(inner)) => std::mem::take(inner),
        _ => Map::new(),
    };
    change(&mut inner);
    object.insert(key.to_owned(), Value::Object(inner));
}

/// Every field of a group that counts, with its value as it came. A class without parameters is a field of its own, so
/// that it is told from no class.
fn fields(group: &Contents) -> HashMap<Field, Value> {
    let mut fields = HashMap::new();
    for (key, value) in group
        .object()
        .iter()
        .filter(|(key, value)| counts(key, value))
    {
        match (key.as_str(), value) {
            ("classes", Value::Object(classes)) => {
                by_class(&mut fields, classes, Field::Class, Field::Parameter)
            }
            ("config_data", Value::Object(classes)) => {
                by_class(
                    &mut fields,
                    classes,
                    Field::ConfigData,
                    Field::ConfigDataKey,
                );
            }
            ("variables", Value::Object(variables)) => {
                let variable = |(name, value): (&String, &Value)| {
                    (Field::Variable(name.clone()), value.clone())
                };
                fields.extend(variables.iter().map(variable));
            }
            _ => drop(fields.insert(Field::Key(key.clone()), value.clone())),
        }
    }
    fields
}

fn by_class(
    fields: &mut HashMap<Field, Value>,
    classes: &Map<String, Value>,
    class_field: fn(String) -> Field,
    parameter_field: fn(String, String) -> Field,
) {
    for (class, parameters) in classes {
        if let Value::Object(parameters) = parameters {
            for (name, value) in parameters {
                fields.insert(parameter_field(class.clone(), name.clone()), value.clone());
            }
        }
        fields.insert(class_field(class.clone()), Value::Object(Map::new()));
    }
}

/// Where a whole class came or went, its parameters belong to that one change.
fn fold_whole_classes(changes: Vec<FieldChange>) -> Vec<FieldChange> {
    let (mut whole, rest): (Vec<_>, Vec<_>) = changes
        .into_iter()
        .partition(|change| matches!(change.field, Field::Class(_) | Field::ConfigData(_)));
    let place: HashMap<Field, usize> = whole
        .iter()
        .enumerate()
        .map(|(at, change)| (change.field.clone(), at))
        .collect();
    let mut single = Vec::new();
    for change in rest {
        let (owner, name) = match &change.field {
            Field::Parameter(class, name) => (Field::Class(class.clone()), name.clone()),
            Field::ConfigDataKey(class, name) => (Field::ConfigData(class.clone()), name.clone()),
            _ => {
                single.push(change);
                continue;
            }
        };
        let Some(at) = place.get(&owner) else {
            single.push(change);
            continue;
        };
        let owner = &mut whole[*at];
        for (side, value) in [
            (&mut owner.before, change.before),
            (&mut owner.after, change.after),
        ] {
            if let (Some(Value::Object(parameters)), Some(value)) = (side, value) {
                parameters.insert(name.clone(), value);
            }
        }
    }
    single.append(&mut whole);
    single.sort_by(|one, other| one.field.cmp(&other.field));
    single
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Class(class) => write!(f, "class {class}"),
            Self::Parameter(class, name) => write!(f, "class {class}, {name}"),
            Self::ConfigData(class) => write!(f, "config data {class}"),
            Self::ConfigDataKey(class, name) => write!(f, "config data {class}, {name}"),
            Self::Variable(name) => write!(f, "variable {name}"),
        }
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |value: &Value| shorten(&value.to_string(), 160);
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                write!(f, "{}: {} → {}", self.field, short(before), short(after))
            }
            (None, Some(after)) => write!(f, "{}: added {}", self.field, short(after)),
            (Some(before), None) => write!(f, "{}: removed {}", self.field, short(before)),
            (None, None) => write!(f, "{}", self.field),
        }
    }
}

impl fmt::Display for TreeDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no difference");
        }
        f.write_str(&self.summary())?;
        let whole = |f: &mut fmt::Formatter<'_>, sign: char, group: &Group| {
            write!(
                f,
                "\n{sign} group {:?} in {} ({})",
                group.name(),
                group.environment(),
                group.id()
            )
        };
        self.added
            .iter()
            .try_for_each(|group| whole(f, '+', group))?;
        self.removed
            .iter()
            .try_for_each(|group| whole(f, '-', group))?;
        for change in &self.changed {
            write!(
                f,
                "\n~ group {:?} in {} ({})",
                change.name, change.environment, change.id
            )?;
            change
                .fields
                .iter()
                .try_for_each(|field| write!(f, "\n    {field}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
