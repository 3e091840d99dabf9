//! Who asks without the right to, or says more than was agreed.

use super::*;

/// Says frames that no honest sender would; gives how the receiver refused them.
fn refused(pair: &Pair, said: &[Frame]) -> Refuse {
    let mut bytes = PREAMBLE.to_vec();
    let mut hello = pair.hello();
    hello.purpose = Purpose::ask();
    hello.capabilities = Capabilities::OURS.words();
    for frame in [&Frame::Hello(hello)].into_iter().chain(said) {
        frame::encode(frame, &mut bytes).unwrap();
    }
    let (frames, served) = pair.recite_bytes(&bytes, &Disk::new());
    served.unwrap_err();
    refusal(&frames)
}

#[test]
fn what_the_reigns_holder_did_not_sign_never_reaches_root() {
    let pair = Pair::new();
    let stranger = SigningKey::ephemeral(&system_random()).unwrap();
    let with = |change: &dyn Fn(&mut Request), key: &SigningKey| {
        let mut request = request(&pair, 7);
        change(&mut request);
        request.sign(key).unwrap()
    };
    let by = |key: &SigningKey| {
        let holder = key.public().id();
        with(&|request| request.holder = holder.clone(), key)
    };
    let other = Site::new("ffffffffffffffffffffffffffffffff").unwrap();
    let of_another_kind = document::sign(
        &request(&pair, 7),
        Domain {
            kind: Kind::Heartbeat,
            site: &pair.site,
            dataset: None,
        },
        &pair.key_a,
    )
    .unwrap();
    let mut altered = signed(&pair, 7);
    *altered.last_mut().unwrap() = b' ';
    let in_bs_name = with(&|request| request.certname = pair.b.clone(), &pair.key_a);
    for (document, rule) in [
        (by(&stranger), "signer-unknown"),
        (by(&pair.key_b), "split-reign"),
        (with(&|_| {}, &pair.key_b), "request-record"),
        (
            with(&|request| request.site = other.clone(), &pair.key_a),
            "signature",
        ),
        (
            with(&|request| request.epoch = Epoch(2), &pair.key_a),
            "reign-unknown",
        ),
        (in_bs_name, "request-record"),
        (of_another_kind, "document-kind"),
        (altered, "signature"),
    ] {
        let error = hand_over(&pair, &document).unwrap_err();
        assert_eq!(error.rule(), Some(rule), "{error}");
        assert_eq!(waiting(&pair), []);
    }
    assert_eq!(
        hand_over(&pair, b"junk").unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let record = pair.reign(2, &pair.a, &pair.key_a);
    let mut me = pair.me();
    me.station.current = record.clone();
    pair.set_station(Role::Passive, &record);
    let (error, _) = pair.session(&Disk::new(), |stream| {
        let mut connection = Connection::over(stream, &me, &Purpose::ask()).unwrap();
        connection.request(&signed(&pair, 7)).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(!pair.spool().join("requests").exists());
}

#[test]
fn an_active_master_takes_no_request() {
    let pair = Pair::new();
    pair.set_station(Role::Active, &pair.station_a.current);
    let error = hand_over(&pair, &signed(&pair, 7)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongRole);
}

#[test]
fn names_that_lead_elsewhere_are_no_names_at_all() {
    let pair = Pair::new();
    let domain = Domain {
        kind: Kind::Request,
        site: &pair.site,
        dataset: None,
    };
    let honest = serde_json::to_string(&request(&pair, 7)).unwrap();
    for (from, to) in [
        (nonce(7).as_str(), "../../../../evil0123456789abcdef"),
        (nonce(7).as_str(), "/evil"),
        ("a.lab", "../../../evil"),
        ("a.lab", "evil/../../.."),
        ("\"ca\"", "\"../evil\""),
    ] {
        assert!(honest.contains(from));
        let value: serde_json::Value = serde_json::from_str(&honest.replace(from, to)).unwrap();
        let document = document::sign(&value, domain, &pair.key_a).unwrap();
        let error = hand_over(&pair, &document).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{to}: {error}");
        assert!(!pair.spool().join("requests").exists());
    }
    for text in [
        "../../station.json",
        "",
        "07070707070707070707070707070707/",
    ] {
        let payload = serde_json::to_vec(&serde_json::json!({ "nonce": text })).unwrap();
        let mut bytes = PREAMBLE.to_vec();
        let mut hello = pair.hello();
        hello.capabilities = Capabilities::OURS.words();
        frame::encode(&Frame::Hello(hello), &mut bytes).unwrap();
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&[36, 0, 0, 0]);
        bytes.extend_from_slice(&payload);
        let (frames, _) = pair.recite_bytes(&bytes, &Disk::new());
        assert_eq!(refusal(&frames).kind, "protocol", "{text}");
    }
}

#[test]
fn what_is_too_long_is_refused_by_both_sides() {
    let pair = Pair::new();
    let long = [signed(&pair, 7), vec![b' '; 65_536]].concat();
    let error = hand_over(&pair, &long).unwrap_err();
    insta::assert_snapshot!(shown(&error), @"invalid: the request is longer than 65536 bytes (no hint)");
    let refuse = refused(&pair, &[Frame::Request(long)]);
    assert_eq!(refuse.kind, "invalid");
    assert!(refuse.message.contains("longer than 65536"));
    let record = [
        pair.reign(2, &pair.a, &pair.key_a).into_bytes(),
        vec![b' '; 65_536],
    ]
    .concat();
    let (error, _) = session(&pair, &Disk::new(), |connection| {
        connection.notice(&record).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(refused(&pair, &[Frame::Notice(record)]).kind, "invalid");
    assert_eq!(waiting(&pair), []);
    assert!(!pair.spool().join("reigns").exists());
}

#[test]
fn frames_that_were_not_agreed_are_refused() {
    let pair = Pair::new();
    for frame in [
        Frame::Ping,
        Frame::Request(signed(&pair, 7)),
        Frame::Notice(pair.station_a.current.clone().into_bytes()),
    ] {
        // Pair::hello names no capability.
        let (frames, served) = pair.recite(&[frame]);
        assert_eq!(refusal(&frames).kind, "protocol");
        served.unwrap_err();
        assert_eq!(waiting(&pair), []);
    }
}

#[test]
fn a_receiver_cannot_say_more_than_it_announced_nor_announce_too_much() {
    let pair = Pair::new();
    let answer = |said: &[Frame]| {
        let welcome = Frame::Welcome(Welcome {
            protocol: 1,
            tool: "pefo 0.2.0".into(),
            site: pair.site.clone(),
            certname: pair.b.clone(),
            role: Role::Passive,
            reign: String::new(),
            capabilities: Capabilities::OURS.words(),
            time: None,
        });
        let said = [&[welcome], said].concat();
        hear(&pair, &said).unwrap().answer(&nonce(7))
    };
    let head = |bytes| Frame::Answer(AnswerHead { bytes });
    let data = |bytes: &[u8]| Frame::Data(bytes.to_vec());
    let whole = answer(&[head(3), data(b"ab"), data(b"c")]).unwrap();
    assert_eq!(whole.unwrap(), b"abc");
    assert_eq!(answer(&[head(0)]).unwrap(), None);
    for (said, kind) in [
        (vec![head(3), data(b"abcd")], ErrorKind::Protocol),
        (vec![head(Answer::MAX_BYTES + 1)], ErrorKind::Protocol),
        (vec![head(u64::MAX)], ErrorKind::Protocol),
        (vec![head(3), Frame::Ok], ErrorKind::Protocol),
        (vec![Frame::Ok], ErrorKind::Protocol),
        (vec![head(3), data(b"ab")], ErrorKind::Unreachable),
        (vec![], ErrorKind::Unreachable),
    ] {
        assert_eq!(answer(&said).unwrap_err().kind(), kind, "{said:?}");
    }
}
