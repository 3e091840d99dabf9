//! The line and what answers at its other end: strangers, keys that do not fit, a pefo of another time.

use std::io::Write as _;
use std::process::{Command, Stdio};

use pefo_testkit::account::{self, TransferAccount};
use pefo_testkit::masters::Master;
use pefo_testkit::sshd::{self, Sshd};
use pefo_testkit::{place, skip};

use crate::bad_input::{passive, recovers, with_news};
use crate::evidence::{fails_as, newest_record, refused_as, told_with_hint, tree};
use crate::pair::{B, Pair};

#[test]
fn another_host_key_is_refused_and_nothing_is_sent_to_it() {
    let Some(mut pair) = with_news() else { return };
    let Some(other) = skip::need(Sshd::start(
        &sshd::Options::default().account(account::NAME),
    )) else {
        return;
    };
    std::fs::copy(
        pair.b.sshd().authorized_keys_path(),
        other.authorized_keys_path(),
    )
    .unwrap();
    let before = passive(&pair);
    let plain = std::fs::read(pair.a.config_path()).unwrap();
    pair.a.configure(&format!(
        "\n[[peer]]\ncertname = \"{B}\"\nport = {}\n",
        other.port()
    ));
    let error = refused_as(&pair.a, &["ca", "push"], "host-key");
    for fingerprint in [other.host_fingerprint(), pair.b.sshd().host_fingerprint()] {
        assert!(
            error["message"].as_str().unwrap().contains(&fingerprint),
            "{error:#}"
        );
    }
    assert!(
        !other.log().contains("Accepted publickey"),
        "the key was shown to a stranger"
    );
    pair.a.pefo(["check"]).exits(2);
    assert!(passive(&pair) == before);
    std::fs::write(pair.a.config_path(), plain).unwrap();
    recovers(&pair);
}

#[test]
fn a_transfer_key_that_the_peer_does_not_know_is_denied_until_it_is_paired_again() {
    let Some(pair) = with_news() else { return };
    let before = passive(&pair);
    pair.b.sshd().revoke_all();
    fails_as(&pair.a, &["ca", "push"], 1, "denied");
    assert_eq!(newest_record(&pair.a, "ca push")["outcome"], "failed");
    let check = pair.b.pefo(["check"]).exits(1);
    assert!(check.stdout.contains("hint: "), "{}", check.stdout);
    assert!(passive(&pair) == before);
    let line = pair.a.pefo(["init", "active"]).exits(0).stdout;
    pair.b
        .pefo(["init", "passive", "--join", line.trim()])
        .exits(0);
    recovers(&pair);
}

/// Makes the forced command of A's key on B another one.
fn force(pair: &Pair, command: &str) {
    let key = std::fs::read_to_string(pair.a.state().join("keys/ssh.pub")).unwrap();
    std::fs::write(
        pair.b.sshd().authorized_keys_path(),
        format!("restrict,command=\"{command}\" {key}"),
    )
    .unwrap();
}

/// One frame of the wire: length, type, no flags, channel 0, payload.
fn frame(kind: u8, payload: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend(payload.as_bytes());
    bytes
}

const PREAMBLE: &[u8] = b"PEFO\r\n\x1a\n";

#[test]
fn a_peer_without_pefo_or_with_another_protocol_is_told_apart_from_a_cut_line() {
    let Some(pair) = with_news() else { return };
    let before = passive(&pair);
    let right = std::fs::read(pair.b.sshd().authorized_keys_path()).unwrap();
    let answer = pair.b.directory().join("answer");
    let say = |bytes: &[u8]| std::fs::write(&answer, bytes).unwrap();
    let play = format!("/bin/sh -c 'cat {}; exec cat >/dev/null'", answer.display());
    let fails = |what: &str| {
        let error = fails_as(&pair.a, &["ca", "push"], 1, "protocol");
        let message = error["message"].as_str().unwrap().to_owned();
        assert!(message.contains(what), "{what:?} is not in {message:?}");
    };

    force(&pair, "/bin/true");
    fails("without a word");
    force(
        &pair,
        "/bin/echo Welcome to this host. Unauthorised use is prohibited.",
    );
    fails("Welcome to this host");
    force(
        &pair,
        "/opt/nowhere/pefo --config /etc/pefo/pefo.toml receive",
    );
    fails("127");
    say(b"PEFO\n\x1a\n-----------");
    force(&pair, &play);
    fails("did not answer as pefo");

    // A pefo of another time.
    let me: serde_json::Value =
        serde_json::from_slice(&std::fs::read(pair.b.state().join("public/self.json")).unwrap())
            .unwrap();
    let station: serde_json::Value =
        serde_json::from_slice(&std::fs::read(pair.b.state().join("public/station.json")).unwrap())
            .unwrap();
    let welcome = serde_json::json!({
        "protocol": 99, "tool": "pefo 42.0.0", "site": me["site"], "certname": B, "role": "passive",
        "reign": station["current"], "capabilities": [],
    });
    say(&[PREAMBLE, &frame(2, &welcome.to_string())].concat());
    fails("protocol 99");
    // Garbage where a frame should be.
    say(&[PREAMBLE, &[0xff; 64]].concat());
    let run = pair.a.pefo(["ca", "push"]).exits(1);
    told_with_hint(&run);

    assert!(passive(&pair) == before);
    std::fs::write(pair.b.sshd().authorized_keys_path(), right).unwrap();
    recovers(&pair);
}

#[test]
fn a_sender_of_another_protocol_is_told_which_side_to_upgrade() {
    let Some(pair) = with_news() else { return };
    let before = passive(&pair);
    let me: serde_json::Value =
        serde_json::from_slice(&std::fs::read(pair.a.state().join("public/self.json")).unwrap())
            .unwrap();
    let hello = serde_json::json!({
        "protocol": {"min": 7, "max": 9}, "tool": "pefo 42.0.0", "site": me["site"], "something new": true,
    });
    let said = receive(&pair.b, &[PREAMBLE, &frame(1, &hello.to_string())].concat());
    assert!(said.starts_with("PEFO"), "{said:?}");
    assert!(
        said.contains("pefo 42.0.0") && said.contains("upgrade"),
        "{said:?}"
    );
    // And a stranger gets no further than his first words.
    let said = receive(&pair.b, b"GET / HTTP/1.1\r\n\r\n");
    assert!(!said.contains("protocol\":1"), "{said:?}");
    assert!(passive(&pair) == before);
    recovers(&pair);
}

/// What the receiver answers to these bytes.
fn receive(master: &Master, bytes: &[u8]) -> String {
    let transfer = TransferAccount::ensure().unwrap();
    let mut child = transfer
        .command(master.binary().to_str().unwrap())
        .arg("--config")
        .arg(master.config_path())
        .arg("receive")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It may hang up before it has heard everything.
    drop(child.stdin.take().unwrap().write_all(bytes));
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_receiver_asked_for_anything_else_serves_nothing() {
    let Some(pair) = Pair::paired() else { return };
    let key = pair.a.state().join("keys/ssh");
    let before = tree(&pair.b.spool());
    let dir = place::directory("client");
    let known = pair.b.sshd().known_hosts();
    let ssh = |arguments: &[&str]| {
        let mut command = Command::new("ssh");
        command
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
            ])
            .arg(format!("UserKnownHostsFile={}", known.display()));
        command
            .arg("-i")
            .arg(&key)
            .arg("-p")
            .arg(pair.b.sshd().port().to_string())
            .arg(format!("{}@127.0.0.1", pefo_testkit::account::NAME));
        command
            .args(arguments)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    for command in [
        &["cat", "/etc/passwd"][..],
        &["sh", "-c", "id"],
        &["scp", "-f", "/etc/passwd"],
    ] {
        let output = ssh(command);
        assert!(!output.status.success(), "{command:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            !said.contains("root:") && !said.contains("uid="),
            "{command:?}: {said}"
        );
    }
    assert!(tree(&pair.b.spool()) == before);
}

#[test]
fn many_sessions_at_once_all_get_through_however_late_one_side_comes_to_speak() {
    let Some(pair) = Pair::paired() else { return };
    let sessions: Vec<_> = (0..40)
        .map(|_| {
            let mut command = pair.a.command();
            command.args(["check", "--json"]);
            command.stdin(Stdio::null()).stdout(Stdio::piped());
            command.stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for session in sessions {
        let output = session.wait_with_output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let points = report["details"].as_array().unwrap();
        let peer = points.iter().find(|point| point["point"] == "peer");
        assert_eq!(peer.unwrap()["ok"], true, "{report:#}");
    }
}
