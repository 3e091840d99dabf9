//! A newer session of the same peer takes a stale one's place.
//!
//! A session whose line died without a word would hold its data set's lock until its idle limit. So a
//! newcomer that finds the lock held by a session of the same master, key and purpose writes its claim,
//! by one rename, and waits for the lock; the holder, whenever it hears nothing for a while, looks at
//! the claim and ends where another one's stands there. A holder to whom bytes come keeps the lock, and
//! the newcomer is told so. The claim is a word between sessions of one account: whoever can write it
//! could as well end the session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pefo_core::clock::Clock;
use pefo_core::disk::{Beneath, Rooted};
use pefo_core::generation::spool;
use pefo_core::keys::KeyId;
use pefo_core::lock::Lock;
use pefo_core::{Certname, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::partial::{PRIVATE_FILE, rel};
use crate::message::Purpose;

/// The longest claim that is read.
const MAX_BYTES: u64 = 4096;
/// How often a newcomer tries the lock.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Lets a session be succeeded: hand one to the session's options and to its
/// [`IdleLimited`](super::IdleLimited) lines. Clones are the same.
#[derive(Clone)]
pub struct Succession {
    clock: Arc<dyn Clock>,
    quiet: Duration,
    patience: Duration,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    held: Mutex<Vec<(Beneath, String)>>,
    superseded: AtomicBool,
}

impl std::fmt::Debug for Succession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Succession")
            .field("quiet", &self.quiet)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl Succession {
    /// A session that has heard nothing for 5 s is succeeded by one that waits up to 10 s for it.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            quiet: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            shared: Arc::default(),
        }
    }

    /// Sets for how long a session must have heard nothing.
    #[must_use]
    pub const fn quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// Sets how long a newcomer waits; longer than what the other waits in silence.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// For how long a session must have heard nothing before it asks whether it is superseded.
    pub(super) const fn quiet_time(&self) -> Duration {
        self.quiet
    }

    /// Whether another session wants the place of this one; once yes, always yes.
    pub(super) fn is_superseded(&self) -> bool {
        if self.was_superseded() {
            return true;
        }
        let held = self.held();
        let now = self.clock.now().unix_seconds();
        let other = |(dir, id): &(Beneath, String)| {
            let claim = Claim::read(dir);
            claim.is_some_and(|claim| claim.id != *id && claim.until.is_some_and(|it| now <= it))
        };
        let superseded = held.iter().any(other);
        self.shared
            .superseded
            .fetch_or(superseded, Ordering::Relaxed);
        superseded
    }

    /// Whether this session has found out that it is superseded.
    pub(super) fn was_superseded(&self) -> bool {
        self.shared.superseded.load(Ordering::Relaxed)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<(Beneath, String)>> {
        let held = self.shared.held.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose session this is.
pub(super) struct Claimant {
    pub(super) succession: Succession,
    /// Names this session among all.
    pub(super) id: String,
    pub(super) certname: Certname,
    pub(super) purpose: Purpose,
    pub(super) key: KeyId,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    format: u32,
    id: String,
    certname: Certname,
    purpose: Purpose,
    key: KeyId,
    /// Of a newcomer: until when it waits, in seconds since 1970. Null where it holds the lock.
    until: Option<i64>,
}

impl Claim {
    fn of(claimant: &Claimant, until: Option<i64>) -> Self {
        Self {
            format: 1,
            id: claimant.id.clone(),
            certname: claimant.certname.clone(),
            purpose: claimant.purpose.clone(),
            key: claimant.key.clone(),
            until,
        }
    }

    /// The claim that stands, if there is one that can be read.
    fn read(dir: &Beneath) -> Option<Self> {
        let bytes = dir.read(&rel(spool::CLAIM).ok()?, MAX_BYTES).ok()?;
        let claim: Self = serde_json::from_slice(&bytes).ok()?;
        (claim.format == 1).then_some(claim)
    }

    fn write(&self, root: &Rooted) -> Result<()> {
        let bytes = serde_json::to_vec(self)
            .map_err(|error| Error::invalid("write a claim").with_source(error))?;
        let temp = rel(format!(".pefo-claim-{}.tmp", self.id))?;
        root.remove_file(&temp)?;
        let mut file = root.create(&temp, &PRIVATE_FILE)?;
        file.write(&bytes)?;
        file.finish()?;
        root.rename(&temp, root, &rel(spool::CLAIM)?)
    }

    fn is_of(&self, claimant: &Claimant) -> bool {
        (&self.certname, &self.purpose, &self.key)
            == (&claimant.certname, &claimant.purpose, &claimant.key)
    }
}

/// Takes a data set's lock, in the place of a stale session of the same peer where one holds it.
///
/// # Errors
/// What `busy` says, where another session holds it and keeps it; `Io`.
pub(super) fn take(
    root: &Rooted,
    claimant: Option<&Claimant>,
    clock: &dyn Clock,
    busy: impl Fn() -> Error,
) -> Result<Lock> {
    let lock = match (try_lock(root)?, claimant) {
        (Some(lock), _) => lock,
        (None, None) => return Err(busy()),
        (None, Some(claimant)) => wait(root, claimant, clock)?.ok_or_else(&busy)?,
    };
    if let Some(claimant) = claimant {
        Claim::of(claimant, None).write(root)?;
        let held = (root.reading()?, claimant.id.clone());
        claimant.succession.held().push(held);
    }
    Ok(lock)
}

fn try_lock(root: &Rooted) -> Result<Option<Lock>> {
    match Lock::take(&root.path().join(spool::LOCK)) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == ErrorKind::Locked => Ok(None),
        Err(error) => Err(error),
    }
}

/// Claims the lock and waits for it; `None` where it stays with another session.
fn wait(root: &Rooted, claimant: &Claimant, clock: &dyn Clock) -> Result<Option<Lock>> {
    let dir = root.reading()?;
    if !Claim::read(&dir).is_some_and(|claim| claim.is_of(claimant)) {
        return Ok(None);
    }
    let patience = claimant.succession.patience;
    let until = clock.now().plus(patience).unix_seconds();
    Claim::of(claimant, Some(until)).write(root)?;
    let begun = clock.monotonic();
    while clock.monotonic().saturating_sub(begun) < patience {
        clock.wait(TRY_EVERY);
        if let Some(lock) = try_lock(root)? {
            return Ok(Some(lock));
        }
        // A still newer session waits for it.
        if Claim::read(&dir).is_some_and(|claim| claim.id != claimant.id && claim.until.is_some()) {
            return Ok(None);
        }
    }
    Ok(None)
}
