//! Who and what is turned away, and what both sides are told.

use std::io::Cursor;

use pefo_core::disk::Disk;
use pefo_core::generation::spool::noted_reign_path;
use pefo_core::generation::{Position, Site};
use pefo_core::progress::Silent;
use pefo_core::reign::{Epoch, Role, Station};
use pefo_core::{Certname, Error, ErrorKind};
use pefo_transport::frame::{self, Frame, PREAMBLE};
use pefo_transport::message::{Need, Offer, Protocols, Shape, Welcome};
use pefo_transport::{Connection, Introduced, Limits, Purpose, check_original_command};

use crate::pair::{Pair, at, refusal, state};
use crate::streams::Replay;

fn shown(error: &Error) -> String {
    format!(
        "{}: {error} ({})",
        error.kind().name(),
        error.hint_text().unwrap_or("no hint")
    )
}

/// Greets as `me`; both sides have to agree on why not.
fn greet_error(pair: &Pair, me: &Introduced) -> Error {
    let purpose: Purpose = "ca".parse().unwrap();
    let (error, served) = pair.session(&Disk::new(), |stream| {
        Connection::over(stream, me, &purpose).unwrap_err()
    });
    let told = served.unwrap_err();
    assert_eq!((error.kind(), error.rule()), (told.kind(), told.rule()));
    error
}

#[test]
fn another_site_and_the_host_itself_are_refused() {
    let pair = Pair::new();
    let mut me = pair.me();
    me.site = Site::new("ffffffffffffffffffffffffffffffff").unwrap();
    insta::assert_snapshot!(shown(&greet_error(&pair, &me)), @"refused: the peer: a.lab belongs to site ffffffffffffffffffffffffffffffff, b.lab to 0123456789abcdef0123456789abcdef [site] (pair the two masters: pefo init)");
    let mut me = pair.me();
    me.certname = Certname::new("b.lab").unwrap();
    insta::assert_snapshot!(shown(&greet_error(&pair, &me)), @"refused: the peer: b.lab would push to itself [same-host] (the peer's host in the configuration leads back to this master)");
}

#[test]
fn an_ended_reign_is_fenced() {
    let pair = Pair::new();
    pair.set_station(Role::Active, &pair.reign(2, &pair.b, &pair.key_b));
    let error = greet_error(&pair, &pair.me());
    insta::assert_snapshot!(shown(&error), @"fenced: the peer: epoch 1 has ended: b.lab reigns with epoch 2 (this master was replaced; 'pefo demote' makes it the spare of the new one)");
}

#[test]
fn a_spare_that_knows_of_a_newer_reign_takes_nothing_of_the_old_one() {
    let pair = Pair::new();
    let path = pair.dir.path().join("station.json");
    let mut station = Station::load(&path).unwrap();
    station.rival = Some(pair.reign(2, &pair.b, &pair.key_b));
    station.store(&Disk::new(), &path).unwrap();
    let error = greet_error(&pair, &pair.me());
    insta::assert_snapshot!(shown(&error), @"fenced: the peer: epoch 1 has ended: b.lab reigns with epoch 2 (this master was replaced; 'pefo demote' makes it the spare of the new one)");
    assert!(pair.standing().is_empty());
}

#[test]
fn a_spare_that_is_about_to_reign_takes_nothing_more() {
    let pair = Pair::new();
    let path = pair.dir.path().join("station.json");
    let station = Station::load(&path).unwrap();
    let changing = station.clone().about_to(Role::Active, Epoch(2));
    changing.store(&Disk::new(), &path).unwrap();
    let error = pair.push(&pair.full(1, &[("a", "1")])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert!(pair.standing().is_empty());
    // It was given up: all is as before.
    station.store(&Disk::new(), &path).unwrap();
    pair.push(&pair.full(1, &[("a", "1")])).unwrap();
}

#[test]
fn a_former_active_that_has_not_stepped_down_says_so_to_the_new_one() {
    let pair = Pair::new();
    pair.set_station(Role::Active, &pair.reign(1, &pair.b, &pair.key_b));
    let mut me = pair.me();
    me.station.current = pair.reign(2, &pair.a, &pair.key_a);
    insta::assert_snapshot!(shown(&greet_error(&pair, &me)), @"wrong_role: the peer: b.lab was the active until epoch 1 and has not stepped down yet (run 'pefo demote' there)");
    let noted = noted_reign_path(&pair.spool(), &pair.a);
    assert_eq!(std::fs::read_to_string(noted).unwrap(), me.station.current);
}

#[test]
fn two_holders_of_one_epoch_are_a_split_reign() {
    let pair = Pair::new();
    pair.set_station(Role::Active, &pair.reign(1, &pair.b, &pair.key_b));
    let error = greet_error(&pair, &pair.me());
    assert_eq!(
        (error.kind(), error.rule()),
        (ErrorKind::Refused, Some("split-reign"))
    );
    for key in [&pair.key_a, &pair.key_b] {
        assert!(
            error.to_string().contains(key.public().id().as_str()),
            "{error}"
        );
    }
}

#[test]
fn a_newer_reign_is_refused_but_noted_for_root_if_a_known_key_signed_it() {
    let pair = Pair::new();
    let mut me = pair.me();
    me.station.current = pair.reign(2, &pair.a, &pair.key_a);
    assert_eq!(greet_error(&pair, &me).rule(), Some("reign-unknown"));
    let noted = noted_reign_path(&pair.spool(), &pair.a);
    assert_eq!(std::fs::read_to_string(&noted).unwrap(), me.station.current);

    let stranger = Pair::new();
    me.station.current = pair.reign(9, &pair.a, &stranger.key_a);
    assert_eq!(greet_error(&pair, &me).rule(), Some("signer-unknown"));
    assert_ne!(std::fs::read_to_string(&noted).unwrap(), me.station.current);
}

#[test]
fn an_active_master_takes_nothing() {
    let pair = Pair::new();
    pair.set_station(Role::Active, &pair.station_a.current);
    let error = pair.push(&pair.full(1, &[("a", "1")])).unwrap_err();
    insta::assert_snapshot!(shown(&error), @"wrong_role: b.lab: b.lab is active and takes nothing ('pefo status' on both masters shows who reigns; one of them has to be demoted)");
    assert!(pair.standing().is_empty());
}

#[test]
fn a_host_that_is_not_paired_says_so() {
    let pair = Pair::new();
    std::fs::remove_file(pair.dir.path().join("station.json")).unwrap();
    let error = greet_error(&pair, &pair.me());
    insta::assert_snapshot!(shown(&error), @"config: the peer: this host is not paired (pair it: pefo init passive --join LINE)");
}

#[test]
fn a_reign_that_changes_between_offer_and_publish_stops_the_publish() {
    let pair = Pair::new();
    for (form, change) in [
        (Shape::Full, Role::Passive),
        (Shape::Batch, Role::Passive),
        (Shape::Full, Role::Active),
    ] {
        let outgoing = match form {
            Shape::Full => pair.full(1, &[("a", "1")]),
            Shape::Batch => pair.batch(1, state(&[]), "a", b"1"),
        };
        let ((), served) = pair.session(&Disk::new(), |mut stream| {
            let mut line = Line::greeted(&pair, &mut stream);
            line.say(&Frame::Offer(Offer {
                dataset: outgoing.manifest.dataset.clone(),
                position: outgoing.position(),
                form,
                document_bytes: outgoing.document.len() as u64,
                files: outgoing.manifest.files.len() as u32,
                payload_bytes: outgoing.manifest.stored_bytes(),
            }));
            line.say(&Frame::Data(outgoing.document.clone()));
            match &outgoing.payload {
                pefo_core::generation::Payload::Batch(payload) => {
                    line.say(&Frame::Data(payload.clone()))
                }
                _ => {
                    assert!(matches!(line.hear(), Frame::Need(Need::Files(_))));
                    line.say(&Frame::File(pefo_transport::message::FileHead {
                        index: 0,
                        size: 1,
                    }));
                    line.say(&Frame::Data(b"1".to_vec()));
                }
            }
            // The spare is promoted, or its reign passes to itself, at this very moment.
            match change {
                Role::Passive => pair.set_station(change, &pair.reign(2, &pair.b, &pair.key_b)),
                Role::Active => pair.set_station(change, &pair.station_a.current),
            }
            line.say(&Frame::Publish);
            let Frame::Refuse(refuse) = line.hear() else {
                panic!("it was published")
            };
            assert_eq!(
                refuse.kind,
                if change == Role::Active {
                    "wrong_role"
                } else {
                    "fenced"
                }
            );
        });
        served.unwrap_err();
        assert!(pair.standing().is_empty());
        assert_eq!(pair.temps(), 0);
        pair.set_station(Role::Passive, &pair.station_a.current);
    }
    pair.push(&pair.full(1, &[("a", "1")])).unwrap();
}

/// A sender spoken frame by frame.
struct Line<'a> {
    stream: &'a mut std::os::unix::net::UnixStream,
    read: Vec<u8>,
}

impl<'a> Line<'a> {
    fn greeted(pair: &Pair, stream: &'a mut std::os::unix::net::UnixStream) -> Self {
        use std::io::{Read as _, Write as _};
        stream.write_all(&PREAMBLE).unwrap();
        let mut preamble = [0; 8];
        stream.read_exact(&mut preamble).unwrap();
        assert_eq!(preamble, PREAMBLE);
        let mut line = Self {
            stream,
            read: Vec::new(),
        };
        line.say(&Frame::Hello(pair.hello()));
        assert!(matches!(line.hear(), Frame::Welcome(_)));
        line
    }

    fn say(&mut self, frame: &Frame) {
        use std::io::Write as _;
        let mut bytes = Vec::new();
        frame::encode(frame, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    fn hear(&mut self) -> Frame {
        use std::io::Read as _;
        loop {
            if let Some((frame, used)) = frame::decode(&self.read).unwrap() {
                self.read.drain(..used);
                return frame;
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the receiver ended without an answer");
            self.read.extend_from_slice(&buffer[..count]);
        }
    }
}

#[test]
fn positions_only_go_forward_and_one_position_is_one_generation() {
    let pair = Pair::new();
    pair.push(&pair.full(5, &[("a", "1")])).unwrap();
    let older = pair.push(&pair.full(4, &[("a", "1")])).unwrap_err();
    assert_eq!(older.rule(), Some("generation-old"));
    let other = pair.push(&pair.full(5, &[("a", "other")])).unwrap_err();
    assert_eq!(other.rule(), Some("generation-conflict"));
    // A spool that was emptied does not bring back what root has accepted.
    pair.clear_spool();
    pair.write_ack(Some(5), None, None);
    assert_eq!(
        pair.push(&pair.full(5, &[("a", "other")]))
            .unwrap_err()
            .rule(),
        Some("generation-old")
    );
    pair.push(&pair.full(6, &[("a", "1")])).unwrap();
}

#[test]
fn what_is_too_large_or_does_not_fit_is_refused_before_it_is_sent() {
    let mut pair = Pair::new();
    let outgoing = pair.full(1, &[("a", "12345"), ("b", "1")]);
    let limits = |limits: Limits| limits.free_bytes(0);
    for (set, rule) in [
        (
            limits(Limits::default().generation_bytes(5)),
            "generation-size",
        ),
        (limits(Limits::default().files(1)), "generation-size"),
        (limits(Limits::default().quota_bytes(5)), "spool-full"),
        (Limits::default().free_bytes(u64::MAX / 2), "spool-full"),
    ] {
        pair.limits = set;
        let error = pair.push(&outgoing).unwrap_err();
        assert_eq!(error.rule(), Some(rule), "{error}");
        assert!(error.hint_text().is_some());
        assert_eq!(pair.temps(), 0);
    }
    pair.limits = limits(
        Limits::default()
            .generation_bytes(6)
            .files(2)
            .quota_bytes(20_000),
    );
    pair.push(&outgoing).unwrap();
}

#[test]
fn a_second_session_of_one_data_set_is_told_and_other_data_sets_go_on() {
    let pair = Pair::new();
    let ((), served) = pair.session(&Disk::new(), |stream| {
        let mut first = pair.connect(stream).unwrap();
        first.push(&pair.full(1, &[("a", "1")]), &Silent).unwrap();
        let error = pair.push(&pair.full(2, &[("a", "2")])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.is_retryable());
        insta::assert_snapshot!(error, @"b.lab: another session is sending ca to b.lab");
        first.push(&pair.full(2, &[("a", "2")]), &Silent).unwrap();
        first.close().unwrap();
    });
    served.unwrap();
    pair.push(&pair.full(3, &[("a", "3")])).unwrap();
}

#[test]
fn a_receiver_of_another_version_is_told_and_tells() {
    let pair = Pair::new();
    // A newer sender.
    let mut hello = pair.hello();
    hello.protocol = Protocols { min: 7, max: 8 };
    let mut bytes = PREAMBLE.to_vec();
    frame::encode(&Frame::Hello(hello), &mut bytes).unwrap();
    let (frames, served) = pair.recite_bytes(&bytes, &Disk::new());
    let refuse = refusal(&frames);
    insta::assert_snapshot!(refuse.message, @"no common protocol: pefo test speaks 7 to 8, this pefo speaks 1");
    assert_eq!(refuse.kind, "protocol");
    assert_eq!(served.unwrap_err().kind(), ErrorKind::Protocol);

    // A receiver that chooses what was not offered.
    let welcome = Welcome {
        protocol: 2,
        tool: "pefo 9".into(),
        site: pair.site.clone(),
        certname: pair.b.clone(),
        role: Role::Passive,
        reign: String::new(),
        capabilities: vec![],
        time: None,
    };
    let error = hear(&pair, &[Frame::Welcome(welcome.clone())]);
    insta::assert_snapshot!(shown(&error), @"protocol: the peer chose protocol 2, this pefo speaks 1 (upgrade pefo on the older of the two masters)");
    let other = Site::new("ffffffffffffffffffffffffffffffff").unwrap();
    let error = hear(
        &pair,
        &[Frame::Welcome(Welcome {
            protocol: 1,
            site: other,
            ..welcome
        })],
    );
    assert_eq!(error.rule(), Some("site"));
    assert_eq!(hear(&pair, &[Frame::Ok]).kind(), ErrorKind::Protocol);
}

fn hear(pair: &Pair, said: &[Frame]) -> Error {
    let mut bytes = PREAMBLE.to_vec();
    said.iter()
        .for_each(|frame| frame::encode(frame, &mut bytes).unwrap());
    hear_bytes(pair, &bytes)
}

fn hear_bytes(pair: &Pair, bytes: &[u8]) -> Error {
    let replay = Replay(Cursor::new(bytes.to_vec()));
    Connection::over(replay, &pair.me(), &Purpose::ask()).unwrap_err()
}

#[test]
fn what_is_no_pefo_is_quoted_with_a_hint() {
    let pair = Pair::new();
    insta::assert_snapshot!(shown(&hear_bytes(&pair, b"Welcome to B!\r\n")), @r#"protocol: the peer did not answer as pefo; its first bytes were "Welcome to B!  " (the transfer account's login must start 'pefo receive' and print nothing before: look at its shell, shell start-up files and the command= in authorized_keys)"#);
    insta::assert_snapshot!(shown(&hear_bytes(&pair, b"PEFO\n\x1a\n")), @r#"protocol: the peer did not answer as pefo; its first bytes were "PEFO   " (the line changes line ends or cuts bytes; it must be a plain ssh session without a terminal)"#);
    insta::assert_snapshot!(shown(&hear_bytes(&pair, b"SSH-2.0-OpenSSH")), @r#"protocol: the peer did not answer as pefo; its first bytes were "SSH-2.0-OpenSSH" (this is an ssh server itself, not a session in it)"#);
    insta::assert_snapshot!(shown(&hear_bytes(&pair, b"")), @"protocol: the peer ended the session without a word (see whether 'pefo receive' runs on the other master: pefo check)");
    let (_, served) = pair.recite_bytes(b"GET / HTTP/1.1\r\n", &Disk::new());
    assert_eq!(served.unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn only_pefo_receive_may_be_asked_of_the_forced_command() {
    check_original_command(None).unwrap();
    check_original_command(Some("pefo receive")).unwrap();
    for asked in [
        "",
        "sh",
        "pefo receive; sh",
        "pefo  receive",
        "rsync --server\x1b[2J",
    ] {
        let error = check_original_command(Some(asked)).unwrap_err();
        assert_eq!(error.rule(), Some("forced-command"));
        assert!(!error.to_string().contains('\x1b'));
    }
}

#[test]
fn a_generation_of_an_older_epoch_is_fenced_even_on_a_current_line() {
    let pair = Pair::new();
    let mut me = pair.me();
    let record = pair.reign(3, &pair.a, &pair.key_a);
    me.station.current = record.clone();
    pair.set_station(Role::Passive, &record);
    let old = pair.full(1, &[("a", "1")]);
    let (error, _) = pair.session(&Disk::new(), |stream| {
        let mut connection = Connection::over(stream, &me, &"ca".parse().unwrap()).unwrap();
        connection.push(&old, &Silent).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(
        old.position(),
        Position {
            epoch: Epoch(1),
            ..at(1)
        }
    );
    assert_eq!(pair.temps(), 0);
}
