//! The server as OpenSSH's own client sees it.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::{ClientKey, Options, Sshd};
use crate::account::{self, TransferAccount};
use crate::child::Child;
use crate::{place, skip, wait};

const LONG: Duration = Duration::from_secs(30);

fn ssh(server: &Sshd, user: &str, key: &Path, command: &str) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "StrictHostKeyChecking=yes",
    ])
    .arg("-o")
    .arg(format!(
        "UserKnownHostsFile={}",
        server.known_hosts().display()
    ))
    .arg("-p")
    .arg(server.port().to_string())
    .arg("-i")
    .arg(key)
    .args([&format!("{user}@127.0.0.1"), command]);
    ssh.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
    ssh
}

fn says(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap().trim()
}

/// A server for the transfer account, with one authorised key.
fn for_transfer(options: &str) -> Option<(TransferAccount, Sshd, ClientKey)> {
    let account = skip::need(TransferAccount::ensure())?;
    let server = skip::need(Sshd::start(&Options::default().account(account.name())))?;
    let key = ClientKey::generate(server.directory());
    server.authorize(&format!("{options}{}", key.public_line()));
    Some((account, server, key))
}

#[test]
fn a_forced_command_runs_as_the_transfer_account_and_nothing_else_does() {
    let Some((account, server, key)) = for_transfer("restrict,command=\"id -un\" ") else {
        return;
    };
    let output = ssh(&server, account.name(), key.path(), "cat /etc/passwd")
        .output()
        .unwrap();
    assert_eq!(
        says(&output),
        account.name(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        server.log()
    );
    assert!(
        server
            .log()
            .contains("Accepted publickey for pefo-transfer"),
        "{}",
        server.log()
    );
    let stranger = ClientKey::generate_named(server.directory(), "stranger");
    let output = ssh(&server, account.name(), stranger.path(), "true")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied (publickey)"));
    let output = ssh(&server, "root", key.path(), "true").output().unwrap();
    assert!(
        !output.status.success(),
        "an account that was not named got in"
    );
    server.revoke_all();
    assert!(
        !ssh(&server, account.name(), key.path(), "true")
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn the_pinned_host_key_is_the_one_the_server_shows() {
    let Some((account, server, key)) = for_transfer("restrict ") else {
        return;
    };
    assert!(server.host_public_key().starts_with("ssh-ed25519 AAAA"));
    assert!(server.host_fingerprint().starts_with("SHA256:"));
    let Some(other) = skip::need(Sshd::start(&Options::default())) else {
        return;
    };
    assert_ne!(server.host_public_key(), other.host_public_key());
    assert!(
        ssh(&server, account.name(), key.path(), "true")
            .status()
            .unwrap()
            .success()
    );
    let mut command = ssh(&server, account.name(), key.path(), "true");
    let wrong = format!(
        "[127.0.0.1]:{} {}\n",
        server.port(),
        other.host_public_key()
    );
    place::write(&server.known_hosts(), wrong);
    let output = command.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Host key verification failed"));
}

#[test]
fn a_drop_ends_the_server_and_every_session() {
    let Some((account, server, key)) = for_transfer("") else {
        return;
    };
    let mark = format!("/tmp/pefo-testkit-session-{}", std::process::id());
    let script = format!("exec -a {mark} sleep 600");
    let mut client = Child::spawn(&mut ssh(
        &server,
        account.name(),
        key.path(),
        &format!("bash -c '{script}'"),
    ));
    let runs = || {
        account::run_as(&account, ["pgrep", "-f", &format!("^{mark}")])
            .status
            .success()
    };
    wait::until("the session to run", LONG, runs);
    let address = server.address;
    drop(server);
    wait::until("the session to die", LONG, || !runs());
    wait::until("the client to notice", LONG, || client.ended().is_some());
    assert!(!super::banner(address));
}

#[test]
fn sessions_can_be_killed_while_the_server_goes_on() {
    let Some((account, server, key)) = for_transfer("") else {
        return;
    };
    let mut client = Child::spawn(&mut ssh(&server, account.name(), key.path(), "sleep 600"));
    wait::until("the session", LONG, || {
        server.log().contains("Starting session: command")
    });
    server.kill_sessions();
    wait::until("the client to notice", LONG, || client.ended().is_some());
    assert!(
        ssh(&server, account.name(), key.path(), "true")
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn an_ordinary_user_can_run_one_for_itself() {
    // As root this serves root itself; as an ordinary user, that user. Both must log in.
    let Some(server) = skip::need(Sshd::start(&Options::default().config("LogLevel DEBUG1")))
    else {
        return;
    };
    let key = ClientKey::generate(server.directory());
    server.authorize(&key.public_line());
    let user = says(&Command::new("id").arg("-un").output().unwrap()).to_owned();
    let output = ssh(&server, &user, key.path(), "echo in").output().unwrap();
    assert_eq!(says(&output), "in", "{}", server.log());
}
