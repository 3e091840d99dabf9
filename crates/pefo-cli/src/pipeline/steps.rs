//! Steps of a batch: a file that changed a little crosses as the difference.

use pefo_ca::snapshot::MAX_FILE_BYTES;
use pefo_ca::source::Change;
use pefo_core::generation::{Step, Verified};
use pefo_core::keys::{random_bytes, system_random};
use pefo_core::{Digest, Error, RelPath, Result};
use pefo_transport::delta::patch::apply_bytes;
use pefo_transport::delta::{Seed, SignatureOptions, diff_known, signature};

/// A shorter file crosses whole.
const WORTH_BYTES: usize = 8 * 1024;

/// A step and its bytes, the shorter of the file and its difference to `base`.
///
/// # Errors
/// `Io` where there is no randomness.
pub fn shortest(change: &Change, base: Option<&[u8]>) -> Result<(Step, Vec<u8>)> {
    let whole = (change.step(), change.bytes().to_vec());
    let (
        Change::Put {
            path,
            mode,
            bytes,
            blake3,
            replaces: Some(replaces),
        },
        Some(base),
    ) = (change, base)
    else {
        return Ok(whole);
    };
    if bytes.len() < WORTH_BYTES || Digest::of(base) != *replaces {
        return Ok(whole);
    }
    let seed = Seed(random_bytes(&system_random())?);
    let mut known = Vec::new();
    let length = base.len() as u64;
    signature::write(base, length, &SignatureOptions::new(seed), &mut known)?;
    let mut delta = Vec::new();
    let signature = signature::parse(&known)?;
    diff_known(
        &signature,
        bytes.as_slice(),
        bytes.len() as u64,
        *blake3,
        &mut delta,
    )?;
    if delta.len() * 2 > bytes.len() {
        return Ok(whole);
    }
    let step = Step::Delta {
        path: path.clone(),
        mode: *mode,
        base: *replaces,
        size: delta.len() as u64,
        blake3: *blake3,
    };
    Ok((step, delta))
}

/// What a batch changes, differences made whole with the files that `base` knows.
///
/// # Errors
/// `Refused` (`batch-step`) where a difference starts from another file; `Invalid` where it is damaged.
pub fn changes(
    batch: &Verified,
    mut base: impl FnMut(&RelPath) -> Result<Option<Vec<u8>>>,
) -> Result<Vec<Change>> {
    let resolve = |(step, bytes): (&Step, &[u8])| match (Change::of_step(step, bytes), step) {
        (Some(change), _) => Ok(change),
        (
            None,
            Step::Delta {
                path,
                mode,
                base: from,
                blake3,
                ..
            },
        ) => {
            let base = base(path)?.filter(|base| Digest::of(base) == *from);
            let misfit = || {
                let message =
                    format!("{path} is not the file that the batch's difference starts from");
                Error::refused("batch-step", message)
            };
            let base = base.ok_or_else(misfit)?;
            let bytes = apply_bytes(&base, bytes, MAX_FILE_BYTES)?;
            if Digest::of(&bytes) != *blake3 {
                return Err(misfit());
            }
            Ok(Change::Put {
                path: path.clone(),
                mode: *mode,
                bytes,
                blake3: *blake3,
                replaces: Some(*from),
            })
        }
        (None, step) => Err(Error::invalid(format!(
            "{}: a step that is not known here",
            step.path()
        ))),
    };
    batch.steps()?.into_iter().map(resolve).collect()
}
