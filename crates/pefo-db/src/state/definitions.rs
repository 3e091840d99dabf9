//! How the objects of a database are defined, each as one digest, so that a difference is named.
//!
//! PostgreSQL itself prints the definitions; its wording may change between major versions, so they
//! are compared within one only. What is printed: columns, constraints, indexes, views, functions,
//! triggers, rules, policies, enums, domains, sequences' parameters, owners and grants, comments.

use pefo_core::Result;

use super::Definition;
use crate::server::{Session, get};

/// The definitions of the session's database, by kind and name.
pub(super) async fn collect(session: &Session) -> Result<Vec<Definition>> {
    let mut definitions = Vec::new();
    for query in QUERIES {
        for row in session.rows("read the definitions", query, &[]).await? {
            let (kind, name): (String, String) = (get(&row, 0)?, get(&row, 1)?);
            let text: Option<String> = get(&row, 2)?;
            let hash = blake3::hash(text.unwrap_or_default().as_bytes()).to_hex();
            definitions.push(Definition {
                kind,
                name,
                digest: hash[..32].to_owned(),
            });
        }
    }
    definitions.sort_by(|a, b| (&a.kind, &a.name, &a.digest).cmp(&(&b.kind, &b.name, &b.digest)));
    Ok(definitions)
}

/// Objects of users start at this id (`FirstNormalObjectId`); members of extensions are told apart
/// by their dependency.
const QUERIES: [&str; 13] = [
    "select 'column', c.oid::pg_catalog.regclass::text || '.' || a.attname, \
       pg_catalog.concat_ws(' ', pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, \
         pg_catalog.to_jsonb(a) ->> 'attgenerated', (select l.collname::text from pg_catalog.pg_collation l where l.oid = a.attcollation), a.attacl::text, \
         pg_catalog.pg_get_expr(d.adbin, d.adrelid)) \
     from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid \
       left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
     where c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'c') and a.attnum > 0 and not a.attisdropped \
       and c.relpersistence <> 't' and c.relnamespace::pg_catalog.regnamespace::text !~ '^pg_'",
    "select 'constraint', coalesce(nullif(c.conrelid, 0)::pg_catalog.regclass::text, c.contypid::pg_catalog.regtype::text) || '.' || c.conname, \
       pg_catalog.pg_get_constraintdef(c.oid) from pg_catalog.pg_constraint c where c.oid >= 16384",
    "select 'index', i.indexrelid::pg_catalog.regclass::text, pg_catalog.pg_get_indexdef(i.indexrelid) \
     from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indrelid \
     where i.indexrelid >= 16384 and c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't'",
    "select 'view', c.oid::pg_catalog.regclass::text, pg_catalog.concat(pg_catalog.pg_get_viewdef(c.oid), c.reloptions::text) \
     from pg_catalog.pg_class c where c.oid >= 16384 and c.relkind in ('v', 'm') and c.relpersistence <> 't'",
    "select 'function', p.oid::pg_catalog.regprocedure::text, \
       case when p.prokind in ('f', 'p') then pg_catalog.pg_get_functiondef(p.oid) else p.prosrc end \
     from pg_catalog.pg_proc p where p.oid >= 16384 and not exists (select from pg_catalog.pg_depend d \
       where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.deptype = 'e')",
    "select 'trigger', t.tgrelid::pg_catalog.regclass::text || '.' || t.tgname, pg_catalog.pg_get_triggerdef(t.oid) || t.tgenabled::text \
     from pg_catalog.pg_trigger t where not t.tgisinternal",
    "select 'rule', r.ev_class::pg_catalog.regclass::text || '.' || r.rulename, pg_catalog.pg_get_ruledef(r.oid) || r.ev_enabled::text \
     from pg_catalog.pg_rewrite r where r.oid >= 16384 and r.rulename <> '_RETURN'",
    "select 'policy', p.polrelid::pg_catalog.regclass::text || '.' || p.polname, \
       pg_catalog.concat_ws(' ', p.polcmd, p.polpermissive, \
         array(select pg_catalog.pg_get_userbyid(r)::text from pg_catalog.unnest(p.polroles) r order by 1)::text, \
         pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) \
     from pg_catalog.pg_policy p",
    "select 'enum', e.enumtypid::pg_catalog.regtype::text, pg_catalog.string_agg(e.enumlabel, ',' order by e.enumsortorder) \
     from pg_catalog.pg_enum e group by e.enumtypid",
    "select 'domain', t.oid::pg_catalog.regtype::text, \
       pg_catalog.concat_ws(' ', pg_catalog.format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault) \
     from pg_catalog.pg_type t where t.typtype = 'd' and t.oid >= 16384",
    "select 'sequence', s.seqrelid::pg_catalog.regclass::text, \
       pg_catalog.concat_ws(' ', s.seqtypid::pg_catalog.regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle) \
     from pg_catalog.pg_sequence s join pg_catalog.pg_class c on c.oid = s.seqrelid where c.relpersistence <> 't'",
    "select 'rights', o.kind || ' ' || o.name, pg_catalog.concat(pg_catalog.pg_get_userbyid(o.owner), ': ', \
       (select pg_catalog.string_agg(pg_catalog.concat(a.grantee::pg_catalog.regrole, '=', a.privilege_type, a.is_grantable), ',' \
               order by a.grantee::pg_catalog.regrole::text collate \"C\", a.privilege_type) from pg_catalog.aclexplode(o.acl) a), o.more) \
     from (select 'relation', c.oid::pg_catalog.regclass::text, c.relowner, \
                  coalesce(c.relacl, pg_catalog.acldefault(case when c.relkind = 'S' then 's' else 'r' end::\"char\", c.relowner)), \
                  pg_catalog.concat_ws(' ', '', c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.reloptions::text) \
             from pg_catalog.pg_class c where c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't' \
           union all select 'schema', n.nspname::text, n.nspowner, coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner)), '' \
             from pg_catalog.pg_namespace n where n.oid >= 16384 and n.nspname !~ '^pg_' \
           union all select 'function', p.oid::pg_catalog.regprocedure::text, p.proowner, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), '' \
             from pg_catalog.pg_proc p where p.oid >= 16384 \
           union all select 'default', pg_catalog.concat(d.defaclnamespace::pg_catalog.regnamespace, ' ', d.defaclobjtype), d.defaclrole, d.defaclacl, '' \
             from pg_catalog.pg_default_acl d) o (kind, name, owner, acl, more)",
    "select 'comment', i.type || ' ' || i.identity, d.description \
     from pg_catalog.pg_description d, pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) i where d.objoid >= 16384",
];
