//! A master with all that it keeps in step: a CA, a classifier and a database.

use std::collections::BTreeSet;
use std::time::Duration;

use pefo_testkit::classifier::{ClassifierDouble, Options};
use pefo_testkit::masters::{Master, Run};
use pefo_testkit::network::Host;
use pefo_testkit::postgres::{Cluster, ClusterOptions};
use pefo_testkit::{skip, wait};

use crate::classifier::{captured, web_servers};
use crate::schedule;

const DATABASE: &str = "pe-rbac";

/// A master, its console and its cluster.
pub(crate) struct Seat {
    pub(crate) master: Master,
    pub(crate) console: ClassifierDouble,
    pub(crate) cluster: Cluster,
}

/// Two of them, not paired yet; the groups and the rows are the first one's. `hosts` is where their consoles stand.
pub(crate) fn seats(a: Master, b: Master, hosts: Option<[&Host; 2]>) -> Option<[Seat; 2]> {
    let mut groups = captured();
    groups.push(web_servers("0"));
    let options = [
        Options::default()
            .allow(a.certname())
            .groups(groups.clone()),
        Options::default().allow(b.certname()),
    ];
    let mut seats = Vec::new();
    for (nth, (mut master, options)) in [a, b].into_iter().zip(options).enumerate() {
        let start = || ClassifierDouble::start(options);
        let console = match hosts.and_then(|hosts| hosts.get(nth).copied()) {
            Some(host) => host.enter(start),
            None => start(),
        };
        console.deploy_classes_of(&groups);
        let cluster = Cluster::start_with(&ClusterOptions::default().peer());
        let cluster = skip::need(cluster)?;
        if nth == 0 {
            found(&cluster);
        }
        master.use_classifier(&console, "poll_seconds = 1");
        master.use_database(&cluster, &[DATABASE]);
        // Databases cross when a test says so, not by the daemon's clock.
        master.configure(&schedule::minutes(schedule::in_minutes(30)));
        seats.push(Seat {
            master,
            console,
            cluster,
        });
    }
    seats.try_into().ok()
}

/// A small database: what matters here is when it crosses, and that it does so whole.
fn found(cluster: &Cluster) {
    let create = format!("create database \"{DATABASE}\"");
    cluster.sql("postgres", &create).unwrap();
    let tables = "create schema rbac; create table rbac.said (number bigint primary key); \
                  create table rbac.counted (total bigint not null); insert into rbac.counted values (0);";
    cluster.sql(DATABASE, tables).unwrap();
}

impl Seat {
    /// `ca_crl.pem` as it stands.
    pub(crate) fn crl(&self) -> Vec<u8> {
        std::fs::read(self.master.cadir().join("ca_crl.pem")).unwrap()
    }

    /// The rows of the inventory.
    pub(crate) fn inventory(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.master.cadir().join("inventory.txt")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Changes two groups at once to say a number.
    pub(crate) fn classify(&self, number: u64) {
        let mut groups = self.console.groups();
        for group in &mut groups {
            if group["name"] == "Web servers" {
                group["classes"]["profile::web"]["password"] = number.to_string().into();
                group["variables"]["number"] = number.to_string().into();
            }
        }
        self.console.set_groups(groups);
    }

    /// The number that the groups say, where they say one and the same.
    pub(crate) fn classified(&self) -> Option<u64> {
        let groups = self.console.groups();
        let web = groups.iter().find(|group| group["name"] == "Web servers")?;
        let password = web["classes"]["profile::web"]["password"].as_str()?;
        let variable = web["variables"]["number"].as_str()?;
        (password == variable).then(|| password.parse().ok())?
    }

    /// Runs a command beside the daemon, which does the same by itself after a change of role: once that has ended.
    #[track_caller]
    pub(crate) fn beside(&self, arguments: [&str; 2]) -> Run {
        let ran = wait::within(Duration::from_secs(60), || {
            let run = self.master.pefo(arguments);
            (run.code != 5).then_some(run)
        });
        ran.unwrap_or_else(|| panic!("{arguments:?} is locked for good"))
    }

    /// Pushes what the daemon does not, or only after a while.
    #[track_caller]
    pub(crate) fn push_rest(&self) {
        self.beside(["db", "push"]).exits(0);
        let pushed = self.master.pefo(["nc", "push"]);
        // Or the daemon is at it.
        assert!([0, 5].contains(&pushed.code), "{pushed:?}");
    }

    /// Adds a row to the database and counts it in another table, in one transaction.
    pub(crate) fn say(&self, number: u64) {
        let statements = format!(
            "begin; insert into rbac.said values ({number}); update rbac.counted set total = total + 1; commit;"
        );
        self.cluster.sql(DATABASE, &statements).unwrap();
    }

    /// The numbers that the database has rows of.
    pub(crate) fn said(&self) -> Vec<u64> {
        self.try_said().unwrap()
    }

    /// As [`Seat::said`]; `None` where nobody gets in.
    ///
    /// # Panics
    /// Where it is not whole: as many as were counted.
    pub(crate) fn try_said(&self) -> Option<Vec<u64>> {
        let query = "select (select total from rbac.counted), \
                     (select string_agg(number::text, ' ' order by number) from rbac.said)";
        let text = self.cluster.query_text(DATABASE, query).ok()?;
        let (total, numbers) = text.trim_end().split_once('|').unwrap();
        let numbers = numbers.split_whitespace();
        let said: Vec<u64> = numbers.map(|number| number.parse().unwrap()).collect();
        assert_eq!(total.parse(), Ok(said.len()), "{said:?}");
        Some(said)
    }
}
