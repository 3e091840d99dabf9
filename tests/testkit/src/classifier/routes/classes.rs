//! Classes and environments, as the classifier last read them from the master.

use serde_json::{Value, json};

use super::call::{self, Call};
use crate::classifier::Request;
use crate::classifier::answer::{self, Answer};
use crate::classifier::refusal::{self, Refusal};
use crate::classifier::state::State;

/// The status of a master that is starting.
const UNAVAILABLE: u16 = 503;

/// Reads everything, or only the environment that is named.
pub(super) fn update(state: &mut State, call: &Call<'_>) -> Result<Answer, Refusal> {
    match call.parameter("environment") {
        None => state.read_classes(),
        Some(environment) => {
            let there = state.read_classes_of(environment);
            if !there && state.behaviour.strict_environments {
                return Err(refusal::unexpected_response(environment, 404));
            }
        }
    }
    Ok(answer::empty(201))
}

/// The master gives no classes: what was known stays, and its environments say so.
pub(super) fn fail(state: &mut State, request: &Request) -> Refusal {
    let only = call::parameter(request, "environment");
    state.catalogue.fail(only.as_deref());
    refusal::unexpected_response(only.as_deref().unwrap_or("production"), UNAVAILABLE)
}

pub(super) fn last_update(state: &State) -> Answer {
    answer::json(200, &json!({"last_update": state.last_update}))
}

/// The classes of an environment that is not there are none.
pub(super) fn list(state: &State, environment: Option<&str>) -> Answer {
    answer::json(200, &Value::Array(state.catalogue.classes(environment)))
}

pub(super) fn class(
    state: &State,
    call: &Call<'_>,
    environment: &str,
    name: &str,
) -> Result<Answer, Refusal> {
    let mut classes = state.catalogue.classes(Some(environment)).into_iter();
    let class = classes.find(|class| class["name"] == name);
    let class = class.ok_or_else(|| refusal::not_found(&call.uri()))?;
    Ok(answer::json(200, &class))
}

pub(super) fn environments(state: &State) -> Answer {
    answer::json(200, &Value::Array(state.catalogue.environments()))
}

/// One that is not there has an empty body, unlike everything else that is not found.
pub(super) fn environment(state: &State, name: &str) -> Answer {
    let mut environments = state.catalogue.environments().into_iter();
    match environments.find(|environment| environment["name"] == name) {
        Some(environment) => answer::json(200, &environment),
        None => answer::empty(404),
    }
}

pub(super) fn create(state: &mut State, name: &str) -> Answer {
    state.catalogue.create(name);
    let mut environments = state.catalogue.environments().into_iter();
    let created = environments.find(|environment| environment["name"] == name);
    answer::json(201, &created.unwrap_or_default())
}
