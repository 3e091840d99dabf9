//! Compares two states of a database and names every difference. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::state::{DatabaseState, Sequence, SequenceValue};

/// One difference between what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// What differs.
    pub kind: DifferenceKind,
    /// The object: `schema.table`, a role, an extension, a property.
    pub name: String,
    /// What was expected, where it can be said in short.
    pub expected: Option<String>,
    /// What was found.
    pub found: Option<String>,
}

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// A table, view or sequence is missing, or is another kind of relation.
    Missing,
    /// There is one too many.
    Extra,
    /// The number of rows differs.
    RowCount,
    /// As many rows, but other values.
    Rows,
    /// A sequence stands elsewhere.
    Sequence,
    /// Large objects differ.
    LargeObjects,
    /// An extension is missing or has another version.
    Extension,
    /// An object is defined otherwise, or its owner, grants or comment differ.
    Definition,
    /// A property of the database itself differs: owner, encoding, settings, grants, `public`'s rights.
    Property,
}

impl DifferenceKind {
    /// Whether data itself differs, as opposed to definitions and properties.
    pub fn is_data(self) -> bool {
        match self {
            Self::Missing
            | Self::Extra
            | Self::RowCount
            | Self::Rows
            | Self::Sequence
            | Self::LargeObjects => true,
            Self::Extension | Self::Definition | Self::Property => false,
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            DifferenceKind::Missing => "is missing",
            DifferenceKind::Extra => "should not be there",
            DifferenceKind::RowCount => "has another number of rows",
            DifferenceKind::Rows => "has other rows",
            DifferenceKind::Sequence => "stands elsewhere",
            DifferenceKind::LargeObjects => "differ",
            DifferenceKind::Extension => "has another version",
            DifferenceKind::Definition => "is defined otherwise",
            DifferenceKind::Property => "is not as it should be",
        };
        write!(f, "{} {what}", self.name)?;
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => write!(f, " ({found}, not {expected})"),
            (Some(expected), None) => write!(f, " (expected {expected})"),
            (None, Some(found)) => write!(f, " ({found})"),
            (None, None) => Ok(()),
        }
    }
}

/// Every difference of `found` from `expected`; definitions are compared where `same_major` says that
/// one major version of PostgreSQL printed both. Where one of them only counted a table's rows or the
/// large objects, their numbers are compared: see [`DatabaseState::is_exact`].
pub fn compare(
    expected: &DatabaseState,
    found: &DatabaseState,
    same_major: bool,
) -> Vec<Difference> {
    let mut differences = Differences::default();
    differences.relations(expected, found);
    differences.sequences(expected, found);
    if expected.large_objects.count != found.large_objects.count {
        let (expected, found) = (expected.large_objects.count, found.large_objects.count);
        differences.add(
            DifferenceKind::LargeObjects,
            "large objects",
            Some(expected),
            Some(found),
        );
    } else if let (Some(a), Some(b)) = (&expected.large_objects.digest, &found.large_objects.digest)
        && a != b
    {
        differences.add(
            DifferenceKind::LargeObjects,
            "large objects",
            None::<u64>,
            None::<u64>,
        );
    }
    differences.extensions(expected, found);
    if same_major {
        differences.definitions(expected, found);
    }
    differences.properties(expected, found);
    differences.0
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn add(
        &mut self,
        kind: DifferenceKind,
        name: &str,
        expected: Option<impl ToString>,
        found: Option<impl ToString>,
    ) {
        let (expected, found) = (
            expected.map(|value| value.to_string()),
            found.map(|value| value.to_string()),
        );
        self.0.push(Difference {
            kind,
            name: name.to_owned(),
            expected,
            found,
        });
    }

    fn relations(&mut self, expected: &DatabaseState, found: &DatabaseState) {
        let wanted: BTreeMap<_, _> = expected
            .relations
            .iter()
            .map(|relation| (relation.full_name(), relation))
            .collect();
        let there: BTreeMap<_, _> = found
            .relations
            .iter()
            .map(|relation| (relation.full_name(), relation))
            .collect();
        for (name, relation) in &wanted {
            match there.get(name) {
                Some(other) if other.kind == relation.kind => {
                    if relation.rows != other.rows {
                        self.add(DifferenceKind::RowCount, name, relation.rows, other.rows);
                    } else if let (Some(a), Some(b)) = (&relation.digest, &other.digest)
                        && a != b
                    {
                        self.add(DifferenceKind::Rows, name, None::<u64>, None::<u64>);
                    }
                }
                _ => self.add(DifferenceKind::Missing, name, relation.rows, None::<u64>),
            }
        }
        for (name, relation) in there.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
            self.add(DifferenceKind::Extra, name, None::<u64>, relation.rows);
        }
    }

    fn sequences(&mut self, expected: &DatabaseState, found: &DatabaseState) {
        let there: BTreeMap<_, _> = found
            .sequences
            .iter()
            .map(|sequence| (sequence.full_name(), sequence))
            .collect();
        let wanted: BTreeSet<_> = expected.sequences.iter().map(Sequence::full_name).collect();
        for sequence in &expected.sequences {
            let name = sequence.full_name();
            match there.get(&name) {
                None => self.add(
                    DifferenceKind::Missing,
                    &name,
                    Some(said(sequence.after)),
                    None::<u64>,
                ),
                Some(other) if !lies_between(sequence, other.before) => {
                    self.add(
                        DifferenceKind::Sequence,
                        &name,
                        Some(said(sequence.after)),
                        Some(said(other.before)),
                    );
                }
                Some(_) => {}
            }
        }
        for (name, sequence) in there.iter().filter(|(name, _)| !wanted.contains(*name)) {
            self.add(
                DifferenceKind::Extra,
                name,
                None::<u64>,
                Some(said(sequence.before)),
            );
        }
    }

    fn extensions(&mut self, expected: &DatabaseState, found: &DatabaseState) {
        let there: BTreeMap<_, _> = found
            .extensions
            .iter()
            .map(|extension| (&extension.name, &extension.version))
            .collect();
        for extension in &expected.extensions {
            let version = there.get(&extension.name).copied();
            if version != Some(&extension.version) {
                let name = format!("extension {}", extension.name);
                self.add(
                    DifferenceKind::Extension,
                    &name,
                    Some(&extension.version),
                    Some(version.map_or("none", |version| version)),
                );
            }
        }
    }

    fn definitions(&mut self, expected: &DatabaseState, found: &DatabaseState) {
        let key = |state: &DatabaseState| -> BTreeSet<_> {
            let each = state.definitions.iter();
            each.map(|definition| {
                (
                    definition.kind.clone(),
                    definition.name.clone(),
                    definition.digest.clone(),
                )
            })
            .collect()
        };
        let (wanted, there) = (key(expected), key(found));
        let names: BTreeSet<_> = wanted
            .symmetric_difference(&there)
            .map(|(kind, name, _)| (kind, name))
            .collect();
        for (kind, name) in names {
            self.add(
                DifferenceKind::Definition,
                &format!("{kind} {name}"),
                None::<u64>,
                None::<u64>,
            );
        }
    }

    fn properties(&mut self, expected: &DatabaseState, found: &DatabaseState) {
        let (wanted, there) = (&expected.properties, &found.properties);
        let mut text = |name: &str, expected: &str, found: &str| {
            if expected != found {
                self.add(DifferenceKind::Property, name, Some(expected), Some(found));
            }
        };
        text("owner", &wanted.owner, &there.owner);
        text("encoding", &wanted.encoding, &there.encoding);
        text("collation", &wanted.collate, &there.collate);
        text("ctype", &wanted.ctype, &there.ctype);
        text(
            "connection limit",
            &wanted.connection_limit.to_string(),
            &there.connection_limit.to_string(),
        );
        for (name, differs) in [
            (
                "locale",
                (wanted.locale_provider, &wanted.locale) != (there.locale_provider, &there.locale),
            ),
            ("comment", wanted.comment != there.comment),
            ("the set of settings", wanted.settings != there.settings),
            (
                "the set of grants on the database",
                wanted.grants != there.grants,
            ),
            (
                "the set of rights on the schema public",
                wanted.public_schema != there.public_schema,
            ),
        ] {
            if differs {
                self.add(DifferenceKind::Property, name, None::<u64>, None::<u64>);
            }
        }
    }
}

/// Whether a sequence found standing at `value` can come from the dump: see [`Sequence`].
fn lies_between(sequence: &Sequence, value: SequenceValue) -> bool {
    let (before, after) = (sequence.before, sequence.after);
    if before == after {
        return value == before;
    }
    let (low, high) = (
        before.last_value.min(after.last_value),
        before.last_value.max(after.last_value),
    );
    (low..=high).contains(&value.last_value)
}

fn said(value: SequenceValue) -> String {
    if value.is_called {
        value.last_value.to_string()
    } else {
        format!("{} (unused)", value.last_value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::sample_state;

    #[test]
    fn equal_states_do_not_differ() {
        let state = sample_state();
        assert_eq!(compare(&state, &state, true), []);
    }

    #[test]
    fn every_difference_is_named() {
        let wanted = sample_state();
        let mut found = wanted.clone();
        found.relations[0].digest = Some("1/2".into());
        found.relations[1].rows = Some(7);
        found.relations[2].name = "renamed".into();
        found.sequences[0].before.last_value = 99;
        found.large_objects.digest = Some("3/4".into());
        found.extensions[0].version = "2".into();
        found.definitions[0].digest = "00".into();
        found.properties.owner = "postgres".into();
        found.properties.grants.clear();
        let lines: Vec<String> = compare(&wanted, &found, true)
            .iter()
            .map(ToString::to_string)
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        rbac.roles has other rows
        rbac.subjects has another number of rows (7, not 4000)
        rbac.who_may is missing
        rbac.renamed should not be there
        rbac.roles_id_seq stands elsewhere (99, not 41)
        large objects differ
        extension citext has another version (2, not 1.6)
        index rbac.i is defined otherwise
        owner is not as it should be (postgres, not pe-rbac)
        the set of grants on the database is not as it should be
        ");
        assert!(
            compare(&wanted, &found, false)
                .iter()
                .all(|difference| difference.kind != DifferenceKind::Definition)
        );
    }

    #[test]
    fn a_table_that_was_only_counted_is_compared_by_its_count_and_that_is_told() {
        let wanted = sample_state();
        let mut counted = wanted.clone();
        counted.relations[0].digest = None;
        assert!(wanted.is_exact() && !counted.is_exact() && counted.counted_only() == 1);
        for (wanted, found) in [
            (&wanted, &counted),
            (&counted, &wanted),
            (&counted, &counted),
        ] {
            assert_eq!(compare(wanted, found, true), []);
        }
        let mut found = wanted.clone();
        found.relations[0].rows = Some(51);
        let differences = compare(&counted, &found, true);
        assert_eq!(differences.len(), 1);
        assert_eq!(differences[0].kind, DifferenceKind::RowCount);

        let mut counted = wanted.clone();
        counted.large_objects.digest = None;
        assert!(!counted.is_exact() && counted.counted_only() == 0);
        counted.large_objects.count = 0;
        assert!(counted.is_exact(), "none of them differ in nothing");
    }

    #[test]
    fn a_sequence_that_moved_during_the_dump_may_stand_anywhere_between() {
        let mut wanted = sample_state();
        wanted.sequences[0].after.last_value = wanted.sequences[0].before.last_value + 10;
        let mut found = sample_state();
        for (step, fits) in [(0, true), (4, true), (10, true), (11, false), (-1, false)] {
            found.sequences[0].before.last_value = wanted.sequences[0].before.last_value + step;
            assert_eq!(compare(&wanted, &found, true).is_empty(), fits, "{step}");
        }
    }
}
