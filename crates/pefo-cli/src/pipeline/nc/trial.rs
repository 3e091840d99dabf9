//! What an import would come to, for a drill: all that can be known without sending anything.

use pefo_core::Result;
use pefo_core::generation::Verified;
use pefo_nc::import::{ImportPlan, MissingReference, missing_references};

use super::{client, planned};
use crate::arguments::Change;
use crate::host::Host;
use crate::pipeline::block_on;

/// An import that was planned past every gate of the plan.
#[derive(Debug)]
pub struct Trial {
    /// What it would do.
    pub plan: ImportPlan,
    /// What the new tree uses and this host's classifier does not know, as of when it last read its classes:
    /// an import has it read them anew first.
    pub missing: Vec<MissingReference>,
}

impl Trial {
    /// How many groups would be others afterwards.
    pub fn differing(&self) -> usize {
        let diff = self.plan.diff();
        diff.added.len() + diff.removed.len() + diff.changed.len()
    }
}

/// Plans the import of a verified generation; the classifier is only read.
///
/// # Errors
/// What the server or the import gate says.
pub fn try_out(host: &Host, verified: &Verified, change: &Change) -> Result<Trial> {
    let client = client(host)?;
    let plan = planned(host, &client, verified, change)?;
    let (classes, environments) =
        block_on(async { Ok((client.classes().await?, client.environments().await?)) })?;
    let missing = missing_references(plan.wanted(), &classes, &environments);
    Ok(Trial { plan, missing })
}
