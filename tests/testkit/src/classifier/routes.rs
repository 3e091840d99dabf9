//! The API: who may, what is asked, what goes wrong, what is answered.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Bytes, to_bytes};
use axum::extract::State as Shares;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{Method, Request as HttpRequest};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::fault::{Fault, Route};
use super::server::Peer;
use super::state::{Object, ROOT, State};
use super::{Request, Shared, Token, groups, object};

/// A body larger than this is refused: 256 MiB.
const MAX_BODY_BYTES: usize = 256 << 20;

pub(crate) async fn answer(
    Shares(shared): Shares<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    request: HttpRequest<axum::body::Body>,
) -> Answer {
    let (head, body) = request.into_parts();
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let Some(path) = head
        .uri
        .path()
        .strip_prefix("/classifier-api")
        .map(str::to_owned)
    else {
        return answer::empty(404);
    };
    let content_length = header(CONTENT_LENGTH.as_str()).and_then(|value| value.parse().ok());
    let seen = Request {
        method: head.method.to_string(),
        path: path.clone(),
        query: head.uri.query().map(str::to_owned),
        cn: peer.cn.clone(),
        content_length,
    };
    let route = Route::of(&seen.method, &path);
    let (denied, fault) = {
        let mut state = shared.state();
        state.log.push(seen.clone());
        let denied = deny(
            &state,
            peer.cn.as_deref(),
            header("x-authentication").as_deref(),
            &path,
        );
        (
            denied,
            state
                .injections
                .iter_mut()
                .find_map(|injection| injection.strikes(route)),
        )
    };
    if let Some(denied) = denied {
        return denied;
    }
    if head.method != Method::GET && content_length.is_none() && head.method != Method::DELETE {
        return answer::empty(411);
    }
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return answer::empty(413);
    };
    let Some(fault) = fault else {
        return carry_out(&shared, &seen, &body, None);
    };
    faulty(shared, peer, seen, body, fault).await
}

async fn faulty(
    shared: Arc<Shared>,
    peer: Peer,
    seen: Request,
    body: Bytes,
    fault: Fault,
) -> Answer {
    match fault {
        Fault::Unauthenticated => unauthenticated(&seen.path),
        Fault::PermissionDenied => permission_denied(),
        Fault::ServerError => answer::error(
            500,
            "application-error",
            "An unexpected error occurred.",
            Value::Null,
        ),
        Fault::Html => answer::html(),
        Fault::ErrorWithSuccess => answer::json(
            200,
            &json!({"kind": "database-corruption", "msg": "An object could not be read.", "details": null}),
        ),
        Fault::Redirect => answer::redirect(302, "https://console.example.com/auth/login"),
        Fault::DisconnectBeforeCommit => hang_up(&peer).await,
        Fault::DisconnectAfterCommit => {
            drop(carry_out(&shared, &seen, &body, None));
            hang_up(&peer).await
        }
        Fault::Truncated | Fault::Hang => {
            let whole = carry_out(&shared, &seen, &body, None).into_body();
            let bytes = to_bytes(whole, usize::MAX).await.unwrap_or_default();
            answer::half(bytes.to_vec(), fault == Fault::Hang)
        }
        Fault::Slow(delay) => {
            // A task of its own: a client that gives up does not stop the server's work.
            let work = tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                carry_out(&shared, &seen, &body, None)
            });
            work.await.unwrap_or_else(|_| answer::empty(500))
        }
        other => carry_out(&shared, &seen, &body, Some(other)),
    }
}

async fn hang_up(peer: &Peer) -> Answer {
    peer.hang_up.notify_one();
    std::future::pending().await
}

fn deny(state: &State, cn: Option<&str>, token: Option<&str>, path: &str) -> Option<Answer> {
    let refuse = |kind: &str, msg: &str| {
        Some(answer::json(
            401,
            &json!({"kind": format!("puppetlabs.rbac/{kind}"), "msg": msg}),
        ))
    };
    match token {
        // A bad token is refused even beside a good certificate.
        Some(token) => match state
            .tokens
            .iter()
            .find(|(known, _)| known == token)
            .map(|(_, kind)| *kind)
        {
            Some(Token::Valid) => None,
            Some(Token::Expired) => refuse("token-expired", "The provided token has expired."),
            Some(Token::Revoked) => refuse("token-revoked", "The provided token has been revoked."),
            Some(Token::Powerless) => Some(permission_denied()),
            None => refuse("invalid-token", "The provided token is not valid."),
        },
        None if cn.is_some_and(|cn| state.allowed.iter().any(|allowed| allowed == cn)) => None,
        None => Some(unauthenticated(path)),
    }
}

fn unauthenticated(path: &str) -> Answer {
    let redirect = format!("/classifier-api{path}");
    let body = json!({"kind": "puppetlabs.rbac/user-unauthenticated", "msg": "Route requires authentication", "redirect": redirect});
    answer::json(401, &body)
}

fn permission_denied() -> Answer {
    answer::error(
        403,
        "permission-denied",
        "Sorry, but you don't have permission to do this.",
        Value::Null,
    )
}

fn carry_out(shared: &Shared, request: &Request, body: &[u8], fault: Option<Fault>) -> Answer {
    let mut state = shared.state();
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let result = match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["v1", "groups"]) => list(&mut state, request.query.as_deref(), fault.as_ref()),
        ("POST", ["v1", "import-hierarchy"]) => import(&mut state, body, fault.as_ref()),
        ("POST", ["v1", "validate", "group"]) => with_id(&mut state, body).and_then(|group| {
            groups::check_group(&state, &group)?;
            Ok(answer::json(200, &group))
        }),
        ("POST", ["v1", "update-classes"]) => {
            state.read_classes();
            Ok(answer::empty(201))
        }
        ("GET", ["v1", "last-class-update"]) => Ok(answer::json(
            200,
            &json!({"last_update": state.last_update}),
        )),
        ("GET", ["v1", "classes"]) => Ok(answer::json(200, &state.classes())),
        ("GET", ["v1", "environments"]) => Ok(answer::json(200, &state.environments())),
        ("GET", ["v1", "environments", environment, "classes", rest @ ..]) => {
            classes_of(&state, environment, rest)
        }
        ("POST", ["v1", "groups"]) => create(&mut state, body),
        (method, ["v1", "groups", id, rest @ ..]) => one(&mut state, method, id, rest, body),
        _ => Err(not_found(&request.path)),
    };
    if fault == Some(Fault::ChangedAfterwards) {
        state.meddle();
    }
    result.unwrap_or_else(|refusal| *refusal)
}

fn not_found(what: &str) -> Box<Answer> {
    Box::new(answer::error(
        404,
        "not-found",
        "The resource could not be found.",
        json!(what),
    ))
}

fn list(
    state: &mut State,
    query: Option<&str>,
    fault: Option<&Fault>,
) -> Result<Answer, Box<Answer>> {
    let mut groups = state.read();
    if fault == Some(&Fault::FilteredView) {
        groups.retain(|group| group["parent"] != ROOT);
    }
    for pair in query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (name, value.parse::<usize>()) {
            ("inherited", _) => {}
            ("offset", Ok(offset)) => drop(groups.drain(..offset.min(groups.len()))),
            ("limit", Ok(limit)) => groups.truncate(limit),
            _ => {
                let msg = format!("{name} must be a natural number.");
                return Err(Box::new(answer::error(
                    400,
                    "malformed-number",
                    &msg,
                    json!(value),
                )));
            }
        }
    }
    Ok(answer::json(200, &Value::Array(groups)))
}

fn import(state: &mut State, body: &[u8], fault: Option<&Fault>) -> Result<Answer, Box<Answer>> {
    let value = parse(body)?;
    let Value::Array(submitted) = value else {
        return Err(groups::schema_violation(
            &value,
            "(not (sequential? groups))",
        ));
    };
    groups::check_hierarchy(state, &submitted)?;
    let mut objects: Vec<Object> = submitted.into_iter().filter_map(object).collect();
    match fault {
        Some(Fault::ImportIgnored) => return Ok(answer::empty(204)),
        Some(Fault::ImportDropsGroup) => {
            let childless =
                |group: &Object| objects.iter().all(|other| other["parent"] != group["id"]);
            if let Some(at) = objects.iter().rposition(childless) {
                objects.remove(at);
            }
        }
        Some(Fault::ImportPartly) => {
            objects.truncate(objects.len().div_ceil(2));
            state.installed += 1;
            state.replace(objects);
            return Ok(answer::error(
                500,
                "application-error",
                "An unexpected error occurred.",
                Value::Null,
            ));
        }
        _ => {}
    }
    state.installed += 1;
    state.replace(objects);
    Ok(answer::empty(204))
}

fn classes_of(state: &State, environment: &str, rest: &[&str]) -> Result<Answer, Box<Answer>> {
    let all = state.classes();
    let of_it: Vec<&Value> = all
        .as_array()
        .into_iter()
        .flatten()
        .filter(|class| class["environment"] == environment)
        .collect();
    match rest {
        [] => Ok(answer::json(200, &json!(of_it))),
        [name] => of_it
            .into_iter()
            .find(|class| class["name"] == *name)
            .map(|class| answer::json(200, class))
            .ok_or_else(|| not_found(name)),
        _ => Err(not_found(environment)),
    }
}

fn create(state: &mut State, body: &[u8]) -> Result<Answer, Box<Answer>> {
    let group = with_id(state, body)?;
    groups::check_group(state, &group)?;
    let to = format!(
        "/classifier-api/v1/groups/{}",
        group["id"].as_str().unwrap_or_default()
    );
    object(group).into_iter().for_each(|group| state.put(group));
    Ok(answer::redirect(303, &to))
}

fn one(
    state: &mut State,
    method: &str,
    id: &str,
    rest: &[&str],
    body: &[u8],
) -> Result<Answer, Box<Answer>> {
    if !groups::is_uuid(id) {
        let msg = format!("{id} is not a valid UUID.");
        return Err(Box::new(answer::error(
            400,
            "malformed-uuid",
            &msg,
            json!(id),
        )));
    }
    if (method, rest) == ("PUT", &[][..]) {
        return overwrite(state, id, body);
    }
    let at = state.position(id).ok_or_else(|| not_found(id))?;
    let group = state.groups()[at].clone();
    match (method, rest) {
        ("GET", []) => Ok(answer::json(200, &Value::Object(state.show(&group)))),
        ("POST", []) => delta(state, group, body),
        ("DELETE", []) => {
            let children: Vec<&Value> = state
                .groups()
                .iter()
                .filter(|other| other["parent"] == id)
                .map(|other| &other["id"])
                .collect();
            if !children.is_empty() {
                let details = json!({"group": group, "children": children});
                return Err(Box::new(answer::error(
                    422,
                    "children-present",
                    "The group has children.",
                    details,
                )));
            }
            state.remove(at);
            Ok(answer::empty(204))
        }
        ("POST", [action @ ("pin" | "unpin")]) => {
            let request = parse(body)?;
            let Some(nodes) = request["nodes"].as_array() else {
                return Err(groups::schema_violation(
                    &request,
                    "{nodes missing-required-key}",
                ));
            };
            let mut group = group;
            let rule = match *action {
                "pin" => Some(groups::pin(group.get("rule"), nodes)),
                _ => groups::unpin(group.get("rule"), nodes),
            };
            group.insert("rule".to_owned(), rule.unwrap_or(Value::Null));
            state.put(group);
            Ok(answer::empty(204))
        }
        _ => Err(not_found(id)),
    }
}

fn overwrite(state: &mut State, id: &str, body: &[u8]) -> Result<Answer, Box<Answer>> {
    let mut group = parse(body)?;
    match group.get("id") {
        Some(other) if other != id => {
            let details = json!({"submitted": other, "fromUrl": id});
            return Err(Box::new(answer::error(
                400,
                "conflicting-ids",
                "The id in the body is not the one in the URL.",
                details,
            )));
        }
        Some(_) => {}
        None => {
            if let Some(group) = group.as_object_mut() {
                group.insert("id".to_owned(), json!(id));
            }
        }
    }
    groups::check_group(state, &group)?;
    let same = state
        .position(id)
        .is_some_and(|at| json!(state.groups()[at]) == group);
    if !same {
        object(group.clone())
            .into_iter()
            .for_each(|group| state.put(group));
    }
    Ok(answer::json(if same { 200 } else { 201 }, &group))
}

fn delta(state: &mut State, mut group: Object, body: &[u8]) -> Result<Answer, Box<Answer>> {
    let Value::Object(mut delta) = parse(body)? else {
        return Err(groups::schema_violation(&Value::Null, "(not (map? delta))"));
    };
    if group["id"] == ROOT && delta.contains_key("rule") {
        return Err(Box::new(answer::error(
            422,
            "root-rule-edit-failed",
            "The root group's rule cannot be edited.",
            Value::Null,
        )));
    }
    if let Some(serial) = delta.shift_remove("serial_number")
        && Some(&serial) != group.get("serial_number")
    {
        return Err(Box::new(answer::error(
            409,
            "conflict",
            "The group was edited in the meantime.",
            json!(serial),
        )));
    }
    groups::merge(&mut group, &delta);
    groups::check_group(state, &Value::Object(group.clone()))?;
    state.put(group.clone());
    Ok(answer::json(200, &Value::Object(group)))
}

fn with_id(state: &mut State, body: &[u8]) -> Result<Value, Box<Answer>> {
    let mut value = parse(body)?;
    if let Some(group) = value.as_object_mut()
        && !group.contains_key("id")
    {
        group.insert("id".to_owned(), json!(state.new_id()));
    }
    Ok(value)
}

fn parse(body: &[u8]) -> Result<Value, Box<Answer>> {
    serde_json::from_slice(body).map_err(|error| {
        let details = json!({"body": String::from_utf8_lossy(body), "error": error.to_string()});
        Box::new(answer::error(
            400,
            "malformed-request",
            "The body of your request is not valid JSON.",
            details,
        ))
    })
}
