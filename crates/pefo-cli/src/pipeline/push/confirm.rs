//! Where nothing can have changed, nothing is collected: each peer is only asked whether it has the last.

use pefo_core::pairing::Introduction;
use pefo_core::{Digest, Result};
use pefo_transport::Purpose;
use serde_json::json;

use super::{Push, heartbeat, nobody_served};
use crate::outcome::Report;
use crate::pipeline::session::connect;

impl Push<'_> {
    /// The report of a push that has nothing to send, where every peer that can be reached has what
    /// `meaning` names; `None` where one has not, and all of it is to be collected.
    ///
    /// # Errors
    /// `Io`; what one peer says is in the report.
    pub(super) fn confirm(
        &self,
        peers: &[Introduction],
        meaning: Digest,
    ) -> Result<Option<Report>> {
        let (mut unchanged, mut errors) = (Vec::new(), Vec::new());
        for peer in peers {
            match self.has(peer, meaning) {
                Ok(true) => unchanged.push(&peer.certname),
                Ok(false) => return Ok(None),
                Err(error) => errors.push(error.context(&peer.certname)),
            }
        }
        let details = json!({ "generation": null, "sent": [], "unchanged": unchanged });
        if unchanged.is_empty() {
            return Ok(Some(nobody_served(details, errors)));
        }
        let text = format!("{}: unchanged; nothing was committed since\n", self.dataset);
        Ok(Some(Report::unchanged(details, text).partial(errors)))
    }

    /// Whether a peer has it and wants nothing else; it then hears that this host is alive.
    fn has(&self, peer: &Introduction, meaning: Digest) -> Result<bool> {
        let mut connection = connect(self.host, &self.me, peer, &Purpose::of(self.dataset))?;
        let ack =
            crate::pipeline::ack::fetch(self.host, &self.me, peer, self.dataset, &mut connection)?;
        let delivered = self.host.delivered(&peer.certname, self.dataset)?;
        let sent = delivered.as_ref().map(|delivered| delivered.position);
        // One that is ahead of what this host sent is for the whole way to refuse.
        let is_ahead = ack.as_ref().is_some_and(|ack| ack.accepted > sent);
        if is_ahead || self.needs(delivered.as_ref(), ack.as_ref(), meaning) {
            return Ok(false);
        }
        connection.heartbeat(&heartbeat(
            self.host,
            &self.me,
            &self.key,
            &self.reign,
            peer,
        )?)?;
        connection.close()?;
        Ok(true)
    }
}
