//! What is in the database, how it changes, and how two of them are compared.

use std::path::Path;
use std::process::Command;

use pefo_core::Result;
use pefo_testkit::postgres::Cluster;

use crate::process;

/// pgbench's scale: a unit is 100,000 accounts, about 15 MB with their index.
const SCALE: u32 = 40;

/// A database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// pgbench's: 600 MB, nearly all of it in one table.
    Pgbench,
    /// One of the shape and size of PE's RBAC: 5 MB, 40-odd tables.
    Rbac,
}

impl Content {
    /// The database's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pgbench => "pgbench",
            Self::Rbac => "pe-rbac",
        }
    }

    /// Makes and fills it; `scratch` is a directory for output.
    pub(super) fn create(self, cluster: &Cluster, scratch: &Path) -> Result<()> {
        match self {
            Self::Pgbench => {
                cluster.sql("postgres", "create database pgbench;")?;
                let mut pgbench = Command::new(cluster.bin_dir().join("pgbench"));
                pgbench
                    .args(["--initialize", "--quiet"])
                    .arg(format!("--scale={SCALE}"))
                    .arg(cluster.connection_string(self.name()));
                process::run(&mut pgbench, scratch).map(drop)
            }
            Self::Rbac => cluster.create_rbac_like(self.name()),
        }
    }

    /// Makes the roles that it needs.
    pub(super) fn create_roles(self, cluster: &Cluster) -> Result<()> {
        match self {
            Self::Pgbench => Ok(()),
            Self::Rbac => cluster.create_rbac_roles(),
        }
    }

    /// The statement of the change with this number: 1 row in 1,000 of pgbench's accounts, one of RBAC's
    /// users and one line of its log.
    pub(super) fn change(self, number: u64) -> String {
        match self {
            Self::Pgbench => format!(
                "update pgbench_accounts set abalance = abalance + {number} where aid % 1000 = {};",
                number % 1000
            ),
            Self::Rbac => format!(
                "update rbac.subjects set display = 'Changed {number}' where login = 'User1'; \
                 insert into rbac.disclaimers (body) values ('change {number}');"
            ),
        }
    }

    /// A query that gives equal text where equal rows are held.
    pub(super) fn digest(self) -> &'static str {
        match self {
            Self::Pgbench => {
                "select count(*), sum(hashtext(t::text)::bigint) from pgbench_accounts t \
                 union all select count(*), sum(hashtext(t::text)::bigint) from pgbench_tellers t \
                 union all select count(*), sum(hashtext(t::text)::bigint) from pgbench_branches t"
            }
            Self::Rbac => {
                "select count(*), sum(hashtext(t::text)::bigint) from rbac.subjects t \
                 union all select count(*), sum(hashtext(t::text)::bigint) from rbac.tokens t \
                 union all select count(*), sum(hashtext(t::text)::bigint) from rbac.disclaimers t \
                 union all select count(*), sum(hashtext(t::text)::bigint) from \"Audit log\".events t"
            }
        }
    }

    /// A read that is cheap with and without indexes, of the table that a plain dump fills last: who gets
    /// a row has met all of the data.
    pub(crate) fn read(self) -> &'static str {
        match self {
            Self::Pgbench => "select tbalance from public.pgbench_tellers where tid = 7",
            Self::Rbac => "select value from rbac.service_orchestrator where id = 7",
        }
    }
}
