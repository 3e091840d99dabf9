//! What a batch asks of a standby is what comparing both CAs as wholes would.

use std::collections::BTreeSet;

use pefo_ca::plan::Action;
use pefo_ca::snapshot::Outline;
use pefo_ca::source::Change;
use pefo_ca::standby::Stamps;
use pefo_ca::watch::Hint;
use pefo_ca::{SerialBlock, SourceIndex, Standby};
use pefo_testkit::ca::Keys;
use proptest::prelude::*;

use super::model::{self, Act};
use super::*;

/// What else may happen to a source: what no honest one does, and a backup put back.
#[derive(Debug, Clone)]
enum Move {
    Act(Act),
    Reissue(u8, u8),
    RevokeSerial(u8),
    Drop(u8),
    Keep,
    PutBack,
    Follow,
    Whole,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => model::acts().prop_map(|acts| Move::Act(acts.into_iter().next().unwrap())),
        1 => (0_u8..5, 0_u8..9).prop_map(|(node, serial)| Move::Reissue(node, serial)),
        1 => (0_u8..12).prop_map(Move::RevokeSerial),
        1 => (0_u8..12).prop_map(Move::Drop),
        1 => Just(Move::Keep),
        1 => Just(Move::PutBack),
        8 => Just(Move::Follow),
        1 => Just(Move::Whole),
    ];
    prop::collection::vec(one, 1..40)
}

struct World {
    pair: Pair,
    kept: PathBuf,
    source: SourceIndex,
    standby: Standby,
    rules: PlanRules,
    /// What was refused when the wholes were compared last, or since.
    refused: bool,
}

impl World {
    fn new(rules: PlanRules) -> Self {
        let pair = Pair::with(options().keys(Keys::Ecdsa));
        let kept = pair.root.path().join("kept");
        copy_tree(pair.a.dir(), &kept).unwrap();
        let source = SourceIndex::read(
            &CaLayout::at(pair.a.dir()).unwrap(),
            &SnapshotOptions::default(),
            &clock(),
        )
        .unwrap();
        let (standby, _) = whole(&pair, &rules);
        Self {
            pair,
            kept,
            source,
            standby,
            rules,
            refused: false,
        }
    }

    fn changes(&mut self) -> Vec<Change> {
        let observed = self.source.look(&[Hint::Rescan], &clock()).unwrap();
        assert_eq!(observed.unsettled, []);
        observed.changes
    }

    fn follow(&mut self) {
        if !self.standby.is_current() {
            return self.whole();
        }
        let changes = self.changes();
        let Some(event) = self.standby.plan(&changes, &self.rules).unwrap() else {
            return self.compare_wholes();
        };
        let whole = self.pair.plan_with(&self.rules);
        if self.refused {
            let all: BTreeSet<String> = shown(&whole).into_iter().collect();
            for action in shown(&event.plan) {
                assert!(all.contains(&action), "{action} of\n{whole}");
            }
        } else {
            let told: Vec<_> = changes.iter().map(ToString::to_string).collect();
            assert_eq!(shown(&event.plan), shown(&whole), "{told:?}");
            assert_eq!(event.plan.conflicts, whole.conflicts);
        }
        self.refused |= !event.plan.conflicts.is_empty();
        self.pair.apply(&event.plan);
        self.standby.follow(&changes, event).unwrap();
        assert!(self.standby.is_current());
    }

    fn whole(&mut self) {
        self.changes();
        self.compare_wholes();
    }

    fn compare_wholes(&mut self) {
        let (standby, refused) = whole(&self.pair, &self.rules);
        (self.standby, self.refused) = (standby, refused);
    }
}

fn whole(pair: &Pair, rules: &PlanRules) -> (Standby, bool) {
    let layout = CaLayout::at(&pair.b).unwrap();
    let plan = pair.plan_with(rules);
    pair.apply(&plan);
    let stamps = Stamps::of(&layout);
    let options = SnapshotOptions::default();
    let local = Outline::read(&layout, &options, &clock()).unwrap();
    let source = Outline::read_dir_after(pair.a.dir(), &options, &[]).unwrap();
    let standby = Standby::of(&layout, stamps, local, source).unwrap();
    (standby.unwrap(), !plan.conflicts.is_empty())
}

/// Every action, with the bytes it puts and expects.
fn shown(plan: &Plan) -> Vec<String> {
    let text = |bytes: &[u8]| pefo_core::Digest::of(bytes).to_string();
    let show = |action: &Action| match action {
        Action::Put {
            bytes,
            mode,
            expects,
            ..
        } => {
            let expects = expects.as_deref().map(text);
            format!("{action} {} {mode:o} {expects:?}", text(bytes))
        }
        Action::Remove { expects, .. } => format!("{action} {}", text(expects)),
        Action::Inventory {
            expects_bytes,
            keeps_bytes,
            rows,
        } => {
            format!("{action} {expects_bytes:?} {keeps_bytes} {rows:?}")
        }
        Action::Serial { expects, .. } => format!("{action} {:?}", expects.as_deref().map(text)),
        other => format!("{other}"),
    };
    plan.actions.iter().map(show).collect()
}

fn perform(world: &mut World, step: &Move, hour: i64) {
    match step {
        Move::Act(Act::Follow) | Move::Follow => world.follow(),
        Move::Act(act) => model::perform(&mut world.pair, act, hour),
        Move::Reissue(node, serial) => {
            let name = format!("n{node}.test");
            world
                .pair
                .a
                .sign_with_serial(&name, u64::from(*serial))
                .unwrap();
        }
        Move::RevokeSerial(serial) => world.pair.a.revoke_serial(u64::from(*serial)).unwrap(),
        Move::Drop(serial) => world.pair.a.resign_crl(&[u64::from(*serial)]).unwrap(),
        Move::Keep => {
            std::fs::remove_dir_all(&world.kept).unwrap();
            copy_tree(world.pair.a.dir(), &world.kept).unwrap();
        }
        Move::PutBack => {
            for sub in ["signed", "requests"] {
                std::fs::remove_dir_all(world.pair.a.dir().join(sub)).unwrap();
            }
            copy_tree(&world.kept, world.pair.a.dir()).unwrap();
        }
        Move::Whole => world.whole(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_asks_for_what_comparing_the_wholes_would(moves in moves(), has_block in any::<bool>()) {
        let block = SerialBlock::above(0x100).unwrap();
        let rules = if has_block { rules().block(block) } else { rules() };
        let mut world = World::new(rules);
        for (hour, step) in moves.iter().enumerate() {
            perform(&mut world, step, i64::try_from(hour).unwrap());
        }
        world.follow();
        if !world.refused {
            let plan = world.pair.plan_with(&world.rules);
            prop_assert!(plan.is_empty(), "{plan}");
        }
    }
}

fn in_step(nodes: &[&str]) -> World {
    let mut world = World::new(rules());
    for node in nodes {
        world.pair.a.sign(node).unwrap();
    }
    world.follow();
    world
}

impl World {
    fn remove_at_source(&self, node: &str) {
        std::fs::remove_file(self.pair.a.dir().join(format!("signed/{node}.pem"))).unwrap();
    }

    fn stands(&self, node: &str) -> bool {
        self.pair.b.join(format!("signed/{node}.pem")).exists()
    }
}

#[test]
fn a_certificate_that_was_deleted_first_goes_when_it_is_revoked() {
    let mut world = in_step(&["early.test"]);
    world.remove_at_source("early.test");
    world.follow();
    assert!(world.stands("early.test"), "neither revoked nor expired");
    world.pair.a.revoke_serial(3).unwrap();
    world.follow();
    assert!(!world.stands("early.test"));
}

#[test]
fn a_certificate_whose_successor_was_revoked_goes_when_its_row_comes() {
    let mut world = in_step(&["renewed.test"]);
    world.remove_at_source("renewed.test");
    world.pair.a.revoke_serial(4).unwrap();
    world.follow();
    assert!(world.stands("renewed.test"), "serial 4 is nobody's yet");
    world.pair.a.set_now(now() + time::Duration::hours(1));
    world.pair.a.sign("renewed.test").unwrap();
    world.remove_at_source("renewed.test");
    world.follow();
    assert!(!world.stands("renewed.test"));
}

#[test]
fn a_revocation_of_what_has_expired_may_be_dropped_by_a_batch() {
    let mut world = in_step(&[]);
    world.pair.a.set_now(now() - time::Duration::days(6 * 365));
    world.pair.a.sign("expired.test").unwrap();
    world.pair.a.set_now(now());
    world.pair.a.clean("expired.test").unwrap();
    world.pair.a.sign("valid.test").unwrap();
    world.pair.a.clean("valid.test").unwrap();
    world.follow();
    world.pair.a.resign_crl(&[3]).unwrap();
    world.follow();
    assert!(!world.refused);
    world.pair.a.resign_crl(&[4]).unwrap();
    let changes = world.changes();
    let event = world.standby.plan(&changes, &world.rules).unwrap().unwrap();
    assert_eq!(refusals(&event.plan), ["crl-shrink"]);
}

#[test]
fn a_counter_that_has_no_room_left_is_seen_though_the_batch_does_not_touch_it() {
    let mut world = in_step(&[]);
    let row = "0x7FFFFFFF 2026-11-21T12:24:23UTC 2031-11-21T12:24:23UTC /CN=last.test\n";
    for dir in [world.pair.a.dir(), &world.pair.b] {
        let path = dir.join("inventory.txt");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text + row).unwrap();
    }
    world.whole();
    assert!(world.refused);
    std::fs::remove_file(world.pair.a.dir().join("serial")).unwrap();
    std::fs::write(world.pair.a.dir().join("serial"), "0003").unwrap();
    world.pair.a.sign("one-more.test").unwrap();
    let changes = world.changes();
    let event = world.standby.plan(&changes, &world.rules).unwrap().unwrap();
    assert_eq!(refusals(&event.plan), ["serial-exhausted"]);
    assert!(event.plan.is_empty());
}

#[test]
fn a_certificate_that_is_revoked_and_not_deleted_stays_whatever_the_names_are() {
    // In another order than their files: '-' sorts before the '.' of '.pem'.
    let names = ["node", "node-a", "node-a-b", "node.a", "node0"];
    let mut world = in_step(&names);
    world.whole();
    for serial in 3..8 {
        world.pair.a.revoke_serial(serial).unwrap();
    }
    world.follow();
    assert!(names.iter().all(|name| world.stands(name)));
}

#[test]
fn what_somebody_else_changed_in_the_live_ca_is_seen() {
    for path in [
        "signed/foreign.test.pem",
        "inventory.txt",
        "serial",
        "ca_crl.pem",
        "ca_key.pem",
    ] {
        let world = in_step(&["node2.test"]);
        assert!(world.standby.is_current());
        let path = world.pair.b.join(path);
        let before = std::fs::read(&path).unwrap_or_default();
        std::fs::write(&path, [&before[..], b"\n"].concat()).unwrap();
        assert!(!world.standby.is_current(), "{}", path.display());
    }
}

#[test]
fn another_inventory_is_more_than_an_event() {
    let mut world = in_step(&["node2.test"]);
    let path = world.pair.a.dir().join("inventory.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("node2.test", "other.test")).unwrap();
    let changes = world.changes();
    assert!(
        world
            .standby
            .plan(&changes, &world.rules)
            .unwrap()
            .is_none()
    );
}

#[test]
fn what_a_source_that_was_put_back_does_not_know_is_no_reason_to_go() {
    let mut world = in_step(&["renewed.test"]);
    perform(&mut world, &Move::Keep, 0);
    world.pair.a.set_now(now() + time::Duration::hours(1));
    world.pair.a.renew("renewed.test").unwrap();
    world.remove_at_source("renewed.test");
    world.pair.a.revoke_serial(4).unwrap();
    std::fs::remove_file(world.kept.join("signed/renewed.test.pem")).unwrap();
    let standing = world.pair.b.join("signed/renewed.test.pem");
    let before = std::fs::read(&standing).unwrap();
    // Followed, it would go: its successor is revoked. The source of before knows of neither.
    let mut plan = world.pair.plan_with(&world.rules);
    assert!(
        plan.to_string().contains("was followed by 0x0004"),
        "{plan}"
    );
    plan.actions
        .retain(|action| !matches!(action, Action::Remove { .. }));
    world.pair.apply(&plan);
    perform(&mut world, &Move::PutBack, 1);
    world.whole();
    assert!(world.refused);
    world.follow();
    assert_eq!(std::fs::read(&standing).unwrap(), before);
}
