//! What the classifier accepts as a group and as a hierarchy, and how it says no.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::state::{Object, ROOT, State};

/// What is wrong with the shape of a group.
pub(crate) fn schema(group: &Value, config_data: bool) -> Result<(), String> {
    let object = group.as_object().ok_or("(not (map? group))")?;
    for key in ["name", "environment"] {
        if object
            .get(key)
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
        {
            return Err(format!("{{{key} (not (non-empty-string))}}"));
        }
    }
    for key in ["id", "parent"] {
        if !object.get(key).and_then(Value::as_str).is_some_and(is_uuid) {
            return Err(format!("{{{key} (not (uuid))}}"));
        }
    }
    let by_class = |key: &str| match object.get(key) {
        Some(Value::Object(classes)) if classes.values().all(Value::is_object) => Ok(()),
        None if key == "config_data" => Ok(()),
        _ => Err(format!("{{{key} (not (map? of maps))}}")),
    };
    by_class("classes")?;
    by_class("config_data")?;
    if !config_data && object.contains_key("config_data") {
        return Err("{config_data disallowed-key}".to_owned());
    }
    match object.get("variables") {
        None | Some(Value::Object(_)) => {}
        Some(_) => return Err("{variables (not (map?))}".to_owned()),
    }
    match object.get("rule") {
        None | Some(Value::Null) => Ok(()),
        Some(rule) => condition(rule),
    }
}

fn condition(rule: &Value) -> Result<(), String> {
    let wrong = || Err(format!("{{rule (not (condition? {rule}))}}"));
    let Some(items) = rule.as_array() else {
        return wrong();
    };
    match items.first().and_then(Value::as_str) {
        Some("and" | "or") if items.len() > 1 => items[1..].iter().try_for_each(condition),
        Some("not") if items.len() == 2 => condition(&items[1]),
        Some("=" | "~" | ">" | ">=" | "<" | "<=" | "<:")
            if items.len() == 3 && items[2].is_string() =>
        {
            match &items[1] {
                Value::String(name) if name == "name" => Ok(()),
                Value::Array(path) if path.len() > 1 => {
                    let base = matches!(path[0].as_str(), Some("fact" | "trusted"));
                    let parts = path[1..]
                        .iter()
                        .all(|part| part.is_string() || part.is_i64());
                    if base && parts { Ok(()) } else { wrong() }
                }
                _ => wrong(),
            }
        }
        _ => wrong(),
    }
}

pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

/// What a hierarchy fails by, before anything is deleted.
pub(crate) fn check_hierarchy(state: &State, groups: &[Value]) -> Result<(), Box<Answer>> {
    let bad: Vec<(&Value, String)> = groups
        .iter()
        .filter_map(|group| {
            schema(group, state.behaviour.config_data)
                .err()
                .map(|error| (group, error))
        })
        .collect();
    if let Some((_, error)) = bad.first() {
        let submitted: Vec<&Value> = bad.iter().map(|(group, _)| *group).collect();
        return Err(schema_violation(&json!(submitted), error));
    }
    let parents: BTreeMap<&str, &str> = groups
        .iter()
        .filter_map(|group| Some((group["id"].as_str()?, group["parent"].as_str()?)))
        .collect();
    let mut names = BTreeSet::new();
    for group in groups {
        if !names.insert((group["environment"].as_str(), group["name"].as_str())) {
            return Err(uniqueness(group));
        }
    }
    let mut unreachable = Vec::new();
    for group in groups {
        let mut at = group["id"].as_str().unwrap_or_default();
        let mut way = BTreeSet::new();
        while at != ROOT {
            if !way.insert(at) {
                return Err(cycle(&way.into_iter().map(Value::from).collect()));
            }
            match parents.get(at) {
                Some(parent) => at = parent,
                None => {
                    unreachable.push(group);
                    break;
                }
            }
        }
    }
    if !unreachable.is_empty() || !parents.contains_key(ROOT) {
        let msg = "The group hierarchy has groups that cannot be reached from the root.";
        return Err(Box::new(answer::error(
            422,
            "unreachable-groups",
            msg,
            json!(unreachable),
        )));
    }
    if state.behaviour.strict_classes {
        groups
            .iter()
            .filter_map(Value::as_object)
            .try_for_each(|group| referents(state, group))?;
    }
    Ok(())
}

/// What creating or overwriting one group fails by.
pub(crate) fn check_group(state: &State, group: &Value) -> Result<(), Box<Answer>> {
    schema(group, state.behaviour.config_data).map_err(|error| schema_violation(group, &error))?;
    let Some(object) = group.as_object() else {
        return Ok(());
    };
    let (id, parent) = (
        object["id"].as_str().unwrap_or_default(),
        object["parent"].as_str().unwrap_or_default(),
    );
    let same_name = |other: &&Object| {
        other["name"] == object["name"]
            && other["environment"] == object["environment"]
            && other["id"] != object["id"]
    };
    if state.groups().iter().find(same_name).is_some() {
        return Err(uniqueness(group));
    }
    if state.position(parent).is_none() && parent != id {
        let msg = format!("The parent group {parent} does not exist.");
        return Err(Box::new(answer::error(
            422,
            "missing-parent",
            &msg,
            group.clone(),
        )));
    }
    let (mut at, mut way) = (parent.to_owned(), vec![id.to_owned()]);
    while at != ROOT {
        if way.contains(&at) {
            return Err(cycle(&way.into_iter().map(Value::from).collect()));
        }
        way.push(at.clone());
        let Some(position) = state.position(&at) else {
            break;
        };
        at = state.groups()[position]["parent"]
            .as_str()
            .unwrap_or(ROOT)
            .to_owned();
    }
    referents(state, object)
}

fn referents(state: &State, group: &Object) -> Result<(), Box<Answer>> {
    let missing = state.missing(group);
    if missing.is_empty() {
        return Ok(());
    }
    let detail = |(class, entry): (&String, &Value)| {
        let whole = entry["puppetlabs.classifier/deleted"] == true;
        let parameter = entry
            .as_object()
            .and_then(|entry| entry.keys().nth(1).cloned());
        let (kind, name) = if whole {
            ("missing-class", class.clone())
        } else {
            ("missing-parameter", parameter.unwrap_or_default())
        };
        json!({"kind": kind, "missing": name, "environment": group["environment"], "group": group["name"], "defined_by": group["name"]})
    };
    let details: Vec<Value> = missing.iter().map(detail).collect();
    let msg = "The group references classes or parameters that do not exist.";
    Err(Box::new(answer::error(
        422,
        "missing-referents",
        msg,
        json!(details),
    )))
}

pub(crate) fn schema_violation(submitted: &Value, error: &str) -> Box<Answer> {
    let msg = "The object you submitted does not conform to the schema.";
    let details = json!({"submitted": submitted, "schema": "Group", "error": error});
    Box::new(answer::error(400, "schema-violation", msg, details))
}

fn uniqueness(group: &Value) -> Box<Answer> {
    let msg = "A group with this name exists in this environment.";
    let conflict = json!({"name": group["name"], "environment": group["environment"]});
    let details = json!({"conflict": conflict, "constraintName": "groups_environment_name_key"});
    Box::new(answer::error(422, "uniqueness-violation", msg, details))
}

fn cycle(way: &Value) -> Box<Answer> {
    Box::new(answer::error(
        422,
        "inheritance-cycle",
        "Groups are each other's ancestors.",
        way.clone(),
    ))
}

/// Changes `group` by a delta: null removes, objects are merged, the rest is replaced.
pub(crate) fn merge(group: &mut Object, delta: &Object) {
    for (key, value) in delta {
        match (group.get_mut(key), value) {
            (_, Value::Null) => drop(group.shift_remove(key)),
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            _ => drop(group.insert(key.clone(), value.clone())),
        }
    }
}

/// Pins nodes into a rule.
pub(crate) fn pin(rule: Option<&Value>, nodes: &[Value]) -> Value {
    let mut conditions = match rule {
        Some(Value::Array(items)) if items.first().is_some_and(|operator| operator == "or") => {
            items.clone()
        }
        Some(rule) if !rule.is_null() => vec![json!("or"), rule.clone()],
        _ => vec![json!("or")],
    };
    for node in nodes {
        let pin = json!(["=", "name", node]);
        if !conditions.contains(&pin) {
            conditions.push(pin);
        }
    }
    Value::Array(conditions)
}

/// Takes the pins of nodes out of a rule; `None` where nothing is left.
pub(crate) fn unpin(rule: Option<&Value>, nodes: &[Value]) -> Option<Value> {
    let mut conditions = rule?.as_array()?.clone();
    conditions.retain(|condition| {
        !nodes
            .iter()
            .any(|node| *condition == json!(["=", "name", node]))
    });
    (conditions.len() > 1).then_some(Value::Array(conditions))
}
