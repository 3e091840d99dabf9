//! The spare is kept in step by push and apply, as cron runs them.

use std::fs;

use pefo_testkit::wait;

use super::look::{counter, crl_if_newer, hex, next_second_after, rows, starts_of};
use super::{CLEAN_LIMIT, CRL_LIMIT, Nodes, Pair};

impl Pair {
    pub(super) fn revocation_reaches_the_running_spare(&mut self, nodes: &Nodes) {
        for node in [&nodes.live, &nodes.revoked, &nodes.cleaned] {
            let answer = self.b.ask(node);
            assert!(answer.is_accepted(), "{}: {answer:?}", node.certname());
        }
        let starts = starts_of(&self.b);
        let old = self.b.crl();
        self.a.revoke(nodes.revoked.certname());
        let took = self.a.wait_until_refused(&nodes.revoked, CRL_LIMIT);
        self.tell("A refused the revoked node itself", took);

        // An agent fetches the CRL from B when A has the new one already: a file that kept A's time on B
        // would never be sent to it.
        next_second_after(&self.a.cadir().join("ca_crl.pem"));
        let agents_crl = self.b.directory().join("agents/crl.pem");
        fs::write(&agents_crl, self.b.crl()).unwrap();
        assert_eq!(fs::read_to_string(&agents_crl).unwrap(), old);
        assert_eq!(crl_if_newer(&self.b, &agents_crl).0, 304);
        assert!(
            self.b.ask(&nodes.revoked).is_accepted(),
            "B cannot know yet"
        );
        next_second_after(&agents_crl);

        self.sync();
        let took = self.b.wait_until_refused(&nodes.revoked, CRL_LIMIT);
        self.tell("B refused the revoked node after the apply", took);
        let answer = self.b.ask(&nodes.live);
        assert!(answer.is_accepted(), "{answer:?}");
        let (code, crl) = crl_if_newer(&self.b, &agents_crl);
        assert_eq!(code, 200, "B's answer to If-Modified-Since of the old CRL");
        assert_ne!(crl.trim(), old.trim());
        assert_eq!(
            crl.trim(),
            self.a.crl().trim(),
            "both hand out the same CRL"
        );
        // puppetserver gives it to its own host too.
        let host_crl = self.b.ssldir().join("crl.pem");
        let took = wait::until("B to copy the CRL to its ssldir", CRL_LIMIT, || {
            fs::read_to_string(&host_crl).is_ok_and(|text| text.trim() == crl.trim())
        });
        self.tell("B copied the CRL to its ssldir", took);
        assert_eq!(
            starts_of(&self.b),
            starts,
            "B was neither started again nor reloaded"
        );
        // A revocation leaves signed/ alone; so does its copy.
        assert!(
            self.b
                .cadir()
                .join(format!("signed/{}.pem", nodes.revoked.certname()))
                .is_file()
        );
        assert_eq!(
            self.b.state_of(nodes.revoked.certname()).as_deref(),
            Some("revoked")
        );
    }

    pub(super) fn certificates_signed_later_are_accepted_on_the_spare(&mut self) {
        let next = counter(&self.b.cadir());
        let later = ["later1.pefo.test", "later2.pefo.test"].map(|name| self.a.enrol(name));
        for node in &later {
            assert_eq!(self.b.state_of(node.certname()), None);
        }
        self.sync();
        for node in &later {
            assert_eq!(self.b.state_of(node.certname()).as_deref(), Some("signed"));
            let answer = self.b.ask(node);
            assert!(answer.is_accepted(), "{}: {answer:?}", node.certname());
            assert!(
                rows(&self.b.cadir())
                    .contains(&(hex(&node.identity().serial()), node.certname().to_owned()))
            );
        }
        assert_eq!(
            counter(&self.b.cadir()),
            next,
            "B's counter stays in B's block"
        );
    }

    pub(super) fn cleaned_certificate_disappears_on_the_spare(&self, nodes: &Nodes) {
        let (name, file) = (nodes.cleaned.certname(), "signed/cleaned.pefo.test.pem");
        assert!(self.b.ask(&nodes.cleaned).is_accepted() && self.b.cadir().join(file).is_file());
        self.a.clean(name);
        let took = wait::until("A to forget the cleaned node", CLEAN_LIMIT, || {
            !self.a.cadir().join(file).exists()
        });
        self.tell("A's file of the cleaned node was gone", took);
        self.sync();
        assert!(!self.b.cadir().join(file).exists());
        assert_eq!(self.b.state_of(name), None);
        let took = self.b.wait_until_refused(&nodes.cleaned, CRL_LIMIT);
        self.tell("B refused the cleaned node after the apply", took);
        // What is revoked without being cleaned stays, as on A.
        let revoked = format!("signed/{}.pem", nodes.revoked.certname());
        assert!(self.a.cadir().join(&revoked).exists() && self.b.cadir().join(&revoked).exists());
        for master in [&self.active, &self.passive] {
            master.pefo(["check"]).exits(0);
        }
    }
}
