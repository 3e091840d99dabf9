//! A peer that is not ours at the other end of a real ssh channel: told, ended, and nothing has changed.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use pefo_testkit::wait;
use pefo_transport::frame::{Frame, PREAMBLE, decode_agreed, encode};
use pefo_transport::message::{Capabilities, Need, Protocols, Refuse, Wanted};
use pefo_transport::tree::message::{Commit, Committed, EntriesHead, Open, Opened, Scope};

use crate::mirror::{Mirror, show, write_in};
use crate::spool::Spool;
use crate::world::{LONG, World, need};

fn said(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = PREAMBLE.to_vec();
    for frame in frames {
        encode(frame, &mut bytes).unwrap();
    }
    bytes
}

fn behind_the_preamble(bytes: &[u8]) -> Vec<u8> {
    [PREAMBLE.as_slice(), bytes].concat()
}

fn open() -> Frame {
    Frame::Open(Open {
        protocol: Protocols::OURS,
        tool: "ill".into(),
        capabilities: vec!["ask".into()],
    })
}

fn entries(path: &str, eager: bool) -> [Frame; 2] {
    let mut bytes = (path.len() as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(path.as_bytes());
    bytes.push(2);
    let head = EntriesHead {
        scope: Scope::Paths,
        entries: 1,
        bytes: bytes.len() as u64,
        eager,
    };
    [Frame::Entries(head), Frame::Data(bytes)]
}

/// What a stranger with a valid key may say, and the kind of what it is told.
fn openings() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let [outside, its_path] = entries("../outside", true);
    let commit = Frame::Commit(Commit { delete: true });
    vec![
        ("a banner", b"SSH-2.0-hello\r\n".to_vec(), "protocol"),
        (
            "an endless frame",
            behind_the_preamble(&[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]),
            "protocol",
        ),
        (
            "an unknown frame",
            behind_the_preamble(&[0, 0, 0, 0, 200, 0, 0, 0]),
            "protocol",
        ),
        (
            "a flag that was not agreed",
            behind_the_preamble(&[1, 0, 0, 0, 17, 1, 0, 0, 9]),
            "protocol",
        ),
        ("a commit of nothing", said(&[open(), commit]), "protocol"),
        (
            "a path that leads outside",
            said(&[open(), outside, its_path]),
            "invalid",
        ),
        (
            "half a frame",
            behind_the_preamble(&[9, 0, 0, 0, 64, 0, 0, 0, b'{']),
            "unreachable",
        ),
    ]
}

/// Says this over ssh, and gives what was answered before the receiver ended.
fn tell(world: &World, bytes: &[u8]) -> Vec<u8> {
    let [host, port, user, identity, _] = world.far_end();
    let mut client = Command::new("ssh")
        .args(["-F", "/dev/null", "-T", "-o", "BatchMode=yes"])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"])
        .args(["-o", "UserKnownHostsFile=/dev/null"])
        .args(["-i", &identity, "-p", &port, &format!("{user}@{host}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = client.stdin.take().unwrap();
    // A receiver that has ended already takes no more.
    drop(input.write_all(bytes));
    drop(input);
    wait::until("the receiver to end", LONG, || {
        client.try_wait().unwrap().is_some()
    });
    let mut answer = Vec::new();
    let mut output = client.stdout.take().unwrap();
    output.read_to_end(&mut answer).unwrap();
    answer
}

#[track_caller]
fn is_refused(case: &str, answer: &[u8], kind: &str) {
    let mut rest = answer.strip_prefix(PREAMBLE.as_slice()).unwrap();
    let mut last = None;
    while let Some((frame, used)) = decode_agreed(rest, Capabilities::TREE).unwrap() {
        last = Some(frame);
        rest = &rest[used..];
    }
    assert!(rest.is_empty(), "{case}: something but frames was answered");
    match last {
        Some(Frame::Refuse(refuse)) => assert_eq!(refuse.kind, kind, "{case}: {refuse:?}"),
        other => panic!("{case}: not refused, but {other:?}"),
    }
}

#[test]
fn hostile_senders_are_refused_and_change_nothing() {
    let (mirror, spool) = (need!(Mirror::new()), need!(Spool::new()));
    let source = mirror.source("source");
    write_in(&source, "a", b"1");
    mirror.run(&source).goes_through();
    spool.write(1, 1000);
    spool.run(1).goes_through();
    let before = show(&mirror.dest());
    for (case, bytes, kind) in openings() {
        is_refused(case, &tell(&mirror.world, &bytes), kind);
        mirror.is_let_go();
        assert!(show(&mirror.dest()) == before, "{case}");
        assert!(!mirror.home.join("outside").exists(), "{case}");
        // To one who keeps a spool everything about a tree is out of turn.
        is_refused(case, &tell(&spool.world, &bytes), "protocol");
        assert_eq!((spool.standing(), spool.begun().len()), (vec![1], 0));
    }
    write_in(&source, "a", b"22");
    mirror.goes_on(&source);
    mirror.is_as(&source);
    spool.write(2, 1000);
    spool.goes_on(2);
    spool.verify();
}

#[test]
fn hostile_receivers_end_the_sender_with_words_that_may_be_shown() {
    let mirror = need!(Mirror::new());
    let source = mirror.source("source");
    write_in(&source, "a", b"1");
    let opened = || {
        Frame::Opened(Opened {
            protocol: Protocols::OURS.max,
            tool: "ill".into(),
            capabilities: vec!["ask".into()],
        })
    };
    let mut wanted = Wanted::none(1000);
    wanted.want(999);
    let refuse = Refuse {
        kind: "refused".into(),
        rule: Some("mass-delete".into()),
        message: format!("\u{1b}[2J\u{7}cleared{}", "!".repeat(100_000)),
        hint: Some("\u{1b}]0;title\u{7}".into()),
    };
    let cases = [
        ("nothing", vec![]),
        ("a shell's words", b"\x1b[31mWelcome!\x07\n".to_vec()),
        (
            "an endless frame",
            behind_the_preamble(&[0xff, 0xff, 0xff, 0xff, 65, 0, 0, 0]),
        ),
        (
            "committed before it was asked",
            said(&[opened(), Frame::Committed(Committed::default())]),
        ),
        (
            "needs that nobody has",
            said(&[opened(), Frame::Need(Need::Files(wanted))]),
        ),
        ("a sender's frame", said(&[opened(), open()])),
        (
            "control characters",
            said(&[opened(), Frame::Refuse(refuse)]),
        ),
    ];
    for (case, bytes) in cases {
        let path = mirror.world.path("ill");
        std::fs::write(&path, bytes).unwrap();
        let path = path.display();
        mirror
            .world
            .receiver(&format!("sh -c 'cat {path}; exec head -c 30 >/dev/null'"));
        let run = mirror.run(&source);
        assert_eq!(run.status.code(), Some(1), "{case}: {run:?}");
        let shown = |c: char| !c.is_control() || c == '\n';
        assert!(run.err.chars().all(shown), "{case}: {:?}", run.err);
        assert!(!run.err.contains("panicked"), "{case}: {}", run.err);
        assert!(run.err.len() < 10_000 && run.out.is_empty(), "{case}");
    }
    assert!(!mirror.dest().exists());
}
