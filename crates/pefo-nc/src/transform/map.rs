//! Which host becomes which.

use std::collections::BTreeMap;

use pefo_core::{Certname, Error, ErrorKind, Result};

/// A map from host to host, applied to all at once; `A→B` and `B→A` together swap them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertnameMap(BTreeMap<Certname, Certname>);

impl CertnameMap {
    /// A map of these pairs (from, to).
    ///
    /// # Errors
    /// `Config` where a host is mapped twice.
    pub fn new(pairs: impl IntoIterator<Item = (Certname, Certname)>) -> Result<Self> {
        let mut map = BTreeMap::new();
        for (from, to) in pairs {
            if let Some(first) = map.insert(from.clone(), to.clone())
                && first != to
            {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("host {from} is mapped to {first} and to {to}"),
                ));
            }
        }
        Ok(Self(map))
    }

    /// A map of one pair.
    pub fn one(from: Certname, to: Certname) -> Self {
        Self(BTreeMap::from([(from, to)]))
    }

    /// What `from` becomes, where it is mapped.
    pub fn get(&self, from: &Certname) -> Option<&Certname> {
        self.0.get(from)
    }

    /// What the host `text` becomes, in any letter case.
    pub(crate) fn host(&self, text: &str) -> Option<&Certname> {
        self.0
            .iter()
            .find(|(from, _)| from.as_str().eq_ignore_ascii_case(text))
            .map(|(_, to)| to)
    }

    /// The hosts that are mapped.
    pub fn hosts(&self) -> impl Iterator<Item = &Certname> {
        self.0.keys()
    }

    /// The pairs (from, to).
    pub fn pairs(&self) -> impl Iterator<Item = (&Certname, &Certname)> {
        self.0.iter()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The way back, where no two hosts become one.
    pub fn inverse(&self) -> Option<Self> {
        let inverse: BTreeMap<_, _> = self
            .0
            .iter()
            .map(|(from, to)| (to.clone(), from.clone()))
            .collect();
        (inverse.len() == self.0.len()).then_some(Self(inverse))
    }
}
