//! Generations: offered, taken, shown.

use std::collections::btree_map::Entry;

use pefo_core::ack::Ack;
use pefo_core::generation::{Content, DataSet, Manifest};
use pefo_core::{Error, ErrorKind, Result};

use super::Service;
use crate::exchange::{self, Turn as _, Want, abandoned, out_of_turn};
use crate::frame::Frame;
use crate::message::{Need, Offer, Published, Shape};
use crate::receive::intake::Terms;
use crate::receive::room::{Offered, Room};
use crate::receive::{gate, space};

impl<'a> Service<'a> {
    fn room(&mut self, dataset: &DataSet) -> Result<&Room<'a>> {
        Ok(match self.rooms.entry(dataset.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Room::open(
                self.options,
                self.disk,
                self.clock,
                dataset,
                self.claimant.as_ref(),
            )?),
        })
    }

    pub(super) fn offered(&mut self, offer: &Offer) -> Result<()> {
        let reign = gate::admit(self.options)?;
        let ack = self.room(&offer.dataset)?.ack();
        let document = self.document(offer.document_bytes)?;
        let manifest = gate::check(self.options, &reign, offer, &document)?;
        let room = self.room(&offer.dataset)?;
        if let Offered::Already = room.offered(offer.position, &document, ack.as_ref())? {
            return self.already(offer);
        }
        let taken = match offer.form {
            Shape::Full => self.take_full(offer, &manifest, &document, ack.as_ref()),
            Shape::Batch if offer.is_asked(self.talk.agreed()) => {
                self.take_long_batch(offer, &manifest, &document)
            }
            Shape::Batch => self.take_batch(offer, &manifest, &document),
        };
        match taken {
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                // The sender takes it back: so does the spool, and the session goes on.
                self.room(&offer.dataset)?.abandon(offer.position, false);
                self.served.abandoned += 1;
                return self.talk.say_now(&Frame::Ok);
            }
            Err(error) => {
                let keep = can_be_taken_up(&error);
                self.room(&offer.dataset)?.abandon(offer.position, keep);
                return Err(error.context(format!("{} {}", offer.dataset, offer.position)));
            }
            Ok(()) => {}
        }
        if let Some(used) = &mut self.used_bytes {
            *used = used.saturating_add(offer.payload_bytes);
        }
        self.served
            .published
            .push((offer.dataset.clone(), offer.position));
        // The generation stands: that old ones stay too is no reason to say otherwise.
        let room = self.room(&offer.dataset)?;
        if let Err(error) = room
            .remove_partials(Some(offer.position))
            .and_then(|()| room.retire(ack.as_ref(), offer.form))
        {
            tracing::warn!(%error, dataset = %offer.dataset, "old generations stay");
        }
        self.talk.say_now(&Frame::Published(Published {
            position: offer.position,
            already: false,
        }))
    }

    /// The signed manifest; memory grows with what arrives, not with what was announced.
    fn document(&mut self, bytes: u64) -> Result<Vec<u8>> {
        let mut document = Vec::new();
        while self.talk.awaits_document() {
            match self.talk.hear()? {
                Frame::Data(bytes) => document.extend_from_slice(&bytes),
                other => return Err(out_of_turn(&other)),
            }
        }
        debug_assert_eq!(document.len() as u64, bytes);
        Ok(document)
    }

    fn already(&mut self, offer: &Offer) -> Result<()> {
        self.served.already += 1;
        if offer.form == Shape::Full || offer.is_asked(self.talk.agreed()) {
            return self.talk.say_now(&Frame::Need(Need::Already));
        }
        // A short batch is sent in one go with its Publish; hear it out.
        loop {
            match self.talk.hear()? {
                Frame::Data(_) => {}
                Frame::Publish => {
                    return self.talk.say_now(&Frame::Published(Published {
                        position: offer.position,
                        already: true,
                    }));
                }
                other => return Err(out_of_turn(&other)),
            }
        }
    }

    fn take_full(
        &mut self,
        offer: &Offer,
        manifest: &Manifest,
        document: &[u8],
        ack: Option<&Ack>,
    ) -> Result<()> {
        // When root asks for a reconcile, something here may not be what its manifest says.
        let reuse = ack.is_none_or(|ack| ack.reconcile.is_none());
        let terms = Terms {
            ask: self.talk.agreed().ask,
            secret: self.options.secret,
        };
        let room = self.room(&offer.dataset)?;
        let mut intake = room.begin_full(manifest, document, reuse, terms)?;
        self.check_space(intake.bytes_to_come(), offer.files.into())?;
        let wants = intake.wants().to_vec();
        exchange::ask(&mut self.talk, offer.files, &wants, &mut intake)?;
        let indices = wants.iter().map(|(index, _)| *index);
        exchange::take(&mut self.talk, indices, &mut intake)?;
        let partial = intake.settle()?;
        self.expect_publish()?;
        self.admit_once_more(manifest)?;
        self.room(&offer.dataset)?
            .show_full(offer.position, &partial)
    }

    fn take_long_batch(
        &mut self,
        offer: &Offer,
        manifest: &Manifest,
        document: &[u8],
    ) -> Result<()> {
        let payload = payload_of(manifest)?;
        let room = self.room(&offer.dataset)?;
        let mut payload = room.begin_batch(offer.position, document, payload)?;
        let bytes = payload.bytes_to_come().saturating_add(offer.document_bytes);
        self.check_space(bytes, 1)?;
        let wants: [(u32, Want); 1] = [(0, payload.want())];
        exchange::ask(&mut self.talk, 1, &wants, &mut payload)?;
        exchange::take(&mut self.talk, [0], &mut payload)?;
        self.expect_publish()?;
        self.admit_once_more(manifest)?;
        self.room(&offer.dataset)?.show_batch(offer.position, true)
    }

    fn take_batch(&mut self, offer: &Offer, manifest: &Manifest, document: &[u8]) -> Result<()> {
        let payload = payload_of(manifest)?;
        let bytes = payload.0.saturating_add(offer.document_bytes);
        if self.check_space(bytes, 1).is_err() {
            // What was begun of another generation can be missed; this one cannot.
            self.room(&offer.dataset)?.remove_partials(None)?;
            self.check_space(bytes, 1)?;
        }
        let mut file = self.room(&offer.dataset)?.batch(offer.position, document)?;
        let mut left = payload.0;
        while left > 0 {
            match self.talk.hear()? {
                Frame::Data(bytes) => {
                    file.write(&bytes)?;
                    left = left.saturating_sub(bytes.len() as u64);
                }
                other => return Err(out_of_turn(&other)),
            }
        }
        file.finish(payload)?;
        self.expect_publish()?;
        self.admit_once_more(manifest)?;
        self.room(&offer.dataset)?.show_batch(offer.position, false)
    }

    fn expect_publish(&mut self) -> Result<()> {
        match self.talk.hear()? {
            Frame::Publish => Ok(()),
            Frame::Abandon => Err(abandoned()),
            other => Err(out_of_turn(&other)),
        }
    }

    /// Asks once more who reigns, as late as can be before a generation is shown.
    fn admit_once_more(&self, manifest: &Manifest) -> Result<()> {
        gate::admit(self.options)?.admit(manifest.epoch, &manifest.holder)
    }

    fn check_space(&mut self, bytes: u64, files: u64) -> Result<()> {
        let limits = &self.options.limits;
        space::check_free(&self.options.spool, bytes, files, limits)?;
        if limits.quota_bytes == u64::MAX {
            return Ok(());
        }
        // Counting takes a walk over the spool: once a session, and once more before saying no.
        if let Some(used) = self.used_bytes
            && space::check_quota(used, bytes, limits).is_ok()
        {
            return Ok(());
        }
        let used = space::used_bytes(&self.options.spool.join("generations"))?;
        self.used_bytes = Some(used);
        space::check_quota(used, bytes, limits)
    }
}

/// Length and digest of a batch's payload.
fn payload_of(manifest: &Manifest) -> Result<(u64, pefo_core::Digest)> {
    match &manifest.content {
        Content::Batch {
            payload,
            payload_size,
            ..
        } => Ok((*payload_size, *payload)),
        Content::Full { .. } => Err(Error::new(
            ErrorKind::Protocol,
            "a batch was offered, a full generation came",
        )),
    }
}

/// Whether what was begun is of use to the next session: the line was cut, or there was no room yet. What
/// a sender got wrong is not kept, nor what fills a disk.
fn can_be_taken_up(error: &Error) -> bool {
    error.is_retryable() || error.rule() == Some("spool-full")
}
