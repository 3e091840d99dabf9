//! A digest tells values that print differently apart, whatever their type takes for equal, and says the
//! same of the same rows wherever they stand.

use crate::bench::Bench;

const DATABASE: &str = "values";

/// A column's type, and two values that are to be told apart.
const PAIRS: [(&str, &str, &str); 24] = [
    ("int4", "1", "2"),
    ("int8", "-9223372036854775808", "9223372036854775807"),
    ("bool", "true", "false"),
    ("numeric", "1.0", "1.00"),
    ("float8", "0.0", "'-0'"),
    ("float8", "0.3", "0.30000000000000004"),
    ("text", "''", "null"),
    ("text", "'a'", "'A'"),
    ("text collate public.case_blind", "'a'", "'A'"),
    ("public.citext", "'a'", "'A'"),
    ("public.words", "'a'", "'A'"),
    ("varchar", "'a'", "'a '"),
    ("char(5)", "'a'", "'b'"),
    ("bpchar", "'a'", "'a '"),
    ("public.mood", "'glad'", "'sad'"),
    ("bytea", r"'\x00'", r"'\x0000'"),
    (
        "uuid",
        "'00000000-0000-4000-8000-000000000000'",
        "'00000000-0000-4000-8000-000000000001'",
    ),
    (
        "timestamptz",
        "'2026-01-01 00:00+00'",
        "'2026-01-01 00:00:00.000001+00'",
    ),
    ("date", "'infinity'", "'-infinity'"),
    ("interval", "'1 month'", "'30 days'"),
    ("json", r#"'{"a":1,"b":2}'"#, r#"'{"b":2,"a":1}'"#),
    ("jsonb", r#"'{"a":1.0}'"#, r#"'{"a":1.00}'"#),
    ("int4[]", "'{1,2}'", "'[0:1]={1,2}'"),
    ("public.pair", "'(1,)'", "'(,1)'"),
];

#[tokio::test]
async fn a_value_that_prints_otherwise_is_another_value() {
    let Some(bench) = Bench::start() else { return };
    let sql = |statements: &str| bench.cluster.sql(DATABASE, statements).unwrap();
    bench
        .cluster
        .sql("postgres", "create database values")
        .unwrap();
    sql(
        "create extension citext; create type mood as enum ('sad', 'glad'); create domain words as citext; \
         create type pair as (a int, b int); \
         create collation case_blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    );
    for (number, (kind, first, _)) in PAIRS.iter().enumerate() {
        sql(&format!(
            "create table t{number:02} (id int, value {kind}, other int); insert into t{number:02} values (1, {first}, 2)"
        ));
    }
    sql(
        "create table twice (value text); insert into twice values ('x'), ('y'); \
         create table nothing (); insert into nothing default values",
    );
    let (_, manifest) = bench.dump(DATABASE, "dump").await.unwrap();
    assert_eq!(
        bench.differences(DATABASE, &manifest).await,
        Vec::<String>::new()
    );

    for (number, (_, _, second)) in PAIRS.iter().enumerate() {
        sql(&format!("update t{number:02} set value = {second}"));
    }
    sql("update twice set value = 'x'");
    let expected: Vec<String> = (0..PAIRS.len())
        .map(|number| format!("public.t{number:02} has other rows"))
        .chain(["public.twice has other rows".to_owned()])
        .collect();
    assert_eq!(bench.differences(DATABASE, &manifest).await, expected);

    // A value in another column of its row is told too, and NULL from what it stands beside.
    for (number, (_, first, _)) in PAIRS.iter().enumerate() {
        sql(&format!(
            "update t{number:02} set id = 2, value = {first}, other = 1"
        ));
    }
    sql("update twice set value = 'y'");
    assert_eq!(bench.differences(DATABASE, &manifest).await, expected);
}

#[tokio::test]
async fn neither_the_order_of_rows_nor_that_of_columns_counts_nor_how_a_value_is_stored() {
    let Some(bench) = Bench::start() else { return };
    let sql = |statements: &str| bench.cluster.sql(DATABASE, statements).unwrap();
    bench
        .cluster
        .sql("postgres", "create database values")
        .unwrap();
    sql("create table long (a int, b text, c numeric); \
         insert into long select n, repeat('abc', n * 100), n / 7.0 from generate_series(1, 200) n");
    let (_, manifest) = bench.dump(DATABASE, "dump").await.unwrap();
    // Other columns' numbers, another order of rows, out of line and not compressed.
    sql(
        "alter table long rename to old; create table long (c numeric, b text, a int); \
         alter table long alter b set storage external; \
         insert into long select c, b, a from old order by a desc; drop table old",
    );
    let differences = bench.differences(DATABASE, &manifest).await;
    assert!(
        !differences
            .iter()
            .any(|difference| difference.contains("rows")),
        "{differences:?}"
    );
}
