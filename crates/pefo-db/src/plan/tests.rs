//! Each gate says no for its own reason only.

use std::collections::BTreeMap;

use pefo_core::Error;

use super::*;
use crate::manifest::tests::sample;
use crate::rights::Right;
use crate::space::{Disks, Volume};
use crate::state::LocaleProvider;
use crate::tools::ToolVersion;

fn name(text: &str) -> DatabaseName {
    DatabaseName::new(text).unwrap()
}

fn facts() -> ServerFacts {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    ServerFacts {
        version_num: 150_010,
        is_superuser: true,
        missing_rights: Vec::new(),
        roles: set(&["pe-rbac", "pe-rbac-read", "pg_database_owner", "postgres"]),
        extensions: set(&["citext", "plpgsql"]),
        knows_encoding: true,
        has_icu: false,
        collation_version: Some("2.36".to_owned()),
        tablespaces: ["fast", "pe-rbac", "pg_default", "pg_global"]
            .map(|name| (name.to_owned(), true))
            .into(),
        live_tablespace: Some("pe-rbac".to_owned()),
        space: Space::Known(disks(1 << 40)),
        leftover_bytes: 0,
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

/// Home, the other tablespace and the write-ahead log each on a disk of its own.
fn disks(free_bytes: u64) -> Disks {
    let volume = |path: &str, device| Volume {
        path: path.into(),
        device,
        free_bytes,
    };
    Disks {
        tablespaces: BTreeMap::from([
            ("pg_default".to_owned(), volume("/data", 1)),
            ("pe-rbac".to_owned(), volume("/rbac", 2)),
            ("fast".to_owned(), volume("/fast", 3)),
        ]),
        wal: volume("/data/pg_wal", 1),
        max_wal_bytes: 1 << 30,
    }
}

fn planned(
    change: impl FnOnce(&mut DumpManifest, &mut ServerFacts, &mut RestoreOptions),
) -> RestorePlan {
    let (mut manifest, mut facts, mut options) = (sample(), facts(), RestoreOptions::default());
    change(&mut manifest, &mut facts, &mut options);
    plan_restore(&manifest, &facts, &name("pe-rbac"), &options).unwrap()
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
    create pe-rbac.pefo-shadow (owner pe-rbac, UTF8, C.UTF-8, tablespace pe-rbac)
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
    let cases: [(&str, Change); 6] = [
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
        ("db-tablespace-missing", |_, facts, _| {
            facts.tablespaces.remove("fast");
        }),
        ("db-space", |_, facts, _| {
            facts.space = Space::Known(disks(2_999_999))
        }),
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
fn a_database_is_restored_where_the_live_one_lies_and_the_first_one_where_it_lay() {
    let plan = planned(|_, facts, _| facts.live_tablespace = Some("fast".into()));
    assert_eq!(plan.tablespace.as_deref(), Some("fast"));
    let plan = planned(|_, facts, _| facts.live_tablespace = Some("pg_default".into()));
    assert_eq!(plan.tablespace, None);
    let plan = planned(|_, facts, _| facts.live_tablespace = None);
    assert_eq!(plan.tablespace.as_deref(), Some("pe-rbac"));
    // Where the live one lies elsewhere, nobody asks for the active's own.
    let plan = planned(|_, facts, _| {
        facts.live_tablespace = Some("pg_default".into());
        facts.tablespaces.remove("pe-rbac");
    });
    assert!(plan.tablespace.is_none() && !plan.without_tablespaces);
}

#[test]
fn missing_tablespaces_are_named_and_overruled_all_goes_to_the_databases_own() {
    let error = refusal(|_, facts, _| {
        facts.live_tablespace = None;
        facts.tablespaces.retain(|name, _| name.starts_with("pg_"));
    });
    insta::assert_snapshot!(error, @"the server lacks tablespaces that the dump uses: fast, pe-rbac [db-tablespace-missing]");
    let plan = planned(|_, facts, options| {
        facts.tablespaces.remove("fast");
        options.accept.insert("db-tablespace-missing".into());
    });
    assert!(plan.without_tablespaces);
    insta::assert_snapshot!(plan.steps()[2], @"restore 2 tables with 4050 rows into it, 2 at once, all in its own tablespace");
    // Only the database's own is missing: objects keep theirs.
    let plan = planned(|_, facts, options| {
        facts.live_tablespace = None;
        facts.tablespaces.remove("pe-rbac");
        options.accept.insert("db-tablespace-missing".into());
    });
    assert!(plan.tablespace.is_none() && !plan.without_tablespaces);
}

#[test]
fn room_is_asked_for_on_every_disk_that_is_written_to() {
    // The database has 5,000,000 bytes, of which 2,000,000 in the tablespace "fast".
    let with = |free: [u64; 3]| {
        move |_: &mut DumpManifest, facts: &mut ServerFacts, _: &mut RestoreOptions| {
            let mut disks = disks(0);
            disks.wal.free_bytes = free[0];
            for (name, free) in [
                ("pg_default", free[0]),
                ("pe-rbac", free[1]),
                ("fast", free[2]),
            ] {
                disks.tablespaces.get_mut(name).unwrap().free_bytes = free;
            }
            facts.space = Space::Known(disks);
        }
    };
    planned(with([5_000_000, 3_000_000, 2_000_000]));
    insta::assert_snapshot!(refusal(with([4_999_999, 2_999_999, 1_999_999])), @"no room to restore beside the live database: /data/pg_wal has 4999999 bytes free, about 5000000 are needed; /rbac has 2999999 bytes free, about 3000000 are needed; /fast has 1999999 bytes free, about 2000000 are needed [db-space]");
    // The write-ahead log is cut back at max_wal_size.
    planned(|manifest, facts, _| {
        manifest.size_bytes = 1 << 35;
        facts.space = Space::Known(disks(1 << 35));
    });
    // What a killed run has left is dropped first.
    planned(|_, facts, _| {
        facts.leftover_bytes = 1_000_000;
        with([5_000_000, 2_000_000, 2_000_000])(
            &mut sample(),
            facts,
            &mut RestoreOptions::default(),
        );
    });
    // Without tablespaces all of it goes home.
    let error = refusal(|manifest, facts, options| {
        options.accept.insert("db-tablespace-missing".into());
        with([5_000_000, 4_999_999, 0])(manifest, facts, options);
        facts.tablespaces.remove("fast");
    });
    assert!(
        error
            .to_string()
            .contains("/rbac has 4999999 bytes free, about 5000000"),
        "{error}"
    );
}

#[test]
fn what_is_not_known_of_the_room_and_another_collation_is_told_and_stops_nobody() {
    let plan = planned(|_, facts, _| {
        facts.space = Space::Unknown("it is elsewhere".into());
        facts.collation_version = Some("2.41".into());
    });
    insta::assert_snapshot!(plan.notes.join("\n"), @r"
    whether the server has room for the restore is not known: it is elsewhere
    the collation C.UTF-8 has version 2.41 here and 2.36 on the active: texts may sort otherwise
    ");
    let plan = planned(|manifest, facts, _| {
        manifest.collation_version.actual = None;
        facts.collation_version = Some("2.41".into());
    });
    assert_eq!(plan.notes, Vec::<String>::new());
    assert_eq!(
        planned(|_, facts, _| facts.collation_version = None).notes,
        Vec::<String>::new()
    );
}

#[test]
fn who_is_no_superuser_needs_each_right_by_name() {
    let error = refusal(|_, facts, options| {
        facts.is_superuser = false;
        facts.missing_rights = vec![
            Right::CreateDatabases,
            Right::BecomeOwner("pe-rbac".into()),
            Right::OwnLive("postgres".into()),
            Right::EndSessions,
        ];
        for name in ["fast", "pe-rbac", "pg_default"] {
            facts.tablespaces.insert(name.into(), false);
        }
        options
            .accept
            .extend(["db-not-superuser".into(), "db-rights".into()]);
    });
    insta::assert_snapshot!(error, @"we lack what a restore needs: CREATEDB, membership in pe-rbac, which owns the dumped database, membership in postgres, which owns the live database, membership in pg_signal_backend, CREATE on the tablespace pe-rbac, CREATE on the tablespace fast [db-rights]");
}

#[test]
fn a_plan_tells_how_many_tables_are_only_counted() {
    let plan = planned(|manifest, _, _| manifest.state.relations[0].digest = None);
    assert_eq!(plan.counted_only, 1);
    insta::assert_snapshot!(plan.steps()[3], @"compare every count, digest and sequence with the manifest; of 1 tables the count only");
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
