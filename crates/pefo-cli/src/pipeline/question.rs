//! What the active asks of a peer's root, and the wait for its answer.

use std::time::Duration;

use pefo_core::keys::{random_bytes, system_random};
use pefo_core::pairing::Introduction;
use pefo_core::request::{Answer, Nonce, Outcome, Request, Subject};
use pefo_core::{Error, ErrorKind, Result};
use pefo_transport::{Connection, Purpose};

use super::session;
use crate::host::Host;

/// How often it is looked whether the peer's root has answered.
const LOOK: Duration = Duration::from_millis(50);

/// A question, signed, and the line to the peer on which it is put.
pub struct Question<'a> {
    host: &'a Host,
    peer: &'a Introduction,
    request: Request,
    document: Vec<u8>,
    connection: Connection,
}

impl<'a> Question<'a> {
    /// Opens the line; nothing is asked yet.
    ///
    /// # Errors
    /// What the session says.
    pub fn open(host: &'a Host, peer: &'a Introduction, subject: Subject) -> Result<Self> {
        let (me, key) = (host.introduction()?, host.signing_key()?);
        let (_, reign) = host.station()?;
        let request = Request {
            format: 1,
            site: me.site.clone(),
            certname: me.certname.clone(),
            epoch: reign.epoch,
            holder: key.public().id(),
            nonce: Nonce::from_random(random_bytes(&system_random())?),
            time: host.clock.now(),
            subject,
        };
        Ok(Self {
            document: request.sign(&key)?,
            connection: session::connect(host, &me, peer, &Purpose::ask())?,
            host,
            peer,
            request,
        })
    }

    /// Names it.
    pub fn nonce(&self) -> &Nonce {
        &self.request.nonce
    }

    /// Hands it over.
    ///
    /// # Errors
    /// What the session says: it may have been handed over all the same.
    pub fn put(&mut self) -> Result<()> {
        self.connection.request(&self.document)
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// `Unreachable` where it does not come in time, or the line is cut; what the peer's root refused, by the rule
    /// it names.
    pub fn answer(mut self, timeout: Duration) -> Result<Outcome> {
        let clock = &self.host.clock;
        let begun = clock.monotonic();
        let answer = loop {
            if let Some(bytes) = self.connection.answer(&self.request.nonce)? {
                let keys = std::slice::from_ref(&self.peer.signing);
                break Answer::check(&bytes, &self.request, &self.document, keys)?;
            }
            if clock.monotonic().saturating_sub(begun) >= timeout {
                let message = format!("its root has not answered within {} s", timeout.as_secs());
                return Err(Error::new(ErrorKind::Unreachable, message)
                    .hint("requests are answered by 'pefo ca watch' or 'pefo run' there, or at the end of the next 'pefo apply'"));
            }
            clock.wait(LOOK);
        };
        drop(self.connection.close());
        match answer.outcome {
            Outcome::Refused {
                rule,
                message,
                hint,
            } => {
                let error = Error::refused(rule, message);
                Err(match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                })
            }
            outcome => Ok(outcome),
        }
    }
}

/// Asks, and waits for the answer.
///
/// # Errors
/// As [`Question::open`], [`Question::put`] and [`Question::answer`].
pub fn ask(
    host: &Host,
    peer: &Introduction,
    subject: Subject,
    timeout: Duration,
) -> Result<Outcome> {
    let mut question = Question::open(host, peer, subject)?;
    question.put()?;
    question.answer(timeout)
}

/// The peer's root answered what was not asked.
pub fn other_answer() -> Error {
    Error::new(ErrorKind::Protocol, "its root answered something else")
        .hint("upgrade pefo on the older of the two masters")
}
