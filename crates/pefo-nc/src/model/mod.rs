//! The classifier's groups as values.
//!
//! Tolerant where a newer product may add something (unknown keys, unknown operators and exact
//! numbers are kept and printed back as they came), strict where a wrong value would damage a
//! target (ids, names, classes, the tree). Shapes follow the product's classifier API v1
//! (`/classifier-api/v1/groups`).

mod contents;
mod group;
mod id;
mod rule;
mod tree;

pub use contents::{Contents, GroupProblem};
pub use group::{Group, STOCK_GROUPS};
pub use id::GroupId;
pub use rule::{Comparison, Operator, PathPart, Rule, RulePath, RuleProblem};
pub(crate) use rule::{excerpt, shorten};
pub use tree::{Finding, Tree, TreeError};
