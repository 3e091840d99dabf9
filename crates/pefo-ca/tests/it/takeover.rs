//! A host that takes over: its serials, its CRLs, and what it takes from the one before.

mod block;
mod issuing;
mod merge;
mod signing;
mod split;
mod succession;
mod union;

use std::process::Command;

use pefo_ca::crl::Crl;
use pefo_ca::serial::Serial;
use pefo_ca::takeover::{CrlSigner, MergePlan, MergeRules};

use super::*;

fn signer(dir: &Path) -> CrlSigner {
    let snapshot = snap(dir);
    let layout = CaLayout::at(dir).unwrap();
    CrlSigner::load(&layout, snapshot.chain().unwrap().signing()).unwrap()
}

/// Our CRL in `ca_crl.pem`.
fn our_crl(dir: &Path) -> Crl {
    let snapshot = snap(dir);
    let signing = snapshot.chain().unwrap().signing();
    snapshot.ca_crl().unwrap().find(signing).unwrap().clone()
}

fn serial(number: u32) -> Serial {
    Serial::from(number)
}

/// Runs OpenSSL; `None`, and a line that says so, where there is none.
#[expect(clippy::print_stdout, reason = "a test that was skipped says so")]
fn openssl(args: &[&str], dir: &Path) -> Option<std::process::Output> {
    match Command::new("openssl").args(args).current_dir(dir).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: openssl: {error}");
            None
        }
    }
}

/// What OpenSSL, which knows nothing of this crate, says of the first CRL of a file.
fn openssl_verifies(dir: &Path, crls: &str) -> bool {
    let args = [
        "crl",
        "-in",
        crls,
        "-noout",
        "-verify",
        "-CAfile",
        "ca_crt.pem",
    ];
    openssl(&args, dir).is_none_or(|output| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success() && said.contains("verify OK")
    })
}

/// A CA that two hosts went on with: `a` comes back, `b` holds the reign.
struct Split {
    a: TestCa,
    b: TestCa,
    _root: TempDir,
}

impl Split {
    /// Both know puppet-a.test (1) and node1.test (2).
    fn new(shares_counter: bool) -> Self {
        Self::of(shares_counter, &["node1.test"])
    }

    /// Both know puppet-a.test and these.
    fn of(shares_counter: bool, names: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut a = TestCa::create(&root.path().join("a"), options()).unwrap();
        for name in names {
            a.sign(name).unwrap();
        }
        let dir = root.path().join("b");
        copy_tree(a.dir(), &dir).unwrap();
        if !shares_counter {
            std::fs::write(dir.join("serial"), "110000").unwrap();
        }
        let b = a.twin(&dir).unwrap();
        Self { a, b, _root: root }
    }

    /// Moves both to `hour` hours after the split.
    fn at(&mut self, hour: i64) {
        let moment = now() + time::Duration::hours(hour);
        self.a.set_now(moment);
        self.b.set_now(moment);
    }

    fn merge(&self) -> MergePlan {
        self.merge_with(rules())
    }

    fn merge_with(&self, rules: PlanRules) -> MergePlan {
        pefo_ca::takeover::merge(
            &snap(self.b.dir()),
            &snap(self.a.dir()),
            &MergeRules::new(rules),
        )
    }

    fn apply(&self, plan: &MergePlan) -> ApplyReport {
        let plan = plan.sign(&signer(self.b.dir()), timestamp()).unwrap();
        apply_to(self.b.dir(), &plan)
    }

    fn holds(&self, name: &str) -> bool {
        self.b.dir().join(name).exists()
    }

    fn holds_same(&self, name: &str) -> bool {
        let read = |ca: &TestCa| std::fs::read(ca.dir().join(name)).unwrap();
        read(&self.a) == read(&self.b)
    }
}
