//! The line is cut at any byte: the old tree or the new one, and the next sync goes through.

use pefo_core::ErrorKind;
use pefo_core::disk::Disk;

use crate::world::{Cutting, World, noise, show};

fn world() -> World {
    let world = World::new();
    world.write("a", b"1");
    world.write("d/b", &noise(2, 70_000));
    world.sync();
    world.write("a", b"22");
    let mut changed = noise(2, 70_000);
    changed[35_000] ^= 1;
    world.write("d/b", &changed);
    world.write("d/c", b"333");
    world
}

#[test]
fn a_line_cut_after_any_byte_leaves_the_old_tree_or_the_new_one() {
    let first = world();
    let before = show(&first.dest());
    let after = show(&first.source());
    let said = first.record();
    assert_eq!(show(&first.dest()), after);
    let mut seen = std::collections::BTreeSet::new();
    // Every byte of the frames' heads and every seventh of the rest.
    for length in (0..said.len()).filter(|at| at % 7 == 0 || *at < 400 || said.len() - at < 400) {
        let world = world();
        let (_, served) = world.recite(&said[..length], &Disk::new());
        if let Ok(served) = &served {
            assert!(!served.goodbye);
        }
        let now = show(&world.dest());
        assert!(now == before || now == after, "cut after {length} bytes");
        if seen.insert((now == after, world.waiting())) {
            world.sync();
            world.same();
            assert!(world.waiting().is_empty());
        }
    }
    assert!(seen.len() > 3, "{seen:?}");
}

#[test]
fn a_sender_whose_line_is_cut_is_told_and_may_try_again() {
    let first = world();
    let said = first.record();
    for length in (0..said.len()).step_by(1009) {
        let world = world();
        let (synced, _) = world.session(&Disk::new(), |stream| {
            world.sync_over(Cutting {
                inner: stream,
                left: length,
            })
        });
        let error = synced.unwrap_err();
        let kinds = [
            ErrorKind::Unreachable,
            ErrorKind::Unknown,
            ErrorKind::Protocol,
        ];
        assert!(kinds.contains(&error.kind()), "{length}: {error}");
        world.sync();
        world.same();
    }
}
