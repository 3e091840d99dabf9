//! How a standby's CA follows its source, against CAs on disk.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests lay out, break and read directories by hand, and fail loudly"
)]

mod bad_input;
mod check;
mod crash;
mod crl;
mod documentation;
mod issued;
mod layout;
mod model;
mod parsers;
mod rehearsal;
mod sample;
mod seed;
mod snapshot;
mod source;
mod standby;
mod takeover;
mod verify;
mod verify_model;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pefo_ca::{
    ApplyOptions, ApplyReport, CaLayout, Plan, PlanRules, Snapshot, SnapshotOptions, Threads,
    apply, plan,
};
use pefo_core::clock::{FixedClock, Timestamp};
use pefo_core::disk::Disk;
use pefo_testkit::ca::{CaOptions, TestCa, copy_tree};
use tempfile::TempDir;
use time::OffsetDateTime;

/// 2026-11-22T12:30:00Z, just after the samples were taken.
const NOW: i64 = 1_795_350_600;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

fn timestamp() -> Timestamp {
    Timestamp::from_unix_seconds(NOW).unwrap()
}

fn clock() -> FixedClock {
    FixedClock::new(timestamp())
}

fn rules() -> PlanRules {
    PlanRules::new(timestamp())
}

fn options() -> CaOptions {
    CaOptions::default().now(now())
}

fn owner() -> (u32, u32) {
    let meta = std::fs::metadata("/proc/self").unwrap();
    use std::os::unix::fs::MetadataExt as _;
    (meta.uid(), meta.gid())
}

fn snap(dir: &Path) -> Snapshot {
    Snapshot::read_dir(dir, &SnapshotOptions::default()).unwrap()
}

/// A CA and a standby that is in step with it.
struct Pair {
    root: TempDir,
    a: TestCa,
    b: PathBuf,
}

impl Pair {
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: CaOptions) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut a = TestCa::create(&root.path().join("a"), options).unwrap();
        a.sign("node1.test").unwrap();
        let b = root.path().join("b");
        copy_tree(a.dir(), &b).unwrap();
        Self { root, a, b }
    }

    fn plan(&self) -> Plan {
        self.plan_with(&rules())
    }

    fn plan_with(&self, rules: &PlanRules) -> Plan {
        plan(&snap(&self.b), &snap(self.a.dir()), rules)
    }

    fn apply(&self, plan: &Plan) -> ApplyReport {
        apply_to(&self.b, plan)
    }

    /// One round; nothing may be refused.
    fn follow(&self) -> Plan {
        let plan = self.plan();
        assert_eq!(plan.conflicts, [], "nothing is refused");
        self.apply(&plan);
        plan
    }

    fn refused(&self) -> Vec<&'static str> {
        refusals(&self.plan())
    }
}

fn apply_to(dir: &Path, plan: &Plan) -> ApplyReport {
    apply(
        &Disk::new(),
        &CaLayout::at(dir).unwrap(),
        plan,
        &ApplyOptions::default(),
        &clock(),
    )
    .unwrap()
}

fn refusals(plan: &Plan) -> Vec<&'static str> {
    plan.conflicts
        .iter()
        .map(|conflict| conflict.rule.name())
        .collect()
}

/// Every file's content, by path.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    walk(dir, dir)
}

fn walk(root: &Path, dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(root, &path));
        } else {
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

/// The same files with the same content; names first, so that a failure can be read.
fn assert_same(left: &Path, right: &Path) {
    let (left, right) = (contents(left), contents(right));
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        right.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &left {
        assert_eq!(
            String::from_utf8_lossy(bytes),
            String::from_utf8_lossy(&right[name]),
            "{name}"
        );
    }
}
