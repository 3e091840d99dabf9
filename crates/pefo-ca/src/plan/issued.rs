//! What was issued, by number: the counter and the inventory.
//!
//! The counter covers everything either side ever issued, before any of it lands here. The inventory
//! only grows.

use std::sync::Arc;

use super::crl::Expiry;
use super::{Action, Draft, Rule, SerialMode, find};
use crate::cert::Cert;
use crate::inventory::{Inventory, Row};
use crate::serial::{MAX_COUNTER, Serial};
use crate::snapshot::{Part, Snapshot};

/// Until when each serial is valid; where sides differ, the longer.
pub(super) fn expiry(local: &Snapshot, source: &Snapshot) -> Expiry {
    let mut expiry = Expiry::new();
    let mut learn = |serial, until| {
        let known = expiry.entry(serial).or_insert(until);
        *known = (*known).max(until);
    };
    for side in [local, source] {
        for row in side.inventory().map(Inventory::rows).unwrap_or_default() {
            learn(row.serial, row.not_after);
        }
        for (_, cert) in side.signed() {
            learn(cert.serial, cert.not_after);
        }
    }
    expiry
}

/// Sets the counter where it must move.
pub(crate) fn serial(draft: &mut Draft<'_>, local: &Snapshot, source: &Snapshot) {
    let here = local.serial();
    let counters = [local, source]
        .into_iter()
        .flat_map(Snapshot::issued)
        .filter_map(Serial::counter);
    let next = match draft.rules.serial {
        SerialMode::Mirror => {
            let highest = counters.max().unwrap_or(0);
            // Wider than the counter: nothing that puppetserver could ever have written.
            let known = [here, source.serial()]
                .into_iter()
                .flatten()
                .filter_map(Serial::counter);
            known.max().unwrap_or(0).max(highest.saturating_add(1))
        }
        SerialMode::Block(block) => {
            if source.serial().is_some_and(|serial| block.contains(serial)) {
                let at = source
                    .serial()
                    .map(|serial| serial.to_string())
                    .unwrap_or_default();
                draft.refuse(
                    Rule::SerialBlock,
                    "serial",
                    format!("the source's counter, {at}, stands in this host's own block, {block}"),
                );
            }
            let highest = counters
                .filter(|value| block.contains(Serial::from(*value)))
                .max();
            let counted = here
                .filter(|serial| block.contains(*serial))
                .and_then(Serial::counter);
            let next = counted
                .unwrap_or(block.first())
                .max(highest.map_or(block.first(), |value| value.saturating_add(1)));
            // One past the block's end: all of it is issued.
            if next > block.last() || here.and_then(Serial::counter) == block.last().checked_add(1)
            {
                draft.refuse(
                    Rule::SerialExhausted,
                    "serial",
                    format!("every serial of this host's block, {block}, is issued"),
                );
                return;
            }
            next
        }
    };
    if next > MAX_COUNTER {
        draft.refuse(
            Rule::SerialExhausted,
            "serial",
            format!("the next serial would be 0x{next:X}"),
        );
        return;
    }
    if here != Some(Serial::from(next)) {
        if !matches!(local.serial, Part::Read(_)) {
            draft.note(format!(
                "serial {} here and is written anew",
                local.serial.reason()
            ));
        }
        let expects = find(&local.files, "serial").map(|(_, file)| Arc::clone(&file.bytes));
        draft.actions.push(Action::Serial {
            from: here,
            to: next,
            expects,
        });
    }
}

/// Adds the source's rows that are not here yet.
pub(crate) fn inventory(draft: &mut Draft<'_>, local: &Snapshot, source: &Snapshot) {
    let empty = Inventory::default();
    let here = local.inventory().unwrap_or(&empty);
    let Some(there) = source.inventory() else {
        return;
    };
    for error in there.malformed() {
        draft.refuse(Rule::InventoryMalformed, "inventory.txt", error.to_string());
    }
    if !there.tail().is_empty() {
        draft.note("inventory.txt: the source's last line is torn and was left out");
    }
    let mut rows: Vec<String> = Vec::new();
    // A tail that lacks nothing but its newline, as the certificate beside it proves, is kept.
    if let Ok(row) = Row::parse(here.tail())
        && local
            .signed()
            .any(|(name, cert)| row.common_name() == Some(name.as_str()) && describes(&row, cert))
    {
        rows.push(row.text().to_owned());
    }
    let restored = rows.first().and_then(|text| Row::parse(text).ok());
    for row in there.rows() {
        let mut known = here
            .of_serial(row.serial)
            .chain(
                restored
                    .iter()
                    .filter(|restored| restored.serial == row.serial),
            )
            .peekable();
        if known.peek().is_none() {
            rows.push(row.text().to_owned());
        } else if !known.any(|known| known.agrees_with(row)) {
            let message = format!(
                "{} is {} here and {} at the source",
                row.serial,
                subject_here(here, row.serial),
                row.subject
            );
            draft.refuse(Rule::InventoryCollision, "inventory.txt", message);
        }
    }
    let length = local.inventory().map(Inventory::file_bytes);
    if rows.is_empty() && here.tail().is_empty() && length.is_some() {
        return;
    }
    draft.actions.push(Action::Inventory {
        expects_bytes: length,
        keeps_bytes: here.whole_bytes(),
        rows,
    });
}

/// Whose a serial is, by the inventory.
pub(super) fn subject_here(inventory: &Inventory, serial: Serial) -> String {
    inventory.of_serial(serial).next().map_or_else(
        || "another certificate".to_owned(),
        |row| row.subject.clone(),
    )
}

fn describes(row: &Row, cert: &Cert) -> bool {
    (row.serial, row.not_before, row.not_after) == (cert.serial, cert.not_before, cert.not_after)
}
