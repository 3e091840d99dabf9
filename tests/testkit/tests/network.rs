//! Networks of namespaces: who reaches whom, what a cut line is like, and what is left behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pefo_testkit::account::TransferAccount;
use pefo_testkit::child::Child;
use pefo_testkit::classifier::{self, ClassifierDouble};
use pefo_testkit::network::{Host, Network};
use pefo_testkit::sshd::{ClientKey, Options, Sshd};
use pefo_testkit::{skip, wait};

const LONG: Duration = Duration::from_secs(30);
/// Longer than any answer within one machine takes, however busy it is.
const PATIENCE: Duration = Duration::from_millis(700);

fn network(names: &[&'static str]) -> Option<Network> {
    skip::need(Network::create(names.iter().copied()))
}

fn listen(host: &Host) -> TcpListener {
    host.enter(|| TcpListener::bind((host.address(), 0)).unwrap())
}

fn connect(from: &Host, to: &TcpListener) -> std::io::Result<TcpStream> {
    let address = to.local_addr()?;
    from.enter(|| TcpStream::connect_timeout(&address, PATIENCE))
}

fn reaches(from: &Host, to: &TcpListener) -> bool {
    match connect(from, to) {
        Ok(_) => true,
        // Nothing else will do: a line that is cut refuses nothing and knows of no missing route.
        Err(error) if error.kind() == ErrorKind::TimedOut => false,
        Err(error) => panic!("{} was told: {error}", from.name()),
    }
}

/// The namespaces of this name's network that are there.
fn namespaces(prefix: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn hosts_reach_each_other_and_a_cut_one_is_not_reached_until_it_is_mended() {
    let Some(network) = network(&["a", "b", "c"]) else {
        return;
    };
    let listeners: Vec<_> = network.hosts().iter().map(listen).collect();
    let who_reaches_whom = || {
        let mut found = String::new();
        for from in network.hosts() {
            for (to, listener) in network.hosts().iter().zip(&listeners) {
                if from != to && reaches(from, listener) {
                    found.push_str(&format!("{}{} ", from.name(), to.name()));
                }
            }
        }
        found
    };
    let (a, b) = (network.host("a"), network.host("b"));
    assert_eq!(who_reaches_whom(), "ab ac ba bc ca cb ");
    network.cut(a);
    assert_eq!(who_reaches_whom(), "bc cb ");
    network.mend(a);
    assert_eq!(who_reaches_whom(), "ab ac ba bc ca cb ");
    network.cut_between(a, b);
    assert_eq!(who_reaches_whom(), "ac bc ca cb ");
    network.mend_between(a, b);
    assert_eq!(who_reaches_whom(), "ab ac ba bc ca cb ");
}

#[test]
fn a_connection_hangs_while_the_line_is_cut_and_goes_on_once_it_is_mended() {
    let Some(network) = network(&["a", "b"]) else {
        return;
    };
    let (a, b) = (network.host("a"), network.host("b"));
    let listener = listen(b);
    let mut client = connect(a, &listener).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut byte = [0];
    for between in [false, true] {
        if between {
            network.cut_between(a, b);
        } else {
            network.cut(b);
        }
        client.write_all(&[u8::from(between)]).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let error = server.read(&mut byte).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        if between {
            network.mend_between(a, b);
        } else {
            network.mend(b);
        }
        server.set_read_timeout(Some(LONG)).unwrap();
        server.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [u8::from(between)]);
    }
}

#[test]
fn a_command_runs_on_its_host_under_its_own_process_id_and_sees_the_machines_files() {
    let Some(network) = network(&["a", "b"]) else {
        return;
    };
    let a = network.host("a");
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let addresses = said(a.command("/usr/sbin/ip").args(["-4", "-o", "address"]));
    assert!(
        addresses.contains("127.0.0.1/8") && addresses.contains(&format!("{}/24", a.address())),
        "{addresses}"
    );
    assert_eq!(addresses.lines().count(), 2, "{addresses}");
    assert!(said(a.command("ls").arg("/run/netns")).contains(&a.namespace()));

    let child = a
        .command("sh")
        .args(["-c", "echo $$"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{id}\n"));
}

#[test]
fn the_machines_own_network_is_not_touched_and_loopback_is_each_hosts_own() {
    let interfaces = || -> BTreeSet<_> {
        let entries = std::fs::read_dir("/sys/class/net").unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = interfaces();
    let Some(network) = network(&["a", "b"]) else {
        return;
    };
    assert_eq!(interfaces(), before);
    let own = Command::new("/usr/sbin/ip")
        .args(["-o", "address"])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&own.stdout).contains("198.18.0."));

    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = here.local_addr().unwrap();
    TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    let there = network.host("a").enter(|| {
        let refused = TcpStream::connect_timeout(&address, PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        TcpListener::bind(address).unwrap()
    });
    assert_eq!(there.local_addr().unwrap(), address);
    let from_b = network
        .host("b")
        .enter(|| TcpStream::connect_timeout(&address, PATIENCE).unwrap_err());
    assert_eq!(from_b.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_server_of_the_kit_that_is_started_within_a_host_stays_there() {
    let Some(network) = network(&["a"]) else {
        return;
    };
    let a = network.host("a");
    let double = a.enter(|| ClassifierDouble::start(classifier::Options::default()));
    let address = SocketAddr::from(([127, 0, 0, 1], double.port()));
    let connect = || TcpStream::connect_timeout(&address, PATIENCE).map(drop);
    a.enter(connect).unwrap();
    assert_eq!(connect().unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn nothing_is_left_after_a_drop_not_even_a_process_that_left_its_group() {
    let Some(network) = network(&["a", "b"]) else {
        return;
    };
    let a = network.host("a").clone();
    let prefix = a.namespace().strip_suffix("a").unwrap().to_owned();
    assert_eq!(namespaces(&prefix).len(), 3);
    let mut child = Child::spawn(
        a.command("sh")
            .args(["-c", "setsid sleep 600 & trap '' TERM HUP; wait"]),
    );
    wait::until("both processes", LONG, || a.processes().len() >= 2);
    let processes = a.processes();
    assert!(processes.contains(&child.id()));
    drop(network);
    assert_eq!(namespaces(&prefix), BTreeSet::new());
    assert!(a.processes().is_empty());
    assert!(child.ended().is_some());
    for pid in processes {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        // A zombie is dead; nobody may have reaped it yet.
        assert!(status.map_or(true, |text| text.contains("State:\tZ")));
    }
}

#[test]
fn what_a_killed_test_process_left_is_removed_by_the_next() {
    if network(&["a"]).is_none() {
        return;
    }
    let ip = |arguments: &[&str]| {
        let status = Command::new("/usr/sbin/ip").args(arguments).status();
        assert!(status.unwrap().success(), "{arguments:?}");
    };
    let mut gone = Command::new("true").spawn().unwrap();
    let dead = format!("pefo-{}-0-a", gone.id());
    gone.wait().unwrap();
    let living = format!("pefo-{}-9999-a", std::process::id());
    ip(&["netns", "add", &living]);
    let mut inside = Child::spawn(
        Command::new("nsenter")
            .arg(format!("--net=/run/netns/{living}"))
            .args(["sleep", "600"]),
    );
    let id = inside.id().to_string();
    wait::until("it to be inside", LONG, || {
        std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    // The name comes last: from now on every test that runs beside this one may remove it.
    ip(&["netns", "attach", &dead, &id]);
    let next = network(&["a"]).unwrap();
    let there = |name: &str| Path::new("/run/netns").join(name).exists();
    assert!(!there(&dead));
    wait::until("what ran there to die", LONG, || inside.ended().is_some());
    // Those of processes that live stay.
    assert!(there(&living) && there(&next.host("a").namespace()));
    ip(&["netns", "delete", &living]);
}

#[test]
fn an_sshd_on_a_host_is_reached_from_the_other_and_from_nowhere_else_and_restarts_there() {
    let Some(network) = network(&["a", "b"]) else {
        return;
    };
    let (a, b) = (network.host("a"), network.host("b"));
    let Some(account) = skip::need(TransferAccount::ensure()) else {
        return;
    };
    let options = Options::default().account(account.name()).host(b);
    let Some(mut server) = skip::need(Sshd::start(&options)) else {
        return;
    };
    assert_eq!(server.address(), b.address());
    let key = ClientKey::generate(server.directory());
    server.authorize(&format!("restrict {}", key.public_line()));
    let answers = |server: &Sshd| {
        let output = a
            .command("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o"])
            .arg(format!(
                "UserKnownHostsFile={}",
                server.known_hosts().display()
            ))
            .args(["-o", "StrictHostKeyChecking=yes", "-i"])
            .arg(key.path())
            .args(["-p", &server.port().to_string()])
            .arg(format!("{}@{}", account.name(), server.address()))
            .arg("echo in")
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}\n{}", server.log());
        assert_eq!(output.stdout, b"in\n");
    };
    answers(&server);
    let port = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let from_b = b.enter(|| TcpStream::connect_timeout(&port, PATIENCE).unwrap_err());
    assert_eq!(from_b.kind(), ErrorKind::ConnectionRefused);
    server.restart();
    answers(&server);
    b.kill_all();
    assert!(b.processes().is_empty());
    server.restart();
    answers(&server);
}
