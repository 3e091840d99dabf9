//! Requests to the spare's root and back: what is carried, what is turned away, by either side.

mod hostile;

use std::io::Cursor;
use std::sync::Arc;

use pefo_core::disk::fault::StopAt;
use pefo_core::disk::{Beneath, Disk};
use pefo_core::document::{self, Domain, Kind};
use pefo_core::generation::spool::{self, MAX_REQUESTS, noted_reign_path};
use pefo_core::generation::{DataSet, Site};
use pefo_core::keys::{SigningKey, system_random};
use pefo_core::lock::Lock;
use pefo_core::reign::{Epoch, Role};
use pefo_core::request::{Answer, Nonce, Outcome, Request, Subject};
use pefo_core::{Certname, Error, ErrorKind, RelPath, Result};
use pefo_transport::frame::{self, Frame, PREAMBLE};
use pefo_transport::message::{AnswerHead, Capabilities, Refuse, Welcome};
use pefo_transport::{Connection, Purpose, Served};

use crate::pair::{Pair, now, refusal};
use crate::streams::Replay;

fn nonce(n: u8) -> Nonce {
    Nonce::from_random([n; 16])
}

/// What A may ask.
fn request(pair: &Pair, n: u8) -> Request {
    Request {
        format: 1,
        site: pair.site.clone(),
        certname: pair.a.clone(),
        epoch: Epoch(1),
        holder: pair.key_a.public().id(),
        nonce: nonce(n),
        time: now(),
        subject: Subject::Verify {
            dataset: DataSet::Ca,
        },
    }
}

fn signed(pair: &Pair, n: u8) -> Vec<u8> {
    request(pair, n).sign(&pair.key_a).unwrap()
}

/// A session for nothing but asking, in which errors are looked at.
fn session<T>(
    pair: &Pair,
    disk: &Disk,
    talk: impl FnOnce(&mut Connection) -> T,
) -> (T, Result<Served>) {
    pair.session(disk, |stream| {
        let mut connection = Connection::over(stream, &pair.me(), &Purpose::ask()).unwrap();
        let said = talk(&mut connection);
        drop(connection.close());
        said
    })
}

fn hand_over(pair: &Pair, document: &[u8]) -> Result<()> {
    session(pair, &Disk::new(), |connection| {
        connection.request(document)
    })
    .0
}

/// What B's root finds in the spool, by the names, unchecked.
fn waiting(pair: &Pair) -> Vec<Nonce> {
    let dir = spool::requests_dir(&pair.spool(), &pair.a);
    match Beneath::open(&dir) {
        Ok(dir) => spool::list_requests(&dir).unwrap(),
        Err(_) => Vec::new(),
    }
}

/// What B's root does: reads a request, checks it, answers it.
fn answer_as_root(pair: &Pair, n: u8) -> Vec<u8> {
    let dir = Beneath::open(&spool::requests_dir(&pair.spool(), &pair.a)).unwrap();
    let name = RelPath::new(nonce(n).as_str()).unwrap();
    let document = dir.read(&name, Request::MAX_BYTES).unwrap();
    let request = Request::check(&document, &pair.site, &[pair.key_a.public()]).unwrap();
    let answer = Answer::to(&request, &document, pair.b.clone(), now(), Outcome::Done);
    let bytes = answer.sign(&request, &pair.key_b).unwrap();
    publish(pair, n, &bytes);
    bytes
}

fn publish(pair: &Pair, n: u8, bytes: &[u8]) {
    let answers = pair.options().answers;
    std::fs::create_dir_all(&answers).unwrap();
    std::fs::write(spool::answer_path(&answers, &nonce(n)), bytes).unwrap();
}

fn fetch(pair: &Pair, n: u8) -> Result<Option<Vec<u8>>> {
    let (answer, _) = session(pair, &Disk::new(), |connection| {
        connection.answer(&nonce(n))
    });
    answer
}

fn shown(error: &Error) -> String {
    format!(
        "{}: {error} ({})",
        error.kind().name(),
        error.hint_text().unwrap_or("no hint")
    )
}

#[test]
fn a_request_is_answered_by_root_and_the_answer_is_to_just_this_request() {
    let pair = Pair::new();
    let (asked, document) = (request(&pair, 7), signed(&pair, 7));
    let ((), served) = session(&pair, &Disk::new(), |connection| {
        connection.ping().unwrap();
        connection.request(&document).unwrap();
        assert_eq!(connection.answer(&nonce(7)).unwrap(), None);
        let given = answer_as_root(&pair, 7);
        let fetched = connection.answer(&nonce(7)).unwrap().unwrap();
        assert_eq!(fetched, given);
        let keys = [pair.key_b.public()];
        let answer = Answer::check(&fetched, &asked, &document, &keys).unwrap();
        assert_eq!(answer.outcome, Outcome::Done);
        // The same question later is another request, and gets no old answer.
        let (later, again) = (request(&pair, 8), signed(&pair, 8));
        connection.request(&again).unwrap();
        assert_eq!(connection.answer(&nonce(8)).unwrap(), None);
        let error = Answer::check(&fetched, &later, &again, &keys).unwrap_err();
        assert_eq!(error.rule(), Some("answer-request"));
        connection.ping().unwrap();
    });
    let served = served.unwrap();
    assert!(served.goodbye);
    assert_eq!(served.requests, 2);
}

#[test]
fn the_same_request_may_be_handed_over_again_but_no_other_of_its_nonce() {
    let pair = Pair::new();
    for _ in 0..2 {
        hand_over(&pair, &signed(&pair, 7)).unwrap();
        assert_eq!(waiting(&pair), [nonce(7)]);
    }
    let mut other = request(&pair, 7);
    other.subject = Subject::Reconcile {
        dataset: DataSet::Ca,
    };
    let error = hand_over(&pair, &other.sign(&pair.key_a).unwrap()).unwrap_err();
    assert_eq!(error.rule(), Some("request-conflict"));
    // What is answered is not asked again, though it be sent again.
    answer_as_root(&pair, 7);
    std::fs::remove_dir_all(pair.spool().join("requests")).unwrap();
    hand_over(&pair, &signed(&pair, 7)).unwrap();
    assert_eq!(waiting(&pair), []);
}

#[test]
fn only_so_many_requests_wait_and_none_is_put_out_for_a_newer_one() {
    let pair = Pair::new();
    let most = u8::try_from(MAX_REQUESTS).unwrap();
    for n in 0..most {
        hand_over(&pair, &signed(&pair, n)).unwrap();
    }
    let error = hand_over(&pair, &signed(&pair, most)).unwrap_err();
    insta::assert_snapshot!(shown(&error), @"refused: b.lab: 16 requests wait for root on b.lab [requests-pending] (root answers at the end of 'pefo apply': see whether it runs there)");
    assert_eq!(waiting(&pair), (0..most).map(nonce).collect::<Vec<_>>());
    hand_over(&pair, &signed(&pair, 3)).unwrap();
    // An answer makes room for one.
    answer_as_root(&pair, 3);
    hand_over(&pair, &signed(&pair, most)).unwrap();
    assert_eq!(waiting(&pair).len(), MAX_REQUESTS);
    assert!(!waiting(&pair).contains(&nonce(3)));
    hand_over(&pair, &signed(&pair, most + 1)).unwrap_err();
}

#[test]
fn nothing_is_said_to_a_peer_that_has_no_requests_and_the_session_goes_on() {
    let pair = Pair::new();
    let welcome = Frame::Welcome(Welcome {
        protocol: 1,
        tool: "pefo 0.1.0".into(),
        site: pair.site.clone(),
        certname: pair.b.clone(),
        role: Role::Passive,
        reign: String::new(),
        capabilities: vec!["ask".into()],
        time: None,
    });
    let mut connection = hear(&pair, &[welcome, Frame::Ok]).unwrap();
    let errors = [
        connection.request(&signed(&pair, 7)).unwrap_err(),
        connection.answer(&nonce(7)).unwrap_err(),
        connection
            .notice(pair.station_a.current.as_bytes())
            .unwrap_err(),
        connection.ping().unwrap_err(),
    ];
    insta::assert_snapshot!(errors.each_ref().map(shown).join("\n"), @r"
    protocol: b.lab (pefo 0.1.0) speaks no requests (upgrade pefo there)
    protocol: b.lab (pefo 0.1.0) speaks no requests (upgrade pefo there)
    protocol: b.lab (pefo 0.1.0) speaks no requests (upgrade pefo there)
    protocol: b.lab (pefo 0.1.0) speaks no pings (upgrade pefo there)
    ");
    connection
        .heartbeat(b"pefo-document 1 heartbeat\n")
        .unwrap();
}

/// A sender that hears just these frames.
fn hear(pair: &Pair, said: &[Frame]) -> Result<Connection> {
    let mut bytes = PREAMBLE.to_vec();
    said.iter()
        .for_each(|frame| frame::encode(frame, &mut bytes).unwrap());
    Connection::over(Replay(Cursor::new(bytes)), &pair.me(), &Purpose::ask())
}

#[test]
fn a_long_answer_arrives_whole_and_what_is_no_answers_file_is_not_read() {
    let pair = Pair::new();
    assert_eq!(fetch(&pair, 1).unwrap(), None, "there is no directory yet");
    let long: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    publish(&pair, 1, &long);
    assert_eq!(fetch(&pair, 1).unwrap().unwrap(), long);
    publish(&pair, 2, b"");
    assert_eq!(fetch(&pair, 2).unwrap(), None);
    let path = |n| spool::answer_path(&pair.options().answers, &nonce(n));
    std::os::unix::fs::symlink(pair.dir.path().join("station.json"), path(3)).unwrap();
    assert_eq!(fetch(&pair, 3).unwrap_err().kind(), ErrorKind::Io);
    std::fs::create_dir(path(4)).unwrap();
    assert_eq!(fetch(&pair, 4).unwrap_err().kind(), ErrorKind::Invalid);
    let file = std::fs::File::create(path(5)).unwrap();
    file.set_len(Answer::MAX_BYTES + 1).unwrap();
    assert_eq!(fetch(&pair, 5).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_notice_of_a_newer_reign_is_noted_for_root_whoever_reigns_here() {
    for role in [Role::Passive, Role::Active] {
        let pair = Pair::new();
        let current = pair.reign(3, &pair.a, &pair.key_a);
        pair.set_station(role, &current);
        let notice = |record: &str| {
            let (told, _) = session(&pair, &Disk::new(), |connection| {
                connection.notice(record.as_bytes())
            });
            told
        };
        let noted = |certname: &Certname| {
            std::fs::read_to_string(noted_reign_path(&pair.spool(), certname)).ok()
        };
        notice(&pair.reign(2, &pair.b, &pair.key_b)).unwrap();
        notice(&current).unwrap();
        assert_eq!((noted(&pair.a), noted(&pair.b)), (None, None));

        let split = notice(&pair.reign(3, &pair.b, &pair.key_b)).unwrap_err();
        assert_eq!(split.rule(), Some("split-reign"));
        let stranger = SigningKey::ephemeral(&system_random()).unwrap();
        let forged = notice(&pair.reign(9, &pair.b, &stranger)).unwrap_err();
        assert_eq!(forged.rule(), Some("signer-unknown"));
        assert_eq!(noted(&pair.b), None);

        let newest = pair.reign(5, &pair.b, &pair.key_b);
        notice(&newest).unwrap();
        assert_eq!(noted(&pair.b).as_ref(), Some(&newest));
        // One that came between is told late: what is known already stays.
        notice(&pair.reign(4, &pair.b, &pair.key_b)).unwrap();
        assert_eq!(noted(&pair.b), Some(newest));
    }
}

#[test]
fn two_sessions_that_hand_over_requests_do_not_meet() {
    let pair = Pair::new();
    hand_over(&pair, &signed(&pair, 1)).unwrap();
    let dir = spool::requests_dir(&pair.spool(), &pair.a);
    let lock = Lock::take(&dir.join(".pefo-lock")).unwrap();
    let error = hand_over(&pair, &signed(&pair, 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    insta::assert_snapshot!(shown(&error), @"locked: b.lab: another session is handing a request to b.lab (it takes a moment; try again)");
    drop(lock);
    hand_over(&pair, &signed(&pair, 2)).unwrap();
}

#[test]
fn a_receiver_killed_at_any_moment_loses_nothing_that_it_has_said_ok_to() {
    let pair = Pair::new();
    let document = signed(&pair, 7);
    for operations in 0.. {
        pair.clear_spool();
        let stop = Arc::new(StopAt::new(operations));
        let disk = Disk::with_hook(stop.clone());
        let (told, _) = session(&pair, &disk, |connection| connection.request(&document));
        if told.is_ok() {
            assert_eq!(waiting(&pair), [nonce(7)]);
        }
        hand_over(&pair, &document).unwrap();
        let names = std::fs::read_dir(spool::requests_dir(&pair.spool(), &pair.a)).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".pefo-lock", nonce(7).as_str()], "{operations}");
        if !stop.has_stopped() {
            assert!(operations > 5);
            return;
        }
    }
}
