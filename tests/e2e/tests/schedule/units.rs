//! systemd's units: its own checks of them, and each service run as its unit says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pefo_testkit::child::Child;
use pefo_testkit::masters::Master;
use pefo_testkit::unit::Unit;
use pefo_testkit::{skip, wait};
use rustix::process::Signal;

use super::{LONG, install};
use crate::classifier::{captured, web_servers};
use crate::commands::world::World;

/// The units of one shape, installed into a directory.
fn units(master: &Master, root: &Path, shape: &str) -> Vec<PathBuf> {
    install(master, root, &["--format", "systemd", "--as", shape]).exits(0);
    let entries = std::fs::read_dir(root.join("etc/systemd/system")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn services(master: &Master, root: &Path, shape: &str) -> Vec<Unit> {
    let files = units(master, root, shape);
    files
        .iter()
        .filter(|path| is_service(path))
        .map(|path| Unit::read(path))
        .collect()
}

/// The most that a service may be exposed to, in tenths of systemd's points (10 is all, 0 nothing). The database's socket
/// lies in /tmp here, which costs 0.2.
const EXPOSURE: &str = "28";

#[test]
fn systemd_finds_nothing_wrong_with_any_unit_and_little_that_a_service_could_do() {
    let analyze = Path::new("/usr/bin/systemd-analyze");
    if skip::need(skip::require_path(analyze, "no-systemd-analyze", "systemd")).is_none() {
        return;
    }
    let Some(mut world) = World::prepared() else {
        return;
    };
    world
        .a
        .configure("[schedule]\ndrill = \"weekly\"\n\n[services]\non_fence = [\"sign\"]\n\n");
    world.a.pefo(["init", "active"]).exits(0);
    for hooks in ["", "[hooks]\nrole_changed = [\"/bin/true\"]\n\n"] {
        world.a.configure(hooks);
        for shape in ["timers", "watch", "daemon"] {
            let root = tempfile::tempdir().unwrap();
            let files = units(&world.a, root.path(), shape);
            let output = Command::new(analyze).arg("verify").args(&files).output();
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
            for file in files.iter().filter(|file| is_service(file)) {
                let mut security = Command::new(analyze);
                security.args(["security", "--offline=true", "--no-pager"]);
                security.args(["--threshold", EXPOSURE]).arg(file);
                let output = security.output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout);
                let weak: Vec<&str> = said.lines().filter(|line| !line.starts_with('✓')).collect();
                assert!(
                    output.status.success(),
                    "{} is over {EXPOSURE}: {}",
                    file.display(),
                    weak.join("\n")
                );
            }
        }
    }
}

fn is_service(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "service")
}

/// Runs one service as its unit says; it ends with 0 and is silent where it is the other role's.
#[track_caller]
fn run(units: &[Unit], name: &str) -> Option<String> {
    let unit = units.iter().find(|unit| unit.name() == name);
    let unit = unit.unwrap_or_else(|| panic!("no {name}"));
    let output = skip::need(unit.command())?
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}{errors}");
    assert_eq!(errors, "", "{name}");
    Some(said)
}

const ACTIVES: [&str; 4] = ["ca-push", "nc-push", "files-push", "db-push"];
const PASSIVES: [&str; 4] = ["ca-apply", "nc-restore", "files-apply", "db-restore"];

#[test]
fn every_service_does_its_part_under_its_own_restrictions_and_the_other_roles_nothing() {
    let Some(mut world) = World::in_step() else {
        return;
    };
    let roots = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let on_a = services(&world.a, roots[0].path(), "timers");
    let on_b = services(&world.b, roots[1].path(), "timers");
    let names: BTreeSet<&str> = on_a.iter().map(Unit::name).collect();
    let all = ACTIVES.iter().chain(&PASSIVES).chain(&["fence"]);
    let all: Vec<String> = all.map(|name| format!("pefo-{name}.service")).collect();
    assert_eq!(names, all.iter().map(String::as_str).collect());

    world.ca.sign("boxed.lab").unwrap();
    let mut groups = captured();
    groups.push(web_servers("boxed"));
    world.at_b.deploy_classes_of(&groups);
    world.at_a.set_groups(groups);
    let insert = "insert into rbac.disclaimers (body) values ('boxed');";
    world.on_a.sql("pe-rbac", insert).unwrap();
    for (units, parts, others) in [(&on_a, ACTIVES, PASSIVES), (&on_b, PASSIVES, ACTIVES)] {
        for part in parts {
            let Some(said) = run(units, &format!("pefo-{part}.service")) else {
                return;
            };
            // No file has changed.
            let idle = part.starts_with("files");
            assert_eq!(said.is_empty(), idle, "{part}: {said}");
            // A second time there is nothing to do, nor to say.
            assert_eq!(
                run(units, &format!("pefo-{part}.service")).unwrap(),
                "",
                "{part}"
            );
        }
        for other in others {
            assert_eq!(
                run(units, &format!("pefo-{other}.service")).unwrap(),
                "",
                "{other}"
            );
        }
        assert_eq!(run(units, "pefo-fence.service").unwrap(), "");
    }
    assert!(world.b.cadir().join("signed/boxed.lab.pem").exists());
    assert!(
        world
            .at_b
            .groups()
            .iter()
            .any(|group| group["name"] == "Web servers")
    );
    let rows = "select count(*) from rbac.disclaimers where body = 'boxed'";
    assert_eq!(world.on_b.query_text("pe-rbac", rows).unwrap().trim(), "1");

    // And they are held to it: what another service writes, one that has no business there cannot.
    let of_database = on_b
        .iter()
        .find(|unit| unit.name() == "pefo-db-restore.service")
        .unwrap();
    let cadir = world.b.cadir();
    let attempts = [
        format!("echo x > {}/planted", cadir.display()),
        format!("echo x > {}/planted", world.b.spool().display()),
        "echo x > /etc/planted".to_owned(),
        format!("chmod 0666 {}", world.b.config_path().display()),
    ];
    for attempt in attempts {
        let words = ["/bin/sh".to_owned(), "-c".to_owned(), attempt];
        let status = skip::need(of_database.confine(&words))
            .unwrap()
            .stderr(Stdio::null())
            .status();
        assert!(!status.unwrap().success(), "{words:?}");
    }
    world.ca.sign("late.lab").unwrap();
    world.a.pefo(["ca", "push"]).exits(0);
    let mut words = of_database.words();
    let at = words.iter().position(|word| word == "db").unwrap();
    words.splice(at.., ["ca".to_owned(), "apply".to_owned()]);
    let output = skip::need(of_database.confine(&words))
        .unwrap()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("Read-only file system"),
        "{said}"
    );
    assert!(!cadir.join("signed/late.lab.pem").exists());
}

#[test]
fn a_watch_and_a_daemon_live_under_their_restrictions_and_stop_when_they_are_told() {
    let Some(mut world) = World::in_step() else {
        return;
    };
    for (shape, name) in [("watch", "pefo-watch.service"), ("daemon", "pefo.service")] {
        let start = |master: &Master| {
            let root = tempfile::tempdir().unwrap();
            let units = services(master, root.path(), shape);
            let unit = units
                .iter()
                .find(|unit| unit.name() == name)
                .unwrap()
                .clone();
            skip::need(unit.command()).map(|mut command| {
                let log = std::fs::File::create(master.directory().join("watch.log")).unwrap();
                command.stdout(log.try_clone().unwrap()).stderr(log);
                Child::spawn(&mut command)
            })
        };
        let (Some(a), Some(b)) = (start(&world.a), start(&world.b)) else {
            return;
        };
        let certname = format!("{shape}.lab");
        world.ca.sign(&certname).unwrap();
        let arrives = world.b.cadir().join(format!("signed/{certname}.pem"));
        if wait::within(LONG, || arrives.exists().then_some(())).is_none() {
            panic!("{shape}\n{}\n{}", world.a.watch_log(), world.b.watch_log());
        }
        for (mut child, master) in [(a, &world.a), (b, &world.b)] {
            child.signal(Signal::TERM);
            wait::until("its end", LONG, || child.ended().is_some());
            let code = child.ended().and_then(|status| status.code());
            assert_eq!(code, Some(0), "{}", master.watch_log());
        }
    }
}
