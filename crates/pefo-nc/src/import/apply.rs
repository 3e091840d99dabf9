//! Carrying a plan out: at every point the target is read rather than believed.
//!
//! 1. The target reads its classes; what the new tree uses and the target lacks is a gate.
//! 2. The target is read again: what the plan saw must still be there.
//! 3. The rollback copy is kept by the caller, durably, before anything is sent.
//! 4. The import is posted: 204, or it is not known to have happened.
//! 5. The target is read back: the new tree; or the old one; or neither, and then the old one is put
//!    back and read back in turn.
//!
//! After a lost answer the server may still be at work, so step 5 looks again until the new tree is
//! there or [`ApplyOptions::settle`] is over. Nothing is ever posted twice, but for the old tree.

use std::time::Duration;

use pefo_core::{Error, ErrorKind, Result};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::missing::{MissingReference, missing_references};
use super::plan::ImportPlan;
use super::{CLASS_UPDATE_FAILED, MISSING_CLASSES, MISSING_ENVIRONMENTS, TARGET_CHANGED};
use crate::canonical::TreeDigest;
use crate::client::ClassifierClient;
use crate::diff::TreeDiff;
use crate::envelope::Envelope;
use crate::model::Tree;

/// How patient an import is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApplyOptions {
    /// How long the target is looked at after a lost answer; 60 s by default.
    pub settle: Duration,
    /// How long between two looks; 1 s by default.
    pub poll: Duration,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(60),
            poll: Duration::from_secs(1),
        }
    }
}

impl ApplyOptions {
    /// Sets how long the target is looked at after a lost answer.
    #[must_use]
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Sets how long to wait between two looks.
    #[must_use]
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }
}

/// What the target holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Holds {
    /// The tree it held when the plan was made.
    Old,
    /// The tree of the plan.
    New,
    /// Something else.
    Other,
    /// It could not be read.
    Unknown,
}

/// How an import ended.
#[derive(Debug, Serialize)]
#[must_use = "the report says what the target holds, and why"]
#[non_exhaustive]
pub struct ImportReport {
    /// What the target holds now.
    pub holds: Holds,
    /// Whether the new tree was sent.
    pub posted: bool,
    /// Whether the old tree was sent back.
    pub rolled_back: bool,
    /// Whether an answer was lost and the target was still as before when patience ended: the server
    /// may yet carry the import out. Plan again later; the plan will see.
    pub in_doubt: bool,
    /// What the new tree uses and the target's master lacks.
    pub missing: Vec<MissingReference>,
    /// The refusals the operator overruled, of the plan and of this run.
    pub accepted: Vec<String>,
    /// Where the target holds something else: how it differs from the new tree.
    pub difference: Option<TreeDiff>,
    /// Why the new tree is not there.
    #[serde(skip)]
    pub error: Option<Error>,
}

impl ImportReport {
    /// The report, where the target holds the new tree.
    ///
    /// # Errors
    /// Why it does not.
    pub fn into_result(mut self) -> Result<Self> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    fn ends(mut self, holds: Holds, error: Option<Error>) -> Self {
        self.holds = holds;
        self.error = error;
        self
    }
}

/// Carries out a plan. `keep` is called after the last check and before anything is sent, with the rollback copy
/// where there is something whole to keep; it must not return before the copy is on disk.
///
/// The runtime is the caller's. Dropping the future between the post and the end leaves the target
/// with the old or the new tree as the server decides; the next plan sees which.
pub async fn apply(
    client: &ClassifierClient,
    plan: &ImportPlan,
    options: &ApplyOptions,
    keep: &mut (dyn FnMut(Option<&Envelope>) -> Result<()> + Send),
) -> ImportReport {
    let mut report = ImportReport {
        holds: Holds::Old,
        posted: false,
        rolled_back: false,
        in_doubt: false,
        missing: Vec::new(),
        accepted: plan.accepted().to_vec(),
        difference: None,
        error: None,
    };
    if !plan.needs_import() {
        return report.ends(Holds::New, None);
    }
    let run = Run {
        client,
        plan,
        options,
    };
    if let Err(error) = run.check_classes(&mut report).await {
        return report.ends(Holds::Old, Some(error));
    }
    let answer = client.groups_answer().await;
    match answer.and_then(|answer| answer.checked()) {
        Err(error) => {
            return report.ends(
                Holds::Unknown,
                Some(error.context("read the target before the import")),
            );
        }
        Ok(now) => match run.classify(now.ok()) {
            Seen {
                holds: Holds::Old, ..
            } => {}
            Seen {
                holds: Holds::New, ..
            } => return report.ends(Holds::New, None),
            Seen { holds, difference } => {
                report.difference = difference;
                let error = Error::refused(
                    TARGET_CHANGED,
                    "the target was changed since the plan was made",
                )
                .hint("somebody edits groups on the spare; run it again to plan anew")
                .retryable(true);
                return report.ends(holds, Some(error));
            }
        },
    }
    if let Err(error) = keep(plan.rollback()) {
        return report.ends(Holds::Old, Some(error.context("keep the rollback copy")));
    }
    report.posted = true;
    tracing::info!(target_master = %plan.target(), groups = plan.wanted().len(), "importing classification");
    let posted = client.import_hierarchy(plan.wanted()).await;
    run.settle(posted, report).await
}

struct Run<'a> {
    client: &'a ClassifierClient,
    plan: &'a ImportPlan,
    options: &'a ApplyOptions,
}

struct Seen {
    holds: Holds,
    difference: Option<TreeDiff>,
}

impl Run<'_> {
    async fn check_classes(&self, report: &mut ImportReport) -> Result<()> {
        let accept = self.plan.accept();
        if let Err(error) = self.client.update_classes(None).await {
            match error.kind() {
                ErrorKind::Denied | ErrorKind::Unreachable => return Err(error),
                _ => {
                    let refusal = Error::refused(CLASS_UPDATE_FAILED, format!("the target could not read its classes: {error}"))
                        .hint("is puppetserver running on the target? accept nc-class-update-failed to compare with the classes it read last")
                        .with_source(error);
                    accept.gate(refusal, &mut report.accepted)?;
                }
            }
        }
        let (classes, environments) = (
            self.client.classes().await?,
            self.client.environments().await?,
        );
        report.missing = missing_references(self.plan.wanted(), &classes, &environments);
        let refusal = |rule: &'static str, of_class: bool| {
            let new: Vec<String> = report
                .missing
                .iter()
                .filter(|missing| missing.class.is_some() == of_class && !missing.on_source_too)
                .map(ToString::to_string)
                .collect();
            let shown = new
                .iter()
                .take(5)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            let more = if new.len() > 5 {
                format!(" and {} more", new.len() - 5)
            } else {
                String::new()
            };
            let message = format!("the target's master lacks what the groups use: {shown}{more}");
            (!new.is_empty()).then(|| {
                Error::refused(rule, message).hint(format!(
                    "deploy the same code on the target, or accept {rule}"
                ))
            })
        };
        let refusals = [
            refusal(MISSING_ENVIRONMENTS, false),
            refusal(MISSING_CLASSES, true),
        ];
        refusals
            .into_iter()
            .flatten()
            .try_for_each(|refusal| accept.gate(refusal, &mut report.accepted))
    }

    /// What was read is: an array that is no tree is something else, unless the plan was made for a
    /// target that was broken already.
    fn classify(&self, now: Option<Tree>) -> Seen {
        let (before, after) = self.plan.digests();
        let Some(now) = now else {
            let holds = if before.is_none() {
                Holds::Old
            } else {
                Holds::Other
            };
            return Seen {
                holds,
                difference: None,
            };
        };
        match TreeDigest::of(&now) {
            digest if digest == after => Seen {
                holds: Holds::New,
                difference: None,
            },
            digest if Some(digest) == before => Seen {
                holds: Holds::Old,
                difference: None,
            },
            _ => Seen {
                holds: Holds::Other,
                difference: Some(TreeDiff::between(self.plan.wanted(), &now)),
            },
        }
    }

    /// Looks at the target until it holds what is `awaited`, or patience ends. Without a reason to
    /// wait, the first look that succeeds counts.
    async fn look(&self, awaited: Option<Holds>) -> Seen {
        let deadline = Instant::now() + self.options.settle;
        loop {
            let answer = self.client.groups_answer().await;
            let seen = match answer.and_then(|answer| answer.checked()) {
                Ok(read) => self.classify(read.ok()),
                Err(error) => {
                    tracing::warn!(%error, "could not read the target back");
                    Seen {
                        holds: Holds::Unknown,
                        difference: None,
                    }
                }
            };
            let enough = match (seen.holds, awaited) {
                (Holds::Unknown, _) => false,
                (holds, Some(awaited)) => holds == awaited,
                (_, None) => true,
            };
            if enough || Instant::now() + self.options.poll > deadline {
                return seen;
            }
            sleep(self.options.poll).await;
        }
    }

    async fn settle(&self, posted: Result<()>, mut report: ImportReport) -> ImportReport {
        // A gateway that gave up (502 to 504) has lost the answer as well.
        let lost = matches!(&posted, Err(error) if error.kind() == ErrorKind::Unknown
            || error.kind() == ErrorKind::Protocol && error.is_retryable());
        let error = match posted {
            // Nothing was sent, so there is nothing to look for.
            Err(error) if error.kind() == ErrorKind::Unreachable => {
                report.posted = false;
                return report.ends(Holds::Old, Some(error));
            }
            Err(error) => Some(error),
            Ok(()) => None,
        };
        let seen = self.look(lost.then_some(Holds::New)).await;
        report.difference = seen.difference;
        match seen.holds {
            Holds::New => report.ends(Holds::New, None),
            Holds::Old => {
                report.in_doubt = lost;
                let error = error.unwrap_or_else(|| unkept("the old tree is still there"));
                report.ends(
                    Holds::Old,
                    Some(error.context("the target still holds the old tree")),
                )
            }
            Holds::Unknown => {
                let error = error.unwrap_or_else(|| unkept("it could not be read back"));
                report.ends(Holds::Unknown, Some(unknown(error)))
            }
            Holds::Other => {
                let error = error.unwrap_or_else(|| {
                    let summary = report
                        .difference
                        .as_ref()
                        .map_or_else(|| "no whole tree".to_owned(), TreeDiff::summary);
                    unkept(&format!("the groups differ from those sent: {summary}"))
                });
                self.roll_back(error, report).await
            }
        }
    }

    /// Puts the old tree back, and looks whether it is there.
    async fn roll_back(&self, error: Error, mut report: ImportReport) -> ImportReport {
        let Some(copy) = self.plan.rollback() else {
            let error = error.context(
                "the target was broken before and holds neither the old groups nor the new tree",
            );
            return report.ends(Holds::Other, Some(error));
        };
        tracing::warn!(%error, "the import did not arrive whole; putting the old tree back");
        report.rolled_back = true;
        let result = self.client.import_hierarchy(&copy.tree).await;
        let lost = matches!(&result, Err(error) if error.kind() == ErrorKind::Unknown);
        let seen = self.look(lost.then_some(Holds::Old)).await;
        report.difference = seen.difference;
        match seen.holds {
            Holds::Old => report.ends(Holds::Old, Some(error.context("the old tree was put back"))),
            // The import that seemed lost came after all.
            Holds::New => report.ends(Holds::New, None),
            holds => {
                let why = result
                    .err()
                    .map(|error| format!(" ({error})"))
                    .unwrap_or_default();
                let error = error
                    .context(format!("the target holds neither the old tree nor the new one, putting the old one back failed too{why}"))
                    .hint("its classification is not whole: run nc rollback with the copy that was kept");
                let error = if holds == Holds::Unknown {
                    unknown(error)
                } else {
                    error
                };
                report.ends(holds, Some(error))
            }
        }
    }
}

/// The server said 204 and did something else.
fn unkept(what: &str) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("the classifier said that it had imported, but {what}"),
    )
}

fn unknown(error: Error) -> Error {
    let hint =
        "look at the target's groups before anything else; the copy that was kept is its old tree";
    Error::new(
        ErrorKind::Unknown,
        format!("what the target holds cannot be told: {error}"),
    )
    .hint(hint)
    .with_source(error)
}
