//! The spool is untrusted: what the transfer account can read there tells no secret, and what it writes
//! there changes nothing.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pefo_testkit::account::TransferAccount;
use pefo_testkit::classifier::{ClassifierDouble, Options};
use pefo_testkit::masters::{self, Master};
use pefo_testkit::postgres::{Cluster, ClusterOptions};
use pefo_testkit::skip;
use serde_json::{Value, json};

use crate::classifier::captured;
use crate::evidence::{contents, files, generations, refused_as, tree};
use crate::pair::{A, B, Pair};

const NAME: &str = "pe-rbac";
/// What stands in a database's row and in a classifier's parameter.
const ROW: &str = "row-4be1c7-of-the-database";
const PARAMETER: &str = "parameter-91d3aa-of-the-classifier";
/// What no file that the transfer account can read may hold.
const SECRETS: [&str; 4] = ["PRIVATE KEY", "AGE-SECRET-KEY", ROW, PARAMETER];

/// A pair with all three kinds of data sets, everything of A's sent to B.
pub(crate) struct Everything {
    pub(crate) a: Master,
    pub(crate) b: Master,
    at_b: ClassifierDouble,
    _at_a: ClassifierDouble,
    _on_a: Cluster,
    on_b: Cluster,
}

impl Everything {
    pub(crate) fn sent() -> Option<Self> {
        let Pair {
            mut a,
            mut b,
            mut ca,
        } = Pair::prepared()?;
        ca.sign("node1.lab").unwrap();
        let start = || skip::need(Cluster::start_with(&ClusterOptions::default().peer()));
        let (on_a, on_b) = (start()?, start()?);
        on_a.create_rbac_like(NAME).unwrap();
        on_a.sql(
            NAME,
            &format!("insert into rbac.disclaimers (body) values ('{ROW}');"),
        )
        .unwrap();
        on_b.create_rbac_roles().unwrap();
        let mut groups = captured();
        groups.push(json!({
            "name": "With a secret", "id": "1b500c43-5065-469b-91fc-37ed0e500e81",
            "parent": "00000000-0000-4000-8000-000000000000", "environment": "production", "environment_trumps": false,
            "classes": {"profile::db": {"password": PARAMETER}}, "variables": {},
        }));
        let at_a = ClassifierDouble::start(Options::default().allow(A).groups(groups.clone()));
        let at_b = ClassifierDouble::start(Options::default().allow(B));
        at_b.deploy_classes_of(&groups);
        a.use_database(&on_a, &[NAME]);
        b.use_database(&on_b, &[NAME]);
        a.use_classifier(&at_a, "");
        b.use_classifier(&at_b, "");
        masters::pair(&a, &b);
        a.pefo(["ca", "push", "--seed"]).exits(0);
        a.pefo(["nc", "push"]).exits(0);
        a.pefo(["db", "push"]).exits(0);
        Some(Self {
            a,
            b,
            at_b,
            _at_a: at_a,
            _on_a: on_a,
            on_b,
        })
    }
}

fn account() -> TransferAccount {
    TransferAccount::ensure().unwrap()
}

/// Runs a script as the transfer account; it must succeed.
#[track_caller]
pub(crate) fn as_transfer(script: &str) {
    let output = account().run(script);
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Those of `paths` that the transfer account can read, tried one by one: it needs not be able to list
/// a directory to know a name in it.
pub(crate) fn readable(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut child = account()
        .command("/bin/sh")
        .args(["-c", "while IFS= read -r path; do if [ -f \"$path\" ] && head -c 1 \"$path\" >/dev/null 2>&1; then echo \"$path\"; fi; done"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let names: String = paths
        .iter()
        .map(|path| format!("{}\n", path.display()))
        .collect();
    let mut input = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || input.write_all(names.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(PathBuf::from)
        .collect()
}

/// Which secret stands in which of the files.
fn secrets_in(paths: &[PathBuf]) -> Vec<(PathBuf, &'static str)> {
    let mut found = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).unwrap();
        let holds = |secret: &&str| {
            bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        };
        found.extend(
            SECRETS
                .into_iter()
                .filter(|secret| holds(secret))
                .map(|secret| (path.clone(), secret)),
        );
    }
    found
}

/// Every file of a master's: its own directory and its sshd's.
pub(crate) fn all_files(master: &Master) -> Vec<PathBuf> {
    let mut paths = files(master.directory());
    paths.extend(files(master.sshd().directory()));
    paths
}

fn under<'a>(dir: &'a Path, paths: &'a [PathBuf]) -> impl Iterator<Item = &'a PathBuf> {
    paths.iter().filter(move |path| path.starts_with(dir))
}

#[test]
fn the_transfer_account_finds_no_key_no_row_and_no_parameter_wherever_it_reads() {
    let Some(all) = Everything::sent() else {
        return;
    };
    let Everything { a, b, .. } = &all;
    for step in ["as it was sent", "once it is applied"] {
        for master in [a, b] {
            let reached = readable(&all_files(master));
            assert_eq!(secrets_in(&reached), [], "{} {step}", master.certname());
            assert!(
                reached.contains(&master.state().join("public/station.json")),
                "it reads what it must"
            );
            assert_eq!(under(&master.state().join("keys"), &reached).count(), 0);
        }
        let spool = readable(&files(&b.spool()));
        for dataset in ["ca", "nc", "db-pe-rbac"] {
            let dir = b.spool().join("generations").join(dataset);
            assert!(
                under(&dir, &spool).any(|path| path.ends_with("manifest")),
                "it reads {dataset} in its own spool"
            );
            assert!(under(&dir, &spool).count() > 1);
        }
        assert!(
            under(&b.spool(), &spool).any(|path| path.ends_with("ca_key.pem")),
            "the key lies there, sealed"
        );
        b.pefo(["apply"]).exits(0);
    }
    // The search finds them where they are: in root's own files.
    let roots = secrets_in(&all_files(b));
    for secret in ["PRIVATE KEY", "AGE-SECRET-KEY", ROW, PARAMETER] {
        assert!(
            roots.iter().any(|(_, found)| *found == secret),
            "{secret} stands nowhere in root's own: {roots:?}"
        );
    }
}

#[test]
fn the_accounts_rewriting_of_every_file_after_verification_changes_nothing() {
    let Some(all) = Everything::sent() else {
        return;
    };
    let Everything {
        a, b, at_b, on_b, ..
    } = &all;
    b.pefo(["apply"]).exits(0);
    let oid = || {
        on_b.query_text(
            "postgres",
            "select oid from pg_database where datname = 'pe-rbac'",
        )
        .unwrap()
    };
    let before = (contents(&b.cadir()), at_b.groups(), oid());
    let applied = |run: masters::Run| -> Vec<Value> {
        run.json()["details"]["datasets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| json!([row["received"], row["applied"], row["health"]]))
            .collect()
    };
    let status = applied(b.pefo(["status", "--json"]).exits(0));
    assert!(
        status
            .iter()
            .all(|row| row[0] == row[1] && !row[0].is_null()),
        "{status:?}"
    );

    let mine = files(&b.spool()).len();
    assert!(mine > 20);
    as_transfer(&format!(
        "find {} -type f | while read -r file; do echo rewritten > \"$file\" || exit 1; done",
        b.spool().display()
    ));
    assert_eq!(applied(b.pefo(["status", "--json"]).exits(0)), status);
    let again = b.pefo(["apply", "--json"]).exits(0).json();
    assert_eq!(again["outcome"], "unchanged", "{again:#}");
    assert_eq!((contents(&b.cadir()), at_b.groups(), oid()), before);
    b.pefo(["check"]).exits(0);

    // And so does its removing of everything; then A goes on as before.
    as_transfer(&format!("find {} -mindepth 1 -delete", b.spool().display()));
    assert_eq!(
        b.pefo(["apply", "--json"]).exits(0).json()["outcome"],
        "unchanged"
    );
    assert_eq!((contents(&b.cadir()), at_b.groups(), oid()), before);
    assert_eq!(applied(b.pefo(["status", "--json"]).exits(0)), status);
    a.pefo(["push"]).exits(0);
    assert_eq!(applied(a.pefo(["status", "--json"]).exits(0)).len(), 3);
}

/// What an intruder in the transfer account does to the newest generation before root has looked at it,
/// as shell, `$1` being the generation; and how root answers.
pub(crate) const TAMPERINGS: [(&str, &str, &str); 9] = [
    (
        "rewrites a file",
        "echo revoked nothing > $1/data/ca_crl.pem",
        "[digest]",
    ),
    (
        "rewrites every file",
        "find $1/data -type f | while read -r f; do echo x > $f; done",
        "[digest]",
    ),
    (
        "makes a file endless",
        "truncate -s 1T $1/data/serial",
        "[digest]",
    ),
    (
        "removes a file",
        "rm $1/data/inventory.txt",
        "inventory.txt",
    ),
    (
        "changes one letter of the manifest",
        "sed -i 's/\"tool\":\"pefo/\"tool\":\"pefO/' $1/manifest",
        "[signature]",
    ),
    (
        "writes a manifest of its own",
        "echo all is well > $1/manifest",
        "document",
    ),
    (
        "puts a symlink for a file",
        "ln -sf /etc/shadow $1/data/serial",
        "[spool-symlink]",
    ),
    (
        "puts a symlink for a directory",
        "mv $1/data $1/away; ln -s away $1/data",
        "[spool-symlink]",
    ),
    (
        "puts a FIFO for a file",
        "rm $1/data/serial; mkfifo $1/data/serial",
        "not a regular file",
    ),
];

#[test]
fn what_the_account_changes_before_verification_is_refused_and_a_new_push_heals_it() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.sync();
    for (number, (what, script, answer)) in TAMPERINGS.into_iter().enumerate() {
        let node = format!("node{number}.lab");
        pair.ca.sign(&node).unwrap();
        pair.a.pefo(["ca", "push"]).exits(0);
        let before = tree(&pair.b.cadir());
        let newest = generations(&pair.b, "ca").pop().unwrap();
        as_transfer(&format!("set -e; set -- {}; {script}", newest.display()));
        let run = pair.b.pefo(["ca", "apply"]);
        assert!([1, 3].contains(&run.code), "{what}: {run:?}");
        assert!(run.stderr.contains(answer), "{what}: {}", run.stderr);
        assert_eq!(
            run.code == 3,
            run.stderr.contains("refused: "),
            "{what}: {}",
            run.stderr
        );
        assert!(tree(&pair.b.cadir()) == before, "{what}: the CA changed");
        assert!(
            !pair
                .b
                .state()
                .join("store/ca")
                .join(newest.file_name().unwrap())
                .exists(),
            "{what}: kept in root's store"
        );
        // Nothing changed at A: the ack alone asks for it to be sent again.
        let again = pair.a.pefo(["ca", "push", "--json"]).exits(0).json();
        assert_eq!(again["outcome"], "ok", "{what}: {again:#}");
        pair.b.pefo(["ca", "apply"]).exits(0);
        assert!(
            pair.b.cadir().join(format!("signed/{node}.pem")).exists(),
            "{what}: not healed"
        );
        assert_eq!(
            pair.a.pefo(["ca", "push", "--json"]).exits(0).json()["outcome"],
            "unchanged",
            "{what}: sent without end"
        );
    }
}

#[test]
fn a_generation_that_the_account_removes_unseen_is_sent_again() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.sync();
    pair.ca.sign("node1.lab").unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    as_transfer(&format!(
        "rm -r {}",
        generations(&pair.b, "ca").pop().unwrap().display()
    ));
    assert_eq!(
        pair.b.pefo(["ca", "apply", "--json"]).exits(0).json()["outcome"],
        "unchanged"
    );
    assert_eq!(
        pair.a.pefo(["ca", "push", "--json"]).exits(0).json()["outcome"],
        "ok"
    );
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
    assert_eq!(
        pair.a.pefo(["ca", "push", "--json"]).exits(0).json()["outcome"],
        "unchanged"
    );
}

#[test]
fn symlinks_fifos_and_names_planted_beside_generations_lead_nobody_astray() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let dir = pair.b.spool().join("generations/ca");
    // Names that look like generations, newer than all: none is one.
    as_transfer(&format!(
        "cd {}; ln -s /etc 00000009-000000000001; mkfifo 00000009-000000000002; ln -s /etc/shadow 00000009-000000000003.batch; \
         mkdir 00000009-4 junk .pefo-x.tmp; echo x > README",
        dir.display()
    ));
    pair.ca.sign("node1.lab").unwrap();
    pair.sync();
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
    // A heartbeat of its own making is none.
    as_transfer(&format!(
        "cd {}/heartbeats; rm -f *; echo forged > {A}; mkfifo {B}",
        pair.b.spool().display()
    ));
    pair.b.pefo(["ca", "apply"]).exits(0);
    pair.b.pefo(["status"]).exits(0);

    // The data set's directory itself led elsewhere: root does not follow.
    pair.ca.sign("node2.lab").unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    let before = tree(&pair.b.cadir());
    as_transfer(&format!(
        "mv {0} {0}.away; ln -s {0}.away {0}",
        dir.display()
    ));
    refused_as(&pair.b, &["ca", "apply"], "spool-symlink");
    assert!(tree(&pair.b.cadir()) == before);
    as_transfer(&format!("rm {0}; mv {0}.away {0}", dir.display()));
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert!(pair.b.cadir().join("signed/node2.lab.pem").exists());
}

#[test]
fn an_older_generation_put_back_is_not_applied() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.ca.sign("node1.lab").unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    let old = generations(&pair.b, "ca").pop().unwrap();
    let copy = pair.b.spool().join("old");
    as_transfer(&format!("cp -r {} {}", old.display(), copy.display()));
    pair.ca.revoke("node1.lab").unwrap();
    pair.sync();
    let before = tree(&pair.b.cadir());
    // Under its own name, then under a newer one.
    as_transfer(&format!(
        "rm -rf {0}; cp -r {1} {0}",
        old.display(),
        copy.display()
    ));
    assert_eq!(
        pair.b.pefo(["ca", "apply", "--json"]).exits(0).json()["outcome"],
        "unchanged"
    );
    as_transfer(&format!(
        "cp -r {} {}/00000001-000000000077",
        copy.display(),
        old.parent().unwrap().display()
    ));
    refused_as(&pair.b, &["ca", "apply"], "generation-name");
    assert!(tree(&pair.b.cadir()) == before);
}
