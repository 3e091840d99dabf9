//! Pairing: which lines pair whom, and what the original module left behind.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use pefo_testkit::account::TransferAccount;
use pefo_testkit::masters::{self, Master, built_binary};
use pefo_testkit::skip;

use crate::evidence::{edit_config, fails_as, files, refused_as, tree};
use crate::pair::{A, B, Pair};

#[test]
fn a_line_that_is_damaged_foreign_or_ones_own_pairs_nobody() {
    let Some(pair) = Pair::prepared() else { return };
    let line = pair
        .a
        .pefo(["init", "active"])
        .exits(0)
        .stdout
        .trim()
        .to_owned();
    let before = tree(pair.b.directory());
    let mut damaged = line.clone();
    damaged.replace_range(60..61, if &line[60..61] == "A" { "B" } else { "A" });
    for bad in [
        &damaged,
        &line[..line.len() - 1],
        &line[4..],
        "pefo-pair-1..",
        "hello",
    ] {
        fails_as(&pair.b, &["init", "passive", "--join", bad], 2, "config");
        fails_as(&pair.a, &["init", "active", "--accept", bad], 2, "config");
    }
    fails_as(&pair.a, &["init", "passive", "--join", &line], 2, "config");
    fails_as(&pair.a, &["init", "active", "--accept", &line], 2, "config");
    fails_as(&pair.b, &["init", "active", "--accept", &line], 2, "config");
    assert!(tree(pair.b.directory()) == before);

    // A line of the passive's is no invitation.
    let back = pair
        .b
        .pefo(["init", "passive", "--join", &line])
        .exits(0)
        .stdout
        .trim()
        .to_owned();
    let Some(c) = skip::need(Master::prepare(&built_binary(), "puppet-c.lab")) else {
        return;
    };
    fails_as(&c, &["init", "passive", "--join", &back], 2, "config");
    // Nor does a paired host join another pair, or take a peer of one.
    let other = c.pefo(["init", "active"]).exits(0).stdout.trim().to_owned();
    let before = tree(pair.b.directory());
    refused_as(
        &pair.b,
        &["init", "passive", "--join", &other],
        "other-site",
    );
    refused_as(&c, &["init", "active", "--accept", &back], "other-site");
    fails_as(&pair.b, &["init", "active"], 6, "wrong_role");
    assert!(tree(pair.b.directory()) == before);
    pair.a.pefo(["init", "active", "--accept", &back]).exits(0);
}

#[test]
fn a_passive_that_was_set_up_anew_is_not_taken_for_the_old_one() {
    let Some(pair) = Pair::seeded() else { return };
    std::fs::remove_dir_all(pair.b.state()).unwrap();
    let line = pair.a.pefo(["init", "active"]).exits(0).stdout;
    let back = pair
        .b
        .pefo(["init", "passive", "--join", line.trim()])
        .exits(0)
        .stdout;
    let before = tree(&pair.a.state());
    let error = refused_as(
        &pair.a,
        &["init", "active", "--accept", back.trim()],
        "peer-key-changed",
    );
    assert!(tree(&pair.a.state()) == before);
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains(&format!("pefo init unpair {B}")), "{error:#}");
    pair.a.pefo(["init", "unpair", B]).exits(0);
    pair.a
        .pefo(["init", "active", "--accept", back.trim()])
        .exits(0);
    pair.a.pefo(["ca", "push"]).exits(0);
    pair.b.pefo(["ca", "apply"]).exits(0);
    pair.b.pefo(["ca", "verify"]).exits(0);
}

#[test]
fn a_peer_that_was_parted_from_finds_no_door_and_is_sent_nothing() {
    let Some(pair) = Pair::seeded() else { return };
    pair.sync();
    // Not from the one under whose reign it lives.
    refused_as(&pair.b, &["init", "unpair", A], "peer-reigns");
    fails_as(&pair.a, &["init", "unpair", "other.lab"], 1, "not_found");

    let before = tree(&pair.a.state());
    let shown = pair.a.pefo(["init", "unpair", B, "--dry-run"]).exits(0);
    assert!(shown.stdout.contains("would part from"), "{}", shown.stdout);
    assert!(tree(&pair.a.state()) == before);
    let beside = ["promote", "--accept", "peer-active"];
    pair.b.pefo(beside).exits(0);
    pair.b.pefo(["init", "unpair", A]).exits(0);
    // Neither what it still holds to be its spare, nor what this host would send it.
    let check = pair.a.pefo(["check", "--json"]).exits(2).json();
    let points = check["details"].as_array().unwrap();
    let peer = points
        .iter()
        .find(|point| point["point"] == "peer")
        .unwrap();
    let said = peer["message"].as_str().unwrap();
    assert!(said.starts_with(B) && said.contains("key"), "{said}");
    let push = fails_as(&pair.b, &["push"], 2, "config");
    assert!(
        push["message"]
            .as_str()
            .unwrap()
            .contains("no peer is paired")
    );
}

/// What the original module leaves in its directory, which is pefo's spool.
fn originals(master: &Master) -> Vec<PathBuf> {
    let transfer = TransferAccount::ensure().unwrap();
    let spool = master.spool();
    let put = |name: &str, text: &str| {
        let path = spool.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    put(
        "cron.d/unrelated",
        "0 * * * * root /usr/bin/true\n# /opt/pe_failover/scripts/nc_dump.sh\n",
    );
    let mut armed = vec![
        put(
            "cron.d/sync_certs",
            "* * * * * pe-transfer /opt/pe_failover/scripts/sync_certs.sh\n",
        ),
        put(
            "cron.d/nc_dumps",
            "10 * * * * root /opt/pe_failover/scripts/nc_dump.sh >/dev/null\n",
        ),
        put(
            "incron.d/sync_certs",
            "/etc/puppetlabs/puppet/ssl/ca/signed IN_CREATE /opt/pe_failover/scripts/sync_certs.sh\n",
        ),
        put(".ssh/authorized_keys", "ssh-rsa AAAA old\n"),
    ];
    armed.sort();
    for path in [spool.clone()]
        .into_iter()
        .chain(tree(&spool).into_keys().map(|name| spool.join(name)))
    {
        chown(path, Some(transfer.uid()), Some(transfer.gid())).unwrap();
    }
    std::fs::set_permissions(&spool, std::fs::Permissions::from_mode(0o700)).unwrap();
    armed
}

#[test]
fn what_the_original_module_left_armed_stops_the_pairing_until_it_is_retired() {
    let Some(pair) = Pair::prepared() else { return };
    let armed = originals(&pair.b);
    let retired = |path: &Path| PathBuf::from(format!("{}.retired-by-pefo", path.display()));
    let line = pair.a.pefo(["init", "active"]).exits(0).stdout;
    let join = ["init", "passive", "--join", line.trim()];
    let before = tree(pair.b.directory());
    let error = refused_as(&pair.b, &join, "original-module-armed");
    for path in &armed {
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains(path.to_str().unwrap()),
            "{error:#}"
        );
    }
    assert!(
        !error["message"].as_str().unwrap().contains("unrelated"),
        "{error:#}"
    );
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("--retire-original"),
        "{error:#}"
    );
    pair.b
        .pefo(join.into_iter().chain(["--retire-original", "--dry-run"]))
        .exits(0);
    assert!(tree(pair.b.directory()) == before);

    let back = pair
        .b
        .pefo(join.into_iter().chain(["--retire-original"]))
        .exits(0)
        .stdout;
    for path in &armed {
        assert!(
            !path.exists() && retired(path).exists(),
            "{}",
            path.display()
        );
    }
    assert!(pair.b.spool().join("cron.d/unrelated").exists());
    pair.a
        .pefo(["init", "active", "--accept", back.trim()])
        .exits(0);
    pair.a.pefo(["ca", "push", "--seed"]).exits(0);
    pair.b.pefo(["ca", "apply"]).exits(0);
    pair.b.pefo(["check"]).exits(0);
    // Armed again behind our back: check says so.
    std::fs::rename(retired(&armed[0]), &armed[0]).unwrap();
    let check = pair.b.pefo(["check"]).exits(2);
    assert!(check.stdout.contains("original"), "{}", check.stdout);
}

#[test]
fn pairing_proves_a_real_login() {
    let Some(pair) = Pair::prepared() else { return };
    let line = pair.a.pefo(["init", "active"]).exits(0).stdout;
    let back = pair
        .b
        .pefo(["init", "passive", "--join", line.trim()])
        .exits(0)
        .stdout;
    let right = std::fs::read(pair.b.sshd().authorized_keys_path()).unwrap();
    pair.b.sshd().revoke_all();
    fails_as(
        &pair.a,
        &["init", "active", "--accept", back.trim()],
        1,
        "denied",
    );
    std::fs::write(pair.b.sshd().authorized_keys_path(), right).unwrap();
    pair.a
        .pefo(["init", "active", "--accept", back.trim()])
        .exits(0);
    masters::pair(&pair.a, &pair.b);
    assert!(
        files(&pair.a.state().join("public/peers")).len() == 1,
        "pairing again is no second peer"
    );
    edit_config(&pair.a, "io_timeout = 20", "io_timeout = 21");
    pair.a.pefo(["check"]).exits(0);
}
