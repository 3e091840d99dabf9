//! Answers, good and bad.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{Response, StatusCode};
use hyper::body::{Bytes, Frame};
use serde_json::Value;

pub(crate) type Answer = Response<Body>;

fn build(status: u16, headers: &[(axum::http::HeaderName, String)], body: Body) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, value.parse().expect("a header value"));
    }
    response
}

pub(crate) fn empty(status: u16) -> Answer {
    build(status, &[], Body::empty())
}

pub(crate) fn json(status: u16, value: &Value) -> Answer {
    build(
        status,
        &[(CONTENT_TYPE, "application/json".to_owned())],
        Body::from(value.to_string()),
    )
}

pub(crate) fn redirect(status: u16, to: &str) -> Answer {
    build(status, &[(LOCATION, to.to_owned())], Body::empty())
}

pub(crate) fn html() -> Answer {
    let page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Puppet Enterprise</body></html>";
    build(
        200,
        &[(CONTENT_TYPE, "text/html".to_owned())],
        Body::from(page),
    )
}

/// An answer that promises all of `body`, sends half and then ends the connection, or hangs.
pub(crate) fn half(body: Vec<u8>, hang: bool) -> Answer {
    let length = body.len().to_string();
    let headers = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (CONTENT_LENGTH, length),
    ];
    let half = Bytes::from(body[..body.len() / 2].to_vec());
    // A hanging answer is chunked: its end cannot be known from a length.
    let headers = if hang { &headers[..1] } else { &headers[..] };
    build(
        200,
        headers,
        Body::new(Half {
            half: Some(half),
            flushed: false,
            hang,
        }),
    )
}

struct Half {
    half: Option<Bytes>,
    flushed: bool,
    hang: bool,
}

impl hyper::body::Body for Half {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.half.take() {
            Some(half) => Poll::Ready(Some(Ok(Frame::data(half)))),
            None if self.hang => Poll::Pending,
            // Not being ready once lets hyper send the half before the error ends the connection.
            None if !self.flushed => {
                self.flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into()))),
        }
    }
}
