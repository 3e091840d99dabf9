//! Puppet code on both masters: deployed by r10k from a real git repository, by Code Manager's command, or by a
//! program of the site's; drift named by environment.

mod managers;
mod r10k;

use std::path::{Path, PathBuf};

use pefo_testkit::masters::{Master, Run};
use serde_json::Value;

use crate::pair::Pair;

/// Where a master's environments are.
pub(crate) fn environments(master: &Master) -> PathBuf {
    master.directory().join("environments")
}

/// A master's `[code]`.
fn configure(master: &mut Master, more: &str) {
    let dir = environments(master);
    master.configure(&format!(
        "[code]\nenvironments = \"{}\"\n{more}\n",
        dir.display()
    ));
}

/// Writes a file of an environment by hand.
fn write(master: &Master, path: &str, text: &str) {
    let path = environments(master).join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What is deployed on A is told to B, which compares.
fn carry(pair: &Pair) -> Run {
    pair.a.pefo(["push", "code"]).exits(0);
    pair.b.pefo(["apply", "code"])
}

/// The drift that a run with `--json` tells, by environment.
fn drift(details: &Value) -> Vec<(String, String)> {
    let drift = details["drift"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    drift
        .iter()
        .map(|it| (text(&it["environment"]), text(&it["reason"])))
        .collect()
}

/// A plain pair whose environments are directories that nobody's record tells of.
fn plain(more: &str) -> Option<Pair> {
    let Pair { mut a, mut b, ca } = Pair::seeded()?;
    for master in [&mut a, &mut b] {
        configure(master, &format!("manager = \"command\"\n{more}"));
        for path in ["production/manifests/site.pp", "test/manifests/site.pp"] {
            write(master, path, "node default {}\n");
        }
    }
    Some(Pair { a, b, ca })
}

#[test]
fn a_tree_without_git_that_differs_by_one_byte_is_named_on_both_masters() {
    let Some(pair) = plain("command = [\"true\"]") else {
        return;
    };
    let Pair { a, b, .. } = &pair;
    let run = b.pefo(["code", "status"]).exits(3);
    assert!(
        run.stdout
            .starts_with("PEFO UNKNOWN: code: nothing was accepted yet"),
        "{}",
        run.stdout
    );
    let run = carry(&pair).exits(0);
    assert!(
        run.stdout.contains("in step with puppet-a.lab"),
        "{}",
        run.stdout
    );
    let run = b.pefo(["code", "status"]).exits(0);
    let first = "PEFO OK: 2 environments, none of which drifts from puppet-a.lab, by what it sent ";
    assert!(run.stdout.starts_with(first), "{}", run.stdout);
    assert!(
        run.stdout.contains("| 'drift'=0 'environments'=2 'lag'="),
        "{}",
        run.stdout
    );

    let _watch = b.watch();
    a.pefo(["code", "status"]).exits(0);
    write(b, "test/manifests/site.pp", "node default { }\n");
    let run = b.pefo(["code", "status"]).exits(1);
    assert!(
        run.stdout
            .starts_with("PEFO WARNING: 1 of 2 environments drift from puppet-a.lab"),
        "{}",
        run.stdout
    );
    let told = "\n  test: other files than on puppet-a.lab: manifests/site.pp\n";
    assert!(run.stdout.contains(told), "{}", run.stdout);
    // The active asks, and is told no names of files.
    let run = a.pefo(["code", "status"]).exits(1);
    assert!(
        run.stdout
            .starts_with("PEFO WARNING: 1 of 2 environments drift on 1 of 1 peers"),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout
            .ends_with("\n  test: other files than on puppet-b.lab\n"),
        "{}",
        run.stdout
    );
    let told = b.pefo(["code", "status", "--json"]).exits(1).json();
    assert_eq!(
        drift(&told["details"]),
        [("test".to_owned(), "other_tree".to_owned())]
    );

    // Nothing new to tell: nothing is sent, and the drift is told all the same.
    let run = a.pefo(["push", "code"]).exits(0);
    assert!(run.stdout.starts_with("code: unchanged"), "{}", run.stdout);
    let run = b.pefo(["apply", "code", "--json"]).exits(0).json();
    assert_eq!(run["outcome"], "unchanged", "{run:#}");
    assert_eq!(drift(&run["details"])[0].0, "test");
    let verified = b.pefo(["verify"]).exits(1).stdout;
    assert!(
        verified.contains("\ncode: WARNING: 1 of 2 environments drift"),
        "{verified}"
    );
    let verified = a.pefo(["verify"]).exits(1).stdout;
    assert!(
        verified.contains("\ncode: WARNING: 1 of 2 environments drift"),
        "{verified}"
    );
    let drilled = b.pefo(["drill"]).exits(0).stdout;
    assert!(
        drilled.contains("1 of 2 environments drift\n  test: other files"),
        "{drilled}"
    );
    let status = b.pefo(["status"]).exits(1).stdout;
    assert!(status.contains("not as on puppet-a.lab: test"), "{status}");
    assert_eq!(crate::alerts::problems(b, "drift").len(), 1);
    write(b, "test/manifests/site.pp", "node default {}\n");
    b.pefo(["apply", "code"]).exits(0);
    b.pefo(["status"]).exits(0);
    b.pefo(["verify"]).exits(0);
}

#[test]
fn an_active_whose_directory_is_gone_tells_so_and_a_spare_without_one_lacks_all() {
    let Some(pair) = plain("command = [\"true\"]") else {
        return;
    };
    let Pair { a, b, .. } = &pair;
    std::fs::remove_dir_all(environments(b)).unwrap();
    let run = carry(&pair).exits(0);
    assert!(
        run.stdout
            .contains("drift: production: not here; on puppet-a.lab\n"),
        "{}",
        run.stdout
    );
    let run = b.pefo(["check"]).exits(1);
    assert!(run.stdout.contains("warning  code"), "{}", run.stdout);
    std::fs::remove_dir_all(environments(a)).unwrap();
    let run = a.pefo(["push", "code", "--json"]).exits(2).json();
    assert_eq!(run["errors"][0]["kind"], "config", "{run:#}");
    let run = b.pefo(["code", "status"]).exits(1);
    assert!(run.stdout.contains("2 of 2 environments"), "{}", run.stdout);
}

#[test]
fn what_has_drifted_is_deployed_where_that_is_asked_for_and_never_by_a_change_of_role() {
    let Some(mut pair) = plain("command = [\"true\"]") else {
        return;
    };
    // B's program takes what A has; the second environment it cannot deploy.
    let (from, to) = (environments(&pair.a), environments(&pair.b));
    let log = pair.b.directory().join("deployed.log");
    let script = pair.b.directory().join("deploy.sh");
    let text = format!(
        "#!/bin/sh\nset -eu\necho \"$1 as $(id -un) in $LC_ALL at $HOME\" >>{}\n[ \"$1\" != test ] || {{ echo no such branch >&2; exit 3; }}\n\
         rm -rf {to}/$1\ncp -R {from}/$1 {to}/$1\n",
        log.display(),
        from = from.display(),
        to = to.display(),
    );
    std::fs::write(&script, text).unwrap();
    crate::evidence::edit_config(
        &pair.b,
        "command = [\"true\"]",
        &format!(
            "command = [\"/bin/sh\", \"{}\", \"{{}}\"]\ndeploy = \"on-drift\"",
            script.display()
        ),
    );
    let run = carry(&pair).exits(0);
    assert!(run.stdout.contains("in step"), "{}", run.stdout);
    assert_eq!(read(&log), "", "what has not drifted is left alone");
    write(
        &pair.a,
        "production/manifests/site.pp",
        "node default { include base }\n",
    );
    write(&pair.a, "fresh/manifests/site.pp", "");
    write(&pair.b, "left/manifests/site.pp", "");
    let run = carry(&pair).exits(0);
    for told in [
        "deployed production: tree ",
        "deployed fresh: new, ",
        "drift: left: not on puppet-a.lab; here\n",
    ] {
        assert!(run.stdout.contains(told), "{told}: {}", run.stdout);
    }
    assert_eq!(
        read(&log),
        "fresh as root in C.UTF-8 at /root\nproduction as root in C.UTF-8 at /root\n"
    );

    // One that cannot be deployed is told; what was received counts as applied.
    write(&pair.a, "test/manifests/site.pp", "# new\n");
    let run = carry(&pair).exits(4);
    assert!(run.stderr.contains("test: /bin/sh"), "{}", run.stderr);
    assert!(
        run.stderr.contains("exit code 3: no such branch"),
        "{}",
        run.stderr
    );
    assert!(
        run.stdout.contains("drift: test: other files"),
        "{}",
        run.stdout
    );
    let rows = crate::reigns::status(&pair.b)["datasets"].to_string();
    assert!(
        rows.contains("not as on puppet-a.lab: left, test"),
        "{rows}"
    );

    write(&pair.a, "production/manifests/site.pp", "# newer\n");
    pair.a.pefo(["push", "code"]).exits(0);
    pair.a.stop_sshd();
    let before = read(&log);
    pair.b.pefo(["promote"]).exits(0);
    assert_eq!(
        read(&log),
        before,
        "a promotion waits for no control repository"
    );
    assert_eq!(crate::reigns::stands(&pair.b).0, "active");
}

#[test]
fn without_code_in_the_configuration_nothing_of_it_is_done() {
    let Some(pair) = Pair::seeded() else { return };
    pair.a.pefo(["push"]).exits(0);
    let pushed = pair.a.pefo(["push", "code", "--json"]).exits(2).json();
    assert_eq!(
        pushed["errors"][0]["hint"],
        "add a [code] section; 'pefo config example' shows one"
    );
    pair.b.pefo(["code", "deploy"]).exits(2);
    let run = pair.b.pefo(["code", "deploy", "../etc"]).exits(2);
    assert!(
        run.stderr.contains("has a character that none has"),
        "{}",
        run.stderr
    );
    // A is set up for code, and B is not.
    let Pair { mut a, b, .. } = pair;
    configure(&mut a, "manager = \"command\"\ncommand = [\"true\"]");
    write(&a, "production/manifests/site.pp", "");
    a.pefo(["push", "code"]).exits(0);
    let run = b.pefo(["apply", "code", "--json"]).exits(4).json();
    assert_eq!(run["errors"][0]["kind"], "config", "{run:#}");
}
