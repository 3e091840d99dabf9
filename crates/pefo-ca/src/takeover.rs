//! Taking over: what a host needs once it is the one that signs, and what it takes from the one before.
//!
//! A promoted standby must not issue a serial that the former active may have issued unseen
//! ([`fresh_block`]), nor number its CRL as a CRL that it never saw ([`resign_for_takeover`]). Where both
//! have revoked, their CRLs become one ([`union`](fn@union)); [`Succession`] is all of that for one host,
//! in an order that can be broken off. What else the former active did comes in
//! by [`merge`](fn@merge). Everything here is a value that can be looked at before
//! [`apply`](mod@crate::apply) changes a disk.
//!
//! Whether it could sign and revoke at all is tried in a [`rehearsal`](mod@crate::rehearsal), for which
//! [`CertIssuer`] issues certificates and [`revoke`] takes them back.
//!
//! What holds throughout: no revocation that is in force here is ever dropped; every CRL and certificate
//! that is made is read back and checked before anybody gets to see it; the CA's key never leaves
//! [`CrlSigner`].

mod block;
mod ca_key;
mod der;
mod issuer;
mod merge;
mod namings;
mod resign;
mod signer;
mod succession;
mod union;

pub use block::{KnownSerials, fresh_block};
pub(crate) use issuer::p256_public_key;
pub use issuer::{CertContent, CertIssuer};
pub use merge::{CrlToSign, MergePlan, MergeRules, merge};
pub use namings::Namings;
pub use resign::{CRL_NUMBER_GAP, ResignOptions, resign_for_takeover, revoke};
pub use signer::{CrlContent, CrlSigner};
pub use succession::Succession;
pub use union::{CrlUnion, union};
