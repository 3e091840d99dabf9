//! A part of a CA: as much of it as the rules ask for where only some of it changed.

use std::collections::{BTreeMap, BTreeSet};

use pefo_core::Certname;

use super::{Part, Snapshot};
use crate::cert::CaChain;
use crate::serial::Serial;

/// What a snapshot of a part says about the rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slice {
    /// The names of whose certificate it tells, be it that there is none. Certificates of others may be in
    /// it all the same, as holders of a serial.
    pub(crate) certificates: BTreeSet<Certname>,
    /// The highest of the serials that were issued or revoked and are not in it.
    pub(crate) issued: Vec<Serial>,
}

impl Snapshot {
    /// A part with nothing in it yet but whose it is.
    pub(crate) fn part(chain: Part<CaChain>, key_matches: Part<bool>) -> Self {
        Self {
            files: BTreeMap::new(),
            chain,
            key_matches,
            serial: Part::Absent,
            inventory: Part::Absent,
            ca_crl: Part::Absent,
            infra_crl: Part::Absent,
            has_signed_dir: true,
            signed: BTreeMap::new(),
            requests: BTreeMap::new(),
            excluded: BTreeSet::new(),
            problems: Vec::new(),
            slice: Some(Slice::default()),
        }
    }

    /// Whether it tells what certificate a name has, or that it has none.
    pub(crate) fn tells_of(&self, name: &Certname) -> bool {
        let slice = self.slice.as_ref();
        slice.is_none_or(|slice| slice.certificates.contains(name))
    }

    /// Serials that count as issued besides those of what is in it.
    pub(crate) fn issued_besides(&self) -> impl Iterator<Item = Serial> + '_ {
        self.slice
            .iter()
            .flat_map(|slice| slice.issued.iter().copied())
    }
}
