//! The gates of a restore: each refuses by one rule, for one reason.
//!
//! What is certain to fail later cannot be overruled; neither can what would do harm.

use std::collections::{BTreeMap, BTreeSet};

use pefo_core::{Error, Result};

use crate::derived::Purpose;
use crate::facts::ServerFacts;
use crate::manifest::{DumpManifest, first_few};
use crate::name::DatabaseName;
use crate::rights::Right;
use crate::space::Space;
use crate::state::{DigestAlgorithm, LocaleProvider};
use crate::tablespace;

/// What is asked about, and what was overruled so far.
pub(super) struct Gates<'a> {
    manifest: &'a DumpManifest,
    facts: &'a ServerFacts,
    database: &'a DatabaseName,
    accept: &'a BTreeSet<String>,
    accepted: Vec<String>,
}

/// Where the restored database and its objects will lie.
pub(super) struct Layout<'a> {
    /// The database's own tablespace.
    home: &'a str,
    /// Whether all goes there, whatever tablespace it has on the active.
    pub(super) is_flat: bool,
}

impl Layout<'_> {
    /// The database's own tablespace, where it is not the server's default.
    pub(super) fn tablespace(&self) -> Option<String> {
        (self.home != tablespace::DEFAULT).then(|| self.home.to_owned())
    }
}

impl<'a> Gates<'a> {
    pub(super) fn new(
        manifest: &'a DumpManifest,
        facts: &'a ServerFacts,
        database: &'a DatabaseName,
        accept: &'a BTreeSet<String>,
    ) -> Self {
        Self {
            manifest,
            facts,
            database,
            accept,
            accepted: Vec::new(),
        }
    }

    /// What each overruled refusal said.
    pub(super) fn into_accepted(self) -> Vec<String> {
        self.accepted
    }

    fn overrulable(&mut self, refusal: Error) -> Result<()> {
        match refusal.rule() {
            Some(rule) if self.accept.contains(rule) => {
                self.accepted.push(refusal.to_string());
                Ok(())
            }
            _ => Err(refusal),
        }
    }

    pub(super) fn names(&mut self) -> Result<()> {
        let database = self.database;
        if Purpose::of(database) != Purpose::Ordinary {
            let message =
                format!("{database} is a name of pefo's own for a database beside a live one");
            return Err(Error::refused("db-derived-name", message).hint("name the live database"));
        }
        if self.manifest.database != *database {
            let message = format!(
                "the dump is of {}, not of {database}",
                self.manifest.database
            );
            self.overrulable(Error::refused("db-other-database", message))?;
        }
        Ok(())
    }

    pub(super) fn versions(&self) -> Result<()> {
        let (manifest, facts) = (self.manifest, self.facts);
        DigestAlgorithm::named(&manifest.digest_algorithm)?;
        let server_major = facts.version_num / 10_000;
        let newest = manifest.server_major().max(manifest.pg_dump.major);
        if server_major < newest {
            let message = format!(
                "the server is PostgreSQL {server_major}, the dump is of {} by pg_dump {}",
                manifest.server_major(),
                manifest.pg_dump.major
            );
            return Err(Error::refused("db-server-older", message).hint(
                "a dump loads into the same major version or a newer one: upgrade this server",
            ));
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

    pub(super) fn contents(&self) -> Result<()> {
        let (state, facts) = (&self.manifest.state, self.facts);
        let missing: Vec<&str> = state
            .required_roles()
            .into_iter()
            .filter(|role| !facts.roles.contains(*role))
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "the server lacks roles that the dump needs: {}",
                missing.join(", ")
            );
            return Err(Error::refused("db-role-missing", message)
                .hint("create them as on the active (pg_dumpall --roles-only shows how); a dump holds no roles"));
        }
        let missing: Vec<&str> = state
            .extensions
            .iter()
            .map(|extension| extension.name.as_str())
            .filter(|name| !facts.extensions.contains(*name))
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "the server cannot create the extensions {}",
                missing.join(", ")
            );
            return Err(Error::refused("db-extension-missing", message)
                .hint("install their package (Debian: postgresql-contrib) on this master"));
        }
        let properties = &state.properties;
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
                properties.collation()
            );
            return Err(Error::refused("db-locale-missing", message));
        }
        Ok(())
    }

    pub(super) fn live_database(&mut self) -> Result<()> {
        let (facts, database) = (self.facts, self.database);
        if !facts.prepared_transactions.is_empty() {
            let message = format!(
                "{database} has prepared transactions: {}",
                first_few(&facts.prepared_transactions)
            );
            return Err(Error::refused("db-prepared-transactions", message)
                .hint("commit or roll back each of them by name in that database"));
        }
        if facts.replication.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{database} takes part in logical replication: {}",
            first_few(&facts.replication)
        );
        self.overrulable(
            Error::refused("db-replicated", message)
                .hint("is this a replica of the product's own? they would follow the old database"),
        )
    }

    pub(super) fn product(&mut self, here: Option<&str>) -> Result<()> {
        let there = self.manifest.product_version.as_deref();
        let Some(here) = here.filter(|here| there != Some(*here)) else {
            return Ok(());
        };
        let there = there.unwrap_or("unknown");
        let message = format!("the dump is from product version {there}, this master has {here}");
        self.overrulable(
            Error::refused("db-product-version", message)
                .hint("upgrade both masters to the same version first"),
        )
    }

    /// A restored database lies where the live one does: whoever placed that had reasons. The first one
    /// lies where it does on the active.
    pub(super) fn tablespaces(&mut self) -> Result<Layout<'a>> {
        let (placement, facts) = (&self.manifest.placement, self.facts);
        let is_missing = |name: &str| !facts.tablespaces.contains_key(name);
        let elsewhere = placement.elsewhere.iter().map(|used| used.name.as_str());
        let mut missing: BTreeSet<&str> = elsewhere.filter(|name| is_missing(name)).collect();
        let is_flat = !missing.is_empty();
        let home = match &facts.live_tablespace {
            Some(live) => live.as_str(),
            None if is_missing(&placement.tablespace) => {
                missing.insert(&placement.tablespace);
                tablespace::DEFAULT
            }
            None => &placement.tablespace,
        };
        if !missing.is_empty() {
            let names: Vec<&str> = missing.into_iter().collect();
            let message = format!(
                "the server lacks tablespaces that the dump uses: {}",
                names.join(", ")
            );
            self.overrulable(
                Error::refused("db-tablespace-missing", message).hint(format!(
                    "create them as on the active (pg_dumpall --tablespaces-only shows how); or overrule, then {home} gets what is in them"
                )),
            )?;
        }
        Ok(Layout { home, is_flat })
    }

    pub(super) fn rights(&mut self, layout: &Layout<'_>) -> Result<()> {
        let facts = self.facts;
        if facts.is_superuser {
            return Ok(());
        }
        let message = "we are no superuser on the server, and can neither set every owner nor end every session";
        self.overrulable(
            Error::refused("db-not-superuser", message)
                .hint("set [database] user and run_as to the superuser"),
        )?;
        let elsewhere = &self.manifest.placement.elsewhere;
        let others = elsewhere.iter().map(|used| used.name.as_str());
        let tablespaces = layout
            .tablespace()
            .into_iter()
            .chain(others.filter(|_| !layout.is_flat).map(str::to_owned))
            .filter(|name| facts.tablespaces.get(name) == Some(&false));
        let missing: Vec<String> = facts
            .missing_rights
            .iter()
            .cloned()
            .chain(tablespaces.map(Right::CreateIn))
            .map(|right| right.to_string())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!("we lack what a restore needs: {}", missing.join(", "));
        Err(Error::refused("db-rights", message)
            .hint("grant it to the role of [database] user, or use the superuser"))
    }

    pub(super) fn room(&mut self, layout: &Layout<'_>) -> Result<()> {
        let (manifest, facts) = (self.manifest, self.facts);
        let Space::Known(disks) = &facts.space else {
            return Ok(());
        };
        let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
        let mut at_home = manifest.size_bytes.saturating_sub(facts.leftover_bytes);
        for used in &manifest.placement.elsewhere {
            if !layout.is_flat && used.name != layout.home {
                at_home = at_home.saturating_sub(used.size_bytes);
                bytes.insert(&used.name, used.size_bytes);
            }
        }
        bytes.insert(layout.home, at_home);
        let wal = manifest.size_bytes.min(disks.max_wal_bytes);
        let short = disks.shortages(&bytes, wal);
        if short.is_empty() {
            return Ok(());
        }
        let message = format!(
            "no room to restore beside the live database: {}",
            short.join("; ")
        );
        self.overrulable(
            Error::refused("db-space", message)
                .hint("make room, or keep fewer previous databases ([database] keep_previous)"),
        )
    }
}
