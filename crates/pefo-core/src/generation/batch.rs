//! Stepping a source's state forward by a batch.
//!
//! [`SourceState`] is what the passive knows of the *source's* state, apart from its own live
//! directory: every path with mode and digest, and the running [`StateHash`]. Advancing it costs what
//! the batch changes, not what exists.

use std::collections::BTreeMap;

use super::manifest::{Manifest, Step};
use crate::digest::{Digest, StateHash};
use crate::error::{Error, Result};
use crate::path::RelPath;

/// Every path of a source's state with its mode and digest, and the state's running hash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceState {
    entries: BTreeMap<RelPath, (u32, Digest)>,
    hash: StateHash,
}

impl SourceState {
    /// The state of a full set of entries, each path once.
    pub fn of(entries: impl IntoIterator<Item = (RelPath, u32, Digest)>) -> Self {
        let mut hash = StateHash::default();
        let entries = entries.into_iter().map(|(path, mode, digest)| {
            hash.add(&path, mode, &digest);
            (path, (mode, digest))
        });
        // At once: a tree that grows entry by entry stays half empty.
        let entries = entries.collect();
        Self { entries, hash }
    }

    /// The state's name.
    pub fn digest(&self) -> Digest {
        self.hash.digest()
    }

    /// All paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.entries.keys()
    }

    /// Mode and digest of a path.
    pub fn get(&self, path: &RelPath) -> Option<(u32, Digest)> {
        self.entries.get(path).copied()
    }

    /// Sets a path.
    pub fn put(&mut self, path: RelPath, mode: u32, digest: Digest) {
        self.hash.add(&path, mode, &digest);
        if let Some((mode, digest)) = self.entries.insert(path.clone(), (mode, digest)) {
            self.hash.remove(&path, mode, &digest);
        }
    }

    /// Takes a path out; tells whether it was there.
    pub fn remove(&mut self, path: &RelPath) -> bool {
        match self.entries.remove(path) {
            Some((mode, digest)) => {
                self.hash.remove(path, mode, &digest);
                true
            }
            None => false,
        }
    }

    /// The state after `steps`; this one is left as it was.
    ///
    /// # Errors
    /// `Refused` with rule `batch-step` where a step does not fit the state it is taken on.
    pub fn after(&self, steps: &[Step]) -> Result<Self> {
        let mut next = self.clone();
        for step in steps {
            next.fit(step)?;
        }
        Ok(next)
    }

    /// Takes a step, whatever it is taken on: for a state whose files may have been altered since.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Put {
                path, mode, blake3, ..
            }
            | Step::Delta {
                path, mode, blake3, ..
            } => self.put(path.clone(), *mode, *blake3),
            Step::Append { path, blake3, .. } => {
                let mode = self.get(path).map_or(0o640, |(mode, _)| mode);
                self.put(path.clone(), mode, *blake3);
            }
            Step::Delete { path, .. } => {
                self.remove(path);
            }
        }
    }

    fn fit(&mut self, step: &Step) -> Result<()> {
        let misfit = |what: &str| Error::refused("batch-step", format!("{}: {what}", step.path()));
        match step {
            Step::Put {
                path, mode, blake3, ..
            } => self.put(path.clone(), *mode, *blake3),
            Step::Append {
                path,
                prefix,
                blake3,
                ..
            } => match self.get(path) {
                Some((mode, before)) if before == *prefix => self.put(path.clone(), mode, *blake3),
                _ => return Err(misfit("it is not the file that the batch appends to")),
            },
            Step::Delta {
                path,
                mode,
                base,
                blake3,
                ..
            } => match self.get(path) {
                Some((_, before)) if before == *base => self.put(path.clone(), *mode, *blake3),
                _ => {
                    return Err(misfit(
                        "it is not the file that the batch's delta starts from",
                    ));
                }
            },
            Step::Delete { path, .. } => {
                if !self.remove(path) {
                    return Err(misfit("the batch deletes it, but it is not there"));
                }
            }
        }
        Ok(())
    }
}

/// Pairs each step with its own bytes of the unsealed payload, and checks those that are a whole file.
///
/// # Errors
/// `Invalid` where the payload is shorter or longer than the steps say, or a file's digest differs.
pub fn split_payload<'a, 'b>(
    steps: &'a [Step],
    payload: &'b [u8],
) -> Result<Vec<(&'a Step, &'b [u8])>> {
    let mut rest = payload;
    let mut pairs = Vec::with_capacity(steps.len());
    for step in steps {
        let parts = usize::try_from(step.size())
            .ok()
            .and_then(|size| rest.split_at_checked(size));
        let Some((bytes, after)) = parts else {
            return Err(Error::invalid(format!(
                "the batch's payload ends within {}",
                step.path()
            )));
        };
        if let Step::Put { path, blake3, .. } = step
            && Digest::of(bytes) != *blake3
        {
            return Err(Error::invalid(format!(
                "the batch's bytes of {path} are not those of its manifest"
            )));
        }
        pairs.push((step, bytes));
        rest = after;
    }
    if rest.is_empty() {
        Ok(pairs)
    } else {
        Err(Error::invalid(format!(
            "the batch's payload is {} bytes longer than its steps",
            rest.len()
        )))
    }
}

/// The source's state as a full generation's manifest tells it, for files that are not sealed.
pub fn state_of_open_files(manifest: &Manifest) -> SourceState {
    SourceState::of(
        manifest
            .files
            .iter()
            .filter(|file| !file.sealed)
            .map(|file| (file.path.clone(), file.mode, file.blake3)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step() -> impl Strategy<Value = Step> {
        let path = || "[a-d]".prop_map(|name| RelPath::new(name).unwrap());
        let digest = || any::<u8>().prop_map(|byte| Digest::of(&[byte]));
        prop_oneof![
            3 => (path(), digest()).prop_map(|(path, blake3)| Step::Put { path, mode: 0o640, size: 1, blake3 }),
            1 => path().prop_map(|path| Step::Delete { path, reason: "cleaned".into() }),
        ]
    }

    proptest! {
        #[test]
        fn a_state_stepped_forward_equals_the_state_hashed_anew(steps in prop::collection::vec(step(), 0..20)) {
            let mut state = SourceState::default();
            for step in &steps {
                if let Ok(next) = state.after(std::slice::from_ref(step)) {
                    state = next;
                }
            }
            let anew = SourceState::of(state.entries.iter().map(|(path, (mode, digest))| (path.clone(), *mode, *digest)));
            prop_assert_eq!(state.digest(), anew.digest());
        }

        #[test]
        fn a_payload_of_another_length_is_refused(extra in 1_usize..5) {
            let put = Step::Put { path: RelPath::new("a").unwrap(), mode: 0o640, size: 3, blake3: Digest::of(b"abc") };
            let steps = [put];
            prop_assert!(split_payload(&steps, b"abc").is_ok());
            prop_assert!(split_payload(&steps, &b"abcdefgh"[..3 + extra]).is_err());
            prop_assert!(split_payload(&steps, &b"abc"[..3_usize.saturating_sub(extra)]).is_err());
        }
    }

    #[test]
    fn a_step_that_does_not_fit_is_refused_and_nothing_moves() {
        let path = RelPath::new("inventory.txt").unwrap();
        let state = SourceState::of([(path.clone(), 0o640, Digest::of(b"one\n"))]);
        let append = |prefix: &[u8]| Step::Append {
            path: path.clone(),
            at: 4,
            prefix: Digest::of(prefix),
            size: 4,
            blake3: Digest::of(b"one\ntwo\n"),
        };
        assert!(state.after(&[append(b"one\n")]).is_ok());
        assert_eq!(
            state.after(&[append(b"other")]).unwrap_err().rule(),
            Some("batch-step")
        );
        let gone = Step::Delete {
            path: RelPath::new("none").unwrap(),
            reason: "cleaned".into(),
        };
        assert_eq!(state.after(&[gone]).unwrap_err().rule(), Some("batch-step"));
    }
}
