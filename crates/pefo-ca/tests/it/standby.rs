//! What a batch asks of a standby is what comparing both CAs as wholes would.

use std::collections::BTreeSet;

use pefo_ca::plan::Action;
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
    let stamps = Stamps::of(&layout);
    let local = Snapshot::read(&layout, &SnapshotOptions::default(), &clock()).unwrap();
    let source = snap(pair.a.dir());
    let plan = plan(&local, &source, rules);
    pair.apply(&plan);
    let standby = Standby::after(&layout, stamps, (&local, &source), &plan).unwrap();
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
