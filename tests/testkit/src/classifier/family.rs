//! Groups as a tree: who is whose ancestor, what is inherited, and which references of it are missing.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::catalogue::Catalogue;
use super::state::{Object, ROOT};

/// Groups by id. Nothing is promised about them: parents may be missing, and ancestors go round.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    by_id: BTreeMap<&'a str, &'a Object>,
}

/// What following the parents of a group comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Descent<'a> {
    /// The root.
    Root,
    /// A group whose parent is not there.
    Nowhere,
    /// Itself: these groups are each other's ancestors.
    Circle(Vec<&'a Object>),
}

impl<'a> Family<'a> {
    /// Of groups with the same id the last counts.
    pub(crate) fn of(groups: impl IntoIterator<Item = &'a Object>) -> Self {
        Self {
            by_id: groups.into_iter().map(|group| (id(group), group)).collect(),
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&'a Object> {
        self.by_id.get(id).copied()
    }

    /// The group and its ancestors, the nearest first.
    pub(crate) fn line(&self, group: &'a Object) -> Vec<&'a Object> {
        let (mut line, mut passed) = (vec![group], HashSet::from([id(group)]));
        while let Some(next) = line.last().and_then(|last| self.get(parent(last))) {
            if !passed.insert(id(next)) {
                break;
            }
            line.push(next);
        }
        line
    }

    /// Where a group's ancestors lead; `sound` holds groups that are known to lead to the root, and is
    /// added to.
    pub(crate) fn descent(&self, group: &'a Object, sound: &mut HashSet<&'a str>) -> Descent<'a> {
        let (mut at, mut way) = (group, Vec::<&Object>::new());
        let mut passed = HashSet::new();
        let is_root = |group: &Object| id(group) == ROOT && parent(group) == ROOT;
        while !(sound.contains(id(at)) || is_root(at)) {
            if !passed.insert(id(at)) {
                let begin = way
                    .iter()
                    .position(|other| id(other) == id(at))
                    .unwrap_or(0);
                return Descent::Circle(way.split_off(begin));
            }
            way.push(at);
            match self.get(parent(at)) {
                Some(next) => at = next,
                None => return Descent::Nowhere,
            }
        }
        sound.extend(way.into_iter().map(id));
        Descent::Root
    }

    /// The group with the classes, parameters, configuration data and variables of its ancestors; the
    /// nearest wins. The environment, the rule and all else is its own.
    pub(crate) fn with_inherited(&self, group: &'a Object) -> Object {
        let mut whole = group.clone();
        for ancestor in self.line(group).into_iter().skip(1) {
            for (key, depth) in [("classes", 2), ("config_data", 2), ("variables", 1)] {
                if let Some(Value::Object(theirs)) = ancestor.get(key) {
                    let ours = whole.entry(key).or_insert_with(|| json!({}));
                    ours.as_object_mut()
                        .into_iter()
                        .for_each(|ours| adopt(ours, theirs, depth));
                }
            }
        }
        whole
    }

    /// The missing classes and parameters of a group and all below it, inherited ones included, as
    /// `missing-referents` tells them.
    pub(crate) fn missing_below(&self, group: &'a Object, catalogue: &Catalogue) -> Vec<Value> {
        let (mut found, mut todo) = (Vec::new(), vec![group]);
        let mut passed = HashSet::new();
        while let Some(at) = todo.pop() {
            if passed.insert(id(at)) {
                found.extend(self.missing(at, catalogue));
                todo.extend(self.by_id.values().filter(|other| parent(other) == id(at)));
            }
        }
        found
    }

    /// The same of one group alone.
    pub(crate) fn missing(&self, group: &'a Object, catalogue: &Catalogue) -> Vec<Value> {
        let environment = group["environment"].as_str().unwrap_or_default();
        let (mut found, mut told) = (Vec::new(), HashSet::new());
        for definer in self.line(group) {
            let mut tell = |kind: &str, missing: &str| {
                found.push(json!({
                    "kind": kind, "missing": missing, "environment": environment,
                    "group": group["name"], "defined_by": definer["name"],
                }));
            };
            for (class, set) in definer["classes"].as_object().into_iter().flatten() {
                if catalogue.lacks_class(environment, class) {
                    if told.insert((class, None)) {
                        tell("missing-class", class);
                    }
                    continue;
                }
                for (name, _) in set.as_object().into_iter().flatten() {
                    if catalogue.lacks_parameter(environment, class, name)
                        && told.insert((class, Some(name)))
                    {
                        tell("missing-parameter", name);
                    }
                }
            }
        }
        found
    }
}

fn adopt(ours: &mut Object, theirs: &Object, depth: usize) {
    for (key, value) in theirs {
        match (ours.get_mut(key), value) {
            (None, _) => drop(ours.insert(key.clone(), value.clone())),
            (Some(Value::Object(mine)), Value::Object(value)) if depth > 1 => {
                adopt(mine, value, depth - 1);
            }
            _ => {}
        }
    }
}

pub(crate) fn id(group: &Object) -> &str {
    group.get("id").and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn parent(group: &Object) -> &str {
    group
        .get("parent")
        .and_then(Value::as_str)
        .unwrap_or_default()
}
