//! `/v1/groups`: listed, created, looked at, overwritten, changed and deleted.

use serde_json::{Value, json};

use super::call::Call;
use crate::classifier::answer::{self, Answer};
use crate::classifier::fault::Fault;
use crate::classifier::refusal::{self, Refusal};
use crate::classifier::state::{Object, ROOT, State};
use crate::classifier::{check, family, schema};

/// `limit` and `offset` count what `offset` leaves. A parameter nobody knows changes nothing.
pub(super) fn list(state: &mut State, call: &Call<'_>) -> Result<Answer, Refusal> {
    let offset = call.number("offset")?.unwrap_or(0);
    let limit = call.number("limit")?.unwrap_or(usize::MAX);
    let mut groups = state.read(call.flag("inherited"));
    if call.fault == Some(Fault::FilteredView) {
        groups.retain(|group| group["parent"] != ROOT);
    }
    let page: Value = groups.into_iter().skip(offset).take(limit).collect();
    Ok(answer::json(200, &page))
}

/// The id is always a new one.
pub(super) fn create(state: &mut State, call: &Call<'_>) -> Result<Answer, Refusal> {
    let mut group = call.json()?;
    if let Some(group) = group.as_object_mut() {
        group.insert("id".to_owned(), json!(state.new_id()));
    }
    schema::with_defaults(&mut group);
    let group = check::group(state, &group, true)?;
    let to = format!("/classifier-api/v1/groups/{}", family::id(&group));
    state.put(group);
    Ok(answer::redirect(303, &to))
}

/// What creating this group would say. One that stands already is looked at as if it did not.
pub(super) fn validate(state: &mut State, call: &Call<'_>) -> Result<Answer, Refusal> {
    let mut group = call.json()?;
    if let Some(group) = group.as_object_mut() {
        group.entry("id").or_insert_with(|| json!(state.new_id()));
    }
    schema::with_defaults(&mut group);
    let group = check::group(state, &group, true)?;
    Ok(answer::json(200, &Value::Object(group)))
}

pub(super) fn get(state: &State, call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let group = find(state, call, id)?;
    Ok(shown(state, 200, group))
}

pub(super) fn overwrite(state: &mut State, call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    call.id(id)?;
    let mut group = call.json()?;
    if let Some(group) = group.as_object_mut() {
        same_id(group, id)?;
        group.entry("id").or_insert_with(|| json!(id));
    }
    schema::with_defaults(&mut group);
    let group = check::group(state, &group, false)?;
    if let Some(old) = state.group(id) {
        if schema::says_the_same(old, &group) {
            return Ok(shown(state, 200, old));
        }
        if !state.behaviour.stale_puts {
            current_serial(old, &group)?;
        }
        keeps_root_rule(state, old, group.get("rule"))?;
    }
    state.put(group);
    let group = find(state, call, id)?;
    Ok(shown(state, 201, group))
}

/// By a delta. One that changes nothing does not count as an edit.
pub(super) fn change(state: &mut State, call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let old = find(state, call, id)?;
    let submitted = call.json()?;
    let Some(delta) = submitted.as_object() else {
        return Err(refusal::schema_violation(
            &submitted,
            &json!("(not (map? delta))"),
        ));
    };
    same_id(delta, id)?;
    current_serial(old, delta)?;
    if let Some(rule) = delta.get("rule") {
        keeps_root_rule(state, old, Some(rule))?;
    }
    let mut delta = delta.clone();
    for servers_own in ["serial_number", "last_edited", "deleted"] {
        delta.shift_remove(servers_own);
    }
    let mut group = old.clone();
    schema::merge(&mut group, &delta, state.behaviour.deep_deltas);
    let mut group = Value::Object(check::group(state, &Value::Object(group), false)?);
    schema::with_defaults(&mut group);
    match group {
        Value::Object(group) if !schema::says_the_same(old, &group) => state.put(group),
        _ => {}
    }
    let group = find(state, call, id)?;
    Ok(shown(state, 200, group))
}

/// The root, which is its own parent, always has a child.
pub(super) fn delete(state: &mut State, call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let group = find(state, call, id)?;
    let below = state
        .groups()
        .iter()
        .filter(|other| family::parent(other) == id);
    let children: Vec<Value> = below
        .map(|child| Value::Object(state.show(child)))
        .collect();
    if !children.is_empty() {
        return Err(refusal::children_present(&state.show(group), &children));
    }
    if let Some(at) = state.position(id) {
        state.remove(at);
    }
    Ok(answer::empty(204))
}

/// The group of an id out of the path.
pub(super) fn find<'a>(state: &'a State, call: &Call<'_>, id: &str) -> Result<&'a Object, Refusal> {
    call.id(id)?;
    state
        .group(id)
        .ok_or_else(|| refusal::not_found(&call.uri()))
}

/// Refuses another rule for the root group.
pub(super) fn keeps_root_rule(
    state: &State,
    group: &Object,
    rule: Option<&Value>,
) -> Result<(), Refusal> {
    let some = |rule: Option<&Value>| rule.filter(|rule| !rule.is_null()).cloned();
    let kept = some(group.get("rule")) == some(rule);
    if family::id(group) == ROOT && !kept && !state.behaviour.root_rule_edits {
        return Err(refusal::root_rule());
    }
    Ok(())
}

fn shown(state: &State, status: u16, group: &Object) -> Answer {
    answer::json(status, &Value::Object(state.show(group)))
}

fn same_id(submitted: &Object, id: &str) -> Result<(), Refusal> {
    match submitted.get("id") {
        Some(other) if other != id => Err(refusal::conflicting_ids(other, id)),
        _ => Ok(()),
    }
}

/// Refuses a serial number that is not the group's last one; none at all is no claim.
fn current_serial(group: &Object, submitted: &Object) -> Result<(), Refusal> {
    match submitted.get("serial_number") {
        Some(serial) if Some(serial) != group.get("serial_number") => {
            Err(refusal::stale_serial(serial))
        }
        _ => Ok(()),
    }
}
