//! The classifier double answers as the product's API is documented.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod groups;
