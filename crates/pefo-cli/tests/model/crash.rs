//! Stopped at every operation, by a kill and by a loss of power: what stands on the passive is the old
//! or the new, what was said is durable, and a restart finishes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pefo_cli::pipeline::watch::Active;
use pefo_core::disk::fault::Counter;
use pefo_core::disk::power::{Crash, Loss};
use pefo_core::disk::{Hook, is_temp_name};
use pefo_core::generation::Accepted;

use crate::moves::{Fate, Way};
use crate::pair::{Pair, Setup, Tree};
use crate::world::World;

/// What the active does before the generation that is interrupted.
type Acts = fn(&mut World<'_>);

/// How much of the passive's CA one generation changes, and how it comes.
struct Scenario {
    name: &'static str,
    before: Acts,
    acts: Acts,
    /// A whole comparison in the place of an event.
    is_whole: bool,
}

const fn event(name: &'static str, before: Acts, acts: Acts) -> Scenario {
    Scenario {
        name,
        before,
        acts,
        is_whole: false,
    }
}

fn nothing(_: &mut World<'_>) {}

fn sign_n0(world: &mut World<'_>) {
    world.source.sign("n0.test");
}

fn sign_and_ask(world: &mut World<'_>) {
    sign_n0(world);
    world.source.request("asks.test");
}

fn sign_twelve(world: &mut World<'_>) {
    for nth in 0..12 {
        world.source.sign(&format!("many{nth}.test"));
    }
}

/// All at once: twelve certificates, one of a name that is known, one for a request; a revocation.
fn everything(world: &mut World<'_>) {
    sign_twelve(world);
    world.source.sign("asks.test");
    world.source.request("asks-too.test");
    world.source.clean("n0.test");
    world.source.sign("n0.test");
    world.source.revoke("many3.test");
}

const SCENARIOS: [Scenario; 9] = [
    event("one certificate", nothing, sign_n0),
    event("twelve certificates", nothing, sign_twelve),
    event("a revocation", sign_n0, |world| {
        world.source.revoke("n0.test");
    }),
    event("a clean", sign_n0, |world| world.source.clean("n0.test")),
    event("a renewal", sign_n0, |world| world.source.renew("n0.test")),
    event("a request", nothing, |world| {
        world.source.request("asks.test");
    }),
    event("a request that is answered", sign_and_ask, |world| {
        world.source.sign("asks.test");
    }),
    event("everything", sign_and_ask, everything),
    Scenario {
        name: "everything, compared as wholes",
        before: sign_and_ask,
        acts: everything,
        is_whole: true,
    },
];

const ACCEPTED: &str = "state/accepted/ca.json";

type Files = BTreeMap<String, Vec<u8>>;

/// The passive at a moment: every file that counts, by path.
fn standing(root: &Path) -> Files {
    let tree = Tree::read(root);
    let files = tree.files().filter(|(path, _)| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let path = path.to_str().unwrap();
        let counts = ["ca/", "ssl/", "state/accepted/", "state/public/"];
        !is_temp_name(name) && counts.iter().any(|sub| path.starts_with(sub))
    });
    files
        .map(|(path, bytes)| (path.to_str().unwrap().to_owned(), bytes.to_vec()))
        .collect()
}

/// The ledger that has accepted what is new and applied what is old.
fn taken(old: Option<&Vec<u8>>, new: Option<&Vec<u8>>) -> Option<Vec<u8>> {
    let [old, mut new]: [Accepted; 2] =
        [old?, new?].map(|bytes| serde_json::from_slice(bytes).unwrap());
    new.applied = old.applied;
    Some(serde_json::to_vec_pretty(&new).unwrap())
}

/// Serial, inventory, signed, and the CRLs last: a file that is new says that those before it are.
fn assert_in_order(what: &str, (old, new): (&Files, &Files), now: &Files) {
    let rank = |path: &str| match path.strip_prefix("ca/").unwrap_or_default() {
        "serial" => 1,
        "inventory.txt" => 2,
        "ca_crl.pem" | "infra_crl.pem" => 5,
        path if path.starts_with("signed/") => 3,
        path if path.starts_with("requests/") => 4,
        _ if path == "ssl/crl.pem" => 6,
        _ if path == ACCEPTED => 7,
        _ if path == "state/public/acks/ca.ack" => 8,
        _ => 0,
    };
    let mut newest = 0;
    let mut oldest = usize::MAX;
    let paths: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for path in paths {
        let (before, after, here) = (old.get(path), new.get(path), now.get(path));
        // A whole comparison records what it has taken before it applies it.
        if *path == ACCEPTED && here == taken(before, after).as_ref() {
            continue;
        }
        assert!(here == before || here == after, "{what}: {path} is whole");
        if before != after {
            if here == after {
                newest = newest.max(rank(path));
            } else {
                oldest = oldest.min(rank(path));
            }
        }
    }
    assert!(
        newest <= oldest,
        "{what}: rank {newest} is new while {oldest} is old"
    );
    for path in now.keys() {
        assert!(old.contains_key(path) || new.contains_key(path), "{path}");
    }
}

fn names(files: &Files) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

/// Plays one scenario, stopped everywhere; tells at how many points.
fn stop_everywhere(scenario: &Scenario, setup: Setup) -> usize {
    let (pair, ca) = Pair::new(setup);
    let active = Active::open(&pair.a.host).unwrap();
    let mut world = World::new(&pair, &active, ca, setup.has_block);
    world.restart_feed();
    let step = |world: &mut World<'_>| {
        world.look();
        world.send_all();
    };
    (scenario.before)(&mut world);
    step(&mut world);
    world.round(Fate::Lives);
    let before = Tree::read(&pair.b.root);
    (scenario.acts)(&mut world);
    world.set_clocks((0, 0));
    if scenario.is_whole {
        world.line.want_full();
        world.overflow();
        world.send(Way::Arrives);
    } else {
        step(&mut world);
    }
    let spool = Tree::read(&pair.b.root.join("spool"));
    // As it was before the generation came, but one who follows is there.
    let prepare = |world: &mut World<'_>| {
        world.stop_follower();
        before.replace(&pair.b.root);
        if !scenario.is_whole {
            world.round(Fate::Lives);
        }
        spool.replace(&pair.b.root.join("spool"));
    };
    prepare(&mut world);
    let old = standing(&pair.b.root);
    let counter = Arc::new(Counter::default());
    world.round_with(counter.clone());
    world.check();
    let new = standing(&pair.b.root);
    assert_eq!(world.difference(), None, "{}", scenario.name);
    for point in 0..counter.count() {
        prepare(&mut world);
        let crash = Arc::new(Crash::at(point, &pair.b.root).unwrap());
        let hook: Arc<dyn Hook> = crash.clone();
        world.round_with(hook);
        world.stop_follower();
        let name = scenario.name;
        let mut left = vec![(
            format!("{name}: killed at {point}"),
            Tree::read(&pair.b.root),
        )];
        for loss in [Loss::Everything, Loss::BytesOnly] {
            let after = pair.aside("after");
            std::fs::create_dir(&after).unwrap();
            crash.recorder().lose_power(&after, loss).unwrap();
            let what = format!("{name}: power lost at {point}, {loss:?}");
            left.push((what, Tree::read(&after)));
            std::fs::remove_dir_all(after).unwrap();
        }
        let said = world.ack().and_then(|ack| ack.applied);
        for (what, left) in left {
            left.replace(&pair.b.root);
            assert_in_order(&what, (&old, &new), &standing(&pair.b.root));
            world.seen.forget(said);
            world.check();
            world.round(Fate::Lives);
            world.round(Fate::Lives);
            world.check();
            world.stop_follower();
            let now = standing(&pair.b.root);
            assert_eq!(names(&now), names(&new), "{what}: a restart finishes");
            for (path, bytes) in &new {
                let same = now.get(path) == Some(bytes);
                assert!(same, "{what}: a restart ends with the same {path}");
            }
        }
    }
    counter.count()
}

fn points(setup: Setup) -> usize {
    let each = SCENARIOS
        .iter()
        .map(|scenario| stop_everywhere(scenario, setup));
    each.sum()
}

#[test]
fn a_passive_that_follows_can_be_stopped_at_any_operation() {
    let short = points(Setup {
        has_block: true,
        has_long_crl: false,
    });
    assert!(short >= 400, "{short} points");
}

#[test]
fn so_can_one_that_mirrors_a_source_with_a_long_crl() {
    let long = points(Setup {
        has_block: false,
        has_long_crl: true,
    });
    assert!(long >= 400, "{long} points");
}
