//! The active dies, its spare takes over; the old one comes back, is fenced and becomes the spare; the reign goes
//! home by a planned change.

use pefo_testkit::puppetserver::Agent;
use pefo_testkit::wait;

use super::{A, B, LIMIT, Site, check, step};

/// The whole story.
pub(super) fn change(a: &mut Site, b: &mut Site, nodes: &[Agent; 2]) {
    let (received, unseen) = step("A dies", || {
        let received = a.puppet.enrol("node4.lab");
        a.pefo(&["ca", "push"]);
        let unseen = a.puppet.enrol("node5.lab");
        a.puppet.kill();
        a.master.stop_sshd();
        (
            (received, unseen),
            "node4 was received by B and not applied yet, nobody but A ever saw node5".to_owned(),
        )
    });

    step("promote B", || {
        let report = b.pefo(&["promote", "--json"]).json();
        check(b.puppet.ask(&received).is_accepted(), "B accepts node4");
        check(
            b.puppet.ask(&nodes[1]).is_refused(),
            "B still refuses node2",
        );
        let fresh = b.puppet.enrol("node6.lab");
        check(b.puppet.ask(&fresh).is_accepted(), "B signs node6");
        let serial = fresh.identity().serial();
        let took = report["details"]["rto_ms"].as_u64().unwrap_or_default();
        (
            (),
            format!(
                "active in epoch 2 after {took} ms; node4 was applied first, node6 signed as 0x{serial}, from a block that nobody has used"
            ),
        )
    });

    step("A comes back", || {
        a.master.restart_sshd();
        let run = a.master.pefo(["push"]).exits(6);
        let first = run.stderr.lines().find(|line| line.contains("epoch 1"));
        check(first.is_some(), "A says why it pushes nothing");
        (
            (),
            format!(
                "fenced at its first contact: {}",
                first.unwrap_or_default().trim()
            ),
        )
    });

    step("demote A", || {
        a.master.pefo(["demote", "--wait", "0"]).exits(4);
        b.pefo(&["push"]);
        let said = a.pefo(&["demote"]).stdout;
        check(said.contains("node5.lab"), "what nobody saw is listed");
        let differs = said.lines().filter(|line| line.contains("differs")).count();
        (
            (),
            format!(
                "the passive of B; what B never saw is listed, node5 above all, in {differs} of 3 data sets"
            ),
        )
    });

    step("merge", || {
        let watch = a.master.watch();
        b.pefo(&["ca", "merge"]);
        drop(watch);
        check(b.puppet.ask(&unseen).is_accepted(), "B accepts node5");
        b.pefo(&["push"]);
        a.pefo(&["apply"]);
        let said = a.pefo(&["verify"]).stdout;
        (
            (),
            format!(
                "B has node5 too, A has all of B's; {}",
                said.lines().next().unwrap_or_default()
            ),
        )
    });

    step("fail back", || {
        let daemons = [b.master.run(), a.master.run()];
        let open = || b.master.watch_log().contains("line is open");
        wait::until("the line between the daemons", LIMIT, open);
        let report = b.pefo(&["switchover", "--json"]).json();
        let roles = [(&*a, "active"), (&*b, "passive")];
        for (site, role) in roles {
            let status = site.master.pefo(["status", "--json"]).json();
            check(status["details"]["role"] == role, "each has its role back");
        }
        drop(daemons);
        let up = a.puppet.start();
        check(a.puppet.ask(&unseen).is_accepted(), "A accepts node5");
        check(a.puppet.ask(&nodes[1]).is_refused(), "A refuses node2");
        a.pefo(&["push"]);
        b.pefo(&["apply"]);
        let said = b.pefo(&["verify"]).stdout;
        let took = report["details"]["rto_ms"].as_u64().unwrap_or_default();
        (
            (),
            format!(
                "{A} reigns again, in epoch 3, {took} ms after {B} stopped; its puppetserver up in {:.0} s; {}",
                up.as_secs_f64(),
                said.lines().next().unwrap_or_default()
            ),
        )
    });
}
