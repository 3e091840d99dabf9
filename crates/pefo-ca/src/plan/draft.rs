//! A plan in the making: what is refused and noted on the way, who the two sides are, and the files
//! that belong to the CA itself.

use std::sync::Arc;

use pefo_core::RelPath;

use super::{Action, Conflict, Plan, PlanRules, Rule, Scope, blocking, find};
use crate::cert::{CaChain, Cert};
use crate::pem;
use crate::serial::Serial;
use crate::snapshot::{FileEntry, Part, Snapshot};

/// A plan in the making.
pub(crate) struct Draft<'a> {
    pub(crate) rules: &'a PlanRules,
    pub(crate) actions: Vec<Action>,
    pub(crate) conflicts: Vec<Conflict>,
    pub(crate) overruled: Vec<Conflict>,
    pub(crate) notes: Vec<String>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(rules: &'a PlanRules) -> Self {
        Self {
            rules,
            actions: Vec::new(),
            conflicts: Vec::new(),
            overruled: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn finish(mut self, source_serial: Option<Serial>) -> Plan {
        if blocking(&self.conflicts).is_some() {
            self.actions.clear();
        }
        Plan {
            actions: self.actions,
            conflicts: self.conflicts,
            overruled: self.overruled,
            notes: self.notes,
            source_serial,
        }
    }

    /// Records a refusal; true where an operator overruled it and the work may go on.
    pub(crate) fn refuse(&mut self, rule: Rule, subject: &str, message: impl Into<String>) -> bool {
        let conflict = Conflict::new(rule, subject, message);
        let accepted = rule.is_acceptable() && self.rules.accept.contains(rule.name());
        if accepted {
            self.overruled.push(conflict)
        } else {
            self.conflicts.push(conflict)
        }
        accepted
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn holds_issuing(&self) -> bool {
        self.conflicts
            .iter()
            .any(|conflict| conflict.rule.scope() == Scope::Issuing)
    }

    /// Both sides are the same authority, and both are whole enough to be compared.
    pub(crate) fn identity<'s>(
        &mut self,
        local: &'s Snapshot,
        source: &Snapshot,
    ) -> Option<&'s CaChain> {
        if let Some((name, what)) = source.lacks() {
            let rule = if name == "ca-source-empty" {
                Rule::CaSourceEmpty
            } else {
                Rule::CaSourceUnreadable
            };
            self.refuse(rule, "source", what);
            return None;
        }
        let Part::Read(ours) = &local.chain else {
            self.refuse(Rule::CaLocalUnreadable, "ca_crt.pem", local.chain.reason());
            return None;
        };
        if !local.has_signed_dir {
            self.refuse(Rule::CaLocalUnreadable, "signed/", "is missing");
            return None;
        }
        if let Part::Unreadable(error) = &local.inventory {
            self.refuse(Rule::CaLocalUnreadable, "inventory.txt", error.to_string());
            return None;
        }
        let theirs = source.chain.get()?;
        let same = |a: &Cert, b: &Cert| a.public_key() == b.public_key() && a.subject == b.subject;
        if !same(ours.signing(), theirs.signing()) {
            let message = format!(
                "the source is {}, with another key than our {}",
                theirs.signing().subject,
                ours.signing().subject
            );
            self.refuse(Rule::CaIdentity, "ca_crt.pem", message);
            return None;
        }
        if !same(ours.root(), theirs.root()) {
            let message = format!(
                "the source's root is {}, ours is {}",
                theirs.root().subject,
                ours.root().subject
            );
            self.refuse(Rule::CaIdentity, "ca_crt.pem", message);
            return None;
        }
        match &local.key_matches {
            Part::Read(true) => {}
            Part::Read(false) => {
                self.refuse(
                    Rule::CaIdentity,
                    "ca_key.pem",
                    "the key is not that of the signing CA's certificate",
                );
                return None;
            }
            other => {
                self.refuse(Rule::CaKeyMissing, "ca_key.pem", other.reason());
            }
        }
        Some(ours)
    }

    /// `ca_crt.pem`, `ca_pub.pem` and the two infra lists.
    pub(crate) fn ca_files(&mut self, local: &Snapshot, source: &Snapshot, ca: &CaChain) {
        for name in [
            "infra_inventory.txt",
            "infra_serials",
            "ca_pub.pem",
            "ca_crt.pem",
        ] {
            let (here, there) = (find(&local.files, name), find(&source.files, name));
            let Some((path, file)) = there else { continue };
            if here.is_some_and(|(_, here)| here.bytes == file.bytes) {
                continue;
            }
            if let Some(problem) = source.problems.iter().find(|problem| problem.path == name) {
                self.refuse(Rule::InfraUnreadable, name, problem.error.to_string());
                continue;
            }
            let why = match name {
                "ca_crt.pem" => {
                    if source.chain.get().map(CaChain::certs) == Some(ca.certs()) {
                        // The same certificates, written another way.
                        continue;
                    }
                    if !self.refuse(
                        Rule::CaCertificate,
                        name,
                        "the CA's certificate was renewed at the source",
                    ) {
                        continue;
                    }
                    "the CA's certificate was renewed"
                }
                "ca_pub.pem" => {
                    let is_ours = pem::blocks_of("PUBLIC KEY", &file.bytes)
                        .is_ok_and(|blocks| matches!(blocks.as_slice(), [block] if block.der == ca.signing().public_key()));
                    if !is_ours {
                        self.refuse(
                            Rule::CaPubMismatch,
                            name,
                            "is not the signing CA's public key",
                        );
                        continue;
                    }
                    "as at the source"
                }
                _ => "as at the source",
            };
            self.put(
                path.clone(),
                file,
                here.map(|(_, file)| Arc::clone(&file.bytes)),
                why,
            );
        }
    }

    pub(crate) fn put(
        &mut self,
        path: RelPath,
        file: &FileEntry,
        expects: Option<Arc<[u8]>>,
        why: impl Into<String>,
    ) {
        self.actions.push(Action::Put {
            path,
            why: why.into(),
            bytes: Arc::clone(&file.bytes),
            mode: file.mode & 0o644,
            expects,
        });
    }
}
