//! The active's CA, and all that it ever was: what may stand on a passive, and what may not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use pefo_core::Digest;
use pefo_core::generation::{Content, Manifest, Position, Step as Told};
use pefo_testkit::ca::{Step, TestCa};

use crate::pair::{Tree, moment};

/// Every file of a CA by its digest.
pub(crate) type View = BTreeMap<String, Digest>;

/// A CRL of the CA's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revoked {
    pub(crate) number: u64,
    pub(crate) serials: BTreeSet<u64>,
}

/// What the CA has ever issued and shown.
#[derive(Default)]
pub(crate) struct Past {
    /// Every content that a file ever had.
    pub(crate) contents: BTreeMap<String, BTreeSet<Digest>>,
    /// Name and serial of each certificate ever issued.
    pub(crate) certificates: HashMap<Digest, (String, u64)>,
    pub(crate) crls: HashMap<Digest, Revoked>,
    /// Every row, without its newline.
    pub(crate) rows: BTreeSet<String>,
    /// Rows by the content of inventory.txt.
    pub(crate) inventories: HashMap<Digest, BTreeSet<String>>,
    /// Revocations that were dropped since their certificate had expired.
    pub(crate) pruned: BTreeSet<u64>,
    /// What each generation that was made says the source has.
    pub(crate) views: BTreeMap<Position, View>,
}

/// A copy of the CA that was put aside.
pub(crate) struct Copy {
    pub(crate) tree: Tree,
    ca: TestCa,
    revoked: BTreeSet<u64>,
    expired: BTreeSet<u64>,
}

/// The active's CA as it goes on.
pub(crate) struct Source {
    ca: TestCa,
    pub(crate) past: Past,
    revoked: BTreeSet<u64>,
    /// Serials of certificates that had expired when they were issued.
    expired: BTreeSet<u64>,
    /// What an append in two halves still lacks.
    torn: Option<String>,
    is_atomic: bool,
    pub(crate) hour: i64,
}

impl Source {
    pub(crate) fn new(ca: TestCa) -> Self {
        let mut source = Self {
            revoked: BTreeSet::new(),
            ca,
            past: Past::default(),
            expired: BTreeSet::new(),
            torn: None,
            is_atomic: false,
            hour: 1,
        };
        for (serial, name) in [crate::pair::ACTIVE, crate::pair::PASSIVE]
            .into_iter()
            .enumerate()
        {
            source.issued(name, serial as u64 + 1);
        }
        source.look();
        source
    }

    pub(crate) fn dir(&self) -> &Path {
        self.ca.dir()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub(crate) fn is_signed(&self, name: &str) -> bool {
        self.path(&format!("signed/{name}.pem")).exists()
    }

    pub(crate) fn revokes(&self, serial: u64) -> bool {
        self.revoked.contains(&serial)
    }

    pub(crate) fn crl_number(&self) -> u64 {
        self.ca.crl_number()
    }

    pub(crate) fn writes_in_place(&mut self, in_place: bool, atomic_inventory: bool) {
        self.ca.set_write_in_place(in_place);
        self.ca.set_atomic_inventory(atomic_inventory);
        self.is_atomic = atomic_inventory;
    }

    /// One act of the server's, and what it leaves.
    fn act(&mut self, act: impl FnOnce(&mut Self)) {
        self.whole_again();
        self.hour += 1;
        self.ca.set_now(moment(self.hour));
        act(self);
        self.look();
    }

    pub(crate) fn sign(&mut self, name: &str) {
        self.sign_until(name, Step::Done);
    }

    pub(crate) fn sign_until(&mut self, name: &str, last: Step) {
        self.act(|it| {
            let serial = it.ca.sign_until(name, &[], last).unwrap();
            if last >= Step::Signed {
                it.issued(name, serial);
            }
        });
    }

    /// A certificate that expired long ago.
    pub(crate) fn sign_expired(&mut self, name: &str) {
        self.act(|it| {
            it.ca.set_now(moment(it.hour - 6 * 365 * 24));
            let serial = it.ca.sign(name).unwrap();
            it.expired.insert(serial);
            it.issued(name, serial);
        });
    }

    pub(crate) fn renew(&mut self, name: &str) {
        self.act(|it| {
            let serial = it.ca.renew(name).unwrap();
            it.issued(name, serial);
        });
    }

    pub(crate) fn request(&mut self, name: &str) {
        self.act(|it| it.ca.request(name).unwrap());
    }

    pub(crate) fn revoke(&mut self, name: &str) {
        self.act(|it| {
            let serial = it.ca.revoke(name).unwrap();
            it.revoked.insert(serial);
        });
    }

    pub(crate) fn clean(&mut self, name: &str) {
        self.act(|it| {
            let serial = it.ca.clean(name).unwrap();
            it.revoked.insert(serial);
        });
    }

    /// Signs the CRL again, without what has expired where `prunes`.
    pub(crate) fn resign(&mut self, prunes: bool) {
        self.act(|it| {
            let dropped: Vec<u64> = if prunes {
                it.revoked.intersection(&it.expired).copied().collect()
            } else {
                Vec::new()
            };
            it.revoked.retain(|serial| !dropped.contains(serial));
            it.past.pruned.extend(&dropped);
            it.ca.resign_crl(&dropped).unwrap();
        });
    }

    /// Signs as far as the row of the inventory, of which only a part is written until the next act.
    pub(crate) fn sign_torn(&mut self, name: &str, part: usize) {
        if self.is_atomic {
            return self.sign_until(name, Step::Inventory);
        }
        self.act(|it| {
            it.ca.sign_until(name, &[], Step::Inventory).unwrap();
            let path = it.path("inventory.txt");
            let text = std::fs::read_to_string(&path).unwrap();
            let begins = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
            let (there, rest) = text.split_at(begins + 1 + part % (text.len() - begins - 1));
            std::fs::write(&path, there).unwrap();
            it.torn = Some(rest.to_owned());
        });
    }

    /// What an append still lacked is there.
    pub(crate) fn whole_again(&mut self) {
        if let Some(rest) = self.torn.take() {
            let path = self.path("inventory.txt");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text + &rest).unwrap();
            self.look();
        }
    }

    /// Puts a copy aside.
    pub(crate) fn copy(&mut self) -> Copy {
        self.whole_again();
        Copy {
            tree: Tree::read(self.dir()),
            ca: self.ca.twin(self.dir()).unwrap(),
            revoked: self.revoked.clone(),
            expired: self.expired.clone(),
        }
    }

    /// Puts a copy back, whatever has happened since.
    pub(crate) fn put_back(&mut self, copy: &Copy) {
        self.torn = None;
        copy.tree.put_back(self.dir());
        self.ca = copy.ca.twin(self.dir()).unwrap();
        self.revoked.clone_from(&copy.revoked);
        self.expired.clone_from(&copy.expired);
        self.look();
    }

    /// Whether the CA is what a copy of it is.
    pub(crate) fn is(&self, copy: &Copy) -> bool {
        let now = Tree::read(self.dir());
        now.files().eq(copy.tree.files())
    }

    fn issued(&mut self, name: &str, serial: u64) {
        let bytes = std::fs::read(self.path(&format!("signed/{name}.pem"))).unwrap();
        let certificate = (name.to_owned(), serial);
        self.past
            .certificates
            .insert(Digest::of(&bytes), certificate);
    }

    /// Remembers what stands there now.
    fn look(&mut self) {
        let tree = Tree::read(self.dir());
        for (path, bytes) in tree.files() {
            let path = path.to_str().unwrap();
            let digest = Digest::of(bytes);
            if path == "ca_crl.pem" {
                let revoked = Revoked {
                    number: self.ca.crl_number(),
                    serials: self.revoked.clone(),
                };
                self.past.crls.insert(digest, revoked);
            } else if path == "inventory.txt" {
                // Only its whole lines cross.
                let whole = bytes.iter().rposition(|byte| *byte == b'\n');
                let whole = bytes.get(..whole.map_or(0, |at| at + 1)).unwrap();
                let rows: BTreeSet<String> = rows(whole).map(str::to_owned).collect();
                self.past.rows.extend(rows.clone());
                self.past.inventories.insert(Digest::of(whole), rows);
            }
            let contents = self.past.contents.entry(path.to_owned()).or_default();
            contents.insert(digest);
        }
    }
}

/// The rows of whole lines.
pub(crate) fn rows(whole: &[u8]) -> impl Iterator<Item = &str> {
    std::str::from_utf8(whole).unwrap().lines()
}

/// What a generation says the source has; a batch goes on from `before`.
pub(crate) fn view_after(manifest: &Manifest, before: &View) -> View {
    let files = manifest.files.iter();
    let mut view: View = files
        .map(|file| (file.path.to_string(), file.blake3))
        .collect();
    if let Content::Batch { steps, .. } = &manifest.content {
        view.clone_from(before);
        for step in steps {
            let path = step.path().to_string();
            match step {
                Told::Put { blake3, .. }
                | Told::Append { blake3, .. }
                | Told::Delta { blake3, .. } => drop(view.insert(path, *blake3)),
                Told::Delete { .. } => drop(view.remove(&path)),
            }
        }
    }
    view
}
