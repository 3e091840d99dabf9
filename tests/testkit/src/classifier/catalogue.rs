//! The classes and environments: what the master has, and what the classifier has read of that.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::state::Object;

/// The environment whose agents name the real one themselves; the product keeps no classes for it.
const AGENT_SPECIFIED: &str = "agent-specified";
const MARK: &str = "puppetlabs.classifier/deleted";

/// Parameters and their defaults, by class, by environment.
type Classes = BTreeMap<String, BTreeMap<String, Object>>;

#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    on_the_master: Classes,
    known: Classes,
    /// Environments whose last reading failed.
    failed: BTreeSet<String>,
}

impl Catalogue {
    /// Puts what these groups use onto the master; `production` is always there.
    pub(crate) fn deploy_for(&mut self, groups: &[Value]) {
        self.environment("production");
        for group in groups {
            let name = group["environment"].as_str().unwrap_or("production");
            let environment = self.environment(name);
            for (class, set) in group["classes"].as_object().into_iter().flatten() {
                let parameters = environment.entry(class.clone()).or_default();
                for (parameter, _) in set.as_object().into_iter().flatten() {
                    // Null would say that the parameter is required.
                    parameters
                        .entry(parameter.clone())
                        .or_insert_with(|| json!("undef"));
                }
            }
        }
    }

    /// Puts classes onto the master, as `GET /v1/classes` would give them.
    pub(crate) fn deploy(&mut self, classes: &[Value]) {
        for class in classes {
            let environment = class["environment"].as_str().unwrap_or("production");
            let name = class["name"].as_str().unwrap_or_default();
            let parameters = class["parameters"].as_object().cloned().unwrap_or_default();
            self.environment(environment)
                .insert(name.to_owned(), parameters);
        }
    }

    fn environment(&mut self, name: &str) -> &mut BTreeMap<String, Object> {
        self.on_the_master.entry(name.to_owned()).or_default()
    }

    pub(crate) fn undeploy(&mut self, class: &str) {
        for classes in self.on_the_master.values_mut() {
            classes.remove(class);
        }
    }

    pub(crate) fn undeploy_parameter(&mut self, class: &str, parameter: &str) {
        for classes in self.on_the_master.values_mut() {
            if let Some(parameters) = classes.get_mut(class) {
                parameters.shift_remove(parameter);
            }
        }
    }

    /// Reads everything from the master.
    pub(crate) fn read(&mut self) {
        self.known = self.on_the_master.clone();
        self.failed.clear();
    }

    /// Reads one environment; `false` where the master does not have it.
    pub(crate) fn read_one(&mut self, environment: &str) -> bool {
        let Some(classes) = self.on_the_master.get(environment) else {
            return false;
        };
        self.known.insert(environment.to_owned(), classes.clone());
        self.failed.remove(environment);
        true
    }

    /// Fails to read one environment, or all.
    pub(crate) fn fail(&mut self, environment: Option<&str>) {
        let known = self
            .known
            .keys()
            .filter(|name| environment.is_none_or(|only| only == *name));
        self.failed.extend(known.cloned());
    }

    /// Makes an environment known, as it is asked for through the API.
    pub(crate) fn create(&mut self, environment: &str) {
        self.environment(environment);
        self.known.entry(environment.to_owned()).or_default();
    }

    /// All classes, or those of one environment.
    pub(crate) fn classes(&self, environment: Option<&str>) -> Vec<Value> {
        self.known
            .iter()
            .filter(|(name, _)| environment.is_none_or(|only| only == *name))
            .flat_map(|(environment, classes)| {
                classes.iter().map(move |(name, parameters)| {
                    json!({"name": name, "environment": environment, "parameters": parameters})
                })
            })
            .collect()
    }

    pub(crate) fn environments(&self) -> Vec<Value> {
        self.known
            .keys()
            .map(|name| json!({"name": name, "sync_succeeded": !self.failed.contains(name)}))
            .collect()
    }

    /// The parameters of a class that is known; `None` where it is missing.
    fn parameters(&self, environment: &str, class: &str) -> Option<&Object> {
        self.known.get(environment)?.get(class)
    }

    /// Whether a class is missing from an environment.
    pub(crate) fn lacks_class(&self, environment: &str, class: &str) -> bool {
        environment != AGENT_SPECIFIED && self.parameters(environment, class).is_none()
    }

    /// Whether a class that is there has no such parameter.
    pub(crate) fn lacks_parameter(&self, environment: &str, class: &str, parameter: &str) -> bool {
        environment != AGENT_SPECIFIED
            && self
                .parameters(environment, class)
                .is_some_and(|parameters| !parameters.contains_key(parameter))
    }

    /// What a group itself sets and is missing, in the shape of `deleted`.
    pub(crate) fn deleted(&self, group: &Object) -> Object {
        let environment = group["environment"].as_str().unwrap_or_default();
        let mut deleted = Object::new();
        for (class, set) in group["classes"].as_object().into_iter().flatten() {
            if self.lacks_class(environment, class) {
                deleted.insert(class.clone(), json!({MARK: true}));
                continue;
            }
            let missing: Object = set
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(name, _)| self.lacks_parameter(environment, class, name))
                .map(|(name, value)| (name.clone(), json!({MARK: true, "value": value})))
                .collect();
            if !missing.is_empty() {
                let mut entry = Object::from_iter([(MARK.to_owned(), json!(false))]);
                entry.extend(missing);
                deleted.insert(class.clone(), Value::Object(entry));
            }
        }
        deleted
    }
}
