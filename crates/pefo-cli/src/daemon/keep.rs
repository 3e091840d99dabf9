//! A part that ends is begun again: soon, then later each time, and at once where this host's role has changed.

use std::time::Duration;

use pefo_core::{Error, ErrorKind};

use super::{Heart, Part, record};
use crate::host::Host;
use crate::pipeline::watch::{Beat as _, ROUND, standing};

const SOON: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60);
/// What has gone on for this long begins again as if it never had failed.
const LONG: Duration = Duration::from_secs(300);

/// Runs it until stop is said.
pub(super) fn alive(host: &Host, heart: &Heart, part: &Part) {
    let (mut wait, mut told) = (SOON, None);
    while !heart.stop().is_cancelled() {
        let began = (host.clock.now(), host.clock.monotonic());
        let stands = standing(host);
        let error = match (part.run)(host, heart) {
            Err(error) if error.kind() == ErrorKind::Cancelled => return,
            Err(error) => error,
            Ok(()) => Error::new(ErrorKind::Io, "it has ended unforeseen"),
        };
        tracing::error!(%error, part = part.command, "begun again in a while");
        let now = host.clock.monotonic();
        if now.saturating_sub(began.1) >= LONG {
            (wait, told) = (SOON, None);
        }
        let reason = error.to_string();
        if told.as_ref() != Some(&reason) {
            record(host, part.command, part.dataset.clone(), began.0, &error);
            told = Some(reason);
        }
        let until = now + wait;
        wait = LATEST.min(2 * wait);
        while host.clock.monotonic() < until && stands == standing(host) {
            // It is alive, and has come round: it waits.
            let beat = part.pulse.map(|pulse| heart.pulse(pulse).beat());
            if beat.unwrap_or_else(|| heart.stop().check()).is_err() {
                return;
            }
            host.clock.wait(ROUND);
        }
    }
}
