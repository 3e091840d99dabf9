//! What the tests share: a server with our tools, a scratch directory, and questions by psql.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use pefo_core::clock::SystemClock;
use pefo_core::launch::DirectLauncher;
use pefo_core::progress::Silent;
use pefo_core::{Error, Result};
use pefo_db::{
    DatabaseName, DumpManifest, DumpOptions, RestoreOptions, RestoreReport, Server, Tools,
};
use pefo_testkit::postgres::{Cluster, ClusterOptions};
use pefo_testkit::skip;

pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    pub(crate) server: Server,
    pub(crate) tools: Tools,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn name(text: &str) -> DatabaseName {
    DatabaseName::new(text).unwrap()
}

impl Bench {
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&ClusterOptions::default())
    }

    pub(crate) fn start_with(options: &ClusterOptions) -> Option<Self> {
        let cluster = skip::need(Cluster::start_with(options))?;
        let server =
            Server::on_socket(cluster.socket_dir(), cluster.superuser()).port(cluster.port());
        let tools = Tools::new(Arc::new(DirectLauncher::default())).bin_dir(cluster.bin_dir());
        Some(Self {
            cluster,
            server,
            tools,
            dir: tempfile::tempdir().unwrap(),
        })
    }

    /// With `pe-rbac` in it.
    pub(crate) fn with_rbac() -> Option<Self> {
        let bench = Self::start()?;
        bench.cluster.create_rbac_like("pe-rbac").unwrap();
        Some(bench)
    }

    /// Makes the database `live`, with what `sql` makes in it.
    pub(crate) fn create_live(&self, sql: &str) {
        let create = "create database live";
        self.cluster.sql("postgres", create).unwrap();
        self.cluster.sql("live", sql).unwrap();
    }

    pub(crate) async fn dump(&self, database: &str, to: &str) -> Result<(PathBuf, DumpManifest)> {
        let dir = self.dir.path().join(to);
        let options = DumpOptions::default();
        let manifest = pefo_db::dump(
            &self.server,
            &self.tools,
            &name(database),
            &dir,
            &options,
            &SystemClock,
            &Silent,
        )
        .await?;
        Ok((dir, manifest))
    }

    pub(crate) async fn restore(
        &self,
        database: &str,
        dir: &std::path::Path,
        options: &RestoreOptions,
    ) -> Result<RestoreReport> {
        pefo_db::restore(
            &self.server,
            &self.tools,
            &name(database),
            dir,
            options,
            &SystemClock,
            &Silent,
        )
        .await
    }

    /// What differs in the live database, one a line.
    pub(crate) async fn differences(&self, database: &str, manifest: &DumpManifest) -> Vec<String> {
        let report = pefo_db::verify(&self.server, &name(database), manifest, &Silent)
            .await
            .unwrap();
        assert!(report.definitions_compared);
        report.differences.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn ask(&self, database: &str, query: &str) -> String {
        self.cluster.query_text(database, query).unwrap()
    }

    /// The databases that are not the server's own.
    pub(crate) fn databases(&self) -> Vec<String> {
        let query = "select datname from pg_database where datname not in ('postgres', 'template0', 'template1') order by 1";
        self.ask("postgres", query)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The whole database as PostgreSQL's own text dump prints it, `CREATE DATABASE` included: an
    /// opinion on equality that owes nothing to our queries.
    pub(crate) fn as_text(&self, database: &str) -> Vec<String> {
        let mut pg_dump = Command::new(self.cluster.bin_dir().join("pg_dump"));
        // A column that its parent got later stands elsewhere after PostgreSQL's own restore, by design.
        pg_dump.arg("--exclude-table=rbac.child");
        let output = pg_dump
            .arg("--create")
            .arg("--dbname")
            .arg(self.cluster.connection_string(database))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        // Newer releases print a random key for psql, another in every dump.
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.contains("restrict "))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }
}

/// Fails with the first lines that differ, not with two whole databases.
pub(crate) fn assert_same_text(a: &[String], b: &[String]) {
    let differing = a
        .iter()
        .zip(b)
        .filter(|(a, b)| a != b)
        .take(3)
        .collect::<Vec<_>>();
    assert!(
        a.len() == b.len() && differing.is_empty(),
        "{} and {} lines; {differing:?}",
        a.len(),
        b.len()
    );
}

/// The rule of a refusal.
pub(crate) fn rule<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    let error: Error = outcome.unwrap_err();
    error
        .rule()
        .unwrap_or_else(|| panic!("no refusal: {error:?}"))
        .to_owned()
}
