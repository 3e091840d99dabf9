//! The SQL of a database of the shape of PE's RBAC, with every kind of object and type that a dump,
//! a digest or a restore could get wrong. Names are ours; the shape (subjects, roles, permissions,
//! tokens, directory settings, an event log) is what PE's documentation of the RBAC API describes.

use std::fmt::Write as _;

/// The roles; running it twice changes nothing.
pub(super) fn roles() -> String {
    let mut sql = String::new();
    for role in [
        "pe-rbac",
        "pe-rbac-read",
        "pe-rbac-write",
        "pe-rbac-migrator",
    ] {
        let quoted = format!("\"{role}\"");
        // A role is the cluster's, not the database's: a second database finds it there.
        writeln!(
            sql,
            "do $$ begin if not exists (select from pg_roles where rolname = '{role}') then create role {quoted} login; end if; end $$;"
        )
        .unwrap_or_default();
    }
    sql
}

/// The database's content; `database` is its quoted name.
pub(super) fn schema(database: &str) -> String {
    let mut sql = String::from(EXTENSIONS);
    sql.push_str("set role \"pe-rbac\";\n");
    sql.push_str(TABLES);
    for month in 1..=12 {
        let next = if month == 12 {
            "2027-01".to_owned()
        } else {
            format!("2026-{:02}", month + 1)
        };
        writeln!(
            sql,
            "create table \"Audit log\".\"event 2026-{month:02}\" partition of \"Audit log\".events \
             for values from ('2026-{month:02}-01') to ('{next}-01');"
        )
        .unwrap_or_default();
    }
    for service in [
        "classifier",
        "orchestrator",
        "inventory",
        "code_manager",
        "host_action_collector",
        "certificate_authority",
    ] {
        writeln!(
            sql,
            "create table rbac.service_{service} (id serial primary key, subject uuid references rbac.subjects, \
             setting text not null, value jsonb, changed timestamptz not null default '2026-11-01 12:00:00+00');\n\
             insert into rbac.service_{service} (setting, value) \
             select 'setting ' || n, jsonb_build_object('n', n, 'half', n / 2.0) from generate_series(1, 60) n;"
        )
        .unwrap_or_default();
    }
    sql.push_str(ROWS);
    sql.push_str("reset role;\n");
    write!(
        sql,
        "alter database {database} set statement_timeout = '90s';\n\
         alter database {database} set search_path = rbac, public;\n\
         alter role \"pe-rbac-read\" in database {database} set default_transaction_read_only = on;\n\
         comment on database {database} is 'who may do what; it''s ours';\n\
         revoke all on database {database} from public;\n\
         grant connect on database {database} to \"pe-rbac-read\", \"pe-rbac-write\";\n\
         grant connect, create on database {database} to \"pe-rbac-migrator\" with grant option;\n\
         revoke create on schema public from public;\n\
         grant usage, create on schema public to \"pe-rbac\";\n\
         grant usage on schema public to \"pe-rbac-read\";\n\
         select lo_from_bytea(0, decode(repeat('cafe00', 3000), 'hex'));\n"
    )
    .unwrap_or_default();
    sql
}

const EXTENSIONS: &str = r#"
create extension if not exists citext;
create extension if not exists pgcrypto;
create extension if not exists hstore;
create schema rbac authorization "pe-rbac";
create schema "Audit log" authorization "pe-rbac";
"#;

const TABLES: &str = r#"
create type rbac.subject_kind as enum ('user', 'group', 'Service account');
create domain rbac.display_name as text check (length(value) < 300);
create table rbac.subjects (
    id uuid primary key, kind rbac.subject_kind not null, login public.citext unique, display rbac.display_name,
    is_superuser boolean not null default false, is_revoked boolean not null default false,
    last_login timestamptz, created timestamp not null, email text);
create table rbac.local_users (subject uuid primary key references rbac.subjects, password_hash bytea not null, salt bytea, failures int2 not null default 0);
create table rbac.groups (subject uuid primary key references rbac.subjects, directory_id int, distinguished_name text);
create table rbac.roles (id serial primary key, display text not null unique, description text, uuid uuid);
create table rbac.permission_types (id serial primary key, object_type text not null, action text not null, unique (object_type, action));
create table rbac.permissions (id bigserial primary key, type_id int not null references rbac.permission_types, instance text not null default '*');
create table rbac.roles_permissions (role_id int references rbac.roles on delete cascade, permission_id bigint references rbac.permissions, primary key (role_id, permission_id));
create table rbac.subjects_roles (subject uuid references rbac.subjects, role_id int references rbac.roles, primary key (subject, role_id));
create table rbac.groups_members (group_id uuid references rbac.subjects, member uuid references rbac.subjects, primary key (group_id, member));
create table rbac.tokens (id bigint generated always as identity primary key, subject uuid references rbac.subjects, token_hash bytea not null,
    label text, client text, description text, issued timestamptz not null, expires timestamptz, lifetime interval, uses int[] not null default '{}');
create table rbac.revoked_tokens (id bigint primary key, at timestamptz not null);
create table rbac.password_resets (id serial primary key, subject uuid references rbac.subjects, secret bytea, at timestamptz);
create table rbac.directory_settings (id serial primary key, hostname text, port int, tls boolean, attributes jsonb, filters text[], extra public.hstore);
create table rbac.saml_settings (id serial primary key, entity text, metadata xml, bindings jsonb);
create table rbac.disclaimers (id serial primary key, body text);
create table rbac.measurements (id serial primary key, exact numeric, narrow numeric(20, 6), single real, double float8,
    cost money, address inet, network cidr, mac macaddr, span tstzrange, flags bit varying(16), "day" date, "time" timetz,
    spot point, words tsvector, nothing text, doubled numeric generated always as (exact * 2) stored);
create table rbac."Odd ""name"" - ü" ("col umn" text, "select" int, "t" int, primary key ("select"));
create table rbac.no_columns ();
create table rbac.parent (id int, name text);
create table rbac.child (own text) inherits (rbac.parent);
alter table rbac.parent add column late text;
create table public.schema_migrations (id bigint primary key, applied timestamptz, description text);
create unlogged table rbac.sessions (id uuid primary key, data jsonb);
create sequence rbac.countdown increment by -3 minvalue -1000 maxvalue 9 start 9;
create sequence rbac.untouched;
create table "Audit log".events (id bigserial, at timestamptz not null, subject uuid, what text not null, details jsonb, primary key (id, at)) partition by range (at);
create index on "Audit log".events (subject);
create index tokens_by_label on rbac.tokens (lower(label)) where label is not null;
create view rbac.who_may as select s.login, r.display from rbac.subjects s join rbac.subjects_roles sr on sr.subject = s.id join rbac.roles r on r.id = sr.role_id;
create materialized view rbac.members as select role_id, count(*) as members from rbac.subjects_roles group by role_id;
create function rbac.touch() returns trigger language plpgsql as $$ begin new.last_login := new.last_login; return new; end $$;
create trigger touch before update on rbac.subjects for each row execute function rbac.touch();
alter table rbac.tokens enable row level security;
create policy own_tokens on rbac.tokens for select to "pe-rbac-read" using (true);
grant usage on schema rbac to "pe-rbac-read", "pe-rbac-write";
grant select on all tables in schema rbac to "pe-rbac-read";
grant select, insert, update, delete on all tables in schema rbac to "pe-rbac-write";
alter default privileges in schema rbac grant select on tables to "pe-rbac-read";
comment on table rbac.subjects is 'users and groups';
"#;

const ROWS: &str = r#"
insert into rbac.subjects select md5('subject' || n)::uuid, (array['user','group','Service account'])[1 + n % 3]::rbac.subject_kind,
    'User' || n, 'Us€r № ' || n, n = 1, n % 97 = 0, timestamptz '2026-01-01 00:00:00+02' + n * interval '1 hour 1.000001 s',
    timestamp '2020-02-29 23:59:59.999999' + n * interval '1 day', case when n % 5 > 0 then 'user' || n || '@example.com' end
    from generate_series(1, 4000) n;
insert into rbac.local_users select id, sha512(login::text::bytea), substr(sha256(login::text::bytea), 1, 16), 0 from rbac.subjects where kind = 'user';
insert into rbac.groups select id, 1, 'cn=' || login || ',dc=example,dc=com' from rbac.subjects where kind = 'group';
insert into rbac.roles (display, description, uuid) select 'Role ' || n, repeat('what it may ', 5), md5('role' || n)::uuid from generate_series(1, 50) n;
insert into rbac.permission_types (object_type, action) select 'type' || n / 4, (array['view','edit','run','delete'])[1 + n % 4] from generate_series(0, 79) n;
insert into rbac.permissions (type_id, instance) select 1 + n % 80, case when n % 3 = 0 then '*' else md5(n::text) end from generate_series(1, 400) n;
insert into rbac.roles_permissions select 1 + n % 50, n from generate_series(1, 400) n;
insert into rbac.subjects_roles select id, 1 + (row_number() over (order by id))::int % 50 from rbac.subjects;
insert into rbac.groups_members select g.subject, u.subject from (select subject, row_number() over (order by subject) n from rbac.groups limit 300) g
    join (select subject, row_number() over (order by subject) n from rbac.local_users limit 1200) u on g.n = 1 + u.n % 300;
insert into rbac.tokens (subject, token_hash, label, issued, expires, lifetime, uses)
    select id, sha256(('token' || id)::bytea), case when is_superuser then 'CI' end, last_login, last_login + interval '1 month', interval '1 mon 2 days 03:04:05.6', array[1, null, 3]
    from rbac.subjects;
insert into rbac.directory_settings (hostname, port, tls, attributes, filters, extra)
    values ('ldap.example.com', 636, true, '{"a": 1.10, "b": [null, "ü", {"c": 1e400}]}', array['(a=1)', 'with "quotes", commas', null], 'k=>v, "n"=>null');
insert into rbac.saml_settings (entity, metadata, bindings) values ('https://idp', '<a b="c">text</a>', '[]');
insert into rbac.disclaimers (body) values (E'tab\there, back\\slash, new\nline, \\N and \\. too'), (''), (null);
insert into rbac.measurements (exact, narrow, single, double, cost, address, network, mac, span, flags, "day", "time", spot, words) values
    (12345678901234567890.0123456789, 1.5, 0.1, 0.1, 12.34, '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '[2026-01-01 00:00+00,2026-02-01 00:00+00)', B'1010', '0044-03-15 BC', '04:05:06.789-08', '(1.5,-2.25)', 'a fat cat'),
    ('NaN', -0.000001, 'NaN', '-Infinity', -1, '::1', 'fe80::/10', '08:00:2b:01:02:04', 'empty', B'', 'infinity', '00:00:00+00', '(0,0)', ''),
    (1e-300, 0, 1e-40, 2.2250738585072014e-308, 0, '1.2.3.4', '1.0.0.0/8', 'ff:ff:ff:ff:ff:ff', '(,)', B'1', '2026-11-22', '23:59:59.999999+14', '(1e-300,1e300)', 'x'),
    (null, null, '-0', '-0', null, null, null, null, null, null, null, null, null, null);
insert into rbac."Odd ""name"" - ü" values ('value', 1, 2), (null, 2, 3), ('', 3, null);
insert into rbac.no_columns default values; insert into rbac.no_columns default values;
insert into rbac.parent values (1, 'parent', 'l'); insert into rbac.child values (2, 'child', 'o', 'late');
insert into rbac.sessions values (md5('s')::uuid, '{}');
insert into public.schema_migrations select n, timestamptz '2026-01-01 00:00+00' + n * interval '1 day', 'migration ' || n from generate_series(1, 120) n;
insert into "Audit log".events (at, subject, what, details)
    select timestamptz '2026-01-01 00:00+00' + n * interval '52 minutes', md5('subject' || 1 + n % 4000)::uuid, 'event ' || n % 17, jsonb_build_object('n', n, 'who', 'User' || n)
    from generate_series(1, 9000) n;
select nextval('rbac.countdown'), nextval('rbac.countdown');
refresh materialized view rbac.members;
"#;
