//! Refusals an operator overrules by name.
//!
//! A gate that may be overruled asks [`Acceptances::gate`]; the answer is either the refusal itself
//! or a note that the operator took it, which travels into the report.

use std::collections::BTreeSet;

use pefo_core::Result;

/// The rules an operator accepts for this run (`--accept RULE`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acceptances(BTreeSet<String>);

impl Acceptances {
    /// Accepts nothing: every gate refuses.
    pub fn none() -> Self {
        Self::default()
    }

    /// Accepts these rules.
    pub fn of<R: Into<String>>(rules: impl IntoIterator<Item = R>) -> Self {
        Self(rules.into_iter().map(Into::into).collect())
    }

    /// Whether `rule` is accepted.
    pub fn allows(&self, rule: &str) -> bool {
        self.0.contains(rule)
    }

    /// Lets a refusal pass where its rule is accepted, and notes that in `taken`.
    ///
    /// # Errors
    /// `refusal` itself where its rule is not accepted, or where it is not a refusal.
    pub fn gate(&self, refusal: pefo_core::Error, taken: &mut Vec<String>) -> Result<()> {
        match refusal.rule() {
            Some(rule) if refusal.is_refusal() && self.allows(rule) => {
                taken.push(refusal.to_string());
                Ok(())
            }
            _ => Err(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pefo_core::Error;

    #[test]
    fn only_the_named_rule_is_overruled_and_it_is_noted() {
        let accept = Acceptances::of(["nc-shrink"]);
        let mut taken = Vec::new();
        accept
            .gate(
                Error::refused("nc-shrink", "40 of 100 groups are gone"),
                &mut taken,
            )
            .unwrap();
        assert_eq!(taken, ["40 of 100 groups are gone [nc-shrink]"]);
        assert!(
            accept
                .gate(Error::refused("nc-stock-group-gone", "x"), &mut taken)
                .is_err()
        );
        assert!(accept.gate(Error::invalid("x"), &mut taken).is_err());
        assert_eq!(taken.len(), 1);
    }
}
