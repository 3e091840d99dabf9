//! `pefo run` as the one daemon: what it tells systemd, its clock, and what it does where a part fails.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pefo_testkit::child::Child;
use pefo_testkit::masters::Master;
use pefo_testkit::{skip, wait};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{LONG, in_minutes, minutes};
use crate::commands::world::World;
use crate::evidence::{any_record, edit_config, fails_as, newest_record};
use crate::pair::Pair;

/// Who a service talks to, as systemd.
struct Manager {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { directory, socket }
    }

    /// Starts a service of this manager's, which is to show that it lives within `watchdog`.
    fn start(&self, master: &Master, words: &[&str], watchdog: Duration) -> Child {
        let log = master.directory().join("watch.log");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let mut command = master.command();
        command
            .env("NOTIFY_SOCKET", self.directory.path().join("notify"))
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string())
            .arg("-v")
            .args(words)
            .stderr(log);
        Child::spawn(&mut command)
    }

    /// What comes next, within `limit`.
    fn hears(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    /// All until something that begins so.
    #[track_caller]
    fn hears_until(&self, what: &str) -> Vec<String> {
        let (began, mut all) = (Instant::now(), Vec::new());
        while began.elapsed() < LONG {
            all.extend(self.hears(LONG));
            if all.last().is_some_and(|last| last.starts_with(what)) {
                return all;
            }
        }
        panic!("{what} was not heard: {all:?}");
    }
}

/// The id of a process's thread of this name.
fn thread(process: u32, name: &str) -> Option<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap());
    let task = tasks.find(|task| {
        let told = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        told.trim() == name
    });
    task.map(|task| task.file_name().into_string().unwrap())
}

#[test]
fn systemd_hears_that_it_watches_that_it_lives_how_it_does_and_that_it_stops() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    for words in [&["run"][..], &["ca", "watch"]] {
        let managers = [Manager::new(), Manager::new()];
        let [a, b] = [&pair.a, &pair.b];
        let mut services: Vec<Child> = [a, b]
            .into_iter()
            .zip(&managers)
            .map(|(master, manager)| manager.start(master, words, Duration::from_secs(4)))
            .collect();
        for (manager, role) in managers.iter().zip(["active", "passive"]) {
            let heard = manager.hears_until("READY=1");
            let status = format!("STATUS={role} in epoch 1");
            assert!(heard.iter().any(|it| it.starts_with(&status)), "{heard:?}");
            assert!(!heard.iter().any(|it| it.starts_with("STOPPING")));
            for _ in 0..3 {
                manager.hears_until("WATCHDOG=1");
            }
        }
        // Ready means that it watches.
        let certname = format!("{}.lab", words.join("-"));
        pair.ca.sign(&certname).unwrap();
        let arrives = pair.b.cadir().join(format!("signed/{certname}.pem"));
        wait::until("the certificate", LONG, || arrives.exists());
        for (service, manager) in services.iter_mut().zip(&managers) {
            let began = Instant::now();
            service.signal(Signal::TERM);
            manager.hears_until("STOPPING=1");
            wait::until("its end", LONG, || service.ended().is_some());
            assert_eq!(service.ended().and_then(|status| status.code()), Some(0));
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "{:?}",
                began.elapsed()
            );
        }
    }
}

#[test]
fn the_signs_of_life_end_with_the_loop_that_watches_the_ca_though_all_else_goes_on() {
    let strace = Path::new("/usr/bin/strace");
    if skip::need(skip::require_path(strace, "no-strace", "strace")).is_none() {
        return;
    }
    let Some(pair) = Pair::seeded() else { return };
    for master in [&pair.a, &pair.b] {
        let (manager, watchdog) = (Manager::new(), Duration::from_secs(4));
        let daemon = manager.start(master, &["run"], watchdog);
        manager.hears_until("READY=1");
        manager.hears_until("WATCHDOG=1");
        // Each call by which that thread waits takes a quarter of an hour from here on.
        let thread = thread(daemon.id(), "ca watch").unwrap();
        let calls = "inject=poll,ppoll,futex,clock_nanosleep:delay_enter=900000000";
        let mut holds = Command::new(strace);
        holds.args(["-qq", "-o", "/dev/null", "-p", &thread, "-e", calls]);
        let _holds = Child::spawn(&mut holds);
        // What was on its way when it was held may come; then there is silence for longer than systemd bears.
        let silence = || manager.hears(2 * watchdog);
        let said = wait::within(LONG, || silence().is_none().then_some(()));
        assert!(said.is_some(), "{}", master.watch_log());
    }
}

#[test]
fn a_database_crosses_at_its_minute_by_processes_that_end() {
    let Some(world) = World::in_step() else {
        return;
    };
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        % 60;
    let minute = in_minutes(if seconds < 45 { 1 } else { 2 });
    let World {
        mut a,
        mut b,
        on_a,
        on_b,
        ..
    } = world;
    for master in [&mut a, &mut b] {
        // The passive's turn is a minute after the active's.
        master.configure(&minutes(minute));
    }
    edit_config(
        &b,
        &format!("restore_database_minute = {minute}"),
        &format!("restore_database_minute = {}", (minute + 1) % 60),
    );
    a.pefo(["db", "push"]).exits(0);
    let insert = "insert into rbac.disclaimers (body) values ('by the clock');";
    on_a.sql("pe-rbac", insert).unwrap();
    let (mut daemons, before) = ([a.run(), b.run()], newest_record(&a, "db push"));
    let limit = Duration::from_secs(200);
    wait::until("the push", limit, || newest_record(&a, "db push") != before);
    assert_eq!(
        newest_record(&a, "db push")["outcome"],
        "ok",
        "{}",
        a.watch_log()
    );
    let rows = "select count(*) from rbac.disclaimers where body = 'by the clock'";
    wait::until("the row", limit, || {
        let counted = on_b.query_text("pe-rbac", rows);
        counted.is_ok_and(|counted| counted.trim() == "1")
    });
    for (daemon, master) in daemons.iter_mut().zip([&a, &b]) {
        daemon.signal(Signal::TERM);
        wait::until("its end", LONG, || daemon.ended().is_some());
        assert_eq!(
            daemon.ended().and_then(|status| status.code()),
            Some(0),
            "{}",
            master.watch_log()
        );
    }
}

#[test]
fn a_part_that_fails_is_recorded_and_begun_again_and_there_is_one_daemon() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let away = pair.a.directory().join("away");
    std::fs::rename(pair.a.cadir(), &away).unwrap();
    let manager = Manager::new();
    let mut daemon = manager.start(&pair.a, &["run"], Duration::from_secs(60));
    let _spare = pair.b.run();
    // It goes on: what else it does, systemd is not to start anew.
    manager.hears_until("READY=1");
    wait::until("the failure", LONG, || {
        any_record(&pair.a, "ca watch").is_some_and(|record| record["outcome"] == "refused")
    });
    assert!(daemon.ended().is_none());
    fails_as(&pair.a, &["run"], 5, "locked");
    std::fs::rename(&away, pair.a.cadir()).unwrap();
    pair.ca.sign("after.lab").unwrap();
    let arrives = pair.b.cadir().join("signed/after.lab.pem");
    wait::until("the certificate", LONG, || arrives.exists());
    wait::until("the record of it", LONG, || {
        newest_record(&pair.a, "ca watch")["outcome"] == "ok"
    });
    assert!(daemon.ended().is_none());
}
