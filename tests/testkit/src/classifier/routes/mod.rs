//! The API: who may, what is asked, what goes wrong, what is answered.

mod call;
mod classes;
mod groups;
mod hierarchy;
mod pins;

use std::sync::Arc;

use axum::Extension;
use axum::body::{Bytes, to_bytes};
use axum::extract::State as Shares;
use axum::http::Request as HttpRequest;
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use super::answer::{self, Answer};
use super::fault::{Fault, Route};
use super::refusal;
use super::server::Peer;
use super::state::State;
use super::{Request, Shared, Token};
use call::Call;

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
    let seen = Request {
        method: head.method.to_string(),
        query: head.uri.query().map(str::to_owned),
        cn: peer.cn.clone(),
        content_length: header(CONTENT_LENGTH.as_str()).and_then(|value| value.parse().ok()),
        path,
    };
    let route = Route::of(&seen.method, &seen.path);
    let (denied, fault, takes_chunks) = {
        let mut state = shared.state();
        state.log.push(seen.clone());
        let denied = deny(&state, header("x-authentication").as_deref(), &seen);
        let strikes = |injection: &mut super::Injection| injection.strikes(route);
        let fault = state.injections.iter_mut().find_map(strikes);
        (denied, fault, state.behaviour.chunked_requests)
    };
    if let Some(denied) = denied {
        return denied;
    }
    if head.headers.contains_key(TRANSFER_ENCODING) && !takes_chunks {
        return answer::empty(411);
    }
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return answer::empty(413);
    };
    match fault {
        None => carry_out(&shared, &seen, &body, None),
        Some(fault) => faulty(shared, peer, seen, body, fault).await,
    }
}

/// Who is not let in, and why.
fn deny(state: &State, token: Option<&str>, request: &Request) -> Option<Answer> {
    let let_in = |cn: &String| state.allowed.contains(cn);
    // A bad token is refused even beside a good certificate.
    let Some(token) = token else {
        let known = request.cn.as_ref().is_some_and(let_in);
        return (!known).then(|| *refusal::unauthenticated(&call::uri(request)));
    };
    let kind = state.tokens.iter().find(|(known, _)| known == token);
    let refusal = match kind.map(|(_, kind)| *kind) {
        Some(Token::Valid) => return None,
        Some(Token::Powerless) => refusal::permission_denied(),
        Some(Token::Expired) => {
            refusal::bad_token("token-expired", "The provided token has expired.")
        }
        Some(Token::Revoked) => {
            refusal::bad_token("token-revoked", "The provided token has been revoked.")
        }
        Some(Token::OfRevokedUser) => {
            refusal::bad_token("user-revoked", "The user of this token has been revoked.")
        }
        None => refusal::bad_token("invalid-token", "The provided token is not valid."),
    };
    Some(*refusal)
}

async fn faulty(
    shared: Arc<Shared>,
    peer: Peer,
    seen: Request,
    body: Bytes,
    fault: Fault,
) -> Answer {
    match fault {
        Fault::Unauthenticated => *refusal::unauthenticated(&call::uri(&seen)),
        Fault::PermissionDenied => *refusal::permission_denied(),
        Fault::ServerError => *refusal::application_error(),
        Fault::DatabaseCorruption => *refusal::database_corruption(),
        Fault::UnexpectedResponse => *classes::fail(&mut shared.state(), &seen),
        Fault::Html => answer::html(),
        Fault::ErrorWithSuccess => answer::json(200, &refusal::corrupt()),
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

fn carry_out(shared: &Shared, request: &Request, body: &[u8], fault: Option<Fault>) -> Answer {
    let mut state = shared.state();
    let call = Call::new(request, body, fault);
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let result = match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["v1", "groups"]) => groups::list(&mut state, &call),
        ("POST", ["v1", "groups"]) => groups::create(&mut state, &call),
        ("POST", ["v1", "validate", "group"]) => groups::validate(&mut state, &call),
        ("POST", ["v1", "groups", id, "pin"]) => pins::pin(&mut state, &call, id),
        ("POST", ["v1", "groups", id, "unpin"]) => pins::unpin(&mut state, &call, id),
        ("POST", ["v1", "commands", "unpin-from-all"]) => pins::unpin_from_all(&mut state, &call),
        ("GET", ["v1", "groups", id]) => groups::get(&state, &call, id),
        ("PUT", ["v1", "groups", id]) => groups::overwrite(&mut state, &call, id),
        ("POST", ["v1", "groups", id]) => groups::change(&mut state, &call, id),
        ("DELETE", ["v1", "groups", id]) => groups::delete(&mut state, &call, id),
        ("GET", ["v1", "group-children", id]) => hierarchy::children(&state, &call, id),
        ("POST", ["v1", "import-hierarchy"]) => hierarchy::import(&mut state, &call),
        ("POST", ["v1", "update-classes"]) => classes::update(&mut state, &call),
        ("GET", ["v1", "last-class-update"]) => Ok(classes::last_update(&state)),
        ("GET", ["v1", "classes"]) => Ok(classes::list(&state, None)),
        ("GET", ["v1", "environments"]) => Ok(classes::environments(&state)),
        ("GET", ["v1", "environments", name]) => Ok(classes::environment(&state, name)),
        ("PUT", ["v1", "environments", name]) => Ok(classes::create(&mut state, name)),
        ("GET", ["v1", "environments", environment, "classes"]) => {
            Ok(classes::list(&state, Some(environment)))
        }
        ("GET", ["v1", "environments", environment, "classes", name]) => {
            classes::class(&state, &call, environment, name)
        }
        _ => Err(refusal::not_found(&call.uri())),
    };
    if call.fault == Some(Fault::ChangedAfterwards) {
        state.meddle();
    }
    result.unwrap_or_else(|refusal| *refusal)
}
