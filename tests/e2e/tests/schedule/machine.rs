//! The schedule under the very systemd that it is for, on a machine that has booted it: with the filters of system
//! calls and the address families that `units.rs` cannot impose, its timers, and its own word of who is ready.

use pefo_testkit::machine::Machine;
use pefo_testkit::masters::Master;
use pefo_testkit::network::Network;
use pefo_testkit::{skip, wait};
use rustix::process::Signal;

use super::{LONG, in_minutes, minutes};
use crate::evidence::{generations, newest_record};
use crate::pair::Pair;

/// A pefo command line of a master's, as its machine's root types it.
fn pefo(master: &Master, words: &str) -> String {
    let (binary, config) = (master.binary(), master.config_path());
    format!("{} --config {} {words}", binary.display(), config.display())
}

/// Has a unit start something else, under the same restrictions, and tells whether that went well.
fn starts(machine: &Machine, unit: &str, program: &str) -> bool {
    let dir = format!("/run/systemd/system/{unit}.d");
    let dropin = format!("[Service]\\nExecStart=\\nExecStart={program}\\n");
    machine
        .run(&format!(
            "mkdir -p {dir} && printf '{dropin}' > {dir}/instead.conf && systemctl daemon-reload"
        ))
        .exits(0);
    let code = machine.run(&format!("systemctl start {unit}")).code;
    machine
        .run(&format!(
            "rm -r {dir} && systemctl daemon-reload && systemctl reset-failed"
        ))
        .exits(0);
    code == 0
}

/// Starts units, and shows what they have said where one fails.
#[track_caller]
fn start(machine: &Machine, units: &str) {
    let show = "journalctl --no-pager --quiet -n 40 >&2";
    machine
        .run(&format!("systemctl start {units} || {{ {show}; exit 1; }}"))
        .exits(0);
}

#[test]
fn systemd_itself_runs_what_was_installed_and_holds_it_to_its_restrictions() {
    let Some(network) = skip::need(Network::create(["a", "b"])) else {
        return;
    };
    let Some(mut pair) = Pair::seeded_on(&network) else {
        return;
    };
    for master in [&mut pair.a, &mut pair.b] {
        // Nothing of it is run: it is there for what its services may do.
        master.configure("[database]\nnames = [\"x\"]\nrun_as = \"daemon\"\n\n");
        master.configure(&minutes(in_minutes(30)));
        master.configure("[services]\non_fence = [\"sign\"]\n\n");
    }
    let boot = |name: &str| {
        let host = network.host(name);
        skip::need(Machine::boot(host, &format!("{name}.lab"), ""))
    };
    let before = generations(&pair.b, "ca");
    pair.ca.sign("first.lab").unwrap();
    let Some(a) = boot("a") else { return };
    let install = |shape: &str| pefo(&pair.a, &format!("schedule install --as {shape}"));
    a.run(&install("timers")).exits(0);
    a.run("systemctl is-active pefo-ca-push.timer pefo-db-restore.timer")
        .exits(0);
    start(
        &a,
        "pefo-ca-push.service pefo-ca-apply.service pefo-fence.service",
    );
    assert!(generations(&pair.b, "ca") != before, "nothing was pushed");

    // What a database's stage does, and what none may.
    let account = "/usr/bin/setpriv --reuid=daemon --regid=daemon --init-groups --no-new-privs -- /usr/bin/id";
    assert!(starts(&a, "pefo-db-push.service", account));
    for none in [
        "/usr/bin/unshare --mount /bin/true",
        "/bin/mount -t tmpfs tmpfs /mnt",
        "/usr/bin/touch /etc/planted",
        "/usr/bin/touch /root/planted",
        "/bin/chmod u+s /var/lib",
    ] {
        assert!(!starts(&a, "pefo-db-push.service", none), "{none}");
    }
    assert!(
        !starts(&a, "pefo-ca-push.service", account),
        "it has no such need"
    );

    // The passive's service brings it into its CA.
    let Some(b) = boot("b") else { return };
    b.run(&pefo(&pair.b, "schedule install --as timers"))
        .exits(0);
    start(&b, "pefo-ca-apply.service");
    let arrived = b.path(pair.b.cadir().join("signed/first.lab.pem"));
    assert!(arrived.exists());
    drop(b);

    // The daemon takes the timers' place, is ready when it watches, and ends when it is told to.
    a.run(&install("daemon")).exits(0);
    assert_ne!(a.run("systemctl is-enabled pefo-ca-push.timer").code, 0);
    wait::until("the daemon to be ready", LONG, || {
        a.run("systemctl is-active pefo.service").code == 0
    });
    let mut spare = pair.b.run();
    let mut server = pair.ca.resumed(&a.path(pair.a.cadir())).unwrap();
    server.sign("second.lab").unwrap();
    let arrives = pair.b.cadir().join("signed/second.lab.pem");
    wait::until("second.lab", LONG, || arrives.exists());
    assert_eq!(newest_record(&pair.b, "ca watch")["outcome"], "ok");
    let status = a
        .run("systemctl show -P StatusText -P Result pefo.service")
        .exits(0);
    assert!(
        status.stdout.contains("active in epoch 1"),
        "{}",
        status.stdout
    );
    a.run("systemctl stop pefo.service").exits(0);
    let result = a.run("systemctl show -P Result -P ExecMainStatus pefo.service");
    assert_eq!(
        result.stdout.split_whitespace().collect::<Vec<_>>(),
        ["success", "0"]
    );
    spare.signal(Signal::TERM);
    a.run(&pefo(&pair.a, "schedule remove")).exits(0);
    assert_ne!(a.run("ls /etc/systemd/system/pefo*").code, 0);
}
