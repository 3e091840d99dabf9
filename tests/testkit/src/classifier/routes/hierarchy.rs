//! Whole trees: `import-hierarchy`, which replaces all groups, and `group-children`, which shows some.

use serde_json::{Value, json};

use super::call::Call;
use super::groups;
use crate::classifier::answer::{self, Answer};
use crate::classifier::check;
use crate::classifier::family::{self, Family};
use crate::classifier::fault::Fault;
use crate::classifier::refusal::{self, Refusal};
use crate::classifier::state::{Object, State};

pub(super) fn import(state: &mut State, call: &Call<'_>) -> Result<Answer, Refusal> {
    let mut groups = check::hierarchy(state, &call.json()?)?;
    match call.fault {
        Some(Fault::ImportIgnored) => return Ok(answer::empty(204)),
        Some(Fault::ImportDropsGroup) => {
            let childless = |group: &Object| {
                let id = family::id(group);
                groups.iter().all(|other| family::parent(other) != id)
            };
            if let Some(at) = groups.iter().rposition(childless) {
                groups.remove(at);
            }
        }
        Some(Fault::ImportPartly) => {
            groups.truncate(groups.len().div_ceil(2));
            state.installed += 1;
            state.replace(groups);
            return Err(refusal::application_error());
        }
        _ => {}
    }
    state.installed += 1;
    state.replace(groups);
    Ok(answer::empty(204))
}

/// A group with all below it, to a depth; where the group itself is not seen, the trees below it that
/// are.
pub(super) fn children(state: &State, call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    let group = groups::find(state, call, id)?;
    // Groups put in behind the API's back may be each other's ancestors: no tree is deeper than this.
    let deepest = state.groups().len();
    let depth = call.number("depth")?.unwrap_or(deepest).min(deepest);
    let family = state.family();
    let mut tops = Vec::new();
    seen_from(state, &family, group, deepest, &mut tops);
    let trees: Value = tops
        .into_iter()
        .map(|top| tree(state, top, depth))
        .collect();
    Ok(answer::json(200, &trees))
}

fn seen_from<'a>(
    state: &'a State,
    family: &Family<'_>,
    group: &'a Object,
    depth: usize,
    tops: &mut Vec<&'a Object>,
) {
    if state.sees(family, group) {
        tops.push(group);
    } else if depth > 0 {
        for child in below(state, group) {
            seen_from(state, family, child, depth - 1, tops);
        }
    }
}

/// The number of immediate children is told even where they are not.
fn tree(state: &State, group: &Object, depth: usize) -> Value {
    let children: Vec<Value> = match depth {
        0 => Vec::new(),
        _ => below(state, group)
            .map(|child| tree(state, child, depth - 1))
            .collect(),
    };
    let mut shown = state.show(group);
    shown.insert("children".to_owned(), Value::Array(children));
    shown.insert(
        "immediate_child_count".to_owned(),
        json!(below(state, group).count()),
    );
    Value::Object(shown)
}

fn below<'a>(state: &'a State, group: &'a Object) -> impl Iterator<Item = &'a Object> {
    let id = family::id(group);
    let groups = state.groups().iter();
    // The root is its own parent, but nobody's child.
    groups.filter(move |other| family::parent(other) == id && family::id(other) != id)
}
