//! What the classifier knows: groups, classes, environments, faults to come and requests gone by.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Behaviour, Injection, Options, Request, Token, object, root_group};

pub(crate) const ROOT: &str = "00000000-0000-4000-8000-000000000000";

pub(crate) type Object = Map<String, Value>;
/// Parameters by class, by environment.
type Classes = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) allowed: Vec<String>,
    pub(crate) tokens: Vec<(String, Token)>,
    pub(crate) behaviour: Behaviour,
    pub(crate) injections: Vec<Injection>,
    pub(crate) log: Vec<Request>,
    pub(crate) installed: usize,
    pub(crate) last_update: Option<String>,
    groups: Vec<Object>,
    on_the_master: Classes,
    known: Classes,
    serial: u64,
    reads: usize,
    made: u32,
}

impl State {
    pub(crate) fn new(options: Options) -> Self {
        let groups = if options.groups.is_empty() {
            vec![root_group()]
        } else {
            options.groups
        };
        let mut state = Self {
            allowed: options.allowed,
            tokens: options.tokens,
            behaviour: options.behaviour,
            injections: Vec::new(),
            log: Vec::new(),
            installed: 0,
            last_update: None,
            groups: Vec::new(),
            on_the_master: Classes::new(),
            known: Classes::new(),
            serial: 1,
            reads: 0,
            made: 0,
        };
        state.deploy(&groups);
        state.read_classes();
        state.groups = groups.into_iter().filter_map(object).collect();
        state
    }

    pub(crate) fn deploy(&mut self, groups: &[Value]) {
        self.on_the_master
            .entry("production".to_owned())
            .or_default();
        for group in groups {
            let environment = group["environment"].as_str().unwrap_or("production");
            let classes = self
                .on_the_master
                .entry(environment.to_owned())
                .or_default();
            for (class, parameters) in group["classes"].as_object().into_iter().flatten() {
                let known = classes.entry(class.clone()).or_default();
                known.extend(
                    parameters
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(name, _)| name.clone()),
                );
            }
        }
    }

    pub(crate) fn undeploy(&mut self, class: &str) {
        self.on_the_master
            .values_mut()
            .for_each(|classes| drop(classes.remove(class)));
    }

    pub(crate) fn read_classes(&mut self) {
        self.known = self.on_the_master.clone();
        self.last_update = Some("2026-01-01T00:00:00.000Z".to_owned());
    }

    pub(crate) fn groups(&self) -> &[Object] {
        &self.groups
    }

    pub(crate) fn position(&self, id: &str) -> Option<usize> {
        self.groups.iter().position(|group| group["id"] == id)
    }

    pub(crate) fn replace(&mut self, groups: Vec<Object>) {
        self.groups = groups;
        for at in 0..self.groups.len() {
            self.touch(at);
        }
    }

    /// Puts one group in, over the one with its id where there is one.
    pub(crate) fn put(&mut self, group: Object) {
        let at = self
            .position(group["id"].as_str().unwrap_or_default())
            .unwrap_or(self.groups.len());
        if at == self.groups.len() {
            self.groups.push(group)
        } else {
            self.groups[at] = group
        }
        self.touch(at);
    }

    pub(crate) fn remove(&mut self, at: usize) {
        self.groups.remove(at);
    }

    fn touch(&mut self, at: usize) {
        let group = &mut self.groups[at];
        group.shift_remove("deleted");
        if self.behaviour.serial_bump {
            self.serial += 1;
            group.insert("serial_number".to_owned(), json!(self.serial));
            group.insert(
                "last_edited".to_owned(),
                json!(format!("2026-01-01T00:00:{:02}.000Z", self.serial % 60)),
            );
        }
    }

    /// Somebody changes a group at the console.
    pub(crate) fn meddle(&mut self) {
        self.serial += 1;
        let note = format!("edited at the console, {}", self.serial);
        if let Some(group) = self.groups.last_mut() {
            group.insert("description".to_owned(), json!(note));
        }
    }

    /// A new id.
    pub(crate) fn new_id(&mut self) -> String {
        self.made += 1;
        format!("d0b1e000-0000-4000-9000-{:012x}", self.made)
    }

    /// The groups as they are shown: what means nothing left out, missing classes marked.
    pub(crate) fn shown(&self) -> Vec<Value> {
        self.groups
            .iter()
            .map(|group| Value::Object(self.show(group)))
            .collect()
    }

    /// The groups as the next `GET` shows them.
    pub(crate) fn read(&mut self) -> Vec<Value> {
        let mut groups = self.shown();
        self.reads += 1;
        if self.behaviour.reordered {
            let half = (self.reads * 7) % groups.len().max(1);
            groups.rotate_left(half);
            groups.reverse();
        }
        groups
    }

    pub(crate) fn show(&self, group: &Object) -> Object {
        let mut shown = group.clone();
        if shown.get("rule").is_some_and(Value::is_null) {
            shown.shift_remove("rule");
        }
        if shown
            .get("description")
            .is_some_and(|text| text.is_null() || text == "")
        {
            shown.shift_remove("description");
        }
        if !self.behaviour.config_data {
            shown.shift_remove("config_data");
        }
        let deleted = self.missing(group);
        if !deleted.is_empty() {
            shown.insert("deleted".to_owned(), Value::Object(deleted));
        }
        shown
    }

    /// The classes and parameters of a group that the classifier does not know, in the shape of
    /// `deleted`.
    pub(crate) fn missing(&self, group: &Object) -> Object {
        const MARK: &str = "puppetlabs.classifier/deleted";
        let mut missing = Object::new();
        let environment = group["environment"].as_str().unwrap_or_default();
        // The product keeps no classes for this one: agents name the real environment themselves.
        if environment == "agent-specified" {
            return missing;
        }
        for (class, parameters) in group["classes"].as_object().into_iter().flatten() {
            let Some(known) = self
                .known
                .get(environment)
                .and_then(|classes| classes.get(class))
            else {
                missing.insert(class.clone(), json!({MARK: true}));
                continue;
            };
            let unknown: Object = parameters
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(name, _)| !known.contains(*name))
                .map(|(name, value)| (name.clone(), json!({MARK: true, "value": value})))
                .collect();
            if !unknown.is_empty() {
                let mut entry = Object::from_iter([(MARK.to_owned(), json!(false))]);
                entry.extend(unknown);
                missing.insert(class.clone(), Value::Object(entry));
            }
        }
        missing
    }

    pub(crate) fn classes(&self) -> Value {
        let class = |(environment, classes): (&String, &BTreeMap<String, BTreeSet<String>>)| {
            let class = |(name, parameters): (&String, &BTreeSet<String>)| {
                let parameters: Object = parameters
                    .iter()
                    .map(|name| (name.clone(), json!("undef")))
                    .collect();
                json!({"name": name, "environment": environment, "parameters": parameters})
            };
            classes.iter().map(class).collect::<Vec<_>>()
        };
        self.known.iter().flat_map(class).collect()
    }

    pub(crate) fn environments(&self) -> Value {
        self.known
            .keys()
            .map(|name| json!({"name": name, "sync_succeeded": true}))
            .collect()
    }
}
