//! Frames that a capability opens: whole where it was agreed, nothing where it was not.

use pefo_core::request::Nonce;
use proptest::prelude::*;

use super::tests::{bytes_of, frame, site};
use super::*;
use crate::tree::message::Scope;

/// Everything a build with every feature could agree on, and tree frames too.
const ALL: Capabilities = Capabilities {
    ask: true,
    zstd: true,
    ping: true,
    request: true,
    tree: true,
};

fn agreed() -> impl Strategy<Value = Capabilities> {
    any::<[bool; 5]>().prop_map(|[ask, zstd, ping, request, tree]| Capabilities {
        ask,
        zstd,
        ping,
        request,
        tree,
    })
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("\\PC{0,9}", 0..4)
}

fn of_generations() -> impl Strategy<Value = Frame> {
    prop_oneof![
        Just(Frame::Ping),
        (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(index, from, signature_bytes)| {
            Frame::Ask(Ask {
                index,
                from,
                signature_bytes,
            })
        }),
        (any::<u32>(), any::<u64>())
            .prop_map(|(index, size)| Frame::Delta(FileHead { index, size })),
        Just(Frame::End),
        Just(Frame::Abandon),
        any::<u32>().prop_map(Frame::Skip),
        bytes(300).prop_map(Frame::Request),
        any::<[u8; 16]>().prop_map(|bytes| {
            Frame::AnswerQuery(AnswerQuery {
                nonce: Nonce::from_random(bytes),
            })
        }),
        any::<u64>().prop_map(|bytes| Frame::Answer(AnswerHead { bytes })),
        bytes(300).prop_map(Frame::Notice),
    ]
}

fn of_trees() -> impl Strategy<Value = Frame> {
    let open = (any::<u16>(), "\\PC{0,20}", words()).prop_map(|(max, tool, capabilities)| {
        Frame::Open(Open {
            protocol: Protocols {
                min: 1,
                max: max.max(1),
            },
            tool,
            capabilities,
        })
    });
    let opened =
        (any::<u16>(), "\\PC{0,20}", words()).prop_map(|(protocol, tool, capabilities)| {
            Frame::Opened(Opened {
                protocol,
                tool,
                capabilities,
            })
        });
    let summary = (any::<u64>(), 0_u8..5, any::<[u8; 16]>()).prop_map(|(entries, bits, one)| {
        Frame::Summary(Summary {
            entries,
            bucket_bits: bits,
            buckets: vec![one; 1 << bits],
        })
    });
    let entries = (any::<bool>(), any::<u32>(), any::<u64>(), any::<bool>()).prop_map(
        |(paths, entries, bytes, eager)| {
            Frame::Entries(EntriesHead {
                scope: if paths { Scope::Paths } else { Scope::Buckets },
                entries,
                bytes,
                eager,
            })
        },
    );
    let committed =
        (any::<[u64; 6]>(), prop::option::of("\\PC{0,20}")).prop_map(|(counts, guard)| {
            let [written, copied, adjusted, deleted, skipped, held] = counts;
            Frame::Committed(Committed {
                written,
                copied,
                adjusted,
                deleted,
                skipped,
                held,
                guard,
            })
        });
    prop_oneof![
        open,
        opened,
        summary,
        bytes(60).prop_map(|bits| Frame::Differs(Differs::from_bytes(&bits).unwrap())),
        entries,
        any::<bool>().prop_map(|delete| Frame::Commit(Commit { delete })),
        committed,
    ]
}

fn opened_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![of_generations(), of_trees()]
}

/// Whether what opens this frame is among `agreed`, by the table of docs/wire.md.
fn is_opened(frame: &Frame, agreed: Capabilities) -> bool {
    match frame {
        Frame::Ping => agreed.ping,
        Frame::Ask(_) | Frame::Delta(_) | Frame::End | Frame::Abandon | Frame::Skip(_) => {
            agreed.ask
        }
        Frame::Request(_) | Frame::AnswerQuery(_) | Frame::Answer(_) | Frame::Notice(_) => {
            agreed.request
        }
        Frame::Open(_)
        | Frame::Opened(_)
        | Frame::Summary(_)
        | Frame::Differs(_)
        | Frame::Entries(_)
        | Frame::Commit(_)
        | Frame::Committed(_) => agreed.tree,
        _ => true,
    }
}

fn is_not_agreed(decoded: &Result<Option<(Frame, usize)>, FrameError>) -> bool {
    matches!(decoded, Err(FrameError::NotAgreed { .. }))
}

/// A frame's bytes with these flags.
fn flagged(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(&[kind, flags, 0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

proptest! {
    #[test]
    fn an_agreed_frame_reads_back_and_nothing_behind_it_is_taken(frame in opened_frame(), behind in bytes(20)) {
        let mut bytes = bytes_of(&frame);
        let length = bytes.len();
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(decode_agreed(&bytes, ALL).unwrap(), Some((frame, length)));
    }

    #[test]
    fn a_cut_agreed_frame_asks_for_more(frame in opened_frame(), at in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&frame);
        prop_assert_eq!(decode_agreed(&bytes[..at.index(bytes.len())], ALL).unwrap(), None);
    }

    #[test]
    fn nothing_of_a_capability_decodes_where_it_was_not_agreed(frame in opened_frame(), agreed in agreed()) {
        let bytes = bytes_of(&frame);
        let decoded = decode_agreed(&bytes, agreed);
        if is_opened(&frame, agreed) {
            prop_assert_eq!(decoded.unwrap(), Some((frame, bytes.len())));
        } else {
            prop_assert!(is_not_agreed(&decoded));
            // Its header alone is enough to say no.
            prop_assert!(is_not_agreed(&decode_agreed(&bytes[..HEADER_BYTES], agreed)));
        }
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn the_base_reads_the_same_whatever_was_agreed(frame in frame(), agreed in agreed()) {
        let bytes = bytes_of(&frame);
        prop_assert_eq!(decode_agreed(&bytes, agreed).unwrap(), decode(&bytes).unwrap());
    }

    #[test]
    fn any_body_of_any_agreed_type_decodes_or_is_refused(kind in 0_u8..80, body in bytes(60)) {
        let bytes = flagged(kind, 0, &body);
        if let Ok(decoded) = decode_agreed(&bytes, ALL) {
            let (frame, used) = decoded.unwrap();
            prop_assert_eq!(used, bytes.len());
            let again = bytes_of(&frame);
            prop_assert_eq!(decode_agreed(&again, ALL).unwrap().unwrap().0, frame);
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused_whatever_was_agreed(bytes in bytes(200), agreed in agreed()) {
        if let Ok(Some((_, used))) = decode_agreed(&bytes, agreed) {
            prop_assert!((HEADER_BYTES..=bytes.len()).contains(&used));
        }
    }

    #[test]
    fn a_flag_is_known_on_data_frames_alone(frame in opened_frame(), flags in 1_u8.., agreed in agreed()) {
        let mut bytes = bytes_of(&frame);
        bytes[5] = flags;
        prop_assert!(is_not_agreed(&decode_agreed(&bytes, agreed)));
        let data = flagged(kind::DATA, flags, &[0]);
        if flags != FLAG_ZSTD || !agreed.zstd {
            prop_assert!(is_not_agreed(&decode_agreed(&data, agreed)));
        }
    }
}

#[cfg(feature = "zstd")]
mod zstd {
    use super::*;
    use crate::frame::compression::Compressor;

    proptest! {
        #[test]
        fn compressed_data_reads_back_where_it_was_agreed_and_nowhere_else(byte in any::<u8>(), length in 100_usize..4000, tail in bytes(40), agreed in agreed()) {
            let mut content = vec![byte; length];
            content.extend(tail);
            let mut bytes = Vec::new();
            encode_compressed(&content, &mut Compressor::new(3), &mut bytes).unwrap();
            prop_assert_eq!(bytes[5], FLAG_ZSTD);
            prop_assert!(bytes.len() < content.len());
            let decoded = decode_agreed(&bytes, agreed);
            if agreed.zstd {
                prop_assert_eq!(decoded.unwrap(), Some((Frame::Data(content), bytes.len())));
            } else {
                prop_assert!(is_not_agreed(&decoded));
            }
        }

        #[test]
        fn any_compressed_payload_is_data_within_the_cap_or_refused(payload in bytes(200)) {
            if let Ok(Some((Frame::Data(bytes), _))) = decode_agreed(&flagged(kind::DATA, FLAG_ZSTD, &payload), ALL) {
                prop_assert!((1..=MAX_PAYLOAD_BYTES).contains(&bytes.len()));
            }
        }
    }

    #[test]
    fn data_that_does_not_shrink_is_read_by_those_who_agreed_on_nothing() {
        let mut bytes = Vec::new();
        let content: Vec<u8> = (0..=255).collect();
        encode_compressed(&content, &mut Compressor::new(3), &mut bytes).unwrap();
        assert_eq!(
            decode(&bytes).unwrap(),
            Some((Frame::Data(content), bytes.len()))
        );
    }

    /// RFC 8878: magic, one segment of 64 bytes, one last block of run-length coding, its byte.
    #[test]
    fn a_zstd_frame_as_its_format_says_is_data() {
        let payload = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x40, 0x03, 0x02, 0x00, b'a'];
        let bytes = flagged(kind::DATA, FLAG_ZSTD, &payload);
        let (frame, used) = decode_agreed(&bytes, ALL).unwrap().unwrap();
        assert_eq!(frame, Frame::Data(vec![b'a'; 64]));
        assert_eq!(used, HEADER_BYTES + payload.len());
    }
}

/// The frozen bytes of what capabilities opened: a change here breaks every older peer that has them.
#[test]
fn the_wire_format_of_capabilities_is_as_documented() {
    let words = || vec!["ask".to_owned(), "zstd".to_owned()];
    let frames = [
        Frame::Hello(Hello {
            protocol: Protocols { min: 1, max: 1 },
            tool: "pefo 0.2.0".into(),
            site: site(),
            certname: pefo_core::Certname::new("a.lab").unwrap(),
            role: pefo_core::reign::Role::Active,
            purpose: crate::Purpose::acks(),
            reign: "pefo-document 1 reign\n…".into(),
            capabilities: Capabilities { tree: false, ..ALL }.words(),
        }),
        Frame::Ping,
        Frame::Ask(Ask {
            index: 8,
            from: 258,
            signature_bytes: 0,
        }),
        Frame::Ask(Ask {
            index: 9,
            from: 0,
            signature_bytes: 300,
        }),
        Frame::Delta(FileHead {
            index: 9,
            size: 258,
        }),
        Frame::End,
        Frame::Abandon,
        Frame::Skip(258),
        Frame::Request(b"pefo-document 1 request\n".to_vec()),
        Frame::AnswerQuery(AnswerQuery {
            nonce: Nonce::new("000102030405060708090a0b0c0d0e0f").unwrap(),
        }),
        Frame::Answer(AnswerHead { bytes: 258 }),
        Frame::Answer(AnswerHead { bytes: 0 }),
        Frame::Notice(b"pefo-document 1 reign\n".to_vec()),
        Frame::Open(Open {
            protocol: Protocols { min: 1, max: 1 },
            tool: "pefo 0.2.0".into(),
            capabilities: words(),
        }),
        Frame::Opened(Opened {
            protocol: 1,
            tool: "pefo 0.2.0".into(),
            capabilities: words(),
        }),
        Frame::Summary(Summary {
            entries: 258,
            bucket_bits: 1,
            buckets: vec![[0x61; 16], [0x62; 16]],
        }),
        Frame::Differs(Differs::nowhere()),
        Frame::Differs(Differs::buckets(4, [1, 8])),
        Frame::Entries(EntriesHead {
            scope: Scope::Buckets,
            entries: 3,
            bytes: 258,
            eager: false,
        }),
        Frame::Entries(EntriesHead {
            scope: Scope::Paths,
            entries: 3,
            bytes: 258,
            eager: true,
        }),
        Frame::Commit(Commit { delete: true }),
        Frame::Committed(Committed {
            written: 1,
            copied: 2,
            adjusted: 3,
            deleted: 4,
            skipped: 5,
            held: 6,
            guard: Some("too-many-deletes".into()),
        }),
    ];
    let shown: Vec<_> = frames
        .iter()
        .map(|frame| format!("{:<12} {}", frame.name(), bytes_of(frame).escape_ascii()))
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}
