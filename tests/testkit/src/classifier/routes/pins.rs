//! Nodes pinned to a group, taken out of it, and out of all groups.

use serde_json::{Value, json};

use super::call::Call;
use super::groups;
use crate::classifier::answer::{self, Answer};
use crate::classifier::refusal::{self, Refusal};
use crate::classifier::rule;
use crate::classifier::state::{Object, State};

pub(super) fn pin(state: &mut State, call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    edit(state, call, id, rule::pin)
}

/// Nodes that are not pinned are no error.
pub(super) fn unpin(state: &mut State, call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    edit(state, call, id, rule::unpin)
}

fn edit(
    state: &mut State,
    call: &Call<'_>,
    id: &str,
    change: fn(Option<&Value>, &[String]) -> Value,
) -> Result<Answer, Refusal> {
    let group = groups::find(state, call, id)?.clone();
    let rule = change(group.get("rule"), &nodes(call)?);
    groups::keeps_root_rule(state, &group, Some(&rule))?;
    with_rule(state, group, rule);
    Ok(answer::empty(204))
}

/// The nodes that were pinned anywhere, each with the groups it was pinned to.
pub(super) fn unpin_from_all(state: &mut State, call: &Call<'_>) -> Result<Answer, Refusal> {
    let nodes = nodes(call)?;
    let pinned_to = |node: &String| -> Option<Value> {
        let groups: Vec<Value> = state
            .groups()
            .iter()
            .filter(|group| rule::pins(group.get("rule"), node))
            .map(|group| json!({"id": group["id"], "name": group["name"], "environment": group["environment"]}))
            .collect();
        (!groups.is_empty()).then(|| json!({"name": node, "groups": groups}))
    };
    let unpinned: Vec<Value> = nodes.iter().filter_map(pinned_to).collect();
    for group in state.groups().to_vec() {
        let rule = rule::unpin(group.get("rule"), &nodes);
        with_rule(state, group, rule);
    }
    Ok(answer::json(200, &json!({"nodes": unpinned})))
}

/// Gives a group a rule; the same one again is no edit.
fn with_rule(state: &mut State, mut group: Object, rule: Value) {
    if group.get("rule").unwrap_or(&Value::Null) != &rule {
        group.insert("rule".to_owned(), rule);
        state.put(group);
    }
}

/// The nodes of a request: separated by commas in the query, or `{"nodes": …}` and nothing else.
fn nodes(call: &Call<'_>) -> Result<Vec<String>, Refusal> {
    if let Some(list) = call.parameter("nodes") {
        return Ok(list.split(',').map(str::to_owned).collect());
    }
    if call.body.is_empty() {
        return Err(refusal::missing_nodes());
    }
    let submitted = call.json()?;
    let names = match submitted.as_object().filter(|object| object.len() == 1) {
        Some(object) => object.get("nodes").and_then(names),
        None => None,
    };
    names.ok_or_else(|| refusal::schema_violation(&submitted, &json!("(not (= {nodes [String]}))")))
}

fn names(nodes: &Value) -> Option<Vec<String>> {
    match nodes {
        Value::String(node) => Some(vec![node.clone()]),
        Value::Array(nodes) => nodes
            .iter()
            .map(|node| node.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}
