//! Which ids the imported groups have, and which of the target's own groups stay.
//!
//! Stock groups other than the root have other ids in each installation, and console permissions refer to
//! groups by id. It guarantees: whatever the policy, every group of the export is in what comes out, or the
//! target's own of the same name and environment in its place; what cannot be placed is refused by name,
//! and never dropped.

use std::collections::{HashMap, HashSet};

use pefo_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{ID_CONFLICT, INFRASTRUCTURE_PARENT, INFRASTRUCTURE_UNMATCHED};
use crate::accept::Acceptances;
use crate::model::{Group, GroupId, Tree};

/// Which ids the imported groups have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum IdPolicy {
    /// The source's own: console permissions and other references to them stay right after a
    /// takeover, where the RBAC database is carried over too.
    #[default]
    KeepSourceIds,
    /// Stock groups that the target has, by name and environment, take the target's ids; all others keep
    /// the source's. For a target that keeps an RBAC database of its own.
    MatchStockGroups,
    /// As [`IdPolicy::MatchStockGroups`], and the target's own infrastructure groups
    /// ([`Group::is_infrastructure`]) stay as they are, with their rules, classes and parameters.
    KeepTargetInfrastructure,
}

/// A group of the export that takes the id of the target's group of the same name and environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IdChange {
    /// Its name.
    pub name: String,
    /// Its environment.
    pub environment: String,
    /// Its id on the source.
    pub from: GroupId,
    /// Its id on the target.
    pub to: GroupId,
}

/// One of the target's own groups that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeptGroup {
    /// Its id.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Whether it stands in the place of a group of the export.
    pub replaces: bool,
}

/// A tree with its ids decided.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// `None` where every id is the source's.
    pub(super) tree: Option<Tree>,
    pub(super) changes: Vec<IdChange>,
    pub(super) kept: Vec<KeptGroup>,
}

/// Decides the ids of `tree` for a target that holds `held`.
///
/// # Errors
/// The refusals [`INFRASTRUCTURE_UNMATCHED`] (may be accepted), [`INFRASTRUCTURE_PARENT`] and [`ID_CONFLICT`].
pub(super) fn decide(
    tree: &Tree,
    held: &Tree,
    policy: IdPolicy,
    accept: &Acceptances,
    accepted: &mut Vec<String>,
) -> Result<Decided> {
    let keeps = match policy {
        IdPolicy::KeepSourceIds => return Ok(Decided::default()),
        IdPolicy::MatchStockGroups => false,
        IdPolicy::KeepTargetInfrastructure => true,
    };
    let by_name: HashMap<(&str, &str), &Group> = held
        .groups()
        .iter()
        .map(|group| ((group.name(), group.environment()), group))
        .collect();
    let twin = |group: &Group| {
        let twin = by_name.get(&(group.name(), group.environment())).copied();
        twin.filter(|_| group.is_stock() && !group.id().is_root())
    };
    let mut decided = Decided::default();
    let mut ids: HashMap<GroupId, GroupId> = HashMap::new();
    for group in tree.groups() {
        let Some(twin) = twin(group).filter(|twin| twin.id() != group.id()) else {
            continue;
        };
        ids.insert(group.id(), twin.id());
        decided.changes.push(IdChange {
            name: group.name().to_owned(),
            environment: group.environment().to_owned(),
            from: group.id(),
            to: twin.id(),
        });
    }
    let new_id = |id: GroupId| ids.get(&id).copied().unwrap_or(id);
    let mut groups = Vec::with_capacity(tree.len());
    let mut unmatched = Vec::new();
    for group in tree.groups() {
        if keeps && group.is_infrastructure() {
            match twin(group) {
                Some(own) => {
                    decided.kept.push(kept(own, true));
                    groups.push(own.clone());
                    continue;
                }
                None => unmatched.push(group.name()),
            }
        }
        groups.push(group.with_ids(new_id(group.id()), new_id(group.parent())));
    }
    if !unmatched.is_empty() {
        let message = format!(
            "infrastructure groups of the source that the target does not have: {}",
            unmatched.join(", ")
        );
        let refusal = Error::refused(INFRASTRUCTURE_UNMATCHED, message).hint(format!(
            "accept {INFRASTRUCTURE_UNMATCHED} to take them over as they are on the source"
        ));
        accept.gate(refusal, accepted)?;
    }
    if keeps {
        let here: HashSet<GroupId> = groups.iter().map(Group::id).collect();
        let own = held.groups().iter();
        for group in own.filter(|group| group.is_infrastructure() && !here.contains(&group.id())) {
            decided.kept.push(kept(group, false));
            groups.push(group.clone());
        }
        check_parents(&groups, held, &decided.kept)?;
    }
    let tree = Tree::from_groups(groups).map_err(|error| {
        Error::refused(
            ID_CONFLICT,
            format!("with the target's ids the groups of the source are no tree: {error}"),
        )
        .hint(
            "rename or move the group that is named, or set [classifier] ids = \"keep-source-ids\"",
        )
        .with_source(error)
    })?;
    decided.tree = Some(tree);
    Ok(decided)
}

fn kept(group: &Group, replaces: bool) -> KeptGroup {
    KeptGroup {
        id: group.id(),
        name: group.name().to_owned(),
        replaces,
    }
}

/// What stays of the target hangs where it hung; the group above it must stay too.
fn check_parents(groups: &[Group], held: &Tree, kept: &[KeptGroup]) -> Result<()> {
    let here: HashSet<GroupId> = groups.iter().map(Group::id).collect();
    for group in kept.iter().filter_map(|kept| held.get(kept.id)) {
        if here.contains(&group.parent()) {
            continue;
        }
        let above = held.get(group.parent()).map_or("", Group::name);
        let message = format!(
            "the target's own {:?} hangs below {above:?}, which the source does not have",
            group.name()
        );
        return Err(Error::refused(INFRASTRUCTURE_PARENT, message)
            .hint("move it below a group that both have, or make the group on the source"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical;
    use crate::testing::{self, group};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Root, an environment group, infrastructure with one role and the site's own below it.
    fn installation(ids: u32, host: &str) -> Vec<Value> {
        let mut groups = vec![
            group(0, 0, "All Nodes"),
            group(ids + 1, 0, "Production environment"),
            group(ids + 2, 0, "PE Infrastructure"),
            group(ids + 3, ids + 2, "PE Master"),
        ];
        groups[3]["rule"] = json!(["=", "name", host]);
        groups
    }

    fn source() -> Vec<Value> {
        let mut groups = installation(10, "a.lab");
        groups.push(group(100, 13, "Compilers"));
        groups.push(group(101, 11, "Web"));
        groups
    }

    fn tree(groups: Vec<Value>) -> Tree {
        Tree::from_value(Value::Array(groups)).unwrap()
    }

    fn decided(source: Vec<Value>, target: Vec<Value>, policy: IdPolicy) -> Result<Decided> {
        decide(
            &tree(source),
            &tree(target),
            policy,
            &Acceptances::none(),
            &mut Vec::new(),
        )
    }

    /// Name, id's number, parent's number.
    fn shape(tree: &Tree) -> Vec<(String, String, String)> {
        let number = |id: GroupId| {
            id.to_string()
                .rsplit('-')
                .next()
                .unwrap()
                .trim_start_matches('0')
                .to_owned()
        };
        tree.groups()
            .iter()
            .map(|group| {
                (
                    group.name().to_owned(),
                    number(group.id()),
                    number(group.parent()),
                )
            })
            .collect()
    }

    #[test]
    fn sources_ids_are_kept_unless_asked_otherwise() {
        let decided = decided(source(), installation(20, "b.lab"), IdPolicy::default()).unwrap();
        assert!(decided.tree.is_none() && decided.changes.is_empty());
    }

    #[test]
    fn stock_groups_take_the_targets_ids_and_their_children_follow() {
        let decided = decided(
            source(),
            installation(20, "b.lab"),
            IdPolicy::MatchStockGroups,
        )
        .unwrap();
        let tree = decided.tree.unwrap();
        insta::assert_snapshot!(
            shape(&tree).iter().map(|(name, id, parent)| format!("{name} {id} below {parent}")).collect::<Vec<_>>().join("\n"),
            @r"
        All Nodes  below 
        Production environment 15 below 
        PE Infrastructure 16 below 
        PE Master 17 below 16
        Compilers 64 below 17
        Web 65 below 15
        "
        );
        assert_eq!(decided.changes.len(), 3);
        let master = tree.by_name("PE Master", "production").unwrap();
        assert_eq!(
            master.contents().object()["rule"],
            json!(["=", "name", "a.lab"]),
            "ids only"
        );
    }

    #[test]
    fn the_targets_infrastructure_stays_with_what_only_the_target_has() {
        let mut target = installation(20, "b.lab");
        target.push(group(29, 22, "PE HA Replica"));
        target.push(group(200, 0, "Of the target"));
        let decided = decided(source(), target, IdPolicy::KeepTargetInfrastructure).unwrap();
        let tree = decided.tree.unwrap();
        let master = tree.by_name("PE Master", "production").unwrap();
        assert_eq!(
            master.contents().object()["rule"],
            json!(["=", "name", "b.lab"])
        );
        assert!(tree.by_name("PE HA Replica", "production").is_some());
        assert!(
            tree.by_name("Of the target", "production").is_none(),
            "only infrastructure stays"
        );
        let compilers = tree.by_name("Compilers", "production").unwrap();
        assert_eq!(compilers.parent(), master.id());
        let kept: Vec<_> = decided
            .kept
            .iter()
            .map(|kept| (kept.name.as_str(), kept.replaces))
            .collect();
        assert_eq!(
            kept,
            [
                ("PE Infrastructure", true),
                ("PE Master", true),
                ("PE HA Replica", false)
            ]
        );
    }

    #[test]
    fn what_the_target_lacks_is_refused_and_taken_over_where_that_is_accepted() {
        let mut source = source();
        source.push(group(19, 12, "PE HA Master"));
        let target = installation(20, "b.lab");
        let policy = IdPolicy::KeepTargetInfrastructure;
        let error = decided(source.clone(), target.clone(), policy).unwrap_err();
        assert_eq!(error.rule(), Some(INFRASTRUCTURE_UNMATCHED));
        let (accept, mut accepted) = (Acceptances::of([INFRASTRUCTURE_UNMATCHED]), Vec::new());
        let decided = decide(&tree(source), &tree(target), policy, &accept, &mut accepted).unwrap();
        assert_eq!(accepted.len(), 1);
        assert!(
            decided
                .tree
                .unwrap()
                .by_name("PE HA Master", "production")
                .is_some()
        );
    }

    #[test]
    fn infrastructure_below_a_group_that_would_be_gone_is_refused() {
        let mut target = installation(20, "b.lab");
        target.push(group(200, 0, "Of the target"));
        target.push(group(29, 200, "PE HA Replica"));
        let error = decided(source(), target, IdPolicy::KeepTargetInfrastructure).unwrap_err();
        assert_eq!(error.rule(), Some(INFRASTRUCTURE_PARENT));
        assert!(error.to_string().contains("Of the target"), "{error}");
    }

    #[test]
    fn an_id_that_another_group_of_the_source_has_is_refused() {
        let mut source = source();
        source.push(group(23, 0, "Has the id of the target's master"));
        for policy in [
            IdPolicy::MatchStockGroups,
            IdPolicy::KeepTargetInfrastructure,
        ] {
            let error = decided(source.clone(), installation(20, "b.lab"), policy).unwrap_err();
            assert_eq!(error.rule(), Some(ID_CONFLICT));
        }
    }

    proptest! {
        #[test]
        fn no_group_is_lost_and_what_was_imported_once_is_equal_afterwards(
            tree in testing::tree(), own in testing::tree(), stock: Vec<prop::sample::Index>,
        ) {
            let named = |tree: &Tree, at: usize| {
                let mut groups: Vec<Value> = tree.groups().iter().map(|group| Value::Object(group.contents().into_object())).collect();
                for (index, name) in stock.iter().zip(["PE Master", "Production environment", "PE Console"]) {
                    let chosen = index.index(groups.len());
                    if chosen != at && groups[chosen]["parent"] != groups[chosen]["id"] {
                        groups[chosen]["name"] = name.into();
                        groups[chosen]["environment"] = "production".into();
                    }
                }
                Tree::from_value(Value::Array(groups))
            };
            let (Ok(tree), Ok(own)) = (named(&tree, 1), named(&own, 2)) else { return Ok(()) };
            for policy in [IdPolicy::MatchStockGroups, IdPolicy::KeepTargetInfrastructure] {
                let accept = Acceptances::of([INFRASTRUCTURE_UNMATCHED]);
                let decide_for = |held: &Tree| decide(&tree, held, policy, &accept, &mut Vec::new());
                let Ok(decided) = decide_for(&own) else { continue };
                let wanted = decided.tree.unwrap();
                for group in tree.groups() {
                    prop_assert!(wanted.by_name(group.name(), group.environment()).is_some());
                }
                // Planned again against what was imported, there is nothing to do.
                let again = decide_for(&wanted).unwrap().tree.unwrap();
                prop_assert!(canonical::equal(&again, &wanted));
            }
        }
    }
}
