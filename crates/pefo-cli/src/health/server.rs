//! HTTP/1 on one thread, for many who ask little.
//!
//! What it guarantees: a request has [`HEAD`] to arrive, a connection lives for [`LIFE`], one address holds at most
//! [`EACH`] connections and all together [`ALL`]; headers are few and short, bodies are not read. So a client that is
//! slow, silent or many takes only its own share.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use pefo_core::cancel::Cancel;
use tokio::net::{TcpListener, TcpStream};

use super::NOTICE;
use super::answer::{Answer, Question};
use super::view::Kept;
use crate::commands;
use crate::host::Host;

/// A request's line and headers are there within this, the first as well as the next.
const HEAD: Duration = Duration::from_secs(5);
/// A connection is ended after this, between two answers.
const LIFE: Duration = Duration::from_secs(60);
/// And cut after this where an answer is not taken.
const GRACE: Duration = Duration::from_secs(5);
/// Connections of one address.
const EACH: usize = 128;
/// Connections of all together; well below the files that a process may open.
const ALL: usize = 512;
/// The largest line with all its headers, in bytes: the least that hyper can hold.
const HEAD_BYTES: usize = 8 * 1024;
/// The most headers.
const HEADERS: usize = 64;
/// A connection that cannot be taken is tried again after this.
const AGAIN: Duration = Duration::from_millis(100);
/// What `pefo status` tells is gathered no more often: it reads every run record.
const STATUS: Duration = Duration::from_secs(1);

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What all connections share.
pub(super) struct Shared {
    host: Arc<Host>,
    kept: Mutex<Kept>,
    status: Mutex<Option<Told>>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// What `pefo status` told, and when, by the clock that nobody sets.
#[derive(Clone)]
struct Told {
    at: Duration,
    code: StatusCode,
    json: Bytes,
}

impl Shared {
    /// Nothing was asked yet.
    pub(super) fn new(host: Arc<Host>) -> Arc<Self> {
        Arc::new(Self {
            host,
            kept: Mutex::new(Kept::new()),
            status: Mutex::default(),
            open: Mutex::default(),
        })
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let is_asked = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        let uri = request.uri();
        let question = match Question::parse(uri.path(), uri.query()) {
            // A path that is none is told as that, whatever is to be done with it.
            Ok(_) if !is_asked => Err(Answer::new(405, "this only tells; ask by GET or HEAD")),
            question => question,
        };
        let (code, kind, body) = match question {
            Ok(Question::Status) => {
                let told = self.status();
                (told.code, JSON, told.json)
            }
            Ok(question) => {
                let view = held(&self.kept).view(&self.host);
                let answer = question.answer(&view, self.host.clock.now());
                text(answer.unwrap_or_else(|| Answer::new(503, "not known")))
            }
            Err(answer) => text(answer),
        };
        let body = match *request.method() {
            Method::OPTIONS => Bytes::new(),
            _ => body,
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = code;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, NO_STORE);
        headers.insert(CONTENT_TYPE, kind);
        if !is_asked || request.method() == Method::OPTIONS {
            headers.insert(ALLOW, METHODS);
        }
        response
    }

    /// What `pefo status --json` says, or said a moment ago: 200 where it can be told.
    fn status(&self) -> Told {
        let mut status = held(&self.status);
        let now = self.host.clock.monotonic();
        if let Some(told) = status
            .as_ref()
            .filter(|told| now.saturating_sub(told.at) < STATUS)
        {
            return told.clone();
        }
        let report = commands::status::run(&self.host, false);
        let told = Told {
            at: now,
            code: if report.errors.is_empty() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            },
            json: Bytes::from(format!("{}\n", report.json("status"))),
        };
        *status = Some(told.clone());
        told
    }

    /// A place for one more connection of this address, where there is one.
    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let mut open = held(&self.open);
        let all: usize = open.values().sum();
        let mine = open.get(&address).copied().unwrap_or_default();
        if all >= ALL || mine >= EACH {
            return None;
        }
        open.insert(address, mine + 1);
        Some(Admitted {
            shared: Arc::clone(self),
            address,
        })
    }
}

/// The place of a connection, given back on drop.
struct Admitted {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = held(&self.shared.open);
        let left = open
            .get(&self.address)
            .map_or(0, |mine| mine.saturating_sub(1));
        if left == 0 {
            open.remove(&self.address);
        } else {
            open.insert(self.address, left);
        }
    }
}

fn text(answer: Answer) -> (StatusCode, HeaderValue, Bytes) {
    let code = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, TEXT, Bytes::from(answer.text + "\n"))
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers until stop is said.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, cancel: &Cancel) {
    let mut notice = tokio::time::interval(NOTICE);
    while !cancel.is_cancelled() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = notice.tick() => continue,
        };
        match accepted {
            Ok((stream, from)) => {
                // Who finds no place is hung up on, which a load balancer takes for a no.
                if let Some(admitted) = shared.admit(from.ip()) {
                    tokio::spawn(connection(stream, admitted));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be taken");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, admitted: Admitted) {
    drop(stream.set_nodelay(true));
    let shared = Arc::clone(&admitted.shared);
    let service = service_fn(move |request: Request<Incoming>| {
        let response = shared.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    // What goes wrong with a connection is its client's to see.
    tokio::select! {
        ended = &mut serving => return drop(ended),
        () = tokio::time::sleep(LIFE) => serving.as_mut().graceful_shutdown(),
    }
    drop(tokio::time::timeout(GRACE, serving).await);
}
