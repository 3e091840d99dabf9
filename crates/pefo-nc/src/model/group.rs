//! One group: the JSON object as it came, with typed ways in.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{GroupId, Rule, RuleProblem};

/// The groups a fresh installation brings, over the releases (2015 to 2021). Whether one of them is
/// gone is the surest sign that an export saw less than there is.
pub const STOCK_GROUPS: &[&str] = &[
    "All Nodes",
    "All Environments",
    "Production environment",
    "Development environment",
    "Development one-time run exception",
    "Agent-specified environment",
    "PE Infrastructure",
    "PE Infrastructure Agent",
    "PE Agent",
    "PE Certificate Authority",
    "PE Master",
    "PE Compiler",
    "PE Console",
    "PE Orchestrator",
    "PE PuppetDB",
    "PE Database",
    "PE HA Master",
    "PE HA Replica",
    "PE MCollective",
    "PE ActiveMQ Broker",
    "PE Patch Management",
];

/// A valid group. Unknown keys, their order and exact numbers are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    id: GroupId,
    parent: GroupId,
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
}

impl Group {
    /// Reads a group.
    ///
    /// # Errors
    /// [`GroupProblem`]: what the classifier itself would refuse to import.
    pub fn from_value(value: Value) -> Result<Self, GroupProblem> {
        match value {
            Value::Object(object) => Self::from_object(object),
            _ => Err(GroupProblem::NotAnObject),
        }
    }

    /// Reads a group from its object.
    ///
    /// # Errors
    /// As [`Group::from_value`].
    pub fn from_object(object: Map<String, Value>) -> Result<Self, GroupProblem> {
        for key in ["name", "environment"] {
            match object.get(key) {
                Some(Value::String(text)) if !text.is_empty() => {}
                Some(_) => return Err(wrong(key, "a string that is not empty")),
                None => return Err(GroupProblem::Missing(key)),
            }
        }
        let id = uuid(&object, "id")?;
        let parent = uuid(&object, "parent")?;
        class_map(&object, "classes", true)?;
        class_map(&object, "config_data", false)?;
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
        Ok(Self { id, parent, object })
    }

    /// The same group with other values: id and parent must be as they were, and every value must
    /// keep its type.
    pub(crate) fn with_values(&self, object: Map<String, Value>) -> Self {
        Self {
            id: self.id,
            parent: self.parent,
            object,
        }
    }

    /// The same group under another id and another parent.
    pub(crate) fn with_ids(&self, id: GroupId, parent: GroupId) -> Self {
        let mut object = self.object.clone();
        for (key, value) in [("id", id), ("parent", parent)] {
            object.insert(key.to_owned(), value.to_string().into());
        }
        Self { id, parent, object }
    }

    /// Its id.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Its parent's id; the root's is its own.
    pub fn parent(&self) -> GroupId {
        self.parent
    }

    /// Its name, unique within its environment.
    pub fn name(&self) -> &str {
        self.text("name")
    }

    /// Its environment.
    pub fn environment(&self) -> &str {
        self.text("environment")
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

    /// Whether it is one of [`STOCK_GROUPS`], by name.
    pub fn is_stock(&self) -> bool {
        STOCK_GROUPS.contains(&self.name())
    }

    /// Whether it is one of the [`STOCK_GROUPS`] that say which host does what for the product itself: its
    /// rule and parameters belong to one installation.
    pub fn is_infrastructure(&self) -> bool {
        // Patches are the site's business, though the product brings the group.
        self.is_stock() && self.name().starts_with("PE ") && self.name() != "PE Patch Management"
    }

    /// The object, whole.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// The object, whole, taken out.
    pub fn into_object(self) -> Map<String, Value> {
        self.object
    }

    fn text(&self, key: &str) -> &str {
        self.object
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
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

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({
            "name": "Webservers", "id": "fc500c43-5065-469b-91fc-37ed0e500e81", "environment": "production",
            "parent": "00000000-0000-4000-8000-000000000000", "classes": {"apache": {"n": null}},
            "rule": null, "hat": {"unknown": true}
        })
    }

    #[test]
    fn unknown_keys_order_and_exact_numbers_are_kept() {
        let text = r#"{"z":12345678901234567890123456789,"name":"n","id":"fc500c43-5065-469b-91fc-37ed0e500e81","parent":"00000000-0000-4000-8000-000000000000","environment":"e","classes":{"a":{"f":1.10,"big":9007199254740993,"e":null}}}"#;
        let group = Group::from_value(serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(serde_json::to_string(&group).unwrap(), text);
    }

    #[test]
    fn what_the_classifier_would_refuse_is_refused() {
        assert!(Group::from_value(valid()).is_ok());
        for (key, value, problem) in [
            (
                "name",
                json!(""),
                "\"name\" is not a string that is not empty",
            ),
            (
                "environment",
                json!(null),
                "\"environment\" is not a string that is not empty",
            ),
            (
                "id",
                json!("FC500C43-5065-469B-91FC-37ED0E500E81"),
                "\"id\" is not a lower-case UUID",
            ),
            ("parent", json!(7), "\"parent\" is not a lower-case UUID"),
            ("classes", json!(["a"]), "\"classes\" is not an object"),
            (
                "classes",
                json!({"a": null}),
                "\"classes/a\" is not an object",
            ),
            (
                "config_data",
                json!({"a": 1}),
                "\"config_data/a\" is not an object",
            ),
            ("variables", json!([]), "\"variables\" is not an object"),
            (
                "environment_trumps",
                json!("true"),
                "\"environment_trumps\" is not a boolean",
            ),
            ("description", json!(1), "\"description\" is not a string"),
            (
                "rule",
                json!(["and"]),
                "its rule is malformed: operator \"and\" stands with 0 operands",
            ),
        ] {
            let mut group = valid();
            group[key] = value;
            assert_eq!(Group::from_value(group).unwrap_err().to_string(), problem);
        }
        for key in ["name", "id", "parent", "environment", "classes"] {
            let mut group = valid();
            group.as_object_mut().unwrap().remove(key);
            assert_eq!(
                Group::from_value(group).unwrap_err(),
                GroupProblem::Missing(key)
            );
        }
    }

    #[test]
    fn marks_of_missing_classes_and_parameters_are_read() {
        let examples: Value = serde_json::from_str(include_str!(
            "../../tests/fixtures/docs_2019.7_group_examples.json"
        ))
        .unwrap();
        let group = Group::from_value(examples["spaceship_deleted"].clone()).unwrap();
        assert!(group.is_marked_deleted("payload", None));
        assert!(group.is_marked_deleted("payload", Some("mass")));
        assert!(!group.is_marked_deleted("rocket", None));
        assert!(group.is_marked_deleted("rocket", Some("stages")));
    }
}
