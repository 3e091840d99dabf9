//! What has to be true of the passive at any moment, whatever happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pefo_core::disk::is_temp_name;
use pefo_core::generation::{Accepted, DataSet, Position};
use pefo_core::{Digest, RelPath};

use crate::pair::{EXCLUDED, PASSIVE, Tree, block};
use crate::source::{Revoked, View, rows};
use crate::world::World;

/// What was once true on the passive, and has to stay so.
#[derive(Default)]
pub(crate) struct Seen {
    /// The most that its root has ever said it applied.
    applied: Option<Position>,
    /// Revocations that were in force, and the number of the CRL.
    in_force: BTreeSet<u64>,
    number: u64,
    /// What its own server issued.
    own: HashMap<Digest, (String, u64)>,
    own_rows: BTreeSet<String>,
    /// A test has torn its inventory.
    pub(crate) is_torn: bool,
    /// The source is not what it was: a backup was put back.
    pub(crate) was_rolled_back: bool,
}

impl Seen {
    /// The passive is put back to what it was, but for what it has said.
    pub(crate) fn forget(&mut self, applied: Option<Position>) {
        self.applied = applied;
        self.in_force.clear();
        self.number = 0;
    }
}

/// The passive's CA as it stands.
pub(crate) struct Live {
    pub(crate) files: BTreeMap<String, (Digest, Vec<u8>)>,
    pub(crate) rows: BTreeSet<String>,
    next: u64,
    pub(crate) crl: Revoked,
}

impl Live {
    pub(crate) fn digest(&self, path: &str) -> Option<Digest> {
        self.files.get(path).map(|(digest, _)| *digest)
    }

    pub(crate) fn paths<'a>(&'a self, sub: &'a str) -> impl Iterator<Item = &'a str> {
        let paths = self.files.keys().map(String::as_str);
        paths.filter(move |path| path.starts_with(sub))
    }
}

fn serial_of(row: &str) -> u64 {
    u64::from_str_radix(&row[2..row.find(' ').unwrap()], 16).unwrap()
}

fn name_of(row: &str) -> &str {
    row.rsplit("/CN=").next().unwrap()
}

/// A file's certname, below a subdirectory.
fn certname_in<'a>(sub: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix(sub)?.strip_suffix(".pem")
}

impl World<'_> {
    pub(crate) fn live(&self) -> Live {
        let tree = Tree::read(&self.pair.b.cadir());
        let mut files = BTreeMap::new();
        for (path, bytes) in tree.files() {
            if !is_temp_name(path.file_name().unwrap().to_str().unwrap()) {
                let content = (Digest::of(bytes), bytes.to_vec());
                files.insert(path.to_str().unwrap().to_owned(), content);
            }
        }
        let inventory = &files["inventory.txt"].1;
        let whole = inventory.iter().rposition(|byte| *byte == b'\n');
        let whole = &inventory[..whole.map_or(0, |at| at + 1)];
        assert!(
            whole.len() == inventory.len() || self.seen.is_torn,
            "the inventory is torn"
        );
        let rows = rows(whole).map(str::to_owned).collect();
        let text = std::str::from_utf8(&files["serial"].1).unwrap();
        let next = u64::from_str_radix(text.trim(), 16).unwrap();
        let crl = files["ca_crl.pem"].0;
        let crl = self.source.past.crls.get(&crl).cloned();
        Live {
            rows,
            next,
            crl: crl.expect("ca_crl.pem is one that the CA has signed"),
            files,
        }
    }

    /// The passive's server has issued something.
    pub(crate) fn note_own(&mut self, name: &str, serial: u64) {
        let dir = self.pair.b.cadir();
        let bytes = std::fs::read(dir.join(format!("signed/{name}.pem"))).unwrap();
        let own = (name.to_owned(), serial);
        self.seen.own.insert(Digest::of(&bytes), own);
        let text = std::fs::read_to_string(dir.join("inventory.txt")).unwrap();
        let row = text.lines().last().unwrap();
        assert!(row.ends_with(&format!("/CN={name}")), "{row}");
        self.seen.own_rows.insert(row.to_owned());
    }

    /// Hears what the passive says it has applied.
    pub(crate) fn hear(&mut self) {
        let applied = self.ack().and_then(|ack| ack.applied);
        self.seen.applied = self.seen.applied.max(applied);
    }

    /// All of it.
    pub(crate) fn check(&mut self) {
        let live = self.live();
        self.every_file_is_whole_and_known(&live);
        self.the_counter_covers_the_inventory(&live);
        self.the_inventory_covers_signed(&live);
        self.no_revocation_is_lost(&live);
        self.what_is_said_is_true();
        self.hear();
        if let Some(applied) = self.seen.applied {
            self.is_applied(&live, applied);
        }
        if live.files["inventory.txt"].1.ends_with(b"\n") {
            self.seen.is_torn = false;
        }
        self.seen.in_force.clone_from(&live.crl.serials);
        self.seen.number = live.crl.number;
    }

    fn every_file_is_whole_and_known(&self, live: &Live) {
        let past = &self.source.past;
        for row in &live.rows {
            let is_known = past.rows.contains(row) || self.seen.own_rows.contains(row);
            assert!(is_known, "a row that nobody wrote: {row}");
        }
        for (path, (digest, bytes)) in &live.files {
            assert!(RelPath::new(path.as_str()).is_ok(), "{path}");
            let is_the_sources = past
                .contents
                .get(path)
                .is_some_and(|contents| contents.contains(digest));
            if matches!(path.as_str(), "serial" | "inventory.txt") {
            } else if let Some(name) = certname_in("signed/", path) {
                let issued = past.certificates.get(digest).or(self.seen.own.get(digest));
                let whose = issued.map(|(name, _)| name.as_str());
                assert_eq!(whose, Some(name), "{path} is one of ours");
                assert!(name != EXCLUDED, "{path} never crosses");
            } else if certname_in("requests/", path).is_some() {
                // Of its own server's it may have one, answered by now.
                let is_request = bytes.ends_with(b"-----END CERTIFICATE REQUEST-----\n");
                assert!(is_the_sources || is_request, "{path}");
            } else {
                assert!(is_the_sources, "{path} is no file that the source ever had");
            }
        }
        let host_crl = self.pair.b.root.join("ssl/crl.pem");
        if let Ok(bytes) = std::fs::read(host_crl) {
            let digest = Digest::of(&bytes);
            assert!(past.crls.contains_key(&digest), "ssl/crl.pem is whole");
        }
    }

    fn the_counter_covers_the_inventory(&self, live: &Live) {
        let rows = live.rows.iter().map(|row| serial_of(row));
        if !self.has_block {
            let highest = rows.max().unwrap();
            assert!(live.next > highest, "{:X} covers {highest:X}", live.next);
            return;
        }
        let (first, last) = (u64::from(block().first()), u64::from(block().last()));
        assert!(
            (first..=last + 1).contains(&live.next),
            "{:X} is in its own block",
            live.next
        );
        let highest = rows.filter(|serial| (first..=last).contains(serial)).max();
        assert!(
            highest.is_none_or(|highest| live.next > highest),
            "{:X} covers {highest:X?}",
            live.next
        );
    }

    fn the_inventory_covers_signed(&self, live: &Live) {
        let mut subjects: BTreeMap<u64, &str> = BTreeMap::new();
        for row in &live.rows {
            let before = subjects.insert(serial_of(row), name_of(row));
            let is_one = before.is_none_or(|before| before == name_of(row));
            assert!(is_one, "{row} is {before:?} too");
        }
        for path in live.paths("signed/") {
            let digest = live.digest(path).unwrap();
            let issued = self.source.past.certificates.get(&digest);
            let (name, serial) = issued.or(self.seen.own.get(&digest)).unwrap();
            let row = subjects.get(serial).copied();
            assert_eq!(row, Some(name.as_str()), "{path} has its row");
        }
    }

    fn no_revocation_is_lost(&self, live: &Live) {
        let (before, now) = (self.seen.number, live.crl.number);
        assert!(now >= before, "CRL number {before} -> {now}");
        for serial in self.seen.in_force.difference(&live.crl.serials) {
            let is_expired = self.source.past.pruned.contains(serial);
            assert!(is_expired, "{serial:X} is not revoked any more");
        }
    }

    /// An ack says no more than what is recorded.
    fn what_is_said_is_true(&self) {
        let path = self.pair.b.host.record_path("accepted", &DataSet::Ca);
        let accepted = Accepted::load(&path).unwrap();
        let Some(ack) = self.ack() else { return };
        let position = accepted.as_ref().map(|accepted| accepted.position);
        let applied = accepted.as_ref().and_then(|accepted| accepted.applied);
        assert!(ack.accepted <= position, "{ack:?} of {accepted:?}");
        assert!(ack.applied <= applied, "{ack:?} of {accepted:?}");
        assert!(applied <= position, "{accepted:?}");
        assert!(applied.is_none_or(|applied| self.positions().contains(&applied)));
    }

    /// What a generation says stands here, or something that came after it.
    fn is_applied(&self, live: &Live, position: Position) {
        let views: Vec<&View> = self
            .source
            .past
            .views
            .range(position..)
            .map(|it| it.1)
            .collect();
        let view = views[0];
        let told = &self.source.past.inventories[&view["inventory.txt"]];
        for row in told {
            assert!(live.rows.contains(row), "{row} was said to be here");
        }
        let crl = &self.source.past.crls[&view["ca_crl.pem"]];
        assert!(
            crl.number <= live.crl.number,
            "CRL {} was said to be here",
            crl.number
        );
        let lost = |serial: &&u64| !self.source.past.pruned.contains(serial);
        let lost: Vec<_> = crl
            .serials
            .difference(&live.crl.serials)
            .filter(lost)
            .collect();
        assert!(lost.is_empty(), "{lost:X?} were said to be revoked here");
        if self.seen.was_rolled_back {
            return;
        }
        for path in view.keys().filter(|path| path.starts_with("signed/")) {
            let here = live.digest(path);
            let is_own = here.is_some_and(|here| self.seen.own.contains_key(&here));
            let is_told = views.iter().any(|view| view.get(path).copied() == here);
            assert!(is_told || is_own, "{path} was said to be here");
        }
    }

    /// Why the passive's CA is not the active's, if it is not: own certificates, counter and what is left
    /// out aside.
    pub(crate) fn difference(&self) -> Option<String> {
        let live = self.live();
        let there: BTreeMap<String, Digest> = Tree::read(self.source.dir())
            .files()
            .map(|(path, bytes)| (path.to_str().unwrap().to_owned(), Digest::of(bytes)))
            .collect();
        for name in ["ca_crl.pem", "infra_crl.pem", "ca_crt.pem"] {
            if live.digest(name) != there.get(name).copied() {
                return Some(format!("{name} is another"));
            }
        }
        let host_crl = std::fs::read(self.pair.b.root.join("ssl/crl.pem")).unwrap_or_default();
        if Digest::of(&host_crl) != there["ca_crl.pem"] {
            return Some("ssl/crl.pem is not ca_crl.pem".to_owned());
        }
        let is_left_out = |path: &str| {
            [EXCLUDED, PASSIVE]
                .iter()
                .any(|name| certname_in("signed/", path) == Some(name))
        };
        for (path, digest) in there.iter().filter(|(path, _)| path.starts_with("signed/")) {
            if live.digest(path) != Some(*digest) && !is_left_out(path) {
                return Some(format!("{path} is missing, or another"));
            }
        }
        for path in live.paths("signed/") {
            let is_own = self.seen.own.contains_key(&live.files[path].0);
            if !there.contains_key(path) && !is_own && !is_left_out(path) {
                return Some(format!("{path} is too much"));
            }
        }
        let rows = &self.source.past.inventories[&there["inventory.txt"]];
        if let Some(row) = rows.difference(&live.rows).next() {
            return Some(format!("{row} is missing"));
        }
        let mut more = live.rows.difference(rows);
        if let Some(row) = more.find(|row| !self.seen.own_rows.contains(*row)) {
            return Some(format!("{row} is too much"));
        }
        for (path, digest) in there
            .iter()
            .filter(|(path, _)| path.starts_with("requests/"))
        {
            let certificate = path.replace("requests/", "signed/");
            let is_answered = live.files.contains_key(&certificate);
            if !is_answered && live.digest(path) != Some(*digest) {
                return Some(format!("{path} is pending and not here"));
            }
        }
        None
    }

    pub(crate) fn highest_number(&self) -> u64 {
        self.seen.number
    }

    pub(crate) fn in_force(&self) -> &BTreeSet<u64> {
        &self.seen.in_force
    }
}
