//! SQL that gives a database what belongs to it itself: settings, grants, comment, and the rights on
//! its schema `public`, which PostgreSQL 15 creates without those that a database of 14 had.

use pefo_core::Result;

use crate::name::{DatabaseName, quote_identifier, quote_literal, split_name_list};
use crate::server::Session;
use crate::state::{Grant, LocaleProvider, Properties};

/// Settings whose stored value is a list of names, each to be quoted by itself (`GUC_LIST_QUOTE`).
const NAME_LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// `CREATE DATABASE` of an empty database with the locale, encoding and owner of `properties`, in
/// `tablespace`, `None` being the server's default.
pub(crate) fn create_database(
    name: &DatabaseName,
    properties: &Properties,
    tablespace: Option<&str>,
    server_major: u32,
) -> String {
    let mut sql = format!(
        "create database {} template template0 owner {} encoding {} lc_collate {} lc_ctype {}",
        name.quoted(),
        quote_identifier(&properties.owner),
        quote_literal(&properties.encoding),
        quote_literal(&properties.collate),
        quote_literal(&properties.ctype),
    );
    if let Some(tablespace) = tablespace {
        sql.push_str(&format!(" tablespace {}", quote_identifier(tablespace)));
    }
    if server_major >= 15 {
        let locale = quote_literal(properties.locale.as_deref().unwrap_or_default());
        sql.push_str(&match properties.locale_provider {
            LocaleProvider::Libc => " locale_provider libc".to_owned(),
            LocaleProvider::Icu => format!(" locale_provider icu icu_locale {locale}"),
            LocaleProvider::Builtin => format!(" locale_provider builtin builtin_locale {locale}"),
        });
    }
    sql
}

/// Gives the session's database `name` everything in `properties` that [`create_database`] did not.
pub(crate) async fn apply(
    session: &Session,
    name: &DatabaseName,
    properties: &Properties,
) -> Result<()> {
    for statement in statements(name, properties) {
        session
            .batch(&format!("set up database {name}"), &statement)
            .await?;
    }
    Ok(())
}

fn statements(name: &DatabaseName, properties: &Properties) -> Vec<String> {
    let database = name.quoted();
    let mut statements = vec![format!(
        "alter database {database} connection limit {}",
        properties.connection_limit
    )];
    if let Some(comment) = &properties.comment {
        statements.push(format!(
            "comment on database {database} is {}",
            quote_literal(comment)
        ));
    }
    for settings in &properties.settings {
        let target = match &settings.role {
            Some(role) => format!(
                "alter role {} in database {database}",
                quote_identifier(role)
            ),
            None => format!("alter database {database}"),
        };
        for (setting, value) in settings
            .values
            .iter()
            .filter_map(|setting| setting.split_once('='))
        {
            statements.push(format!(
                "{target} set {} to {}",
                quote_identifier(setting),
                setting_value(setting, value)
            ));
        }
    }
    rights(
        &mut statements,
        &format!("database {database}"),
        &[&properties.owner],
        &properties.grants,
    );
    match &properties.public_schema {
        Some(public) => {
            statements.push(format!(
                "alter schema public owner to {}",
                quote_identifier(&public.owner)
            ));
            rights(
                &mut statements,
                "schema public",
                &[&public.owner],
                &public.grants,
            );
        }
        // Refused, rightly, where something stands in it.
        None => statements.push("drop schema if exists public".to_owned()),
    }
    statements
}

/// Nobody's rights first, then each that was granted.
fn rights(statements: &mut Vec<String>, object: &str, owners: &[&str], grants: &[Grant]) {
    statements.push(format!("revoke all on {object} from public"));
    for owner in owners {
        statements.push(format!(
            "revoke all on {object} from {}",
            quote_identifier(owner)
        ));
    }
    for grant in grants {
        let grantee = grant
            .grantee
            .as_deref()
            .map_or_else(|| "public".to_owned(), quote_identifier);
        let further = if grant.grantable {
            " with grant option"
        } else {
            ""
        };
        statements.push(format!(
            "grant {} on {object} to {grantee}{further}",
            grant.privilege
        ));
    }
}

fn setting_value(setting: &str, value: &str) -> String {
    if NAME_LISTS.contains(&setting.to_ascii_lowercase().as_str()) {
        let names: Vec<String> = split_name_list(value)
            .iter()
            .map(|name| quote_literal(name))
            .collect();
        if !names.is_empty() {
            return names.join(", ");
        }
    }
    quote_literal(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::sample;

    #[test]
    fn everything_of_the_active_is_set_with_names_quoted() {
        let mut properties = sample().state.properties;
        properties.settings[0]
            .values
            .push("my.var=it's \\ 1".to_owned());
        let name = DatabaseName::new("a\"b").unwrap();
        let mut lines = vec![create_database(&name, &properties, Some("fast disk"), 15)];
        lines.extend(statements(&name, &properties));
        insta::assert_snapshot!(lines.join("\n"), @r#"
        create database "a""b" template template0 owner "pe-rbac" encoding 'UTF8' lc_collate 'C.UTF-8' lc_ctype 'C.UTF-8' tablespace "fast disk" locale_provider libc
        alter database "a""b" connection limit -1
        comment on database "a""b" is 'it''s ours'
        alter database "a""b" set "search_path" to 'rbac', 'public'
        alter database "a""b" set "my.var" to  E'it''s \\ 1'
        revoke all on database "a""b" from public
        revoke all on database "a""b" from "pe-rbac"
        grant CONNECT on database "a""b" to public
        grant CREATE on database "a""b" to "pe-rbac"
        alter schema public owner to "pg_database_owner"
        revoke all on schema public from public
        revoke all on schema public from "pg_database_owner"
        grant USAGE on schema public to public
        "#);
    }
}
