//! A generation that not every peer has got is kept, and offered again before a new one is made.
//!
//! What is sealed is other bytes each time it is sealed. A transfer that was cut can only go on with the
//! bytes it began with, and a long one over a bad line would otherwise never end.

use std::path::PathBuf;

use pefo_core::generation::outgoing::{Sent, drop_kept};
use pefo_core::generation::{DataSet, Outgoing, Position};
use pefo_core::keys::PublicKey;
use pefo_core::reign::Reign;
use pefo_core::{Digest, Result, record};
use serde::{Deserialize, Serialize};

use crate::host::Host;

/// What is known of the kept generation besides itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// Version of this record's schema: 1.
    format: u32,
    /// Which generation it is about.
    position: Position,
    /// What it means, as [`Collected::meaning`](super::push::Collected::meaning).
    meaning: Digest,
}

/// Where one data set's generation is kept.
pub struct Kept<'a> {
    host: &'a Host,
    dataset: &'a DataSet,
}

impl<'a> Kept<'a> {
    /// Of this data set; nothing is read yet.
    pub fn of(host: &'a Host, dataset: &'a DataSet) -> Self {
        Self { host, dataset }
    }

    fn dir(&self) -> PathBuf {
        self.host.state("outgoing").join(self.dataset.dir_name())
    }

    fn note(&self) -> PathBuf {
        self.host.record_path("outgoing", self.dataset)
    }

    /// Keeps a generation that is about to be sent, in the place of an older one, where making it anew
    /// would give other bytes. That it cannot be kept is no reason not to send it.
    pub fn keep(&self, outgoing: &Outgoing, meaning: Digest) {
        let kept = if outgoing.is_worth_keeping() {
            let note = Note {
                format: 1,
                position: outgoing.position(),
                meaning,
            };
            self.host
                .store_json(&self.note(), &note, 0o600)
                .and_then(|()| outgoing.keep(&self.host.disk, &self.dir()))
        } else {
            // An older one is overtaken.
            self.remove()
        };
        if let Err(error) = kept {
            tracing::warn!(%error, dataset = %self.dataset, "a push that is cut cannot be taken up");
            self.clear();
        }
    }

    /// What is kept, and what it means; `None` where nothing is that may still be sent: it is of another
    /// reign, not the last one given out, or damaged.
    pub fn load(
        &self,
        me: PublicKey,
        reign: &Reign,
        last: Option<&Sent>,
    ) -> Option<(Outgoing, Digest)> {
        let site = &reign.site;
        let found = Outgoing::kept(&self.dir(), site, self.dataset, &[me]).and_then(|outgoing| {
            let note: Option<Note> = record::load(&self.note())?;
            Ok(outgoing.zip(note))
        });
        let (outgoing, note) = match found {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(%error, dataset = %self.dataset, "what was kept cannot be used");
                self.clear();
                return None;
            }
        };
        let position = outgoing.position();
        let current = note.position == position
            && last.is_some_and(|last| last.position == position)
            && outgoing.manifest.epoch == reign.epoch
            && outgoing.manifest.holder == reign.holder;
        if !current {
            self.clear();
            return None;
        }
        Some((outgoing, note.meaning))
    }

    /// Keeps nothing any more: every peer has it, or it is of no use.
    pub fn clear(&self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, dataset = %self.dataset, "what was kept stays");
        }
    }

    fn remove(&self) -> Result<()> {
        drop_kept(&self.host.disk, &self.dir())?;
        self.host.disk.remove_file(&self.note())
    }
}
