use super::*;
use crate::digest::Digest;
use crate::keys::system_random;
use crate::path::RelPath;
use proptest::prelude::*;

fn key() -> SigningKey {
    SigningKey::ephemeral(&system_random()).unwrap()
}

fn site() -> Site {
    Site::new("0123456789abcdef0123456789abcdef").unwrap()
}

fn nonce() -> impl Strategy<Value = Nonce> {
    any::<[u8; 16]>().prop_map(Nonce::from_random)
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

fn position() -> impl Strategy<Value = Position> {
    (1_u64..1000, 1_u64..1_000_000).prop_map(|(epoch, sequence)| Position {
        epoch: Epoch(epoch),
        sequence,
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        dataset().prop_map(|dataset| Subject::Verify { dataset }),
        dataset().prop_map(|dataset| Subject::Reconcile { dataset }),
        dataset().prop_map(|dataset| Subject::Bring { dataset }),
        prop::collection::btree_map(dataset(), position(), 0..4)
            .prop_map(|heads| Subject::Switchover(Switchover::Prepare { heads })),
        nonce().prop_map(|prepared| Subject::Switchover(Switchover::Commit { prepared })),
        nonce().prop_map(|prepared| Subject::Switchover(Switchover::Cancel { prepared })),
    ]
}

fn asked(key: &SigningKey, subject: Subject, nonce: Nonce) -> Request {
    Request {
        format: 1,
        site: site(),
        certname: Certname::new("a.lab").unwrap(),
        epoch: Epoch(3),
        holder: key.public().id(),
        nonce,
        time: Timestamp::from_unix_seconds(1_763_800_000).unwrap(),
        subject,
    }
}

fn items() -> impl Strategy<Value = BTreeMap<RelPath, Digest>> {
    prop::collection::btree_map("[a-c\"]{1,3}(/[a-c]{1,2})?", any::<[u8; 32]>(), 0..6).prop_map(
        |items| {
            let item = |(name, digest)| (RelPath::new(name).unwrap(), Digest::from_bytes(digest));
            items.into_iter().map(item).collect()
        },
    )
}

/// Whatever may be said to a request of this subject.
fn outcome(subject: &Subject) -> BoxedStrategy<Outcome> {
    let other = prop_oneof![
        Just(Outcome::Done),
        ("[a-z-]{1,9}", "\\PC{0,20}", prop::option::of("\\PC{0,20}")).prop_map(
            |(rule, message, hint)| Outcome::Refused {
                rule,
                message,
                hint
            }
        ),
    ];
    let Some(dataset) = subject.dataset().cloned() else {
        return other.boxed();
    };
    let about = dataset.clone();
    let held =
        (position(), any::<[u8; 32]>(), items()).prop_map(move |(position, state, items)| {
            let state = Digest::from_bytes(state);
            Outcome::Items(Items::of(about.clone(), position, state, items))
        });
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    let brought = (position(), items(), 0_u32..0o1000, bytes);
    let brought = brought.prop_map(move |(position, items, mode, bytes)| {
        let file = |(path, _)| {
            let bytes = bytes.clone();
            (path, BroughtFile { mode, bytes })
        };
        Outcome::Brought(Brought {
            dataset: dataset.clone(),
            position,
            files: items.into_iter().map(file).collect(),
        })
    });
    prop_oneof![held, brought, other].boxed()
}

fn answered(request: &Request, document: &[u8], outcome: Outcome) -> Answer {
    let time = Timestamp::from_unix_seconds(1_763_800_060).unwrap();
    Answer::to(
        request,
        document,
        Certname::new("b.lab").unwrap(),
        time,
        outcome,
    )
}

fn rule_of<T: fmt::Debug>(result: Result<T>) -> Option<String> {
    result.unwrap_err().rule().map(str::to_owned)
}

proptest! {
    #[test]
    fn a_signed_request_reads_back(subject in subject(), nonce in nonce()) {
        let key = key();
        let request = asked(&key, subject, nonce);
        let document = request.sign(&key).unwrap();
        prop_assert_eq!(Request::check(&document, &site(), &[key.public()]).unwrap(), request);
    }

    #[test]
    fn an_altered_request_is_refused(subject in subject(), nonce in nonce(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let key = key();
        let mut document = asked(&key, subject, nonce).sign(&key).unwrap();
        let at = at.index(document.len());
        document[at] ^= 1 << bit;
        prop_assert!(Request::check(&document, &site(), &[key.public()]).is_err());
    }

    #[test]
    fn any_bytes_are_a_request_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Request::check(&bytes, &site(), &[key().public()]).is_err());
    }

    #[test]
    fn a_signed_answer_reads_back_and_an_altered_one_is_refused((subject, outcome) in subject().prop_flat_map(|subject| (Just(subject.clone()), outcome(&subject))), nonce in nonce(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (active, passive) = (key(), key());
        let request = asked(&active, subject, nonce);
        let document = request.sign(&active).unwrap();
        let answer = answered(&request, &document, outcome);
        let mut bytes = answer.sign(&request, &passive).unwrap();
        let keys = [passive.public()];
        prop_assert_eq!(Answer::check(&bytes, &request, &document, &keys).unwrap(), answer);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Answer::check(&bytes, &request, &document, &keys).is_err());
    }

    /// An answer that was given to one request is none to any other, however alike the two are.
    #[test]
    fn an_old_answer_fits_no_new_request(one in subject(), two in subject(), nonces in (nonce(), nonce()), same_nonce in any::<bool>(), same_subject in any::<bool>()) {
        let (active, passive) = (key(), key());
        let old = asked(&active, one, nonces.0.clone());
        let document = old.sign(&active).unwrap();
        let bytes = answered(&old, &document, Outcome::Done).sign(&old, &passive).unwrap();
        let mut new = asked(&active, if same_subject { old.subject.clone() } else { two }, nonces.1);
        if same_nonce {
            new.nonce = nonces.0;
        }
        new.time = new.time.plus(std::time::Duration::from_secs(1));
        let asked_now = new.sign(&active).unwrap();
        let rule = rule_of(Answer::check(&bytes, &new, &asked_now, &[passive.public()]));
        let expected = if new.subject.dataset() == old.subject.dataset() { "answer-request" } else { "signature" };
        prop_assert_eq!(rule.as_deref(), Some(expected));
    }

    #[test]
    fn a_nonce_is_just_32_hex_digits(bytes in any::<[u8; 16]>(), text in "[0-9a-fA-F./]{30,34}") {
        let nonce = Nonce::from_random(bytes);
        prop_assert_eq!(nonce.to_string().parse::<Nonce>().unwrap(), nonce);
        let fits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        prop_assert_eq!(Nonce::new(text).is_ok(), fits);
    }
}

#[test]
fn a_request_is_bound_to_site_kind_and_signer() {
    let (key, stranger) = (key(), key());
    let subject = Subject::Verify {
        dataset: DataSet::Ca,
    };
    let request = asked(&key, subject, Nonce::from_random([7; 16]));
    let document = request.sign(&key).unwrap();
    let keys = [key.public(), stranger.public()];
    let check = |bytes: &[u8]| rule_of(Request::check(bytes, &site(), &keys));
    let other = Site::new("ffffffffffffffffffffffffffffffff").unwrap();
    assert_eq!(
        rule_of(Request::check(&document, &other, &keys)).as_deref(),
        Some("signature")
    );
    let unpaired = Request::check(&document, &site(), &[stranger.public()]);
    assert_eq!(rule_of(unpaired).as_deref(), Some("signer-unknown"));
    // Signed by another paired key than the one it names.
    let document = request.sign(&stranger).unwrap();
    assert_eq!(check(&document).as_deref(), Some("request-record"));
    // A newer record.
    let newer = Request {
        format: 2,
        ..request.clone()
    };
    assert_eq!(
        check(&newer.sign(&key).unwrap()).as_deref(),
        Some("request-record")
    );
    // The same words as another kind of document.
    for kind in [Kind::Heartbeat, Kind::Answer] {
        let domain = Domain {
            kind,
            site: &request.site,
            dataset: None,
        };
        let document = document::sign(&request, domain, &key).unwrap();
        assert_eq!(check(&document).as_deref(), Some("document-kind"));
    }
}

#[test]
fn an_answer_says_nothing_of_another_data_set() {
    let key = key();
    let ask = |dataset| {
        asked(
            &key,
            Subject::Verify { dataset },
            Nonce::from_random([7; 16]),
        )
    };
    let request = ask(DataSet::Ca);
    let document = request.sign(&key).unwrap();
    let position = Position {
        epoch: Epoch(3),
        sequence: 1,
    };
    let held = |dataset| {
        Outcome::Items(Items::of(
            dataset,
            position,
            Digest::of(b""),
            BTreeMap::new(),
        ))
    };
    let check = |bytes: &[u8]| rule_of(Answer::check(bytes, &request, &document, &[key.public()]));
    let brought = Outcome::Brought(Brought {
        dataset: DataSet::Files,
        position,
        files: BTreeMap::new(),
    });
    for wrong in [held(DataSet::Files), brought] {
        let wrong = answered(&request, &document, wrong);
        let bytes = wrong.sign(&request, &key).unwrap();
        assert_eq!(check(&bytes).as_deref(), Some("answer-record"));
    }
    // Signed as an answer about another data set, to just this request.
    let answer = answered(&request, &document, held(DataSet::Ca));
    let bytes = answer.sign(&ask(DataSet::Files), &key).unwrap();
    assert_eq!(check(&bytes).as_deref(), Some("signature"));
    let newer = Answer {
        format: 2,
        ..answer
    };
    let bytes = newer.sign(&request, &key).unwrap();
    assert_eq!(check(&bytes).as_deref(), Some("answer-record"));
}

#[test]
fn a_request_may_be_long_but_not_endless() {
    let key = key();
    let heads = |count: u64| {
        let head = |n| {
            let dataset = DataSet::Database(format!("database{n}"));
            (
                dataset,
                Position {
                    epoch: Epoch(3),
                    sequence: n + 1,
                },
            )
        };
        Subject::Switchover(Switchover::Prepare {
            heads: (0..count).map(head).collect(),
        })
    };
    let nonce = Nonce::from_random([7; 16]);
    let long = asked(&key, heads(1000), nonce.clone()).sign(&key).unwrap();
    Request::check(&long, &site(), &[key.public()]).unwrap();
    assert!(
        asked(&key, heads(2000), nonce)
            .sign(&key)
            .unwrap_err()
            .to_string()
            .contains("longer than 65536")
    );
    let padded = [long, vec![b' '; 65536]].concat();
    let error = Request::check(&padded, &site(), &[key.public()]).unwrap_err();
    assert!(error.to_string().contains("longer than 65536"), "{error}");
}

#[test]
fn an_answer_holds_as_many_items_as_fit_and_counts_the_rest() {
    let key = key();
    let subject = Subject::Verify {
        dataset: DataSet::Ca,
    };
    let request = asked(&key, subject, Nonce::from_random([7; 16]));
    let document = request.sign(&key).unwrap();
    // Names at their longest, of what JSON writes longest.
    let name = |n: usize| {
        RelPath::new(format!(
            "{n:06}{}",
            format!("/{}", "\"".repeat(31)).repeat(31)
        ))
        .unwrap()
    };
    let (count, max_bytes) = (600, 1 << 20);
    let all: BTreeMap<RelPath, Digest> = (0..count).map(|n| (name(n), Digest::of(b""))).collect();
    let position = Position {
        epoch: Epoch(3),
        sequence: 1,
    };
    let items = Items::within(max_bytes, DataSet::Ca, position, Digest::of(b""), all);
    let held = items.items.len();
    assert!(held < count && held as u64 + items.left_out == count as u64);
    assert_eq!(
        items.items.keys().next_back(),
        Some(&name(held - 1)),
        "the first ones in order"
    );
    let answer = answered(&request, &document, Outcome::Items(items));
    let bytes = answer.sign(&request, &key).unwrap();
    // As full as it may be.
    let room = max_bytes - bytes.len() as u64;
    assert!(room < 20 * 1024, "{room}");
    let read = Answer::check(&bytes, &request, &document, &[key.public()]).unwrap();
    assert_eq!(read, answer);
}

#[test]
fn what_no_answer_can_carry_is_refused_before_it_is_signed() {
    let position: Position = "00000003-000000000042".parse().unwrap();
    let brought = |bytes: usize| Brought {
        dataset: DataSet::Ca,
        position,
        files: BTreeMap::from([(
            RelPath::new("inventory.txt").unwrap(),
            BroughtFile {
                mode: 0o640,
                bytes: vec![b'x'; bytes],
            },
        )]),
    };
    brought(1 << 20).fits().unwrap();
    let most = usize::try_from(Answer::MAX_BYTES).unwrap();
    assert_eq!(
        rule_of(brought(most).fits()).as_deref(),
        Some("answer-size")
    );
    // What fits can be signed, to the last byte that is thought to fit.
    let fitting = brought((most - (16 << 10) - 80) / 4 * 3);
    fitting.fits().unwrap();
    let key = key();
    let subject = Subject::Bring {
        dataset: DataSet::Ca,
    };
    let request = asked(&key, subject, Nonce::from_random([7; 16]));
    answered(&request, b"", Outcome::Brought(fitting))
        .sign(&request, &key)
        .unwrap();
}

#[test]
fn a_refusal_carries_rule_message_and_hint() {
    let error = Error::refused("not-served", "no such thing").hint("upgrade");
    assert_eq!(
        Outcome::refused(&error),
        Outcome::Refused {
            rule: "not-served".into(),
            message: "no such thing".into(),
            hint: Some("upgrade".into())
        }
    );
    let Outcome::Refused { rule, .. } = Outcome::refused(&Error::invalid("malformed")) else {
        panic!("refused");
    };
    assert_eq!(rule, "invalid");
}

/// Reads back from just the text that is documented.
#[track_caller]
fn is_written<T>(value: &T, text: &str)
where
    T: Serialize + serde::de::DeserializeOwned + fmt::Debug + PartialEq,
{
    assert_eq!(serde_json::to_string(value).unwrap(), text);
    assert_eq!(serde_json::from_str::<T>(text).unwrap(), *value);
}

/// The frozen schemas: a change here breaks every older peer.
#[test]
fn requests_and_answers_are_written_as_documented() {
    let nonce = Nonce::from_random([7; 16]);
    let position: Position = "00000003-000000000042".parse().unwrap();
    let dataset = DataSet::Database("pe-rbac".into());
    let heads = BTreeMap::from([(DataSet::Ca, position), (dataset.clone(), position)]);
    is_written(
        &Subject::Reconcile { dataset },
        r#"{"reconcile":{"dataset":"db:pe-rbac"}}"#,
    );
    is_written(
        &Subject::Bring {
            dataset: DataSet::Ca,
        },
        r#"{"bring":{"dataset":"ca"}}"#,
    );
    let file = BroughtFile {
        mode: 0o644,
        bytes: b"0006".to_vec(),
    };
    is_written(
        &Outcome::Brought(Brought {
            dataset: DataSet::Ca,
            position,
            files: BTreeMap::from([(RelPath::new("serial").unwrap(), file)]),
        }),
        r#"{"brought":{"dataset":"ca","position":"00000003-000000000042","files":{"serial":{"mode":420,"bytes":"MDAwNg=="}}}}"#,
    );
    is_written(
        &Subject::Switchover(Switchover::Prepare { heads }),
        r#"{"switchover":{"prepare":{"heads":{"ca":"00000003-000000000042","db:pe-rbac":"00000003-000000000042"}}}}"#,
    );
    is_written(
        &Subject::Switchover(Switchover::Commit {
            prepared: nonce.clone(),
        }),
        r#"{"switchover":{"commit":{"prepared":"07070707070707070707070707070707"}}}"#,
    );
    is_written(
        &Subject::Switchover(Switchover::Cancel {
            prepared: nonce.clone(),
        }),
        r#"{"switchover":{"cancel":{"prepared":"07070707070707070707070707070707"}}}"#,
    );
    let subject = Subject::Verify {
        dataset: DataSet::Ca,
    };
    let request = Request {
        holder: KeyId::try_from("1f".repeat(16)).unwrap(),
        ..asked(&key(), subject, nonce)
    };
    is_written(
        &request,
        r#"{"format":1,"site":"0123456789abcdef0123456789abcdef","certname":"a.lab","epoch":3,"holder":"1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f","nonce":"07070707070707070707070707070707","time":"2025-11-22T08:26:40Z","subject":{"verify":{"dataset":"ca"}}}"#,
    );
    let empty = Digest::from_bytes([0xaf; 32]);
    let items = BTreeMap::from([(RelPath::new("signed/a.lab.pem").unwrap(), empty)]);
    let mut answer = answered(
        &request,
        b"",
        Outcome::Items(Items::of(DataSet::Ca, position, empty, items)),
    );
    answer.request = empty;
    let digest = "af".repeat(32);
    is_written(
        &answer,
        &format!(
            r#"{{"format":1,"site":"0123456789abcdef0123456789abcdef","certname":"b.lab","nonce":"07070707070707070707070707070707","request":"{digest}","time":"2025-11-22T08:27:40Z","outcome":{{"items":{{"dataset":"ca","position":"00000003-000000000042","state":"{digest}","items":{{"signed/a.lab.pem":"{digest}"}},"left_out":0}}}}}}"#
        ),
    );
    is_written(&Outcome::Done, r#""done""#);
    is_written(
        &Outcome::refused(&Error::refused("not-served", "no").hint("upgrade")),
        r#"{"refused":{"rule":"not-served","message":"no","hint":"upgrade"}}"#,
    );
}

#[test]
fn a_field_that_is_not_known_is_an_error() {
    for text in [
        r#"{"verify":{"dataset":"ca","deep":true}}"#,
        r#"{"switchover":{"commit":{"prepared":"07070707070707070707070707070707","now":true}}}"#,
        r#"{"switchover":{"prepare":{}}}"#,
        r#"{"shut_down":{}}"#,
        r#"{"verify":{"dataset":"../../etc"}}"#,
    ] {
        assert!(serde_json::from_str::<Subject>(text).is_err(), "{text}");
    }
}
