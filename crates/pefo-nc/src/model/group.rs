//! One group: its JSON text as it came, who it is, and what it means.
//!
//! A classifier has thousands of groups, and a parsed group takes twenty times the bytes of its text. So a
//! group is parsed once, when it is made, to be checked and digested; what is in it is parsed again by whoever
//! wants to look ([`Group::contents`]).

use std::fmt;
use std::sync::Arc;

use pefo_core::digest::Digest;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::GroupId;
use super::contents::{Contents, GroupProblem, check};
use crate::canonical::meaning;

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
#[derive(Clone)]
pub struct Group {
    id: GroupId,
    parent: GroupId,
    name: Arc<str>,
    environment: Arc<str>,
    has_config_data: bool,
    /// Compact JSON, an object.
    text: Arc<RawValue>,
    /// Of its canonical form: equal for groups that mean the same.
    meaning: Digest,
}

impl Group {
    /// Reads a group.
    ///
    /// # Errors
    /// [`GroupProblem`]: what the classifier itself would refuse to import.
    pub fn from_value(value: Value) -> Result<Self, GroupProblem> {
        match value {
            Value::Object(object) => Self::from_object(&object),
            _ => Err(GroupProblem::NotAnObject),
        }
    }

    /// Reads a group from its object.
    ///
    /// # Errors
    /// As [`Group::from_value`].
    pub fn from_object(object: &Map<String, Value>) -> Result<Self, GroupProblem> {
        let (id, parent) = check(object)?;
        Ok(Self::of_checked(id, parent, object))
    }

    fn of_checked(id: GroupId, parent: GroupId, object: &Map<String, Value>) -> Self {
        let shared = |key: &str| {
            object
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .into()
        };
        // A map of values always prints.
        let text = serde_json::value::to_raw_value(object).unwrap_or_default();
        Self {
            id,
            parent,
            name: shared("name"),
            environment: shared("environment"),
            has_config_data: object
                .get("config_data")
                .and_then(Value::as_object)
                .is_some_and(|classes| !classes.is_empty()),
            text: text.into(),
            meaning: meaning(object),
        }
    }

    /// The same group with other values: id, parent, name and environment must be as they were, and every
    /// value must keep its type.
    pub(crate) fn with_values(&self, object: &Map<String, Value>) -> Self {
        Self::of_checked(self.id, self.parent, object)
    }

    /// The same group under another id and another parent.
    pub(crate) fn with_ids(&self, id: GroupId, parent: GroupId) -> Self {
        if (id, parent) == (self.id, self.parent) {
            return self.clone();
        }
        let mut object = self.contents().into_object();
        for (key, value) in [("id", id), ("parent", parent)] {
            object.insert(key.to_owned(), value.to_string().into());
        }
        Self::of_checked(id, parent, &object)
    }

    /// What is in it, parsed anew each time.
    pub fn contents(&self) -> Contents {
        // It was printed from an object that was checked.
        Contents::of(serde_json::from_str(self.text.get()).unwrap_or_default())
    }

    /// The group as compact JSON.
    pub fn to_json(&self) -> &str {
        self.text.get()
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
        &self.name
    }

    /// Its environment.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// Whether it has configuration data (2017.3 and later).
    pub fn has_config_data(&self) -> bool {
        self.has_config_data
    }

    /// Names what it means: equal for two groups that do not differ in what counts.
    pub(crate) fn meaning(&self) -> Digest {
        self.meaning
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
}

impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_json())
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
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
    fn what_is_in_a_group_is_read_however_deep_it_may_lie() {
        let nested = |levels: usize| (0..levels).fold(json!(1), |value, _| json!([value]));
        for (levels, is_taken) in [(3, true), (100, true), (119, false)] {
            let mut group = valid();
            group["variables"] = json!({ "v": nested(levels) });
            let read = Group::from_value(group.clone());
            assert_eq!(read.is_ok(), is_taken, "{levels}");
            if let Ok(read) = read {
                assert_eq!(Value::Object(read.contents().into_object()), group);
            }
        }
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
        assert!(group.contents().is_marked_deleted("payload", None));
        assert!(group.contents().is_marked_deleted("payload", Some("mass")));
        assert!(!group.contents().is_marked_deleted("rocket", None));
        assert!(group.contents().is_marked_deleted("rocket", Some("stages")));
    }
}
