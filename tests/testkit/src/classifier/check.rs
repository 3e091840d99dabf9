//! What a group, or a whole hierarchy, is refused for although its shape is right.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};

use super::family::{self, Descent, Family};
use super::refusal::{self, Refusal};
use super::schema;
use super::state::{Object, ROOT, State};

/// What creating, overwriting or changing one group fails by; it has no defaults to get any more.
///
/// Missing references that were there before are no reason, as long as they do not become more; with
/// `anew` the group is looked at as if it were not there yet.
pub(crate) fn group(state: &State, group: &Value, anew: bool) -> Result<Object, Refusal> {
    let shape = schema::check(group, &state.behaviour, false);
    let (Ok(()), Some(object)) = (&shape, group.as_object()) else {
        let error = shape.err().unwrap_or_default();
        return Err(refusal::schema_violation(group, &json!(error)));
    };
    let before = state.family();
    let after = Family::of(state.groups().iter().chain([object]));
    let same_name = |other: &&Object| {
        other["name"] == object["name"]
            && other["environment"] == object["environment"]
            && other["id"] != object["id"]
    };
    if state.groups().iter().any(|other| same_name(&other)) {
        return Err(same_name_there(object));
    }
    if after.get(family::parent(object)).is_none() {
        return Err(refusal::missing_parent(object));
    }
    if let Descent::Circle(groups) = after.descent(object, &mut HashSet::new()) {
        return Err(refusal::inheritance_cycle(&groups));
    }
    let missing = after.missing_below(object, &state.catalogue);
    let old = before.get(family::id(object)).filter(|_| !anew);
    let tolerated = old.map_or(0, |old| before.missing_below(old, &state.catalogue).len());
    if missing.len() > tolerated {
        return Err(refusal::missing_referents(&missing));
    }
    Ok(object.clone())
}

/// What a hierarchy fails by, before anything is deleted; what is to be installed, otherwise.
pub(crate) fn hierarchy(state: &State, submitted: &Value) -> Result<Vec<Object>, Refusal> {
    let Some(groups) = submitted.as_array() else {
        let error = json!("(not (sequential? groups))");
        return Err(refusal::schema_violation(submitted, &error));
    };
    let (mut bad, mut errors) = (Vec::new(), Vec::new());
    for group in groups {
        if let Err(error) = schema::check(group, &state.behaviour, true) {
            bad.push(group.clone());
            errors.push(error);
        }
    }
    if !bad.is_empty() {
        return Err(refusal::schema_violation(&json!(bad), &json!(errors)));
    }
    let objects = unique(state, groups.iter().filter_map(Value::as_object))?;
    let family = Family::of(objects.iter().copied());
    let mut sound = HashSet::new();
    let mut unreachable = Vec::new();
    for group in &objects {
        match family.descent(group, &mut sound) {
            Descent::Root => {}
            Descent::Nowhere => unreachable.push(*group),
            Descent::Circle(groups) => return Err(refusal::inheritance_cycle(&groups)),
        }
    }
    let rootless = state.behaviour.rootless && family.get(ROOT).is_none();
    if rootless {
        unreachable.retain(|group| line_end(&family, group) != ROOT);
    }
    if !unreachable.is_empty() || (objects.is_empty() && !rootless) {
        return Err(refusal::unreachable(&unreachable));
    }
    if state.behaviour.strict_classes {
        let missing = |group: &&Object| family.missing(group, &state.catalogue);
        let missing: Vec<Value> = objects.iter().flat_map(missing).collect();
        if !missing.is_empty() {
            return Err(refusal::missing_referents(&missing));
        }
    }
    Ok(objects.into_iter().cloned().collect())
}

/// The groups, none of which has another's id, nor its name and environment.
fn unique<'a>(
    state: &State,
    groups: impl Iterator<Item = &'a Object>,
) -> Result<Vec<&'a Object>, Refusal> {
    let mut unique: Vec<&Object> = Vec::new();
    let (mut ids, mut names) = (HashSet::new(), BTreeSet::new());
    for group in groups {
        if !ids.insert(family::id(group)) {
            if !state.behaviour.duplicate_ids {
                let conflict = json!({"id": group["id"]});
                return Err(refusal::uniqueness(&conflict, "groups_id_key"));
            }
            unique.retain(|other| other["id"] != group["id"]);
        }
        unique.push(group);
    }
    for group in &unique {
        if !names.insert((group["environment"].as_str(), group["name"].as_str())) {
            return Err(same_name_there(group));
        }
    }
    Ok(unique)
}

fn same_name_there(group: &Object) -> Refusal {
    let conflict = json!({"name": group["name"], "environment": group["environment"]});
    refusal::uniqueness(&conflict, "groups_environment_name_key")
}

/// The parent that the last ancestor of a group names.
fn line_end<'a>(family: &Family<'a>, group: &'a Object) -> &'a str {
    family
        .line(group)
        .last()
        .map_or("", |last| family::parent(last))
}
