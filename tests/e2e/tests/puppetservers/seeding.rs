//! A spare that never had a CA gets one, and starts on it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use pefo_testkit::masters::{self, Run};
use pefo_testkit::puppetserver::Request;

use super::look::{counter, files_below, hex, rows};
use super::{B, DISTANCE, Nodes, Pair, SHARED};

impl Pair {
    pub(super) fn spare_is_seeded_whole(&self, nodes: &Nodes) {
        masters::pair(&self.active, &self.passive);
        let (from, to) = (self.a.cadir(), self.b.cadir());
        self.timed("push --seed", || {
            self.active.pefo(["ca", "push", "--seed"]).exits(0)
        });
        assert!(!to.exists(), "B is without a CA until it applies");
        let first_seen = while_watching(&to, || {
            self.timed("apply of the seed", || {
                self.passive.pefo(["ca", "apply"]).exits(0)
            })
        });

        // By one rename: whoever looked saw nothing, and then all of it.
        assert_eq!(
            first_seen,
            Some(files_below(&to)),
            "the cadir as it was first seen, and as it is"
        );
        let user = self.b.user();
        for path in files_below(&to).into_iter().chain([PathBuf::new()]) {
            let meta = fs::symlink_metadata(to.join(&path)).unwrap();
            assert_eq!(
                (meta.uid(), meta.gid()),
                (user.uid(), user.gid()),
                "the owner of {path:?}"
            );
            // As on A, less what nobody needs.
            let expected = match path.to_str() {
                Some("serial") => 0o644,
                _ if meta.is_dir() => 0o750,
                _ => fs::metadata(from.join(&path)).unwrap().mode() & 0o644,
            };
            assert_eq!(
                meta.mode() & 0o7777,
                expected,
                "the mode of {path:?}: {:o}, expected {expected:o}",
                meta.mode()
            );
        }
        assert_eq!(
            fs::metadata(to.join("ca_key.pem")).unwrap().mode() & 0o007,
            0
        );
        // Whole: A's, but for the counter and the root's key.
        assert!(from.join("root_key.pem").exists());
        let expected: BTreeSet<PathBuf> = files_below(&from)
            .into_iter()
            .filter(|path| path != Path::new("root_key.pem"))
            .collect();
        assert_eq!(files_below(&to), expected);
        for path in expected
            .iter()
            .filter(|path| from.join(path).is_file() && path.as_path() != Path::new("serial"))
        {
            assert_eq!(
                fs::read(to.join(path)).unwrap(),
                fs::read(from.join(path)).unwrap(),
                "{path:?}"
            );
        }
        for node in [&nodes.live, &nodes.revoked, &nodes.cleaned] {
            assert!(to.join(format!("signed/{}.pem", node.certname())).is_file());
        }
        assert!(
            to.join(format!("requests/{}.pem", nodes.pending.certname()))
                .is_file()
        );
        assert!(
            counter(&to) >= counter(&from) + DISTANCE,
            "B's counter {:X}, A's {:X}",
            counter(&to),
            counter(&from)
        );
    }

    pub(super) fn spare_starts_with_a_certificate_from_its_own_block(&mut self) {
        let next = counter(&self.b.cadir());
        let took = self.b.start();
        self.tell("B was up on the seeded CA", took);
        let serial = hex(&self.b.identity().serial());
        assert!(
            serial >= next,
            "B's own serial {serial:X}, its block from {next:X}"
        );
        assert!(serial >= counter(&self.a.cadir()) + DISTANCE);
        assert!(rows(&self.b.cadir()).contains(&(serial, B.to_owned())));
        // It bears both names, for whoever checks it with the CA's certificate.
        for host in [B, SHARED] {
            let status = self
                .b
                .request(&Request::get("/status/v1/simple").host(host));
            assert_eq!(status.expect_accepted("ask for the status"), "running");
        }
        // What it issued for itself is no reason for anything to be refused, on either side.
        self.sync();
        assert!(!self.a.cadir().join(format!("signed/{B}.pem")).exists());
    }
}

/// Runs `work` while looking at `directory` without a pause: what was below it when it was first there.
fn while_watching(directory: &Path, work: impl FnOnce() -> Run) -> Option<BTreeSet<PathBuf>> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if directory.exists() {
                    return Some(files_below(directory));
                }
                std::thread::yield_now();
            }
            None
        });
        // Also where the work panics, or the watcher would never end.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        match result {
            Ok(_) => watcher.join().unwrap(),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
