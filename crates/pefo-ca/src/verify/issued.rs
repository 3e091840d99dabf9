//! What was issued, by number: the counter and the inventory.

use std::collections::BTreeMap;

use pefo_core::clock::Timestamp;

use super::{Draft, Finding, Held, Item, bytes};
use crate::inventory::{Inventory, Row};
use crate::plan::SerialMode;
use crate::serial::Serial;
use crate::snapshot::{Part, Snapshot};

const INVENTORY: &str = "inventory.txt";

/// Until when each serial is valid; where the sides differ, the longer.
pub(super) fn expiry(local: &Snapshot, source: &Snapshot) -> BTreeMap<Serial, Timestamp> {
    let mut expiry = BTreeMap::new();
    for side in [local, source] {
        let rows = side.inventory().map(Inventory::rows).unwrap_or_default();
        let rows = rows.iter().map(|row| (row.serial, row.not_after));
        let certs = side.signed().map(|(_, cert)| (cert.serial, cert.not_after));
        for (serial, until) in rows.chain(certs) {
            let known = expiry.entry(serial).or_insert(until);
            *known = until.max(*known);
        }
    }
    expiry
}

/// Every serial that a side has issued or revoked, as far as a counter could ever reach it.
pub(super) fn counted(side: &Snapshot) -> impl Iterator<Item = u32> + '_ {
    let rows = side.inventory().into_iter().flat_map(Inventory::serials);
    let certs = side.signed().map(|(_, cert)| cert.serial);
    let ours = side.chain().map(crate::cert::CaChain::signing);
    let lists = [side.ca_crl(), side.infra_crl()].into_iter().flatten();
    let lists = lists.filter_map(move |bundle| bundle.find(ours?));
    let revoked = lists.flat_map(|crl| crl.revoked.keys().copied());
    rows.chain(certs).chain(revoked).filter_map(Serial::counter)
}

/// The next serial.
pub(super) fn counter(draft: &mut Draft<'_>) {
    let (here, there) = (&draft.local.serial, &draft.source.serial);
    let held = |part| Held::part(Some(part), |next: &Serial| Held::Counter { next: *next });
    let finding = match (here, there) {
        (Part::Absent, _) => Some(Finding::Missing),
        (_, Part::Absent) => Some(Finding::SourceLacks),
        (Part::Unreadable(_), _) | (_, Part::Unreadable(_)) => Some(Finding::Unreadable),
        (Part::Read(here), Part::Read(there)) => judge(draft, *here, *there),
    };
    match finding {
        None => draft.same.files += 1,
        Some(finding) => draft.note(Item::Counter, finding, held(here), held(there)),
    }
}

fn judge(draft: &Draft<'_>, here: Serial, there: Serial) -> Option<Finding> {
    let issued = [draft.local, draft.source].into_iter().flat_map(counted);
    // Wider than puppetserver can read: it would sign nothing.
    let Some(next) = here.counter() else {
        return Some(Finding::Behind);
    };
    if let SerialMode::Block(block) = draft.rules.serial {
        let highest = issued
            .filter(|serial| block.contains(Serial::from(*serial)))
            .max();
        // One past its end: all of it is issued.
        let is_used_up = Some(next) == block.last().checked_add(1);
        return Some(if !block.contains(here) && !is_used_up {
            Finding::OutsideBlock
        } else if block.contains(there) {
            Finding::BlockShared
        } else if highest.is_some_and(|highest| next <= highest) {
            Finding::Behind
        } else {
            Finding::OwnBlock
        });
    }
    let source = there.counter().unwrap_or(0);
    if next < source || issued.max().is_some_and(|highest| next <= highest) {
        Some(Finding::Behind)
    } else if here != there {
        Some(Finding::Ahead)
    } else if bytes(draft.local, "serial") != bytes(draft.source, "serial") {
        Some(Finding::Rewritten)
    } else {
        None
    }
}

/// The inventory, serial by serial: the order of its rows says nothing.
pub(super) fn rows(draft: &mut Draft<'_>) {
    let item = || Item::File { name: INVENTORY };
    let (local, source) = (draft.local, draft.source);
    let held = |side: &Snapshot| {
        let file = Held::bytes(bytes(side, INVENTORY));
        Held::part(Some(&side.inventory), |_| file)
    };
    let (here, there) = match (&local.inventory, &source.inventory) {
        (Part::Read(here), Part::Read(there)) => (here, there),
        (here, there) => {
            let finding = match (here, there) {
                (_, Part::Absent) => Finding::SourceLacks,
                (Part::Absent, Part::Read(_)) => Finding::Missing,
                _ => Finding::Unreadable,
            };
            return draft.note(item(), finding, held(local), held(source));
        }
    };
    let before = draft.found.len();
    for (tail, finding) in [
        (here.tail(), Finding::Torn),
        (there.tail(), Finding::TornAtSource),
    ] {
        if !tail.is_empty() {
            draft.note(item(), finding, held(local), held(source));
        }
    }
    if bytes(local, INVENTORY) == bytes(source, INVENTORY) {
        draft.same.rows += here.serials().count();
        return;
    }
    malformed(draft, here, there);
    let serials: std::collections::BTreeSet<_> = here.serials().chain(there.serials()).collect();
    for serial in serials {
        row(draft, serial, here, there);
    }
    if draft.found.len() == before {
        draft.note(item(), Finding::Rewritten, held(local), held(source));
    }
}

fn row(draft: &mut Draft<'_>, serial: Serial, here: &Inventory, there: &Inventory) {
    let agrees = |row: &Row, others: &Inventory| {
        let mut others = others.of_serial(serial);
        others.any(|other| other.agrees_with(row))
    };
    let is_here = here.of_serial(serial).next().is_some();
    let finding = if there.of_serial(serial).next().is_none() {
        if draft.is_own(serial) {
            Finding::OwnBlock
        } else {
            Finding::Kept
        }
    } else if !is_here {
        Finding::Missing
    } else if here.of_serial(serial).all(|row| agrees(row, there))
        && there.of_serial(serial).all(|row| agrees(row, here))
    {
        return draft.same.rows += 1;
    } else {
        Finding::Collision
    };
    let held = |inventory: &Inventory| {
        let rows = inventory.of_serial(serial);
        let lines: Vec<_> = rows.map(|row| row.text().to_owned()).collect();
        if lines.is_empty() {
            Held::Nothing
        } else {
            Held::Rows { lines }
        }
    };
    draft.note(Item::Row { serial }, finding, held(here), held(there));
}

/// Lines that are no row: the same ones on both sides are the same inventory.
fn malformed(draft: &mut Draft<'_>, here: &Inventory, there: &Inventory) {
    let messages = |inventory: &Inventory| {
        let mut messages: Vec<_> = inventory
            .malformed()
            .iter()
            .map(|error| error.message.clone())
            .collect();
        messages.sort_unstable();
        messages
    };
    if messages(here) == messages(there) {
        return;
    }
    let held = |inventory: &Inventory| {
        let first = inventory.malformed().first().cloned();
        first.map_or(Held::Nothing, |error| Held::Unreadable { error })
    };
    let item = Item::File { name: INVENTORY };
    draft.note(item, Finding::Unreadable, held(here), held(there));
}
