use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Heard(Mutex<Vec<(u64, u64)>>);

impl Progress for Heard {
    fn advance(&self, items: u64, bytes: u64) {
        self.0.lock().unwrap().push((items, bytes));
    }
}

fn told(lines: &[&str], at_once: u32) -> Vec<(u64, u64)> {
    let heard = Heard::default();
    let sizes = [("public.a", 1), ("public.b", 20), ("other.a", 300)];
    let sizes = Sizes {
        tables: sizes.map(|(name, bytes)| (name.to_owned(), bytes)).into(),
        total: 4_321,
    };
    let mut tables = Tables::new(&heard, sizes, at_once);
    lines.iter().for_each(|line| tables.hear(line));
    tables.end();
    heard.0.into_inner().unwrap()
}

#[test]
fn one_after_the_other_a_table_is_done_when_the_next_begins() {
    let lines = [
        "pg_dump: saving encoding = UTF8",
        "pg_dump: dumping contents of table \"public.a\"",
        "pg_dump: dumping contents of table \"other.a\"",
        "pg_dump: dumping contents of table \"public.unknown\"",
    ];
    assert_eq!(told(&lines, 1), [(1, 1), (1, 300), (1, 0), (0, 4_020)]);
}

#[test]
fn at_once_a_table_is_done_when_it_is_said() {
    let lines = [
        "pg_restore: launching item 3366 TABLE DATA a",
        "pg_restore: processing data for table \"public.a\"",
        "pg_restore: processing data for table \"public.b\"",
        "pg_restore: finished item 3374 BLOBS BLOBS",
        "pg_restore: finished item 3367 TABLE DATA b",
        "pg_restore: processing data for table \"other.a\"",
        "pg_restore: finished item 3366 TABLE DATA a",
        "pg_restore: finished item 3370 TABLE DATA a",
    ];
    assert_eq!(told(&lines, 2), [(1, 20), (1, 1), (1, 300), (0, 4_000)]);
}

#[test]
fn a_name_of_any_kind_is_read_as_the_programs_write_it() {
    let line = "pg_dump: dumping contents of table \"S p.we\"ird.na me\"";
    assert_eq!(Event::of(line), Some(Event::Began("S p.we\"ird.na me")));
    let line = "pg_dump: finished item 3367 TABLE DATA we\"ird.na me";
    assert_eq!(Event::of(line), Some(Event::Finished("we\"ird.na me")));
    assert_eq!(Event::of("pg_dump: finished item x TABLE DATA t"), None);
    assert_eq!(Event::of("dumping contents of table \"public.t\""), None);
}

fn last_words(lines: &[&str]) -> String {
    let mut words = LastWords::default();
    lines.iter().for_each(|line| words.hear(line));
    words.into_text()
}

#[test]
fn the_last_words_are_errors_and_not_chatter() {
    let said = last_words(&[
        "pg_restore: creating TABLE \"public.t\"",
        "pg_restore: from TOC entry 6; 2615 16388 FUNCTION f postgres",
        "pg_restore: error: could not execute query: ERROR:  schema \"S p\" already exists",
        "Command was: CREATE FUNCTION f() RETURNS integer",
        "    LANGUAGE sql",
        "    AS $$",
        "select 1",
        "$$;",
        "pg_restore: finished item 3369 TABLE DATA t",
        "pg_restore: error: a worker process died unexpectedly",
    ]);
    insta::assert_snapshot!(said, @r#"
    pg_restore: error: could not execute query: ERROR:  schema "S p" already exists
    Command was: CREATE FUNCTION f() RETURNS integer
        LANGUAGE sql
    pg_restore: error: a worker process died unexpectedly
    "#);
}

#[test]
fn the_words_of_a_launcher_are_kept() {
    let said = last_words(&["setpriv: failed to execute pg_dump: No such file or directory"]);
    assert_eq!(
        said,
        "setpriv: failed to execute pg_dump: No such file or directory"
    );
}

proptest! {
    #[test]
    fn whatever_is_said_little_is_kept_and_all_bytes_are_told(
        lines in proptest::collection::vec(
            "(pg_(dump|restore): )?((error|hint): |finished item 3 TABLE DATA |dumping contents of table \")?[a-z.\"]{0,9}\"?",
            0..60,
        ),
        at_once in 0_u32..4,
    ) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        prop_assert!(last_words(&lines).lines().count() <= LastWords::LINES);
        let told = told(&lines, at_once);
        prop_assert_eq!(told.iter().map(|(_, bytes)| bytes).sum::<u64>(), 4_321);
        let began = lines.iter().filter(|line| matches!(Event::of(line), Some(Event::Began(_))));
        prop_assert_eq!(told.iter().map(|(items, _)| items).sum::<u64>(), began.count() as u64);
    }
}
