//! The classifier double answers as the product's API is documented, and as it was captured.
//!
//! | file | what it holds the double to |
//! |---|---|
//! | `captured` | every captured and documented answer there is (`tests/fixtures/classifier`) |
//! | `groups`, `inheritance`, `pins`, `imports`, `classes` | each call of the API, its success and its errors |
//! | `entry` | who is let in, and how a request has to look |
//! | `faults` | each fault, as a client meets it |
//! | `properties` | what is put in is what is read back, for groups of every kind |
//! | `program` | `pefo-classifier-double` |
//!
//! Two of the public examples are not served, because the double does not classify nodes: the check-ins
//! of `GET /v1/nodes` (puppetlabs/scooter: spec/scooter/httpdispatchers/classifier/classifier_spec.rb)
//! and the answers of `POST /v1/classified/nodes/NAME` (puppetlabs/docs-archive:
//! pe/2019.7/markdown/classification_endpoint.md).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod captured;
mod classes;
mod entry;
mod faults;
mod groups;
mod imports;
mod inheritance;
mod pins;
mod plain;
mod program;
mod properties;
