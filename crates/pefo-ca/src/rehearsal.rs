//! Could this host sign and revoke if it had to? Tried out in a copy, before anybody needs to know.
//!
//! [`rehearse`] writes the CA that a snapshot holds into a directory of its own, without the private key, issues
//! one certificate there in the order of the rules (serial, inventory, `signed/`), revokes it, and after each of the
//! two reads the directory back, checks the whole CA, and compares it with what it was: that certificate and that
//! revocation are all that may have come. What is tried is what a promoted host needs: the CA's key, the
//! serials, the CRL, and a disk that takes it all.
//!
//! Nothing outside the scratch directory is touched, and that is gone in the end, whatever happened; what a
//! killed rehearsal left is cleared by the next one. A directory that holds anything else is refused.

mod scratch;
mod steps;

use std::path::Path;
use std::time::Duration;

use pefo_core::clock::Clock;
use pefo_core::disk::Disk;
use pefo_core::{Certname, Error, Result};
use serde::Serialize;

use crate::cert::Cert;
use crate::parallel::Threads;
use crate::plan::SerialMode;
use crate::serial::{MAX_COUNTER, Serial, SerialBlock};
use crate::snapshot::Snapshot;
use crate::takeover::CrlSigner;
use crate::verify::{CheckOptions, CheckReport, check};

use scratch::Scratch;
use steps::Stage;

/// How long the certificate of a rehearsal is good: nobody but the rehearsal ever sees it.
const VALID: Duration = Duration::from_secs(3600);
/// How many findings of an unsound CA are told.
const TOLD: usize = 5;

/// What is rehearsed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RehearsalOptions {
    /// For whom a certificate is issued; nobody's name.
    pub certname: Certname,
    /// From which serials: those of the CA's own counter, or of a block.
    pub serial: SerialMode,
    /// Blocks that other hosts issue from: the CA's counter need not cover them.
    pub other_blocks: Vec<SerialBlock>,
    /// How many threads read and verify; the outcome is the same.
    pub threads: Threads,
}

impl RehearsalOptions {
    /// A certificate for `certname` with the next serial of the CA's counter; all processors.
    pub fn new(certname: Certname) -> Self {
        Self {
            certname,
            serial: SerialMode::Mirror,
            other_blocks: Vec::new(),
            threads: Threads::default(),
        }
    }

    /// Takes the next serial of this block, as the host would once it issues from it.
    #[must_use]
    pub fn block(mut self, block: SerialBlock) -> Self {
        self.serial = SerialMode::Block(block);
        self
    }

    /// Another host issues from this block.
    #[must_use]
    pub fn other_block(mut self, block: SerialBlock) -> Self {
        self.other_blocks.push(block);
        self
    }

    /// Sets how many threads read and verify.
    #[must_use]
    pub fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }
}

/// What was proved, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rehearsal {
    /// For whom a certificate was issued and revoked.
    pub certname: Certname,
    /// Its serial.
    pub serial: Serial,
    /// How many certificates the CA holds.
    pub certificates: usize,
    /// How many revocations are in force; all of them still were in the end.
    pub revocations: usize,
    /// The number of the CRL that revoked it.
    pub crl_number: Option<Serial>,
    /// How long writing the CA took, in milliseconds.
    pub writing_ms: u64,
    /// How long issuing the certificate took.
    pub signing_ms: u64,
    /// How long revoking it took.
    pub revoking_ms: u64,
    /// How long reading and checking the CA took, all three times together.
    pub checking_ms: u64,
}

/// Signs and revokes in a copy of the CA that `source` holds, below `scratch`, which is made and removed; its
/// parent must be there. Every change goes through `disk`.
///
/// # Errors
/// `Refused`: those of [`Snapshot::require_whole`]; `ca-identity` where the signer is another CA's;
/// `rehearsal-unsound` where the CA is damaged as it stands; `rehearsal-certname` where the name is in use;
/// `serial-exhausted`; `rehearsal-scratch` where something else stands there; `rehearsal-failed` where the
/// copy is not what it should be afterwards; those of [`CrlSigner::sign`] and
/// [`CertIssuer::issue`](crate::takeover::CertIssuer::issue). `Io`.
pub fn rehearse(
    disk: &Disk,
    source: &Snapshot,
    signer: &CrlSigner,
    scratch: &Path,
    options: &RehearsalOptions,
    clock: &dyn Clock,
) -> Result<Rehearsal> {
    let mut watch = Stopwatch { clock, checking: 0 };
    admit(source, signer, options, &mut watch)?;
    let serial = next_serial(source, options.serial)?;
    let scratch = Scratch::make(disk, scratch)?;
    let stage = Stage {
        disk,
        source,
        signer,
        cadir: scratch.cadir(),
        options,
        serial,
    };
    let rehearsed = act(&stage, &mut watch);
    let cleared = scratch.clear();
    match (rehearsed, cleared) {
        (Err(error), Err(left)) => {
            tracing::warn!(error = %left, "the rehearsal's scratch directory is still there");
            Err(error)
        }
        (rehearsed, cleared) => cleared.and(rehearsed),
    }
}

/// Looks at the CA before anything is written.
fn admit(
    source: &Snapshot,
    signer: &CrlSigner,
    options: &RehearsalOptions,
    watch: &mut Stopwatch<'_>,
) -> Result<()> {
    source.require_whole()?;
    let is_ours = |signing: &Cert| {
        let authority = signer.authority();
        signing.public_key() == authority.public_key() && signing.subject == authority.subject
    };
    if !source.chain().is_some_and(|chain| is_ours(chain.signing())) {
        let whose = &signer.authority().subject;
        let message = format!("the key at hand is {whose}'s, and the CA is another");
        return Err(Error::refused("ca-identity", message)
            .hint("Only the CA's own key can sign for it; restore it from the backup."));
    }
    let as_it_stands = as_it_stands(source, check_options(options, watch.clock));
    let report = watch.check(|| check(source, &as_it_stands));
    if !report.is_sound() {
        let message = format!("the CA is damaged as it stands: {}", defects(&report));
        return Err(Error::refused("rehearsal-unsound", message).hint(
            "`pefo ca verify` tells it all. A CA that is damaged is no CA to take over with.",
        ));
    }
    let name = &options.certname;
    if source.signed.contains_key(name) || source.requests.contains_key(name) {
        let message = format!("{name} has a certificate or a request of its own");
        return Err(Error::refused("rehearsal-certname", message)
            .hint("Rehearse with a name that no node has."));
    }
    Ok(())
}

fn check_options(options: &RehearsalOptions, clock: &dyn Clock) -> CheckOptions {
    let mut check = CheckOptions::new(clock.now()).threads(options.threads);
    check.serial = options.serial;
    check.other_blocks.clone_from(&options.other_blocks);
    check
}

/// A CA whose counter has not come to the host's block yet covers all but that.
fn as_it_stands(source: &Snapshot, mut check: CheckOptions) -> CheckOptions {
    if let SerialMode::Block(block) = check.serial
        && counted_in(source, block).is_none()
    {
        check.serial = SerialMode::Mirror;
        check.other_blocks.push(block);
    }
    check
}

/// The counter, where it stands in a block, or behind its last serial.
fn counted_in(source: &Snapshot, block: SerialBlock) -> Option<u32> {
    let counter = source.serial().and_then(Serial::counter);
    counter.filter(|next| (block.first()..=block.last() + 1).contains(next))
}

/// The first of what is wrong.
fn defects(report: &CheckReport) -> String {
    let findings = report.findings.iter().filter(|finding| finding.defect);
    let count = findings.clone().count();
    let mut told: Vec<String> = findings.take(TOLD).map(ToString::to_string).collect();
    if count > TOLD {
        told.push(format!("{} more", count - TOLD));
    }
    told.join("; ")
}

/// What the host would issue next.
fn next_serial(source: &Snapshot, mode: SerialMode) -> Result<u32> {
    let (next, last) = match mode {
        SerialMode::Mirror => {
            // A sound CA's counter covers all that was issued from it.
            let counter = source.serial().and_then(Serial::counter);
            (counter.unwrap_or(MAX_COUNTER), MAX_COUNTER - 1)
        }
        SerialMode::Block(block) => {
            let issued = source.issued().filter(|serial| block.contains(*serial));
            let highest = issued.filter_map(Serial::counter).max();
            let next = highest.map_or(block.first(), |highest| highest.saturating_add(1));
            // The counter has to be written behind it, and that is no higher than MAX_COUNTER.
            let last = block.last().min(MAX_COUNTER - 1);
            (next.max(counted_in(source, block).unwrap_or(0)), last)
        }
    };
    if next > last {
        let message = format!("there is no serial to issue behind 0x{last:04X}");
        return Err(Error::refused("serial-exhausted", message)
            .hint("Give the host a fresh block; at 7FFFFFFF the CA has to be renewed."));
    }
    Ok(next)
}

fn act(stage: &Stage<'_>, watch: &mut Stopwatch<'_>) -> Result<Rehearsal> {
    let clock = watch.clock;
    let until = clock.now().plus(VALID);
    let (written, writing_ms) = watch.time(|| stage.write());
    written?;
    let (cert, signing_ms) = watch.time(|| stage.sign(until, clock));
    let cert = cert?;
    let options = check_options(stage.options, clock);
    let signed = watch.check(|| stage.read_signed(&cert, &options))?;
    let (revoked, revoking_ms) = watch.time(|| stage.revoke(&signed, clock));
    revoked?;
    let revoked = watch.check(|| stage.read_revoked(&signed, &options))?;
    let summary = stage.source.summary();
    Ok(Rehearsal {
        certname: stage.options.certname.clone(),
        serial: cert.serial,
        certificates: summary.certificates,
        revocations: summary.revocations,
        crl_number: revoked.summary().crl_number,
        writing_ms,
        signing_ms,
        revoking_ms,
        checking_ms: watch.checking,
    })
}

/// Takes the time of each step.
struct Stopwatch<'c> {
    clock: &'c dyn Clock,
    /// Milliseconds so far.
    checking: u64,
}

impl Stopwatch<'_> {
    fn time<T>(&self, act: impl FnOnce() -> T) -> (T, u64) {
        let begun = self.clock.monotonic();
        let done = act();
        let took = self.clock.monotonic().saturating_sub(begun);
        (done, u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
    }

    fn check<T>(&mut self, check: impl FnOnce() -> T) -> T {
        let (checked, took) = self.time(check);
        self.checking = self.checking.saturating_add(took);
        checked
    }
}
