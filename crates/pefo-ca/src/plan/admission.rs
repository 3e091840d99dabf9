//! What holds for every certificate and request from another host, whether it is this one's source or an
//! active that returns: it can be read, it is its file's, our CA issued it, and few go at once.

use std::sync::Arc;

use pefo_core::Certname;

use super::draft::Draft;
use super::{Action, Rule, find};
use crate::cert::{Cert, Request};
use crate::snapshot::{Part, Snapshot};

impl Draft<'_> {
    /// Refuses the files whose names are no certnames.
    pub(crate) fn refuse_names(&mut self, theirs: &Snapshot) {
        for problem in &theirs.problems {
            if problem.error.rule == "name-refused" {
                let message = problem.error.message.clone();
                self.refuse(Rule::NameRefused, &problem.path, message);
            }
        }
    }

    /// A certificate that can be read.
    pub(crate) fn certificate<'p>(&mut self, path: &str, part: &'p Part<Cert>) -> Option<&'p Cert> {
        if let Part::Read(cert) = part {
            return Some(cert);
        }
        self.refuse(Rule::CertUnreadable, path, part.reason());
        None
    }

    /// Whether a certificate is its file's, and `authority` issued it.
    pub(crate) fn is_issued_to(
        &mut self,
        path: &str,
        name: &Certname,
        cert: &Cert,
        authority: &Cert,
    ) -> bool {
        if cert.common_name.as_deref() != Some(name.as_str()) {
            let message = format!("the certificate is of {}", cert.subject);
            self.refuse(Rule::CertNameMismatch, path, message);
            return false;
        }
        if let Err(error) = cert.verify_issued_by(authority) {
            self.refuse(Rule::CertUnknownIssuer, path, error.message);
            return false;
        }
        true
    }

    /// A request that can be read and is its file's.
    pub(crate) fn request<'p>(
        &mut self,
        path: &str,
        name: &Certname,
        part: &'p Part<Request>,
    ) -> Option<&'p Request> {
        let Part::Read(request) = part else {
            self.refuse(Rule::RequestUnreadable, path, part.reason());
            return None;
        };
        if request.common_name.as_deref() != Some(name.as_str()) {
            let message = "the request is for another name than its file's";
            self.refuse(Rule::RequestNameMismatch, path, message);
            return None;
        }
        Some(request)
    }

    /// Whether so many certificates may go at once.
    pub(crate) fn may_remove(&mut self, count: usize) -> bool {
        let allowed = self.rules.max_deletes;
        let message = || format!("{count} certificates would go, more than the {allowed} allowed");
        count <= allowed || self.refuse(Rule::CaMassDelete, "signed/", message())
    }

    /// Removes a file of `local`, where it is there.
    pub(crate) fn remove(&mut self, local: &Snapshot, path: &str, why: String) {
        if let Some((rel, file)) = find(&local.files, path) {
            let (path, expects) = (rel.clone(), Arc::clone(&file.bytes));
            self.actions.push(Action::Remove { path, why, expects });
        }
    }
}

/// The first few names, for people.
pub(crate) fn shown(names: &[&Certname]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    let names: Vec<&str> = names.iter().take(SHOWN).map(|name| name.as_str()).collect();
    names.join(", ") + more
}
