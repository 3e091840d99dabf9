//! The CRLs of both sides, file by file.

use std::fmt;
use std::sync::Arc;

use pefo_core::clock::Timestamp;
use pefo_core::{RelPath, Result};
use serde::Serialize;

use super::Merging;
use crate::cert::{Cert, Name};
use crate::crl::{Crl, CrlBundle};
use crate::plan::crl::{distrust, list};
use crate::plan::draft::Draft;
use crate::plan::{Action, Rule, find};
use crate::serial::Serial;
use crate::snapshot::Part;
use crate::takeover::resign::not_of;
use crate::takeover::signer::{CrlContent, CrlSigner};
use crate::takeover::union::{CrlUnion, unite};

/// A file whose CRL is to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CrlToSign {
    /// The file below the cadir.
    pub path: RelPath,
    /// Whose CRL it is, for people.
    pub issuer: String,
    /// The number of the one in force.
    pub from: Option<Serial>,
    /// What it will say.
    pub union: CrlUnion,
    /// The CA that has to sign, by its public key.
    #[serde(skip)]
    public_key: Vec<u8>,
    #[serde(skip)]
    subject: Name,
    /// The ancestors' CRLs, which stay behind ours.
    #[serde(skip)]
    others: Vec<Crl>,
    #[serde(skip)]
    expects: Option<Arc<[u8]>>,
}

impl CrlToSign {
    pub(super) fn is_of(&self, authority: &Cert) -> bool {
        self.subject == authority.subject && self.public_key == authority.public_key()
    }

    /// Signs it and says where it goes.
    pub(super) fn sign(&self, signer: &CrlSigner, now: Timestamp) -> Result<Action> {
        let content = CrlContent::new(self.union.number, self.union.revoked.clone(), now);
        let signed = signer.sign(&content)?;
        let bundle = CrlBundle::of(
            std::iter::once(signed)
                .chain(self.others.iter().cloned())
                .collect(),
        );
        Ok(Action::Put {
            path: self.path.clone(),
            why: self.reason(),
            bytes: bundle.to_pem().into_bytes().into(),
            mode: 0o644,
            expects: self.expects.clone(),
        })
    }

    fn reason(&self) -> String {
        let number = |number: Serial| match number.counter() {
            Some(counter) => counter.to_string(),
            None => number.to_string(),
        };
        let from = self.from.map_or_else(|| "none".to_owned(), number);
        let imported: Vec<Serial> = self.union.imported.keys().copied().collect();
        let more = if imported.is_empty() {
            "the same revoked".to_owned()
        } else {
            format!("{} more revoked: {}", imported.len(), list(&imported))
        };
        format!(
            "the CRL of {}, number {from} -> {}, {more}",
            self.issuer,
            number(self.union.number)
        )
    }
}

impl fmt::Display for CrlToSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason())
    }
}

/// Unites our CRL of one file with the returning side's; `None` where there is nothing to sign.
pub(super) fn unite_file(
    draft: &mut Draft<'_>,
    merging: &Merging<'_>,
    name: &str,
) -> Option<CrlToSign> {
    let authority = merging.authority();
    let is_infra = name != "ca_crl.pem";
    let (here, there) = if is_infra {
        (&merging.local.infra_crl, &merging.returning.infra_crl)
    } else {
        (&merging.local.ca_crl, &merging.returning.ca_crl)
    };
    // infra_crl.pem is optional, and whether it is kept here is for this side to say.
    if is_infra && (*here == Part::Absent || *there == Part::Absent) {
        return None;
    }
    let theirs = match there {
        Part::Read(bundle) => bundle.find(authority),
        Part::Unreadable(error) => {
            draft.refuse(Rule::CrlUnreadable, name, error.to_string());
            return None;
        }
        Part::Absent => None,
    };
    let Some(theirs) = theirs else {
        let message = format!("the returning side has no CRL of {}", authority.subject);
        draft.refuse(Rule::CrlMissing, name, message);
        return None;
    };
    let nothing = CrlBundle::of(Vec::new());
    let (bundle, what) = match here {
        Part::Read(bundle) => (bundle, None),
        other => (&nothing, Some(other.reason())),
    };
    let ours = bundle.find(authority);
    if ours.is_none() {
        let what = what.unwrap_or_else(|| format!("has no CRL of {}", authority.subject));
        if !draft.refuse(Rule::CrlLocalUnreadable, name, what) {
            return None;
        }
    }
    for (crl, side) in [(ours, "here"), (Some(theirs), "at the returning side")] {
        if let Some((rule, message)) = crl.and_then(|crl| distrust(crl, authority)) {
            draft.refuse(rule, name, format!("{side}: {message}"));
            return None;
        }
    }
    let union = match unite(ours, theirs, merging.namings, merging.gap) {
        Ok(union) => union,
        Err(conflict) => {
            draft.refuse(conflict.rule, name, conflict.message);
            return None;
        }
    };
    for conflict in &union.conflicts {
        draft.refuse(conflict.rule, name, conflict.message.clone());
    }
    // A CRL there that is no older than ours would be taken for the one in force by whoever has it.
    let is_outrun =
        ours.is_none_or(|ours| ours.number <= theirs.number && ours.der() != theirs.der());
    if union.imported.is_empty() && !is_outrun {
        return None;
    }
    Some(CrlToSign {
        path: RelPath::new(name).ok()?,
        issuer: authority.subject.to_string(),
        from: ours.and_then(|ours| ours.number),
        union,
        public_key: authority.public_key().to_vec(),
        subject: authority.subject.clone(),
        others: not_of(bundle, authority).cloned().collect(),
        expects: find(&merging.local.files, name).map(|(_, file)| Arc::clone(&file.bytes)),
    })
}
