use std::collections::BTreeMap;

use pefo_core::Certname;
use pefo_core::generation::{DataSet, Position, Site};
use pefo_core::reign::{Epoch, Role};
use proptest::prelude::*;

use super::*;
use crate::message::{Purpose, Shape, Wanted};

fn position() -> impl Strategy<Value = Position> {
    (0_u64..1000, 0_u64..1_000_000).prop_map(|(epoch, sequence)| Position {
        epoch: Epoch(epoch),
        sequence,
    })
}

fn dataset() -> impl Strategy<Value = DataSet> {
    prop_oneof![
        Just(DataSet::Ca),
        Just(DataSet::Classifier),
        Just(DataSet::Files),
        Just(DataSet::Code),
        "\\PC{1,15}".prop_map(DataSet::Database),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Active), Just(Role::Passive)]
}

pub(super) fn site() -> Site {
    Site::new("0123456789abcdef0123456789abcdef").unwrap()
}

fn certname() -> impl Strategy<Value = Certname> {
    "[a-z][a-z0-9.-]{0,8}x".prop_filter_map("certname", |name| Certname::new(name).ok())
}

/// Every frame of the protocol's base.
pub(super) fn frame() -> impl Strategy<Value = Frame> {
    let hello =
        (certname(), role(), "\\PC{0,20}", any::<u16>()).prop_map(|(certname, role, text, max)| {
            Frame::Hello(Hello {
                protocol: Protocols {
                    min: 1,
                    max: max.max(1),
                },
                tool: text.clone(),
                site: site(),
                certname,
                role,
                purpose: Purpose::acks(),
                reign: text.clone(),
                capabilities: vec![text],
            })
        });
    let welcome = (certname(), role(), "\\PC{0,20}", any::<u16>()).prop_map(
        |(certname, role, text, protocol)| {
            Frame::Welcome(Welcome {
                protocol,
                tool: text.clone(),
                site: site(),
                certname,
                role,
                reign: text,
                capabilities: vec![],
                time: None,
            })
        },
    );
    let refuse = ("\\PC{0,20}", prop::option::of("[a-z-]{1,9}")).prop_map(|(message, rule)| {
        Frame::Refuse(Refuse {
            kind: "refused".into(),
            rule,
            hint: Some(message.clone()),
            message,
        })
    });
    let offer = (
        dataset(),
        position(),
        any::<bool>(),
        any::<u64>(),
        any::<u32>(),
        any::<u64>(),
    )
        .prop_map(
            |(dataset, position, full, document_bytes, files, payload_bytes)| {
                Frame::Offer(Offer {
                    dataset,
                    position,
                    form: if full { Shape::Full } else { Shape::Batch },
                    document_bytes,
                    files,
                    payload_bytes,
                })
            },
        );
    prop_oneof![
        hello,
        welcome,
        refuse,
        offer,
        Just(Frame::Bye),
        Just(Frame::Ok),
        Just(Frame::Publish),
        Just(Frame::Need(Need::Already)),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bits| Frame::Need(Need::Files(Wanted::from_bits(bits)))),
        prop::collection::vec(any::<u8>(), 1..300).prop_map(Frame::Data),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Frame::Heartbeat),
        (any::<u32>(), any::<u64>())
            .prop_map(|(index, size)| Frame::File(FileHead { index, size })),
        (position(), any::<bool>())
            .prop_map(|(position, already)| Frame::Published(Published { position, already })),
        prop::collection::vec(dataset(), 0..5)
            .prop_map(|datasets| Frame::Acks(AcksQuery { datasets })),
        prop::collection::btree_map(dataset(), "\\PC{0,30}", 0..4)
            .prop_map(|documents| Frame::AckSet(AckSet { documents })),
    ]
}

pub(super) fn bytes_of(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(frame, &mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn a_frame_reads_back_and_nothing_behind_it_is_taken(frame in frame(), behind in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut bytes = bytes_of(&frame);
        let length = bytes.len();
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(decode(&bytes).unwrap(), Some((frame, length)));
    }

    #[test]
    fn a_cut_frame_asks_for_more(frame in frame(), at in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&frame);
        let cut = bytes.get(..at.index(bytes.len())).unwrap();
        prop_assert_eq!(decode(cut).unwrap(), None);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some((_, used))) = decode(&bytes) {
            prop_assert!((HEADER_BYTES..=bytes.len()).contains(&used));
        }
    }

    #[test]
    fn any_body_of_any_known_type_decodes_or_is_refused(kind in 0_u8..40, body in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend_from_slice(&[kind, 0, 0, 0]);
        bytes.extend_from_slice(&body);
        if let Ok(decoded) = decode(&bytes) {
            let (frame, used) = decoded.unwrap();
            prop_assert_eq!(used, bytes.len());
            prop_assert_eq!(decode(&bytes_of(&frame)).unwrap().unwrap().0, frame);
        }
    }
}

#[test]
fn a_header_alone_tells_what_can_never_become_a_frame() {
    let header = |length: u32, kind, flags, channel: u16| {
        let [a, b, c, d] = length.to_le_bytes();
        let [e, f] = channel.to_le_bytes();
        decode(&[a, b, c, d, kind, flags, e, f])
            .unwrap_err()
            .to_string()
    };
    insta::assert_snapshot!(header(u32::MAX, 17, 0, 0), @"a frame of 4294967295 bytes is longer than 1048576");
    insta::assert_snapshot!(header(1_048_577, 17, 0, 0), @"a frame of 1048577 bytes is longer than 1048576");
    insta::assert_snapshot!(header(1, 99, 0, 0), @"frame type 99 is unknown");
    insta::assert_snapshot!(header(1, 6, 0, 0), @"frame type 6 with flags 0x00 on channel 0 was not agreed");
    insta::assert_snapshot!(header(1, 17, 1, 0), @"frame type 17 with flags 0x01 on channel 0 was not agreed");
    insta::assert_snapshot!(header(1, 17, 0, 2), @"frame type 17 with flags 0x00 on channel 2 was not agreed");
}

#[test]
fn a_frame_over_the_cap_is_not_written() {
    let mut out = b"before".to_vec();
    assert!(encode(&Frame::Data(vec![0; MAX_PAYLOAD_BYTES + 1]), &mut out).is_err());
    assert!(encode(&Frame::Data(vec![]), &mut out).is_err());
    assert_eq!(out, b"before");
}

#[test]
fn a_hello_from_the_future_is_told_its_version_not_that_it_is_malformed() {
    let body = br#"{"protocol":{"min":7,"max":9},"tool":"pefo 9.0.0","everything":"else"}"#;
    let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 0]);
    bytes.extend_from_slice(body);
    let error = Error::from(decode(&bytes).unwrap_err());
    insta::assert_snapshot!(error, @"no common protocol: pefo 9.0.0 speaks 7 to 9, this pefo speaks 1");
    assert_eq!(error.hint_text(), Some("upgrade pefo on this host"));
}

#[test]
fn a_field_of_a_newer_version_is_ignored() {
    let published = br#"{"position":"00000001-000000000001","already":false,"durable_in_ms":12}"#;
    let mut bytes = u32::try_from(published.len())
        .unwrap()
        .to_le_bytes()
        .to_vec();
    bytes.extend_from_slice(&[21, 0, 0, 0]);
    bytes.extend_from_slice(published);
    assert!(matches!(
        decode(&bytes).unwrap(),
        Some((Frame::Published(_), _))
    ));
}

/// The frozen bytes: a change here breaks every older peer.
#[test]
fn the_wire_format_is_as_documented() {
    let position: Position = "00000003-000000000042".parse().unwrap();
    let mut wanted = Wanted::none(10);
    wanted.want(1);
    wanted.want(8);
    let frames = [
        Frame::Hello(Hello {
            protocol: Protocols { min: 1, max: 1 },
            tool: "pefo 0.1.0".into(),
            site: site(),
            certname: Certname::new("a.lab").unwrap(),
            role: Role::Active,
            purpose: Purpose::of(&DataSet::Database("pe-rbac".into())),
            reign: "pefo-document 1 reign\n…".into(),
            capabilities: vec![],
        }),
        Frame::Welcome(Welcome {
            protocol: 1,
            tool: "pefo 0.1.0".into(),
            site: site(),
            certname: Certname::new("b.lab").unwrap(),
            role: Role::Passive,
            reign: "pefo-document 1 reign\n…".into(),
            capabilities: vec![],
            time: None,
        }),
        Frame::Refuse(Refuse {
            kind: "refused".into(),
            rule: Some("split-reign".into()),
            message: "two holders".into(),
            hint: None,
        }),
        Frame::Bye,
        Frame::Ok,
        Frame::Offer(Offer {
            dataset: DataSet::Ca,
            position,
            form: Shape::Full,
            document_bytes: 700,
            files: 10,
            payload_bytes: 1234,
        }),
        Frame::Data(b"DATA".to_vec()),
        Frame::Need(Need::Already),
        Frame::Need(Need::Files(wanted)),
        Frame::File(FileHead {
            index: 8,
            size: 258,
        }),
        Frame::Publish,
        Frame::Published(Published {
            position,
            already: false,
        }),
        Frame::Acks(AcksQuery {
            datasets: vec![DataSet::Ca, DataSet::Database("pe-rbac".into())],
        }),
        Frame::AckSet(AckSet {
            documents: BTreeMap::from([(DataSet::Ca, "pefo-document 1 ack\n…".to_owned())]),
        }),
        Frame::Heartbeat(b"pefo-document 1 heartbeat\n".to_vec()),
    ];
    let shown: Vec<_> = frames
        .iter()
        .map(|frame| format!("{:<9} {}", frame.name(), bytes_of(frame).escape_ascii()))
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}
