//! What a push brings over.

use std::os::unix::fs::MetadataExt as _;

use pefo_core::ErrorKind;
use pefo_core::disk::Disk;
use pefo_core::generation::DataSet;
use pefo_core::generation::outgoing::{Item, Outgoing};
use pefo_core::generation::spool::{self, Form};
use pefo_core::heartbeat::Heartbeat;
use pefo_core::progress::Silent;
use pefo_core::reign::{Epoch, Role};
use pefo_transport::{Connection, Purpose};

use crate::pair::{Pair, at, now, rel, state};

#[test]
fn a_full_generation_and_the_batch_after_it_pass_roots_check() {
    let pair = Pair::new();
    let files = [("signed/n.pem", "cert"), ("inventory.txt", "")];
    let mut items = Pair::items(&files);
    let key = b"PRIVATE KEY";
    items.push(Item::sealed(rel("ca_key.pem"), 0o640, key, &[pair.unsealing.recipient()]).unwrap());
    let large = "x".repeat(700_000);
    items.push(Item::open(rel("large"), 0o600, large.clone().into_bytes()));
    let full = pair.full_of(1, items);
    let batch = pair.batch(
        2,
        full.manifest.state(),
        "signed/m.pem",
        &vec![b'y'; 300_000],
    );
    let (done, served) = pair.session(&Disk::new(), |stream| {
        let mut connection = pair.connect(stream)?;
        assert_eq!(connection.peer().certname, pair.b);
        assert_eq!(connection.peer().role, Role::Passive);
        assert_eq!(connection.peer().reign, pair.station_a.current);
        let one = connection.push(&full, &Silent)?;
        let two = connection.push(&batch, &Silent)?;
        connection.close().map(|()| (one, two))
    });
    let (one, two) = done.unwrap();
    assert_eq!(
        (one.files_sent, one.files_reused, one.already),
        (4, 0, false)
    );
    assert!(one.bytes_sent > 700_000);
    assert_eq!((two.position, two.already), (at(2), false));
    let served = served.unwrap();
    assert_eq!(
        served.published,
        [(DataSet::Ca, at(1)), (DataSet::Ca, at(2))]
    );
    assert!(served.goodbye);

    let verified = pair.take(at(1), Form::Full, None).unwrap();
    let dir = verified.files().unwrap();
    assert_eq!(std::fs::read(dir.join("ca_key.pem")).unwrap(), key);
    assert_eq!(std::fs::read_to_string(dir.join("large")).unwrap(), large);
    let batch = pair
        .take(at(2), Form::Batch, Some(&verified.accepted(None)))
        .unwrap();
    assert_eq!(batch.steps().unwrap()[0].1, vec![b'y'; 300_000]);
    let spooled = std::fs::read(pair.ca().join("00000001-000000000001/data/ca_key.pem")).unwrap();
    assert!(
        !spooled.windows(7).any(|window| window == b"PRIVATE"),
        "the spool holds no secret"
    );
    assert_eq!(pair.temps(), 0);
}

#[test]
fn every_data_set_has_a_directory_of_its_own() {
    let pair = Pair::new();
    for dataset in [
        DataSet::Classifier,
        DataSet::Files,
        DataSet::Database("pe/../rbac".into()),
    ] {
        let outgoing = Outgoing::full(
            pair.author(),
            dataset.clone(),
            1,
            vec![],
            crate::pair::description(),
        )
        .unwrap();
        pair.push(&outgoing).unwrap();
        let dir = spool::dataset_dir(&pair.spool(), &dataset);
        assert!(dir.join("00000001-000000000001/manifest").is_file());
        assert_eq!(dir.parent().unwrap(), pair.spool().join("generations"));
    }
}

#[test]
fn an_unchanged_file_is_not_sent_but_linked() {
    let pair = Pair::new();
    let big = "b".repeat(50_000);
    pair.push(&pair.full(1, &[("a", "1"), ("big", &big), ("empty", "")]))
        .unwrap();
    // It moved, and it stays the same file.
    let pushed = pair
        .push(&pair.full(2, &[("a", "2"), ("dir/big", &big), ("empty", "")]))
        .unwrap();
    assert_eq!((pushed.files_sent, pushed.files_reused), (1, 2));
    assert!(pushed.bytes_sent < 10_000);
    let inode = |path: &str| std::fs::metadata(pair.ca().join(path)).unwrap().ino();
    assert_eq!(
        inode("00000001-000000000001/data/big"),
        inode("00000001-000000000002/data/dir/big")
    );
    assert_eq!(pair.standing(), [1, 2]);
}

#[test]
fn a_file_that_was_cut_in_the_spool_is_asked_for_again() {
    let pair = Pair::new();
    pair.push(&pair.full(1, &[("a", "1234")])).unwrap();
    std::fs::write(pair.ca().join("00000001-000000000001/data/a"), "12").unwrap();
    assert_eq!(
        pair.push(&pair.full(2, &[("a", "1234")]))
            .unwrap()
            .files_sent,
        1
    );
    pair.take(at(2), Form::Full, None).unwrap();
}

#[test]
fn after_an_ack_that_wants_a_reconcile_everything_is_asked_for() {
    let pair = Pair::new();
    pair.push(&pair.full(1, &[("a", "1234")])).unwrap();
    // Same length, other bytes: only root's hashing can tell, and its ack says so.
    std::fs::write(pair.ca().join("00000001-000000000001/data/a"), "9999").unwrap();
    assert_eq!(
        pair.push(&pair.full(2, &[("a", "1234")]))
            .unwrap()
            .files_sent,
        0
    );
    assert_eq!(
        pair.take(at(2), Form::Full, None).unwrap_err().rule(),
        Some("digest")
    );
    pair.write_ack(None, None, Some("digest"));
    assert_eq!(
        pair.push(&pair.full(3, &[("a", "1234")]))
            .unwrap()
            .files_sent,
        1
    );
    pair.take(at(3), Form::Full, None).unwrap();
}

#[test]
fn a_generation_that_arrived_before_is_not_sent_twice() {
    let pair = Pair::new();
    let files = [("a", "1")];
    let (full, batch) = (
        pair.full(1, &files),
        pair.batch(2, state(&files), "b", b"2"),
    );
    for already in [false, true] {
        for outgoing in [&full, &batch] {
            assert_eq!(pair.push(outgoing).unwrap().already, already);
        }
    }
    assert_eq!(pair.standing(), [1, 2]);
}

#[test]
fn acks_are_relayed_as_they_are_and_heartbeats_arrive() {
    let pair = Pair::new();
    let ack = pair.write_ack(Some(1), Some(1), None);
    let heartbeat = Heartbeat {
        format: 1,
        site: pair.site.clone(),
        certname: pair.a.clone(),
        epoch: Epoch(1),
        holder: pair.key_a.public().id(),
        heads: [(DataSet::Ca, at(1))].into(),
        time: now(),
    };
    let signed = heartbeat.sign(&pair.key_a).unwrap();
    let (done, served) = pair.session(&Disk::new(), |stream| {
        let mut connection = pair.connect(stream)?;
        let many: Vec<_> = (0..300)
            .map(|n| DataSet::Database(format!("db{n}")))
            .collect();
        assert!(connection.acks(&many)?.is_empty());
        let acks = connection.acks(&[DataSet::Ca, DataSet::Files])?;
        connection.heartbeat(&signed)?;
        connection.close().map(|()| acks)
    });
    assert_eq!(done.unwrap(), [(DataSet::Ca, ack)].into());
    assert_eq!(served.unwrap().heartbeats, 1);
    let stored = std::fs::read(spool::heartbeat_path(&pair.spool(), &pair.a)).unwrap();
    assert_eq!(stored, signed);
}

#[test]
fn a_heartbeat_that_the_peer_did_not_sign_is_refused() {
    let pair = Pair::new();
    let stranger = Pair::new();
    let heartbeat = Heartbeat {
        format: 1,
        site: pair.site.clone(),
        certname: pair.a.clone(),
        epoch: Epoch(1),
        holder: stranger.key_a.public().id(),
        heads: Default::default(),
        time: now(),
    };
    let signed = heartbeat.sign(&stranger.key_a).unwrap();
    let (error, _) = pair.session(&Disk::new(), |stream| {
        let mut connection = pair.connect(stream).unwrap();
        let error = connection.heartbeat(&signed).unwrap_err();
        // The session is over, and says so instead of hanging.
        assert_eq!(
            connection.heartbeat(&signed).unwrap_err().kind(),
            ErrorKind::Protocol
        );
        connection.close().unwrap();
        error
    });
    assert_eq!(error.rule(), Some("signer-unknown"));
    assert!(!pair.spool().join("heartbeats").exists());
}

#[test]
fn a_source_file_that_shrinks_while_it_is_sent_is_told_and_nothing_is_published() {
    let pair = Pair::new();
    let (plain, sealed) = (
        pair.dir.path().join("plain"),
        pair.dir.path().join("sealed"),
    );
    std::fs::write(&plain, vec![7; 5000]).unwrap();
    let item = Item::sealed_file(
        &Disk::new(),
        rel("dump"),
        0o600,
        &plain,
        &sealed,
        &[pair.unsealing.recipient()],
    )
    .unwrap();
    let outgoing = pair.full_of(1, vec![item]);
    std::fs::write(&sealed, b"short").unwrap();
    let error = pair.push(&outgoing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("dump became shorter"), "{error}");
    assert!(pair.standing().is_empty());
}

#[test]
fn asking_who_reigns_is_answered_whatever_reign_the_asker_lives_in() {
    let pair = Pair::new();
    let record = pair.reign(2, &pair.b, &pair.key_b);
    pair.set_station(Role::Active, &record);
    let (peer, served) = pair.session(&Disk::new(), |stream| {
        let connection = Connection::over(stream, &pair.me(), &Purpose::ask()).unwrap();
        let peer = connection.peer().clone();
        connection.close().unwrap();
        peer
    });
    assert_eq!((peer.role, peer.reign), (Role::Active, record));
    assert_eq!(served.unwrap().purpose, Some(Purpose::ask()));
}
