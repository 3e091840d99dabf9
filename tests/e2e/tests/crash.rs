//! `kill -9` at any moment: what stands on the passive is whole, the next run needs no clearing up, and
//! it brings both masters in step.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pefo_core::lock::Lock;
use pefo_testkit::ca::copy_tree;
use pefo_testkit::masters::{self, Master, Run};
use pefo_testkit::postgres::{Cluster, ClusterOptions};
use pefo_testkit::{skip, wait};

use crate::evidence::{contents, files, tree};
use crate::pair::{B, Pair};

/// How often each command is killed, from its first moment to its last.
const KILLS: u32 = 15;
const NAME: &str = "pe-rbac";

/// When to kill a command that usually takes `whole`.
struct Moments {
    whole: Duration,
    number: u32,
}

impl Moments {
    fn of(whole: Duration) -> Self {
        Self { whole, number: 0 }
    }

    fn next(&mut self) -> Option<(u32, Duration)> {
        let number = self.number;
        self.number += 1;
        (number < KILLS).then(|| (number, self.whole * number / (KILLS - 1)))
    }

    /// Takes note whether a run lived long enough to be killed: where it did not, a run takes less than
    /// was thought. Gives how many were killed.
    fn tell(&mut self, killed: bool) -> u32 {
        if !killed {
            self.whole = self.whole * 7 / 10;
        }
        u32::from(killed)
    }
}

/// Starts the command and kills it after `life`, unless it ends before; tells whether it was killed.
fn killed_after(mut command: Command, arguments: &[&str], life: Duration) -> bool {
    let quiet = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    // The end is polled for; the deadline is the moment of the kill.
    let ended = wait::within(life, || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
    }
    child.wait().unwrap().signal() == Some(9)
}

/// How long the command takes when nobody kills it.
fn usual(master: &Master, arguments: &[&str]) -> Duration {
    let began = Instant::now();
    master.pefo(arguments.iter().copied()).exits(0);
    began.elapsed()
}

/// A test that killed nothing has tested nothing: the last moments may come too late.
#[track_caller]
fn enough(kills: u32) {
    assert!(
        kills >= KILLS / 2,
        "only {kills} of {KILLS} runs were killed"
    );
}

/// Runs it to its end. What the killed run had started elsewhere (the peer's receiver, the server's
/// session) may hold its lock until it sees that nobody is there any more; nobody clears anything up.
#[track_caller]
fn goes_on(master: &Master, arguments: &[&str]) -> Run {
    let run = wait::within(Duration::from_secs(60), || {
        let run = master.pefo(arguments.iter().copied());
        (run.code != 5).then_some(run)
    });
    run.unwrap_or_else(|| panic!("{arguments:?}: the lock stays"))
        .exits(0)
}

/// The killed run's own locks go with it: at once, or with a program that it was about to start, which
/// has not closed its inheritance yet.
#[track_caller]
fn no_lock_stays(master: &Master) {
    for path in locks(master) {
        let what = path.display().to_string();
        wait::until(&what, Duration::from_secs(5), || Lock::take(&path).is_ok());
    }
}

fn locks(master: &Master) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(master.state().join("locks")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// No run's leavings lie in the CA, in what was received or in root's own copies.
#[track_caller]
fn nothing_is_left(master: &Master) {
    for dir in [
        master.cadir(),
        master.spool().join("generations"),
        master.state().join("store"),
        master.state().join("work"),
    ] {
        let is_left = |path: &PathBuf| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(".pefo-")
                || dir.ends_with("work")
        };
        let left: Vec<PathBuf> = tree(&dir).into_keys().filter(is_left).collect();
        assert!(
            left.is_empty(),
            "{}: left in {}: {left:?}",
            master.certname(),
            dir.display()
        );
    }
}

/// Runs openssl; gives its standard output.
#[track_caller]
fn openssl(arguments: &[&str], paths: &[&Path]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .args(paths)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "openssl {arguments:?} {paths:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16)
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// What a server that starts on the cadir now relies on: every file is whole, no serial that was given
/// out can be given out again, every certificate stands in the inventory, the revocations verify.
#[track_caller]
fn is_a_valid_ca(cadir: &Path) {
    let text = std::fs::read_to_string(cadir.join("inventory.txt")).unwrap();
    assert!(text.ends_with('\n'), "the inventory is torn: {text}");
    let mut inventory = BTreeMap::new();
    for row in text.lines() {
        let [serial, _, _, name] = row.split(' ').collect::<Vec<_>>()[..] else {
            panic!("a torn row: {row}")
        };
        inventory.insert(hex(serial), name.trim_start_matches("/CN=").to_owned());
    }
    let next = hex(&std::fs::read_to_string(cadir.join("serial")).unwrap());
    let last = *inventory.keys().last().unwrap();
    assert!(
        next > last,
        "the counter {next:X} is behind the inventory's {last:X}"
    );

    let is_certificate = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "pem");
    let signed: Vec<PathBuf> = files(&cadir.join("signed"))
        .into_iter()
        .filter(is_certificate)
        .collect();
    for path in &signed {
        let serial = openssl(&["x509", "-noout", "-serial", "-in"], &[path]);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert_eq!(
            inventory.get(&hex(serial.trim().trim_start_matches("serial="))),
            Some(&name)
        );
    }
    let chain = cadir.join("ca_crt.pem");
    let authority = chain.to_str().unwrap();
    let all: Vec<&Path> = signed.iter().map(PathBuf::as_path).collect();
    openssl(&["verify", "-CAfile", authority], &all);
    // The server's own certificate is never revoked: it is accepted only if every list of the chain is
    // there, whole, and signed by its issuer.
    let lists = cadir.join("ca_crl.pem");
    let checked = [
        "verify",
        "-crl_check_all",
        "-CAfile",
        authority,
        "-CRLfile",
        lists.to_str().unwrap(),
    ];
    openssl(&checked, &[&cadir.join("signed/puppet-a.test.pem")]);
}

/// Two masters with the same CA, kept as a mirror: counter, inventory, certificates and revocations all
/// follow, so that there is as much as possible to be torn.
fn mirrored() -> Option<Pair> {
    let pair = Pair::prepared()?;
    copy_tree(&pair.a.cadir(), &pair.b.cadir()).unwrap();
    masters::pair(&pair.a, &pair.b);
    pair.sync();
    Some(pair)
}

/// Something of every kind: certificates to add and to remove, and a revocation.
fn change(pair: &mut Pair, round: u32) {
    for name in ["stays", "goes", "revoked"] {
        pair.ca.sign(&format!("{name}{round}.lab")).unwrap();
    }
    pair.ca.revoke(&format!("revoked{round}.lab")).unwrap();
    if let Some(before) = round.checked_sub(1) {
        pair.ca.clean(&format!("goes{before}.lab")).unwrap();
    }
}

fn crl(master: &Master) -> Vec<u8> {
    std::fs::read(master.cadir().join("ca_crl.pem")).unwrap()
}

/// The same certificates, rows, revocations and counter; and both commands have nothing to do.
#[track_caller]
fn in_step(pair: &Pair) {
    let held = |master: &Master| -> BTreeMap<PathBuf, Vec<u8>> {
        let mut held = contents(&master.cadir());
        held.retain(|path, _| {
            path.starts_with("signed")
                || ["ca_crl.pem", "inventory.txt", "serial"]
                    .iter()
                    .any(|name| path.ends_with(name))
        });
        held.remove(Path::new(&format!("signed/{B}.pem")));
        held
    };
    let (on_a, on_b) = (held(&pair.a), held(&pair.b));
    let differs: Vec<_> = on_a
        .keys()
        .chain(on_b.keys())
        .filter(|path| on_a.get(*path) != on_b.get(*path))
        .collect();
    assert!(differs.is_empty(), "{differs:?}");
    for (master, command) in [
        (&pair.a, ["ca", "push", "--json"]),
        (&pair.b, ["ca", "apply", "--json"]),
    ] {
        assert_eq!(master.pefo(command).exits(0).json()["outcome"], "unchanged");
    }
}

#[test]
fn a_push_killed_at_any_moment_is_taken_up_by_the_next() {
    let Some(mut pair) = mirrored() else { return };
    pair.ca.sign("first.lab").unwrap();
    let whole = usual(&pair.a, &["ca", "push"]);
    pair.b.pefo(["ca", "apply"]).exits(0);
    let mut kills = 0;
    let mut moments = Moments::of(whole);
    while let Some((round, life)) = moments.next() {
        let old = crl(&pair.b);
        change(&mut pair, round);
        kills += moments.tell(killed_after(pair.a.command(), &["ca", "push"], life));
        no_lock_stays(&pair.a);
        // What stands in the spool now is whole, or nothing.
        pair.b.pefo(["ca", "apply"]).exits(0);
        is_a_valid_ca(&pair.b.cadir());
        assert!(
            crl(&pair.b) == old || crl(&pair.b) == crl(&pair.a),
            "neither the old list nor the new one after {life:?}"
        );
        goes_on(&pair.a, &["ca", "push"]);
        pair.b.pefo(["ca", "apply"]).exits(0);
        in_step(&pair);
        nothing_is_left(&pair.a);
        nothing_is_left(&pair.b);
    }
    enough(kills);
    pair.a.pefo(["status"]).exits(0);
}

#[test]
fn an_apply_killed_at_any_moment_leaves_a_ca_in_order_and_the_next_does_the_rest() {
    let Some(mut pair) = mirrored() else { return };
    pair.ca.sign("first.lab").unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    let whole = usual(&pair.b, &["ca", "apply"]);
    let mut kills = 0;
    let mut moments = Moments::of(whole);
    while let Some((round, life)) = moments.next() {
        let old = crl(&pair.b);
        change(&mut pair, round);
        pair.a.pefo(["ca", "push"]).exits(0);
        kills += moments.tell(killed_after(pair.b.command(), &["ca", "apply"], life));
        is_a_valid_ca(&pair.b.cadir());
        assert!(
            crl(&pair.b) == old || crl(&pair.b) == crl(&pair.a),
            "neither the old list nor the new one after {life:?}"
        );
        no_lock_stays(&pair.b);
        // Every third time the next run meets what two kills left, and a newer generation.
        if round % 3 == 1 {
            continue;
        }
        pair.b.pefo(["ca", "apply"]).exits(0);
        is_a_valid_ca(&pair.b.cadir());
        in_step(&pair);
        nothing_is_left(&pair.b);
    }
    enough(kills);
    pair.b.pefo(["status"]).exits(0);
}

/// What the live database holds; none where it does not answer.
fn held(cluster: &Cluster) -> Option<String> {
    let query = "select (select md5(string_agg(t::text, '|' order by id)) from rbac.subjects t), \
                        (select string_agg(coalesce(body, 'null'), '|' order by id) from rbac.disclaimers), \
                        (select count(*) from \"Audit log\".events)";
    cluster.query_text(NAME, query).ok()
}

/// The databases that pefo made beside the live one.
fn derived(cluster: &Cluster) -> Vec<String> {
    let text = cluster
        .query_text("postgres", "select datname from pg_database order by 1")
        .unwrap();
    text.lines()
        .filter(|name| name.contains("pefo"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_restore_killed_at_any_moment_leaves_the_old_database_or_the_new_one_and_the_next_does_the_rest()
 {
    let Some(Pair { mut a, mut b, .. }) = Pair::prepared() else {
        return;
    };
    let start = || skip::need(Cluster::start_with(&ClusterOptions::default().peer()));
    let (Some(on_a), Some(on_b)) = (start(), start()) else {
        return;
    };
    on_a.create_rbac_like(NAME).unwrap();
    on_b.create_rbac_roles().unwrap();
    a.use_database(&on_a, &[NAME]);
    b.use_database(&on_b, &[NAME]);
    masters::pair(&a, &b);
    let say = |what: &str| {
        on_a.sql(
            NAME,
            &format!("insert into rbac.disclaimers (body) values ('{what}');"),
        )
        .unwrap()
    };
    a.pefo(["db", "push"]).exits(0);
    b.pefo(["apply", "db:pe-rbac"]).exits(0);
    say("first");
    a.pefo(["db", "push"]).exits(0);
    let whole = usual(&b, &["apply", "db:pe-rbac"]);
    let mut kills = 0;
    let mut moments = Moments::of(whole);
    while let Some((round, life)) = moments.next() {
        let old = held(&on_b).unwrap();
        say(&format!("round {round}"));
        let new = held(&on_a).unwrap();
        a.pefo(["db", "push"]).exits(0);
        kills += moments.tell(killed_after(b.command(), &["apply", "db:pe-rbac"], life));
        no_lock_stays(&b);
        // A swap on its way may turn one connection away; the next one is let in.
        let now = wait::within(Duration::from_secs(10), || held(&on_b))
            .expect("the live database does not answer");
        assert!(
            now == old || now == new,
            "neither the old content nor the new one after {life:?}: {now}"
        );
        goes_on(&b, &["apply", "db:pe-rbac"]);
        assert_eq!(held(&on_b).unwrap(), new);
        nothing_is_left(&b);
        // Killed between swap and prune, a run leaves one more of the kept; no shadow stays.
        let left = derived(&on_b);
        let is_kept = |name: &String| name.contains(".pefo-kept-");
        assert!(
            (1..=2).contains(&left.len()) && left.iter().all(is_kept),
            "{left:?}"
        );
    }
    enough(kills);
    let again = b.pefo(["apply", "db:pe-rbac", "--json"]).exits(0).json();
    assert_eq!(again["outcome"], "unchanged");
    // The next restore that has something to do prunes what a killed one could not.
    say("last");
    a.pefo(["db", "push"]).exits(0);
    b.pefo(["apply", "db:pe-rbac"]).exits(0);
    assert_eq!(derived(&on_b).len(), 1, "{:?}", derived(&on_b));
}
