//! Certificates and inventory rows by what rules ask for, so that a plan of 50,000 names takes one pass.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

use pefo_core::Certname;

use crate::cert::Cert;
use crate::inventory::{Inventory, Row};
use crate::serial::Serial;

/// The certificates of signed/ by serial. One serial should have one holder; one that was issued twice has
/// several.
#[derive(Debug, Clone, Default)]
pub struct CertIndex<'s> {
    by_serial: BTreeMap<Serial, Vec<&'s Certname>>,
}

impl<'s> CertIndex<'s> {
    /// Indexes the certificates of signed/, by the names of their files.
    pub fn of(signed: impl IntoIterator<Item = (&'s Certname, &'s Cert)>) -> Self {
        let mut by_serial: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, cert) in signed {
            by_serial.entry(cert.serial).or_default().push(name);
        }
        Self { by_serial }
    }

    /// All that have a serial.
    pub fn holders(&self, serial: Serial) -> impl Iterator<Item = &'s Certname> + '_ {
        self.by_serial.get(&serial).into_iter().flatten().copied()
    }

    /// Somebody else than `name` who has a serial.
    pub fn other_than(&self, name: &Certname, serial: Serial) -> Option<&'s Certname> {
        self.holders(serial).find(|holder| *holder != name)
    }
}

/// The newest inventory row of each name, sorted out when it is first asked for.
#[derive(Debug)]
pub struct NewestRows<'s> {
    inventory: Option<&'s Inventory>,
    by_name: OnceCell<HashMap<&'s str, &'s Row>>,
}

impl<'s> NewestRows<'s> {
    /// Those of an inventory; none where there is none.
    pub const fn of(inventory: Option<&'s Inventory>) -> Self {
        Self {
            inventory,
            by_name: OnceCell::new(),
        }
    }

    /// The newest row of a name: the latest begun, and of those the highest serial.
    pub fn of_name(&self, name: &Certname) -> Option<&'s Row> {
        let by_name = self.by_name.get_or_init(|| {
            let mut newest: HashMap<&str, &Row> = HashMap::new();
            for row in self.inventory.map(Inventory::rows).unwrap_or_default() {
                let Some(name) = row.common_name() else {
                    continue;
                };
                let known = newest.entry(name).or_insert(row);
                if (known.not_before, known.serial) <= (row.not_before, row.serial) {
                    *known = row;
                }
            }
            newest
        });
        by_name.get(name.as_str()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_newest_row_is_the_one_that_a_search_of_all_finds(rows in prop::collection::vec((0_u32..20, 0_u8..4, 0_i64..3), 0..30)) {
            let text: String = rows
                .iter()
                .map(|(serial, name, day)| format!("0x{serial:04X} 2026-11-2{day}T12:24:23UTC 2031-11-21T12:24:23UTC /CN=n{name}.test\n"))
                .collect();
            let inventory = Inventory::parse(text.as_bytes());
            let newest = NewestRows::of(Some(&inventory));
            for name in 0..5 {
                let name: Certname = format!("n{name}.test").parse().unwrap();
                let searched = inventory
                    .rows()
                    .iter()
                    .filter(|row| row.common_name() == Some(name.as_str()))
                    .max_by_key(|row| (row.not_before, row.serial));
                prop_assert_eq!(newest.of_name(&name), searched);
            }
        }
    }
}
