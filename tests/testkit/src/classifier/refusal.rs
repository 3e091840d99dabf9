//! The errors the API documents: status, kind and details of each. The messages are our own.

use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::state::Object;

/// What is answered instead of what was asked for.
pub(crate) type Refusal = Box<Answer>;

fn refusal(status: u16, kind: &str, msg: &str, details: Value) -> Refusal {
    let body = json!({"kind": kind, "msg": msg, "details": details});
    Box::new(answer::json(status, &body))
}

/// No certificate on the allow-list and no token; `redirect` is the URI that was asked for.
pub(crate) fn unauthenticated(redirect: &str) -> Refusal {
    let body = json!({
        "kind": "puppetlabs.rbac/user-unauthenticated", "msg": "Route requires authentication",
        "redirect": redirect,
    });
    Box::new(answer::json(401, &body))
}

/// A token that is of no use.
pub(crate) fn bad_token(kind: &str, msg: &str) -> Refusal {
    let body = json!({"kind": format!("puppetlabs.rbac/{kind}"), "msg": msg});
    Box::new(answer::json(401, &body))
}

pub(crate) fn permission_denied() -> Refusal {
    let msg = "Sorry, but you don't have permission to do this.";
    refusal(403, "permission-denied", msg, Value::Null)
}

pub(crate) fn application_error() -> Refusal {
    let details = json!({"trace": ["the classifier double", "a fault that a test asked for"]});
    let msg = "An unexpected error occurred. See `details` for the stack trace.";
    refusal(500, "application-error", msg, details)
}

/// The body of a `database-corruption`, which a fault sends with success too.
pub(crate) fn corrupt() -> Value {
    let details = json!({
        "retrieved": {"name": null}, "schema": schema(), "error": {"name": "(not (string? nil))"},
    });
    json!({"kind": "database-corruption", "msg": "An object could not be read.", "details": details})
}

pub(crate) fn database_corruption() -> Refusal {
    Box::new(answer::json(500, &corrupt()))
}

/// The master answered the classifier with `status` when it asked for the classes of `environment`.
pub(crate) fn unexpected_response(environment: &str, status: u16) -> Refusal {
    let url =
        format!("https://localhost:8140/puppet/v3/environment_classes?environment={environment}");
    let msg = format!("Received an unexpected {status} response from the Puppet server at {url}.");
    let details = json!({
        "url": url, "status": status, "headers": {"content-type": "text/plain"},
        "body": "the classifier double has no such master",
    });
    refusal(500, "unexpected-response", &msg, details)
}

/// `uri` is that of the request.
pub(crate) fn not_found(uri: &str) -> Refusal {
    let msg = "The resource could not be found.";
    refusal(404, "not-found", msg, json!(uri))
}

pub(crate) fn malformed_request(body: &[u8], error: &str) -> Refusal {
    let details = json!({"body": String::from_utf8_lossy(body), "error": error});
    let msg = "The body of your request is not valid JSON.";
    refusal(400, "malformed-request", msg, details)
}

/// `error` is a description; for many groups at once, one description of each.
pub(crate) fn schema_violation(submitted: &Value, error: &Value) -> Refusal {
    let msg = format!("The object you submitted does not conform to the schema: {error}");
    let details = json!({"submitted": submitted, "schema": schema(), "error": error});
    refusal(400, "schema-violation", &msg, details)
}

fn schema() -> Value {
    json!({
        "name": "String", "id": "Uuid", "environment": "String", "environment_trumps": "Boolean",
        "parent": "Uuid", "rule": "Condition, or absent", "description": "String, or absent",
        "variables": {"String": "Any"}, "classes": {"String": {"String": "Any"}},
        "config_data": {"String": {"String": "Any"}},
    })
}

pub(crate) fn malformed_uuid(id: &str) -> Refusal {
    let msg = format!("{id} is not a valid UUID.");
    refusal(400, "malformed-uuid", &msg, json!(id))
}

/// A parameter that should be a natural number, and is none or a negative one.
pub(crate) fn malformed_number(parameter: &str, value: &str) -> Refusal {
    if value.parse::<i64>().is_ok_and(|number| number < 0) {
        let msg = format!("{parameter} must not be negative.");
        return refusal(400, "illegal-count", &msg, json!(value));
    }
    let msg = format!("{parameter} must be an integer.");
    refusal(400, "malformed-number", &msg, json!(value))
}

pub(crate) fn missing_nodes() -> Refusal {
    let msg = "The nodes query parameter is missing.";
    refusal(400, "missing-parameters", msg, Value::Null)
}

pub(crate) fn conflicting_ids(submitted: &Value, from_url: &str) -> Refusal {
    let details = json!({"submitted": submitted, "fromUrl": from_url});
    let msg = "The id in the body is not the one in the URL.";
    refusal(400, "conflicting-ids", msg, details)
}

pub(crate) fn stale_serial(submitted: &Value) -> Refusal {
    let msg = "The group was edited in the meantime.";
    refusal(409, "conflict", msg, submitted.clone())
}

pub(crate) fn root_rule() -> Refusal {
    let msg = "The root group's rule cannot be edited.";
    refusal(422, "root-rule-edit-failed", msg, Value::Null)
}

pub(crate) fn children_present(group: &Object, children: &[Value]) -> Refusal {
    let names: Vec<&str> = children
        .iter()
        .filter_map(|child| child["name"].as_str())
        .collect();
    let msg = format!("The group has children: {}.", names.join(", "));
    let details = json!({"group": group, "children": children});
    refusal(422, "children-present", &msg, details)
}

/// `conflict` holds the fields that are not unique, with their values.
pub(crate) fn uniqueness(conflict: &Value, constraint: &str) -> Refusal {
    let msg = format!("There is another group with {conflict}.");
    let details = json!({"conflict": conflict, "constraintName": constraint});
    refusal(422, "uniqueness-violation", &msg, details)
}

pub(crate) fn missing_parent(group: &Object) -> Refusal {
    let parent = group["parent"].as_str().unwrap_or_default();
    let msg = format!("The parent group {parent} does not exist.");
    refusal(422, "missing-parent", &msg, json!(group))
}

pub(crate) fn inheritance_cycle(groups: &[&Object]) -> Refusal {
    let mut names: Vec<&str> = groups
        .iter()
        .filter_map(|group| group["name"].as_str())
        .collect();
    names.extend(names.first().copied());
    let msg = format!("Groups are each other's ancestors: {}.", names.join(" -> "));
    refusal(422, "inheritance-cycle", &msg, json!(groups))
}

pub(crate) fn unreachable(groups: &[&Object]) -> Refusal {
    let names: Vec<&str> = groups
        .iter()
        .filter_map(|group| group["name"].as_str())
        .collect();
    let msg = format!(
        "These groups cannot be reached from the root: {}.",
        names.join(", ")
    );
    refusal(422, "unreachable-groups", &msg, json!(groups))
}

/// Each detail has `kind`, `missing`, `environment`, `group` and `defined_by`.
pub(crate) fn missing_referents(details: &[Value]) -> Refusal {
    let names: Vec<&str> = details
        .iter()
        .filter_map(|detail| detail["missing"].as_str())
        .collect();
    let msg = format!(
        "These classes or parameters do not exist: {}.",
        names.join(", ")
    );
    refusal(422, "missing-referents", &msg, json!(details))
}
