//! The active is dead, and the spare does its work.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use super::look::{counter, hex, rows};
use super::{CRL_LIMIT, Nodes, Pair};

impl Pair {
    pub(super) fn spare_goes_on_alone(&mut self, nodes: &Nodes) {
        let (on_a, next) = (rows(&self.a.cadir()), counter(&self.b.cadir()));
        assert!(!self.a.is_running());
        assert_eq!(
            self.b.state_of(nodes.pending.certname()).as_deref(),
            Some("requested")
        );
        let begin = Instant::now();
        self.b.sign(&nodes.pending);
        self.tell("B signed what was pending on A", begin.elapsed());
        let serial = hex(&nodes.pending.identity().serial());
        assert_eq!(serial, next, "the next of B's own block");
        assert_ne!(serial, hex(&self.b.identity().serial()));
        assert!(on_a.iter().all(|(issued, _)| *issued != serial));
        let answer = self.b.ask(&nodes.pending);
        assert!(answer.is_accepted(), "{answer:?}");
        // No number names two certificates, and none of A's is lost.
        let on_b = rows(&self.b.cadir());
        assert!(on_b.is_superset(&on_a), "{on_a:?} on A, {on_b:?} on B");
        let names: BTreeMap<u64, &str> = on_b
            .iter()
            .map(|(serial, name)| (*serial, name.as_str()))
            .collect();
        assert_eq!(names.len(), on_b.len(), "{on_b:?}");

        // The last generation, applied once more as cron does, takes nothing of it back.
        let report = self.passive.pefo(["ca", "apply", "--json"]).exits(0).json();
        assert_eq!(report["outcome"], "unchanged", "{report}");
        assert!(self.b.ask(&nodes.pending).is_accepted());
        self.b.revoke(nodes.live.certname());
        let took = self.b.wait_until_refused(&nodes.live, CRL_LIMIT);
        self.tell("B refused what it revoked itself", took);
        let crl = fs::read(self.b.cadir().join("ca_crl.pem")).unwrap();
        let run = self.passive.pefo(["ca", "apply"]).exits(3);
        assert!(
            run.refused_by("crl-rollback"),
            "{}{}",
            run.stdout,
            run.stderr
        );
        assert_eq!(fs::read(self.b.cadir().join("ca_crl.pem")).unwrap(), crl);
        assert!(self.b.ask(&nodes.live).is_refused() && self.b.ask(&nodes.pending).is_accepted());
    }
}
