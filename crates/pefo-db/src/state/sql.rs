//! The queries behind [`super::collect`], with `search_path` empty: every name is qualified.

use super::digest::columns_of_relation;

/// Everything of `pg_database` but what newer versions added or renamed.
pub(super) const PROPERTIES: &str = "\
select pg_catalog.pg_get_userbyid(d.datdba)::text, pg_catalog.pg_encoding_to_char(d.encoding)::text, \
       d.datcollate::text, d.datctype::text, d.datconnlimit, \
       pg_catalog.shobj_description(d.oid, 'pg_database'), \
       pg_catalog.to_jsonb(d) ->> 'datlocprovider', \
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale') \
from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()";

pub(super) const SETTINGS: &str = "\
select case when s.setrole <> 0 then pg_catalog.pg_get_userbyid(s.setrole)::text end, s.setconfig \
from pg_catalog.pg_db_role_setting s \
where s.setdatabase = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())";

pub(super) const DATABASE_GRANTS: &str = "\
select distinct case when a.grantee <> 0 then pg_catalog.pg_get_userbyid(a.grantee)::text end, a.privilege_type, a.is_grantable \
from pg_catalog.pg_database d, pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a \
where d.datname = pg_catalog.current_database()";

pub(super) const PUBLIC_OWNER: &str = "\
select pg_catalog.pg_get_userbyid(n.nspowner)::text from pg_catalog.pg_namespace n where n.nspname = 'public'";

pub(super) const PUBLIC_GRANTS: &str = "\
select distinct case when a.grantee <> 0 then pg_catalog.pg_get_userbyid(a.grantee)::text end, a.privilege_type, a.is_grantable \
from pg_catalog.pg_namespace n, pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a \
where n.nspname = 'public'";

pub(super) const EXTENSIONS: &str = "select extname::text, extversion from pg_catalog.pg_extension";

/// Roles by what depends on them (`pg_shdepend` leaves out pinned roles, such as the bootstrap
/// superuser), and the owners and grantees of what users made.
pub(super) const ROLES: &str = "\
with here as (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()), \
named (role) as ( \
  select s.refobjid from pg_catalog.pg_shdepend s, here \
   where s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass \
     and (s.dbid = here.oid or (s.dbid = 0 and s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass and s.objid = here.oid)) \
  union select relowner from pg_catalog.pg_class where oid >= 16384 \
  union select nspowner from pg_catalog.pg_namespace where oid >= 16384 \
  union select proowner from pg_catalog.pg_proc where oid >= 16384 \
  union select typowner from pg_catalog.pg_type where oid >= 16384 \
  union select a.grantee from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a where c.oid >= 16384 and c.relacl is not null \
  union select a.grantee from pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a where n.oid >= 16384 and n.nspacl is not null) \
select distinct r.rolname::text from named join pg_catalog.pg_roles r on r.oid = named.role";

/// Relations that a dump carries (members of extensions come with the extension), with their columns,
/// tables with their size; sorted by us, since collations differ.
pub(super) fn relations() -> String {
    format!(
        "select n.nspname::text, c.relname::text, c.relkind::text, \
       case when c.relkind = 'r' then pg_catalog.pg_table_size(c.oid) end, {} \
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't' \
  and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' \
  and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                   and d.objid = c.oid and d.deptype = 'e')",
        columns_of_relation()
    )
}

pub(super) const SEQUENCES: &str = "\
select n.nspname::text, c.relname::text \
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
where c.relkind = 'S' and c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' \
  and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                   and d.objid = c.oid and d.deptype = 'e')";

pub(super) const LARGE_OBJECTS: &str = "\
select count(*), pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'select'), \
       pg_catalog.pg_relation_size('pg_catalog.pg_largeobject') from pg_catalog.pg_largeobject_metadata";

/// Pages that hold nothing but zeros, and zeros at a page's end, are left out: a hole in the source
/// is written out by the restore.
pub(super) const LARGE_OBJECT_DIGEST: &str = "\
select coalesce(sum(pg_catalog.hashtextextended(p.r, 0)), 0)::text, coalesce(sum(pg_catalog.hashtextextended(p.r, 1)), 0)::text \
from (select l.loid::text || '/' || l.pageno::text || '/' || pg_catalog.rtrim(pg_catalog.encode(l.data, 'hex'), '0') as r \
        from pg_catalog.pg_largeobject l where pg_catalog.rtrim(pg_catalog.encode(l.data, 'hex'), '0') <> '' offset 0) p";
