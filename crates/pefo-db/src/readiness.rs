//! Whether a server and PostgreSQL's programs would do at all, asked before there is anything to dump or to
//! restore: that somebody is let in, who that is, and that the programs fit the server.
//!
//! What a certain dump needs besides (roles, extensions, room) its plan tells ([`crate::plan_restore`]).

use pefo_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::server::{Server, get};
use crate::tools::{ToolVersion, Tools};

/// What a server and the programs here are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Readiness {
    /// The server's version as one number: 150014 for 15.14.
    pub version_num: u32,
    /// Who we are there.
    pub role: String,
    /// Whether that is a superuser.
    pub is_superuser: bool,
    /// Whether it may make databases, as a restore does.
    pub may_create_databases: bool,
    /// The `pg_dump` that would be used.
    pub pg_dump: ToolVersion,
    /// The `pg_restore` that would be used.
    pub pg_restore: ToolVersion,
}

impl Readiness {
    /// Asks the server and the programs.
    ///
    /// # Errors
    /// `Unreachable` or `Denied` by the server; `NotFound` where a program is missing, with the package.
    pub async fn gather(server: &Server, tools: &Tools) -> Result<Self> {
        let session = server.maintain().await?;
        let row = session.row("ask who we are", ABOUT, &[]).await?;
        Ok(Self {
            version_num: session.version_num().await?,
            role: get(&row, 0)?,
            is_superuser: get(&row, 1)?,
            may_create_databases: get(&row, 2)?,
            pg_dump: tools.version("pg_dump").await?,
            pg_restore: tools.version("pg_restore").await?,
        })
    }

    /// The server's major version.
    pub fn server_major(&self) -> u32 {
        self.version_num / 10_000
    }

    /// What would keep it from being dumped: `db-tool-older-than-server`.
    ///
    /// # Errors
    /// `Refused`.
    pub fn check_for_dump(&self) -> Result<()> {
        self.is_as_new("pg_dump", &self.pg_dump)
    }

    /// What would keep every restore from going well: `db-tool-older-than-server`, `db-rights`.
    ///
    /// # Errors
    /// `Refused`.
    pub fn check_for_restore(&self) -> Result<()> {
        self.is_as_new("pg_restore", &self.pg_restore)?;
        if self.is_superuser || self.may_create_databases {
            return Ok(());
        }
        let message = format!("{} may not make databases", self.role);
        Err(Error::refused("db-rights", message)
            .hint("grant it CREATEDB, or set [database] user and run_as to the superuser"))
    }

    fn is_as_new(&self, name: &str, program: &ToolVersion) -> Result<()> {
        let major = self.server_major();
        if program.major >= major {
            return Ok(());
        }
        let message = format!("{name} is version {}, the server is {major}", program.major);
        Err(
            Error::refused("db-tool-older-than-server", message).hint(format!(
                "install postgresql-client-{major}, or set [database] bin_dir"
            )),
        )
    }
}

const ABOUT: &str = "\
select rolname::text, rolsuper, rolcreatedb from pg_catalog.pg_roles where rolname = current_user";

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, major: u32) -> ToolVersion {
        ToolVersion {
            text: format!("{name} (PostgreSQL) {major}.1"),
            major,
        }
    }

    fn ready() -> Readiness {
        Readiness {
            version_num: 150_014,
            role: "pefo".to_owned(),
            is_superuser: false,
            may_create_databases: true,
            pg_dump: tool("pg_dump", 15),
            pg_restore: tool("pg_restore", 16),
        }
    }

    #[test]
    fn programs_older_than_the_server_are_refused_before_anything_is_tried() {
        let fits = ready();
        assert!(fits.check_for_dump().is_ok() && fits.check_for_restore().is_ok());
        let old = Readiness {
            pg_dump: tool("pg_dump", 13),
            pg_restore: tool("pg_restore", 13),
            ..ready()
        };
        for refused in [old.check_for_dump(), old.check_for_restore()] {
            let error = refused.unwrap_err();
            assert_eq!(error.rule(), Some("db-tool-older-than-server"));
            assert!(error.hint_text().unwrap().contains("postgresql-client-15"));
        }
    }

    #[test]
    fn who_may_not_make_databases_cannot_restore_unless_it_is_the_superuser() {
        let poor = Readiness {
            may_create_databases: false,
            ..ready()
        };
        assert!(poor.check_for_dump().is_ok());
        assert_eq!(
            poor.check_for_restore().unwrap_err().rule(),
            Some("db-rights")
        );
        let superuser = Readiness {
            is_superuser: true,
            ..poor
        };
        assert!(superuser.check_for_restore().is_ok());
    }
}
