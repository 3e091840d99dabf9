//! The two-master demonstration: `make demo`.
//!
//! Two masters on this machine, on real parts: two puppetservers, an sshd and a PostgreSQL cluster each,
//! and a classifier double each (Puppet Enterprise's own can't be had). Everything that happens on the
//! active arrives on the passive through the `pefo` program; then the active dies, the passive takes over, the
//! old one comes back, and the reign goes home. Each line says what was checked. It ends with `demo: ok`. With `PEFO_DEMO_KEEP=1` (`make demo KEEP=1`) both masters stay up until the file
//! it names is made.

#![expect(clippy::print_stdout, reason = "a demonstration shows what it does")]

mod reigns;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pefo_testkit::classifier::{self, ClassifierDouble, root_group};
use pefo_testkit::masters::{self, Master, Run, built_binary};
use pefo_testkit::place;
use pefo_testkit::postgres::{Cluster, ClusterOptions};
use pefo_testkit::puppetserver::{Instance, Options};
use pefo_testkit::skip::Skip;
use pefo_testkit::wait;
use serde_json::{Value, json};

const A: &str = "puppet-a.lab";
const B: &str = "puppet-b.lab";
const SHARED: &str = "puppet.lab";
const DATABASE: &str = "pe-rbac";
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match run() {
        Ok(()) => {
            println!("demo: ok");
            ExitCode::SUCCESS
        }
        Err(skip) => {
            println!("demo: {skip}");
            ExitCode::FAILURE
        }
    }
}

/// One master with all its parts.
struct Site {
    master: Master,
    puppet: Instance,
    postgres: Cluster,
    classifier: ClassifierDouble,
}

impl Site {
    fn prepare(parent: &Path, certname: &str) -> Result<Self, Skip> {
        let puppet = Instance::prepare(parent, certname, &Options::default().alt_name(SHARED))?;
        let postgres = Cluster::start_with(&ClusterOptions::default().peer())?;
        let classifier = ClassifierDouble::start(
            classifier::Options::default()
                .allow(certname)
                .groups(vec![root_group()]),
        );
        let mut master = Master::prepare(&built_binary(), certname)?;
        master.use_cadir(&puppet.cadir(), "owner = \"puppet\"\ngroup = \"puppet\"");
        master.use_database(&postgres, &[DATABASE]);
        master.use_classifier(&classifier, "");
        Ok(Self {
            master,
            puppet,
            postgres,
            classifier,
        })
    }

    fn pefo(&self, arguments: &[&str]) -> Run {
        self.master.pefo(arguments.iter().copied()).exits(0)
    }
}

/// Says what was done and how long it took.
fn step<T>(what: &str, act: impl FnOnce() -> (T, String)) -> T {
    let began = Instant::now();
    let (value, checked) = act();
    println!(
        "{:>7.2} s  {what}: {checked}",
        began.elapsed().as_secs_f64()
    );
    value
}

fn check(condition: bool, what: &str) {
    assert!(condition, "the demonstration failed: {what}");
}

fn run() -> Result<(), Skip> {
    let parent = place::directory("demo");
    println!("pefo: two masters on this machine, {A} (active) and {B} (its spare)");
    let began = Instant::now();
    let (mut a, mut b) = (
        Site::prepare(parent.path(), A)?,
        Site::prepare(parent.path(), B)?,
    );
    println!(
        "{:>7.2} s  prepared: an sshd, a PostgreSQL cluster and a classifier each",
        began.elapsed().as_secs_f64()
    );

    let nodes = step("the active's own life", || {
        a.puppet.setup_ca();
        let up = a.puppet.start();
        let nodes = ["node1.lab", "node2.lab"].map(|name| a.puppet.enrol(name));
        check(a.puppet.ask(&nodes[0]).is_accepted(), "A accepts node1");
        (
            nodes,
            format!(
                "puppetserver up in {:.0} s, node1 and node2 signed over HTTP",
                up.as_secs_f64()
            ),
        )
    });

    step("pair", || {
        masters::pair(&a.master, &b.master);
        (
            (),
            "two lines carried over; login with pinned host key and forced command proved"
                .to_owned(),
        )
    });

    step("seed", || {
        a.pefo(&["ca", "push", "--seed"]);
        b.pefo(&["ca", "apply"]);
        let up = b.puppet.start();
        check(
            nodes.iter().all(|node| b.puppet.ask(node).is_accepted()),
            "B accepts both nodes",
        );
        let serial = b.puppet.identity().serial();
        (
            (),
            format!(
                "B's puppetserver up in {:.0} s with A's CA, its own certificate 0x{serial}; it accepts both nodes",
                up.as_secs_f64()
            ),
        )
    });

    let watches = step("watch, and sign node3 on A", || {
        let watches = [a.master.watch(), b.master.watch()];
        let line = || a.master.watch_log().contains("line is open");
        wait::until("the line between the watches", LIMIT, line);
        let node = a.puppet.enrol("node3.lab");
        let arrives = b.puppet.cadir().join("signed/node3.lab.pem");
        let took = wait::until("node3 at B", LIMIT, || arrives.exists());
        check(b.puppet.ask(&node).is_accepted(), "B accepts node3");
        (
            watches,
            format!(
                "'pefo ca watch' on both; signed over HTTP, at B {} ms after the agent had it, and accepted there",
                took.as_millis()
            ),
        )
    });

    step("revoke node2 on A", || {
        a.puppet.revoke("node2.lab");
        let refused = b.puppet.wait_until_refused(&nodes[1], LIMIT);
        check(
            b.puppet.ask(&nodes[0]).is_accepted(),
            "B still accepts node1",
        );
        (
            (),
            format!(
                "B refused node2 {:.2} s later without restart, node1 is still accepted",
                refused.as_secs_f64()
            ),
        )
    });

    step("verify", || {
        let said = b.pefo(&["ca", "verify"]).stdout;
        // From here on as cron does it, without a watcher.
        drop(watches);
        a.pefo(&["ca", "push"]);
        b.pefo(&["ca", "apply"]);
        ((), said.lines().next().unwrap_or_default().to_owned())
    });

    step("classify on A", || {
        let group = json!({
            "id": "11111111-2222-4333-8444-555555555555",
            "parent": "00000000-0000-4000-8000-000000000000",
            "name": "Masters",
            "environment": "production",
            "environment_trumps": false,
            "rule": ["or", ["=", "name", A]],
            "classes": { "puppet_enterprise": { "puppet_master_host": A } },
            "variables": {},
        });
        let groups = vec![root_group(), group];
        a.classifier.deploy_classes_of(&groups);
        b.classifier.deploy_classes_of(&groups);
        a.classifier.set_groups(groups);
        a.pefo(&["nc", "push"]);
        b.pefo(&["nc", "restore"]);
        let arrived = b
            .classifier
            .groups()
            .into_iter()
            .find(|group| group["name"] == "Masters")
            .unwrap_or(Value::Null);
        check(
            arrived["rule"] == json!(["or", ["=", "name", B]]),
            "the pin names B",
        );
        check(
            arrived["classes"]["puppet_enterprise"]["puppet_master_host"] == B,
            "the class names B",
        );
        check(
            b.pefo(&["nc", "restore", "--json"]).json()["outcome"] == "unchanged",
            "a second restore has nothing to do",
        );
        (
            (),
            format!(
                "B's classifier has the group, {A} rewritten to {B}; a second restore changed nothing"
            ),
        )
    });

    step("change RBAC on A", || {
        must(a.postgres.create_rbac_like(DATABASE));
        must(b.postgres.create_rbac_roles());
        must(a.postgres.sql(DATABASE, "insert into rbac.roles (display, description) values ('Night shift', 'may promote the spare')"));
        a.pefo(&["db", "push"]);
        let report = b.pefo(&["db", "restore", "--json"]).json();
        let found = must(b.postgres.query_text(
            DATABASE,
            "select description from rbac.roles where display = 'Night shift'",
        ));
        check(
            found.trim() == "may promote the spare",
            "the role is in B's database",
        );
        let changes = &report["details"][0]["changes"];
        let changes = if changes.is_null() {
            &report["details"]["changes"]
        } else {
            changes
        };
        (
            (),
            format!(
                "restored into a shadow, {} tables and {} rows checked by digest, swapped in",
                changes["tables"], changes["rows"]
            ),
        )
    });

    step("status", || {
        a.pefo(&["push"]);
        let (active, passive) = (a.pefo(&["status"]), b.pefo(&["status"]));
        for line in active.stdout.lines().chain(passive.stdout.lines()) {
            println!("           {line}");
        }
        a.pefo(&["check"]);
        b.pefo(&["check"]);
        (
            (),
            "both masters answer OK, and so does 'pefo check' on each".to_owned(),
        )
    });

    reigns::change(&mut a, &mut b, &nodes);
    keep(parent.path(), &a, &b);
    Ok(())
}

fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the demonstration failed: {error}"),
    }
}

/// Leaves both masters up until they are told to stop, where that was asked for.
fn keep(parent: &Path, a: &Site, b: &Site) {
    if std::env::var_os("PEFO_DEMO_KEEP").is_none_or(|value| value.is_empty() || value == "0") {
        return;
    }
    let stop = parent.join("stop");
    println!("both masters stay up:");
    for site in [a, b] {
        println!(
            "  {} --config {} status",
            site.master.binary().display(),
            site.master.config_path().display()
        );
        println!(
            "    puppetserver on port {}, its files in {}",
            site.puppet.port(),
            site.puppet.directory().display()
        );
        println!(
            "    PostgreSQL: {}",
            site.postgres.connection_string(DATABASE)
        );
        println!("    classifier: {}", site.classifier.url());
    }
    println!("stop them with: touch {}", stop.display());
    while wait::within(Duration::from_secs(3600), || stop.exists().then_some(())).is_none() {}
}
