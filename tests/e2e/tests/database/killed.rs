//! `kill -9` at chosen statements of a dump, a restore and a swap, of pefo and of its children: the database
//! that is live stays whole and open before anything is run again, and the next run needs no clearing up.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use pefo_core::reign::Role;
use pefo_db::DumpManifest;
use pefo_testkit::child::Child;
use pefo_testkit::masters::{self, Master};
use pefo_testkit::postgres::{Cluster, ClusterOptions, Tap};
use pefo_testkit::{skip, wait};
use rustix::process::{Pid, Signal, kill_process};

use super::LONG;
use crate::pair::Pair;

const NAME: &str = "small";
/// At least so many runs of each kind have to have been killed.
const POINTS: usize = 60;
/// So many statements at a run's end are tried one by one.
const LAST: usize = 12;

/// Two masters whose servers stand behind taps. Everybody on the socket is trusted: the tap is who connects.
struct Tapped {
    a: Master,
    b: Master,
    on_a: Cluster,
    on_b: Cluster,
    at_a: Tap,
    at_b: Tap,
}

impl Tapped {
    fn in_step() -> Option<Self> {
        let Pair { mut a, mut b, .. } = Pair::prepared()?;
        let cluster = || skip::need(Cluster::start_with(&ClusterOptions::default()));
        let (on_a, on_b) = (cluster()?, cluster()?);
        on_a.sql("postgres", &format!("create database {NAME}"))
            .unwrap();
        let tables = "create table t (version int); insert into t values (1); \
                      create table u as select n, n::text as text from generate_series(1, 2000) n; \
                      create index on u (text); create sequence s;";
        on_a.sql(NAME, tables).unwrap();
        let (at_a, at_b) = (Tap::before(&on_a), Tap::before(&on_b));
        for (master, cluster, tap) in [(&mut a, &on_a, &at_a), (&mut b, &on_b, &at_b)] {
            master.use_database(cluster, &[NAME]);
            // Whoever is let in anyway needs no account of the database's.
            crate::evidence::edit_config(master, "run_as = \"postgres\"\n", "");
            let (direct, tapped) = (cluster.socket_dir(), tap.socket_dir());
            crate::evidence::edit_config(
                master,
                &direct.display().to_string(),
                &tapped.display().to_string(),
            );
        }
        masters::pair(&a, &b);
        a.pefo(["db", "push"]).exits(0);
        b.pefo(["db", "restore"]).exits(0);
        Some(Self {
            a,
            b,
            on_a,
            on_b,
            at_a,
            at_b,
        })
    }

    /// Runs a command and kills, at the `number`th thing that is said to the server, whoever says it, pefo
    /// itself, or both; tells whether it came to that.
    fn killed_at(&self, role: Role, arguments: &[&str], number: usize) -> bool {
        let (master, tap) = match role {
            Role::Active => (&self.a, &self.at_a),
            Role::Passive => (&self.b, &self.at_b),
        };
        let mut command = master.command();
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Armed before it starts: nothing it says is missed.
        let (sender, receiver) = std::sync::mpsc::channel::<Pid>();
        tap.at(number, move |speaker| {
            let pefo = receiver.recv().unwrap();
            let victims: &[Pid] = match number % 3 {
                0 => &[speaker],
                1 => &[pefo],
                _ => &[pefo, speaker],
            };
            for victim in victims {
                // It may be gone by then, with the one before it.
                let _ = kill_process(*victim, Signal::KILL);
            }
        });
        let mut child = command.spawn().unwrap();
        sender
            .send(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap())
            .unwrap();
        child.wait().unwrap();
        // A run that said less than the first is not to be killed when it is run again.
        tap.disarm()
    }

    /// Who was killed may have left a child, or a session that its server has yet to miss.
    fn until_free(&self, master: &Master, arguments: &[&str]) {
        let run = wait::within(LONG, || {
            let run = master.pefo(arguments.iter().copied());
            (run.code != 5).then_some(run)
        });
        run.unwrap_or_else(|| panic!("{arguments:?}: the lock stays"))
            .exits(0);
    }
}

/// The version that is live, if the database is whole and takes connections.
fn version(cluster: &Cluster) -> String {
    let closed =
        "select count(*) from pg_database where not datallowconn and datname <> 'template0'";
    assert_eq!(cluster.query_text("postgres", closed).unwrap(), "0");
    let whole =
        "select (select version from t) || ' ' || (select count(*) from u where text = n::text)";
    let whole = cluster.query_text(NAME, whole).unwrap();
    let (version, rows) = whole.split_once(' ').unwrap();
    assert_eq!(rows, "2000");
    version.to_owned()
}

fn beside(cluster: &Cluster) -> Vec<String> {
    let query = format!("select datname from pg_database where datname like '{NAME}.%' order by 1");
    let text = cluster.query_text("postgres", &query).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// As many statements as a run has, at most `POINTS` spread over all of it, and each of the last ones: few come
/// after a swap.
fn points(all: usize) -> BTreeSet<usize> {
    let spread = (0..POINTS).map(|point| 1 + point * (all - 1) / (POINTS - 1));
    let last = all.saturating_sub(LAST) + 1..=all;
    spread.chain(last).collect()
}

#[test]
fn a_restore_killed_at_any_statement_leaves_the_old_or_the_new_database_whole_and_open() {
    let Some(tapped) = Tapped::in_step() else {
        return;
    };
    let (b, on_b) = (&tapped.b, &tapped.on_b);
    let age = || on_b.sql(NAME, "update t set version = 0").unwrap();
    let restore = ["db", "restore"];
    // The second is as all that follow: there is a kept database, which is dropped once a newer one is.
    for _ in 0..2 {
        age();
        assert!(!tapped.killed_at(Role::Passive, &restore, usize::MAX));
    }
    let all = tapped.at_b.said();
    let (mut kills, mut shadows, mut swapped) = (0, 0, 0);
    for number in points(all) {
        age();
        kills += usize::from(tapped.killed_at(Role::Passive, &restore, number));
        let version = version(on_b);
        assert!(
            ["0", "1"].contains(&version.as_str()),
            "{version} after {number} of {all}"
        );
        swapped += usize::from(version == "1");
        let left = beside(on_b);
        let is_shadow = |name: &&String| name.ends_with(".pefo-shadow");
        let standing = left.iter().filter(is_shadow).count();
        assert!(
            standing <= 1 && left.len() <= 3,
            "{left:?} after {number} of {all}"
        );
        shadows += standing;
        tapped.until_free(b, &restore);
        assert_eq!(self::version(on_b), "1");
        let left = beside(on_b);
        assert!(
            left.len() == 1 && left[0].contains(".pefo-kept-"),
            "{left:?} after {number} of {all}"
        );
    }
    assert!(
        kills >= POINTS * 9 / 10,
        "{kills} kills at {all} statements"
    );
    assert!(
        shadows > 0 && swapped > 0,
        "{shadows} shadows left, {swapped} swapped"
    );
}

#[test]
fn a_dump_killed_at_any_statement_leaves_the_dump_before_and_the_next_replaces_it() {
    let Some(tapped) = Tapped::in_step() else {
        return;
    };
    let (a, on_a) = (&tapped.a, &tapped.on_a);
    let dump = ["db", "dump", "--force"];
    assert!(!tapped.killed_at(Role::Active, &dump, usize::MAX));
    let all = tapped.at_a.said();
    let kept = a.state().join("exports/db-small");
    let mut kills = 0;
    for number in points(all) {
        kills += usize::from(tapped.killed_at(Role::Active, &dump, number));
        assert_eq!(version(on_a), "1");
        let manifest = DumpManifest::read(&kept).unwrap();
        manifest.check_files(&kept).unwrap();
        tapped.until_free(a, &dump);
        let left: Vec<_> = std::fs::read_dir(a.state().join("work")).unwrap().collect();
        assert!(left.is_empty(), "{left:?} after {number} of {all}");
    }
    assert!(
        kills >= POINTS * 9 / 10,
        "{kills} kills at {all} statements"
    );
}

#[test]
fn a_restore_that_is_told_to_stop_ends_with_all_that_it_began() {
    let Some(tapped) = Tapped::in_step() else {
        return;
    };
    let (b, on_b) = (&tapped.b, &tapped.on_b);
    on_b.sql(NAME, "update t set version = 0").unwrap();
    // Held at its look at the live database, which would otherwise be over at once.
    let locking = "begin; lock table u in access exclusive mode; select pg_sleep(600)";
    let mut psql = Command::new(on_b.bin_dir().join("psql"));
    psql.args([
        "-X",
        "-q",
        "-d",
        &on_b.connection_string(NAME),
        "-c",
        locking,
    ]);
    let _holder = Child::spawn(&mut psql);
    let count = |of: &str| {
        let query = format!("select count(*) from pg_stat_activity where {of}");
        on_b.query_text("postgres", &query).unwrap()
    };
    wait::until("the lock", LONG, || count("wait_event = 'PgSleep'") == "1");
    let mut restore = Child::spawn(b.command().args(["db", "restore"]));
    let waiting = "application_name = 'pefo' and wait_event_type = 'Lock'";
    wait::until("a query that waits", LONG, || count(waiting) == "1");
    restore.signal(Signal::TERM);
    wait::until("its end", LONG, || restore.ended().is_some());
    wait::until("its sessions' end", LONG, || {
        count("application_name = 'pefo'") == "0"
    });
    assert!(beside(on_b).is_empty());
    let unlock =
        "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'";
    on_b.sql("postgres", unlock).unwrap();
    assert_eq!(version(on_b), "0");
    tapped.until_free(b, &["db", "restore"]);
    assert_eq!(version(on_b), "1");
}
