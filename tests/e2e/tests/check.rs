//! The preflight: each point is provoked, is told with what to type, and is well again once that is mended.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use pefo_testkit::ca::CrlOptions;
use pefo_testkit::masters::{self, Master};
use pefo_testkit::skip;
use serde_json::Value;

use crate::commands::NAME;
use crate::commands::world::World;
use crate::evidence::edit_config;
use crate::pair::{A, B, Pair};

/// What `pefo check --json` says of one point.
#[track_caller]
fn point(master: &Master, name: &str) -> Value {
    let run = master.pefo(["check", "--json"]);
    let details = run.json()["details"].clone();
    let found = details
        .as_array()
        .unwrap()
        .iter()
        .find(|point| point["point"] == name);
    found
        .unwrap_or_else(|| panic!("{}: no point {name}: {details:#}", run.line))
        .clone()
}

/// The point is well; then it is `health`, says `mention` and has a hint while `broken` is done; then well again.
#[track_caller]
fn provoked(
    master: &Master,
    name: &str,
    (health, mention): (&str, &str),
    broken: impl FnOnce(),
    mended: impl FnOnce(),
) {
    assert_eq!(point(master, name)["ok"], true, "{:#}", point(master, name));
    broken();
    let told = point(master, name);
    assert_eq!(
        (&told["ok"], &told["health"]),
        (&false.into(), &health.into()),
        "{told:#}"
    );
    let fault = &told["faults"][0];
    let message = fault["message"].as_str().unwrap();
    assert!(
        message.contains(mention),
        "{mention:?} is not told: {told:#}"
    );
    assert!(
        fault["hint"].as_str().is_some_and(|hint| !hint.is_empty()),
        "{told:#}"
    );
    let code = if health == "CRITICAL" { 2 } else { 1 };
    let run = master.pefo(["check"]).exits(code);
    let first = run.stdout.lines().next().unwrap();
    assert!(
        first.contains(name),
        "the first line does not name it: {first}"
    );
    mended();
    assert_eq!(point(master, name)["ok"], true, "{:#}", point(master, name));
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Replaces what stands in the configuration, there and back.
#[track_caller]
fn configured(master: &Master, name: &str, told: (&str, &str), (from, to): (&str, &str)) {
    let (broken, mended) = (
        || edit_config(master, from, to),
        || edit_config(master, to, from),
    );
    provoked(master, name, told, broken, mended);
}

#[test]
fn each_point_of_either_master_is_told_when_it_breaks_and_well_once_it_is_mended() {
    let Some(pair) = Pair::seeded() else { return };
    let Pair { a, b, ca } = &pair;
    a.pefo(["ca", "push"]).exits(0);
    for master in [a, b] {
        let run = master.pefo(["check"]).exits(0);
        assert!(run.stdout.starts_with("PEFO OK: "), "{}", run.stdout);
    }

    // Permissions.
    let (config, key) = (a.config_path(), a.cadir().join("ca_key.pem"));
    let critical = |mention| ("CRITICAL", mention);
    let open = critical("can be written by others than root");
    provoked(
        a,
        "permissions",
        open,
        || chmod(&config, 0o666),
        || chmod(&config, 0o644),
    );
    let open = critical("the CA's key");
    provoked(
        a,
        "permissions",
        open,
        || chmod(&key, 0o644),
        || chmod(&key, 0o640),
    );

    // The way in.
    let keys = b.sshd().authorized_keys_path();
    let text = std::fs::read_to_string(&keys).unwrap();
    let gone = text.replace(&b.binary().display().to_string(), "/nonexistent/pefo");
    assert!(gone != text, "{text}");
    let write = |text: &str| std::fs::write(&keys, text).unwrap();
    let told = critical("cannot run /nonexistent/pefo");
    provoked(b, "login", told, || write(&gone), || write(&text));
    let closed = critical("cannot read");
    provoked(
        b,
        "login",
        closed,
        || chmod(&b.config_path(), 0o600),
        || chmod(&b.config_path(), 0o644),
    );
    let public = b.sshd().host_key_path().with_extension("pub");
    let text = std::fs::read_to_string(&public).unwrap();
    let other = std::fs::read_to_string(b.state().join("keys/ssh.pub")).unwrap();
    let told = ("WARNING", "not the one that the peers have pinned");
    let write = |text: &str| std::fs::write(&public, text).unwrap();
    provoked(b, "host-keys", told, || write(&other), || write(&text));

    // Certificates, and the name that agents share.
    let ssl = a.directory().join("ssl");
    std::fs::create_dir_all(&ssl).unwrap();
    let crl = ssl.join("crl.pem");
    let year = Duration::from_secs(365 * 86_400);
    let made = |age: Duration| {
        let options = CrlOptions::default().now((SystemTime::now() - age).into());
        std::fs::write(&crl, ca.crl(&options).unwrap()).unwrap();
    };
    made(Duration::ZERO);
    edit_config(
        a,
        "[ca]\n",
        &format!("[ca]\nssldir = \"{}\"\n", ssl.display()),
    );
    let day = Duration::from_secs(86_400);
    let renewed = || made(Duration::ZERO);
    let told = ("WARNING", "crl.pem: the CRL of CN=Puppet CA: test ends at ");
    provoked(
        a,
        "certificates",
        told,
        || made(5 * year - 20 * day),
        renewed,
    );
    provoked(
        a,
        "certificates",
        critical("ends at "),
        || made(5 * year - 3 * day),
        renewed,
    );
    provoked(
        a,
        "certificates",
        critical("ended at "),
        || made(6 * year),
        renewed,
    );
    let certs = ssl.join("certs");
    std::fs::create_dir_all(&certs).unwrap();
    // The testkit's server has the names puppet.test and localhost.
    std::fs::copy(
        a.cadir().join("signed/puppet-a.test.pem"),
        certs.join(format!("{A}.pem")),
    )
    .unwrap();
    let site = format!("certname = \"{A}\"\n");
    edit_config(a, &site, &format!("{site}shared_name = \"puppet.test\"\n"));
    configured(
        a,
        "names",
        (
            "WARNING",
            "has not the name puppet.other by which agents call it",
        ),
        (
            "shared_name = \"puppet.test\"",
            "shared_name = \"puppet.other\"",
        ),
    );

    // Services and hooks.
    let fenced = "on_fence = [\"puppetserver\"]";
    configured(
        a,
        "services",
        ("WARNING", "on_fence is empty"),
        (fenced, "on_fence = []"),
    );
    let stop = "stop = [\"true\", \"{}\"]";
    let gone = "stop = [\"/nonexistent/stop\", \"{}\"]";
    configured(
        a,
        "services",
        critical("services.stop: there is no program"),
        (stop, gone),
    );
    let hook = "[hooks]\nrole_changed = [\"/nonexistent/hook\"]\n";
    let append = |text: &str| {
        let all = std::fs::read_to_string(&config).unwrap() + text;
        std::fs::write(&config, all).unwrap();
    };
    let told = critical("hooks.role_changed: there is no program");
    provoked(
        a,
        "hooks",
        told,
        || append(hook),
        || edit_config(a, hook, ""),
    );

    // The active's silence and its clock, by what it has sent.
    let heartbeat = b.spool().join(format!("heartbeats/{A}"));
    assert!(heartbeat.is_file(), "{}", heartbeat.display());
    let arrived = std::fs::metadata(&heartbeat).unwrap().modified().unwrap();
    let came = |before: u64| {
        let when = arrived - Duration::from_secs(before);
        std::fs::File::open(&heartbeat)
            .unwrap()
            .set_modified(when)
            .unwrap();
    };
    let told = critical("'s clock is ");
    provoked(b, "clocks", told, || came(90), || came(0));
    provoked(
        b,
        "peer",
        critical("nothing was heard of"),
        || came(25 * 3600),
        || came(0),
    );
}

#[test]
fn a_peer_that_is_away_and_a_disk_that_takes_nothing_are_told() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.b.stop_sshd();
    let told = point(&pair.a, "peer");
    assert_eq!(told["health"], "CRITICAL", "{told:#}");
    assert!(told["message"].as_str().unwrap().starts_with(B), "{told:#}");
    pair.b.restart_sshd();
    let told = point(&pair.a, "peer");
    assert_eq!(told["ok"], true, "{told:#}");
    let clocks = point(&pair.a, "clocks");
    assert!(
        clocks["numbers"][format!("clock_skew@{B}")]
            .as_u64()
            .unwrap()
            < 5000,
        "{clocks:#}"
    );

    let spool = pair.b.spool();
    let mount = |options: &[&str]| {
        let output = Command::new("mount")
            .args(options)
            .arg(&spool)
            .output()
            .unwrap();
        skip::unless(
            output.status.success(),
            "needs-mount",
            &format!(
                "nothing can be mounted here: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        )
    };
    if !mount(&["--bind", &spool.display().to_string()]) {
        return;
    }
    let unmounted = Unmount(&spool);
    assert!(mount(&["-o", "remount,bind,ro"]));
    let told = point(&pair.b, "room");
    assert_eq!(told["health"], "CRITICAL", "{told:#}");
    assert!(
        told["message"].as_str().unwrap().contains("read-only"),
        "{told:#}"
    );
    drop(unmounted);
    assert_eq!(point(&pair.b, "room")["ok"], true);
}

/// Takes a mount away on drop.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(self.0).status();
        assert!(std::thread::panicking() || done.is_ok_and(|status| status.success()));
    }
}

#[test]
fn what_a_restore_would_be_refused_for_is_told_before_it_is_tried() {
    let Some(world) = World::prepared() else {
        return;
    };
    let World { a, b, on_b, .. } = &world;
    masters::pair(a, b);
    a.pefo(["ca", "push", "--seed"]).exits(0);
    b.pefo(["ca", "apply"]).exits(0);
    let roles = on_b
        .query_text("postgres", "select string_agg(quote_ident(rolname), ', ') from pg_roles where rolname not like 'pg\\_%' and not rolsuper")
        .unwrap();
    on_b.sql("postgres", &format!("drop role {roles};"))
        .unwrap();
    a.pefo(["db", "push"]).exits(0);
    b.pefo(["db", "restore"]).exits(3);
    let told = point(b, "database");
    assert_eq!(told["faults"][0]["rule"], "db-role-missing", "{told:#}");
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .starts_with(&format!("db:{NAME}: ")),
        "{told:#}"
    );
    on_b.create_rbac_roles().unwrap();
    let told = point(b, "database");
    assert_eq!(told["ok"], true, "{told:#}");
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("can be restored"),
        "{told:#}"
    );
    b.pefo(["db", "restore"]).exits(0);

    let bin_dir = format!("bin_dir = \"{}\"", on_b.bin_dir().display());
    let gone = "bin_dir = \"/nonexistent\"";
    configured(b, "database", ("CRITICAL", "pg_dump"), (&bin_dir, gone));
    let key = a.directory().join("nc-key.pem");
    let told = ("CRITICAL", "nc-key.pem is open to everybody");
    provoked(
        a,
        "permissions",
        told,
        || chmod(&key, 0o644),
        || chmod(&key, 0o600),
    );
}
