//! What was kept of an earlier run is delivered before anything newer is made.

use std::collections::BTreeMap;

use pefo_core::generation::Outgoing;
use pefo_core::generation::outgoing::Sent;
use pefo_core::pairing::Introduction;
use pefo_core::progress::Silent;
use pefo_core::{Certname, Digest, Error, Result};
use pefo_transport::Purpose;

use super::Push;
use crate::pipeline::kept::Kept;
use crate::pipeline::session::connect;

/// How offering a kept generation again went.
#[derive(Default)]
pub(super) struct TakenUp {
    /// Who has it now.
    pub(super) sent: Vec<Certname>,
    /// Who could not be served, and has to have it before anything newer: there it goes on where it was
    /// cut.
    pub(super) behind: BTreeMap<Certname, Error>,
}

impl TakenUp {
    /// Whether nothing was kept, or nobody lacked it.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.behind.is_empty()
    }
}

impl Push<'_> {
    /// Offers what was kept to those that lack it.
    pub(super) fn take_up(&self, peers: &[Introduction]) -> Result<TakenUp> {
        let kept = Kept::of(self.host, self.dataset);
        let last = Sent::load(&self.host.record_path("sent", self.dataset))?;
        let Some((outgoing, meaning)) = kept.load(self.key.public(), &self.reign, last.as_ref())
        else {
            return Ok(TakenUp::default());
        };
        let mut taken_up = TakenUp::default();
        for peer in peers {
            let name = peer.certname.clone();
            match self.offer_again(peer, &outgoing, meaning) {
                Ok(true) => taken_up.sent.push(name),
                Ok(false) => {}
                Err(error) if error.is_retryable() => {
                    let error = error.context(&name);
                    taken_up.behind.insert(name, error);
                }
                // It is of no use to this peer; what it says to a new one is what counts.
                Err(error) => {
                    tracing::warn!(%error, peer = %peer.certname, "what was kept is not wanted");
                }
            }
        }
        if taken_up.behind.is_empty() {
            kept.clear();
        }
        Ok(taken_up)
    }

    /// Tells whether the peer lacked it.
    fn offer_again(
        &self,
        peer: &Introduction,
        outgoing: &Outgoing,
        meaning: Digest,
    ) -> Result<bool> {
        let position = outgoing.position();
        let delivered = self.host.delivered(&peer.certname, self.dataset)?;
        if delivered.is_some_and(|delivered| delivered.position >= position) {
            return Ok(false);
        }
        let mut connection = connect(self.host, &self.me, peer, &Purpose::of(self.dataset))?;
        let ack =
            crate::pipeline::ack::fetch(self.host, &self.me, peer, self.dataset, &mut connection)?;
        let accepted = ack.and_then(|ack| ack.accepted);
        let lacks = accepted.is_none_or(|accepted| accepted < position);
        if lacks {
            connection.push(outgoing, &Silent)?;
            self.host
                .note_delivered(&peer.certname, self.dataset, position, meaning)?;
        }
        connection.close().map(|()| lacks)
    }
}
