//! Who is let in, and how a request has to look.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame};
use pefo_testkit::classifier::{ClassifierDouble, Options, Token};
use reqwest::Method;
use serde_json::json;

use crate::plain::{CN, Plain, behaving, captured, holding, read};

#[tokio::test]
async fn tokens_are_told_apart_and_a_bad_one_spoils_a_good_certificate() {
    let options = Options::default()
        .allow(CN)
        .token("good", Token::Valid)
        .token("old", Token::Expired)
        .token("taken", Token::Revoked)
        .token("left", Token::OfRevokedUser)
        .token("weak", Token::Powerless);
    let double = ClassifierDouble::start(options);
    let (known, stranger) = (Plain::of(&double), Plain::stranger(&double));
    assert_eq!(known.get("/groups").await.status, 200);
    for (token, status, kind) in [
        ("good", 200, ""),
        ("old", 401, "puppetlabs.rbac/token-expired"),
        ("taken", 401, "puppetlabs.rbac/token-revoked"),
        ("left", 401, "puppetlabs.rbac/user-revoked"),
        ("made up", 401, "puppetlabs.rbac/invalid-token"),
        ("weak", 403, "permission-denied"),
    ] {
        for client in [&known, &stranger] {
            let request = client
                .request(Method::GET, "/groups")
                .header("X-Authentication", token);
            let answer = read(request).await;
            assert_eq!(answer.status, status, "{token}");
            assert!(
                status == 200 || answer.kind() == kind,
                "{token}: {}",
                answer.text
            );
        }
    }
    assert_eq!(stranger.get("/groups").await.status, 401);
}

/// A body that does not say how long it is.
struct Stream(Option<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_refused_unless_it_may_come() {
    let chunks = || reqwest::Body::wrap(Stream(Some(json!(captured()).to_string().into())));
    let double = holding(vec![]);
    let plain = Plain::of(&double);
    let refused = read(
        plain
            .request(Method::POST, "/import-hierarchy")
            .body(chunks()),
    )
    .await;
    assert_eq!((refused.status, double.installed()), (411, 0));
    let double = behaving(vec![], |behaviour| behaviour.chunked_requests = true);
    let plain = Plain::of(&double);
    let taken = read(
        plain
            .request(Method::POST, "/import-hierarchy")
            .body(chunks()),
    )
    .await;
    assert_eq!((taken.status, double.installed()), (204, 1));
}

#[tokio::test]
async fn what_is_no_part_of_the_api_is_not_found() {
    let double = holding(vec![]);
    let plain = Plain::of(&double);
    for path in ["/nodes", "/classified/nodes/a.lab", "/groups/x/y", "/"] {
        let answer = plain.get(path).await;
        assert_eq!(
            (answer.status, &*answer.kind()),
            (404, "not-found"),
            "{path}"
        );
    }
    assert_eq!(plain.delete("/groups").await.status, 404);
}
