//! A transfer that was cut goes on where it was, and what had arrived is checked, not trusted.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use pefo_core::disk::Disk;
use pefo_core::disk::fault::StopAt;
use pefo_core::generation::outgoing::{Item, Outgoing};
use pefo_core::generation::spool::Form;
use pefo_core::generation::{Accepted, DataSet};
use pefo_core::progress::Silent;
use pefo_core::{Error, ErrorKind};
use pefo_transport::frame::{self, Frame, PREAMBLE};
use pefo_transport::message::{Capabilities, FileHead, Offer, Shape};
use pefo_transport::{Connection, Limits, Purpose, Pushed};
use proptest::prelude::*;

use crate::pair::{Pair, at, rel, state};
use crate::streams::{Older, boundaries};

/// Bytes that neither shrink nor repeat.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    use std::hash::{BuildHasher as _, Hasher as _};
    let mut noise = Vec::with_capacity(bytes + 8);
    let state = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default();
    for count in 0_u64.. {
        if noise.len() >= bytes {
            break;
        }
        let mut hasher = state.build_hasher();
        hasher.write_u64(seed);
        hasher.write_u64(count);
        noise.extend_from_slice(&hasher.finish().to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

pub(crate) fn item(path: &str, bytes: Vec<u8>) -> Item {
    Item::open(rel(path), 0o644, bytes)
}

/// A long file among short ones.
fn mixed(pair: &Pair, sequence: u64) -> Outgoing {
    let items = vec![
        item("a", noise(1, 300)),
        item("b/long", noise(2, 1_500_000)),
        item("b/short", noise(3, 200_000)),
        item("c", vec![]),
        item("d", noise(4, 10)),
    ];
    pair.full_of(sequence, items)
}

/// Bytes of content that have to cross yet, after the beginning of what a sender said.
fn left(outgoing: &Outgoing, said: &[u8]) -> u64 {
    let sizes: Vec<u64> = outgoing.manifest.files.iter().map(|it| it.size).collect();
    let mut arrived = vec![None; sizes.len()];
    let mut current = None;
    let mut rest = said.strip_prefix(PREAMBLE.as_slice()).unwrap_or_default();
    while let Some((frame, used)) = frame::decode_agreed(rest, Capabilities::OURS).unwrap() {
        rest = &rest[used..];
        match (frame, current) {
            (Frame::File(head), _) => {
                current = Some(head.index as usize);
                arrived[head.index as usize] = Some(0);
            }
            (Frame::Data(bytes), Some(index)) => {
                *arrived[index].get_or_insert(0) += bytes.len() as u64;
            }
            _ => {}
        }
    }
    let left = |(size, arrived): (&u64, Option<u64>)| match arrived {
        Some(arrived) if arrived == *size => 0,
        Some(arrived) if *size >= 1 << 20 => size - arrived,
        _ => *size,
    };
    sizes.iter().zip(arrived).map(left).sum()
}

fn content(pushed: &Pushed, outgoing: &Outgoing) -> u64 {
    pushed.bytes_sent - outgoing.document.len() as u64
}

fn pushes(pair: &Pair, outgoing: &Outgoing) -> Pushed {
    let pushed = pair.push(outgoing).unwrap();
    let position = outgoing.position();
    pair.take(position, Form::Full, None).unwrap();
    assert_eq!((pair.partials().len(), pair.temps()), (0, 0));
    let dir = pair.ca().join(position.to_string());
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["data", "manifest"], "nothing else is shown");
    pushed
}

#[test]
fn a_small_generation_cut_at_any_byte_is_completed_by_what_is_missing_alone() {
    let pair = Pair::new();
    let outgoing = pair.full(1, &[("a", "1"), ("b", "22"), ("c", ""), ("d/e", "333")]);
    let said = pair.record(&[&outgoing]).said.lock().unwrap().clone();
    let mut lefts = std::collections::BTreeSet::new();
    for cut in 0..said.len() {
        pair.clear_spool();
        drop(pair.cut(&outgoing, cut));
        if pair.standing() == [1] {
            continue;
        }
        let left = left(&outgoing, &said[..cut]);
        lefts.insert(left);
        assert_eq!(content(&pushes(&pair, &outgoing), &outgoing), left, "{cut}");
    }
    assert_eq!(lefts.into_iter().collect::<Vec<_>>(), [0, 3, 5, 6]);
}

#[test]
fn a_long_file_goes_on_in_its_middle_and_no_byte_that_arrived_crosses_again() {
    let pair = Pair::new();
    let outgoing = mixed(&pair, 1);
    let total: u64 = outgoing.manifest.files.iter().map(|it| it.size).sum();
    let said = pair.record(&[&outgoing]).said.lock().unwrap().clone();
    let mut cuts = boundaries(&said);
    cuts.extend(cuts.clone().iter().map(|at| at + 5));
    let mut middles = 0;
    for cut in cuts.into_iter().filter(|cut| *cut < said.len()) {
        pair.clear_spool();
        drop(pair.cut(&outgoing, cut));
        if pair.standing() == [1] {
            continue;
        }
        let left = left(&outgoing, &said[..cut]);
        let pushed = pushes(&pair, &outgoing);
        assert_eq!(content(&pushed, &outgoing), left, "{cut}");
        middles += u32::from(pushed.bytes_saved > 0);
        assert!(content(&pushed, &outgoing) + pushed.bytes_saved <= total);
    }
    assert!(middles > 10, "{middles}");
}

#[test]
fn a_line_that_is_cut_again_and_again_ends_with_the_whole() {
    let pair = Pair::new();
    let outgoing = mixed(&pair, 1);
    let mut sessions = 0;
    while pair.standing().is_empty() {
        // Each time enough for the longest of the short files, no more than two frames.
        drop(pair.cut(&outgoing, 300_000));
        sessions += 1;
        assert!(sessions < 12, "it goes on");
    }
    assert!(sessions >= 6, "{sessions}");
    pair.take(at(1), Form::Full, None).unwrap();
}

#[test]
fn a_newer_generation_profits_from_what_had_arrived_of_an_older_one() {
    let pair = Pair::new();
    let old = mixed(&pair, 1);
    let said = pair.record(&[&old]).said.lock().unwrap().clone();
    pair.clear_spool();
    // All of the long file and a part of the short one behind it.
    let cut = boundaries(&said)
        .into_iter()
        .find(|cut| left(&old, &said[..*cut]) <= 200_010)
        .unwrap();
    drop(pair.cut(&old, cut + 1));
    assert_eq!(
        pair.partials(),
        [".pefo-00000001-000000000001.partial".to_owned()]
    );
    let new = pair.full_of(
        2,
        vec![
            item("moved", noise(2, 1_500_000)),
            item("other", noise(9, 1_000)),
        ],
    );
    let pushed = pushes(&pair, &new);
    assert_eq!(content(&pushed, &new), 1_000);
    assert_eq!((pushed.files_sent, pushed.files_reused), (1, 1));
}

#[test]
fn a_newer_generation_goes_on_with_a_file_that_was_cut_in_its_middle() {
    let pair = Pair::new();
    let long = noise(2, 2_000_000);
    let old = pair.full_of(1, vec![item("long", long.clone())]);
    drop(pair.cut(&old, 1_200_000));
    let new = pair.full_of(2, vec![item("renamed", long)]);
    let pushed = pushes(&pair, &new);
    assert!(content(&pushed, &new) < 1_000_000, "{pushed:?}");
    assert!(pushed.bytes_saved > 1_000_000, "{pushed:?}");
}

#[test]
fn another_manifest_at_the_same_position_is_not_mixed_with_the_one_that_was_cut() {
    let pair = Pair::new();
    let old = mixed(&pair, 1);
    drop(pair.cut(&old, 1_700_000));
    // What was a file is a directory now, and the other way round.
    let new = pair.full_of(
        1,
        vec![
            item("a/x", noise(1, 300)),
            item("b", noise(2, 1_500_000)),
            item("c", noise(8, 50)),
        ],
    );
    let pushed = pushes(&pair, &new);
    assert_eq!(content(&pushed, &new), 50);
}

/// The one partial's directory.
fn partial(pair: &Pair) -> std::path::PathBuf {
    let partials = pair.partials();
    assert_eq!(partials.len(), 1, "{partials:?}");
    pair.ca().join(&partials[0])
}

fn flip(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_file_that_changed_meanwhile_is_asked_for_again() {
    let pair = Pair::new();
    let outgoing = mixed(&pair, 1);
    drop(pair.cut(&outgoing, 1_600_000));
    flip(&partial(&pair).join("data/a"));
    flip(&partial(&pair).join("data/b/long"));
    let pushed = pushes(&pair, &outgoing);
    assert_eq!(content(&pushed, &outgoing), 1_700_310);
}

#[test]
fn a_beginning_that_changed_meanwhile_is_found_out_and_then_the_file_is_sent_whole() {
    let pair = Pair::new();
    let outgoing = mixed(&pair, 1);
    drop(pair.cut(&outgoing, 1_000_000));
    let incoming = partial(&pair).join("incoming");
    let beginning = std::fs::read_dir(incoming).unwrap().next().unwrap();
    flip(&beginning.unwrap().path());
    let error = pair.push(&outgoing).unwrap_err();
    assert_eq!(error.rule(), Some("transfer-again"));
    assert!(error.is_retryable());
    assert!(error.to_string().contains("b/long"), "{error}");
    // What came behind it is here; it alone is sent, and whole.
    let pushed = pushes(&pair, &outgoing);
    assert_eq!(content(&pushed, &outgoing), 1_500_000);
    assert_eq!(pushed.bytes_saved, 0);
}

#[test]
fn a_beginning_longer_than_the_file_or_a_torn_manifest_is_of_no_use_and_does_no_harm() {
    let pair = Pair::new();
    let outgoing = mixed(&pair, 1);
    drop(pair.cut(&outgoing, 1_000_000));
    let incoming = partial(&pair).join("incoming");
    let beginning = std::fs::read_dir(incoming).unwrap().next().unwrap();
    std::fs::write(beginning.unwrap().path(), vec![0; 2_000_000]).unwrap();
    std::fs::write(partial(&pair).join("manifest"), "torn").unwrap();
    assert_eq!(content(&pushes(&pair, &outgoing), &outgoing), 1_700_310);
}

#[test]
fn a_killed_session_is_taken_up_as_a_cut_one_is() {
    let pair = Pair::new();
    let outgoing = mixed(&pair, 1);
    let mut saved = 0;
    for operations in 0.. {
        pair.clear_spool();
        let stop = Arc::new(StopAt::new(operations));
        // Nothing reaches the disk after the kill, the clearing up included.
        drop(pair.cut_on(&outgoing, usize::MAX, &Disk::with_hook(stop.clone())));
        if !stop.has_stopped() {
            break;
        }
        if pair.standing().is_empty() {
            let pushed = pushes(&pair, &outgoing);
            saved = saved.max(1_700_310 - content(&pushed, &outgoing));
        }
    }
    assert_eq!(saved, 1_700_310, "a kill just before the last rename");
}

#[test]
fn a_session_killed_while_it_takes_up_loses_nothing_that_matters() {
    let pair = Pair::new();
    let (old, new) = (mixed(&pair, 1), mixed(&pair, 2));
    for outgoing in [&old, &new] {
        for operations in 0.. {
            pair.clear_spool();
            drop(pair.cut(&old, 1_000_000));
            let stop = Arc::new(StopAt::new(operations));
            drop(pair.cut_on(outgoing, usize::MAX, &Disk::with_hook(stop.clone())));
            if !stop.has_stopped() {
                break;
            }
            if pair.standing().is_empty() {
                let pushed = pushes(&pair, outgoing);
                let sent = content(&pushed, outgoing);
                assert!(sent < 1_000_000, "{operations}: {sent}");
            }
        }
    }
}

#[test]
fn there_is_one_partial_and_it_goes_when_a_generation_at_or_above_it_is_shown() {
    let pair = Pair::new();
    for sequence in 1..=3 {
        drop(pair.cut(&mixed(&pair, sequence), 300_000));
        let name = format!(".pefo-00000001-{sequence:012}.partial");
        assert_eq!(pair.partials(), [name]);
    }
    pair.push(&pair.batch(4, state(&[]), "x", b"1")).unwrap();
    assert_eq!(pair.partials(), Vec::<String>::new());
    assert_eq!(pair.standing(), [4]);
}

#[test]
fn where_nothing_had_arrived_nothing_stays() {
    let mut pair = Pair::new();
    pair.push(&pair.full(1, &[("a", "1")])).unwrap();
    // One file is a link to what was here, the other one never came.
    let next = pair.full_of(
        2,
        vec![item("a", b"1".to_vec()), item("b", noise(2, 50_000))],
    );
    let batch = pair.batch(3, state(&[]), "x", &noise(5, 3_000_000));
    pair.limits = Limits::default().free_bytes(0).quota_bytes(10_000);
    for outgoing in [&next, &batch] {
        let error = pair.push(outgoing).unwrap_err();
        assert_eq!(error.rule(), Some("spool-full"));
        assert_eq!((pair.partials().len(), pair.temps()), (0, 0));
    }
    pair.limits = Limits::default().free_bytes(0);
    drop(pair.cut(&next, 3_000));
    assert_eq!(pair.partials().len(), 0);
}

#[test]
fn a_partial_counts_in_the_quota_and_only_what_is_to_come_needs_room() {
    let mut pair = Pair::new();
    let outgoing = mixed(&pair, 1);
    drop(pair.cut(&outgoing, 1_500_000));
    pair.limits = Limits::default().free_bytes(0).quota_bytes(1_600_000);
    let error = pair.push(&outgoing).unwrap_err();
    assert_eq!(error.rule(), Some("spool-full"));
    assert_eq!(pair.partials().len(), 1, "there may be room later");
    // A batch, which cannot be put off, takes the partial's place.
    pair.limits = pair.limits.clone().quota_bytes(400_000);
    pair.push(&pair.batch(1, state(&[]), "x", b"1")).unwrap();
    assert_eq!((pair.partials().len(), pair.standing()), (0, vec![1]));

    pair.clear_spool();
    pair.limits = Limits::default().free_bytes(0);
    drop(pair.cut(&outgoing, 1_500_000));
    pair.limits = Limits::default().free_bytes(0).quota_bytes(1_800_000);
    pushes(&pair, &outgoing);
}

#[test]
fn a_long_batch_goes_on_where_it_was_cut_and_no_other_batch_does() {
    let pair = Pair::new();
    let payload = noise(5, 3_000_000);
    let batch = pair.batch(1, state(&[]), "x", &payload);
    for cut in [100, 3_000, 200_000, 1_500_000, 2_900_000] {
        pair.clear_spool();
        drop(pair.cut(&batch, cut));
        let pushed = pair.push(&batch).unwrap();
        let arrived = cut.saturating_sub(5_000) / 131_072 * 131_072;
        assert!(pushed.bytes_saved >= arrived as u64, "{cut}: {pushed:?}");
        assert_eq!(
            content(&pushed, &batch) + pushed.bytes_saved,
            batch.manifest.stored_bytes()
        );
        assert_eq!((pair.partials().len(), pair.temps()), (0, 0));
        let accepted = Accepted {
            format: 1,
            position: at(0),
            state: state(&[]),
            applied: None,
        };
        let taken = pair.take(at(1), Form::Batch, Some(&accepted)).unwrap();
        assert_eq!(taken.steps().unwrap()[0].1, payload);
        assert!(pair.push(&batch).unwrap().already);
    }
    // Sealed anew the same step is another payload.
    pair.clear_spool();
    drop(pair.cut(&batch, 2_900_000));
    let other = pair.batch(1, state(&[]), "x", &payload);
    assert_eq!(pair.push(&other).unwrap().bytes_saved, 0);
}

#[test]
fn a_payload_whose_beginning_changed_is_found_out_and_then_sent_whole() {
    let pair = Pair::new();
    let batch = pair.batch(1, state(&[]), "x", &noise(5, 3_000_000));
    drop(pair.cut(&batch, 2_000_000));
    flip(&partial(&pair).join("batch"));
    let error = pair.push(&batch).unwrap_err();
    assert_eq!(error.rule(), Some("transfer-again"));
    assert!(error.is_retryable());
    assert_eq!(pair.push(&batch).unwrap().bytes_saved, 0);
    assert_eq!(pair.standing(), [1]);
}

fn over_older(pair: &Pair, stream: UnixStream, outgoing: &Outgoing) -> Result<Pushed, Error> {
    let purpose = Purpose::of(&DataSet::Ca);
    let mut connection = Connection::over(Older::over(stream), &pair.me(), &purpose)?;
    assert_eq!(connection.peer().capabilities, Capabilities::NONE);
    let pushed = connection.push(outgoing, &Silent)?;
    connection.close().map(|()| pushed)
}

#[test]
fn with_a_peer_of_the_protocols_base_files_cross_whole_and_whole_ones_not_twice() {
    let pair = Pair::new();
    let outgoing = mixed(&pair, 1);
    let older = |outgoing: &Outgoing| {
        let (pushed, served) = pair.session(&Disk::new(), |it| over_older(&pair, it, outgoing));
        served.unwrap();
        pushed.unwrap()
    };
    assert_eq!(content(&older(&outgoing), &outgoing), 1_700_310);
    pair.take(at(1), Form::Full, None).unwrap();
    // It is no worse off where a newer peer's session was cut; and a long batch comes in one go.
    pair.clear_spool();
    drop(pair.cut(&outgoing, 1_000_000));
    let pushed = older(&outgoing);
    assert_eq!(
        (content(&pushed, &outgoing), pushed.bytes_saved),
        (1_700_010, 0)
    );
    pair.take(at(1), Form::Full, None).unwrap();
    let batch = pair.batch(2, state(&[]), "x", &noise(5, 3_000_000));
    assert_eq!(older(&batch).bytes_saved, 0);
    // Nor is anything changed a delta.
    let mut long = noise(2, 1_500_000);
    long[700_000] ^= 1;
    let changed = pair.full_of(3, vec![item("b/long", long)]);
    assert_eq!(content(&older(&changed), &changed), 1_500_000);
    assert_eq!(pair.standing(), [1, 2, 3]);
}

/// The frames of a push up to the middle of its first file.
fn halfway(outgoing: &Outgoing) -> Vec<Frame> {
    vec![
        Frame::Offer(Offer {
            dataset: DataSet::Ca,
            position: outgoing.position(),
            form: Shape::Full,
            document_bytes: outgoing.document.len() as u64,
            files: outgoing.manifest.files.len() as u32,
            payload_bytes: outgoing.manifest.stored_bytes(),
        }),
        Frame::Data(outgoing.document.clone()),
        Frame::File(FileHead {
            index: 0,
            size: outgoing.manifest.files[0].size,
        }),
        Frame::Data(noise(2, 100_000)),
    ]
}

#[test]
fn what_a_sender_abandons_is_gone_and_the_session_goes_on() {
    let pair = Pair::new();
    let outgoing = pair.full_of(1, vec![item("long", noise(2, 1_500_000))]);
    let next = pair.full(2, &[("a", "1")]);
    let mut script = halfway(&outgoing);
    script.push(Frame::Abandon);
    script.extend(halfway(&next).drain(..2));
    script.extend([
        Frame::File(FileHead { index: 0, size: 1 }),
        Frame::Data(b"1".to_vec()),
        Frame::Abandon,
    ]);
    script.extend(halfway(&next).drain(..2));
    script.extend([
        Frame::File(FileHead { index: 0, size: 1 }),
        Frame::Data(b"1".to_vec()),
        Frame::Publish,
        Frame::Bye,
    ]);
    let (said, served) = pair.recite_able(&script);
    let served = served.unwrap();
    assert_eq!(served.abandoned, 2);
    let oks = said.iter().filter(|frame| **frame == Frame::Ok).count();
    assert_eq!(oks, 2);
    assert_eq!(pair.standing(), [2]);
    assert_eq!((pair.partials().len(), pair.temps()), (0, 0));
}

#[test]
fn what_an_earlier_session_had_begun_is_abandoned_with_it() {
    let pair = Pair::new();
    let outgoing = pair.full_of(1, vec![item("long", noise(2, 1_500_000))]);
    drop(pair.cut(&outgoing, 800_000));
    assert_eq!(pair.partials().len(), 1);
    let mut script = halfway(&outgoing);
    script[2] = Frame::Abandon;
    script.truncate(3);
    let (_, served) = pair.recite_able(&script);
    served.unwrap();
    assert_eq!(pair.partials(), Vec::<String>::new());
}

#[test]
fn a_source_file_that_is_gone_takes_its_generation_back_and_the_next_one_goes_on_the_same_line() {
    let pair = Pair::new();
    let (plain, sealed) = (pair.dir.path().join("p"), pair.dir.path().join("s"));
    std::fs::write(&plain, vec![7; 5000]).unwrap();
    let recipients = [pair.unsealing.recipient()];
    let gone =
        Item::sealed_file(&Disk::new(), rel("z"), 0o600, &plain, &sealed, &recipients).unwrap();
    let outgoing = pair.full_of(1, vec![item("a", noise(1, 300)), gone]);
    std::fs::remove_file(&sealed).unwrap();
    let (done, served) = pair.session(&Disk::new(), |stream| {
        let mut connection = pair.connect(stream).unwrap();
        let error = connection.push(&outgoing, &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        connection.push(&pair.full(2, &[("a", "1")]), &Silent)?;
        connection.close()
    });
    done.unwrap();
    assert_eq!(served.unwrap().abandoned, 1);
    assert_eq!((pair.partials().len(), pair.standing()), (0, vec![2]));
}

fn generation() -> impl Strategy<Value = Vec<(u8, u64, usize)>> {
    // Path, content and length; contents repeat among paths and generations.
    let size = prop_oneof![
        0..2_000_usize,
        64_000..200_000_usize,
        (1 << 20)..1_400_000_usize
    ];
    prop::collection::vec((0..6_u8, 0..4_u64, size), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever stood here, whatever is sent next and wherever it is cut.
    #[test]
    fn any_two_generations_and_any_cuts_end_with_the_new_one_whole(
        old in generation(),
        edits in prop::collection::vec((0..4_usize, 0..1_400_000_usize), 0..4),
        new in generation(),
        keep in any::<bool>(),
        cuts in prop::collection::vec(0..1_500_000_usize, 0..4),
        retries in any::<bool>(),
    ) {
        let pair = Pair::new();
        let build = |sequence, files: &[(u8, u64, usize)], edited: bool| {
            let mut found = std::collections::BTreeMap::new();
            for (at, (path, seed, size)) in files.iter().enumerate() {
                let mut bytes = noise(*seed, *size);
                for (_, place) in edits.iter().filter(|(file, _)| edited && *file == at) {
                    if let Some(byte) = bytes.get_mut(*place) {
                        *byte ^= 1;
                    }
                }
                found.insert(format!("d{}/f{path}", path % 2), bytes);
            }
            let items = found.into_iter().map(|(path, bytes)| item(&path, bytes)).collect();
            pair.full_of(sequence, items)
        };
        let before = build(1, &old, false);
        pair.push(&before).unwrap();
        // The new one is the old one edited, or one of its own.
        let files = if keep { &old } else { &new };
        let mut sequence = 2;
        let mut after = build(sequence, files, true);
        for cut in cuts {
            drop(pair.cut(&after, cut));
            if pair.standing().contains(&sequence) || !retries {
                sequence += 1;
                after = build(sequence, files, true);
            }
            prop_assert!(pair.partials().len() <= 1);
        }
        pushes(&pair, &after);
        let verified = pair.take(after.position(), Form::Full, None).unwrap();
        for entry in &after.manifest.files {
            let bytes = std::fs::read(entry.path.in_dir(verified.files().unwrap())).unwrap();
            prop_assert_eq!(pefo_core::Digest::of(&bytes), entry.blake3);
        }
    }
}
