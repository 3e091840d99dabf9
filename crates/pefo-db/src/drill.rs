//! Proves a dump good without touching the live database.
//!
//! The dump is restored into a scratch database, compared with its manifest as a restore would, and dropped.
//! That the live database was left alone is not taken for granted: it is read before and after, and every
//! table that is another one then is named; tables that the manifest only counts are counted. Its own
//! services may have written to it meanwhile; a drill that finds nothing different has touched nothing.

use std::path::Path;

use pefo_core::Result;
use pefo_core::clock::Clock;
use pefo_core::progress::Progress;
use serde::{Deserialize, Serialize};

use crate::compare::{Difference, compare};
use crate::derived::Derived;
use crate::plan::RestorePlan;
use crate::restore::{RestoreOutcome, RestoreReport, Run, drop_database, lock};
use crate::server::Server;
use crate::state::Exactness;
use crate::tools::Tools;
use crate::verify::read;

/// What a drill found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DrillReport {
    /// What was restored and compared, and how long each step took.
    #[serde(flatten)]
    pub restored: RestoreReport,
    /// How the live database differs from what it was before the drill; `None` where there is none.
    pub live_changed: Option<Vec<Difference>>,
}

/// Restores the dump in `dir` into a scratch database, checks it as [`execute`](crate::execute) would, and
/// drops it.
///
/// # Errors
/// Those of [`execute`](crate::execute) up to the swap.
pub async fn drill(
    server: &Server,
    tools: &Tools,
    plan: &RestorePlan,
    dir: &Path,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<DrillReport> {
    let scratch = Derived::of(&plan.database).drill()?;
    let maintenance = lock(server, &plan.database).await?;
    let mut run = Run::new(clock, progress);
    let exactness = Exactness::of(&plan.manifest)?;
    let mut before = None;
    if plan.replaces {
        run.step("read the live database");
        before = Some(
            read(&tools.cancel, server, &plan.database, &exactness, progress)
                .await?
                .1,
        );
    }
    run.prepare(server, tools, plan, dir, &scratch, &maintenance)
        .await?;
    run.step("drop the copy");
    drop_database(&maintenance, &scratch).await?;
    let mut live_changed = None;
    if let Some(before) = before {
        run.step("read the live database again");
        let (_, after) = read(&tools.cancel, server, &plan.database, &exactness, progress).await?;
        live_changed = Some(compare(&before, &after, true));
    }
    Ok(DrillReport {
        restored: run.report(plan, RestoreOutcome::Drilled),
        live_changed,
    })
}
