//! Batches of the test's own making, signed with a key it has: the active's, or a stranger's.

use std::collections::BTreeMap;

use pefo_core::Digest;
use pefo_core::clock::{Clock as _, SystemClock};
use pefo_core::disk::Disk;
use pefo_core::document::{self, Domain, Kind};
use pefo_core::generation::outgoing::{Author, Description};
use pefo_core::generation::spool::join_batch;
use pefo_core::generation::{DataSet, Manifest, Outgoing, Position, Step};
use pefo_core::keys::SigningKey;
use pefo_core::pairing::Introduction;
use pefo_core::reign::{Epoch, Reign, Station};
use pefo_core::{RelPath, record};
use serde_json::{Value, json};

use super::{accepted, spooled};
use crate::pair::Pair;
use crate::spool::as_transfer;

/// Writes batches in A's name.
pub(super) struct Forger {
    me: Introduction,
    key: SigningKey,
    /// What B has accepted: where and which state.
    pub(super) position: Position,
    state: Digest,
}

impl Forger {
    /// As A, going on from what B has accepted.
    pub(super) fn of(pair: &Pair) -> Self {
        let state = pair.a.state();
        let last = accepted(&pair.b);
        Self {
            me: record::load(&state.join("public/self.json"))
                .unwrap()
                .unwrap(),
            key: SigningKey::load(&state.join("keys/signing.key")).unwrap(),
            position: last.position,
            state: last.state,
        }
    }

    /// With another key.
    pub(super) fn signed_by(self, key: SigningKey) -> Self {
        Self { key, ..self }
    }

    /// The position after what B has accepted.
    pub(super) fn next(&self) -> Position {
        Position {
            sequence: self.position.sequence + 1,
            ..self.position
        }
    }

    /// A batch's file that puts these files, right after what B has accepted.
    pub(super) fn batch(&self, puts: &[(&str, &[u8])]) -> Vec<u8> {
        let step = |(path, bytes): &(&str, &[u8])| Step::Put {
            path: RelPath::new(path).unwrap(),
            mode: 0o644,
            size: bytes.len() as u64,
            blake3: Digest::of(bytes),
        };
        let steps = puts.iter().map(step).collect();
        let payload = puts.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        let manifest = self.manifest(steps, payload);
        self.sign(&serde_json::to_value(&manifest.0).unwrap(), &manifest.1)
    }

    /// A batch with these steps and that payload, whatever they say.
    pub(super) fn raw(&self, steps: Value, payload: &[u8]) -> Vec<u8> {
        let (manifest, _) = self.manifest(Vec::new(), Vec::new());
        let mut manifest = serde_json::to_value(&manifest).unwrap();
        let batch = &mut manifest["content"]["batch"];
        batch["payload"] = json!(Digest::of(payload));
        batch["payload_size"] = json!(payload.len());
        batch["steps"] = steps;
        self.sign(&manifest, payload)
    }

    /// As [`Forger::raw`], with a payload that is only announced.
    pub(super) fn announced(&self, steps: Value, payload_size: u64) -> Vec<u8> {
        let (manifest, _) = self.manifest(Vec::new(), Vec::new());
        let mut manifest = serde_json::to_value(&manifest).unwrap();
        let batch = &mut manifest["content"]["batch"];
        batch["payload_size"] = json!(payload_size);
        batch["steps"] = steps;
        self.sign(&manifest, b"")
    }

    fn manifest(&self, steps: Vec<Step>, payload: Vec<u8>) -> (Manifest, Vec<u8>) {
        let author = Author {
            site: &self.me.site,
            certname: &self.me.certname,
            key: &self.key,
            epoch: self.position.epoch,
            tool: "pefo test",
        };
        let description = Description {
            products: BTreeMap::new(),
            time: SystemClock.now(),
            summary: json!({}),
        };
        let sequence = self.next().sequence;
        // What a state is called is the sender's business; no two are the same.
        let to = Digest::of(format!("{} {sequence}", self.state).as_bytes());
        let bytes = payload.clone();
        let outgoing = Outgoing::batch(
            author,
            DataSet::Ca,
            sequence,
            (self.state, to),
            steps,
            payload,
            &[],
            description,
        );
        (outgoing.unwrap().manifest, bytes)
    }

    fn sign(&self, manifest: &Value, payload: &[u8]) -> Vec<u8> {
        let domain = Domain {
            kind: Kind::Manifest,
            site: &self.me.site,
            dataset: Some(&DataSet::Ca),
        };
        let document = document::sign(manifest, domain, &self.key).unwrap();
        join_batch(&document, payload)
    }
}

/// Puts a batch into B's spool as the transfer account would.
pub(super) fn plant(pair: &Pair, position: Position, file: &[u8]) {
    let part = pair.b.directory().join("planted");
    std::fs::write(&part, file).unwrap();
    let dir = spooled(&pair.b);
    as_transfer(&format!(
        "cat {part} > {dir}/.pefo-planted.tmp && mv -T {dir}/.pefo-planted.tmp {dir}/{position}.batch",
        part = part.display(),
        dir = dir.display(),
    ));
}

/// Both masters go on in a later reign of A's, as after it was promoted.
pub(super) fn begin_reign(pair: &Pair, epoch: u64) {
    let Forger { me, key, .. } = Forger::of(pair);
    for master in [&pair.a, &pair.b] {
        let path = master.state().join("public/station.json");
        let known = Station::load(&path).unwrap();
        let reign = Reign {
            epoch: Epoch(epoch),
            before: Some(Digest::of(known.current.as_bytes())),
            ..known.reign(&me.site, &[key.public()]).unwrap()
        };
        let domain = Domain {
            kind: Kind::Reign,
            site: &me.site,
            dataset: None,
        };
        let record = document::sign(&reign, domain, &key).unwrap();
        Station::new(known.role, &record, Some(known.current.as_bytes()))
            .unwrap()
            .store(&Disk::new(), &path)
            .unwrap();
    }
}
