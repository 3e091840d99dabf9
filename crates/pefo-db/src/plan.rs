//! What a restore would do, decided from the manifest and the server's facts. Pure.
//!
//! A gate that an operator may overrule is overruled by its name ([`RestoreOptions::accept`]) and the
//! plan records that it was; those that cannot be are certain to fail later, or worse.

use std::collections::BTreeSet;

use pefo_core::{Error, Result};
use serde::Serialize;

use crate::derived::{Derived, Purpose};
use crate::facts::ServerFacts;
use crate::manifest::{DumpManifest, first_few};
use crate::name::DatabaseName;
use crate::state::{DIGEST_ALGORITHM, LocaleProvider};

/// How a restore is done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// How many tables are restored at once.
    pub jobs: u32,
    /// How many previous databases are kept for a rollback.
    pub keep_previous: usize,
    /// The version of the product on this master; the dump's must be the same.
    pub product_version: Option<String>,
    /// Restore even where the live database equals the dump.
    pub even_if_unchanged: bool,
    /// Rules of refusals that the operator overrules.
    pub accept: BTreeSet<String>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            jobs: 2,
            keep_previous: 1,
            product_version: None,
            even_if_unchanged: false,
            accept: BTreeSet::new(),
        }
    }
}

impl RestoreOptions {
    /// Sets how many tables are restored at once.
    #[must_use]
    pub fn jobs(mut self, jobs: u32) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Sets how many previous databases are kept.
    #[must_use]
    pub fn keep_previous(mut self, count: usize) -> Self {
        self.keep_previous = count;
        self
    }

    /// Sets the version of the product on this master.
    #[must_use]
    pub fn product_version(mut self, version: impl Into<String>) -> Self {
        self.product_version = Some(version.into());
        self
    }

    /// Restores even where nothing changed.
    #[must_use]
    pub fn even_if_unchanged(mut self, yes: bool) -> Self {
        self.even_if_unchanged = yes;
        self
    }

    /// Overrules the refusal `rule`.
    #[must_use]
    pub fn accept(mut self, rule: impl Into<String>) -> Self {
        self.accept.insert(rule.into());
        self
    }
}

/// What a restore will do.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RestorePlan {
    /// The live database that is replaced, or made.
    pub database: DatabaseName,
    /// Where the dump is restored and checked first.
    pub shadow: DatabaseName,
    /// Whether the live database exists already.
    pub replaces: bool,
    /// Left by a run that was killed; dropped first.
    pub leftovers: Vec<DatabaseName>,
    /// How many tables are restored at once.
    pub jobs: u32,
    /// How many previous databases are kept.
    pub keep_previous: usize,
    /// Tables to restore.
    pub tables: usize,
    /// Rows to restore.
    pub rows: u64,
    /// Bytes the database has on the active.
    pub size_bytes: u64,
    /// Refusals that were overruled, with what they said.
    pub accepted: Vec<String>,
    /// The major version of the server.
    #[serde(skip)]
    pub(crate) server_major: u32,
    /// The dump's manifest.
    #[serde(skip)]
    pub(crate) manifest: DumpManifest,
}

impl RestorePlan {
    /// The steps, one a line, for people.
    pub fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = self
            .leftovers
            .iter()
            .map(|name| format!("drop {name}, left by a killed run"))
            .collect();
        let properties = &self.manifest.state.properties;
        steps.push(format!(
            "create {} (owner {}, {}, {})",
            self.shadow, properties.owner, properties.encoding, properties.collate
        ));
        steps.push(format!(
            "restore {} tables with {} rows into it, {} at once",
            self.tables, self.rows, self.jobs
        ));
        steps.push("compare every count, digest and sequence with the manifest".to_owned());
        steps.push(
            "set settings, grants, comment and the rights on the schema public as on the active"
                .to_owned(),
        );
        if self.replaces {
            steps.push(format!(
                "rename {} out of the way and {} into its place, in one transaction",
                self.database, self.shadow
            ));
            steps.push(format!(
                "keep the newest {} of the previous databases",
                self.keep_previous
            ));
        } else {
            steps.push(format!("rename {} to {}", self.shadow, self.database));
        }
        steps
    }
}

/// Decides how `manifest` is restored as `database`, or refuses.
///
/// # Errors
/// Refusals by rule: `db-derived-name`, `db-digest-unknown`, `db-server-older`,
/// `db-tool-older-than-dump`, `db-role-missing`, `db-extension-missing`, `db-encoding-missing`,
/// `db-locale-missing`, `db-prepared-transactions`; and, which may be overruled, `db-other-database`,
/// `db-product-version`, `db-replicated`, `db-not-superuser`.
pub fn plan_restore(
    manifest: &DumpManifest,
    facts: &ServerFacts,
    database: &DatabaseName,
    options: &RestoreOptions,
) -> Result<RestorePlan> {
    let mut gates = Gates {
        accept: &options.accept,
        accepted: Vec::new(),
    };
    if Purpose::of(database) != Purpose::Ordinary {
        let message =
            format!("{database} is a name of pefo's own for a database beside a live one");
        return Err(Error::refused("db-derived-name", message).hint("name the live database"));
    }
    if manifest.digest_algorithm != DIGEST_ALGORITHM {
        let message = format!(
            "the dump was digested by {:?}, this program knows {DIGEST_ALGORITHM:?}",
            manifest.digest_algorithm
        );
        return Err(Error::refused("db-digest-unknown", message)
            .hint("run the same version of pefo on both masters"));
    }
    let server_major = facts.version_num / 10_000;
    versions(manifest, facts, server_major)?;
    contents(manifest, facts)?;
    if !facts.prepared_transactions.is_empty() {
        let message = format!(
            "{database} has prepared transactions: {}",
            first_few(&facts.prepared_transactions)
        );
        return Err(Error::refused("db-prepared-transactions", message)
            .hint("commit or roll back each of them by name in that database"));
    }
    if manifest.database != *database {
        let message = format!("the dump is of {}, not of {database}", manifest.database);
        gates.overrulable(Error::refused("db-other-database", message))?;
    }
    if let Some(here) = &options.product_version
        && manifest.product_version.as_ref() != Some(here)
    {
        let there = manifest.product_version.as_deref().unwrap_or("unknown");
        let message = format!("the dump is from product version {there}, this master has {here}");
        gates.overrulable(
            Error::refused("db-product-version", message)
                .hint("upgrade both masters to the same version first"),
        )?;
    }
    if !facts.replication.is_empty() {
        let message = format!(
            "{database} takes part in logical replication: {}",
            first_few(&facts.replication)
        );
        gates
            .overrulable(Error::refused("db-replicated", message).hint(
                "is this a replica of the product's own? they would follow the old database",
            ))?;
    }
    if !facts.is_superuser {
        let message = "we are no superuser on the server, and can neither set every owner nor end every session";
        gates.overrulable(
            Error::refused("db-not-superuser", message)
                .hint("set [database] user and run_as to the superuser"),
        )?;
    }

    let derived = Derived::of(database);
    let shadow = derived.shadow()?;
    let leftovers = [shadow.clone(), derived.swapping()?, derived.drill()?];
    Ok(RestorePlan {
        database: database.clone(),
        replaces: facts.databases.contains(database),
        leftovers: leftovers
            .into_iter()
            .filter(|name| facts.databases.contains(name))
            .collect(),
        shadow,
        jobs: options.jobs.max(1),
        keep_previous: options.keep_previous,
        tables: manifest.state.tables(),
        rows: manifest.state.rows(),
        size_bytes: manifest.size_bytes,
        accepted: gates.accepted,
        server_major,
        manifest: manifest.clone(),
    })
}

struct Gates<'a> {
    accept: &'a BTreeSet<String>,
    accepted: Vec<String>,
}

impl Gates<'_> {
    fn overrulable(&mut self, refusal: Error) -> Result<()> {
        match refusal.rule() {
            Some(rule) if self.accept.contains(rule) => {
                self.accepted.push(refusal.to_string());
                Ok(())
            }
            _ => Err(refusal),
        }
    }
}

fn versions(manifest: &DumpManifest, facts: &ServerFacts, server_major: u32) -> Result<()> {
    let newest = manifest.server_major().max(manifest.pg_dump.major);
    if server_major < newest {
        let message = format!(
            "the server is PostgreSQL {server_major}, the dump is of {} by pg_dump {}",
            manifest.server_major(),
            manifest.pg_dump.major
        );
        return Err(Error::refused("db-server-older", message)
            .hint("a dump loads into the same major version or a newer one: upgrade this server"));
    }
    if facts.pg_restore.major < manifest.pg_dump.major {
        let message = format!(
            "{} is older than the pg_dump {} of the dump",
            facts.pg_restore.text, manifest.pg_dump.major
        );
        return Err(
            Error::refused("db-tool-older-than-dump", message).hint(format!(
                "install postgresql-client-{}, or set [database] bin_dir",
                manifest.pg_dump.major
            )),
        );
    }
    Ok(())
}

fn contents(manifest: &DumpManifest, facts: &ServerFacts) -> Result<()> {
    let properties = &manifest.state.properties;
    let roles = manifest.state.required_roles();
    let missing: Vec<String> = roles
        .into_iter()
        .filter(|role| !facts.roles.contains(*role))
        .map(str::to_owned)
        .collect();
    if !missing.is_empty() {
        let message = format!(
            "the server lacks roles that the dump needs: {}",
            missing.join(", ")
        );
        return Err(Error::refused("db-role-missing", message)
            .hint("create them as on the active (pg_dumpall --roles-only shows how); a dump holds no roles"));
    }
    let extensions = manifest
        .state
        .extensions
        .iter()
        .map(|extension| &extension.name);
    let missing: Vec<String> = extensions
        .filter(|name| !facts.extensions.contains(*name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        let message = format!(
            "the server cannot create the extensions {}",
            missing.join(", ")
        );
        return Err(Error::refused("db-extension-missing", message)
            .hint("install their package (Debian: postgresql-contrib) on this master"));
    }
    if !facts.knows_encoding {
        let message = format!(
            "the server does not know the encoding {}",
            properties.encoding
        );
        return Err(Error::refused("db-encoding-missing", message));
    }
    if properties.locale_provider == LocaleProvider::Icu && !facts.has_icu {
        let message = format!(
            "the dump's locale {} is of ICU, which the server is built without",
            properties.locale.as_deref().unwrap_or("")
        );
        return Err(Error::refused("db-locale-missing", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
