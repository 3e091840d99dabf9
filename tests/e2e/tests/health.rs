//! What load balancers are told, over real HTTP, of a real pair.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use pefo_testkit::child::Child;
use pefo_testkit::masters::{self, Master};
use pefo_testkit::wait;
use rustix::process::Signal;

use crate::pair::Pair;
use crate::watch::tail;

/// Longer than anything takes here; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(60);
/// A load balancer that asks once a second is to know by then.
const SECOND: Duration = Duration::from_secs(1);

/// A pair in step; each answers at an address of its own once it runs.
struct Balanced {
    pair: Pair,
    at_a: String,
    at_b: String,
}

impl Balanced {
    fn seeded() -> Option<Self> {
        let mut pair = Pair::prepared()?;
        let (at_a, at_b) = (free_address(), free_address());
        for (master, at) in [(&mut pair.a, &at_a), (&mut pair.b, &at_b)] {
            master.configure(&format!("[health]\nlisten = \"{at}\"\n\n"));
        }
        masters::pair(&pair.a, &pair.b);
        let pair = pair.seed();
        Some(Self { pair, at_a, at_b })
    }

    /// Both run, and answer.
    fn running() -> Option<(Self, Child, Child)> {
        let balanced = Self::seeded()?;
        let (a, b) = (balanced.pair.a.run(), balanced.pair.b.run());
        balanced.until("A to answer", LONG, || {
            code(&balanced.at_a, "/active") == 200
        });
        balanced.until("B to be in step", LONG, || {
            code(&balanced.at_b, "/passive?lag=30s") == 200
        });
        Some((balanced, a, b))
    }

    #[track_caller]
    fn until(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
        if wait::within(limit, || condition().then_some(())).is_none() {
            panic!(
                "waited {limit:?} in vain for {what}\n--- A\n{}\n--- B\n{}",
                tail(&self.pair.a.watch_log()),
                tail(&self.pair.b.watch_log())
            );
        }
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Sends bytes and gives all that comes back until the other side hangs up; nothing where nobody listens.
fn exchange(at: &str, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    // One that is hung up on at once still reads what was said to it before.
    drop(stream.write_all(request.as_bytes()));
    let mut said = Vec::new();
    drop(stream.read_to_end(&mut said));
    Some(String::from_utf8(said).unwrap())
}

fn ask(at: &str, method: &str, path: &str) -> Option<String> {
    exchange(
        at,
        &format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"),
    )
}

/// The status code; 0 where nobody answers.
fn code_of(answer: Option<&str>) -> u16 {
    let code = answer.and_then(|answer| answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    code.unwrap_or(0)
}

fn code(at: &str, path: &str) -> u16 {
    code_of(ask(at, "GET", path).as_deref())
}

/// Status code and body.
#[track_caller]
fn told(at: &str, path: &str) -> (u16, String) {
    let answer = ask(at, "GET", path).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (code_of(Some(head)), body.to_owned())
}

fn status(master: &Master) -> serde_json::Value {
    master.pefo(["status", "--json"]).json()
}

#[test]
fn a_change_of_role_is_told_within_a_second() {
    let Some((balanced, _a, _b)) = Balanced::running() else {
        return;
    };
    let Balanced { pair, at_a, at_b } = &balanced;
    assert_eq!(
        told(at_a, "/active"),
        (200, "active in epoch 1\n".to_owned())
    );
    assert_eq!(
        told(at_b, "/active"),
        (503, "passive in epoch 1\n".to_owned())
    );
    assert_eq!(
        told(at_a, "/passive"),
        (503, "active in epoch 1\n".to_owned())
    );
    assert_eq!(told(at_b, "/ready"), (200, "ready\n".to_owned()));

    let epoch = pair.b.pefo(["promote", "--accept", "peer-active"]).exits(0);
    balanced.until("B to serve", SECOND, || code(at_b, "/active") == 200);
    assert_eq!(told(at_b, "/active").1, "active in epoch 2\n", "{epoch:?}");
    assert_eq!(code(at_b, "/passive"), 503);
    // The promotion has told A, which says so itself from then on.
    balanced.until("A to be fenced", LONG, || {
        status(&pair.a)["details"]["fenced"].is_string()
    });
    let mut said = (0, String::new());
    balanced.until("A to serve no more", SECOND, || {
        said = told(at_a, "/active");
        said.0 == 503
    });
    assert!(
        said.1.contains("puppet-b.lab reigns with epoch 2"),
        "{said:?}"
    );
    assert_eq!(code(at_a, "/passive"), 503);

    pair.a.pefo(["demote", "--wait", "40"]).exits(0);
    balanced.until("A to be in step", LONG, || {
        code(at_a, "/passive?lag=30s&dataset=ca") == 200
    });
    pair.b.pefo(["switchover"]).exits(0);
    balanced.until("A to serve", SECOND, || code(at_a, "/active") == 200);
    balanced.until("B to be the spare", SECOND, || {
        code(at_b, "/passive") == 200
    });
    assert_eq!(code(at_b, "/active"), 503);
}

#[test]
fn the_lag_of_a_spare_grows_while_its_active_is_silent_and_while_it_rests() {
    let Some((balanced, mut a, _b)) = Balanced::running() else {
        return;
    };
    let Balanced { pair, at_b, .. } = &balanced;
    let limit = "/passive?lag=12s";
    a.signal(Signal::STOP);
    balanced.until("the lag to show", LONG, || code(at_b, limit) == 503);
    let (_, why) = told(at_b, limit);
    assert!(
        why.starts_with("passive in epoch 1; lag ca 1") && why.ends_with(" of 12 s allowed\n"),
        "{why}"
    );
    // It is the passive all the same, and in step by a wider measure.
    assert_eq!(
        (code(at_b, "/passive"), code(at_b, "/passive?lag=1h")),
        (200, 200)
    );
    a.signal(Signal::CONT);
    balanced.until("the lag to be over", LONG, || code(at_b, limit) == 200);

    pair.b
        .pefo(["pause", "--reason", "the disk is changed"])
        .exits(0);
    balanced.until("the pause to show", SECOND, || {
        told(at_b, "/passive") == (200, "passive in epoch 1, paused\n".to_owned())
    });
    balanced.until("the lag of a paused spare", LONG, || {
        code(at_b, limit) == 503
    });
    pair.b.pefo(["resume"]).exits(0);
    balanced.until("the spare to be in step again", LONG, || {
        code(at_b, limit) == 200
    });
}

#[test]
fn status_is_the_same_over_http_and_questions_are_answered_as_http_has_it() {
    let Some((balanced, _a, _b)) = Balanced::running() else {
        return;
    };
    let Balanced { pair, at_b, .. } = &balanced;
    let (code, body) = told(at_b, "/status");
    let (told_there, told_here): (serde_json::Value, _) =
        (serde_json::from_str(&body).unwrap(), status(&pair.b));
    assert_eq!(code, 200);
    for key in ["certname", "role", "epoch", "holder", "fenced", "peers"] {
        assert_eq!(
            told_there["details"][key], told_here["details"][key],
            "{key}"
        );
    }
    assert_eq!(told_there["command"], "status");

    let get = ask(at_b, "GET", "/passive").unwrap();
    assert!(get.contains("cache-control: no-store\r\n"), "{get}");
    assert!(get.contains("content-length: 19\r\n"), "{get}");
    let head = ask(at_b, "HEAD", "/passive").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("content-length: 19\r\n"),
        "{head}"
    );
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let options = ask(at_b, "OPTIONS", "/active").unwrap();
    assert!(
        options.starts_with("HTTP/1.1 503") && options.ends_with("\r\n\r\n"),
        "{options}"
    );
    let post = ask(at_b, "POST", "/passive").unwrap();
    assert!(
        post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD, OPTIONS\r\n"),
        "{post}"
    );
    assert_eq!(code_of(ask(at_b, "POST", "/nothing").as_deref()), 404);
    assert_eq!(told(at_b, "/passive?lag=soon").0, 400);
    // As older load balancers ask.
    let old = exchange(at_b, "HEAD /passive HTTP/1.0\r\n\r\n").unwrap();
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
}

#[test]
fn clients_that_are_slow_many_or_rude_keep_nobody_from_being_answered() {
    let Some((balanced, _a, mut b)) = Balanced::running() else {
        return;
    };
    let at = &balanced.at_b;
    let half = || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(b"GET /passive HT").unwrap();
        stream
    };
    let mut slow: Vec<TcpStream> = (0..120).map(|_| half()).collect();
    balanced.until("an answer beside them", SECOND, || {
        code(at, "/passive") == 200
    });
    // More than an address may have are hung up on at once.
    slow.extend((0..80).map(|_| half()));
    balanced.until("one too many", SECOND, || code(at, "/passive") == 0);
    // Half a request is not waited for: all of them are hung up on, and there is room again.
    balanced.until("room", LONG, || code(at, "/passive") == 200);
    for stream in &mut slow {
        let mut said = Vec::new();
        drop(stream.read_to_end(&mut said));
        assert!(
            !said.starts_with(b"HTTP/1.1 200"),
            "half a request was answered"
        );
    }
    let huge = format!(
        "GET /passive HTTP/1.1\r\nHost: x\r\nX-Huge: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    let many = format!(
        "GET /passive HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "X-Many: x\r\n".repeat(200)
    );
    for request in [huge.as_str(), many.as_str()] {
        // A reset may overtake the answer.
        let answer = exchange(at, request).unwrap();
        assert!(matches!(code_of(Some(&answer)), 0 | 431), "{answer}");
    }
    for request in [
        "\r\n\r\n\0\0\0",
        "GET\r\n\r\n",
        "GET /passive HTTP/9.9\r\n\r\n",
        "\x16\x03\x01",
    ] {
        let answer = exchange(at, request).unwrap();
        assert!(
            matches!(code_of(Some(&answer)), 0 | 400),
            "{request:?}: {answer}"
        );
    }
    assert_eq!(code(at, "/passive"), 200);
    assert!(b.ended().is_none());
}

#[test]
fn an_address_that_is_taken_is_told_and_tried_again_while_the_watch_goes_on() {
    let Some(mut balanced) = Balanced::seeded() else {
        return;
    };
    let taken = TcpListener::bind(&balanced.at_b).unwrap();
    let (_a, _b) = (balanced.pair.a.run(), balanced.pair.b.run());
    balanced.pair.ca.sign("node1.lab").unwrap();
    let signed = balanced.pair.b.cadir().join("signed/node1.lab.pem");
    balanced.until("B to follow", LONG, || signed.exists());
    let line = format!("the health endpoint could not listen on {}", balanced.at_b);
    let b = &balanced.pair.b;
    balanced.until("status to tell", LONG, || {
        b.pefo(["status"]).stdout.contains(&line)
    });
    assert!(
        b.watch_log()
            .contains("the health endpoint does not answer")
    );
    assert_eq!(b.pefo(["status"]).code, 1);
    drop(taken);
    balanced.until("B to answer", LONG, || {
        code(&balanced.at_b, "/passive") == 200
    });
    assert!(!b.pefo(["status"]).stdout.contains(&line));
}

#[test]
fn an_address_that_is_none_is_a_wrong_configuration() {
    let Some(mut pair) = Pair::prepared() else {
        return;
    };
    pair.a
        .configure("[health]\nlisten = \"nowhere.invalid:8008\"\n\n");
    let run = pair.a.pefo(["config", "check"]).exits(2);
    assert!(
        run.stderr
            .contains("\"nowhere.invalid:8008\" does not resolve"),
        "{run:?}"
    );
    pair.b.configure("[health]\nlisten = \"8008\"\n\n");
    let run = pair.b.pefo(["config", "check"]).exits(2);
    assert!(run.stderr.contains("names no port"), "{run:?}");
}
