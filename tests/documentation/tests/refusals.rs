//! `docs/refusals.md` names every rule by which the program refuses something, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::markdown::{page, plain, rows};
use crate::repository;

/// The sources of all crates, tests left out.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_test = name == "tests" || name.ends_with("tests.rs") || name == "testing.rs";
        if path.is_dir() && !is_test {
            sources(&path, found);
        } else if name.ends_with(".rs") && !is_test {
            found.push(path);
        }
    }
}

/// The text of a string literal at the beginning of `text`.
fn literal(text: &str) -> Option<&str> {
    let rest = text.trim_start().strip_prefix('"')?;
    Some(rest.split_once('"')?.0)
}

fn is_rule(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(plain)
}

/// Every rule that the sources refuse by: given to `refused`, by name or by a constant, or one of the CA's.
fn rules() -> BTreeMap<String, PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(repository().join("crates")).unwrap() {
        sources(&entry.unwrap().path().join("src"), &mut files);
    }
    let texts: Vec<(PathBuf, String)> = files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            // What follows is a module of tests.
            let text = text
                .split("\n#[cfg(test)]\nmod ")
                .next()
                .unwrap()
                .to_owned();
            (path, text)
        })
        .collect();
    let mut constants: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, text) in &texts {
        for part in text.split("const ").skip(1) {
            if let Some((name, rest)) = part.split_once(": &str =")
                && let Some(value) = literal(rest)
            {
                constants.entry(name).or_default().insert(value);
            }
        }
    }
    let mut rules = BTreeMap::new();
    let mut unknown = Vec::new();
    for (path, text) in &texts {
        // A helper of a data set's that takes the rule first.
        for call in text.split("refuse(").skip(1) {
            if let Some(rule) = literal(call).filter(|rule| is_rule(rule) && rule.contains('-')) {
                rules.insert(rule.to_owned(), path.clone());
            }
        }
        for call in text.split("refused(").skip(1) {
            let argument = call.split([',', ')']).next().unwrap().trim();
            if let Some(rule) = literal(call) {
                rules.insert(rule.to_owned(), path.clone());
                continue;
            }
            let name = argument.rsplit("::").next().unwrap();
            let is_constant =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
            match constants.get(name) {
                Some(values) if is_constant => {
                    let of_rules = values.iter().filter(|value| is_rule(value));
                    rules.extend(of_rules.map(|rule| ((*rule).to_owned(), path.clone())));
                }
                None if is_constant => unknown.push(format!("{}: {argument}", path.display())),
                // A rule that crossed a process or the wire, or the CA's: those stand elsewhere.
                _ => {}
            }
        }
    }
    // Some are chosen before they are given on; a data set's rules are known by their names.
    let chosen = constants.values().flatten().filter(|value| {
        let of_data_set = ["nc-", "db-", "files-", "code-", "schedule-"]
            .iter()
            .any(|prefix| value.starts_with(prefix));
        of_data_set && is_rule(value)
    });
    rules.extend(chosen.map(|rule| ((*rule).to_owned(), PathBuf::from("crates"))));
    assert!(unknown.is_empty(), "of no known value: {unknown:?}");
    for rule in pefo_ca::Rule::ALL {
        rules.insert(
            rule.name().to_owned(),
            "crates/pefo-ca/src/plan/rule.rs".into(),
        );
    }
    rules
}

#[test]
fn every_refusal_is_explained_and_none_that_is_gone() {
    let in_program = rules();
    assert!(
        in_program.len() > 80,
        "only {} rules were found",
        in_program.len()
    );
    let page = page("refusals.md");
    let explained = rows(&page, "rule");
    let mut names = BTreeSet::new();
    for (heading, cells) in &explained {
        let [rule, means, todo, accept] = cells.as_slice() else {
            panic!("{heading}: {cells:?} is not rule, what it means, what to do, --accept");
        };
        let rule = plain(rule);
        assert!(names.insert(rule.to_owned()), "{rule} stands twice");
        assert!(
            means.len() > 10 && todo.len() > 3,
            "{rule} is not explained"
        );
        assert!(
            ["yes", "no"].contains(&accept.as_str()),
            "{rule}: --accept is {accept:?}"
        );
        if let Some(of_ca) = pefo_ca::Rule::from_name(rule) {
            assert_eq!(accept == "yes", of_ca.is_acceptable(), "{rule}: --accept");
        }
    }
    let missing: Vec<_> = in_program
        .iter()
        .filter(|(rule, _)| !names.contains(*rule))
        .collect();
    assert!(missing.is_empty(), "not in docs/refusals.md: {missing:#?}");
    let gone: Vec<_> = names
        .iter()
        .filter(|rule| !in_program.contains_key(*rule))
        .collect();
    assert!(
        gone.is_empty(),
        "in docs/refusals.md and not in the program: {gone:?}"
    );
}
