//! What the active asks of its spare's root, over a real line and through `pefo apply`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pefo_core::clock::{Clock as _, SystemClock};
use pefo_core::generation::outgoing::Sent;
use pefo_core::generation::{DataSet, Site, spool};
use pefo_core::keys::{SigningKey, random_bytes, system_random};
use pefo_core::pairing::Introduction;
use pefo_core::record;
use pefo_core::reign::{Reign, Station};
use pefo_core::request::{Answer, Items, Nonce, Outcome, Request, Subject, Switchover};
use pefo_core::{Certname, Digest, RelPath};
use pefo_testkit::account::TransferAccount;
use pefo_testkit::masters::Master;
use pefo_testkit::wait;
use pefo_transport::{Connection, Introduced, Purpose, SshTarget};

use crate::evidence::{files, generations};
use crate::pair::{A, B, Pair};

/// What A's root has to ask with.
pub(crate) struct Asker {
    me: Introduction,
    peer: Introduction,
    key: SigningKey,
    station: Station,
    identity: PathBuf,
}

fn introduction(master: &Master, path: &str) -> Introduction {
    record::load(&master.state().join(path)).unwrap().unwrap()
}

impl Asker {
    pub(crate) fn of(a: &Master) -> Self {
        Self {
            me: introduction(a, "public/self.json"),
            peer: introduction(a, &format!("public/peers/{B}.json")),
            key: SigningKey::load(&a.state().join("keys/signing.key")).unwrap(),
            station: Station::load(&a.state().join("public/station.json")).unwrap(),
            identity: a.state().join("keys/ssh"),
        }
    }

    fn site(&self) -> &Site {
        &self.me.site
    }

    fn reign(&self) -> Reign {
        self.station.reign(self.site(), &[self.me.signing]).unwrap()
    }

    fn connect(&self) -> Connection {
        let target = SshTarget::new(
            self.peer.host.clone(),
            self.peer.port,
            self.peer.user.clone(),
            &self.identity,
            self.peer.host_keys.clone(),
        );
        let me = Introduced::new(
            self.site().clone(),
            self.me.certname.clone(),
            self.station.clone(),
            "pefo test",
        );
        Connection::open(&target, &me, &Purpose::ask()).unwrap()
    }

    fn request(&self, subject: Subject) -> Request {
        let reign = self.reign();
        Request {
            format: 1,
            site: self.site().clone(),
            certname: self.me.certname.clone(),
            epoch: reign.epoch,
            holder: reign.holder,
            nonce: Nonce::from_random(random_bytes(&system_random()).unwrap()),
            time: SystemClock.now(),
            subject,
        }
    }

    /// Asks, lets B's root run, and fetches what it has answered.
    #[track_caller]
    fn ask(&self, b: &Master, subject: Subject) -> Outcome {
        let request = self.request(subject);
        let document = request.sign(&self.key).unwrap();
        let mut connection = self.connect();
        connection.request(&document).unwrap();
        assert_eq!(connection.answer(&request.nonce).unwrap(), None);
        connection.close().unwrap();
        b.pefo(["ca", "apply"]).exits(0);
        let mut connection = self.connect();
        let answer = connection.answer(&request.nonce).unwrap().unwrap();
        connection.close().unwrap();
        Answer::check(&answer, &request, &document, &[self.peer.signing])
            .unwrap()
            .outcome
    }

    /// Asks, and waits for what B's watch answers.
    #[track_caller]
    pub(crate) fn ask_watched(&self, subject: Subject) -> Outcome {
        let request = self.request(subject);
        let document = request.sign(&self.key).unwrap();
        let mut connection = self.connect();
        connection.request(&document).unwrap();
        let answer = wait::within(Duration::from_secs(60), || {
            connection.answer(&request.nonce).unwrap()
        });
        connection.close().unwrap();
        let answer = answer.unwrap();
        Answer::check(&answer, &request, &document, &[self.peer.signing])
            .unwrap()
            .outcome
    }

    #[track_caller]
    fn verify(&self, b: &Master) -> Items {
        match self.ask(
            b,
            Subject::Verify {
                dataset: DataSet::Ca,
            },
        ) {
            Outcome::Items(items) => items,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(&self, b: &Master, subject: Subject) -> String {
        match self.ask(b, subject) {
            Outcome::Refused { rule, hint, .. } => {
                assert!(hint.is_some(), "{rule} gives no hint");
                rule
            }
            other => panic!("{other:?}"),
        }
    }
}

/// B's own signed answers.
fn answers(b: &Master) -> Vec<PathBuf> {
    files(&b.state().join("public/answers"))
}

fn item(items: &Items, name: &str) -> Option<Digest> {
    items.items.get(&RelPath::new(name).unwrap()).copied()
}

#[test]
fn root_tells_what_it_holds_and_a_changed_file_of_its_store_shows() {
    let Some(pair) = Pair::seeded() else { return };
    let asker = Asker::of(&pair.a);
    let sent = Sent::load(&pair.a.state().join("sent/ca.json"))
        .unwrap()
        .unwrap();
    let whole = asker.verify(&pair.b);
    assert_eq!((whole.position, whole.state), (sent.position, sent.state));
    let crl = std::fs::read(pair.a.cadir().join("ca_crl.pem")).unwrap();
    assert_eq!(item(&whole, "ca_crl.pem"), Some(Digest::of(&crl)));
    assert_eq!(whole.left_out, 0);

    let stored = pair
        .b
        .state()
        .join("store/ca")
        .join(sent.position.to_string())
        .join("data");
    std::fs::write(stored.join("ca_crl.pem"), "rotten").unwrap();
    let serial = item(&whole, "serial").unwrap();
    std::fs::remove_file(stored.join("serial")).unwrap();
    let request = asker.request(Subject::Verify {
        dataset: DataSet::Ca,
    });
    let document = request.sign(&asker.key).unwrap();
    let mut connection = asker.connect();
    connection.request(&document).unwrap();
    // The apply itself opens the same store and stops; the answer says why, item by item.
    pair.b.pefo(["ca", "apply"]);
    let answer = connection.answer(&request.nonce).unwrap().unwrap();
    connection.close().unwrap();
    let answer = Answer::check(&answer, &request, &document, &[asker.peer.signing]).unwrap();
    let Outcome::Items(rotten) = answer.outcome else {
        panic!("{:?}", answer.outcome)
    };
    assert_ne!(rotten.state, whole.state);
    let mut differs: BTreeMap<_, _> = whole.items.clone();
    differs.retain(|name, digest| rotten.items.get(name) != Some(digest));
    let names: Vec<_> = differs.keys().map(RelPath::as_str).collect();
    assert_eq!(names, ["ca_crl.pem", "serial"]);
    assert_eq!(differs.get(&RelPath::new("serial").unwrap()), Some(&serial));
}

#[test]
fn a_full_generation_that_was_asked_for_is_wanted_until_it_has_come() {
    let Some(pair) = Pair::seeded() else { return };
    let asker = Asker::of(&pair.a);
    let before = generations(&pair.b, "ca").len();
    pair.a.pefo(["ca", "push"]).exits(0);
    assert_eq!(generations(&pair.b, "ca").len(), before, "nothing is new");
    let reconcile = Subject::Reconcile {
        dataset: DataSet::Ca,
    };
    assert_eq!(asker.ask(&pair.b, reconcile), Outcome::Done);
    // Cron applies more often than the active pushes: the wish outlives that.
    pair.b.pefo(["ca", "apply"]).exits(0);
    pair.a.pefo(["ca", "push"]).exits(0);
    assert_eq!(generations(&pair.b, "ca").len(), before + 1);
    pair.b.pefo(["ca", "apply"]).exits(0);
    pair.a.pefo(["ca", "push"]).exits(0);
    assert_eq!(
        generations(&pair.b, "ca").len(),
        before + 1,
        "it was granted"
    );
}

#[test]
fn what_root_does_not_serve_is_refused_by_name() {
    let Some(pair) = Pair::seeded() else { return };
    let asker = Asker::of(&pair.a);
    let classifier = || DataSet::Classifier;
    let sent = Sent::load(&pair.a.state().join("sent/ca.json"));
    let head = sent.unwrap().unwrap().position;
    let prepare = Subject::Switchover(Switchover::Prepare {
        heads: BTreeMap::from([(classifier(), head)]),
    });
    assert_eq!(asker.refused(&pair.b, prepare), "dataset-unknown");
    let verify = Subject::Verify {
        dataset: classifier(),
    };
    assert_eq!(asker.refused(&pair.b, verify), "nothing-accepted");
    let reconcile = Subject::Reconcile {
        dataset: classifier(),
    };
    assert_eq!(asker.refused(&pair.b, reconcile), "dataset-unknown");
}

/// Puts a file into B's spool as the transfer account would.
fn plant(pair: &Pair, certname: &Certname, nonce: &Nonce, document: &[u8]) {
    let account = TransferAccount::ensure().unwrap();
    let dir = spool::requests_dir(&pair.b.spool(), certname);
    let part = pair.b.directory().join("planted");
    std::fs::write(&part, document).unwrap();
    let script = format!(
        "mkdir -p {dir} && cat {part} > {dir}/{nonce}",
        dir = dir.display(),
        part = part.display(),
    );
    assert!(account.run(&script).status.success());
}

#[test]
fn what_the_transfer_account_makes_up_is_not_answered() {
    let Some(pair) = Pair::seeded() else { return };
    let asker = Asker::of(&pair.a);
    let subject = || Subject::Verify {
        dataset: DataSet::Ca,
    };
    let stranger = SigningKey::ephemeral(&system_random()).unwrap();
    let mut forged = asker.request(subject());
    forged.holder = stranger.public().id();
    let document = forged.sign(&stranger).unwrap();
    plant(&pair, &forged.certname, &forged.nonce, &document);
    // An honest request under another's name.
    let honest = asker.request(subject());
    let document = honest.sign(&asker.key).unwrap();
    let other = asker.request(subject()).nonce;
    plant(&pair, &honest.certname, &other, &document);
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert_eq!(answers(&pair.b), Vec::<PathBuf>::new());
    // What leads out of the spool is not followed, and keeps nothing from being applied.
    let dir = spool::requests_dir(&pair.b.spool(), &honest.certname);
    let script = format!(
        "rm -r {dir} && ln -s {target} {dir}",
        dir = dir.display(),
        target = pair.b.directory().display(),
    );
    let account = TransferAccount::ensure().unwrap();
    assert!(account.run(&script).status.success());
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert_eq!(answers(&pair.b), Vec::<PathBuf>::new());
}

#[test]
fn a_request_is_answered_once_and_old_answers_go() {
    let Some(pair) = Pair::seeded() else { return };
    let asker = Asker::of(&pair.a);
    let first = asker.verify(&pair.b);
    let [answer] = &answers(&pair.b)[..] else {
        panic!("one answer")
    };
    let written = std::fs::read(answer).unwrap();
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert_eq!(std::fs::read(answer).unwrap(), written, "signed once");
    for n in 0..20 {
        let nonce = Nonce::from_random([n; 16]);
        let path = spool::answer_path(&pair.b.state().join("public/answers"), &nonce);
        std::fs::write(path, "old").unwrap();
    }
    pair.b.pefo(["ca", "apply"]).exits(0);
    let left = answers(&pair.b);
    assert_eq!(left.len(), 17, "those that may not have been fetched yet");
    assert!(left.contains(answer), "its request stands in the spool");
    // The next request makes the receiver put the answered one away.
    let second = asker.verify(&pair.b);
    assert_eq!(second, first);
    let dir = spool::requests_dir(&pair.b.spool(), &asker.me.certname);
    let standing = files(&dir);
    let requests = standing
        .iter()
        .filter(|path| !path.ends_with(".pefo-lock"))
        .count();
    assert_eq!(requests, 1);
    pair.a.pefo(["ca", "apply"]).exits(6);
}

#[test]
fn what_waited_is_answered_in_the_order_in_which_it_was_asked() {
    let Some(pair) = Pair::seeded() else { return };
    let asker = Asker::of(&pair.a);
    let mut connection = asker.connect();
    let mut last = None;
    // Each takes the place of the one before; B's root is away meanwhile.
    for _ in 0..8 {
        let heads = BTreeMap::new();
        let request = asker.request(Subject::Switchover(Switchover::Prepare { heads }));
        connection
            .request(&request.sign(&asker.key).unwrap())
            .unwrap();
        last = Some(request.nonce);
    }
    connection.close().unwrap();
    pair.b.pefo(["ca", "apply"]).exits(0);
    let prepared = last.unwrap();
    let commit = Subject::Switchover(Switchover::Commit { prepared });
    assert_eq!(asker.ask(&pair.b, commit), Outcome::Done);
    let told = pair.b.pefo(["status"]).exits(0).stdout;
    assert!(told.contains("is active in epoch 2"), "{told}");
}

#[test]
fn a_handover_that_was_taken_back_is_not_taken_up_again_whoever_brings_it() {
    let Some(pair) = Pair::seeded() else { return };
    let asker = Asker::of(&pair.a);
    let ask = |subject: Subject| {
        let request = asker.request(subject);
        let document = request.sign(&asker.key).unwrap();
        (request, document)
    };
    let heads = BTreeMap::new();
    let prepare = ask(Subject::Switchover(Switchover::Prepare { heads }));
    let prepared = prepare.0.nonce.clone();
    let commit = ask(Subject::Switchover(Switchover::Commit {
        prepared: prepared.clone(),
    }));
    let certname = Certname::new(A).unwrap();
    let bring = |(request, document): &(Request, Vec<u8>)| {
        plant(&pair, &certname, &request.nonce, document);
    };
    bring(&prepare);
    pair.b.pefo(["ca", "apply"]).exits(0);
    let cancel = Subject::Switchover(Switchover::Cancel { prepared });
    assert_eq!(asker.ask(&pair.b, cancel), Outcome::Done);
    // The answers are gone by the time it is brought again, all of it.
    for answer in answers(&pair.b) {
        std::fs::remove_file(answer).unwrap();
    }
    for again in [&prepare, &commit] {
        bring(again);
        pair.b.pefo(["ca", "apply"]).exits(0);
    }
    let told = pair.b.pefo(["status"]).exits(0).stdout;
    assert!(told.contains("is passive in epoch 1"), "{told}");
    // A new one is as good as ever.
    let prepare = asker.request(Subject::Switchover(Switchover::Prepare {
        heads: BTreeMap::new(),
    }));
    let mut connection = asker.connect();
    connection
        .request(&prepare.sign(&asker.key).unwrap())
        .unwrap();
    connection.close().unwrap();
    pair.b.pefo(["ca", "apply"]).exits(0);
    let prepared = prepare.nonce;
    let commit = Subject::Switchover(Switchover::Commit { prepared });
    assert_eq!(asker.ask(&pair.b, commit), Outcome::Done);
}
