//! Would anybody notice if this fsync were not there?
//!
//! A scenario runs over a fresh directory once for each of its syncs, each time on a disk that does not
//! hear that one. Power is lost, in every way there is, after every operation and after every answer
//! that the scenario gave. Where what is left is as promised each time, nobody needs that sync: either
//! the check asks for too little, or the sync costs time for nothing.
//!
//! A later sync covers an earlier one, so that a scenario should end where the promise is given: two
//! promises make two scenarios, or two answers of one.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Image, Moment};
use super::{Order, Recorder};
use crate::disk::{Disk, Hook, Operation};

/// Where a scenario plays.
#[derive(Debug)]
pub struct Stage {
    dir: PathBuf,
    watch: Arc<Watch>,
}

impl Stage {
    /// The directory whose disk loses power.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The disk to use.
    pub fn disk(&self) -> Disk {
        Disk::with_hook(self.watch.clone())
    }

    /// Says that something was promised, such as "it stands"; the check is told how often.
    pub fn answered(&self) {
        self.watch.note("the answer", true);
    }
}

/// Records every moment of a run.
#[derive(Debug)]
struct Watch {
    recorder: Recorder,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct History {
    answers: usize,
    moments: Vec<Point>,
    syncs: Vec<String>,
}

/// A point at which power may be lost.
#[derive(Debug)]
struct Point {
    after: String,
    answers: usize,
    moment: Moment,
}

impl Watch {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, after: &str, is_answer: bool) {
        let mut history = self.history();
        history.answers += usize::from(is_answer);
        let answers = history.answers;
        match self.recorder.moment() {
            Ok(moment) => history.moments.push(Point {
                after: after.to_owned(),
                answers,
                moment,
            }),
            Err(error) => panic!("the directory is gone after {after}: {error}"),
        }
    }
}

impl Hook for Watch {
    fn before(&self, _operation: Operation<'_>) -> io::Result<()> {
        Ok(())
    }

    fn after(&self, operation: Operation<'_>) {
        self.recorder.after(operation);
        let root = self.recorder.root.display().to_string();
        let what = format!("{operation:?}").replace(&root, "");
        if self.recorder.is_sync(operation) {
            let mut history = self.history();
            let nth = history.syncs.len();
            history.syncs.push(format!("{nth}: {what}"));
        }
        self.note(&what, false);
    }
}

/// What taking each sync out has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Findings {
    /// Every sync of the scenario, in order.
    pub syncs: Vec<String>,
    /// Those that nobody would miss.
    pub unnoticed: Vec<String>,
    /// What is not as promised with every sync in place.
    pub broken: Vec<String>,
    /// How many different states of the disk were looked at.
    pub states: usize,
}

impl Findings {
    /// Fails the test unless there are syncs, all of them are needed, and they are enough.
    ///
    /// # Panics
    /// Then, and says what is wrong.
    #[track_caller]
    pub fn assert_each_is_needed(&self) {
        assert!(
            self.broken.is_empty(),
            "not as promised: {:#?}",
            self.broken
        );
        assert!(!self.syncs.is_empty(), "the scenario syncs nothing");
        assert!(
            self.unnoticed.is_empty(),
            "nobody would miss {:#?}\nof {:#?}",
            self.unnoticed,
            self.syncs
        );
    }
}

/// Plays a scenario once as it is and once without each of its syncs.
///
/// `prepare` lays out a fresh directory, whose content is durable; `scenario` works on it through the
/// stage's [`Disk`]; `as_promised` is shown what a power loss left of the directory and how many
/// [answers](Stage::answered) had been given by then. All three must do the same each time. `scratch`
/// is an empty directory to play in; in memory it is fast, and what a disk loses is modelled anyway.
/// `order` says what kind of disk it is.
///
/// # Errors
/// Where `scratch` cannot be written.
pub fn without_each_sync(
    scratch: &Path,
    order: Order,
    mut prepare: impl FnMut(&Path),
    mut scenario: impl FnMut(&Stage),
    as_promised: impl FnMut(&Path, usize) -> bool,
) -> io::Result<Findings> {
    let mut play = |nth: usize, deaf_to: Option<usize>| -> io::Result<History> {
        let dir = fresh(scratch, &format!("run-{nth}"))?;
        prepare(&dir);
        let recorder = Recorder::over(&dir)?;
        let recorder = match deaf_to {
            Some(sync) => recorder.deaf_to(sync),
            None => recorder,
        };
        let stage = Stage {
            dir: dir.clone(),
            watch: Arc::new(Watch {
                recorder,
                history: Mutex::default(),
            }),
        };
        stage.watch.note("the preparation", false);
        scenario(&stage);
        let history = std::mem::take(&mut *stage.watch.history());
        remove(&dir)?;
        Ok(history)
    };
    let mut judge = Judge {
        dir: scratch.join("after"),
        order,
        as_promised,
        fine: HashSet::new(),
        wrong: HashSet::new(),
    };
    let whole = play(0, None)?;
    let mut findings = Findings {
        broken: judge.all_wrong(whole.moments)?,
        syncs: whole.syncs,
        ..Findings::default()
    };
    for (nth, sync) in findings.syncs.iter().enumerate() {
        if !judge.notices(play(nth + 1, Some(nth))?.moments)? {
            findings.unnoticed.push(sync.clone());
        }
    }
    findings.states = judge.fine.len() + judge.wrong.len();
    Ok(findings)
}

/// Asks the check, once for each state of the disk and count of answers.
struct Judge<F> {
    dir: PathBuf,
    order: Order,
    as_promised: F,
    fine: HashSet<(Image, usize)>,
    wrong: HashSet<(Image, usize)>,
}

impl<F: FnMut(&Path, usize) -> bool> Judge<F> {
    fn is_fine(&mut self, image: Image, answers: usize) -> io::Result<bool> {
        let state = (image, answers);
        if self.fine.contains(&state) {
            return Ok(true);
        }
        if self.wrong.contains(&state) {
            return Ok(false);
        }
        make(&self.dir)?;
        state.0.write(&self.dir)?;
        let fine = (self.as_promised)(&self.dir, answers);
        remove(&self.dir)?;
        if fine {
            self.fine.insert(state);
        } else {
            self.wrong.insert(state);
        }
        Ok(fine)
    }

    /// What is not as promised, told for people.
    fn all_wrong(&mut self, points: Vec<Point>) -> io::Result<Vec<String>> {
        let mut wrong = Vec::new();
        for point in points {
            for loss in point.moment.losses(self.order) {
                let image = point.moment.image(loss);
                let told = format!(
                    "{loss:?} after {}, {} answered: {image}",
                    point.after, point.answers
                );
                if !self.is_fine(image, point.answers)? {
                    wrong.push(told);
                }
            }
        }
        Ok(wrong)
    }

    /// Whether anything is not as promised.
    fn notices(&mut self, points: Vec<Point>) -> io::Result<bool> {
        // What is missing shows soonest where all was promised.
        for point in points.into_iter().rev() {
            for loss in point.moment.losses(self.order) {
                if !self.is_fine(point.moment.image(loss), point.answers)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn fresh(scratch: &Path, name: &str) -> io::Result<PathBuf> {
    let dir = scratch.join(name);
    make(&dir)?;
    Ok(dir)
}

#[expect(clippy::disallowed_methods, reason = "a test's own scratch")]
fn make(dir: &Path) -> io::Result<()> {
    std::fs::create_dir(dir)
}

#[expect(clippy::disallowed_methods, reason = "a test's own scratch")]
fn remove(dir: &Path) -> io::Result<()> {
    std::fs::remove_dir_all(dir)
}
