//! Fresh machines: systemd runs there, what happens there stays there, and nothing is left behind.

use std::path::Path;

use pefo_testkit::machine::Machine;
use pefo_testkit::network::Network;
use pefo_testkit::skip;

const UNIT: &str = "/etc/systemd/system/probe.service";

#[test]
fn a_service_there_lives_under_what_its_unit_says_and_leaves_nothing_here() {
    let Some(network) = skip::need(Network::create(["one", "two"])) else {
        return;
    };
    let boot = |name: &str| Machine::boot(network.host(name), &format!("{name}.lab"), "");
    let Some(one) = skip::need(boot("one")) else {
        return;
    };
    let two = skip::need(boot("two")).unwrap();
    assert_eq!(one.run("hostname").exits(0).stdout, "one.lab\n");

    let unit = "[Service]\nType=oneshot\nProtectSystem=strict\nReadWritePaths=/var/lib\n\
        ExecStart=/bin/sh -c 'touch /var/lib/may; ! touch /etc/may-not; ! test -e /etc/hidden/x'\n\
        InaccessiblePaths=-/etc/hidden\n";
    one.run("mkdir /etc/hidden && touch /etc/hidden/x").exits(0);
    let put =
        format!("printf '%s' \"$0\" >{UNIT} && systemctl daemon-reload && systemctl start probe");
    let run = one.command("sh").args(["-c", &put, unit]).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    assert!(one.path("/var/lib/may").exists() && !one.path("/etc/may-not").exists());
    for elsewhere in [Path::new("/"), &two.path("/")] {
        assert!(!elsewhere.join("var/lib/may").exists());
        assert!(!elsewhere.join("etc/systemd/system/probe.service").exists());
    }

    // They reach each other, and all that runs there ends with the machine.
    let address = network.host("two").address();
    one.run(&format!(
        "ping -c 1 -W 2 {address} || getent hosts {address} || true"
    ))
    .exits(0);
    assert!(!network.host("one").processes().is_empty());
    drop(one);
    assert!(network.host("one").processes().is_empty());
    assert!(!network.host("two").processes().is_empty());
}
