//! What a manifest may hold, and what is refused.

use std::path::PathBuf;

use pefo_core::disk::{Attributes, Disk};
use proptest::prelude::*;

use super::*;
use crate::state::{
    Definition, DigestAlgorithm, Extension, Grant, LargeObjects, LocaleProvider, Properties,
    Relation, RelationKind, SchemaRights, Sequence, SequenceValue, Settings,
};
use crate::tablespace::TablespaceUse;

/// A state with one of everything.
pub(crate) fn sample_state() -> DatabaseState {
    let grant = |grantee: Option<&str>, privilege: &str| Grant {
        grantee: grantee.map(str::to_owned),
        privilege: privilege.to_owned(),
        grantable: false,
    };
    let relation = |name: &str, kind, rows: Option<u64>| Relation {
        schema: "rbac".to_owned(),
        name: name.to_owned(),
        kind,
        rows,
        digest: rows.map(|rows| format!("{rows}/-{rows}")),
    };
    let value = SequenceValue {
        last_value: 41,
        is_called: true,
    };
    DatabaseState {
        properties: Properties {
            owner: "pe-rbac".to_owned(),
            encoding: "UTF8".to_owned(),
            collate: "C.UTF-8".to_owned(),
            ctype: "C.UTF-8".to_owned(),
            locale_provider: LocaleProvider::Libc,
            locale: None,
            connection_limit: -1,
            comment: Some("it's ours".to_owned()),
            settings: vec![Settings {
                role: None,
                values: vec!["search_path=rbac, public".to_owned()],
            }],
            grants: vec![grant(None, "CONNECT"), grant(Some("pe-rbac"), "CREATE")],
            public_schema: Some(SchemaRights {
                owner: "pg_database_owner".to_owned(),
                grants: vec![grant(None, "USAGE")],
            }),
        },
        extensions: vec![Extension {
            name: "citext".to_owned(),
            version: "1.6".to_owned(),
        }],
        roles: vec!["pe-rbac".to_owned(), "pe-rbac-read".to_owned()],
        relations: vec![
            relation("roles", RelationKind::Table, Some(50)),
            relation("subjects", RelationKind::Table, Some(4000)),
            relation("who_may", RelationKind::View, None),
        ],
        sequences: vec![Sequence {
            schema: "rbac".to_owned(),
            name: "roles_id_seq".to_owned(),
            before: value,
            after: value,
        }],
        large_objects: LargeObjects {
            count: 1,
            digest: Some("9/9".to_owned()),
        },
        definitions: vec![Definition {
            kind: "index".to_owned(),
            name: "rbac.i".to_owned(),
            digest: "ab".to_owned(),
        }],
    }
}

/// A manifest of [`sample_state`].
pub(crate) fn sample() -> DumpManifest {
    DumpManifest {
        format: 1,
        taken_at: Timestamp::from_unix_seconds(1_763_800_000).unwrap(),
        database: DatabaseName::new("pe-rbac").unwrap(),
        product_version: Some("2023.8.4".to_owned()),
        server_version_num: 150_014,
        pg_dump: ToolVersion {
            text: "pg_dump (PostgreSQL) 15.14".to_owned(),
            major: 15,
        },
        wal_lsn: PgLsn::from(0x16_0000_00FF),
        commit_mark: Some(CommitMark {
            system_identifier: "7412345678901234567".to_owned(),
            started_at: "2025-11-22 08:00:00.123456+00".to_owned(),
            xmax: 6_000_000_000,
        }),
        size_bytes: 5_000_000,
        placement: Placement {
            tablespace: "pe-rbac".to_owned(),
            elsewhere: vec![TablespaceUse {
                name: "fast".to_owned(),
                size_bytes: 2_000_000,
            }],
        },
        collation_version: CollationVersion {
            recorded: Some("2.36".to_owned()),
            actual: Some("2.36".to_owned()),
        },
        digest_algorithm: DigestAlgorithm::Record.name().to_owned(),
        exact_up_to_bytes: 1 << 30,
        state: sample_state(),
        files: Vec::new(),
    }
}

#[test]
fn a_manifest_is_read_back_as_it_was_written() {
    let json = sample().to_json().unwrap();
    assert!(json.contains("\"wal_lsn\": \"16/FF\""), "{json}");
    assert_eq!(DumpManifest::parse(&json).unwrap(), sample());
}

#[test]
fn a_newer_format_is_refused_by_name_and_damage_as_damage() {
    let json = sample().to_json().unwrap();
    let newer = json.replace("\"format\": 1,", "\"format\": 2, \"new_field\": 1,");
    assert_eq!(
        DumpManifest::parse(&newer).unwrap_err().rule(),
        Some("db-manifest-format")
    );
    for damaged in [
        json.replace("\"format\": 1,", ""),
        json.replace("\"format\": 1,", "\"format\": 1, \"surprise\": 1,"),
        json.replace("16/FF", "sixteen"),
        json.replace("\"rows\": 50", "\"rows\": null"),
        json.replace("\"kind\": \"view\"", "\"kind\": \"table\""),
        json.replacen("\"kind\": \"table\"", "\"kind\": \"view\"", 1),
        json.replace("\"xmax\": 6000000000", "\"xmax\": -1"),
        json.replace("\"exact_up_to_bytes\": 1073741824,", ""),
        json.replace("\"rows\": 50", "\"rows\": -50"),
        json.replace("\"name\": \"subjects\"", "\"name\": \"roles\""),
        json[..json.len() / 2].to_owned(),
        String::new(),
    ] {
        assert!(DumpManifest::parse(&damaged).unwrap_err().rule().is_none());
    }
}

#[test]
fn a_manifest_says_of_each_table_whether_it_was_digested_or_counted() {
    let mut manifest = sample();
    manifest.state.relations[1].digest = None;
    manifest.exact_up_to_bytes = 1000;
    let read = DumpManifest::parse(&manifest.to_json().unwrap()).unwrap();
    assert_eq!(read, manifest);
    assert_eq!(read.state.counted_only(), 1);
    // Nor may a table have a digest of rows that nobody counted.
    manifest.state.relations[0].rows = None;
    let error = DumpManifest::parse(&manifest.to_json().unwrap()).unwrap_err();
    insta::assert_snapshot!(error, @"database manifest: rbac.roles is a table without its rows, or has some and is none");
}

#[test]
fn a_tablespace_named_twice_is_damage() {
    let mut manifest = sample();
    let twice = manifest.placement.elsewhere[0].clone();
    manifest.placement.elsewhere.push(twice);
    assert!(DumpManifest::parse(&manifest.to_json().unwrap()).is_err());
}

#[test]
fn two_dumps_have_equal_content_only_where_that_is_proven() {
    let mut manifest = sample();
    let mut later = manifest.clone();
    later.taken_at = Timestamp::from_unix_seconds(1_763_900_000).unwrap();
    later.commit_mark = None;
    later.files.push(DumpFile {
        path: RelPath::new("toc.dat").unwrap(),
        size: 1,
        blake3: "00".to_owned(),
    });
    assert_eq!(manifest.content().unwrap(), later.content().unwrap());
    for manifest in [&mut manifest, &mut later] {
        manifest.state.relations[0].digest = None;
    }
    assert_ne!(manifest.content().unwrap(), later.content().unwrap());
}

fn dump_of_two_files() -> (tempfile::TempDir, DumpManifest, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let attributes = Attributes::mode(0o600);
    for (name, content) in [
        ("toc.dat", "toc"),
        ("1.dat", "rows"),
        (DumpManifest::FILE_NAME, "{}"),
    ] {
        Disk::new()
            .publish(&dir.path().join(name), content.as_bytes(), &attributes)
            .unwrap();
    }
    let mut manifest = sample();
    manifest.files = list_files(dir.path()).unwrap();
    let path = dir.path().to_owned();
    (dir, manifest, path)
}

#[test]
fn a_changed_a_missing_and_a_foreign_file_are_named() {
    let (_dir, manifest, path) = dump_of_two_files();
    assert_eq!(manifest.files.len(), 2);
    manifest.check_files(&path).unwrap();
    let attributes = Attributes::mode(0o600);
    Disk::new()
        .publish(&path.join("1.dat"), b"rowz", &attributes)
        .unwrap();
    Disk::new()
        .publish(&path.join("2.dat"), b"", &attributes)
        .unwrap();
    Disk::new().remove_file(&path.join("toc.dat")).unwrap();
    let error = manifest.check_files(&path).unwrap_err();
    assert_eq!(error.rule(), Some("db-dump-damaged"));
    let said = error.to_string();
    for part in [
        "1.dat was changed",
        "toc.dat is missing",
        "2.dat is not of the dump",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

proptest! {
    #[test]
    fn any_manifest_is_read_back(
        names in prop::collection::btree_set("[^\0]{1,12}", 0..5), rows in any::<u64>(), value in any::<i64>(), exact: bool, lsn in any::<u64>(), comment in prop::option::of(".{0,20}")
    ) {
        let mut manifest = sample();
        manifest.wal_lsn = PgLsn::from(lsn);
        manifest.state.properties.comment = comment;
        manifest.state.sequences[0].after.last_value = value;
        manifest.state.relations = names.into_iter().map(|name| Relation {
            schema: "s".into(), name, kind: RelationKind::Table, rows: Some(rows), digest: exact.then(|| format!("{value}/{rows}")),
        }).collect();
        prop_assert_eq!(DumpManifest::parse(&manifest.to_json().unwrap()).unwrap(), manifest);
    }

    #[test]
    fn a_manifest_with_a_changed_byte_is_never_a_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut json = sample().to_json().unwrap().into_bytes();
        let at = at.index(json.len());
        json[at] = byte;
        if let Ok(text) = String::from_utf8(json) {
            drop(DumpManifest::parse(&text));
        }
    }
}
