//! Conversations.

use pefo_core::Result;
use pefo_core::generation::DataSet;
use pefo_core::reign::Role;
use pefo_transport::frame::{self, Frame};
use pefo_transport::message::{
    AckSet, AcksQuery, FileHead, Hello, Need, Offer, Protocols, Published, Purpose, Refuse, Shape,
    Wanted, Welcome,
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
    Ok(vec![
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
            capabilities: vec!["new".into()],
        }),
        Frame::Welcome(Welcome {
            protocol: 1,
            tool: "pefo test".into(),
            site: world.site.clone(),
            certname: world.passive.clone(),
            role: Role::Passive,
            reign,
            capabilities: vec![],
        }),
    ])
}
