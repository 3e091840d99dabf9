//! One session: what it brings over, and what it says where it cannot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pefo_core::generation::{DataSet, spool};
use pefo_core::progress::{Progress, Silent};
use pefo_core::request::Nonce;
use pefo_core::{Error, ErrorKind};
use pefo_testkit::sshd::ClientKey;
use pefo_testkit::wait;

use crate::world::{AtFirstBytes, world};

fn shown(error: &Error) -> String {
    format!(
        "{}: {error} ({})",
        error.kind().name(),
        error.hint_text().unwrap_or("no hint")
    )
}

#[test]
fn a_generation_of_many_megabytes_arrives_and_the_line_is_used_again() {
    let world = world!();
    world.force(&world.receiver());
    let (one, two) = (world.outgoing(1, 9_000_000), world.outgoing(2, 10));
    let mut connection = world.open(&world.target()).unwrap();
    assert_eq!(connection.peer().certname.as_str(), "b.lab");
    assert_eq!(connection.push(&one, &Silent).unwrap().files_sent, 1);
    assert!(connection.acks(&[DataSet::Ca]).unwrap().is_empty());
    connection.push(&two, &Silent).unwrap();
    connection.close().unwrap();
    world.verify(&one);
    world.verify(&two);
}

/// libssh2's own flush throws away what was received and not yet read.
#[test]
fn an_answer_of_many_megabytes_arrives_whole() {
    let world = world!();
    world.force(&world.receiver());
    let nonce = Nonce::from_random([5; 16]);
    let answers = world.dir.path().join("answers");
    std::fs::create_dir(&answers).unwrap();
    let answer: Vec<u8> = (0..12_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    std::fs::write(spool::answer_path(&answers, &nonce), &answer).unwrap();
    let mut connection = world.open(&world.target()).unwrap();
    for _ in 0..5 {
        let fetched = connection.answer(&nonce).unwrap().unwrap();
        assert!(
            fetched == answer,
            "{} bytes of {}",
            fetched.len(),
            answer.len()
        );
    }
    connection.close().unwrap();
}

#[test]
fn another_host_key_is_refused_before_anything_is_sent() {
    let world = world!();
    world.force(&world.receiver());
    let other = ClientKey::generate_named(world.dir.path(), "other").public_line();
    let mut target = world.target();
    target.host_keys = vec![other];
    let error = world.open(&target).unwrap_err();
    assert_eq!(
        (error.kind(), error.rule()),
        (ErrorKind::Refused, Some("host-key"))
    );
    let text = error.to_string();
    assert!(text.contains(&world.sshd.host_fingerprint()), "{text}");
    assert_eq!(text.matches("SHA256:").count(), 2, "{text}");
    assert!(error.hint_text().is_some());
    assert!(
        !world.sshd.log().contains("Accepted publickey"),
        "it logged in all the same"
    );
}

#[test]
fn a_server_without_the_pinned_key_type_is_named_by_the_key_it_has() {
    let world = world!();
    let mut target = world.target();
    target.host_keys = vec!["ssh-rsa AAAAB3NzaC1yc2E=".into()];
    let error = world.open(&target).unwrap_err();
    assert_eq!(error.rule(), Some("host-key"), "{error}");
    assert!(
        error.to_string().contains(&world.sshd.host_fingerprint()),
        "{error}"
    );
}

#[test]
fn a_transfer_key_that_is_not_authorized_is_denied() {
    let world = world!();
    let error = world.open(&world.target()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.hint_text().unwrap().contains("pefo init"));
    assert!(!error.is_retryable());
}

#[test]
fn a_key_file_that_is_missing_or_none_is_told_by_name() {
    let world = world!();
    let mut target = world.target();
    target.identity = world.dir.path().join("missing");
    assert_eq!(
        world.open(&target).unwrap_err().io_kind(),
        Some(std::io::ErrorKind::NotFound)
    );
    target.identity = world.dir.path().join("station.json");
    let error = world.open(&target).unwrap_err();
    assert!(error.to_string().contains("station.json"), "{error}");
    assert!(
        matches!(error.kind(), ErrorKind::Config | ErrorKind::Denied),
        "{error:?}"
    );
}

#[test]
fn a_command_that_is_no_pefo_is_quoted() {
    let world = world!();
    world.force("pefo-that-is-not-installed");
    let error = world.open(&world.target()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    let text = shown(&error);
    assert!(
        text.contains("exit status 127") && text.contains("not found"),
        "{text}"
    );

    world.sshd.revoke_all();
    world.force("echo This account is not available.");
    let error = world.open(&world.target()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    let text = shown(&error);
    assert!(text.contains("This account is not available."), "{text}");

    world.sshd.revoke_all();
    world.force("true");
    let text = shown(&world.open(&world.target()).unwrap_err());
    assert!(
        text.contains("without a word") && text.contains("exit status 0"),
        "{text}"
    );
}

#[test]
fn a_peer_that_echoes_does_not_hang_the_sender() {
    let world = world!();
    world.force("cat");
    // It answers our own preamble and hello.
    let error = world.open(&world.target()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[test]
fn a_peer_that_says_nothing_is_given_up_after_the_time_allowed() {
    let world = world!();
    world.force("exec cat >/dev/null");
    let target = world.target().answer_timeout(Duration::from_millis(500));
    let error = world.open(&target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("no sign of life"), "{error}");
}

#[test]
fn a_session_that_is_killed_in_a_transfer_is_told_and_the_next_push_goes_through() {
    let world = world!();
    world.force(&world.receiver());
    let outgoing = world.outgoing(1, 30_000_000);
    let kill = AtFirstBytes::new(|| world.sshd.kill_sessions());
    let error = world
        .open(&world.target())
        .unwrap()
        .push(&outgoing, &kill)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.is_retryable());
    // The killed receiver lets go of its lock as it dies.
    let pushed = wait::within(Duration::from_secs(20), || {
        match world
            .open(&world.target())
            .and_then(|mut line| line.push(&outgoing, &Silent))
        {
            Err(error) if error.kind() == ErrorKind::Locked => None,
            other => Some(other),
        }
    });
    pushed.expect("the lock was never let go").unwrap();
    world.verify(&outgoing);
}

/// Counts the bytes that went out.
#[derive(Default)]
struct Counting(AtomicU64);

impl Progress for Counting {
    fn advance(&self, _: u64, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[test]
fn a_refusal_in_the_middle_stops_a_long_transfer_at_once() {
    let world = world!();
    // The largest file that this receiver can write has 1,000 blocks of 512 bytes.
    world.force(&format!(
        "trap '' XFSZ; ulimit -f 1000; exec {}",
        world.receiver()
    ));
    let outgoing = world.outgoing(1, 60_000_000);
    let sent = Counting::default();
    let error = world
        .open(&world.target())
        .unwrap()
        .push(&outgoing, &sent)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(
        error
            .to_string()
            .contains("b.lab: ca 00000001-000000000001: write "),
        "{error}"
    );
    // What fits the windows on the way was gone before the refusal came.
    assert!(sent.0.into_inner() < 30_000_000);
    let left: Vec<_> = std::fs::read_dir(world.spooled())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [".pefo-lock"]);
}
