//! What the active knows of one peer, and what follows from what the peer says.
//!
//! Nothing is sent here and nothing received: the line asks before it sends, and tells what became of it.

use std::time::Duration;

use pefo_core::ack::Ack;
use pefo_core::clock::Timestamp;
use pefo_core::generation::{DataSet, Position};
use pefo_core::{Certname, Digest, Result};

use super::outbox::Parcel;
use crate::host::{Delivered, Host};
use crate::pipeline::push;

/// A full generation that was sent and is wanted again is sent again after this.
pub const FULL_AGAIN: Duration = Duration::from_secs(60);

/// What is known of a peer.
#[derive(Debug)]
pub struct Known {
    peer: Certname,
    /// The first position that this watch gives out.
    begins: Position,
    /// The state that the peer's spool has.
    has: Option<Digest>,
    /// The last generation that it got.
    sent: Option<Position>,
    /// Whether that is noted on disk.
    is_noted: bool,
    /// The last full one, and when.
    full: Option<(Position, Timestamp)>,
}

/// How a peer goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// By batches.
    Follows,
    /// With a full generation only; why, where the peer said so.
    WantsFull(Option<String>),
}

impl Known {
    /// Nothing yet, of a watch whose first position is `begins`.
    pub fn new(peer: Certname, begins: Position) -> Self {
        Self {
            peer,
            begins,
            has: None,
            sent: None,
            is_noted: true,
            full: None,
        }
    }

    /// The last generation that the peer got.
    pub fn sent(&self) -> Option<Position> {
        self.sent
    }

    /// Whether it is known what the peer's spool has.
    pub fn is_in_step(&self) -> bool {
        self.has.is_some()
    }

    /// Finds out where the peer stands when a watch begins, the source being in `state`.
    ///
    /// # Errors
    /// `Refused` (`source-rolled-back`) where it has accepted what this watch has yet to give out; `Io`.
    pub fn begin(&mut self, host: &Host, state: Digest, ack: Option<Ack>) -> Result<Standing> {
        let accepted = ack.as_ref().and_then(|ack| ack.accepted);
        if let Some(accepted) = accepted.filter(|accepted| *accepted >= self.begins) {
            return Err(push::rolled_back(&self.peer, accepted, self.begins));
        }
        let delivered = host.delivered(&self.peer, &DataSet::Ca)?;
        let delivered = delivered.filter(|it| it.position.epoch == self.begins.epoch);
        let noted = delivered.as_ref().map(|delivered| delivered.position);
        // A watch that was killed may not have noted the last that it sent.
        self.sent = noted.max(accepted);
        let wish = ack.as_ref().and_then(|ack| ack.reconcile.clone());
        let has = match delivered {
            // It lies in the peer's spool.
            Some(Delivered {
                position, state, ..
            }) if Some(position) > accepted => Some(state),
            // What the peer says itself: what seeded it, for one, is more than what it is compared with.
            _ => ack.and_then(|ack| ack.source_state),
        };
        if wish.is_some() || has != Some(state) {
            return Ok(Standing::WantsFull(wish));
        }
        self.has = has;
        self.is_noted = self.sent == noted;
        Ok(Standing::Follows)
    }

    /// Whether a generation goes on from what the peer has.
    pub fn can_take(&self, parcel: &Parcel) -> bool {
        parcel.from.is_none() || parcel.from == self.has
    }

    /// The peer's receiver has said that it has it.
    pub fn took(&mut self, parcel: &Parcel, now: Timestamp) {
        let position = parcel.outgoing.position();
        self.has = Some(parcel.to);
        self.sent = Some(position);
        self.is_noted = false;
        if parcel.from.is_none() {
            self.full = Some((position, now));
        }
    }

    /// The line broke: what the peer got of the last is not known.
    pub fn lost(&mut self) {
        self.has = None;
    }

    /// Notes what the peer has received, where that is new: for the next start, and for `pefo status`.
    ///
    /// # Errors
    /// `Io`.
    pub fn note(&mut self, host: &Host) -> Result<()> {
        let (Some(position), Some(state), false) = (self.sent, self.has, self.is_noted) else {
            return Ok(());
        };
        host.note_delivered(&self.peer, &DataSet::Ca, position, state)?;
        self.is_noted = true;
        Ok(())
    }

    /// What the peer has made of what it got.
    ///
    /// # Errors
    /// `Refused` (`source-rolled-back`) where it has accepted what this watch never sent.
    pub fn hear(&self, ack: Ack, now: Timestamp) -> Result<Standing> {
        // What stands below where it began is of a watch before this one, which may have been killed before
        // it noted what it sent.
        if let Some(accepted) = ack.accepted.filter(|accepted| *accepted >= self.begins)
            && self.sent.is_none_or(|sent| accepted > sent)
        {
            let sent = self.sent.unwrap_or(self.begins);
            return Err(push::rolled_back(&self.peer, accepted, sent));
        }
        let is_under_way = self.full.is_some_and(|(full, at)| {
            ack.accepted.is_none_or(|accepted| accepted < full) && now.since(at) < FULL_AGAIN
        });
        match ack.reconcile {
            Some(why) if !is_under_way => Ok(Standing::WantsFull(Some(why))),
            _ => Ok(Standing::Follows),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pefo_core::generation::outgoing::{Author, Description};
    use pefo_core::generation::{Outgoing, Site};
    use pefo_core::keys::{SigningKey, system_random};
    use pefo_core::reign::Epoch;
    use serde_json::json;

    use super::*;

    fn name(certname: &str) -> Certname {
        Certname::new(certname).unwrap()
    }

    fn site() -> Site {
        Site::new("0123456789abcdef0123456789abcdef").unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_350_600 + seconds).unwrap()
    }

    fn position(sequence: u64) -> Position {
        Position {
            epoch: Epoch(1),
            sequence,
        }
    }

    fn state(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// From one state to the next, or the next as a whole.
    fn parcel(sequence: u64, from: Option<&str>, to: &str) -> Parcel {
        let key = SigningKey::ephemeral(&system_random()).unwrap();
        let author = Author {
            site: &site(),
            certname: &name("a.lab"),
            key: &key,
            epoch: Epoch(1),
            tool: "pefo test",
        };
        let description = Description {
            products: BTreeMap::new(),
            time: at(0),
            summary: json!({}),
        };
        let outgoing = match from {
            Some(from) => Outgoing::batch(
                author,
                DataSet::Ca,
                sequence,
                (state(from), state(to)),
                Vec::new(),
                Vec::new(),
                &[],
                description,
            ),
            None => Outgoing::full(author, DataSet::Ca, sequence, Vec::new(), description),
        };
        Parcel {
            outgoing: outgoing.unwrap(),
            from: from.map(state),
            to: state(to),
        }
    }

    fn ack(accepted: u64, reconcile: Option<&str>) -> Ack {
        Ack {
            format: 1,
            site: site(),
            certname: name("b.lab"),
            dataset: DataSet::Ca,
            accepted: Some(position(accepted)),
            applied: None,
            source_state: None,
            reconcile: reconcile.map(str::to_owned),
            refused: Vec::new(),
            heartbeat: None,
            time: at(0),
        }
    }

    #[test]
    fn a_batch_goes_only_to_a_peer_that_has_what_it_starts_from() {
        let mut known = Known::new(name("b.lab"), position(10));
        assert!(!known.can_take(&parcel(10, Some("0"), "1")));
        let full = parcel(10, None, "1");
        assert!(known.can_take(&full));
        known.took(&full, at(0));
        assert!(known.can_take(&parcel(11, Some("1"), "2")));
        assert!(!known.can_take(&parcel(12, Some("2"), "3")));
        known.lost();
        assert!(!known.can_take(&parcel(11, Some("1"), "2")));
        assert!(!known.is_in_step());
    }

    #[test]
    fn a_full_generation_on_its_way_is_not_sent_again_at_once() {
        let wants = |known: &Known, seconds| {
            let standing = known.hear(ack(9, Some("a gap")), at(seconds)).unwrap();
            standing == Standing::WantsFull(Some("a gap".to_owned()))
        };
        let mut known = Known::new(name("b.lab"), position(10));
        assert!(wants(&known, 0));
        known.took(&parcel(10, None, "1"), at(0));
        assert!(!wants(&known, 59));
        assert!(wants(&known, 60));
    }

    #[test]
    fn a_peer_that_has_accepted_what_was_never_sent_ends_it() {
        let mut known = Known::new(name("b.lab"), position(10));
        // Of a watch before this one.
        known.hear(ack(9, None), at(0)).unwrap();
        let error = known.hear(ack(10, None), at(0)).unwrap_err();
        assert_eq!(error.rule(), Some("source-rolled-back"));
        known.took(&parcel(10, None, "1"), at(0));
        known.hear(ack(10, None), at(0)).unwrap();
        let error = known.hear(ack(11, None), at(0)).unwrap_err();
        assert_eq!(error.rule(), Some("source-rolled-back"));
    }
}
