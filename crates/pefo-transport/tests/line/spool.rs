//! What stays in the spool, and what goes.

use pefo_core::disk::Disk;
use pefo_core::generation::DataSet;
use pefo_core::generation::spool::{self, Form};
use pefo_core::progress::Silent;
use pefo_transport::Limits;

use crate::pair::{Pair, at, state};

const FILES: [(&str, &str); 1] = [("a", "1")];

#[test]
fn the_newest_generations_stay_and_of_the_old_ones_those_that_root_has_not_applied() {
    let mut pair = Pair::new();
    pair.limits = Limits::default().free_bytes(0).keep(2);
    for sequence in 1..=4 {
        pair.push(&pair.full(sequence, &FILES)).unwrap();
    }
    assert_eq!(pair.standing(), [1, 2, 3, 4], "without an ack nothing goes");
    pair.write_ack(Some(3), Some(1), None);
    pair.push(&pair.full(5, &FILES)).unwrap();
    assert_eq!(pair.standing(), [2, 3, 4, 5]);
    pair.write_ack(Some(5), Some(5), None);
    pair.push(&pair.full(6, &FILES)).unwrap();
    assert_eq!(pair.standing(), [5, 6]);
    assert_eq!(pair.temps(), 0);
}

#[test]
fn the_newest_full_generation_stays_behind_any_number_of_batches() {
    let mut pair = Pair::new();
    pair.limits = Limits::default().free_bytes(0).keep(2);
    pair.push(&pair.full(1, &FILES)).unwrap();
    for sequence in 2..=5 {
        pair.write_ack(Some(sequence - 1), Some(sequence - 1), None);
        pair.push(&pair.batch(sequence, state(&FILES), "b", b"2"))
            .unwrap();
    }
    assert_eq!(pair.standing(), [1, 4, 5]);
    assert_eq!(pair.push(&pair.full(6, &FILES)).unwrap().files_reused, 1);
}

#[test]
fn an_old_full_generation_goes_when_another_full_one_comes_and_keeps_no_batch_waiting() {
    let mut pair = Pair::new();
    pair.limits = Limits::default().free_bytes(0).keep(2);
    for sequence in 1..=2 {
        pair.push(&pair.full(sequence, &FILES)).unwrap();
    }
    for sequence in 3..=5 {
        pair.write_ack(Some(sequence - 1), Some(sequence - 1), None);
        pair.push(&pair.batch(sequence, state(&FILES), "b", b"2"))
            .unwrap();
    }
    assert_eq!(pair.standing(), [1, 2, 4, 5]);
    pair.write_ack(Some(5), Some(5), None);
    pair.push(&pair.full(6, &FILES)).unwrap();
    assert_eq!(pair.standing(), [5, 6]);
}

#[test]
fn an_ack_that_root_did_not_sign_removes_nothing() {
    let mut pair = Pair::new();
    pair.limits = Limits::default().free_bytes(0).keep(1);
    let stranger = Pair::new();
    stranger.write_ack(Some(9), Some(9), None);
    std::fs::copy(stranger.acks().join("ca.ack"), pair.acks().join("ca.ack")).unwrap();
    for sequence in 1..=3 {
        pair.push(&pair.full(sequence, &FILES)).unwrap();
    }
    assert_eq!(pair.standing(), [1, 2, 3]);
}

#[test]
fn a_quota_counts_a_linked_file_once_and_is_free_again_after_retention() {
    let mut pair = Pair::new();
    let big = "x".repeat(100_000);
    pair.limits = Limits::default().free_bytes(0).keep(1).quota_bytes(150_000);
    for sequence in 1..=3 {
        pair.push(&pair.full(sequence, &[("big", &big)])).unwrap();
    }
    let other = "y".repeat(100_000);
    let error = pair.push(&pair.full(4, &[("big", &other)])).unwrap_err();
    assert_eq!(error.rule(), Some("spool-full"));
    assert!(error.hint_text().unwrap().contains("once they are applied"));
    pair.limits = pair.limits.clone().quota_bytes(250_000);
    pair.write_ack(Some(3), Some(3), None);
    pair.push(&pair.full(4, &[("big", &other)])).unwrap();
    pair.write_ack(Some(4), Some(4), None);
    pair.push(&pair.full(5, &[("big", &"z".repeat(100_000))]))
        .unwrap();
    assert_eq!(pair.standing(), [5]);
}

#[test]
fn what_a_killed_session_left_is_cleared_and_strangers_files_are_not_touched() {
    let pair = Pair::new();
    let dir = pair.ca();
    std::fs::create_dir_all(dir.join(".pefo-00000001-000000000001.tmp/data")).unwrap();
    std::fs::write(dir.join(".pefo-00000001-000000000001.tmp/data/a"), "half").unwrap();
    std::fs::write(dir.join(".pefo-00000001-000000000001-batch.tmp"), "half").unwrap();
    std::fs::write(dir.join("README"), "mine").unwrap();
    pair.push(&pair.full(1, &FILES)).unwrap();
    assert_eq!(pair.temps(), 0);
    assert_eq!(std::fs::read_to_string(dir.join("README")).unwrap(), "mine");
    pair.take(at(1), Form::Full, None).unwrap();
}

#[test]
fn one_session_may_carry_several_data_sets() {
    let pair = Pair::new();
    let of = |dataset: &DataSet| {
        pefo_core::generation::Outgoing::full(
            pair.author(),
            dataset.clone(),
            1,
            Pair::items(&FILES),
            crate::pair::description(),
        )
        .unwrap()
    };
    let datasets = [DataSet::Database("a".into()), DataSet::Database("b".into())];
    let (done, served) = pair.session(&Disk::new(), |stream| {
        let mut connection = pair.connect(stream).unwrap();
        for dataset in &datasets {
            connection.push(&of(dataset), &Silent).unwrap();
        }
        connection.close()
    });
    done.unwrap();
    assert_eq!(served.unwrap().published.len(), 2);
    for dataset in &datasets {
        assert!(
            spool::dataset_dir(&pair.spool(), dataset)
                .join(at(1).to_string())
                .is_dir()
        );
    }
}
