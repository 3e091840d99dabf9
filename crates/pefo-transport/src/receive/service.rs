//! One session's loop: a request, the work, the answer.

mod take;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use pefo_core::ack::Ack;
use pefo_core::clock::Clock;
use pefo_core::disk::{Attributes, Disk, read_capped};
use pefo_core::generation::{DataSet, spool};
use pefo_core::heartbeat::Heartbeat;
use pefo_core::request::Nonce;
use pefo_core::{Digest, Error, ErrorKind, Result};

use super::claim::Claimant;
use super::room::{Room, ack_path};
use super::talk::Talk;
use super::{ReceiverOptions, Served, Succession, gate, requests};
use crate::exchange::{Turn as _, out_of_turn, say_data};
use crate::frame::{Frame, MAX_PAYLOAD_BYTES};
use crate::message::{AckSet, AcksQuery, AnswerHead, Capabilities, Hello, Protocols, Welcome};
use crate::wire::{self, Duplex, FrameTime};

pub(super) struct Service<'a> {
    talk: Talk<'a>,
    options: &'a ReceiverOptions,
    disk: &'a Disk,
    clock: &'a dyn Clock,
    claimant: Option<Claimant>,
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
            talk: Talk::new(Duplex { input, output }, frame_time),
            options,
            disk,
            clock,
            claimant: None,
            rooms: BTreeMap::new(),
            used_bytes: None,
            served: Served::default(),
        }
    }

    /// Serves the session to its end; what it has done before an error is done.
    pub(super) fn run(mut self) -> (Served, Result<()>) {
        let ended = self.converse().map_err(|error| {
            let error = self.superseded(error);
            tracing::warn!(%error, "session refused");
            self.talk.refuse(&error);
            error
        });
        (self.served, ended)
    }

    /// A line that was given up for a newer session's sake.
    fn superseded(&self, error: Error) -> Error {
        let succession = self.options.succession.as_ref();
        if !succession.is_some_and(Succession::was_superseded) {
            return error;
        }
        Error::new(
            ErrorKind::Locked,
            "a newer session of the same master has taken this one's place",
        )
        .with_source(error)
    }

    fn converse(&mut self) -> Result<()> {
        self.talk.meet()?;
        match self.talk.next()? {
            Some(Frame::Hello(hello)) => self.greet(hello)?,
            _ => return Err(wire::cut("before it was introduced")),
        }
        loop {
            match self.talk.next()? {
                None => return Ok(()),
                Some(Frame::Bye) => {
                    self.served.goodbye = true;
                    return Ok(());
                }
                Some(Frame::Offer(offer)) => self.offered(&offer)?,
                Some(Frame::Acks(query)) => self.acks(&query)?,
                Some(Frame::Heartbeat(document)) => self.heartbeat(&document)?,
                Some(Frame::Ping) => self.talk.say_now(&Frame::Ok)?,
                Some(Frame::Request(document)) => {
                    requests::take(self.options, self.disk, &document)?;
                    self.served.requests += 1;
                    self.talk.say_now(&Frame::Ok)?;
                }
                Some(Frame::AnswerQuery(query)) => self.answer(&query.nonce)?,
                Some(Frame::Notice(record)) => {
                    requests::notice(self.options, self.disk, &record)?;
                    self.talk.say_now(&Frame::Ok)?;
                }
                Some(other) => return Err(out_of_turn(&other)),
            }
        }
    }

    fn greet(&mut self, hello: Hello) -> Result<()> {
        let (stand, key) = gate::greet(self.options, self.disk, &hello)?;
        let protocol = Protocols::OURS.common(hello.protocol);
        let welcome = Welcome {
            protocol: protocol.unwrap_or(Protocols::OURS.max),
            tool: self.options.tool.clone(),
            site: self.options.site.clone(),
            certname: self.options.certname.clone(),
            role: stand.station.role,
            reign: stand.station.current,
            capabilities: Capabilities::OURS.words(),
            time: Some(self.clock.now()),
        };
        let ReceiverOptions {
            secret, succession, ..
        } = self.options;
        if let (Some(secret), Some(succession), Some(key)) = (secret, succession, key) {
            let id = blake3::derive_key("pefo receiver session id v1", secret);
            self.claimant = Some(Claimant {
                succession: succession.clone(),
                id: Digest::from_bytes(id).short(),
                certname: hello.certname.clone(),
                purpose: hello.purpose.clone(),
                key,
            });
        }
        self.served.peer = Some(hello.certname);
        self.served.purpose = Some(hello.purpose);
        let agreed = Capabilities::OURS.agree(&hello.capabilities);
        self.talk.say_now(&Frame::Welcome(welcome))?;
        self.talk.agree(agreed);
        Ok(())
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
        self.talk.say_now(&Frame::AckSet(AckSet { documents }))
    }

    fn answer(&mut self, nonce: &Nonce) -> Result<()> {
        let document = requests::answer(self.options, nonce)?;
        self.talk.say(&Frame::Answer(AnswerHead {
            bytes: document.len() as u64,
        }))?;
        // The rest of it goes before the next request is heard.
        say_data(&mut self.talk, &document)
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
        self.talk.say_now(&Frame::Ok)
    }
}
