#![expect(clippy::disallowed_methods, reason = "tests play the spool's owner")]

use super::*;
use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::generation::outgoing::{Author, Description, Item, Outgoing, Payload, state_of};
use crate::keys::{SigningKey, system_random};
use crate::reign::{Epoch, Station};

#[path = "verify_power_tests.rs"]
mod power;

struct Pair {
    dir: tempfile::TempDir,
    site: Site,
    active: Certname,
    key: SigningKey,
    unsealing: UnsealingKey,
    reign: Reign,
}

impl Pair {
    fn new() -> Self {
        let site = Site::new("0123456789abcdef0123456789abcdef").unwrap();
        let key = SigningKey::ephemeral(&system_random()).unwrap();
        let active = Certname::new("a.lab").unwrap();
        let station = Station::found(&site, &active, &key, now()).unwrap();
        let reign = station.reign(&site, &[key.public()]).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            site,
            active,
            key,
            unsealing: UnsealingKey::ephemeral(),
            reign,
        }
    }

    fn author(&self) -> Author<'_> {
        Author {
            site: &self.site,
            certname: &self.active,
            key: &self.key,
            epoch: Epoch(1),
            tool: "pefo test",
        }
    }

    fn items(&self) -> Vec<Item> {
        vec![
            Item::open(rel("signed/n.pem"), 0o640, b"cert".to_vec()),
            Item::sealed(
                rel("ca_key.pem"),
                0o640,
                b"PRIVATE KEY",
                &[self.unsealing.recipient()],
            )
            .unwrap(),
        ]
    }

    fn full(&self, sequence: u64) -> Outgoing {
        Outgoing::full(
            self.author(),
            DataSet::Ca,
            sequence,
            self.items(),
            description(),
        )
        .unwrap()
    }

    fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Lays a generation out as the receiver does.
    fn receive(&self, outgoing: &Outgoing) -> PathBuf {
        let dir = self.spool().join(outgoing.position().to_string());
        match &outgoing.payload {
            Payload::Batch(payload) => {
                std::fs::create_dir_all(self.spool()).unwrap();
                let path = self.spool().join(format!("{}.batch", outgoing.position()));
                std::fs::write(&path, spool::join_batch(&outgoing.document, payload)).unwrap();
                return path;
            }
            Payload::Files(_) | Payload::Standing(_) => {
                for path in outgoing.manifest.files.iter().map(|file| &file.path) {
                    let mut bytes = Vec::new();
                    outgoing
                        .payload
                        .open(path)
                        .unwrap()
                        .read_to_end(&mut bytes)
                        .unwrap();
                    let target = path.in_dir(&dir.join("data"));
                    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                    std::fs::write(target, bytes).unwrap();
                }
            }
        }
        std::fs::write(dir.join("manifest"), &outgoing.document).unwrap();
        dir
    }

    fn take(
        &self,
        position: Position,
        form: Form,
        accepted: Option<&Accepted>,
    ) -> Result<Verified> {
        let keys = [self.key.public()];
        let gate = Gate {
            site: &self.site,
            dataset: &DataSet::Ca,
            keys: &keys,
            reign: &self.reign,
            accepted,
            unsealing: &self.unsealing,
        };
        gate.take(
            &Beneath::open(&self.spool()).unwrap(),
            position,
            form,
            &self.store(),
            &Disk::new(),
        )
    }
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_763_800_000).unwrap()
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

fn description() -> Description {
    Description {
        products: Default::default(),
        time: now(),
        summary: serde_json::json!({"certs": 1}),
    }
}

#[test]
fn a_full_generation_becomes_roots_own_plain_copy() {
    let pair = Pair::new();
    let outgoing = pair.full(1);
    let spooled = pair.receive(&outgoing);
    let verified = pair.take(outgoing.position(), Form::Full, None).unwrap();
    let files = verified.files().unwrap();
    assert_eq!(
        std::fs::read(files.join("ca_key.pem")).unwrap(),
        b"PRIVATE KEY"
    );
    assert_eq!(std::fs::read(files.join("signed/n.pem")).unwrap(), b"cert");
    let sealed = std::fs::read(spooled.join("data/ca_key.pem")).unwrap();
    assert!(
        !sealed.windows(7).any(|window| window == b"PRIVATE"),
        "the spool holds no secret"
    );

    // Whatever the spool's owner does afterwards changes nothing.
    std::fs::write(spooled.join("data/signed/n.pem"), "evil").unwrap();
    assert_eq!(std::fs::read(files.join("signed/n.pem")).unwrap(), b"cert");
    let keys = [pair.key.public()];
    let gate = Gate {
        site: &pair.site,
        dataset: &DataSet::Ca,
        keys: &keys,
        reign: &pair.reign,
        accepted: None,
        unsealing: &pair.unsealing,
    };
    gate.reopen(&pair.store(), outgoing.position()).unwrap();
    std::fs::write(files.join("signed/n.pem"), "rot").unwrap();
    assert_eq!(
        gate.reopen(&pair.store(), outgoing.position())
            .unwrap_err()
            .rule(),
        Some("state-digest")
    );
}

#[test]
fn whatever_is_changed_in_the_spool_is_refused_and_leaves_nothing() {
    let pair = Pair::new();
    let outgoing = pair.full(1);
    type Change<'a> = (&'a str, &'a dyn Fn(&Path));
    let change: [Change<'_>; 7] = [
        ("digest", &|dir| {
            std::fs::write(dir.join("data/signed/n.pem"), "cerT").unwrap()
        }),
        ("digest", &|dir| {
            std::fs::write(dir.join("data/signed/n.pem"), "certificate").unwrap()
        }),
        ("digest", &|dir| {
            std::fs::write(dir.join("data/ca_key.pem"), "").unwrap()
        }),
        ("spool-symlink", &|dir| {
            std::fs::remove_file(dir.join("data/signed/n.pem")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", dir.join("data/signed/n.pem")).unwrap();
        }),
        ("spool-symlink", &|dir| {
            std::fs::rename(dir.join("data"), dir.join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("elsewhere", dir.join("data")).unwrap();
        }),
        ("signature", &|dir| {
            let mut bytes = std::fs::read(dir.join("manifest")).unwrap();
            *bytes.last_mut().unwrap() = b' ';
            std::fs::write(dir.join("manifest"), bytes).unwrap();
        }),
        ("signer-unknown", &|dir| {
            let other = Pair::new().full(1);
            std::fs::write(dir.join("manifest"), other.document).unwrap();
        }),
    ];
    for (rule, change) in change {
        let dir = pair.receive(&outgoing);
        change(&dir);
        let error = pair
            .take(outgoing.position(), Form::Full, None)
            .unwrap_err();
        assert_eq!(error.rule(), Some(rule), "{error}");
        let left = std::fs::read_dir(pair.store())
            .map(|entries| entries.count())
            .unwrap_or(0);
        assert_eq!(left, 0, "{rule}: something stayed in root's store");
        std::fs::remove_dir_all(pair.spool()).unwrap();
    }
}

#[test]
fn an_old_a_renamed_and_a_foreign_reigns_generation_are_refused() {
    let pair = Pair::new();
    let (one, two) = (pair.full(1), pair.full(2));
    pair.receive(&one);
    let dir = pair.receive(&two);
    let accepted = pair
        .take(two.position(), Form::Full, None)
        .unwrap()
        .accepted(None);
    assert_eq!(
        pair.take(one.position(), Form::Full, Some(&accepted))
            .unwrap_err()
            .rule(),
        Some("generation-old")
    );
    assert_eq!(
        pair.take(two.position(), Form::Full, Some(&accepted))
            .unwrap_err()
            .rule(),
        Some("generation-old")
    );

    let renamed = Position {
        sequence: 9,
        ..two.position()
    };
    std::fs::rename(dir, pair.spool().join(renamed.to_string())).unwrap();
    assert_eq!(
        pair.take(renamed, Form::Full, None).unwrap_err().rule(),
        Some("generation-name")
    );

    let old = Pair {
        reign: Reign {
            epoch: Epoch(2),
            ..pair.reign.clone()
        },
        ..pair
    };
    assert_eq!(
        old.take(one.position(), Form::Full, None)
            .unwrap_err()
            .kind(),
        ErrorKind::Fenced
    );
}

#[test]
fn a_batch_applies_only_to_the_state_it_starts_from() {
    let pair = Pair::new();
    let state = state_of(&pair.items());
    let after = Digest::of(b"after");
    let steps = vec![Step::Put {
        path: rel("serial"),
        mode: 0o640,
        size: 4,
        blake3: Digest::of(b"0002"),
    }];
    let make = |from, recipients: &[_]| {
        Outgoing::batch(
            pair.author(),
            DataSet::Ca,
            2,
            (from, after),
            steps.clone(),
            b"0002".to_vec(),
            recipients,
            description(),
        )
        .unwrap()
    };
    let accepted = Accepted {
        format: 1,
        position: Position {
            epoch: Epoch(1),
            sequence: 1,
        },
        state,
        applied: None,
    };
    for recipients in [vec![], vec![pair.unsealing.recipient()]] {
        let batch = make(state, &recipients);
        pair.receive(&batch);
        let verified = pair
            .take(batch.position(), Form::Batch, Some(&accepted))
            .unwrap();
        assert_eq!(verified.steps().unwrap()[0].1, b"0002");
        assert_eq!(verified.accepted(None).state, after);
    }
    let gap = make(Digest::of(b"elsewhere"), &[]);
    pair.receive(&gap);
    let error = pair
        .take(gap.position(), Form::Batch, Some(&accepted))
        .unwrap_err();
    assert_eq!(error.rule(), Some("batch-gap"));
    assert!(needs_reconcile(&error));
    assert_eq!(
        pair.take(gap.position(), Form::Batch, None)
            .unwrap_err()
            .rule(),
        Some("batch-gap")
    );
}

#[test]
fn a_batch_changed_at_any_byte_is_refused() {
    let pair = Pair::new();
    let state = Digest::of(b"before");
    let steps = vec![Step::Put {
        path: rel("serial"),
        mode: 0o640,
        size: 4,
        blake3: Digest::of(b"0002"),
    }];
    let batch = Outgoing::batch(
        pair.author(),
        DataSet::Ca,
        2,
        (state, Digest::of(b"x")),
        steps,
        b"0002".to_vec(),
        &[],
        description(),
    )
    .unwrap();
    let path = pair.receive(&batch);
    let accepted = Accepted {
        format: 1,
        position: Position {
            epoch: Epoch(1),
            sequence: 1,
        },
        state,
        applied: None,
    };
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert!(
            pair.take(batch.position(), Form::Batch, Some(&accepted))
                .is_err(),
            "byte {at}"
        );
    }
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(
        pair.take(batch.position(), Form::Batch, Some(&accepted))
            .is_err()
    );
}

#[test]
fn a_kill_at_any_operation_leaves_no_generation_or_a_whole_one() {
    use crate::disk::fault::{Counter, StopAt};
    use std::sync::Arc;
    let pair = Pair::new();
    let outgoing = pair.full(1);
    pair.receive(&outgoing);
    let keys = [pair.key.public()];
    let gate = Gate {
        site: &pair.site,
        dataset: &DataSet::Ca,
        keys: &keys,
        reign: &pair.reign,
        accepted: None,
        unsealing: &pair.unsealing,
    };
    let spooled = Beneath::open(&pair.spool()).unwrap();
    let counter = Arc::new(Counter::default());
    gate.take(
        &spooled,
        outgoing.position(),
        Form::Full,
        &pair.store(),
        &Disk::with_hook(counter.clone()),
    )
    .unwrap();
    for point in 0..counter.count() {
        std::fs::remove_dir_all(pair.store()).unwrap();
        let killed = Disk::with_hook(Arc::new(StopAt::new(point)));
        assert!(
            gate.take(
                &spooled,
                outgoing.position(),
                Form::Full,
                &pair.store(),
                &killed
            )
            .is_err()
        );
        for position in stored(&pair.store()).unwrap() {
            gate.reopen(&pair.store(), position).unwrap();
        }
        gate.take(
            &spooled,
            outgoing.position(),
            Form::Full,
            &pair.store(),
            &Disk::new(),
        )
        .unwrap();
        assert_eq!(
            std::fs::read_dir(pair.store()).unwrap().count(),
            1,
            "point {point}: temps are cleared"
        );
    }
}

const FIRST: Position = Position {
    epoch: Epoch(1),
    sequence: 1,
};

/// A generation of one long secret, packed and sealed.
fn packed(pair: &Pair, announced: Option<u64>) -> Outgoing {
    let (plain, sealed) = (
        pair.dir.path().join("plain"),
        pair.dir.path().join("sealed"),
    );
    std::fs::write(&plain, b"secret ".repeat(10_000)).unwrap();
    let item = Item::sealed_file(
        &Disk::new(),
        rel("dump.dat"),
        0o600,
        &plain,
        &sealed,
        &[pair.unsealing.recipient()],
    );
    let (author, items) = (pair.author(), vec![item.unwrap()]);
    let mut outgoing = Outgoing::full(author, DataSet::Ca, 1, items, description()).unwrap();
    if announced.is_some() {
        outgoing.manifest.files[0].unpacked_size = announced;
        let domain = crate::document::Domain {
            kind: crate::document::Kind::Manifest,
            site: &pair.site,
            dataset: Some(&DataSet::Ca),
        };
        outgoing.document = crate::document::sign(&outgoing.manifest, domain, &pair.key).unwrap();
    }
    outgoing
}

#[test]
fn a_long_secret_crosses_packed_and_is_opened_whole() {
    let pair = Pair::new();
    let outgoing = packed(&pair, None);
    assert_eq!(outgoing.manifest.files[0].unpacked_size, Some(70_000));
    assert!(outgoing.manifest.files[0].size < 1000);
    pair.receive(&outgoing);
    let verified = pair.take(FIRST, Form::Full, None).unwrap();
    let plain = std::fs::read(verified.files().unwrap().join("dump.dat")).unwrap();
    assert_eq!(plain, b"secret ".repeat(10_000));
}

#[test]
fn a_secret_that_unpacks_to_more_or_less_than_was_signed_is_refused() {
    for announced in [0, 69_999, 70_001] {
        let pair = Pair::new();
        pair.receive(&packed(&pair, Some(announced)));
        let taken = pair.take(FIRST, Form::Full, None);
        assert!(taken.is_err(), "{announced} were announced");
        assert!(!stored_dir(&pair.store(), FIRST).exists());
    }
}

#[test]
fn a_packed_secret_that_was_changed_anywhere_is_not_the_one_that_was_signed() {
    let pair = Pair::new();
    let outgoing = packed(&pair, None);
    let dir = pair.receive(&outgoing);
    let path = dir.join("data/dump.dat");
    let sealed = std::fs::read(&path).unwrap();
    for at in (0..sealed.len()).step_by(13) {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert_eq!(
            pair.take(FIRST, Form::Full, None).unwrap_err().rule(),
            Some("digest"),
            "at {at}"
        );
    }
    std::fs::write(&path, &sealed[..sealed.len() / 2]).unwrap();
    assert_eq!(
        pair.take(FIRST, Form::Full, None).unwrap_err().rule(),
        Some("digest")
    );
}
