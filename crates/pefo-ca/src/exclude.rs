//! Certnames that stay out of replication, each with the reason.

use std::collections::BTreeMap;

use pefo_core::Certname;
use serde::{Deserialize, Serialize};

/// A list of certnames to leave out: their files in signed/ and requests/ are neither sent, nor
/// overwritten, nor deleted. Inventory rows and serials still count: they keep serials unique.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Exclusions(BTreeMap<Certname, String>);

impl Exclusions {
    /// Nothing left out.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves `certname` out; `reason` is for people. The first reason stays.
    #[must_use]
    pub fn with(mut self, certname: Certname, reason: impl Into<String>) -> Self {
        self.0.entry(certname).or_insert_with(|| reason.into());
        self
    }

    /// Whether `certname` is left out.
    pub fn contains(&self, certname: &Certname) -> bool {
        self.0.contains_key(certname)
    }

    /// Why `certname` is left out.
    pub fn reason(&self, certname: &Certname) -> Option<&str> {
        self.0.get(certname).map(String::as_str)
    }

    /// Every name with its reason, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Certname, &str)> {
        self.0.iter().map(|(name, reason)| (name, reason.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let name = Certname::new("puppet-b.lab").unwrap();
        let list = Exclusions::new()
            .with(name.clone(), "the spare's own")
            .with(name.clone(), "configured");
        assert_eq!(list.reason(&name), Some("the spare's own"));
        assert_eq!(list.iter().count(), 1);
        assert_eq!(
            serde_json::to_string(&list).unwrap(),
            r#"{"puppet-b.lab":"the spare's own"}"#
        );
    }
}
