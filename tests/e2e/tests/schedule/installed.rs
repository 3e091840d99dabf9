//! What `pefo schedule install` writes, leaves alone and takes away.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pefo_testkit::masters::Master;
use serde_json::Value;

use super::install;
use crate::evidence::{fails_as, tree};
use crate::pair::Pair;

const UNITS: &str = "etc/systemd/system";

/// The units' names that stand there.
fn units(root: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(root.join(UNITS)) else {
        return BTreeSet::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("pefo")).collect()
}

/// Those that start by themselves: what `systemctl enable` has linked.
fn enabled(root: &Path) -> BTreeSet<String> {
    let wants = ["multi-user.target.wants", "timers.target.wants"];
    let dirs = wants.map(|wants| root.join(UNITS).join(wants));
    let entries = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    let names = entries.flatten().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn details(master: &Master, root: &Path, more: &[&str]) -> Value {
    let run = install(master, root, &[more, &["--json"]].concat()).exits(0);
    run.json()["details"].clone()
}

#[test]
fn a_schedule_is_installed_once_replaced_by_another_and_removed_without_a_trace() {
    let Some(Pair { a, .. }) = Pair::paired() else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let daemon = ["--format", "systemd", "--as", "daemon"];
    let dry = install(&a, root, &[&daemon[..], &["--dry-run"]].concat()).exits(0);
    assert!(dry.stdout.contains("+ExecStart="), "{}", dry.stdout);
    assert!(tree(root).is_empty());

    install(&a, root, &daemon).exits(0);
    let both = names(["pefo-fence.service", "pefo.service"]);
    assert_eq!((units(root), enabled(root)), (both.clone(), both));
    let before = tree(root);
    let again = install(&a, root, &[&daemon[..], &["--json"]].concat()).exits(0);
    assert_eq!(again.json()["outcome"], "unchanged");
    assert_eq!(tree(root), before);

    // What the other shape has no use for goes.
    let watch = details(&a, root, &["--format", "systemd", "--as", "watch"]);
    assert_eq!(watch["removed"].as_array().unwrap().len(), 1, "{watch:#}");
    let both = names(["pefo-fence.service", "pefo-watch.service"]);
    assert_eq!((units(root), enabled(root)), (both.clone(), both));

    // Never both of them: cron's takes the place of systemd's, and the other way round.
    install(&a, root, &["--format", "cron"]).exits(0);
    assert!(units(root).is_empty() && enabled(root).is_empty());
    let table = root.join("etc/cron.d/pefo");
    assert!(table.exists());
    install(&a, root, &["--format", "systemd", "--as", "timers"]).exits(0);
    assert!(!table.exists());
    let timers = names([
        "pefo-ca-apply.timer",
        "pefo-ca-push.timer",
        "pefo-fence.service",
    ]);
    assert_eq!(enabled(root), timers);

    let remove = ["schedule", "remove", "--root", root.to_str().unwrap()];
    let dry = a.pefo(remove.into_iter().chain(["--dry-run"])).exits(0);
    assert!(dry.stdout.contains("-ExecStart="), "{}", dry.stdout);
    assert_eq!(enabled(root), timers);
    a.pefo(remove).exits(0);
    assert!(units(root).is_empty() && enabled(root).is_empty());
    let left = tree(root)
        .into_keys()
        .filter(|path| root.join(path).is_file());
    assert_eq!(left.collect::<Vec<PathBuf>>(), Vec::<PathBuf>::new());
    assert_eq!(
        a.pefo(remove.into_iter().chain(["--json"])).json()["outcome"],
        "unchanged"
    );
}

#[test]
fn what_somebody_else_wrote_is_left_alone_until_it_is_said_by_name() {
    let Some(Pair { a, .. }) = Pair::paired() else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let table = root.join("etc/cron.d/pefo");
    std::fs::create_dir_all(table.parent().unwrap()).unwrap();
    std::fs::write(&table, "# mine\n").unwrap();
    let to = root.to_str().unwrap();
    let install = ["schedule", "install", "--format", "cron", "--root", to];
    let error = fails_as(&a, &install, 3, "refused");
    assert_eq!(error["rule"], "schedule-foreign");
    a.pefo(["schedule", "remove", "--root", to]).exits(0);
    assert_eq!(std::fs::read_to_string(&table).unwrap(), "# mine\n");
    let accepted = ["--accept", "schedule-foreign"];
    a.pefo(install.into_iter().chain(accepted)).exits(0);
    assert!(
        std::fs::read_to_string(&table)
            .unwrap()
            .starts_with("# written by pefo")
    );

    // cron keeps nothing running, and says so.
    let error = fails_as(
        &a,
        &["schedule", "print", "--format", "cron", "--as", "daemon"],
        2,
        "config",
    );
    assert!(error["hint"].as_str().unwrap().contains("--format systemd"));
}

#[test]
fn what_is_scheduled_is_silent_where_it_is_the_other_roles_or_paused_and_a_command_is_not() {
    let Some(pair) = Pair::seeded() else { return };
    let quiet = |master: &Master, words: &[&str]| {
        let run = master.pefo(["--scheduled"].into_iter().chain(words.iter().copied()));
        let run = run.exits(0);
        assert_eq!(
            (run.stdout.as_str(), run.stderr.as_str()),
            ("", ""),
            "{}",
            run.line
        );
    };
    let records = |master: &Master| tree(&master.state().join("runs")).len();
    let before = records(&pair.b);
    for command in [["ca", "push"], ["ca", "apply"]] {
        let other = if command[1] == "push" {
            &pair.b
        } else {
            &pair.a
        };
        quiet(other, &command);
        fails_as(other, &command, 6, "wrong_role");
    }
    assert_eq!(
        records(&pair.b),
        before,
        "the other's part is no run of this host's"
    );
    pair.a.pefo(["pause"]).exits(0);
    quiet(&pair.a, &["ca", "push"]);
    fails_as(&pair.a, &["ca", "push"], 3, "refused");
    pair.a.pefo(["resume"]).exits(0);
    // Another run is at it.
    let watch = pair.a.watch();
    pefo_testkit::wait::until("the watch", super::LONG, || {
        pair.a.watch_log().contains("watching")
    });
    quiet(&pair.a, &["ca", "push"]);
    drop(watch);
    // What goes wrong is told all the same.
    std::fs::rename(pair.a.cadir(), pair.a.directory().join("away")).unwrap();
    let run = pair.a.pefo(["--scheduled", "ca", "push"]).exits(3);
    assert!(run.refused_by("ca-missing"), "{}", run.stderr);
}
