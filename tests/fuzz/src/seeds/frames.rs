//! Conversations.

use pefo_core::digest_cache::FileTime;
use pefo_core::generation::DataSet;
use pefo_core::reign::Role;
use pefo_core::{Digest, RelPath, Result};
use pefo_transport::frame::compression::Compressor;
use pefo_transport::frame::{self, Frame};
use pefo_transport::message::{
    AckSet, AcksQuery, AnswerHead, AnswerQuery, Ask, Capabilities, FileHead, Hello, Need, Offer,
    Protocols, Published, Purpose, Refuse, Shape, Wanted, Welcome,
};
use pefo_transport::tree::entry::{self, FileNode, Node};
use pefo_transport::tree::message::{
    Commit, Committed, Differs, EntriesHead, Open, Opened, Scope, Summary,
};

use super::documents::{self, text};
use super::{Seed, seed};
use crate::world::World;

pub(super) fn seeds() -> Result<Vec<Seed>> {
    let world = World::new();
    let (full, batch) = (documents::full(&world)?, documents::batch(&world)?);
    let greeting = greeting(&world)?;
    let bytes = |frames: &[Frame]| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for frame in greeting.iter().chain(frames) {
            frame::encode(frame, &mut bytes)?;
        }
        Ok(bytes)
    };
    let offer = |form, document: &[u8], files, payload_bytes| {
        Frame::Offer(Offer {
            dataset: DataSet::Ca,
            position: full.position(),
            form,
            document_bytes: document.len() as u64,
            files,
            payload_bytes,
        })
    };
    let published = |already| {
        Frame::Published(Published {
            position: full.position(),
            already,
        })
    };
    let document = documents::signed(&world, "manifest", Some("ca"), &full)?;
    let mut wanted = Wanted::none(3);
    wanted.want(0);
    wanted.want(2);
    let mut all = wanted.clone();
    all.want(1);
    let (data, file) = (
        |bytes: &[u8]| Frame::Data(bytes.to_vec()),
        |index, size| Frame::File(FileHead { index, size }),
    );
    let (first, second) = document.split_at(100);
    let full_push = [
        offer(Shape::Full, &document, 3, full.stored_bytes()),
        data(first),
        data(second),
        Frame::Need(Need::Files(wanted)),
        file(0, 5),
        data(b"01"),
        data(b"234"),
        file(2, 0),
        Frame::Publish,
        published(false),
        Frame::Bye,
    ];
    let already = [
        offer(Shape::Full, &document, 3, full.stored_bytes()),
        data(&document),
        Frame::Need(Need::Already),
        Frame::Bye,
    ];
    let document = documents::signed(&world, "manifest", Some("ca"), &batch)?;
    let payload = documents::PAYLOAD;
    let batch_push = [
        offer(Shape::Batch, &document, 0, payload.len() as u64),
        data(&document),
        data(payload),
        Frame::Publish,
        published(true),
        Frame::Bye,
    ];
    let ack = documents::signed(&world, "ack", Some("ca"), &documents::ack(&world)?)?;
    let heartbeat = documents::signed(&world, "heartbeat", None, &documents::heartbeat(&world)?)?;
    let asking = [
        Frame::Acks(AcksQuery {
            datasets: vec![DataSet::Ca, DataSet::Database("pe-rbac".into())],
        }),
        Frame::AckSet(AckSet {
            documents: [(DataSet::Ca, text(ack))].into(),
        }),
        Frame::Heartbeat(heartbeat),
        Frame::Ok,
        Frame::Bye,
    ];
    let hello = br#"{"protocol":{"min":2,"max":3},"tool":"pefo \u001b[2J 9.9"}"#;
    let another_protocol = [&[hello.len() as u8, 0, 0, 0, 1, 0, 0, 0], &hello[..]].concat();
    let refused = [Frame::Refuse(Refuse {
        kind: "refused".into(),
        rule: Some("split-reign".into()),
        message: "two holders \u{1b}[2J".into(),
        hint: None,
    })];
    let asked_push = [
        offer(Shape::Full, &document, 3, 1 << 20),
        data(&document),
        Frame::Ask(Ask {
            index: 0,
            from: 0,
            signature_bytes: 60,
        }),
        data(&[7; 60]),
        Frame::Ask(Ask {
            index: 1,
            from: 3,
            signature_bytes: 0,
        }),
        Frame::Need(Need::Files(all)),
        Frame::Delta(FileHead { index: 0, size: 99 }),
        data(b"a delta"),
        Frame::End,
        file(1, 2),
        data(b"st"),
        Frame::Skip(2),
        Frame::Abandon,
        Frame::Ok,
        Frame::Ping,
        Frame::Ok,
        Frame::Bye,
    ];
    let request = documents::signed(&world, "request", None, &documents::request(&world)?)?;
    let answer = documents::signed(&world, "answer", Some("ca"), &documents::answer(&world)?)?;
    let reign = documents::signed(&world, "reign", None, &documents::reign(&world))?;
    let requests = [
        Frame::Request(request),
        Frame::Ok,
        Frame::AnswerQuery(AnswerQuery {
            nonce: documents::request(&world)?.nonce,
        }),
        Frame::Answer(AnswerHead {
            bytes: answer.len() as u64,
        }),
        data(&answer),
        Frame::Notice(reign),
        Frame::Ok,
        Frame::Bye,
    ];
    let dull = [b'x'; 5000];
    let mut compressed = bytes(&[offer(Shape::Full, &dull, 0, 0)])?;
    frame::encode_compressed(&dull, &mut Compressor::new(3), &mut compressed)?;
    // A zstd frame (RFC 8878) of 64 blocks that each repeat a byte 131,072 times: 8 MiB.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 128, 0, 0, 0, 0, 0];
    bomb.extend_from_slice(&[2, 0, 16, b'x'].repeat(63));
    bomb.extend_from_slice(&[3, 0, 16, b'x']);
    let mut announced = bytes(&[offer(Shape::Full, &dull, 0, 0)])?;
    announced.extend_from_slice(&(bomb.len() as u32).to_le_bytes());
    announced.extend_from_slice(&[17, 1, 0, 0]);
    announced.extend_from_slice(&bomb);
    Ok(vec![
        seed("frame", "compressed-bomb", announced),
        seed("frame", "asked-push", bytes(&asked_push)?),
        seed("frame", "requests", bytes(&requests)?),
        seed("frame", "compressed", compressed),
        seed("frame", "tree", tree()?),
        seed("frame", "full-push", bytes(&full_push)?),
        seed("frame", "already", bytes(&already)?),
        seed("frame", "batch-push", bytes(&batch_push)?),
        seed("frame", "acks-and-heartbeat", bytes(&asking)?),
        seed("frame", "refused", bytes(&refused)?),
        seed("frame", "longest-header", [0, 0, 16, 0, 17, 0, 0, 0, 1]),
        seed("frame", "too-long", [1, 0, 16, 0, 17, 0, 0, 0, 1]),
        seed("frame", "unknown-type", [0, 0, 0, 0, 35, 0, 0, 0]),
        seed("frame", "flag", [1, 0, 0, 0, 17, 1, 0, 0, 1]),
        seed("frame", "another-protocol", another_protocol),
    ])
}

fn greeting(world: &World) -> Result<[Frame; 2]> {
    let reign = text(documents::signed(
        world,
        "reign",
        None,
        &documents::reign(world),
    )?);
    Ok([
        Frame::Hello(Hello {
            protocol: Protocols::OURS,
            tool: "pefo test".into(),
            site: world.site.clone(),
            certname: world.active.clone(),
            role: Role::Active,
            purpose: Purpose::of(&DataSet::Ca),
            reign: reign.clone(),
            capabilities: [&Capabilities::OURS.words()[..], &["new".into()]].concat(),
        }),
        Frame::Welcome(Welcome {
            protocol: 1,
            tool: "pefo test".into(),
            site: world.site.clone(),
            certname: world.passive.clone(),
            role: Role::Passive,
            reign,
            capabilities: Capabilities::OURS.words(),
            time: None,
        }),
    ])
}

/// A session about a tree: a comparison, what differs, and then a hint.
fn tree() -> Result<Vec<u8>> {
    let (mut list, mut hint) = (Vec::new(), Vec::new());
    let node = Node::File(FileNode {
        mode: 0o644,
        mtime: FileTime {
            seconds: 1_763_800_000,
            nanoseconds: 5,
        },
        size: 5,
        digest: Digest::of(b"01234"),
    });
    entry::write(
        &RelPath::new("dir")?,
        Some(&Node::Directory { mode: 0o750 }),
        &mut list,
    );
    entry::write(&RelPath::new("dir/file")?, Some(&node), &mut list);
    entry::write(&RelPath::new("gone")?, None, &mut hint);
    entry::write(&RelPath::new("new")?, Some(&node), &mut hint);
    let head = |scope, eager, bytes: &[u8]| {
        Frame::Entries(EntriesHead {
            scope,
            entries: 2,
            bytes: bytes.len() as u64,
            eager,
        })
    };
    let mut wanted = Wanted::none(2);
    wanted.want(1);
    let words = Capabilities::TREE.words();
    let said = [
        Frame::Open(Open {
            protocol: Protocols::OURS,
            tool: "pefo test".into(),
            capabilities: words.clone(),
        }),
        Frame::Opened(Opened {
            protocol: 1,
            tool: "pefo test".into(),
            capabilities: words,
        }),
        Frame::Summary(Summary {
            entries: 2,
            bucket_bits: 1,
            buckets: vec![[1; Summary::DIGEST_BYTES], [2; Summary::DIGEST_BYTES]],
        }),
        Frame::Differs(Differs::buckets(1, [1])),
        head(Scope::Buckets, false, &list),
        Frame::Data(list.clone()),
        Frame::Ask(Ask {
            index: 1,
            from: 0,
            signature_bytes: 52,
        }),
        Frame::Data(vec![7; 52]),
        Frame::Need(Need::Files(wanted)),
        Frame::Delta(FileHead { index: 1, size: 5 }),
        Frame::Data(b"a delta".to_vec()),
        Frame::End,
        Frame::Commit(Commit { delete: true }),
        Frame::Committed(Committed {
            written: 1,
            guard: Some("mass-delete".into()),
            ..Committed::default()
        }),
        head(Scope::Paths, true, &hint),
        Frame::Data(hint.clone()),
        Frame::File(FileHead { index: 1, size: 5 }),
        Frame::Data(b"01234".to_vec()),
        Frame::Commit(Commit { delete: false }),
        Frame::Committed(Committed::default()),
        Frame::Bye,
    ];
    let mut bytes = Vec::new();
    for frame in &said {
        frame::encode(frame, &mut bytes)?;
    }
    Ok(bytes)
}
