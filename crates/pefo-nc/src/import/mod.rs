//! The import gate: a verified export becomes the target's tree, whole, or the target stays as it was.
//!
//! [`plan`] is pure: it takes the export's [`Envelope`](crate::Envelope) (whose bytes must come from a
//! verified generation), what the target holds, and a policy; it transforms, compares, and says
//! whether anything has to be done. [`apply`] does it: it has the target read its classes and
//! compares, reads the target again right before the import, has the rollback copy kept, posts, reads
//! back, and puts the old tree back where the new one did not arrive whole.
//!
//! However it ends, the [`ImportReport`] says what the target holds: the old tree, the new one,
//! something else, or that it could not be told. A lost answer is never taken for a failure or a
//! success: the target is read until it is settled.

mod apply;
mod ids;
mod missing;
mod plan;

pub use apply::{ApplyOptions, Holds, ImportReport, apply};
pub use ids::{IdChange, IdPolicy, KeptGroup};
pub use missing::{MissingReference, missing_references};
pub use plan::{ImportPlan, ImportPolicy, Target, plan, plan_rollback};

/// The export came from the very master that it would be imported into; never overruled.
pub const TARGET_IS_SOURCE: &str = "nc-target-is-source";
/// The certname map says nothing about the export's source: the spare would be classified as the
/// other master.
pub const SOURCE_NOT_MAPPED: &str = "nc-source-not-mapped";
/// A rollback copy of another master; never overruled.
pub const ROLLBACK_FOREIGN: &str = "nc-rollback-foreign";
/// The target's groups are not one whole tree: what an import that failed half-way leaves. Accepted,
/// they are replaced; there is nothing to keep and to roll back to.
pub const TARGET_BROKEN: &str = "nc-target-broken";
/// With the target's ids the source's groups are no tree: two have one id, or one is its own ancestor. Never
/// overruled.
pub const ID_CONFLICT: &str = "nc-id-conflict";
/// The target's own infrastructure groups are to stay, and the source has some that the target lacks.
/// Accepted, these are taken over.
pub const INFRASTRUCTURE_UNMATCHED: &str = "nc-infrastructure-unmatched";
/// One of the target's own infrastructure groups is to stay, and the group above it is not of the source.
/// Never overruled.
pub const INFRASTRUCTURE_PARENT: &str = "nc-infrastructure-parent";
/// The target has groups that every installation brings, and the import would delete them.
pub const TARGET_STOCK_GROUP: &str = "nc-target-stock-group";
/// The target was changed between plan and import; plan again. Never overruled.
pub const TARGET_CHANGED: &str = "nc-target-changed";
/// The target could not read its classes from its master.
pub const CLASS_UPDATE_FAILED: &str = "nc-class-update-failed";
/// The target's master has not all classes or parameters.
pub const MISSING_CLASSES: &str = "nc-missing-classes";
/// The target's master has not all environments.
pub const MISSING_ENVIRONMENTS: &str = "nc-missing-environments";
