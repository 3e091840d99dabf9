//! `pefo nc rollback [GENERATION]`: back to what the classifier held before the last import, or to an older
//! generation of the active's, past the same gates as an import.

use pefo_core::Result;
use pefo_core::generation::{DataSet, Position};
use pefo_nc::import;
use serde_json::json;

use super::{Beside, acceptances, carry_out, copies, planned, target};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::apply::Passive;
use crate::pipeline::{ack, block_on, rollback};

/// Brings back what was there before the last import, or the classification of `generation`.
///
/// # Errors
/// `WrongRole` on the active, `Locked`, `NotFound` where there is nothing to go back to, saying what there
/// is; what the server or the import gate says.
pub fn run(host: &Host, generation: Option<Position>, change: &Change) -> Result<Report> {
    let dataset = DataSet::Classifier;
    let passive = Passive::open(host)?;
    let _lock = host.lock("apply-nc")?;
    let client = super::client(host)?;
    let (plan, to) = match generation {
        None => {
            let copy = copies::newest(host)?;
            let plan = block_on(async {
                import::plan_rollback(&copy, target(host, &client).await?, acceptances(change))
            })?;
            (plan, format!("what was there at {}", copy.time))
        }
        Some(generation) => {
            let received = passive.at(&dataset, generation)?;
            let plan = planned(host, &client, received.full(), change)?;
            (plan, generation.to_string())
        }
    };
    let is_held = rollback::check(host, &dataset).is_err();
    let beside = Beside {
        // A crash after it leaves a host that waits for its operator, not one that goes on.
        first: &|| rollback::hold(host, &dataset, to.clone()),
        undo: &|| match is_held {
            true => Ok(()),
            false => rollback::lift(host, &dataset),
        },
    };
    let applied = carry_out(host, &client, &plan, "rollback", change.dry_run, &beside)?;
    if !change.dry_run {
        // Also where it was there already: the next restore would go on from it.
        rollback::hold(host, &dataset, to.clone())?;
        ack::publish(host, &dataset, None, vec![rollback::ROLLED_BACK.to_owned()])?;
    }
    let verb = if change.dry_run {
        "would roll back"
    } else {
        "rolled back"
    };
    let text = format!("{dataset}: {verb} to {to}\n{}\n", applied.text);
    let details = json!({
        "generation": generation.map(|generation| generation.to_string()),
        "changes": applied.details,
    });
    Ok(if applied.changed {
        Report::ok(details, text)
    } else {
        Report::unchanged(details, text)
    })
}
