//! Each gate says no for its own reason only.

use super::*;
use crate::manifest::tests::sample;
use crate::tools::ToolVersion;

fn name(text: &str) -> DatabaseName {
    DatabaseName::new(text).unwrap()
}

fn facts() -> ServerFacts {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    ServerFacts {
        version_num: 150_010,
        is_superuser: true,
        roles: set(&["pe-rbac", "pe-rbac-read", "pg_database_owner", "postgres"]),
        extensions: set(&["citext", "plpgsql"]),
        knows_encoding: true,
        has_icu: false,
        databases: ["postgres", "pe-rbac", "pe-rbac.pefo-shadow"]
            .map(name)
            .to_vec(),
        prepared_transactions: Vec::new(),
        replication: Vec::new(),
        pg_restore: ToolVersion {
            text: "pg_restore (PostgreSQL) 15.14".to_owned(),
            major: 15,
        },
    }
}

fn refusal(change: impl FnOnce(&mut DumpManifest, &mut ServerFacts, &mut RestoreOptions)) -> Error {
    let (mut manifest, mut facts, mut options) = (sample(), facts(), RestoreOptions::default());
    change(&mut manifest, &mut facts, &mut options);
    plan_restore(&manifest, &facts, &name("pe-rbac"), &options).unwrap_err()
}

#[test]
fn a_plan_reads_as_what_will_happen() {
    let plan = plan_restore(
        &sample(),
        &facts(),
        &name("pe-rbac"),
        &RestoreOptions::default(),
    )
    .unwrap();
    insta::assert_snapshot!(plan.steps().join("\n"), @r"
    drop pe-rbac.pefo-shadow, left by a killed run
    create pe-rbac.pefo-shadow (owner pe-rbac, UTF8, C.UTF-8)
    restore 2 tables with 4050 rows into it, 2 at once
    compare every count, digest and sequence with the manifest
    set settings, grants, comment and the rights on the schema public as on the active
    rename pe-rbac out of the way and pe-rbac.pefo-shadow into its place, in one transaction
    keep the newest 1 of the previous databases
    ");
    let mut facts = facts();
    facts.databases.truncate(1);
    let plan = plan_restore(
        &sample(),
        &facts,
        &name("pe-rbac"),
        &RestoreOptions::default(),
    )
    .unwrap();
    assert!(!plan.replaces && plan.leftovers.is_empty());
}

#[test]
fn each_gate_refuses_by_its_own_rule() {
    let rule = |error: Error| error.rule().unwrap().to_owned();
    assert_eq!(
        rule(refusal(|_, facts, _| facts.version_num = 140_020)),
        "db-server-older"
    );
    assert_eq!(
        rule(refusal(|manifest, _, _| manifest.pg_dump.major = 16)),
        "db-server-older"
    );
    assert_eq!(
        rule(refusal(|_, facts, _| facts.pg_restore.major = 14)),
        "db-tool-older-than-dump"
    );
    assert_eq!(
        rule(refusal(|_, facts, _| facts.knows_encoding = false)),
        "db-encoding-missing"
    );
    assert_eq!(
        rule(refusal(|manifest, _, _| manifest
            .state
            .properties
            .locale_provider =
            LocaleProvider::Icu)),
        "db-locale-missing"
    );
    assert_eq!(
        rule(refusal(
            |manifest, _, _| manifest.digest_algorithm = "md5".into()
        )),
        "db-digest-unknown"
    );
    assert_eq!(
        rule(refusal(|_, facts, _| facts
            .prepared_transactions
            .push("x".into()))),
        "db-prepared-transactions"
    );
    let error = refusal(|_, facts, _| facts.roles.retain(|role| !role.starts_with("pe-rbac")));
    assert_eq!(
        error.to_string(),
        "the server lacks roles that the dump needs: pe-rbac, pe-rbac-read [db-role-missing]"
    );
    let error = refusal(|_, facts, _| facts.extensions.clear());
    assert_eq!(
        error.to_string(),
        "the server cannot create the extensions citext [db-extension-missing]"
    );
    let derived = plan_restore(
        &sample(),
        &facts(),
        &name("pe-rbac.pefo-shadow"),
        &RestoreOptions::default(),
    );
    assert_eq!(rule(derived.unwrap_err()), "db-derived-name");
}

#[test]
fn some_refusals_are_overruled_by_name_and_recorded() {
    type Change = fn(&mut DumpManifest, &mut ServerFacts, &mut RestoreOptions);
    let cases: [(&str, Change); 4] = [
        ("db-other-database", |manifest, _, _| {
            manifest.database = name("pe-activity")
        }),
        ("db-product-version", |_, _, options| {
            options.product_version = Some("2025.1".into())
        }),
        ("db-replicated", |_, facts, _| {
            facts.replication.push("slot x".into())
        }),
        ("db-not-superuser", |_, facts, _| facts.is_superuser = false),
    ];
    for (rule, change) in cases {
        assert_eq!(refusal(change).rule(), Some(rule));
        let (mut manifest, mut facts, mut options) =
            (sample(), facts(), RestoreOptions::default().accept(rule));
        change(&mut manifest, &mut facts, &mut options);
        let plan = plan_restore(&manifest, &facts, &name("pe-rbac"), &options).unwrap();
        assert!(
            plan.accepted.len() == 1 && plan.accepted[0].contains(rule),
            "{:?}",
            plan.accepted
        );
    }
}

#[test]
fn what_is_certain_to_fail_cannot_be_overruled() {
    let error = refusal(|_, facts, options| {
        facts.version_num = 140_000;
        options.accept.insert("db-server-older".into());
    });
    assert_eq!(error.rule(), Some("db-server-older"));
}

#[test]
fn the_same_product_version_passes_and_an_unknown_one_does_not() {
    let options = RestoreOptions::default().product_version("2023.8.4");
    plan_restore(&sample(), &facts(), &name("pe-rbac"), &options).unwrap();
    let error = refusal(|manifest, _, options| {
        manifest.product_version = None;
        options.product_version = Some("2023.8.4".into());
    });
    assert!(error.to_string().contains("unknown"), "{error}");
}
