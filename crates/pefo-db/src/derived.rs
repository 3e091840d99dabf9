//! The names of the databases that stand beside a live one: shadow, drill, and those kept.
//!
//! `pe-rbac` has the shadow `pe-rbac.pefo-shadow` while it is restored, and what was live before is
//! kept as `pe-rbac.pefo-kept-20261122T172137Z`. A live name too long to be extended within 63 bytes
//! is cut and gets a digest of the whole, so that two of them never share a derived name. Whether a
//! database belongs to a live one is decided by its name alone, which a killed run cannot tear.

use pefo_core::clock::Timestamp;
use pefo_core::{Error, Result};
use serde::Serialize;

use crate::name::{DatabaseName, MAX_IDENTIFIER_BYTES};

const SHADOW: &str = ".pefo-shadow";
const SWAPPING: &str = ".pefo-swap";
const DRILL: &str = ".pefo-drill";
const KEPT: &str = ".pefo-kept-";
/// `.pefo-kept-20261122T172137Z-999`
const LONGEST_SUFFIX: usize = 31;
const MAX_COUNTER: u32 = 999;

/// What a database is to pefo, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Purpose {
    /// A database like any other.
    Ordinary,
    /// Being restored, or left by a run that was killed while it restored.
    Shadow,
    /// Restored for a drill.
    Drill,
    /// What was live before a swap, kept for a rollback.
    Kept,
}

impl Purpose {
    /// By the name of the database.
    pub fn of(name: &DatabaseName) -> Self {
        let name = name.as_str();
        match name {
            _ if name.ends_with(SHADOW) || name.ends_with(SWAPPING) => Self::Shadow,
            _ if name.ends_with(DRILL) => Self::Drill,
            _ if name
                .rfind(KEPT)
                .is_some_and(|at| kept_key(&name[at + KEPT.len()..]).is_some()) =>
            {
                Self::Kept
            }
            _ => Self::Ordinary,
        }
    }
}

/// The names derived from one live database.
#[derive(Debug, Clone)]
pub(crate) struct Derived {
    stem: String,
}

impl Derived {
    pub(crate) fn of(live: &DatabaseName) -> Self {
        let name = live.as_str();
        if name.len() + LONGEST_SUFFIX <= MAX_IDENTIFIER_BYTES {
            return Self {
                stem: name.to_owned(),
            };
        }
        let digest = &blake3::hash(name.as_bytes()).to_hex()[..8];
        let mut end = MAX_IDENTIFIER_BYTES - LONGEST_SUFFIX - 1 - digest.len();
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            stem: format!("{}~{digest}", &name[..end]),
        }
    }

    pub(crate) fn shadow(&self) -> Result<DatabaseName> {
        DatabaseName::new(format!("{}{SHADOW}", self.stem))
    }

    /// The shadow's name between its own and the live one, inside the swap's transaction only.
    pub(crate) fn swapping(&self) -> Result<DatabaseName> {
        DatabaseName::new(format!("{}{SWAPPING}", self.stem))
    }

    pub(crate) fn drill(&self) -> Result<DatabaseName> {
        DatabaseName::new(format!("{}{DRILL}", self.stem))
    }

    /// What a killed run may have left, under any of the names that are not kept.
    pub(crate) fn leftovers(&self) -> Result<[DatabaseName; 3]> {
        Ok([self.shadow()?, self.swapping()?, self.drill()?])
    }

    /// The name under which the live database is kept from `at` on; never one of `existing`.
    ///
    /// # Errors
    /// `Invalid`, where a thousand were kept in the same second.
    pub(crate) fn kept(&self, at: Timestamp, existing: &[DatabaseName]) -> Result<DatabaseName> {
        let time: String = at
            .to_string()
            .chars()
            .filter(|char| !matches!(char, '-' | ':'))
            .collect();
        for counter in 1..=MAX_COUNTER {
            let suffix = if counter == 1 {
                String::new()
            } else {
                format!("-{counter}")
            };
            let name = DatabaseName::new(format!("{}{KEPT}{time}{suffix}", self.stem))?;
            if !existing.contains(&name) {
                return Ok(name);
            }
        }
        Err(Error::invalid(format!(
            "{MAX_COUNTER} databases are kept of {} from {time} already",
            self.stem
        )))
    }

    /// Those of `databases` that are kept of this one, the newest first.
    pub(crate) fn kept_among(&self, databases: &[DatabaseName]) -> Vec<DatabaseName> {
        let prefix = format!("{}{KEPT}", self.stem);
        let key = |name: &DatabaseName| kept_key(name.as_str().strip_prefix(&prefix)?);
        let mut kept: Vec<_> = databases
            .iter()
            .filter_map(|name| Some((key(name)?, name.clone())))
            .collect();
        kept.sort();
        kept.into_iter().rev().map(|(_, name)| name).collect()
    }
}

/// Time and counter of a kept name's end, as something that sorts; `None` where it is not one.
fn kept_key(end: &str) -> Option<(String, u32)> {
    let (time, counter) = match end.split_once('-') {
        Some((time, counter)) => (
            time,
            counter
                .parse()
                .ok()
                .filter(|counter| (2..=MAX_COUNTER).contains(counter))?,
        ),
        None => (end, 1),
    };
    let shape = |(at, byte): (usize, u8)| match at {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    (time.len() == 16 && time.bytes().enumerate().all(shape)).then(|| (time.to_owned(), counter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> DatabaseName {
        DatabaseName::new(text).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds).unwrap()
    }

    #[test]
    fn derived_names_are_plain_to_read() {
        let derived = Derived::of(&name("pe-rbac"));
        assert_eq!(derived.shadow().unwrap().as_str(), "pe-rbac.pefo-shadow");
        let first = derived.kept(at(1_763_800_000), &[]).unwrap();
        assert_eq!(first.as_str(), "pe-rbac.pefo-kept-20251122T082640Z");
        let second = derived
            .kept(at(1_763_800_000), std::slice::from_ref(&first))
            .unwrap();
        assert_eq!(second.as_str(), "pe-rbac.pefo-kept-20251122T082640Z-2");
        let third = derived.kept(at(1_763_800_001), &[]).unwrap();
        let all = [
            first.clone(),
            third.clone(),
            name("pe-rbac"),
            second.clone(),
            name("pe-rbac.pefo-kept-x"),
            name("x.pefo-kept-20251122T082640Z"),
        ];
        assert_eq!(derived.kept_among(&all), [third, second, first]);
    }

    #[test]
    fn a_database_is_told_by_its_name() {
        assert_eq!(Purpose::of(&name("pe-rbac")), Purpose::Ordinary);
        assert_eq!(Purpose::of(&name("pe-rbac.pefo-shadow")), Purpose::Shadow);
        assert_eq!(
            Purpose::of(&name("pe-rbac.pefo-kept-20251122T082640Z-2")),
            Purpose::Kept
        );
        assert_eq!(
            Purpose::of(&name("pe-rbac.pefo-kept-yesterday")),
            Purpose::Ordinary
        );
    }

    proptest! {
        #[test]
        fn derived_names_of_any_name_fit_and_never_collide(a in "[^\0]{1,63}", b in "x{28,34}[^\0]{0,10}", c in "x{28,34}[^\0]{0,10}") {
            for text in [&a, &b, &c] {
                if let Ok(live) = DatabaseName::new(text.as_str()) {
                    let derived = Derived::of(&live);
                    let mut existing = Vec::new();
                    for _ in 0..3 {
                        let kept = derived.kept(at(0), &existing).unwrap();
                        prop_assert!(!existing.contains(&kept) && kept != live);
                        prop_assert_eq!(Purpose::of(&kept), Purpose::Kept);
                        existing.push(kept);
                    }
                    prop_assert_eq!(derived.kept_among(&existing).len(), 3);
                    prop_assert_eq!(Purpose::of(&derived.shadow().unwrap()), Purpose::Shadow);
                }
            }
            if let (Ok(b), Ok(c)) = (DatabaseName::new(b), DatabaseName::new(c)) && b != c {
                prop_assert_ne!(Derived::of(&b).shadow().unwrap(), Derived::of(&c).shadow().unwrap());
            }
        }
    }
}
