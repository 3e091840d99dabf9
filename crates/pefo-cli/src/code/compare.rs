//! Two masters' code, compared: pure, and told from the side of the one it is called on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pefo_core::RelPath;
use serde::{Deserialize, Serialize};

use super::{Deployed, Environment, EnvironmentName, Label};

/// So many modules or parts are named to people.
const SHOWN: usize = 5;

/// An environment that is not the same on both masters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Which.
    pub environment: EnvironmentName,
    /// Why it is not.
    #[serde(flatten)]
    pub reason: Reason,
}

/// Why an environment is not the same on both masters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Only the other master has it.
    MissingHere {
        /// Its commit there.
        there: Option<Label>,
    },
    /// Only this master has it.
    MissingThere {
        /// Its commit here.
        here: Option<Label>,
    },
    /// Its commits differ.
    OtherRevision {
        /// Its commit here.
        here: Label,
        /// And there.
        there: Label,
    },
    /// The same commit, and a deployment of it that did not end well.
    Unfinished {
        /// The commit.
        revision: Option<Label>,
        /// On this master.
        here: bool,
        /// On the other.
        there: bool,
    },
    /// The same commit, with other modules.
    OtherModules {
        /// The commit.
        revision: Option<Label>,
        /// What differs, by module.
        modules: BTreeMap<Label, Sides>,
    },
    /// The same commit and modules, and other files: somebody changed one of the two by hand.
    Modified {
        /// The commit.
        revision: Label,
        /// Where, as far as that is known.
        parts: Vec<RelPath>,
    },
    /// Other files, where one of the two has no commit to go by.
    OtherTree {
        /// Where, as far as that is known.
        parts: Vec<RelPath>,
    },
}

/// A module's commit or version on both masters; none where it is not deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    /// On this master.
    pub here: Option<Label>,
    /// On the other.
    pub there: Option<Label>,
}

/// Every environment that is not the same here and there, in the order of their names.
pub fn compare(here: &Deployed, there: &Deployed) -> Vec<Drift> {
    let names: BTreeSet<_> = here
        .environments
        .keys()
        .chain(there.environments.keys())
        .collect();
    let drift = names.into_iter().filter_map(|name| {
        let reason = match (here.environments.get(name), there.environments.get(name)) {
            (Some(here), Some(there)) => reason(here, there)?,
            (Some(here), None) => Reason::MissingThere {
                here: here.revision.clone(),
            },
            (None, there) => Reason::MissingHere {
                there: there.and_then(|there| there.revision.clone()),
            },
        };
        Some(Drift {
            environment: name.clone(),
            reason,
        })
    });
    drift.collect()
}

fn reason(here: &Environment, there: &Environment) -> Option<Reason> {
    if let (Some(here), Some(there)) = (&here.revision, &there.revision)
        && here != there
    {
        return Some(Reason::OtherRevision {
            here: here.clone(),
            there: there.clone(),
        });
    }
    let is_by_revision = here.revision.is_some() && there.revision.is_some();
    let revision = here.revision.clone().filter(|_| is_by_revision);
    if here.unfinished || there.unfinished {
        return Some(Reason::Unfinished {
            revision,
            here: here.unfinished,
            there: there.unfinished,
        });
    }
    // A tree that nobody's record tells of has no modules by name.
    if is_by_revision && here.modules != there.modules {
        return Some(Reason::OtherModules {
            revision,
            modules: differing(&here.modules, &there.modules)
                .into_iter()
                .map(|(name, here, there)| (name, Sides { here, there }))
                .collect(),
        });
    }
    if here.tree == there.tree {
        return None;
    }
    let parts = match here.parts.is_empty() || there.parts.is_empty() {
        true => Vec::new(),
        false => differing(&here.parts, &there.parts)
            .into_iter()
            .map(|(part, ..)| part)
            .collect(),
    };
    Some(match revision {
        Some(revision) => Reason::Modified { revision, parts },
        None => Reason::OtherTree { parts },
    })
}

/// What stands at a key on one side and not, or otherwise, on the other.
fn differing<K: Ord + Clone, V: PartialEq + Clone>(
    here: &BTreeMap<K, V>,
    there: &BTreeMap<K, V>,
) -> Vec<(K, Option<V>, Option<V>)> {
    let keys: BTreeSet<&K> = here.keys().chain(there.keys()).collect();
    let pairs = keys
        .into_iter()
        .map(|key| (key.clone(), here.get(key).cloned(), there.get(key).cloned()));
    pairs.filter(|(_, here, there)| here != there).collect()
}

impl Drift {
    /// Whether deploying it on this master may bring it in step. One that only this master has goes by a
    /// deployment of all environments alone, since the manager no longer knows it.
    pub fn can_be_deployed(&self) -> bool {
        !matches!(self.reason, Reason::MissingThere { .. })
    }

    /// For people, a line: `peer` is the other master.
    pub fn told(&self, peer: impl fmt::Display) -> String {
        let at = |revision: &Option<Label>| match revision {
            Some(revision) => format!(" (at {})", revision.short()),
            None => String::new(),
        };
        let what = match &self.reason {
            Reason::MissingHere { there } => format!("not here; on {peer}{}", at(there)),
            Reason::MissingThere { here } => format!("not on {peer}; here{}", at(here)),
            Reason::OtherRevision { here, there } => {
                format!("here at {}, on {peer} at {}", here.short(), there.short())
            }
            Reason::Unfinished { revision, here, .. } => {
                let place = if *here {
                    "here".to_owned()
                } else {
                    format!("on {peer}")
                };
                format!(
                    "its last deployment {place} did not end well{}",
                    at(revision)
                )
            }
            Reason::OtherModules { revision, modules } => {
                let shown = modules.iter().map(|(name, Sides { here, there })| {
                    let side = |it: &Option<Label>| match it {
                        Some(it) => it.short().to_owned(),
                        None => "none".to_owned(),
                    };
                    format!("{name} here {}, there {}", side(here), side(there))
                });
                format!("other modules{}: {}", at(revision), list(shown))
            }
            Reason::Modified { revision, parts } => {
                let parts = parts.iter().map(ToString::to_string);
                format!(
                    "other files than on {peer}, both at {}: changed by hand?{}",
                    revision.short(),
                    named(list(parts))
                )
            }
            Reason::OtherTree { parts } => {
                let parts = parts.iter().map(ToString::to_string);
                format!("other files than on {peer}{}", named(list(parts)))
            }
        };
        format!("{}: {what}", self.environment)
    }
}

fn named(list: String) -> String {
    if list.is_empty() {
        return list;
    }
    format!(": {list}")
}

/// The first few, and how many more.
fn list(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(SHOWN);
    let mut text = all.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use pefo_core::Digest;
    use proptest::prelude::*;

    use super::super::testing;
    use super::*;

    fn environment(revision: Option<&str>, content: &str) -> Environment {
        let digest = Digest::of(content.as_bytes());
        Environment {
            revision: revision.map(|it| Label::new(it).unwrap()),
            unfinished: false,
            modules: BTreeMap::new(),
            tree: digest,
            files: 1,
            parts: BTreeMap::from([(RelPath::new("manifests/site.pp").unwrap(), digest)]),
        }
    }

    fn with(mut it: Environment, module: &str, version: &str) -> Environment {
        it.modules
            .insert(Label::new(module).unwrap(), Label::new(version).unwrap());
        it
    }

    fn deployed(all: Vec<(&str, Environment)>) -> Deployed {
        let named = |(name, it): (&str, Environment)| (EnvironmentName::new(name).unwrap(), it);
        Deployed::new(all.into_iter().map(named).collect())
    }

    #[test]
    fn each_reason_is_told_by_environment() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let at = |it: &str, content| environment(Some(it), content);
        let unfinished = Environment {
            unfinished: true,
            ..at(&one, "x")
        };
        let here = deployed(vec![
            ("a_same", with(at(&one, "x"), "stdlib", "9.4.1")),
            ("b_behind", at(&one, "x")),
            ("c_gone", at(&one, "x")),
            ("e_modules", with(at(&one, "x"), "stdlib", "9.4.1")),
            ("f_edited", at(&one, "x")),
            ("g_plain", environment(None, "x")),
            ("h_failed", unfinished),
        ]);
        let there = deployed(vec![
            ("a_same", with(at(&one, "x"), "stdlib", "9.4.1")),
            ("b_behind", at(&two, "y")),
            ("d_new", at(&two, "x")),
            (
                "e_modules",
                with(with(at(&one, "z"), "stdlib", "9.5.0"), "apt", &two),
            ),
            ("f_edited", at(&one, "y")),
            ("g_plain", environment(None, "y")),
            ("h_failed", at(&one, "x")),
        ]);
        let told: Vec<String> = compare(&here, &there)
            .iter()
            .map(|drift| drift.told("puppet-a.lab"))
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        b_behind: here at 111111111111, on puppet-a.lab at 222222222222
        c_gone: not on puppet-a.lab; here (at 111111111111)
        d_new: not here; on puppet-a.lab (at 222222222222)
        e_modules: other modules (at 111111111111): apt here none, there 222222222222, stdlib here 9.4.1, there 9.5.0
        f_edited: other files than on puppet-a.lab, both at 111111111111: changed by hand?: manifests/site.pp
        g_plain: other files than on puppet-a.lab: manifests/site.pp
        h_failed: its last deployment here did not end well (at 111111111111)
        ");
        let drift = serde_json::to_string(&compare(&here, &there)[1]).unwrap();
        insta::assert_snapshot!(drift, @r#"{"environment":"c_gone","reason":"missing_there","here":"1111111111111111111111111111111111111111"}"#);
    }

    /// The same seen from the other side.
    fn turned(reason: Reason) -> Reason {
        match reason {
            Reason::MissingHere { there } => Reason::MissingThere { here: there },
            Reason::MissingThere { here } => Reason::MissingHere { there: here },
            Reason::OtherRevision { here, there } => Reason::OtherRevision {
                here: there,
                there: here,
            },
            Reason::Unfinished {
                revision,
                here,
                there,
            } => Reason::Unfinished {
                revision,
                here: there,
                there: here,
            },
            Reason::OtherModules { revision, modules } => Reason::OtherModules {
                revision,
                modules: modules
                    .into_iter()
                    .map(|(name, Sides { here, there })| {
                        (
                            name,
                            Sides {
                                here: there,
                                there: here,
                            },
                        )
                    })
                    .collect(),
            },
            same => same,
        }
    }

    proptest! {
        #[test]
        fn both_sides_see_the_same_drift(here in testing::deployed(), there in testing::deployed()) {
            let mut seen = compare(&here, &there);
            for drift in &mut seen {
                drift.reason = turned(drift.reason.clone());
            }
            prop_assert_eq!(seen, compare(&there, &here));
        }

        #[test]
        fn what_is_not_named_is_the_same(here in testing::deployed(), there in testing::deployed()) {
            let named: BTreeSet<_> = compare(&here, &there).into_iter().map(|it| it.environment).collect();
            for (name, it) in &here.environments {
                let other = there.environments.get(name);
                let is_same = other.is_some_and(|other| {
                    let revisions = (&it.revision, &other.revision);
                    it.tree == other.tree && !it.unfinished && !other.unfinished
                        && (revisions.0.is_none() || revisions.1.is_none()
                            || (revisions.0 == revisions.1 && it.modules == other.modules))
                });
                prop_assert_eq!(is_same, !named.contains(name));
            }
            for drift in compare(&here, &there) {
                let read = serde_json::from_str::<Drift>(&serde_json::to_string(&drift).unwrap()).unwrap();
                prop_assert_eq!(&read, &drift);
                prop_assert_eq!(drift.told("a.lab").lines().count(), 1);
            }
        }
    }
}
