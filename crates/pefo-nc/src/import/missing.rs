//! What a tree refers to and a master does not have.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Serialize;

use crate::client::{ClassInfo, EnvironmentInfo};
use crate::model::{Group, GroupId, Tree};

/// The environment in which agents choose their own; the classifier keeps no classes for it.
const AGENT_SPECIFIED: &str = "agent-specified";

/// An environment, a class, or a parameter that a group uses and the master does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MissingReference {
    /// The group.
    pub group: GroupId,
    /// Its name.
    pub group_name: String,
    /// Its environment; what is missing, where `class` is `None`.
    pub environment: String,
    /// The class; what is missing, where `parameter` is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The parameter that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// Whether the export says that it is missing on its source as well.
    pub on_source_too: bool,
}

impl fmt::Display for MissingReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.class, &self.parameter) {
            (Some(class), Some(parameter)) => write!(f, "parameter {parameter} of class {class}")?,
            (Some(class), None) => write!(f, "class {class}")?,
            (None, _) => write!(f, "environment {}", self.environment)?,
        }
        write!(f, " (group {:?} in {})", self.group_name, self.environment)
    }
}

/// Compares what `tree` uses with what a master has.
pub fn missing_references(
    tree: &Tree,
    classes: &[ClassInfo],
    environments: &[EnvironmentInfo],
) -> Vec<MissingReference> {
    let environments: HashSet<&str> = environments
        .iter()
        .map(|environment| environment.name.as_str())
        .collect();
    let classes: HashMap<(&str, &str), &ClassInfo> = classes
        .iter()
        .map(|class| ((class.environment.as_str(), class.name.as_str()), class))
        .collect();
    let mut missing = Vec::new();
    for group in tree.groups() {
        let environment = group.environment();
        if environment == AGENT_SPECIFIED {
            continue;
        }
        if !environments.contains(environment) {
            missing.push(reference(group, None, None, false));
            continue;
        }
        let contents = group.contents();
        for (class, parameters) in contents.classes() {
            let Some(known) = classes.get(&(environment, class)) else {
                let there_too = contents.is_marked_deleted(class, None);
                missing.push(reference(group, Some(class), None, there_too));
                continue;
            };
            // Where the server does not list parameters, nothing can be said about them.
            let Some(known) = &known.parameters else {
                continue;
            };
            let unknown = parameters.keys().filter(|name| !known.contains_key(*name));
            missing.extend(unknown.map(|name| {
                let there_too = contents.is_marked_deleted(class, Some(name));
                reference(group, Some(class), Some(name), there_too)
            }));
        }
    }
    missing
}

fn reference(
    group: &Group,
    class: Option<&str>,
    parameter: Option<&str>,
    on_source_too: bool,
) -> MissingReference {
    MissingReference {
        group: group.id(),
        group_name: group.name().to_owned(),
        environment: group.environment().to_owned(),
        class: class.map(str::to_owned),
        parameter: parameter.map(str::to_owned),
        on_source_too,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tree_with;
    use serde_json::{Value, json};

    fn found(keys: Value) -> Vec<String> {
        let classes: Vec<ClassInfo> =
            serde_json::from_str(include_str!("../../tests/fixtures/scooter_classes_4.json"))
                .unwrap();
        let environments: Vec<EnvironmentInfo> = serde_json::from_str(include_str!(
            "../../tests/fixtures/scooter_environments.json"
        ))
        .unwrap();
        let missing = missing_references(&tree_with(keys), &classes, &environments);
        missing
            .iter()
            .map(|missing| {
                format!(
                    "{missing}{}",
                    if missing.on_source_too {
                        ", there too"
                    } else {
                        ""
                    }
                )
            })
            .collect()
    }

    #[test]
    fn missing_environments_classes_and_parameters_are_told_apart() {
        assert_eq!(
            found(
                json!({"classes": {"pe_accounts": {"manage_users": true}, "pe_concat::setup": {}}})
            ),
            [""; 0]
        );
        assert_eq!(
            found(json!({"classes": {"pe_accounts": {"colour": 1}, "gone": {"a": 1}}})),
            [
                "parameter colour of class pe_accounts (group \"PE Infrastructure\" in production)",
                "class gone (group \"PE Infrastructure\" in production)"
            ]
        );
        assert_eq!(
            found(json!({"environment": "staging", "classes": {"gone": {}}})),
            ["environment staging (group \"PE Infrastructure\" in staging)"]
        );
        assert_eq!(
            found(json!({"environment": "agent-specified", "classes": {"gone": {}}})),
            [""; 0]
        );
    }

    #[test]
    fn what_is_missing_on_the_source_too_says_so() {
        let deleted = json!({"gone": {"puppetlabs.classifier/deleted": true}});
        let found = found(json!({"classes": {"gone": {}}, "deleted": deleted}));
        assert!(found[0].ends_with("there too"), "{found:?}");
    }

    #[test]
    fn a_class_list_without_parameters_says_nothing_about_them() {
        let classes: Vec<ClassInfo> = serde_json::from_str(include_str!(
            "../../tests/fixtures/gopeclient_classes_response.json"
        ))
        .unwrap();
        let environments = [EnvironmentInfo {
            name: "production".into(),
            sync_succeeded: None,
        }];
        let tree = tree_with(json!({"classes": {"classinproduction": {"any": 1}}}));
        assert_eq!(missing_references(&tree, &classes, &environments), []);
    }
}
