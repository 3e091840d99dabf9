//! A sender that holds the transfer key and means ill, or is broken.

use std::sync::Arc;
use std::time::Duration;

use pefo_core::ErrorKind;
use pefo_core::clock::{Clock, FixedClock};
use pefo_core::disk::Disk;
use pefo_core::document::{self, Domain, Kind};
use pefo_core::generation::{DataSet, Manifest, Outgoing};
use pefo_core::keys::{SigningKey, system_random};
use pefo_transport::frame::{self, Frame, PREAMBLE};
use pefo_transport::message::{FileHead, Offer, Shape};
use pefo_transport::serve;

use crate::pair::{Pair, frames, now, refusal, state};

fn offer(outgoing: &Outgoing) -> Offer {
    Offer {
        dataset: outgoing.manifest.dataset.clone(),
        position: outgoing.position(),
        form: Shape::Full,
        document_bytes: outgoing.document.len() as u64,
        files: outgoing.manifest.files.len() as u32,
        payload_bytes: outgoing.manifest.stored_bytes(),
    }
}

/// The frames of a push of `outgoing`, whose one file is "1".
fn script(outgoing: &Outgoing) -> Vec<Frame> {
    vec![
        Frame::Offer(offer(outgoing)),
        Frame::Data(outgoing.document.clone()),
        Frame::File(FileHead { index: 0, size: 1 }),
        Frame::Data(b"1".to_vec()),
        Frame::Publish,
        Frame::Bye,
    ]
}

#[test]
fn frames_out_of_turn_end_the_session_and_leave_nothing() {
    let pair = Pair::new();
    let outgoing = pair.full(1, &[("a", "1")]);
    let script = script(&outgoing);
    let file = |index, size| Frame::File(FileHead { index, size });
    let mut smaller = offer(&outgoing);
    smaller.payload_bytes = 0;
    let mut fewer = offer(&outgoing);
    fewer.files = 0;
    let mut batch = offer(&outgoing);
    (batch.form, batch.files) = (Shape::Batch, 0);
    let mut newer = offer(&outgoing);
    newer.position.sequence = 9;
    // What replaces which frame of the script.
    let changes: Vec<(usize, Frame)> = vec![
        (0, Frame::Data(vec![0])),
        (0, file(0, 1)),
        (0, Frame::Publish),
        (0, Frame::Hello(pair.hello())),
        (0, Frame::Offer(smaller)),
        (0, Frame::Offer(fewer)),
        (0, Frame::Offer(batch)),
        (0, Frame::Offer(newer)),
        (1, Frame::Publish),
        (
            1,
            Frame::Data([outgoing.document.as_slice(), b"x"].concat()),
        ),
        (2, Frame::Data(vec![0])),
        (2, file(1, 1)),
        (2, file(0, 2)),
        (2, file(0, u64::MAX)),
        (2, Frame::Publish),
        (3, Frame::Data(vec![b'1'; 2])),
        (3, Frame::Publish),
        (3, file(0, 1)),
        (4, file(0, 1)),
        (4, Frame::Data(vec![0])),
        (4, Frame::Ok),
    ];
    for (at, frame) in changes {
        let mut changed = script.clone();
        let name = frame.name();
        changed[at] = frame;
        let (said, served) = pair.recite(&changed);
        assert_eq!(
            served.unwrap_err().kind(),
            ErrorKind::Protocol,
            "{at} {name}"
        );
        assert_eq!(refusal(&said).kind, "protocol", "{at} {name}");
        assert!(pair.standing().is_empty(), "{at} {name}");
        assert_eq!(pair.temps(), 0, "{at} {name}");
    }
    let (_, served) = pair.recite(&script);
    served.unwrap();
    assert_eq!(pair.standing(), [1]);
}

#[test]
fn bytes_that_are_no_frames_are_refused_without_waiting_for_more() {
    let pair = Pair::new();
    let mut start = PREAMBLE.to_vec();
    frame::encode(&Frame::Hello(pair.hello()), &mut start).unwrap();
    for (header, words) in [
        ([0xff, 0xff, 0xff, 0xff, 17, 0, 0, 0], "4294967295 bytes"),
        ([1, 0, 0, 0, 77, 0, 0, 0], "type 77"),
        ([1, 0, 0, 0, 17, 1, 0, 0], "flags 0x01"),
        ([0, 0, 0, 0, 17, 0, 0, 0], "empty"),
        ([1, 0, 0, 0, 20, 0, 0, 0], "needs a body"),
    ] {
        let bytes = [start.as_slice(), &header, b"{"].concat();
        let (said, served) = pair.recite_bytes(&bytes, &Disk::new());
        let refuse = refusal(&said);
        assert_eq!(refuse.kind, "protocol");
        if words != "needs a body" {
            assert!(refuse.message.contains(words), "{}", refuse.message);
        }
        served.unwrap_err();
    }
}

#[test]
fn content_that_was_not_signed_is_refused_and_gone() {
    let pair = Pair::new();
    let outgoing = pair.full(1, &[("a", "1")]);
    let mut changed = script(&outgoing);
    changed[3] = Frame::Data(b"2".to_vec());
    let (said, served) = pair.recite(&changed);
    assert_eq!(refusal(&said).rule.as_deref(), Some("digest"));
    assert!(
        served
            .unwrap_err()
            .to_string()
            .contains("ca 00000001-000000000001: a is not what was signed")
    );
    assert_eq!((pair.standing().len(), pair.temps()), (0, 0));

    let batch = pair.batch(1, state(&[]), "a", b"1");
    let payload = vec![0; usize::try_from(batch.manifest.stored_bytes()).unwrap()];
    let (said, _) = pair.recite(&[
        Frame::Offer(Offer {
            form: Shape::Batch,
            ..offer(&batch)
        }),
        Frame::Data(batch.document.clone()),
        Frame::Data(payload),
        Frame::Publish,
    ]);
    assert_eq!(refusal(&said).rule.as_deref(), Some("digest"));
    assert_eq!((pair.standing().len(), pair.temps()), (0, 0));
}

/// A manifest that says what its maker likes, signed by `key`.
fn forged(pair: &Pair, key: &SigningKey, change: impl Fn(String) -> String) -> Vec<u8> {
    let honest = pair.full(1, &[("a", "1")]);
    let body = change(serde_json::to_string(&honest.manifest).unwrap());
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    let domain = Domain {
        kind: Kind::Manifest,
        site: &pair.site,
        dataset: Some(&DataSet::Ca),
    };
    document::sign(&value, domain, key).unwrap()
}

#[test]
fn a_manifest_whose_paths_lead_out_of_the_spool_is_refused() {
    let pair = Pair::new();
    for path in [
        "../../../../evil",
        "/evil",
        "a/../../evil",
        "..",
        "a\\u0000b",
        ".//a",
    ] {
        let document = forged(&pair, &pair.key_a, |body| {
            body.replace("\"path\":\"a\"", &format!("\"path\":\"{path}\""))
        });
        let mut offer = offer(&pair.full(1, &[("a", "1")]));
        offer.document_bytes = document.len() as u64;
        let (said, _) = pair.recite(&[Frame::Offer(offer), Frame::Data(document)]);
        assert_eq!(refusal(&said).kind, "invalid", "{path}: {said:?}");
        assert_eq!(pair.temps(), 0);
    }
    let outside: Vec<_> = walk(&pair)
        .into_iter()
        .filter(|path| path.contains("evil"))
        .collect();
    assert_eq!(outside, Vec::<String>::new());
}

fn walk(pair: &Pair) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![pair.dir.path().to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path.clone());
            }
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_manifest_that_no_paired_key_signed_is_refused() {
    let pair = Pair::new();
    let stranger = SigningKey::ephemeral(&system_random()).unwrap();
    let document = forged(&pair, &stranger, |body| body);
    let mut strange = offer(&pair.full(1, &[("a", "1")]));
    strange.document_bytes = document.len() as u64;
    let (said, _) = pair.recite(&[Frame::Offer(strange), Frame::Data(document)]);
    assert_eq!(refusal(&said).rule.as_deref(), Some("signer-unknown"));

    let honest = pair.full(1, &[("a", "1")]);
    let mut document = honest.document.clone();
    *document.last_mut().unwrap() = b' ';
    let (said, _) = pair.recite(&[Frame::Offer(offer(&honest)), Frame::Data(document)]);
    assert_eq!(refusal(&said).rule.as_deref(), Some("signature"));
    assert!(pair.standing().is_empty());
}

#[test]
fn a_manifest_may_be_long_but_not_endless() {
    let pair = Pair::new();
    let mut endless = offer(&pair.full(1, &[("a", "1")]));
    endless.document_bytes = Manifest::MAX_BYTES + 1;
    let (said, _) = pair.recite(&[Frame::Offer(endless)]);
    assert!(refusal(&said).message.contains("out of range"));

    let many: Vec<_> = (0..9000)
        .map(|n| format!("signed/node{n:05}.example.com.pem"))
        .collect();
    let files: Vec<_> = many.iter().map(|path| (path.as_str(), "")).collect();
    let outgoing = pair.full(1, &files);
    assert!(outgoing.document.len() > frame::MAX_PAYLOAD_BYTES);
    assert_eq!(pair.push(&outgoing).unwrap().files_sent, 9000);
    assert_eq!(pair.standing(), [1]);
}

/// A clock that goes on by a minute each time it is looked at, and a reader that gives a byte a time.
struct Slow(FixedClock);

impl Clock for Slow {
    fn now(&self) -> pefo_core::clock::Timestamp {
        self.0.advance(Duration::from_secs(60));
        self.0.now()
    }
    fn wait(&self, _: Duration) {}
}

struct Dripping<'a>(&'a [u8]);

impl std::io::Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.len().min(1);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn a_frame_that_drips_is_given_up() {
    let pair = Pair::new();
    let mut bytes = PREAMBLE.to_vec();
    frame::encode(&Frame::Hello(pair.hello()), &mut bytes).unwrap();
    let (disk, clock) = (Disk::new(), Arc::new(Slow(FixedClock::new(now()))));
    let mut output = Vec::new();
    let error = serve(
        &mut Dripping(&bytes),
        &mut output,
        &pair.options(),
        &disk,
        clock.as_ref(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("longer than 300 s"), "{error}");
    assert_eq!(refusal(&frames(&output)).kind, "unreachable");
}
