//! What keeps this host from doing its part: fenced, changing its role, paused, something begun and not ended.

use pefo_core::Result;
use pefo_core::reign::Station;

use crate::host::Host;
use crate::outcome::Health;
use crate::reigns;
use crate::reigns::pause::{self, Paused};

/// What keeps this host from doing its part.
#[derive(Debug)]
#[non_exhaustive]
pub struct Standing {
    /// Another reign has ended this host's, or claims its epoch.
    pub fenced: Option<String>,
    /// Its role is changing.
    pub changing: Option<String>,
    /// What was begun and is not ended.
    pub unfinished: Vec<String>,
    /// It rests by the operator's word.
    pub paused: Option<Paused>,
}

/// What there is of it.
///
/// # Errors
/// `Io`, or `Invalid` where a record is malformed.
pub(super) fn of(host: &Host, station: &Station) -> Result<Standing> {
    let in_force = host.require(station.role).err();
    let said = in_force.map(|error| match error.hint_text() {
        Some(hint) => format!("{error}: {hint}"),
        None => error.to_string(),
    });
    let (fenced, changing) = match station.changing {
        Some(_) => (None, said),
        None => (said, None),
    };
    Ok(Standing {
        fenced,
        changing,
        unfinished: reigns::unfinished(host)?,
        paused: pause::paused(host)?,
    })
}

impl Standing {
    /// How bad that is.
    pub fn health(&self) -> Health {
        if self.fenced.is_some() || self.changing.is_some() {
            Health::Critical
        } else if self.paused.is_some() || !self.unfinished.is_empty() {
            Health::Warning
        } else {
            Health::Ok
        }
    }

    /// For people, a line each, the worst first.
    pub fn lines(&self) -> Vec<String> {
        let paused = self.paused.as_ref().map(|paused| {
            let reason = paused.reason.as_ref();
            let reason = reason
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            format!(
                "paused since {}{reason}: 'pefo resume' lets it go on",
                paused.since
            )
        });
        let fenced = self.fenced.as_ref().map(|why| format!("FENCED: {why}"));
        let all = [fenced, self.changing.clone(), paused];
        let all = all.into_iter().flatten();
        all.chain(self.unfinished.iter().cloned()).collect()
    }
}
