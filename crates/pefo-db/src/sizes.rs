//! How large tables are, for progress only: in the database before a dump, in the files before a restore.

use std::collections::HashMap;
use std::path::Path;

use pefo_core::Result;

use crate::manifest::DumpManifest;
use crate::server::{Session, get};
use crate::state::RelationKind;
use crate::tools::Tools;

/// What a dump has before it.
#[derive(Debug)]
pub(crate) struct Sizes {
    /// Bytes of each table by `schema.name`.
    pub(crate) tables: HashMap<String, u64>,
    /// Bytes of all of it.
    pub(crate) total: u64,
}

/// What a dump has to do.
#[derive(Debug)]
pub(crate) struct Work {
    /// What `pg_dump` does.
    pub(crate) sizes: Sizes,
    /// Everything that it dumps with rows, and everything that is digested: a table is both.
    pub(crate) items: u64,
}

impl Work {
    /// Sizes are those that VACUUM or ANALYZE last counted: a table that is being altered is not waited
    /// for.
    pub(crate) async fn of(session: &Session) -> Result<Self> {
        let (mut tables, mut items) = (HashMap::new(), 0);
        for row in session.rows("ask for the sizes", RELATIONS, &[]).await? {
            let (name, bytes): (String, Option<i64>) = (get(&row, 0)?, get(&row, 1)?);
            items += 1;
            if let Some(bytes) = bytes {
                items += 1;
                tables.insert(name, u64::try_from(bytes).unwrap_or_default());
            }
        }
        let total = tables.values().sum();
        let sizes = Sizes { tables, total };
        Ok(Self { sizes, items })
    }
}

impl Sizes {
    /// The files of a dump, by the tables that `pg_restore` says they are of. Where it does not, none is
    /// told apart: that is no reason not to restore.
    pub(crate) async fn of_files(tools: &Tools, manifest: &DumpManifest, dir: &Path) -> Self {
        let listing = tools.list_data(dir).await.unwrap_or_default();
        Self {
            tables: in_listing(&listing, manifest),
            total: manifest.files.iter().map(|file| file.size).sum(),
        }
    }
}

/// What a dump carries; tables with the pages that they and their TOAST tables have.
const RELATIONS: &str = "\
select n.nspname || '.' || c.relname, \
       case when c.relkind = 'r' then \
         (greatest(c.relpages, 0) + greatest(coalesce(t.relpages, 0), 0))::bigint * pg_catalog.current_setting('block_size')::bigint end \
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
left join pg_catalog.pg_class t on t.oid = c.reltoastrelid \
where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't' \
  and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' \
  and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                   and d.objid = c.oid and d.deptype = 'e')";

/// Lines such as `3367; 0 16389 TABLE DATA public t postgres`: file, schema, table, owner, none of them
/// quoted; so a table is looked for by what may be its name.
fn in_listing(listing: &str, manifest: &DumpManifest) -> HashMap<String, u64> {
    let files: HashMap<&str, u64> = manifest
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.size))
        .collect();
    let relations = manifest.state.relations.iter();
    let names: HashMap<String, String> = relations
        .filter(|relation| relation.kind == RelationKind::Table)
        .map(|relation| {
            let listed = format!("{} {}", relation.schema, relation.name);
            (listed, relation.full_name())
        })
        .collect();
    let entry = |line: &str| {
        let (number, rest) = line.split_once("; ")?;
        let (_, listed) = rest.split_once(" TABLE DATA ")?;
        let size = files.get(format!("{number}.dat").as_str())?;
        let ends = listed.match_indices(' ').map(|(at, _)| at).rev();
        let mut starts = ends.filter_map(|end| listed.get(..end));
        let name = starts.find_map(|start| names.get(start))?;
        Some((name.clone(), *size))
    };
    listing.lines().filter_map(entry).collect()
}
