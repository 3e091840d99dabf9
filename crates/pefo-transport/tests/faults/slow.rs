//! 1 MiB a second, 100 ms each way: what a sync costs is what has changed and a fixed number of
//! turns, however many files that are.

use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::clock::SystemClock;
use pefo_core::progress::Silent;
use pefo_transport::{Synced, TreeConnection, TreeOptions, TreeSource};

use crate::mirror::{Mirror, write_in};
use crate::world::{World, need, noise};

const FILES: u64 = 300;

/// What one sync has cost.
#[derive(Debug)]
struct Cost {
    turns: u64,
    sent: u64,
    received: u64,
}

fn sync(world: &World, session: &mut TreeConnection, source: &mut TreeSource) -> (Synced, Cost) {
    let scan = source.scan(&SystemClock, &Cancel::new()).unwrap();
    let (turns, traffic) = (world.line.turns(), session.traffic());
    let synced = session.sync(source, scan, &Silent).unwrap();
    let now = session.traffic();
    let cost = Cost {
        turns: world.line.turns() - turns,
        sent: now.sent - traffic.sent,
        received: now.received - traffic.received,
    };
    (synced, cost)
}

#[test]
fn on_a_slow_line_a_sync_costs_what_has_changed_and_a_fixed_number_of_turns() {
    let mirror = need!(Mirror::new());
    let source = mirror.source("source");
    let mut long = noise(1, 4 << 20);
    write_in(&source, "long", &long);
    let file = |number: u64| format!("dir{}/file{number}", number % 7);
    for number in 0..FILES {
        write_in(&source, &file(number), &noise(number, 40));
    }
    mirror.run(&source).goes_through();

    let world = &mirror.world;
    world.line.set_rate(Some(1 << 20));
    world.line.set_latency(Duration::from_millis(100));
    let mut tree = TreeSource::new(&source);
    let mut session = TreeConnection::open(&world.target(), TreeOptions::new("test")).unwrap();

    let (synced, cost) = sync(world, &mut session, &mut tree);
    assert!(synced.unchanged);
    assert!(cost.sent < 16_000 && cost.received < 100, "{cost:?}");
    assert_eq!(cost.turns, 2, "a question and its answer: {cost:?}");

    write_in(&source, &file(0), &noise(1000, 41));
    let (synced, one) = sync(world, &mut session, &mut tree);
    assert_eq!(synced.committed.written, 1);
    // Summary, differs; entries, need; files and commit, committed.
    assert!(one.turns <= 8, "{one:?}");

    for number in 0..FILES {
        write_in(&source, &file(number), &noise(2000 + number, 42));
    }
    long[2 << 20] ^= 1;
    write_in(&source, "long", &long);
    let (synced, many) = sync(world, &mut session, &mut tree);
    assert_eq!(synced.committed.written, FILES + 1);
    assert!(synced.saved_bytes > 4_000_000, "{synced:?}");
    // Entries and files of a few bytes each, and a delta; its signature comes back.
    assert!(many.sent < 200_000 && many.received < 200_000, "{many:?}");
    // ssh's own windows may turn the line a few times more.
    assert!(
        many.turns <= one.turns + 6,
        "{many:?} where one took {one:?}"
    );

    let (synced, cost) = sync(world, &mut session, &mut tree);
    assert!(synced.unchanged);
    assert_eq!(cost.turns, 2, "{cost:?}");
    session.close().unwrap();
    mirror.is_as(&source);
}
