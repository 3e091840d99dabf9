//! Documents of each kind, with every field in use.

use std::collections::BTreeMap;

use pefo_core::ack::Ack;
use pefo_core::digest::{Digest, StateHash};
use pefo_core::generation::{
    Content, DataSet, FileEntry, Manifest, Position, Step, manifest::Manifest as Schema, spool,
};
use pefo_core::heartbeat::Heartbeat;
use pefo_core::pairing::Introduction;
use pefo_core::reign::{Epoch, Reign, Role};
use pefo_core::request::{Answer, Items, Nonce, Outcome, Request, Subject, Switchover};
use pefo_core::{Error, RelPath, Result};

use super::{Seed, seed};
use crate::spec;
use crate::world::World;

/// The payload of [`batch`].
pub(super) const PAYLOAD: &[u8] = b"0006row\ndelta";

pub(super) fn seeds() -> Result<Vec<Seed>> {
    let world = World::new();
    let (full, batch) = (full(&world)?, batch(&world)?);
    let database = Manifest {
        dataset: DataSet::Database("pe rbac".into()),
        files: vec![],
        content: Content::Full {
            state: StateHash::default().digest(),
        },
        summary: serde_json::json!([{"rows": 1.5e300, "deep": [[[]]], "none": null}]),
        ..full.clone()
    };
    let reign = Reign {
        before: Some(Digest::of(b"the reign before")),
        ..reign(&world)
    };
    let signed = |kind, dataset, value: &dyn Json| signed(&world, kind, dataset, value);
    let introduction = introduction(&world)?;
    let switchover = Request {
        subject: Subject::Switchover(Switchover::Prepare {
            heads: heartbeat(&world)?.heads,
        }),
        ..request(&world)?
    };
    let file = spool::join_batch(&batch.json()?, PAYLOAD);
    Ok(vec![
        seed("manifest", "full", full.json()?),
        seed("manifest", "batch", batch.json()?),
        seed("manifest", "database", database.json()?),
        seed("batch", "every-step", file),
        seed(
            "document",
            "manifest",
            signed("manifest", Some("ca"), &full)?,
        ),
        seed("document", "reign", signed("reign", None, &reign)?),
        seed("document", "ack", signed("ack", Some("ca"), &ack(&world)?)?),
        seed(
            "document",
            "heartbeat",
            signed("heartbeat", None, &heartbeat(&world)?)?,
        ),
        seed(
            "document",
            "request",
            signed("request", None, &request(&world)?)?,
        ),
        seed(
            "document",
            "switchover",
            signed("request", None, &switchover)?,
        ),
        seed(
            "document",
            "answer",
            signed("answer", Some("ca"), &answer(&world)?)?,
        ),
        seed("pairing", "line", introduction.line()?),
        seed("pairing", "json", introduction.json()?),
    ])
}

/// What is written as JSON.
pub(super) trait Json {
    fn json(&self) -> Result<Vec<u8>>;
}

macro_rules! json {
    ($($type:ty),*) => {$(
        impl Json for $type {
            fn json(&self) -> Result<Vec<u8>> {
                serde_json::to_vec(self).map_err(|error| Error::invalid(error.to_string()))
            }
        }
    )*};
}
json!(Schema, Reign, Ack, Heartbeat, Request, Answer, Introduction);

pub(super) fn signed(
    world: &World,
    kind: &str,
    dataset: Option<&str>,
    value: &dyn Json,
) -> Result<Vec<u8>> {
    Ok(spec::document(world, kind, dataset, &value.json()?))
}

/// A document as the text it is.
pub(super) fn text(document: Vec<u8>) -> String {
    String::from_utf8_lossy(&document).into_owned()
}

fn position(sequence: u64) -> Position {
    Position {
        epoch: Epoch(1),
        sequence,
    }
}

fn entry(path: &str, bytes: &[u8], sealed: bool) -> Result<FileEntry> {
    Ok(FileEntry {
        path: RelPath::new(path)?,
        size: bytes.len() as u64,
        mode: 0o640,
        blake3: Digest::of(bytes),
        sealed,
        unpacked_size: None,
    })
}

pub(super) fn full(world: &World) -> Result<Manifest> {
    let files = vec![
        entry("ca_crt.pem", b"01234", false)?,
        entry("ca_key.pem", b"sealed", true)?,
        entry("signed/a.lab.pem", b"", false)?,
    ];
    Ok(Manifest {
        format: 1,
        site: world.site.clone(),
        dataset: DataSet::Ca,
        epoch: Epoch(1),
        holder: world.key.public().id(),
        sequence: 7,
        source: world.active.clone(),
        tool: "pefo test".into(),
        products: BTreeMap::from([("puppetserver".into(), "8.7.0".into())]),
        time: world.now,
        content: Content::Full {
            state: Digest::of(b"state"),
        },
        files,
        summary: serde_json::json!({"certs": 3, "serial": "0x0007", "crl": 2}),
    })
}

pub(super) fn batch(world: &World) -> Result<Manifest> {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let steps = vec![
        Step::Put {
            path: RelPath::new("serial")?,
            mode: 0o644,
            size: 4,
            blake3: digest("0006"),
        },
        Step::Append {
            path: RelPath::new("inventory.txt")?,
            at: 4,
            prefix: digest("one\n"),
            size: 4,
            blake3: digest("one\nrow\n"),
        },
        Step::Delta {
            path: RelPath::new("ca_crl.pem")?,
            mode: 0o644,
            base: digest("old"),
            size: 5,
            blake3: digest("new"),
        },
        Step::Delete {
            path: RelPath::new("requests/n.pem")?,
            reason: "signed".into(),
        },
    ];
    Ok(Manifest {
        content: Content::Batch {
            from: digest("from"),
            to: digest("to"),
            sealed: false,
            payload: Digest::of(PAYLOAD),
            payload_size: PAYLOAD.len() as u64,
            steps,
        },
        files: vec![],
        ..full(world)?
    })
}

pub(super) fn reign(world: &World) -> Reign {
    Reign {
        format: 1,
        site: world.site.clone(),
        epoch: Epoch(1),
        holder: world.key.public().id(),
        certname: world.active.clone(),
        since: world.now,
        before: None,
    }
}

pub(super) fn ack(world: &World) -> Result<Ack> {
    Ok(Ack {
        format: 1,
        site: world.site.clone(),
        certname: world.passive.clone(),
        dataset: DataSet::Ca,
        accepted: Some(position(7)),
        applied: Some(position(6)),
        source_state: Some(Digest::of(b"state")),
        reconcile: Some("batch-gap".into()),
        refused: vec!["crl-rollback".into()],
        heartbeat: Some(world.now),
        time: world.now,
    })
}

pub(super) fn heartbeat(world: &World) -> Result<Heartbeat> {
    let datasets = [DataSet::Ca, DataSet::Database("pe-rbac".into())];
    Ok(Heartbeat {
        format: 1,
        site: world.site.clone(),
        certname: world.active.clone(),
        epoch: Epoch(1),
        holder: world.key.public().id(),
        heads: datasets.into_iter().zip((6..).map(position)).collect(),
        time: world.now,
    })
}

/// The request that [`answer`] answers.
pub(crate) fn request(world: &World) -> Result<Request> {
    Ok(Request {
        format: 1,
        site: world.site.clone(),
        certname: world.active.clone(),
        epoch: Epoch(1),
        holder: world.key.public().id(),
        nonce: Nonce::new("00112233445566778899aabbccddeeff")?,
        time: world.now,
        subject: Subject::Verify {
            dataset: DataSet::Ca,
        },
    })
}

pub(super) fn answer(world: &World) -> Result<Answer> {
    let request = request(world)?;
    let document = request.sign(&world.key)?;
    let items = [("ca_crt.pem", "01234"), ("d/\"quoted\"", "")];
    let items =
        items.map(|(path, content)| Ok((RelPath::new(path)?, Digest::of(content.as_bytes()))));
    let outcome = Outcome::Items(Items::of(
        DataSet::Ca,
        position(7),
        Digest::of(b"state"),
        items.into_iter().collect::<Result<_>>()?,
    ));
    let certname = world.passive.clone();
    Ok(Answer::to(
        &request, &document, certname, world.now, outcome,
    ))
}

fn introduction(world: &World) -> Result<Introduction> {
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    Ok(Introduction {
        format: 1,
        site: world.site.clone(),
        certname: world.passive.clone(),
        role: Role::Passive,
        signing: world.key.public(),
        sealing: recipient.parse()?,
        ssh_key: "ssh-ed25519 AAAAC3Nza pefo@b".into(),
        host_keys: vec![
            "ssh-ed25519 AAAAC3NzaC1".into(),
            "ecdsa-sha2-nistp256 AAAAE2Vj".into(),
        ],
        host: "b.lab".into(),
        port: 22,
        user: "pe-transfer".into(),
        ca_fingerprint: Some("0A:1B:2C".into()),
        reign: Some(text(signed(world, "reign", None, &reign(world))?)),
    })
}
