//! What may happen, and the histories that are made of it.

use std::fmt;

use pefo_testkit::ca::Step;
use proptest::prelude::*;

/// An act of the active's server.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Sign(u8),
    SignHalf(u8, Step),
    SignTorn(u8, u8),
    SignExcluded,
    SignExpired(u8),
    Revoke(u8),
    RevokeExpired(u8),
    Clean(u8),
    Renew(u8),
    Request(u8),
    /// A request that only the passive's server answers.
    RequestElsewhere(u8),
    Resign,
    Prune,
}

/// What becomes of the next parcel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    Arrives,
    /// The sender believes that it did.
    GetsLost,
    IsLate,
    Breaks,
}

/// What becomes of who runs on the passive.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Lives,
    KilledAt(u8),
    /// Only the process that compares whole CAs.
    ChildKilledAt(u8),
    PowerLostAt(u8, u8),
}

#[derive(Debug, Clone)]
pub(crate) enum Move {
    Act(Act),
    /// All goes its way: what there is is looked at, sent and applied.
    Flow,
    Look,
    /// inotify's queue ran over.
    Overflow,
    LoseHints,
    RestartFeed,
    KillFeedAt(u8),
    Send(Way),
    /// The sender asks what became of it.
    Beat,
    LateOneArrives,
    ArrivesAgain(u8),
    SpoolIsEmptied,
    Round(Fate),
    /// By cron, in the place of the watch.
    Apply(Fate),
    RestartFollower,
    SignHere(u8),
    AnswerHere(u8),
    TearHere,
    /// By so many hours the clock is wrong.
    SetActiveClock(i64),
    SetPassiveClock(i64),
    PutAside,
    PutCaBack,
    PutHostBack,
    UndoPutBack,
}

/// What happens, one after the other.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) writes_in_place: bool,
    pub(crate) atomic_inventory: bool,
    pub(crate) moves: Vec<Move>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match (self.writes_in_place, self.atomic_inventory) {
            (true, true) => "writes in place, but for the inventory",
            (true, false) => "writes in place",
            (false, true) => "replaces every file",
            (false, false) => "replaces files, but for the inventory",
        };
        writeln!(f, "a server that {how}, and then")?;
        for (nth, next) in self.moves.iter().enumerate() {
            writeln!(f, "  {:2}. {next:?}", nth + 1)?;
        }
        Ok(())
    }
}

fn act() -> impl Strategy<Value = Act> {
    let node = 0_u8..3;
    let step = prop::sample::select(vec![
        Step::Request,
        Step::Serial,
        Step::Inventory,
        Step::Signed,
    ]);
    prop_oneof![
        4 => node.clone().prop_map(Act::Sign),
        1 => (node.clone(), step).prop_map(|(node, step)| Act::SignHalf(node, step)),
        1 => (node.clone(), any::<u8>()).prop_map(|(node, part)| Act::SignTorn(node, part)),
        1 => Just(Act::SignExcluded),
        1 => (0_u8..2).prop_map(Act::SignExpired),
        3 => node.clone().prop_map(Act::Revoke),
        1 => (0_u8..2).prop_map(Act::RevokeExpired),
        2 => node.clone().prop_map(Act::Clean),
        1 => node.clone().prop_map(Act::Renew),
        1 => node.prop_map(Act::Request),
        1 => (0_u8..2).prop_map(Act::RequestElsewhere),
        1 => Just(Act::Resign),
        1 => Just(Act::Prune),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Lives),
        2 => (0_u8..120).prop_map(Fate::KilledAt),
        1 => (0_u8..120).prop_map(Fate::ChildKilledAt),
        2 => (0_u8..120, any::<u8>()).prop_map(|(at, loss)| Fate::PowerLostAt(at, loss)),
    ]
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        5 => Just(Way::Arrives),
        1 => Just(Way::GetsLost),
        1 => Just(Way::IsLate),
        1 => Just(Way::Breaks),
    ]
}

fn wrong() -> impl Strategy<Value = i64> {
    prop::sample::select(vec![0, 0, 1, -1, 72, -72, 17_520, -17_520])
}

fn next() -> impl Strategy<Value = Move> {
    prop_oneof![
        18 => act().prop_map(Move::Act),
        6 => Just(Move::Flow),
        4 => Just(Move::Look),
        1 => Just(Move::Overflow),
        1 => Just(Move::LoseHints),
        2 => Just(Move::RestartFeed),
        1 => (0_u8..8).prop_map(Move::KillFeedAt),
        6 => way().prop_map(Move::Send),
        1 => Just(Move::Beat),
        1 => Just(Move::LateOneArrives),
        1 => any::<u8>().prop_map(Move::ArrivesAgain),
        1 => Just(Move::SpoolIsEmptied),
        7 => fate().prop_map(Move::Round),
        2 => fate().prop_map(Move::Apply),
        1 => Just(Move::RestartFollower),
        1 => (0_u8..2).prop_map(Move::SignHere),
        1 => (0_u8..2).prop_map(Move::AnswerHere),
        1 => Just(Move::TearHere),
        1 => wrong().prop_map(Move::SetActiveClock),
        1 => wrong().prop_map(Move::SetPassiveClock),
    ]
}

/// Among a history of an honest source a backup is put back.
fn rolled_back() -> impl Strategy<Value = Vec<Move>> {
    let moves = |most| prop::collection::vec(next(), 0..most);
    let back = prop_oneof![Just(Move::PutCaBack), Just(Move::PutHostBack)];
    let undo = prop_oneof![Just(None), Just(Some(Move::UndoPutBack))];
    (moves(4), moves(5), back, moves(4), undo, moves(3)).prop_map(
        |(first, then, back, after, undo, last)| {
            let mut all = first;
            all.push(Move::PutAside);
            all.extend(then);
            all.push(back);
            all.extend(after);
            all.extend(undo);
            all.extend(last);
            all
        },
    )
}

/// Histories of the active's server that is honest, or, one in five, of one that was rolled back.
pub(crate) fn histories() -> impl Strategy<Value = History> {
    let moves = prop_oneof![
        4 => prop::collection::vec(next(), 1..14),
        1 => rolled_back(),
    ];
    (any::<bool>(), any::<bool>(), moves).prop_map(|(writes_in_place, atomic_inventory, moves)| {
        History {
            writes_in_place,
            atomic_inventory,
            moves,
        }
    })
}
