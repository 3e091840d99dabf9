//! A pair of masters with a CA, a classifier, a database and a file each: what every command has to do with.

use std::collections::{BTreeMap, BTreeSet};

use pefo_testkit::ca::TestCa;
use pefo_testkit::classifier::{ClassifierDouble, Options};
use pefo_testkit::masters::{self, Master};
use pefo_testkit::postgres::{Cluster, ClusterOptions};
use pefo_testkit::skip;

use super::{NAME, answer, words};
use crate::classifier::captured;
use crate::evidence::tree;
use crate::pair::{A, B, Pair};

/// A pair with all data sets.
pub(crate) struct World {
    pub(crate) a: Master,
    pub(crate) b: Master,
    pub(crate) ca: TestCa,
    pub(crate) at_a: ClassifierDouble,
    pub(crate) at_b: ClassifierDouble,
    pub(crate) on_a: Cluster,
    pub(crate) on_b: Cluster,
}

impl World {
    /// Configured, not yet paired; B has no CA.
    pub(crate) fn prepared() -> Option<Self> {
        let Pair { mut a, mut b, ca } = Pair::prepared()?;
        let start = || skip::need(Cluster::start_with(&ClusterOptions::default().peer()));
        let (on_a, on_b) = (start()?, start()?);
        on_a.create_rbac_like(NAME).unwrap();
        on_b.create_rbac_roles().unwrap();
        let at_a = ClassifierDouble::start(Options::default().allow(A).groups(captured()));
        let at_b = ClassifierDouble::start(Options::default().allow(B));
        at_b.deploy_classes_of(&captured());
        a.use_database(&on_a, &[NAME]);
        b.use_database(&on_b, &[NAME]);
        a.use_classifier(&at_a, "");
        b.use_classifier(&at_b, "");
        // One machine, one root directory: what B is to have stands there already.
        let file = a.directory().join("hiera.yaml");
        std::fs::write(&file, "version: 5\n").unwrap();
        for master in [&mut a, &mut b] {
            let paths = format!("paths = [\"{}\"]", file.display());
            master.configure(&format!("[files]\npreset = \"none\"\n{paths}\n\n"));
        }
        Some(Self {
            a,
            b,
            ca,
            at_a,
            at_b,
            on_a,
            on_b,
        })
    }

    /// Paired, and everything of A's applied on B.
    pub(crate) fn in_step() -> Option<Self> {
        let world = Self::prepared()?;
        masters::pair(&world.a, &world.b);
        world.a.pefo(["ca", "push", "--seed"]).exits(0);
        world.b.pefo(["ca", "apply"]).exits(0);
        world.a.pefo(["push"]).exits(0);
        world.b.pefo(["apply"]).exits(0);
        Some(world)
    }

    /// Everything that a dry run must leave as it is, by name.
    pub(super) fn picture(&self) -> BTreeMap<String, String> {
        let mut picture = BTreeMap::new();
        for master in [&self.a, &self.b] {
            // State, spool, cadir and configuration; the keys that its sshd lets in.
            for (path, what) in tree(master.directory()) {
                picture.insert(format!("{}: {}", master.certname(), path.display()), what);
            }
            let keys =
                std::fs::read_to_string(master.sshd().authorized_keys_path()).unwrap_or_default();
            picture.insert(format!("{}: authorized keys", master.certname()), keys);
        }
        for (name, double) in [
            ("classifier of a", &self.at_a),
            ("classifier of b", &self.at_b),
        ] {
            picture.insert(
                name.to_owned(),
                serde_json::to_string(&double.groups()).unwrap(),
            );
            picture.insert(format!("{name}: imports"), double.installed().to_string());
        }
        for (name, cluster) in [
            ("databases of a", &self.on_a),
            ("databases of b", &self.on_b),
        ] {
            let all = cluster
                .query_text(
                    "postgres",
                    "select oid, datname from pg_database order by 1",
                )
                .unwrap();
            if all.contains(NAME) {
                let rows = "select count(*), md5(string_agg(t::text, '|' order by id)) from rbac.disclaimers t";
                picture.insert(
                    format!("{name}: rows"),
                    cluster.query_text(NAME, rows).unwrap(),
                );
            }
            picture.insert(name.to_owned(), all);
        }
        picture.insert(
            "accounts".to_owned(),
            std::fs::read_to_string("/etc/passwd").unwrap(),
        );
        picture
    }

    /// A dry run, with and without `--json`: exits 0, its plan says `shows`, nothing is changed.
    #[track_caller]
    pub(super) fn plans(&self, master: &Master, command: &str, more: &[&str], shows: &str) {
        let before = self.picture();
        let run = master
            .pefo(
                words(command)
                    .chain(more.iter().copied())
                    .chain(["--dry-run"]),
            )
            .exits(0);
        assert!(
            run.stdout.contains(shows),
            "{}: the plan does not say {shows:?}: {}",
            run.line,
            run.stdout
        );
        let json = master
            .pefo(
                words(command)
                    .chain(more.iter().copied())
                    .chain(["--dry-run", "--json"]),
            )
            .exits(0);
        let details = answer(&json, command)["details"].clone();
        assert!(!details.is_null(), "{} shows machines no plan", json.line);
        let after = self.picture();
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed: Vec<_> = names
            .into_iter()
            .filter(|name| before.get(*name) != after.get(*name))
            .collect();
        assert!(changed.is_empty(), "{} changed {changed:?}", run.line);
    }
}
