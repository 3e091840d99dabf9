//! The classifier double answers as the product's API is documented.
//!
//! | file | what it holds the double to |
//! |---|---|
//! | `groups`, `inheritance`, `pins`, `imports`, `classes` | each call of the API, its success and its errors |
//! | `entry` | who is let in, and how a request has to look |
//! | `faults` | each fault, as a client meets it |

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod classes;
mod entry;
mod faults;
mod groups;
mod imports;
mod inheritance;
mod pins;
mod plain;
