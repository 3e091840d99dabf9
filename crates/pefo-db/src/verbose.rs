//! What `pg_dump` and `pg_restore` say with `--verbose`: which table they are at, and, should they fail,
//! why.
//!
//! One line a message: `pg_dump: dumping contents of table "schema.name"`, `pg_restore: processing data
//! for table "schema.name"` (nothing in the names is escaped), and, where several tables are handled at
//! once, `pg_dump: finished item 3372 TABLE DATA name`. Errors have their level after the program's name
//! (`pg_restore: error: …`), and may go on over further lines.

use std::collections::{HashMap, VecDeque};

use pefo_core::progress::Progress;

use crate::sizes::Sizes;

/// Tables as they are done, told to a [`Progress`].
pub(crate) struct Tables<'a> {
    progress: &'a dyn Progress,
    sizes: HashMap<String, u64>,
    at_once: usize,
    under_way: VecDeque<String>,
    untold_bytes: u64,
}

impl<'a> Tables<'a> {
    /// Those of a dump, of which `at_once` are handled at a time.
    pub(crate) fn new(progress: &'a dyn Progress, sizes: Sizes, at_once: u32) -> Self {
        Self {
            progress,
            sizes: sizes.tables,
            at_once: usize::try_from(at_once).unwrap_or(usize::MAX).max(1),
            under_way: VecDeque::new(),
            untold_bytes: sizes.total,
        }
    }

    /// A line of the program's.
    pub(crate) fn hear(&mut self, line: &str) {
        match Event::of(line) {
            Some(Event::Began(name)) => {
                self.under_way.push_back(name.to_owned());
                // The program that begins one more has done another, also where it does not say so.
                if self.under_way.len() > self.at_once {
                    self.done(0);
                }
            }
            Some(Event::Finished(name)) => {
                let is_it = |full: &String| {
                    full.strip_suffix(name)
                        .is_some_and(|schema| schema.ends_with('.'))
                };
                if let Some(at) = self.under_way.iter().position(is_it) {
                    self.done(at);
                }
            }
            None => {}
        }
    }

    /// The program is through: so are the tables it was at, and what is in no table.
    pub(crate) fn end(mut self) {
        while !self.under_way.is_empty() {
            self.done(0);
        }
        if self.untold_bytes > 0 {
            self.progress.advance(0, self.untold_bytes);
        }
    }

    fn done(&mut self, at: usize) {
        if let Some(name) = self.under_way.remove(at) {
            let bytes = self.sizes.remove(&name).unwrap_or_default();
            self.untold_bytes = self.untold_bytes.saturating_sub(bytes);
            self.progress.advance(1, bytes);
        }
    }
}

/// What a line says of a table.
#[derive(Debug, PartialEq, Eq)]
enum Event<'a> {
    /// By `schema.name`.
    Began(&'a str),
    /// By its name alone.
    Finished(&'a str),
}

impl<'a> Event<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let said = message(line)?;
        let began = said
            .strip_prefix("dumping contents of table \"")
            .or_else(|| said.strip_prefix("processing data for table \""));
        if let Some(rest) = began {
            return rest.strip_suffix('"').map(Self::Began);
        }
        let (number, name) = said
            .strip_prefix("finished item ")?
            .split_once(" TABLE DATA ")?;
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some(Self::Finished(name))
    }
}

/// What follows the program's name.
fn message(line: &str) -> Option<&str> {
    line.strip_prefix("pg_dump: ")
        .or_else(|| line.strip_prefix("pg_restore: "))
}

/// The last lines that tell why a program failed, however much it has said before.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    lines: VecDeque<String>,
    /// How many more lines of the newest error are kept; its statement may be long.
    room: Option<usize>,
}

impl LastWords {
    /// As many as an error shows.
    const LINES: usize = 5;
    /// An error's own line apart, such as `DETAIL` and the statement's first.
    const MORE_LINES: usize = 2;

    /// A line of the program's.
    pub(crate) fn hear(&mut self, line: &str) {
        let is_level = |said: &str| {
            let levels = ["error: ", "fatal: ", "warning: ", "detail: ", "hint: "];
            levels.iter().any(|level| said.starts_with(level))
        };
        match message(line) {
            Some(said) if is_level(said) => self.room = Some(Self::MORE_LINES),
            Some(_) => return,
            // Of a launcher, a loader or a library, or an error's further lines.
            None => match &mut self.room {
                Some(0) => return,
                Some(room) => *room -= 1,
                None => {}
            },
        }
        self.lines.push_back(line.to_owned());
        if self.lines.len() > Self::LINES {
            self.lines.pop_front();
        }
    }

    /// One a line.
    pub(crate) fn into_text(self) -> String {
        Vec::from(self.lines).join("\n")
    }
}

#[cfg(test)]
mod tests;
