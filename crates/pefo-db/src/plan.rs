//! What a restore would do, decided from the manifest and the server's facts. Pure.
//!
//! A gate that an operator may overrule is overruled by its name ([`RestoreOptions::accept`]) and the
//! plan records that it was; those that cannot be are certain to fail later, or worse.

mod gates;

use std::collections::BTreeSet;

use pefo_core::Result;
use serde::Serialize;

use crate::derived::Derived;
use crate::facts::ServerFacts;
use crate::manifest::DumpManifest;
use crate::name::DatabaseName;
use crate::space::Space;
use gates::Gates;

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
    /// This very dump was restored before: where some tables are only counted, equal counts then tell that
    /// it still stands.
    pub was_restored: bool,
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
            was_restored: false,
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

    /// Says whether this very dump was restored before.
    #[must_use]
    pub fn was_restored(mut self, yes: bool) -> Self {
        self.was_restored = yes;
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
    /// The tablespace it is made in; `None` for the server's default.
    pub tablespace: Option<String>,
    /// Whether all goes to that tablespace, since the server lacks another that the dump uses.
    pub without_tablespaces: bool,
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
    /// Of the tables, those that will be compared by their number of rows only.
    pub counted_only: usize,
    /// Bytes the database has on the active.
    pub size_bytes: u64,
    /// Refusals that were overruled, with what they said.
    pub accepted: Vec<String>,
    /// What stops nobody and is good to know, for people.
    pub notes: Vec<String>,
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
        let tablespace = self.tablespace.as_ref();
        steps.push(format!(
            "create {} (owner {}, {}, {}{})",
            self.shadow,
            properties.owner,
            properties.encoding,
            properties.collate,
            tablespace.map_or_else(String::new, |name| format!(", tablespace {name}"))
        ));
        let here = if self.without_tablespaces {
            ", all in its own tablespace"
        } else {
            ""
        };
        steps.push(format!(
            "restore {} tables with {} rows into it, {} at once{here}",
            self.tables, self.rows, self.jobs
        ));
        steps.push(match self.counted_only {
            0 => "compare every count, digest and sequence with the manifest".to_owned(),
            counted => format!(
                "compare every count, digest and sequence with the manifest; of {counted} tables the count only"
            ),
        });
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
/// `db-locale-missing`, `db-prepared-transactions`, `db-rights`; and, which may be overruled,
/// `db-other-database`, `db-product-version`, `db-replicated`, `db-not-superuser`,
/// `db-tablespace-missing`, `db-space`.
pub fn plan_restore(
    manifest: &DumpManifest,
    facts: &ServerFacts,
    database: &DatabaseName,
    options: &RestoreOptions,
) -> Result<RestorePlan> {
    let mut gates = Gates::new(manifest, facts, database, &options.accept);
    gates.names()?;
    gates.versions()?;
    gates.contents()?;
    gates.live_database()?;
    gates.product(options.product_version.as_deref())?;
    let layout = gates.tablespaces()?;
    gates.rights(&layout)?;
    gates.room(&layout)?;

    let mut notes = Vec::new();
    if let Space::Unknown(why) = &facts.space {
        notes.push(format!(
            "whether the server has room for the restore is not known: {why}"
        ));
    }
    notes.extend(other_collation(manifest, facts));
    let derived = Derived::of(database);
    Ok(RestorePlan {
        database: database.clone(),
        replaces: facts.databases.contains(database),
        leftovers: derived
            .leftovers()?
            .into_iter()
            .filter(|name| facts.databases.contains(name))
            .collect(),
        shadow: derived.shadow()?,
        tablespace: layout.tablespace(),
        without_tablespaces: layout.is_flat,
        jobs: options.jobs.max(1),
        keep_previous: options.keep_previous,
        tables: manifest.state.tables(),
        rows: manifest.state.rows(),
        counted_only: manifest.state.counted_only(),
        size_bytes: manifest.size_bytes,
        accepted: gates.into_accepted(),
        notes,
        server_major: facts.version_num / 10_000,
        manifest: manifest.clone(),
    })
}

/// A restore builds every index anew, so another version harms none of them.
fn other_collation(manifest: &DumpManifest, facts: &ServerFacts) -> Option<String> {
    let there = manifest.collation_version.actual.as_ref()?;
    let here = facts.collation_version.as_ref()?;
    (here != there).then(|| {
        format!(
            "the collation {} has version {here} here and {there} on the active: texts may sort otherwise",
            manifest.state.properties.collation()
        )
    })
}

#[cfg(test)]
mod tests;
