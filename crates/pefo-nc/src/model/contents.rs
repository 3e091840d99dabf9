//! What is in a group: its object, with typed ways in, and what makes an object a group.

use serde_json::{Map, Value};

use super::{GroupId, Rule, RuleProblem};

/// As deep as values may lie in each other; serde_json reads 127 levels.
const MAX_DEPTH: usize = 120;

/// A group's object, parsed: every key, in its order, with exact numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    object: Map<String, Value>,
}

/// Why a value is not a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupProblem {
    /// It is something else than an object.
    #[error("it is not an object")]
    NotAnObject,
    /// A key that every group has is missing.
    #[error("{0:?} is missing")]
    Missing(&'static str),
    /// A key holds another type than the API documents.
    #[error("{key:?} is not {expected}")]
    Type {
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The rule is malformed.
    #[error("its rule is malformed: {0}")]
    Rule(#[from] RuleProblem),
    /// Its values lie in each other deeper than JSON is read.
    #[error("its values lie in each other more than {MAX_DEPTH} levels deep")]
    Depth,
}

/// Checks what the classifier itself would refuse to import; gives the id and the parent's.
pub(super) fn check(object: &Map<String, Value>) -> Result<(GroupId, GroupId), GroupProblem> {
    for key in ["name", "environment"] {
        match object.get(key) {
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(_) => return Err(wrong(key, "a string that is not empty")),
            None => return Err(GroupProblem::Missing(key)),
        }
    }
    let id = uuid(object, "id")?;
    let parent = uuid(object, "parent")?;
    class_map(object, "classes", true)?;
    class_map(object, "config_data", false)?;
    match object.get("variables") {
        None | Some(Value::Object(_) | Value::Null) => {}
        Some(_) => return Err(wrong("variables", "an object")),
    }
    match object.get("environment_trumps") {
        None | Some(Value::Bool(_)) => {}
        Some(_) => return Err(wrong("environment_trumps", "a boolean")),
    }
    match object.get("description") {
        None | Some(Value::String(_) | Value::Null) => {}
        Some(_) => return Err(wrong("description", "a string")),
    }
    match object.get("rule") {
        None | Some(Value::Null) => {}
        Some(rule) => drop(Rule::from_value(rule)?),
    }
    // The object itself is the first level.
    if object.values().any(|value| is_deeper(value, MAX_DEPTH - 1)) {
        return Err(GroupProblem::Depth);
    }
    Ok((id, parent))
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return true;
    };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper(item, below)),
        Value::Object(object) => object.values().any(|item| is_deeper(item, below)),
        _ => false,
    }
}

impl Contents {
    pub(super) fn of(object: Map<String, Value>) -> Self {
        Self { object }
    }

    /// Whether its environment overrides others'.
    pub fn environment_trumps(&self) -> bool {
        self.object
            .get("environment_trumps")
            .and_then(Value::as_bool)
            .unwrap_or(false)
    }

    /// Its description, where it has one that is not empty.
    pub fn description(&self) -> Option<&str> {
        self.object
            .get("description")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }

    /// Its rule, where it has one; a group without matches no node.
    pub fn rule(&self) -> Option<Rule> {
        // Checked when the group was read.
        self.object
            .get("rule")
            .and_then(|rule| Rule::from_value(rule).ok())
    }

    /// Its classes, each with an object of parameters.
    pub fn classes(&self) -> impl Iterator<Item = (&str, &Map<String, Value>)> {
        self.class_map("classes")
    }

    /// Its configuration data (2017.3 and later): by class, by parameter.
    pub fn config_data(&self) -> impl Iterator<Item = (&str, &Map<String, Value>)> {
        self.class_map("config_data")
    }

    /// Its variables.
    pub fn variables(&self) -> Option<&Map<String, Value>> {
        self.object.get("variables").and_then(Value::as_object)
    }

    /// Whether the classifier says that `class`, or that parameter of it, does not exist in the
    /// group's environment (its `deleted` key).
    pub fn is_marked_deleted(&self, class: &str, parameter: Option<&str>) -> bool {
        let marked = |value: &Value| {
            value
                .get("puppetlabs.classifier/deleted")
                .and_then(Value::as_bool)
                == Some(true)
        };
        self.object
            .get("deleted")
            .and_then(|deleted| deleted.get(class))
            .is_some_and(|entry| {
                marked(entry)
                    || parameter
                        .and_then(|name| entry.get(name))
                        .is_some_and(marked)
            })
    }

    /// The object, whole.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// The object, whole, taken out.
    pub fn into_object(self) -> Map<String, Value> {
        self.object
    }

    fn class_map(&self, key: &str) -> impl Iterator<Item = (&str, &Map<String, Value>)> {
        let classes = self
            .object
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        classes.filter_map(|(name, parameters)| Some((name.as_str(), parameters.as_object()?)))
    }
}

fn wrong(key: &str, expected: &'static str) -> GroupProblem {
    GroupProblem::Type {
        key: key.to_owned(),
        expected,
    }
}

fn uuid(object: &Map<String, Value>, key: &'static str) -> Result<GroupId, GroupProblem> {
    match object.get(key) {
        Some(Value::String(text)) => {
            GroupId::parse(text).ok_or_else(|| wrong(key, "a lower-case UUID"))
        }
        Some(_) => Err(wrong(key, "a lower-case UUID")),
        None => Err(GroupProblem::Missing(key)),
    }
}

fn class_map(
    object: &Map<String, Value>,
    key: &'static str,
    required: bool,
) -> Result<(), GroupProblem> {
    match object.get(key) {
        Some(Value::Object(classes)) => match classes
            .iter()
            .find(|(_, parameters)| !parameters.is_object())
        {
            Some((class, _)) => Err(wrong(&format!("{key}/{class}"), "an object")),
            None => Ok(()),
        },
        None if required => Err(GroupProblem::Missing(key)),
        None => Ok(()),
        Some(Value::Null) if !required => Ok(()),
        Some(_) => Err(wrong(key, "an object")),
    }
}
