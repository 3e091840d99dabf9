use pefo_core::digest_cache::FileTime;
use proptest::prelude::*;

use super::*;

fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

fn file(content: u8, mode: u32) -> Node {
    Node::File(FileNodeOf(content, mode).into())
}

struct FileNodeOf(u8, u32);

impl From<FileNodeOf> for crate::tree::entry::FileNode {
    fn from(FileNodeOf(content, mode): FileNodeOf) -> Self {
        Self {
            mode,
            mtime: FileTime {
                seconds: 1,
                nanoseconds: 0,
            },
            size: 1,
            digest: Digest::of(&[content]),
        }
    }
}

const DIR: Node = Node::Directory { mode: 0o755 };

fn tree(nodes: &[(&str, Node)]) -> Tree {
    nodes
        .iter()
        .map(|(path, node)| (rel(path), *node))
        .collect()
}

fn entries(tree: &Tree) -> Vec<Entry> {
    let entry = |(path, node): (&RelPath, &Node)| Entry {
        path: path.clone(),
        node: Some(*node),
    };
    tree.iter().map(entry).collect()
}

/// The plan from one whole tree to another.
fn between(local: &Tree, target: &Tree) -> Result<Plan> {
    let extra: Vec<_> = local
        .keys()
        .filter(|path| !target.contains_key(*path))
        .cloned()
        .collect();
    Plan::make(local, &entries(target), extra, true)
}

/// What the steps come to, in the order in which they are carried out.
fn carry_out(plan: &Plan, local: &Tree, entries: &[Entry]) -> Tree {
    let mut tree = local.clone();
    let remove = |tree: &mut Tree, path: &RelPath| {
        assert!(below(tree, path).next().is_none(), "{path} is not empty");
        tree.remove(path).unwrap();
    };
    plan.clear.iter().for_each(|path| remove(&mut tree, path));
    let put = |tree: &mut Tree, path: &RelPath, node: Node| {
        if let Some(parent) = path.parent() {
            assert!(
                matches!(tree.get(&parent), Some(Node::Directory { .. })),
                "{path}"
            );
        }
        tree.insert(path.clone(), node);
    };
    for (path, mode) in &plan.directories {
        put(&mut tree, path, Node::Directory { mode: *mode });
    }
    let copied = plan.copies.iter().map(|(index, from)| {
        assert!(local.contains_key(from));
        index
    });
    for index in plan.content.iter().chain(copied).chain(&plan.adjust) {
        let entry = &entries[*index as usize];
        put(&mut tree, &entry.path, entry.node.unwrap());
    }
    plan.delete.iter().for_each(|path| remove(&mut tree, path));
    tree
}

/// Whole trees: every path's parents are directories.
fn any_tree() -> impl Strategy<Value = Tree> {
    let node = prop_oneof![
        2 => (any::<u8>(), prop_oneof![Just(0o644_u32), Just(0o600)]).prop_map(|(content, mode)| file(content % 4, mode)),
        1 => prop_oneof![Just(0o755_u32), Just(0o700)].prop_map(|mode| Node::Directory { mode }),
    ];
    prop::collection::btree_map("[ab](-|/[ab]){0,1}(/[ab]){0,1}", node, 0..10).prop_map(|map| {
        let mut tree = Tree::new();
        for (path, node) in map {
            let path = rel(&path);
            let mut above = path.parent();
            while let Some(dir) = above {
                above = dir.parent();
                tree.insert(dir, DIR);
            }
            tree.entry(path).or_insert(node);
        }
        tree
    })
}

proptest! {
    #[test]
    fn a_plan_carried_out_gives_the_target(local in any_tree(), target in any_tree()) {
        let plan = between(&local, &target).unwrap();
        prop_assert_eq!(carry_out(&plan, &local, &entries(&target)), target.clone());
        prop_assert_eq!(plan.is_empty(), local == target);
    }

    #[test]
    fn a_plan_for_some_paths_changes_only_those(local in any_tree(), target in any_tree(), paths in prop::collection::btree_set("[ab](/[ab]){0,1}", 0..3)) {
        let named: Vec<Entry> = paths.iter().map(|path| Entry { path: rel(path), node: target.get(&rel(path)).copied() }).collect();
        // What makes no tree is refused, and everything else comes out as said.
        if let Ok(plan) = Plan::make(&local, &named, [], false) {
            let after = carry_out(&plan, &local, &named);
            for entry in &named {
                prop_assert_eq!(after.get(&entry.path), entry.node.as_ref());
            }
            for (path, node) in &local {
                let concerned = named.iter().any(|entry| path == &entry.path || path.as_str().starts_with(&format!("{}/", entry.path)));
                prop_assert!(concerned || after.get(path) == Some(node));
            }
        }
    }
}

#[test]
fn a_moved_file_is_found_by_its_content() {
    let local = tree(&[("old", file(1, 0o644)), ("stays", file(2, 0o644))]);
    let target = tree(&[("new", file(1, 0o600)), ("stays", file(2, 0o644))]);
    let plan = between(&local, &target).unwrap();
    assert_eq!(plan.copies, [(0, rel("old"))]);
    assert!(plan.content.is_empty());
    assert_eq!(plan.delete, [rel("old")]);
}

#[test]
fn a_file_in_no_directory_and_a_directory_that_is_not_empty_are_refused() {
    let rule = |outcome: Result<Plan>| outcome.unwrap_err().rule().map(str::to_owned);
    let orphan = tree(&[("a/b", file(1, 0o644))]);
    assert_eq!(
        rule(between(&Tree::new(), &orphan)).as_deref(),
        Some("tree-shape")
    );
    let below_file = tree(&[("a", file(1, 0o644)), ("a/b", file(1, 0o644))]);
    assert_eq!(
        rule(between(&Tree::new(), &below_file)).as_deref(),
        Some("tree-shape")
    );
    let local = tree(&[("d", DIR), ("d/x", file(1, 0o644))]);
    let replaced = entries(&tree(&[("d", file(2, 0o644))]));
    assert_eq!(
        rule(Plan::make(&local, &replaced, [], true)).as_deref(),
        Some("tree-shape")
    );
    let set_id = tree(&[("su", file(1, 0o4755))]);
    assert_eq!(
        rule(between(&Tree::new(), &set_id)).as_deref(),
        Some("tree-mode")
    );
}

#[test]
fn the_guard_counts_and_weighs() {
    let guard = DeleteGuard::default();
    assert_eq!(guard.holds(10, 10), None);
    assert_eq!(guard.holds(20, 100), None);
    insta::assert_snapshot!(guard.holds(21, 100).unwrap(), @"mass-delete: 21 of 100 would go, at most 20 % may");
    insta::assert_snapshot!(guard.holds(10_001, 1_000_000).unwrap(), @"mass-delete: 10001 of 1000000 would go, at most 10000 may");
    assert_eq!(guard.max_percent(100).holds(10_000, 10_000), None);
    assert!(guard.free_count(0).max_count(0).holds(1, 100).is_some());
}
