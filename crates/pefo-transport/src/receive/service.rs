//! One session's loop: a request, the work, the answer.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use pefo_core::ack::Ack;
use pefo_core::clock::Clock;
use pefo_core::disk::{Attributes, Disk, read_capped};
use pefo_core::generation::spool::{self, Form};
use pefo_core::generation::{Content, DataSet, Manifest};
use pefo_core::heartbeat::Heartbeat;
use pefo_core::request::Nonce;
use pefo_core::{Error, ErrorKind, Result};

use super::room::{Offered, Room, ack_path};
use super::{ReceiverOptions, Served, gate, requests, space};
use crate::frame::{DATA_BYTES, Frame, MAX_PAYLOAD_BYTES};
use crate::message::{
    AckSet, AcksQuery, AnswerHead, Capabilities, Hello, Need, Offer, Protocols, Published, Refuse,
    Shape, Welcome,
};
use crate::session::{Session, Side};
use crate::wire::{self, Duplex, FrameTime, Wire};

pub(super) struct Service<'a> {
    wire: Wire<'a, Duplex<'a>>,
    session: Session,
    options: &'a ReceiverOptions,
    disk: &'a Disk,
    rooms: BTreeMap<DataSet, Room<'a>>,
    /// Bytes of all generations here, once they were counted.
    used_bytes: Option<u64>,
    served: Served,
}

impl<'a> Service<'a> {
    pub(super) fn new(
        input: &'a mut dyn Read,
        output: &'a mut dyn Write,
        options: &'a ReceiverOptions,
        disk: &'a Disk,
        clock: &'a dyn Clock,
    ) -> Self {
        let frame_time = FrameTime {
            clock,
            limit: options.limits.frame_time,
        };
        Self {
            wire: Wire::new(Duplex { input, output }, Some(frame_time)),
            session: Session::new(),
            options,
            disk,
            rooms: BTreeMap::new(),
            used_bytes: None,
            served: Served::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Served> {
        match self.converse() {
            Ok(()) => Ok(self.served),
            Err(error) => {
                tracing::warn!(%error, "session refused");
                // A peer that is gone cannot be told, and that is no news.
                let told = self
                    .wire
                    .queue(&Frame::Refuse(Refuse::of(&error)))
                    .and_then(|()| self.wire.flush());
                drop(told);
                Err(error)
            }
        }
    }

    fn converse(&mut self) -> Result<()> {
        self.wire.flush()?;
        self.wire.meet()?;
        match self.next()? {
            Some(Frame::Hello(hello)) => self.greet(hello)?,
            _ => return Err(wire::cut("before it was introduced")),
        }
        loop {
            match self.next()? {
                None => return Ok(()),
                Some(Frame::Bye) => {
                    self.served.goodbye = true;
                    return Ok(());
                }
                Some(Frame::Offer(offer)) => self.offered(&offer)?,
                Some(Frame::Acks(query)) => self.acks(&query)?,
                Some(Frame::Heartbeat(document)) => self.heartbeat(&document)?,
                Some(Frame::Ping) => self.say(&Frame::Ok)?,
                Some(Frame::Request(document)) => {
                    requests::take(self.options, self.disk, &document)?;
                    self.served.requests += 1;
                    self.say(&Frame::Ok)?;
                }
                Some(Frame::AnswerQuery(query)) => self.answer(&query.nonce)?,
                Some(Frame::Notice(record)) => {
                    requests::notice(self.options, self.disk, &record)?;
                    self.say(&Frame::Ok)?;
                }
                Some(other) => return Err(out_of_turn(&other)),
            }
        }
    }

    fn next(&mut self) -> Result<Option<Frame>> {
        let frame = self.wire.receive()?;
        if let Some(frame) = &frame {
            self.session.step(Side::Sender, frame)?;
        }
        Ok(frame)
    }

    fn within(&mut self) -> Result<Frame> {
        self.next()?
            .ok_or_else(|| wire::cut("in the middle of a generation"))
    }

    fn say(&mut self, frame: &Frame) -> Result<()> {
        self.session.step(Side::Receiver, frame)?;
        self.wire.queue(frame)?;
        self.wire.flush()
    }

    fn greet(&mut self, hello: Hello) -> Result<()> {
        let stand = gate::greet(self.options, self.disk, &hello)?;
        let protocol = Protocols::OURS.common(hello.protocol);
        let welcome = Welcome {
            protocol: protocol.unwrap_or(Protocols::OURS.max),
            tool: self.options.tool.clone(),
            site: self.options.site.clone(),
            certname: self.options.certname.clone(),
            role: stand.station.role,
            reign: stand.station.current,
            capabilities: Capabilities::OURS.words(),
        };
        self.served.peer = Some(hello.certname);
        self.served.purpose = Some(hello.purpose);
        let agreed = Capabilities::OURS.agree(&hello.capabilities);
        self.say(&Frame::Welcome(welcome))?;
        self.session.agree(agreed);
        self.wire.agree(agreed, 0);
        Ok(())
    }

    fn room(&mut self, dataset: &DataSet) -> Result<&Room<'a>> {
        use std::collections::btree_map::Entry;
        Ok(match self.rooms.entry(dataset.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Room::open(self.options, self.disk, dataset)?),
        })
    }

    fn offered(&mut self, offer: &Offer) -> Result<()> {
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
            Shape::Batch => self.take_batch(offer, &manifest, &document),
        };
        if let Err(error) = taken {
            self.room(&offer.dataset)?.abandon(offer.position);
            return Err(error.context(format!("{} {}", offer.dataset, offer.position)));
        }
        if let Some(used) = &mut self.used_bytes {
            *used = used.saturating_add(offer.payload_bytes);
        }
        self.served
            .published
            .push((offer.dataset.clone(), offer.position));
        // The generation stands: that old ones stay too is no reason to say otherwise.
        if let Err(error) = self.room(&offer.dataset)?.retire(ack.as_ref()) {
            tracing::warn!(%error, dataset = %offer.dataset, "old generations stay");
        }
        self.say(&Frame::Published(Published {
            position: offer.position,
            already: false,
        }))
    }

    /// The signed manifest; memory grows with what arrives, not with what was announced.
    fn document(&mut self, bytes: u64) -> Result<Vec<u8>> {
        let mut document = Vec::new();
        while self.session.awaits_document() {
            match self.within()? {
                Frame::Data(bytes) => document.extend_from_slice(&bytes),
                other => return Err(out_of_turn(&other)),
            }
        }
        debug_assert_eq!(document.len() as u64, bytes);
        Ok(document)
    }

    fn already(&mut self, offer: &Offer) -> Result<()> {
        self.served.already += 1;
        if offer.form == Shape::Full {
            return self.say(&Frame::Need(Need::Already));
        }
        // A batch is sent in one go with its Publish; hear it out.
        loop {
            match self.within()? {
                Frame::Data(_) => {}
                Frame::Publish => {
                    return self.say(&Frame::Published(Published {
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
        let wanted = self
            .room(&offer.dataset)?
            .begin_full(manifest, document, reuse)?;
        let entries = || {
            (0_u32..)
                .zip(&manifest.files)
                .filter(|(index, _)| wanted.contains(*index))
        };
        let bytes = entries().map(|(_, entry)| entry.size).sum();
        self.check_space(bytes, offer.files.into())?;
        self.say(&Frame::Need(Need::Files(wanted.clone())))?;
        for (index, entry) in entries() {
            match self.within()? {
                Frame::File(head) if head.index == index && head.size == entry.size => {}
                Frame::File(head) => {
                    return Err(Error::new(
                        ErrorKind::Protocol,
                        format!(
                            "{} was announced with {} bytes, its manifest says {}",
                            entry.path, head.size, entry.size
                        ),
                    ));
                }
                other => return Err(out_of_turn(&other)),
            }
            let mut file = self.room(&offer.dataset)?.file(offer.position, entry)?;
            let mut left = entry.size;
            while left > 0 {
                match self.within()? {
                    Frame::Data(bytes) => {
                        file.write(&bytes)?;
                        left = left.saturating_sub(bytes.len() as u64);
                    }
                    other => return Err(out_of_turn(&other)),
                }
            }
            file.finish(entry.path.as_str(), entry.size, &entry.blake3, false)?;
        }
        self.expect_publish()?;
        self.room(&offer.dataset)?.settle_full(offer.position)?;
        self.show(offer, manifest, Form::Full)
    }

    fn take_batch(&mut self, offer: &Offer, manifest: &Manifest, document: &[u8]) -> Result<()> {
        let Content::Batch {
            payload,
            payload_size,
            ..
        } = &manifest.content
        else {
            return Err(Error::new(
                ErrorKind::Protocol,
                "a batch was offered, a full generation came",
            ));
        };
        self.check_space(payload_size.saturating_add(offer.document_bytes), 1)?;
        let mut file = self.room(&offer.dataset)?.batch(offer.position, document)?;
        let mut left = *payload_size;
        while left > 0 {
            match self.within()? {
                Frame::Data(bytes) => {
                    file.write(&bytes)?;
                    left = left.saturating_sub(bytes.len() as u64);
                }
                other => return Err(out_of_turn(&other)),
            }
        }
        file.finish("the payload", *payload_size, payload, true)?;
        self.expect_publish()?;
        self.show(offer, manifest, Form::Batch)
    }

    fn expect_publish(&mut self) -> Result<()> {
        match self.within()? {
            Frame::Publish => Ok(()),
            other => Err(out_of_turn(&other)),
        }
    }

    /// Asks once more who reigns, as late as can be, then shows the generation.
    fn show(&mut self, offer: &Offer, manifest: &Manifest, form: Form) -> Result<()> {
        let reign = gate::admit(self.options)?;
        reign.admit(manifest.epoch, &manifest.holder)?;
        self.room(&offer.dataset)?.show(offer.position, form)
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

    fn acks(&mut self, query: &AcksQuery) -> Result<()> {
        let mut documents = BTreeMap::new();
        let mut bytes = 0;
        for dataset in &query.datasets {
            let path = ack_path(&self.options.acks, dataset);
            let document = match read_capped(&path, Ack::MAX_BYTES) {
                Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => continue,
                other => other?,
            };
            let document = String::from_utf8(document).map_err(|error| {
                Error::invalid(format!("{} is not text", path.display())).with_source(error)
            })?;
            bytes += document.len();
            documents.insert(dataset.clone(), document);
        }
        // Half for what JSON adds; a real ack has some hundred bytes.
        if bytes > MAX_PAYLOAD_BYTES / 2 {
            return Err(Error::refused(
                "ack-set",
                "these acks are too long for one answer",
            ));
        }
        self.say(&Frame::AckSet(AckSet { documents }))
    }

    fn answer(&mut self, nonce: &Nonce) -> Result<()> {
        let document = requests::answer(self.options, nonce)?;
        self.say(&Frame::Answer(AnswerHead {
            bytes: document.len() as u64,
        }))?;
        document
            .chunks(DATA_BYTES)
            .try_for_each(|chunk| self.say(&Frame::Data(chunk.to_vec())))
    }

    fn heartbeat(&mut self, document: &[u8]) -> Result<()> {
        let reign = gate::admit(self.options)?;
        if document.len() as u64 > Heartbeat::MAX_BYTES {
            return Err(Error::invalid("the heartbeat is too long"));
        }
        let heartbeat = Heartbeat::check(document, &self.options.site, &self.options.keys)?;
        reign.admit(heartbeat.epoch, &heartbeat.holder)?;
        let path = spool::heartbeat_path(&self.options.spool, &heartbeat.certname);
        if let Some(parent) = path.parent() {
            self.disk.create_dir(parent, &Attributes::mode(0o700))?;
        }
        self.disk
            .publish(&path, document, &Attributes::mode(0o600))?;
        self.served.heartbeats += 1;
        self.say(&Frame::Ok)
    }
}

fn out_of_turn(frame: &Frame) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("a {} frame came out of turn", frame.name()),
    )
}
