//! Two masters with everything: a CA, a classifier and an RBAC-sized database each; and, beside pefo's, what the
//! original's operator does by hand when the one is to take over from the other.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pefo_core::clock::{Clock as _, SystemClock};
use pefo_core::{Error, ErrorKind, Result};
use pefo_testkit::ca::{CaOptions, Keys, TestCa};
use pefo_testkit::child::Child;
use pefo_testkit::classifier::{ClassifierDouble, Options, large_hierarchy, root_group};
use pefo_testkit::masters::{self, Master, built_binary};
use pefo_testkit::postgres::{Cluster, ClusterOptions};
use pefo_testkit::wait;
use serde_json::{Value, json};

use crate::process;
use crate::ran::Ran;
use crate::row::Halt;
use crate::ssh::shell_word;
use crate::watched::test_ca;
use crate::world::{Place, World};

const NAMES: [&str; 2] = ["puppet-a.lab", "puppet-b.lab"];
const DATABASE: &str = "pe-rbac";
const LIMIT: Duration = Duration::from_secs(60);

/// How large it all is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) certificates: u64,
    pub(crate) groups: usize,
    /// How often the daemons ask the console.
    pub(crate) poll_seconds: u32,
}

/// One master with all its parts.
struct Site {
    master: Master,
    classifier: ClassifierDouble,
    cluster: Cluster,
}

/// Both, the active first.
pub(crate) struct Whole {
    sites: [Site; 2],
    place: Place,
    peak_kib: Cell<u64>,
    changes: Cell<u64>,
    ca: TestCa,
}

impl Whole {
    /// The passive has everything that the active has.
    ///
    /// # Errors
    /// A skip, where something is not installed; a push or an apply that fails.
    pub(crate) fn in_step(world: &World, name: &str, size: Size) -> Result<Self, Halt> {
        let groups = groups(size.groups);
        let site = |certname: &str| -> Result<Site, Halt> {
            let classifier = ClassifierDouble::start(
                Options::default()
                    .allow(certname)
                    .groups(vec![root_group()]),
            );
            classifier.deploy_classes_of(&groups);
            let cluster = Cluster::start_with(&ClusterOptions::default().fsync())?;
            let mut master = Master::prepare(&built_binary(), certname)?;
            let cadir = master.cadir();
            master.use_cadir(&cadir, "owner = \"root\"\ngroup = \"root\"");
            master.use_database(&cluster, &[DATABASE]);
            master.use_classifier(
                &classifier,
                &format!("poll_seconds = {}\n", size.poll_seconds),
            );
            // No database crosses by the daemons' clock while a row is measured.
            let minute = (SystemClock.now().unix_seconds() / 60 + 30) % 60;
            master.configure(&format!(
                "[schedule]\npush_minute = {minute}\nrestore_database_minute = {minute}\n\n"
            ));
            Ok(Site {
                master,
                classifier,
                cluster,
            })
        };
        let [a, b] = [site(NAMES[0])?, site(NAMES[1])?];
        // Ten thousand are signed as Puppet signs them, more would take minutes.
        let keys = match size.certificates {
            0..=10_000 => Keys::Rsa,
            _ => Keys::Ecdsa,
        };
        let options = CaOptions::default().keys(keys);
        let mut ca = TestCa::create(&a.master.cadir(), options).map_err(test_ca)?;
        ca.fill(size.certificates, |number| {
            format!("node{number:06}.example.com")
        })
        .map_err(test_ca)?;
        a.classifier.set_groups(groups);
        a.cluster.create_rbac_like(DATABASE)?;
        b.cluster.create_rbac_roles()?;
        masters::pair(&a.master, &b.master);
        a.master.pefo(["ca", "push", "--seed"]).exits(0);
        b.master.pefo(["ca", "apply"]).exits(0);
        let whole = Self {
            sites: [a, b],
            place: world.place(name)?,
            peak_kib: Cell::new(0),
            changes: Cell::new(0),
            ca,
        };
        whole.bring_in_step()?;
        whole.peak_kib.set(0);
        Ok(whole)
    }

    /// Everything on the active is at the passive.
    pub(crate) fn bring_in_step(&self) -> Result<()> {
        self.run(&self.sites[0].master, &["push", "--json"])?;
        self.run(&self.sites[1].master, &["apply", "--json"])?;
        Ok(())
    }

    /// A little happens on the active: a certificate, a group, a row.
    pub(crate) fn change(&self) -> Result<()> {
        let number = self.changes.get() + 1;
        self.changes.set(number);
        let active = &self.sites[0];
        let mut server = self.ca.resumed(&active.master.cadir()).map_err(test_ca)?;
        server
            .sign(&format!("event{number}.example.com"))
            .map_err(test_ca)?;
        let mut groups = active.classifier.groups();
        if let Some(last) = groups.last_mut() {
            last["variables"]["turn"] = number.into();
        }
        active.classifier.set_groups(groups);
        let row = format!("insert into rbac.disclaimers (body) values ('turn {number}');");
        active.cluster.sql(DATABASE, &row)?;
        Ok(())
    }

    /// pefo on the active, or on the passive.
    pub(crate) fn on_active(&self, arguments: &[&str]) -> Result<Ran> {
        self.run(&self.sites[0].master, arguments)
    }

    /// As [`Whole::on_active`].
    pub(crate) fn on_passive(&self, arguments: &[&str]) -> Result<Ran> {
        self.run(&self.sites[1].master, arguments)
    }

    fn run(&self, master: &Master, arguments: &[&str]) -> Result<Ran> {
        Ran::on(master, arguments, self.place.path(), &self.peak_kib)
    }

    /// The active's machine answers nobody any more.
    pub(crate) fn active_dies(&mut self) {
        self.sites[0].master.stop_sshd();
    }

    /// The promoted passive's former active comes back as its passive, in step.
    pub(crate) fn fail_over(&mut self) -> Result<()> {
        self.sites.reverse();
        self.sites[1].master.restart_sshd();
        let down = self.sites[1].master.pefo(["demote", "--wait", "0"]);
        if down.code != 4 {
            return Err(Error::invalid(format!("{}: {}", down.line, down.stderr)));
        }
        self.bring_in_step()
    }

    /// The other one is the active now.
    pub(crate) fn turned(&mut self) {
        self.sites.reverse();
    }

    /// Starts `pefo run` on both, and waits until the passive's CA is in step by it.
    pub(crate) fn daemons(&self) -> Result<[Child; 2]> {
        let daemons = [self.sites[0].master.run(), self.sites[1].master.run()];
        let open = || {
            let log = self.sites[0].master.watch_log();
            log.contains("line is open").then_some(())
        };
        wait::within(LIMIT, open)
            .ok_or_else(|| Error::new(ErrorKind::Child, "the daemons do not find each other"))?;
        Ok(daemons)
    }

    /// The active's CA.
    pub(crate) fn cadir(&self) -> PathBuf {
        self.sites[0].master.cadir()
    }

    /// That the spare would serve the same.
    pub(crate) fn is_in_step(&self) -> Result<()> {
        let ran = self.run(&self.sites[1].master, &["verify", "--json"])?;
        ran.told_outcome("ok")?;
        Ok(())
    }

    /// That both name one active, and which role each has.
    pub(crate) fn is_handed_over(&self) -> Result<()> {
        for (site, role) in self.sites.iter().zip(["passive", "active"]) {
            let told = site.master.pefo(["status", "--json"]).json();
            if told["details"]["role"] != role {
                let message = format!("{} is not the {role}", site.master.certname());
                return Err(Error::invalid(message));
            }
        }
        Ok(())
    }

    /// What the original's operator does when the spare is to serve: the last copy of the CA into the live one,
    /// in milliseconds.
    pub(crate) fn original_takes_over(&self) -> Result<f64> {
        let live = self.place.path().join("peer-live");
        let spool = shell_word(&self.sites[1].master.cadir());
        let archive = shell_word(&self.place.fresh("peer-archive")?);
        let live = shell_word(&live);
        self.shell(&format!(
            "mkdir -p {live} && cp -a {spool}/. {archive} && chown -R 0:0 {archive} && rsync -au {archive}/ {live}/"
        ))
    }

    /// As [`Whole::original_takes_over`], with what the original brings over by cron: the classifier by curl and sed,
    /// the database by pg_dump, dropdb and psql.
    pub(crate) fn original_hands_over(&self) -> Result<f64> {
        let [active, passive] = &self.sites;
        let file = shell_word(&self.place.path().join("peer-groups.json"));
        let get = curl(active, "groups", "");
        let post = curl(
            passive,
            "import-hierarchy",
            &format!("-f -H 'Content-Type: application/json' --data-binary @{file}"),
        );
        let sed = format!(
            "s/{}/{}/g",
            active.master.certname(),
            passive.master.certname()
        );
        let dump = shell_word(&self.place.path().join("peer-dump.sql"));
        let bin = shell_word(active.cluster.bin_dir());
        let (from, to) = (&active.cluster, &passive.cluster);
        let copy = "pefo_bench_original";
        let took = self.shell(&format!(
            "{get} | sed '{sed}' > {file} && {post} && \
             {bin}/pg_dump '--dbname={}' -f {dump} && md5sum {dump} > {dump}.md5sum && md5sum -c {dump}.md5sum && \
             {bin}/psql -X -q '{}' -c 'drop database if exists {copy}' -c 'create database {copy} template template0' && \
             {bin}/psql -X -q -v ON_ERROR_STOP=1 '{}' < {dump} > /dev/null",
            from.connection_string(DATABASE),
            to.connection_string("postgres"),
            to.connection_string(copy),
        ))?;
        Ok(took + self.original_takes_over()?)
    }

    /// How an operator compares two masters without pefo: rsync by checksum, both classifiers sorted and compared,
    /// both databases dumped and compared; in milliseconds.
    pub(crate) fn compare_by_hand(&self) -> Result<f64> {
        let [active, passive] = &self.sites;
        let out = shell_word(&self.place.path().join("compared"));
        let (a, b) = (
            shell_word(&active.master.cadir()),
            shell_word(&passive.master.cadir()),
        );
        let bin = shell_word(active.cluster.bin_dir());
        let sed = format!(
            "s/{}/{}/g",
            active.master.certname(),
            passive.master.certname()
        );
        let dump = |site: &Site, to: &str| {
            format!(
                "{bin}/pg_dump '--dbname={}' | grep -v restrict > {out}-{to}.sql",
                site.cluster.connection_string(DATABASE)
            )
        };
        self.shell(&format!(
            "rsync -rcn --out-format=%n {a}/ {b}/ > {out}-ca; \
             {} | sed '{sed}' | jq -S 'sort_by(.id)' > {out}-a && {} | jq -S 'sort_by(.id)' > {out}-b && cmp {out}-a {out}-b; \
             {} && {} && cmp {out}-a.sql {out}-b.sql; true",
            curl(active, "groups", ""),
            curl(passive, "groups", ""),
            dump(active, "a"),
            dump(passive, "b"),
        ))
    }

    /// Where the passive keeps the records of its runs.
    pub(crate) fn passive_runs(&self) -> PathBuf {
        self.sites[1].master.state().join("runs")
    }

    /// What a site asks that has no more than a plugin for the age of files: of each data set the file that changes
    /// last, in milliseconds.
    pub(crate) fn file_ages(&self, plugin: &Path) -> Result<f64> {
        let passive = &self.sites[1].master;
        let files = [
            passive.cadir().join("inventory.txt"),
            passive.state().join("accepted/nc.json"),
            passive.state().join("accepted/db-pe-rbac.json"),
        ];
        let one = |file: &PathBuf| {
            let (plugin, file) = (shell_word(plugin), shell_word(file));
            format!("{plugin} -w 86400 -c 172800 -W 1 -C 1 -f {file}")
        };
        let all: Vec<String> = files.iter().map(one).collect();
        self.shell(&all.join(" && "))
    }

    fn shell(&self, line: &str) -> Result<f64> {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        Ok(process::run(&mut command, self.place.path())?.milliseconds())
    }

    /// The largest peak of pefo's processes so far, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.peak_kib.get()
    }
}

fn curl(site: &Site, what: &str, more: &str) -> String {
    let dir = site.master.directory().display();
    format!(
        "curl -sS --cacert {dir}/nc-ca.pem --cert {dir}/nc-cert.pem --key {dir}/nc-key.pem {more} {}/v1/{what}",
        site.classifier.url()
    )
}

/// A small hierarchy, flat; or the large one.
fn groups(count: usize) -> Vec<Value> {
    if count > 100 {
        return large_hierarchy(NAMES[0], 1);
    }
    let group = |number: usize| {
        json!({
            "id": format!("11111111-2222-4333-8444-{number:012}"),
            "parent": "00000000-0000-4000-8000-000000000000",
            "name": format!("Group {number}"),
            "environment": "production",
            "environment_trumps": false,
            "rule": ["or", ["=", "name", format!("node{number:06}.example.com")]],
            "classes": { "profile::base": { "number": number.to_string() } },
            "variables": {},
        })
    };
    std::iter::once(root_group())
        .chain((1..count).map(group))
        .collect()
}
